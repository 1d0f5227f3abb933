"""All contrasts in one figure: a dot and its interval each, beside zero and the margin within which nothing matters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from emoray.report import colours, figures
from emoray.report.colours import FAINT, MUTED, PAPER
from emoray.report.contrasts import Line
from emoray.report.names import apart

MOST = 40  # contrasts of one page
_LONGEST = 80  # characters beside the axis
_HUES = {"more": colours.WARM, "less": colours.COLD, "equivalent": colours.CEILING, "undecided": MUTED}


def pages(lines: Sequence[Line]) -> Iterator[figures.Page]:
    """A page of every so many contrasts, those said before the run first."""
    for start in range(0, len(lines), MOST)[: figures.MOST_PAGES]:
        some = lines[start : start + MOST]
        note = f"Contrasts {start + 1:,} to {start + len(some):,} of {len(lines):,}." if len(some) < len(lines) else ""
        yield figures.Page(figures.single(lambda axes, some=some: rows(axes, some), size_of(some)), note)  # type: ignore[misc]


def size_of(lines: Sequence[Line]) -> tuple[float, float]:
    """Inches."""
    return 9.0, 0.9 + 0.28 * len(lines)


def rows(axes: Axes, lines: Sequence[Line]) -> None:
    """Filled dots were said before the run, hollow ones looked at after; the colour is the verdict."""
    named_rows(
        axes, apart([name_of(line) for line in lines], _LONGEST), "difference (a − b), or slope per 1 of intensity"
    )
    for y, line in enumerate(lines):
        _row(axes, y, line)
    axes.figure.legend(handles=_key(lines), loc="outside lower center", ncols=5)


def named_rows(axes: Axes, names: Sequence[str], label: str) -> None:
    """The frame of a figure with one row per name, from top to bottom, about a line at 0 of what the label says."""
    axes.axvline(0, color=FAINT, linewidth=0.9, zorder=0)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.margins(x=0.05)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def name_of(line: Line) -> str:
    """What is contrasted, and of whom."""
    return ", ".join(filter(None, [str(line.contrast), line.model, line.reader]))


def _row(axes: Axes, y: int, line: Line) -> None:
    tested, hue = line.tested, _HUES[line.tested.verdict]
    if tested.margin:
        axes.add_patch(Rectangle((-tested.margin, y - 0.4), 2 * tested.margin, 0.8, color=FAINT, alpha=0.45, zorder=0))
    if not math.isfinite(tested.interval.estimate):
        return
    if math.isfinite(tested.interval.low):
        axes.hlines(y, tested.interval.low, tested.interval.high, color=hue, linewidth=2.0, zorder=2)
    inner = tested.interval_of_equivalence
    if tested.margin and math.isfinite(inner.low):
        axes.hlines(y, inner.low, inner.high, color=hue, linewidth=4.0, zorder=2)
    face = hue if line.planned else PAPER
    axes.scatter([tested.interval.estimate], [y], s=30, facecolors=face, edgecolors=hue, linewidths=1.2, zorder=3)


def _key(lines: Sequence[Line]) -> list[Line2D]:
    seen = [verdict for verdict in _HUES if any(line.tested.verdict == verdict for line in lines)]
    handles = [_dot(verdict, _HUES[verdict], _HUES[verdict]) for verdict in seen]
    return handles if all(line.planned for line in lines) else [*handles, _dot("exploratory", MUTED, PAPER)]


def _dot(label: str, edge: str, face: str) -> Line2D:
    return Line2D(
        [], [], marker="o", linewidth=0, markersize=5, markerfacecolor=face, markeredgecolor=edge, label=label
    )
