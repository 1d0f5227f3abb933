"""The report's figures in a notebook, into axes of one's own or into a figure that the notebook shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from emoray.report import figures, models_forest
from emoray.report.figures import Grid
from emoray.report.names import shortened
from emoray.report.summary import ModelSummary, Summary


def circumplex(one: ModelSummary, found: Summary, ax: Axes | None) -> Axes:
    label_map = found.settings.map_of(one.reader)
    return _drawn(
        ax, (4.6, 5.2), one.model, lambda axes: figures.circle(axes, one, found.design, label_map), figures.circle_key()
    )


def heat(one: ModelSummary, found: Summary, ax: Axes | None) -> Axes:
    grid = Grid.of([one], found.design)
    size = (max(4.0, 2.2 + 0.42 * len(grid.columns)), 1.6 + 0.26 * len(grid.rows))
    return _drawn(ax, size, one.model, lambda axes: figures.squares(axes, one, grid))


def forest(models: Sequence[ModelSummary], ax: Axes | None) -> Axes:
    return _drawn(
        ax, models_forest.size_of(models), "", lambda axes: models_forest.rows(axes, models), models_forest.key()
    )


def _drawn(
    ax: Axes | None,
    size: tuple[float, float],
    title: str,
    draw: Callable[[Axes], None],
    key: Sequence[Line2D | Patch] = (),
) -> Axes:
    """In the report's style; a figure of its own has the key below, for other axes it would lie in the way."""
    with figures.style():
        axes = ax or pyplot.figure(figsize=size, layout="constrained").add_subplot()
        draw(axes)
        axes.set_title(shortened(title), pad=20)
        if key and ax is None:
            axes.figure.legend(handles=list(key), loc="outside lower center", ncols=2 if size[0] < 7 else 3)
    return axes
