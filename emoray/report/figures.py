"""The figures: the circumplex, the states, and states by questions. They draw finished numbers, never rows."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from html import escape
from itertools import combinations, pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch

from emoray.analysis.summaries import ceilings
from emoray.report import colours
from emoray.report.colours import CEILING, FAINT, INK, MUTED, PAPER
from emoray.report.night import Night
from emoray.report.summary import Design, ModelSummary, Summary
from emoray.report.words import number, with_interval
from emoray.study import russell
from emoray.study.circumplex import Affect
from emoray.study.goemotions import LabelMap

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "text.color": INK,
    "text.parse_math": False,  # a model called $x$ is a name
    "axes.edgecolor": FAINT,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "svg.hashsalt": "emoray",  # equal numbers give equal files
    "legend.frameon": False,
}
_COSINES = LinearSegmentedColormap.from_list("cosine", [colours.COLD, colours.NOTHING, colours.WARM])
_COLUMNS = 3  # panels beside one another in a file
_MOST_NUMBERS = 30  # questions beside one another that still leave room for a number in each square
_TERM_GAP = 6.2  # degrees between two of Russell's terms, so that they can be read

Draw = Callable[[Axes, ModelSummary], None]


# ── whole figures ──────────────────────────────────────────────────────────────────────────────────────────────────


def circumplex(models: Sequence[ModelSummary], design: Design, label_map: LabelMap) -> Figure:
    """Where each asked state lies and where it was read, one panel per model."""
    figure = _panels(models, (4.3, 4.6), lambda axes, one: circle(axes, one, design, label_map))
    _legend(figure, circle_key())
    return figure


def states(models: Sequence[ModelSummary], design: Design) -> Figure:
    """The mean cosine of every state with its interval, ceiling and shuffled control, one panel per model."""
    least = lowest(models)
    size = (4.3, 1.0 + 0.26 * len(design.states))
    figure = _panels(models, size, lambda axes, one: state_lines(axes, one, design, least))
    validated = any(math.isfinite(one.scores.whole.group.human) for one in models)
    _legend(figure, states_key(human_text=validated))
    return figure


def heat(models: Sequence[ModelSummary], design: Design) -> Figure:
    """The mean cosine of every state and question, one panel per model."""
    size = (1.2 + 0.42 * len(design.questions), 1.3 + 0.26 * len(design.states))
    return _panels(models, size, lambda axes, one: squares(axes, one, design))


def agreement(summary: Summary) -> Figure:
    """How two readers score the same states of the same models, one panel per pair of readers."""
    two = list(combinations(summary.agreement.readers if summary.agreement else (), 2))
    columns = max(1, min(_COLUMNS, len(two)))
    with _style():
        figure = Figure(figsize=(columns * 4.0, math.ceil(len(two) / columns) * 4.2), layout="constrained")
        for place, (first, second) in enumerate(two, start=1):
            side_by_side(figure.add_subplot(math.ceil(len(two) / columns), columns, place), summary, first, second)
        return figure


def timeline(nights: Sequence[Night]) -> Figure:
    """A line per model: its answers over time, relative to its own busiest bin; failures hang below."""
    began = {night.model: datetime.fromisoformat(night.began).timestamp() for night in nights}
    first, last = min(began.values()), max(began[one.model] + one.bin_s * len(one.answers) for one in nights)
    units = ((7200.0, 3600.0, "hours"), (120.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
    unit_s, unit = next((size, name) for least, size, name in units if last - first >= least)
    with _style():
        figure = Figure(figsize=(7.2, 0.7 + 0.42 * len(nights)), layout="constrained")
        axes = figure.add_subplot()
        for row, night in enumerate(reversed(nights)):
            edges = (began[night.model] - first + night.bin_s * np.arange(len(night.answers) + 1)) / unit_s
            busiest = max(1, *night.answers, *night.failures)
            for counts, colour, up in ((night.answers, colours.WARM, 0.8), (night.failures, colours.COLD, -0.3)):
                heights = row + up * np.array(counts) / busiest
                axes.stairs(heights, edges, baseline=row, fill=True, color=colour, linewidth=0)
            axes.axhline(row, color=FAINT, linewidth=0.8, zorder=0)
        axes.set_yticks(range(len(nights)), [night.model for night in reversed(nights)])
        axes.set_xlabel(f"{unit} since the first answer")
        axes.set_xlim(0, (last - first) / unit_s)
        _bare(axes)
        return figure


def single(draw: Callable[[Axes], None], size: tuple[float, float]) -> Figure:
    """One panel alone, for the page."""
    with _style():
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        return figure


def png(figure: Figure, dpi: int = 160) -> bytes:
    with _style():
        FigureCanvasAgg(figure)
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=dpi, metadata={"Software": None})
        return out.getvalue()


def svg(figure: Figure) -> bytes:
    """With its letters as outlines: it looks the same everywhere."""
    return _svg(figure, "path").encode()


def inline_svg(figure: Figure, name: str, description: str) -> str:
    """For the page: real text, colours that follow light and dark, ids that no other figure has, a description."""
    text = _svg(figure, "none", transparent=True)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", text)
    for colour, variable in colours.THEMED.items():
        text = text.replace(colour, f"var(--{variable})")
    text = re.sub(r'<svg([^>]*?) width="[^"]*"', r"<svg\1", text, count=1)
    text = re.sub(r'<svg([^>]*?) height="[^"]*"', r"<svg\1", text, count=1)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)


# ── panels ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def circle(axes: Axes, one: ModelSummary, design: Design, label_map: LabelMap) -> None:
    """One model on Russell's circle: the asked states on it, what was read inside."""
    _plane(axes, label_map)
    _terms(axes)
    asked = [Affect.at(state.angle_deg) for state in design.states]
    read = [group.read for group in one.scores.states]
    expected = [group.expected_read for group in one.scores.states]
    hues = [colours.of_angle(state.angle_deg) for state in design.states]
    _fading(axes, [(a, b, hue) for a, b, hue in zip(asked, read, hues, strict=True) if b])
    between = [(a, b, hue) for a, b, hue in zip(read, expected, hues, strict=True) if a and b]
    ends = [[_point(a), _point(b)] for a, b, _ in between]
    axes.add_collection(LineCollection(ends, colors=[hue for *_, hue in between], linewidths=0.6, alpha=0.6, zorder=2))
    _dots(axes, asked, hues, s=42, zorder=3)
    _dots(axes, read, hues, s=24, zorder=4)
    _dots(axes, expected, hues, s=20, zorder=5, hollow=True)
    _inside(axes)


def circle_key() -> list[Line2D]:
    return [
        _dot("asked", 6.5, MUTED),
        _dot("read: mean of the top labels", 5, MUTED),
        _dot("read: mean expectation", 4.5, MUTED, hollow=True),
        Line2D([], [], color=CEILING, linewidth=1, linestyle=(0, (4, 2)), label="ceiling of the label map"),
    ]


def lowest(models: Sequence[ModelSummary]) -> float:
    """Where the axis of the states begins, alike for all models: the next quarter below everything shown."""
    shown = [0.0]
    for one in models:
        shown += [x for g in one.scores.states for x in (g.cosine.low, g.cosine.estimate, g.expected.estimate)]
        shown += one.scores.whole.shuffled.states_low.tolist()
    return max(-1.05, math.floor(min(x for x in shown if math.isfinite(x)) * 4 - 0.01) / 4)


def state_lines(axes: Axes, one: ModelSummary, design: Design, least: float = -1.05) -> None:
    """One model's states from top to bottom: dot and interval, ceiling tick, shuffled band, expected score."""
    control, top = one.scores.whole.shuffled, [group.cosine for group in one.scores.states]
    y = np.arange(len(design.states))
    hues = [colours.of_angle(state.angle_deg) for state in design.states]
    band = control.states_high - control.states_low
    axes.barh(y, band, left=control.states_low, height=0.62, color=FAINT, alpha=0.55, linewidth=0, zorder=1)
    axes.vlines([s.ceiling for s in design.states], y - 0.32, y + 0.32, color=CEILING, linewidth=1.4, zorder=2)
    axes.vlines([g.human for g in one.scores.states], y - 0.32, y + 0.32, color=INK, linewidth=1.0, zorder=2)
    bars = axes.hlines(y, [i.low for i in top], [i.high for i in top], colors=hues, linewidth=2.2, zorder=3)
    bars.set_capstyle("round")
    expected = [Affect(group.expected.estimate, float(i)) for i, group in zip(y, one.scores.states, strict=True)]
    _dots(axes, expected, hues, s=18, zorder=4, hollow=True)
    _dots(axes, [Affect(t.estimate, float(i)) for i, t in zip(y, top, strict=True)], hues, s=26, zorder=5)
    _state_axis(axes, design)
    axes.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
    axes.set_xlim(least, 1.04)
    axes.set_xlabel("mean cosine")
    axes.grid(axis="x", color=FAINT, linewidth=0.4, alpha=0.7)
    _bare(axes)


def states_key(*, human_text: bool = False) -> list[Line2D | Patch]:
    mean = _dot("mean cosine, interval", 5, MUTED)
    mean.set(linestyle="-", linewidth=2.2, color=MUTED, markeredgewidth=0)
    tick = Line2D([], [], color=CEILING, marker="|", markersize=8, markeredgewidth=1.4, linewidth=0, label="ceiling")
    band = Patch(facecolor=FAINT, alpha=0.55, label="states shuffled (5–95 %)")
    human = Line2D([], [], color=INK, marker="|", markersize=8, linewidth=0, label="the reader on human text")
    return [mean, _dot("expected cosine", 4.5, MUTED, hollow=True), tick, *([human] if human_text else []), band]


def squares(axes: Axes, one: ModelSummary, design: Design) -> None:
    """One model's mean cosine by state and question, with the number in every square."""
    cells, names = one.scores.state_by_question, [question.id for question in design.questions]
    if cells.size:
        scale = Normalize(-1, 1)
        axes.pcolormesh(np.ma.masked_invalid(cells), cmap=_COSINES, norm=scale, edgecolors=PAPER, linewidth=1.2)
    for (row, column), value in np.ndenumerate(cells):
        if math.isfinite(value) and len(names) <= _MOST_NUMBERS:
            ink = "#ffffff" if abs(value) > 0.55 else "#33363a"
            text = number(value).replace("0.", ".", 1)
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", size=6.5, color=ink)
    axes.set_xticks(np.arange(len(names)) + 0.5, names, rotation=40, ha="right")
    _state_axis(axes, design, offset=0.5)
    axes.set_aspect("auto")
    _bare(axes)


def side_by_side(axes: Axes, summary: Summary, first: str, second: str) -> None:
    """Each dot is a state of a model: its mean cosine by one reader across, by the other up; agreement is the line."""
    ups = {one.model: one.scores.states for one in summary.of_reader(second)}
    both = [pair for one in summary.of_reader(first) for pair in zip(one.scores.states, ups[one.model], strict=True)]
    shown = [(a, b) for a, b in both if math.isfinite(a.cosine.estimate) and math.isfinite(b.cosine.estimate)]
    lowest = min([0.0, *(group.cosine.estimate for pair in shown for group in pair)])
    least = max(-1.0, math.floor(lowest * 4) / 4)
    axes.plot([least, 1], [least, 1], color=CEILING, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    axes.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
    axes.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
    places = [Affect(a.cosine.estimate, b.cosine.estimate) for a, b in shown]
    _dots(axes, places, [colours.of_angle(float(a.level)) for a, _ in shown], s=24, zorder=2)
    for axis, name in ((axes.xaxis, first), (axes.yaxis, second)):
        axis.set_label_text(f"mean cosine by {name}")
        ticks = [at for at in (-1.0, -0.5, 0.0, 0.5, 1.0) if at >= least]
        axis.set_ticks(ticks, [number(at, 1) for at in ticks])
    axes.set_xlim(least - 0.05, 1.05)
    axes.set_ylim(least - 0.05, 1.05)
    axes.set_aspect("equal")
    _bare(axes)


# ── parts of panels ────────────────────────────────────────────────────────────────────────────────────────────────


def _plane(axes: Axes, label_map: LabelMap) -> None:
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_xlim(-1.62, 1.62)
    axes.set_ylim(-1.62, 1.62)
    axes.add_patch(Circle((0, 0), 1, facecolor="none", edgecolor=FAINT, linewidth=1.1))
    axes.add_patch(Circle((0, 0), 0.5, facecolor="none", edgecolor=FAINT, linewidth=0.6, linestyle=(0, (1, 3))))
    axes.plot([-1, 1], [0, 0], color=FAINT, linewidth=0.6, zorder=0)
    axes.plot([0, 0], [-1, 1], color=FAINT, linewidth=0.6, zorder=0)
    angles = np.arange(0.0, 361.0, 2.0)
    radii = ceilings(angles.tolist(), label_map)
    turns = np.radians(angles)
    axes.plot(
        radii * np.cos(turns), radii * np.sin(turns), color=CEILING, linewidth=0.9, linestyle=(0, (4, 2)), zorder=2
    )
    _compass(axes)


def _compass(axes: Axes) -> None:
    """Which way is which, in a corner."""
    arrow = {"arrowstyle": "-|>", "color": MUTED, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 6}
    for tip in ((-1.22, -1.55), (-1.55, -1.22)):
        axes.annotate("", xy=tip, xytext=(-1.55, -1.55), arrowprops=arrow)
    axes.text(-1.19, -1.55, "valence", size=6.5, color=MUTED, va="center", style="italic")
    axes.text(-1.55, -1.18, "arousal", size=6.5, color=MUTED, ha="left", va="bottom", style="italic")


def _terms(axes: Axes) -> None:
    """Russell's 28 terms around the circle, each with a tick at its true angle."""
    for (term, angle), shown in zip(russell.ANGLES_DEG.items(), spread(list(russell.ANGLES_DEG.values())), strict=True):
        start, bend = Affect.at(angle, 1.035), Affect.at(shown, 1.1)
        axes.plot([start.valence, bend.valence], [start.arousal, bend.arousal], color=FAINT, linewidth=0.6, zorder=0)
        left = 90 < shown % 360 < 270
        place = Affect.at(shown, 1.12)
        axes.text(
            place.valence,
            place.arousal,
            term,
            size=6.3,
            color=MUTED,
            rotation=shown % 360 - (180 if left else 0),
            rotation_mode="anchor",
            ha="right" if left else "left",
            va="center",
        )


def spread(angles: list[float], gap: float = _TERM_GAP) -> list[float]:
    """The same ascending angles, moved as little as needed to stand a gap apart."""
    shown = np.array(angles)
    for _ in range(400):
        gaps = np.diff([*shown, shown[0] + 360])
        push = np.maximum(gap - gaps, 0) / 2
        shown += np.roll(push, 1) - push
    return [float(angle) for angle in shown]


def _fading(axes: Axes, lines: Sequence[tuple[Affect, Affect, str]]) -> None:
    """From asked to read, fading towards what was asked."""
    pieces, shades = [], []
    for start, end, hue in lines:
        steps = np.linspace(_point(start), _point(end), 9)
        pieces += [[a, b] for a, b in pairwise(steps)]
        shades += [to_rgba(hue, 0.15 + 0.08 * i) for i in range(8)]
    axes.add_collection(LineCollection(pieces, colors=shades, linewidths=1.5, capstyle="butt", zorder=2))


def _dots(
    axes: Axes, places: Sequence[Affect | None], hues: Sequence[str], *, s: float, zorder: int, hollow: bool = False
) -> None:
    """Dots at the places that are known."""
    shown = [(place, hue) for place, hue in zip(places, hues, strict=True) if place]
    x, y = [place.valence for place, _ in shown], [place.arousal for place, _ in shown]
    edges = [hue for _, hue in shown]
    width = 1.1 if hollow else 0.0
    axes.scatter(x, y, s=s, facecolors=PAPER if hollow else edges, edgecolors=edges, linewidths=width, zorder=zorder)


def _point(affect: Affect) -> tuple[float, float]:
    return affect.valence, affect.arousal


def _state_axis(axes: Axes, design: Design, offset: float = 0.0) -> None:
    names = [f"{state.term}  {state.angle_deg:g}°" for state in design.states]
    axes.set_yticks(np.arange(len(names)) + offset, names)
    axes.set_ylim(len(names) - 0.5 + offset, -0.5 + offset)


def _bare(axes: Axes) -> None:
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    _inside(axes)


def _inside(axes: Axes) -> None:
    """What is drawn inside the axes needs no room beside them: the layout need not measure it."""
    for artist in (*axes.lines, *axes.patches, *axes.collections, *axes.texts):
        artist.set_in_layout(False)


def _dot(label: str, size: float, colour: str, *, hollow: bool = False) -> Line2D:
    face = PAPER if hollow else colour
    return Line2D(
        [], [], marker="o", linewidth=0, markersize=size, markerfacecolor=face, markeredgecolor=colour, label=label
    )


def _panels(models: Sequence[ModelSummary], size: tuple[float, float], draw: Draw) -> Figure:
    columns = max(1, min(_COLUMNS, len(models)))
    rows = max(1, math.ceil(len(models) / columns))
    with _style():
        figure = Figure(figsize=(columns * size[0], rows * size[1]), layout="constrained")
        for place, one in enumerate(models, start=1):
            axes = figure.add_subplot(rows, columns, place)
            draw(axes, one)
            axes.set_title(one.model, pad=20)
            note = f"cosine {with_interval(one.scores.whole.group.cosine)}"
            axes.annotate(
                note, (0, 1), (0, 7), xycoords="axes fraction", textcoords="offset points", size=7.5, color=MUTED
            )
        return figure


def _legend(figure: Figure, key: Sequence[Line2D | Patch]) -> None:
    with _style():
        columns = len(key) if figure.get_figwidth() > 7 else 2
        figure.legend(handles=list(key), loc="outside lower center", ncols=columns, labelcolor=MUTED, fontsize=7.5)


def _svg(figure: Figure, letters: str, *, transparent: bool = False) -> str:
    with _style(), mpl.rc_context({"svg.fonttype": letters}):
        FigureCanvasSVG(figure)
        out = io.BytesIO()
        figure.savefig(out, format="svg", transparent=transparent, metadata={"Date": None, "Creator": None})
        return out.getvalue().decode()


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context(_STYLE):
        yield
