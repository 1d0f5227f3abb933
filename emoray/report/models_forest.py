"""All models of one reader in one figure: mean cosine and interval, beside chance, the ceiling and the paper's band."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from emoray.report import figures
from emoray.report.colours import CEILING, FAINT, INK, MUTED, WARM
from emoray.report.forest import named_rows
from emoray.report.names import apart
from emoray.report.summary import ModelSummary
from emoray.study import paper

MOST = 40  # models of one page


def pages(models: Sequence[ModelSummary]) -> Iterator[figures.Page]:
    """A page of every so many models, in the order given."""
    for start in range(0, len(models), MOST)[: figures.MOST_PAGES]:
        some = models[start : start + MOST]
        note = f"Models {start + 1:,} to {start + len(some):,} of {len(models):,}." if len(some) < len(models) else ""
        drawn = figures.single(lambda axes, some=some: rows(axes, some), size_of(some))  # type: ignore[misc]
        with figures.style():
            drawn.legend(handles=key(), loc="outside lower center", ncols=3, labelcolor=MUTED, fontsize=7.5)
        yield figures.Page(drawn, note)


def size_of(models: Sequence[ModelSummary]) -> tuple[float, float]:
    """Inches."""
    return 7.2, 1.3 + 0.32 * len(models)


def rows(axes: Axes, models: Sequence[ModelSummary]) -> None:
    """From top to bottom in the order given; the grey band is 0 to what 5 % of shuffles reach."""
    low, high = paper.MODEL_MEANS.value
    axes.axvspan(low, high, color=CEILING, alpha=0.18, linewidth=0, zorder=0)
    named_rows(axes, apart([one.model for one in models]), "mean cosine")
    for y, one in enumerate(models):
        _row(axes, y, one)


def key() -> list[Line2D | Patch]:
    """What its marks mean."""
    mean = Line2D([], [], color=WARM, marker="o", markersize=5, linewidth=2, label="mean cosine, interval")
    expected = Line2D([], [], color=INK, marker="o", markersize=4.5, markerfacecolor="none", linewidth=0)
    expected.set_label("expected cosine")
    ceiling = Line2D([], [], color=CEILING, marker="|", markersize=9, markeredgewidth=1.4, linewidth=0, label="ceiling")
    chance = Patch(facecolor=FAINT, alpha=0.8, label="states shuffled (up to 95 %)")
    band = Patch(facecolor=CEILING, alpha=0.18, label=f"the paper's models ({paper.MODEL_MEANS.mark})")
    return [mean, expected, ceiling, chance, band]


def _row(axes: Axes, y: int, one: ModelSummary) -> None:
    group, chance = one.scores.whole.group, one.scores.whole.shuffled
    if math.isfinite(chance.p95):
        axes.barh(y, chance.p95, height=0.62, color=FAINT, alpha=0.8, linewidth=0, zorder=1)
    axes.vlines([group.ceiling], y - 0.32, y + 0.32, color=CEILING, linewidth=1.4, zorder=2)
    if math.isfinite(group.cosine.low):
        axes.hlines(y, group.cosine.low, group.cosine.high, color=WARM, linewidth=2.2, zorder=3)
    axes.scatter([group.expected.estimate], [y], s=20, facecolors="none", edgecolors=MUTED, zorder=4)
    axes.scatter([group.cosine.estimate], [y], s=30, color=WARM, zorder=5)
