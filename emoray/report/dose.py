"""Dose and response: what is expressed at every intensity that was asked for, by each trend that a run has."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes

from emoray.report import colours, figures
from emoray.report.colours import FAINT
from emoray.report.contrasts import Line
from emoray.report.names import apart

MOST = 8  # lines of one panel
_MOST_TICKS = 12


def trends(lines: Sequence[Line]) -> list[Line]:
    """The contrasts that are a trend by themselves."""
    return [line for line in lines if line.doses is not None]


def pages(lines: Sequence[Line]) -> Iterator[figures.Page]:
    """A page of every so many trends."""
    every = trends(lines)
    for start in range(0, len(every), MOST)[: figures.MOST_PAGES]:
        some = every[start : start + MOST]
        note = f"Trends {start + 1:,} to {start + len(some):,} of {len(every):,}." if len(some) < len(every) else ""
        yield figures.Page(figures.single(lambda axes, some=some: curves(axes, some), (6.4, 3.6)), note)  # type: ignore[misc]


def curves(axes: Axes, lines: Sequence[Line]) -> None:
    """One line per trend: the mean at every intensity with its interval over questions."""
    axes.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
    names = apart([", ".join(filter(None, [one.contrast.of, one.model, one.reader])) for one in lines])
    for place, (line, name) in enumerate(zip(lines, names, strict=True)):
        _curve(axes, place, len(lines), line, name)
    levels = sorted({x for line in lines if line.doses for x in line.doses.levels})
    if len(levels) <= _MOST_TICKS:
        axes.set_xticks(levels, [f"{x:g}" for x in levels])
    axes.set_xlabel("intensity asked for")
    axes.set_ylabel("mean, with its interval")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.figure.legend(loc="outside lower center", ncols=2)


def _curve(axes: Axes, place: int, count: int, line: Line, name: str) -> None:
    if line.doses is None:
        return
    known = [(x, y) for x, y in zip(line.doses.levels, line.doses.means, strict=True) if math.isfinite(y.estimate)]
    aside = 0.012 * (place - (count - 1) / 2)  # so that intervals stand beside one another
    hue = colours.of_angle(360.0 * place / count + 180.0)
    xs, ys = [x + aside for x, _ in known], [y.estimate for _, y in known]
    axes.plot(xs, ys, color=hue, linewidth=1.4, marker="o", markersize=4, label=name)
    bounded = [(x + aside, y) for x, y in known if math.isfinite(y.low)]
    axes.vlines([x for x, _ in bounded], [y.low for _, y in bounded], [y.high for _, y in bounded], color=hue)
