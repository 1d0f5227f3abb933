"""python jobs/benchmark.py NAME [--rows N] […]: what something costs, beside a bare loop or a peer in the same run.

Its last line is one JSON object: {"benchmark": NAME, "figures": {…}}, ratios first. Timings are for people; no test
asserts one.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

NAMES = (
    "api",
    "storm",
    "vllm",
    "reader",
    "stream",
    "resume",
    "checkpoint",
    "journal",
    "analysis",
    "report",
    "growth",
    "validity",
    "contrasts",
)


def main() -> int:
    there = [name for name in NAMES if (Path(__file__).parent / "benchmarks" / f"{name}.py").is_file()]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=there)
    arguments, rest = parser.parse_known_args()
    module = importlib.import_module(f"benchmarks.{arguments.name}")
    print(inspect.cleandoc(module.__doc__ or ""))
    figures = module.run(**vars(_settings(module.run, rest)))
    print(json.dumps({"benchmark": arguments.name, "figures": figures}))
    return 0


def _settings(run: object, rest: list[str]) -> argparse.Namespace:
    """A flag for every parameter of the benchmark, typed as its default is."""
    parser = argparse.ArgumentParser()
    for name, parameter in inspect.signature(run).parameters.items():  # type: ignore[arg-type]
        default = parameter.default
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    return parser.parse_args(rest)


if __name__ == "__main__":
    sys.exit(main())
