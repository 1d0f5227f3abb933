"""The figures: the circumplex, the states, and states by questions. They draw finished numbers, never rows.

Of a run of any size they stay figures: more models than fit go onto further pages, more states than can be told apart
are drawn in groups of neighbours, more questions in groups of like difficulty, and each page says so (`notes`). What is
drawn in groups stands singly in the tables.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from html import escape
from itertools import combinations, pairwise
from statistics import fmean
from textwrap import fill
from typing import Any, TypeVar

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch

from emoray.analysis.intervals import question_means
from emoray.analysis.summaries import ceilings
from emoray.report import colours
from emoray.report.colours import CEILING, FAINT, INK, MUTED, PAPER
from emoray.report.names import LONGEST, shortened
from emoray.report.phrasing import number, ordinal, with_interval
from emoray.report.summary import Design, ModelSummary, State, Summary
from emoray.report.timeline import Timeline
from emoray.study import russell
from emoray.study.circumplex import Affect, Array
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
_MOST_PANELS = 12  # of one page
_NARROWEST = 3.0  # inches of a panel that leave room for its heading
_MOST_INCHES = 45.0  # of a page, either way: 7,200 pixels
MOST_PAGES = 10  # of one figure
MOST_STATES = 36  # that can be told apart: from here on in groups, in the list of states by thinner lines
_MOST_LINES = 360  # states in that list; of more every so-manieth is drawn
MOST_QUESTIONS = 40  # beside one another; more are drawn in as many groups
MOST_NIGHTS = 60  # lines of a timeline
_MOST_DOTS = 2_000  # where two readers are compared
_MOST_NUMBERS = 30  # questions beside one another that still leave room for a number in each square
_LONGEST_TICK = 24  # and beside an axis
_TERM_GAP = 6.2  # degrees between two of Russell's terms, so that they can be read

Draw = Callable[[Axes, ModelSummary], None]
_Drawn = TypeVar("_Drawn")


@dataclass(frozen=True)
class Page:
    """Some of what a figure shows, and what must be said of it; "" where it shows all there is, each by itself."""

    figure: Figure
    note: str


# ── whole figures ──────────────────────────────────────────────────────────────────────────────────────────────────


def circumplex(models: Sequence[ModelSummary], design: Design, label_map: LabelMap) -> Iterator[Page]:
    """Where each asked state lies and where it was read, one panel per model."""
    for some, note in _paged(models, (4.3, 4.6), "models", grouped_states(design)):
        figure = _panels(some, (4.3, 4.6), lambda axes, one: circle(axes, one, design, label_map), note)
        _legend(figure, circle_key())
        yield Page(figure, note)


def states(models: Sequence[ModelSummary], design: Design) -> Iterator[Page]:
    """The mean cosine of every state with its interval, ceiling and shuffled control, one panel per model."""
    least = lowest(models)
    size = (4.3, 1.0 + 0.26 * min(MOST_STATES, len(design.states)))
    validated = any(math.isfinite(one.scores.whole.group.human) for one in models)
    for some, note in _paged(models, size, "models", thinned_states(design)):
        figure = _panels(some, size, lambda axes, one: state_lines(axes, one, design, least), note)
        _legend(figure, states_key(human_text=validated))
        yield Page(figure, note)


def heat(models: Sequence[ModelSummary], design: Design) -> Iterator[Page]:
    """The mean cosine of every state and question, one panel per model."""
    grid = Grid.of(models, design)
    size = (max(_NARROWEST, 1.2 + 0.42 * len(grid.columns)), 1.3 + 0.26 * len(grid.rows))
    for some, note in _paged(models, size, "models", grid.note):
        yield Page(_panels(some, size, lambda axes, one: squares(axes, one, grid), note), note)


def agreement(summary: Summary) -> Iterator[Page]:
    """How two readers score the same states of the same models, one panel per pair of readers."""
    two = list(combinations(summary.agreement.readers if summary.agreement else (), 2))
    for some, note in _paged(two, (4.0, 4.2), "pairs of readers", thinned_dots(summary)):
        columns = max(1, min(_COLUMNS, len(some)))
        with style():
            figure = Figure(figsize=(columns * 4.0, math.ceil(len(some) / columns) * 4.2), layout="constrained")
            for place, (first, second) in enumerate(some, start=1):
                axes = figure.add_subplot(math.ceil(len(some) / columns), columns, place)
                side_by_side(axes, summary, first, second)
            _say(figure, note)
        yield Page(figure, note)


def timelines(nights: Sequence[Timeline]) -> Iterator[Page]:
    """A page of `timeline` for every so many models, all on one scale of time."""
    pages = [nights[start : start + MOST_NIGHTS] for start in range(0, len(nights), MOST_NIGHTS)]
    for place, some in enumerate(pages[:MOST_PAGES]):
        note = _part_of(place * MOST_NIGHTS, len(some), len(nights), "models")
        figure = timeline(some, of=nights)
        _say(figure, note)
        yield Page(figure, note)


def timeline(nights: Sequence[Timeline], *, of: Sequence[Timeline] = ()) -> Figure:
    """A line per model: its answers over time, relative to its own busiest bin; failures hang below.

    `of` are all the models that share its scale of time.
    """
    began = {night.model: datetime.fromisoformat(night.began).timestamp() for night in of or nights}
    first, last = min(began.values()), max(began[one.model] + one.bin_s * len(one.answers) for one in of or nights)
    units = ((7200.0, 3600.0, "hours"), (120.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
    unit_s, unit = next((size, name) for least, size, name in units if last - first >= least)
    with style():
        figure = Figure(figsize=(7.2, 0.7 + 0.42 * len(nights)), layout="constrained")
        axes = figure.add_subplot()
        for row, night in enumerate(reversed(nights)):
            edges = (began[night.model] - first + night.bin_s * np.arange(len(night.answers) + 1)) / unit_s
            busiest = max(1, *night.answers, *night.failures)
            for counts, colour, up in ((night.answers, colours.WARM, 0.8), (night.failures, colours.COLD, -0.3)):
                heights = row + up * np.array(counts) / busiest
                axes.stairs(heights, edges, baseline=row, fill=True, color=colour, linewidth=0)
            axes.axhline(row, color=FAINT, linewidth=0.8, zorder=0)
        axes.set_yticks(range(len(nights)), [shortened(night.model) for night in reversed(nights)])
        axes.set_xlabel(f"{unit} since the first answer")
        axes.set_xlim(0, (last - first) / unit_s)
        _bare(axes)
        return figure


def single(draw: Callable[[Axes], None], size: tuple[float, float]) -> Figure:
    """One panel alone, for the page."""
    with style():
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        return figure


def png(figure: Figure, dpi: int = 160) -> bytes:
    with style():
        FigureCanvasAgg(figure)
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=dpi, metadata={"Software": None})
        figure.set_layout_engine("none")  # where its parts lie has been found: that costs as much as to draw them
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
    groups = neighbours(len(design.states), MOST_STATES)
    angles = [fmean(state.angle_deg for state in design.states[some]) for some in groups]
    asked = [Affect.at(angle) for angle in angles]
    read = [_mean_place([group.read for group in one.scores.states[some]]) for some in groups]
    expected = [_mean_place([group.expected_read for group in one.scores.states[some]]) for some in groups]
    hues = [colours.of_angle(angle) for angle in angles]
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
    every = slice(None, None, _every(len(design.states), _MOST_LINES))
    asked, found = design.states[every], one.scores.states[every]
    control, top = one.scores.whole.shuffled, [group.cosine for group in found]
    y = np.arange(len(asked))
    thin = min(1.0, MOST_STATES / max(1, len(asked)))
    hues = [colours.of_angle(state.angle_deg) for state in asked]
    low, high = control.states_low[every], control.states_high[every]
    axes.barh(y, high - low, left=low, height=0.62, color=FAINT, alpha=0.55, linewidth=0, zorder=1)
    axes.vlines([s.ceiling for s in asked], y - 0.32, y + 0.32, color=CEILING, linewidth=1.4, zorder=2)
    axes.vlines([g.human for g in found], y - 0.32, y + 0.32, color=INK, linewidth=1.0, zorder=2)
    bars = axes.hlines(y, [i.low for i in top], [i.high for i in top], colors=hues, linewidth=2.2 * thin, zorder=3)
    bars.set_capstyle("round")
    expected = [Affect(group.expected.estimate, float(i)) for i, group in zip(y, found, strict=True)]
    _dots(axes, expected, hues, s=18 * thin, zorder=4, hollow=True)
    _dots(axes, [Affect(t.estimate, float(i)) for i, t in zip(y, top, strict=True)], hues, s=26 * thin, zorder=5)
    _state_axis(axes, _state_names(asked))
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


@dataclass(frozen=True)
class Grid:
    """The squares of states by questions: of single ones, or of groups where there are too many."""

    rows: tuple[str, ...]  # what stands beside each
    columns: tuple[str, ...]
    note: str
    order: npt.NDArray[np.intp]  # of the questions
    row_starts: npt.NDArray[np.intp]
    column_starts: npt.NDArray[np.intp]

    @classmethod
    def of(cls, models: Sequence[ModelSummary], design: Design) -> Grid:
        """Too many questions come in the order of their means over these models, the easiest first."""
        rows = neighbours(len(design.states), MOST_STATES)
        columns = neighbours(len(design.questions), MOST_QUESTIONS)
        single = len(columns) == len(design.questions)
        ids = [shortened(question.id, _LONGEST_TICK) for question in design.questions]
        return cls(
            rows=_group_names(design, rows),
            columns=tuple(ids if single else [_span(f"{some.start + 1:,}", f"{some.stop:,}") for some in columns]),
            note=" ".join(filter(None, [grouped_states(design), "" if single else _grouped_questions(design)])),
            order=np.arange(len(ids)) if single else _easiest_first(models),
            row_starts=np.array([some.start for some in rows], dtype=np.intp),
            column_starts=np.array([some.start for some in columns], dtype=np.intp),
        )

    def means(self, cells: Array) -> Array:
        """(states, questions) -> (rows, columns): the mean of the cells that are known; NaN where none is."""
        if not cells.size:
            return cells
        ordered = cells[:, self.order]
        known = np.isfinite(ordered)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self._sums(np.where(known, ordered, 0.0)) / self._sums(known.astype(np.float64)))

    def _sums(self, cells: Array) -> Array:
        return np.asarray(np.add.reduceat(np.add.reduceat(cells, self.row_starts), self.column_starts, axis=1))


def squares(axes: Axes, one: ModelSummary, grid: Grid) -> None:
    """One model's mean cosine by state and question, with the number in every square."""
    cells, names, scale = grid.means(one.scores.state_by_question), grid.columns, Normalize(-1, 1)
    if cells.size:
        axes.pcolormesh(np.ma.masked_invalid(cells), cmap=_COSINES, norm=scale, edgecolors=PAPER, linewidth=1.2)
    for (row, column), value in np.ndenumerate(cells):
        if math.isfinite(value) and len(names) <= _MOST_NUMBERS:
            ink = colours.letters_on(to_hex(_COSINES(scale(value))))
            text = number(value).replace("0.", ".", 1)
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", size=6.5, color=ink)
    axes.set_xticks(np.arange(len(names)) + 0.5, names, rotation=40, ha="right")
    _state_axis(axes, grid.rows, offset=0.5)
    axes.set_aspect("auto")
    _bare(axes)


def side_by_side(axes: Axes, summary: Summary, first: str, second: str) -> None:
    """Each dot is a state of a model: its mean cosine by one reader across, by the other up; agreement is the line."""
    ups = {one.model: one.scores.states for one in summary.of_reader(second)}
    both = [pair for one in summary.of_reader(first) for pair in zip(one.scores.states, ups[one.model], strict=True)]
    both = both[:: _every(len(both), _MOST_DOTS)]
    shown = [(a, b) for a, b in both if math.isfinite(a.cosine.estimate) and math.isfinite(b.cosine.estimate)]
    lowest = min([0.0, *(group.cosine.estimate for pair in shown for group in pair)])
    least = max(-1.0, math.floor(lowest * 4) / 4)
    axes.plot([least, 1], [least, 1], color=CEILING, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    axes.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
    axes.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
    places = [Affect(a.cosine.estimate, b.cosine.estimate) for a, b in shown]
    _dots(axes, places, [colours.of_angle(float(a.level)) for a, _ in shown], s=24, zorder=2)
    for axis, name in ((axes.xaxis, first), (axes.yaxis, second)):
        axis.set_label_text(f"mean cosine by {shortened(name)}")
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


def _state_axis(axes: Axes, names: Sequence[str], offset: float = 0.0) -> None:
    every = slice(None, None, _every(len(names), MOST_STATES))
    axes.set_yticks((np.arange(len(names)) + offset)[every], names[every])
    axes.set_ylim(len(names) - 0.5 + offset, -0.5 + offset)


def _state_names(states: Sequence[State]) -> list[str]:
    return [f"{state.term}  {state.angle_deg:g}°" for state in states]


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


# ── what is too much for one page ──────────────────────────────────────────────────────────────────────────────────


def neighbours(count: int, most: int) -> list[slice]:
    """`count` things as at most `most` groups of neighbours, as even as can be; each by itself where they fit."""
    edges = [count * place // most for place in range(most + 1)] if count > most else range(count + 1)
    return [slice(start, stop) for start, stop in pairwise(edges)]


def grouped_states(design: Design) -> str:
    """What is said where states are drawn in groups; "" where each is drawn by itself."""
    if len(design.states) <= MOST_STATES:
        return ""
    return f"{len(design.states):,} states are drawn as the means of {MOST_STATES} groups of neighbours."


def thinned_states(design: Design) -> str:
    """What is said where the list of states does not name or draw each; "" where it does."""
    count = len(design.states)
    if count <= MOST_STATES:
        return ""
    lines = -(-count // _every(count, _MOST_LINES))
    drawn = f"Of {count:,} states every {ordinal(_every(count, _MOST_LINES))} is drawn" if lines < count else ""
    named = f"every {ordinal(_every(lines, MOST_STATES))} of {lines:,} is named"
    return f"{drawn}, and {named}." if drawn else f"{named[0].upper()}{named[1:]} beside the list of states."


def thinned_dots(summary: Summary) -> str:
    """What is said where two readers are compared on some of the states of the models; "" where on all."""
    count = len(summary.design.states) * len({one.model for one in summary.models})
    return f"Of {count:,} dots every {ordinal(_every(count, _MOST_DOTS))} is drawn." if count > _MOST_DOTS else ""


def _grouped_questions(design: Design) -> str:
    count = len(design.questions)
    sizes = sorted({count // MOST_QUESTIONS, -(-count // MOST_QUESTIONS)})
    return (
        f"{count:,} questions are drawn as the means of {MOST_QUESTIONS} groups of "
        f"{' or '.join(f'{size:,}' for size in sizes)}, those that score highest over these models first."
    )


def _group_names(design: Design, groups: Sequence[slice]) -> tuple[str, ...]:
    """A state, or a group of neighbours by its first and last angle."""
    if len(groups) == len(design.states):
        return tuple(_state_names(design.states))
    angles = [f"{state.angle_deg:g}" for state in design.states]
    return tuple(f"{_span(angles[some.start], angles[some.stop - 1])}°" for some in groups)


def _span(first: str, last: str) -> str:
    return first if first == last else f"{first}–{last}"


def _easiest_first(models: Sequence[ModelSummary]) -> npt.NDArray[np.intp]:
    """The questions by their mean over all models and states; those that nobody was scored on last."""
    cells = np.concatenate([one.scores.state_by_question for one in models])
    return np.argsort(-np.nan_to_num(question_means(cells.T), nan=-np.inf), kind="stable")


def _mean_place(places: Sequence[Affect | None]) -> Affect | None:
    """The middle of the places that are known."""
    known = [place for place in places if place]
    if not known:
        return None
    return Affect(fmean(place.valence for place in known), fmean(place.arousal for place in known))


def _every(count: int, most: int) -> int:
    """Of so many, every how-manieth, so that at most `most` are left."""
    return max(1, -(-count // most))


def _paged(
    things: Sequence[_Drawn], size: tuple[float, float], what: str, note: str
) -> Iterator[tuple[Sequence[_Drawn], str]]:
    """As many as fit on each page, with what is to be said there."""
    columns = max(1, min(_COLUMNS, int(_MOST_INCHES / size[0])))
    most = min(_MOST_PANELS, columns * max(1, int(_MOST_INCHES / size[1])))
    starts = range(0, max(1, len(things)), most)[:MOST_PAGES]
    for start in starts:
        some = things[start : start + most]
        yield some, " ".join(filter(None, [_part_of(start, len(some), len(things), what), note]))


def _part_of(start: int, count: int, whole: int, what: str) -> str:
    """What is said of a page that shows some; "" of one that shows all."""
    if count == whole:
        return ""
    return f"{what[0].upper()}{what[1:]} {start + 1:,} to {start + count:,} of {whole:,}."


def _say(figure: Figure, note: str) -> None:
    """Above the figure, where it is not left out by who takes it along."""
    if note:
        figure.suptitle(fill(note, int(figure.get_figwidth() * 14)), fontsize=8, color=MUTED, x=0.01, ha="left")


def _panels(models: Sequence[ModelSummary], size: tuple[float, float], draw: Draw, said: str = "") -> Figure:
    columns = max(1, min(_COLUMNS, len(models), int(_MOST_INCHES / size[0])))
    rows = max(1, math.ceil(len(models) / columns))
    with style():
        figure = Figure(figsize=(columns * size[0], rows * size[1]), layout="constrained")
        for place, one in enumerate(models, start=1):
            axes = figure.add_subplot(rows, columns, place)
            draw(axes, one)
            axes.set_title(shortened(one.model, min(LONGEST, int((size[0] - 0.9) * 11.8))), pad=20)
            note = f"cosine {with_interval(one.scores.whole.group.cosine)}"
            axes.annotate(
                note, (0, 1), (0, 7), xycoords="axes fraction", textcoords="offset points", size=7.5, color=MUTED
            )
        _say(figure, said)
        return figure


def _legend(figure: Figure, key: Sequence[Line2D | Patch]) -> None:
    with style():
        columns = len(key) if figure.get_figwidth() > 7 else 2
        figure.legend(handles=list(key), loc="outside lower center", ncols=columns, labelcolor=MUTED, fontsize=7.5)


def _svg(figure: Figure, letters: str, *, transparent: bool = False) -> str:
    with style(), mpl.rc_context({"svg.fonttype": letters}):
        FigureCanvasSVG(figure)
        out = io.BytesIO()
        figure.savefig(out, format="svg", transparent=transparent, metadata={"Date": None, "Creator": None})
        return out.getvalue().decode()


@contextmanager
def style() -> Iterator[None]:
    """Whatever is drawn inside looks like the report."""
    with mpl.rc_context(_STYLE):
        yield
