"""What became of the mutants of `make mutants`: a table by module, and those that no test noticed.

    mutmut results --all true | python jobs/mutants.py

`mutmut show NAME` prints the change that a name stands for.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable

_NAME = re.compile(r"(?P<module>.+)\.x[_ǁ].*")
_KILLED = ("killed", "timeout", "segfault", "suspicious")  # a test failed, never ended, or broke Python
_UNNOTICED = ("survived", "no tests")


def verdicts(lines: Iterable[str]) -> list[tuple[str, str]]:
    """(name, status) of each mutant."""
    told = (line.strip().partition(": ") for line in lines)
    return [(name, status) for name, _, status in told if _NAME.fullmatch(name)]


def table(found: Iterable[tuple[str, str]]) -> str:
    """Mutants, killed, and unnoticed, of each module and of all."""
    counts = Counter[tuple[str, str]]()
    for name, status in found:
        counts.update({(module, status): 1 for module in (_module(name), "all")})
    modules = sorted({module for module, _ in counts}, key=lambda module: (module == "all", module))
    lines = [f"{'':32}{'mutants':>9}{'killed':>9}{'survived':>9}{'no tests':>9}{'unchecked':>10}"]
    for module in modules:
        killed, survived, untested = (
            sum(counts[module, status] for status in some) for some in (_KILLED, ("survived",), ("no tests",))
        )
        total = sum(n for (of, _), n in counts.items() if of == module)
        lines.append(f"{module:32}{total:9}{killed:9}{survived:9}{untested:9}{total - killed - survived - untested:10}")
    return "\n".join(lines)


def _module(name: str) -> str:
    named = _NAME.fullmatch(name)
    return named["module"].removeprefix("emoray.") if named else name


if __name__ == "__main__":
    all_of_them = verdicts(sys.stdin)
    print(*(f"{status}: {name}" for name, status in all_of_them if status in _UNNOTICED), sep="\n", end="\n\n")
    print(table(all_of_them))
