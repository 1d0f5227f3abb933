"""What became of the mutants of `make mutants`: a table by module, and those that no test noticed.

    mutmut results --all true | python jobs/mutants.py

`mutmut show NAME` prints the change that a name stands for.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence

_NAME = re.compile(r"(?P<module>.+)\.x[_ǁ].*")
_UNNOTICED = ("survived", "no tests", "timeout")  # what took too long may only have run on a busy machine
_COLUMNS = ("killed", "timeout", "survived", "no tests", "other")  # other: not checked, or Python itself broke


def verdicts(lines: Iterable[str]) -> list[tuple[str, str]]:
    """(name, status) of each mutant."""
    told = (line.strip().partition(": ") for line in lines)
    return [(name, status) for name, _, status in told if _NAME.fullmatch(name)]


def table(found: Iterable[tuple[str, str]]) -> str:
    """How many mutants each module has, and what became of them."""
    counts: dict[str, Counter[str]] = {}
    for name, status in found:
        for module in (_module(name), "all"):
            counts.setdefault(module, Counter())[status if status in _COLUMNS else "other"] += 1
    modules = sorted(counts, key=lambda module: (module == "all", module))
    rows = [(module, counts[module].total(), *(counts[module][column] for column in _COLUMNS)) for module in modules]
    return "\n".join(_line(row) for row in [("", "mutants", *_COLUMNS), *rows])


def _line(row: Sequence[object]) -> str:
    return f"{row[0]:24}" + "".join(f"{column!s:>10}" for column in row[1:])


def _module(name: str) -> str:
    named = _NAME.fullmatch(name)
    return named["module"].removeprefix("emoray.") if named else name


if __name__ == "__main__":
    all_of_them = verdicts(sys.stdin)
    print(*(f"{status}: {name}" for name, status in all_of_them if status in _UNNOTICED), sep="\n", end="\n\n")
    print(table(all_of_them))
