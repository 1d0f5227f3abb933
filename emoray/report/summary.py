"""Everything the report shows, as one frozen value: the tables, the figures, the page and summary.json draw on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np

import emoray
from emoray.analysis.paired import Difference, differences
from emoray.analysis.summaries import (
    AXES,
    Group,
    GroupAxis,
    Whole,
    ceilings,
    groups,
    moments,
    state_by_question,
    whole,
)
from emoray.analysis.tally import Axis, Tally
from emoray.report.source import Example, Felt, Said, Source, felt, said
from emoray.rows import ANSWERED
from emoray.study import prompts
from emoray.study.circumplex import Array
from emoray.study.goemotions import LabelMap
from emoray.study.scoring import NeutralRule

FORMAT = 1  # of summary.json


@dataclass(frozen=True)
class Settings:
    """What the numbers depend on; printed wherever they are."""

    label_map: LabelMap
    neutral: NeutralRule
    level: float = 0.95
    shuffles: int = 1000
    seed: int = 0
    own_maps: Mapping[str, LabelMap] = field(default_factory=dict)  # of readers whose labels are not GoEmotions'

    def map_of(self, reader: str) -> LabelMap:
        return self.own_maps.get(reader, self.label_map)


@dataclass(frozen=True)
class State:
    angle_deg: float
    term: str  # Russell's nearest
    ceiling: float


@dataclass(frozen=True)
class Question:
    id: str
    text: str
    mark: str


@dataclass(frozen=True)
class Template:
    name: str
    mark: str


@dataclass(frozen=True)
class Design:
    """The levels of the axes, in the order of every table."""

    states: tuple[State, ...]
    questions: tuple[Question, ...]
    templates: tuple[Template, ...]
    intensities: tuple[float, ...]


@dataclass(frozen=True)
class Counts:
    """Of one model by one reader; a failure is never an answer, a refusal always is."""

    asked: int
    answers: int
    failures: int
    refused: int
    role_breaks: int
    cut: int  # answers that max_tokens ended
    read: int
    unread: int  # the reader failed on them
    read_truncated: int  # longer than the reader can read
    neutral: int  # read as a label without a direction
    cost_usd: float


@dataclass(frozen=True)
class Scores:
    """All tables of one model by one reader."""

    whole: Whole
    states: tuple[Group, ...]
    questions: tuple[Group, ...]
    templates: tuple[Group, ...]
    intensities: tuple[Group, ...]
    state_by_question: Array  # (states, questions) mean cosines


@dataclass(frozen=True)
class ModelSummary:
    model: str
    reader: str
    model_revisions: tuple[str, ...]
    reader_revisions: tuple[str, ...]
    hosts: tuple[str, ...]
    counts: Counts
    failures: Mapping[str, int]  # by kind
    failures_by_state: Mapping[float, int]
    identical: float  # share of answers that repeat an earlier one to the same prompt
    scores: Scores
    without_refusals: Scores | None  # None where nothing was refused


@dataclass(frozen=True)
class Comparison:
    """Paired differences of one family, Holm-corrected."""

    of: str  # "models", "readers" or "templates"
    within: str  # what the family shares: a reader, or a model
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Summary:
    run: Mapping[str, Any]  # name, digest, …: what the manifest says
    settings: Settings
    design: Design
    models: tuple[ModelSummary, ...]  # best mean first within a reader
    comparisons: tuple[Comparison, ...]
    examples: tuple[Example, ...]

    @property
    def readers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.reader for one in self.models))

    def of_reader(self, reader: str) -> tuple[ModelSummary, ...]:
        return tuple(one for one in self.models if one.reader == reader)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; null for what is not known, numbers to ten decimals."""
        label_map = self.settings.label_map
        settings = {
            "label_map": {"name": label_map.name, "mark": label_map.mark, "source": label_map.source},
            **{name: getattr(self.settings, name) for name in ("neutral", "level", "shuffles", "seed")},
        }
        rest = {name: getattr(self, name) for name in ("design", "models", "comparisons", "examples")}
        whole = {"format": FORMAT, "emoray": emoray.__version__, "run": self.run, "settings": settings, **rest}
        return dict(plain(whole))


def summarize(source: Source, settings: Settings) -> Summary:
    """Read a run folder once per model and once per model and reader, in bounded memory."""
    heard = {model: said(model, source.answers(model)) for model in source.models()}
    read = {
        (reader, model): felt(
            reader, source.rows(reader, model), settings.map_of(reader), settings.neutral, heard[model].examples
        )
        for reader in source.readers()
        for model in heard
    }
    marks = (source.manifest() or {}).get("marks", {})
    axes = _axes([one.scores for one in read.values()])
    tallies = {who: one.scores.over((_REFUSED, *axes)) for who, one in read.items()}
    found = [_model(*who, heard[who[1]], read[who], tally, settings) for who, tally in tallies.items()]
    readers = list(source.readers())
    found.sort(key=lambda one: (readers.index(one.reader), _worst_last(one), one.model))
    order = [(one.reader, one.model) for one in found]
    return Summary(
        run=_run(source.manifest()),
        settings=settings,
        design=_design(axes, list(heard.values()), settings.label_map, marks),
        models=tuple(found),
        comparisons=tuple(_comparisons({who: tallies[who] for who in order}, settings.level)),
        examples=tuple(example for who in order for example in read[who].examples),
    )


_REFUSED = Axis("refused", (False, True))


def _axes(tallies: Sequence[Tally]) -> tuple[Axis, ...]:
    """The union of what all models and readers have seen; shipped questions in their own order, others after them."""
    shipped = list(prompts.shipped_questions())
    axes = []
    for name in AXES:
        levels = sorted({level for tally in tallies for level in tally.axis(name).levels})
        known = [level for level in shipped if level in levels] if name == "question" else []
        axes.append(Axis(name, (*known, *(level for level in levels if level not in known))))
    return tuple(axes)


def _model(reader: str, model: str, heard: Said, read: Felt, tally: Tally, settings: Settings) -> ModelSummary:
    rng = np.random.default_rng([settings.seed, *f"{reader}/{model}".encode()])
    label_map = settings.map_of(reader)
    both = tally.without("refused")
    counts = _counts(heard, both)
    return ModelSummary(
        model=model,
        reader=reader,
        model_revisions=tuple(sorted(heard.revisions)),
        reader_revisions=tuple(sorted(read.revisions)),
        hosts=tuple(sorted(heard.hosts)),
        counts=counts,
        failures=_failures(heard.outcomes.without("state"), "outcome"),
        failures_by_state=_failures_by_state(heard.outcomes),
        identical=heard.identical,
        scores=_scores(both, label_map, settings, rng),
        without_refusals=_scores(tally.without("refused", level=False), label_map, settings, rng)
        if counts.refused
        else None,
    )


def _scores(tally: Tally, label_map: LabelMap, settings: Settings, rng: np.random.Generator) -> Scores:
    tables: dict[GroupAxis, tuple[Group, ...]] = {
        axis: groups(tally, axis, label_map, level=settings.level)
        for axis in ("state", "question", "template", "intensity")
    }
    return Scores(
        whole=whole(tally, label_map, rng, level=settings.level, shuffles=settings.shuffles),
        states=tables["state"],
        questions=tables["question"],
        templates=tables["template"],
        intensities=tables["intensity"],
        state_by_question=state_by_question(tally),
    )


def _counts(heard: Said, scores: Tally) -> Counts:
    every = heard.outcomes.without("state")
    answered = every.without("outcome", level=ANSWERED).sums
    total = every.without("outcome").sums
    read = {name: int(scores.sums[name].sum()) for name in ("read", "unread", "read_truncated", "neutral")}
    return Counts(
        asked=int(total["n"]),
        answers=int(answered["n"]),
        failures=int(total["n"] - answered["n"]),
        refused=int(answered["refused"]),
        role_breaks=int(answered["role_break"]),
        cut=int(answered["cut"]),
        cost_usd=float(total["cost_usd"]),
        **read,
    )


def _failures(outcomes: Tally, axis: str) -> dict[str, int]:
    levels = outcomes.axis(axis).levels
    counts = zip(levels, outcomes.sums["n"], strict=True)
    return {str(level): int(n) for level, n in counts if level != ANSWERED and n}


def _failures_by_state(outcomes: Tally) -> dict[float, int]:
    every = outcomes.without("outcome").sums["n"] - outcomes.without("outcome", level=ANSWERED).sums["n"]
    return {float(state): int(n) for state, n in zip(outcomes.axis("state").levels, every, strict=True) if n}


def _comparisons(tallies: Mapping[tuple[str, str], Tally], level: float) -> list[Comparison]:
    """Models under one reader, readers of one model, templates within one model and reader."""
    matrices = {who: moments(tally.without("refused"), "cosine").by_question for who, tally in tallies.items()}
    readers, models = (dict.fromkeys(names) for names in zip(*matrices, strict=True)) if matrices else ({}, {})
    families = [("models", r, {m: matrices[r, m] for m in models}) for r in readers]
    families += [("readers", m, {r: matrices[r, m] for r in readers}) for m in models]
    families += [("templates", f"{m}, read by {r}", _by_template(tallies[r, m])) for r, m in matrices]
    return [Comparison(of, within, differences(one, level)) for of, within, one in families if len(one) > 1]


def _by_template(tally: Tally) -> dict[str, Array]:
    """Per template the (questions, prompts) matrix."""
    both = tally.without("refused")
    return {
        str(name): moments(both.only("template", name), "cosine").by_question for name in both.axis("template").levels
    }


def _design(
    axes: tuple[Axis, ...], heard: Sequence[Said], label_map: LabelMap, marks: Mapping[str, Mapping[str, str]]
) -> Design:
    """The marks are the manifest's; without one, what is asked by a shipped name is taken to be what ships."""
    levels = {axis.name: axis.levels for axis in axes}
    terms = {state: term for one in heard for state, term in one.terms.items()}
    texts = {id_: text for one in heard for id_, text in one.questions.items()}
    of_question, of_template = {**_shipped_marks(), **marks.get("questions", {})}, marks.get("templates", {})
    best = zip(levels["state"], ceilings(levels["state"], label_map), strict=True)
    return Design(
        states=tuple(State(float(angle), terms.get(float(angle), ""), float(cap)) for angle, cap in best),
        questions=tuple(
            Question(str(q), texts.get(str(q), ""), of_question.get(str(q), "user")) for q in levels["question"]
        ),
        templates=tuple(
            Template(str(name), of_template.get(str(name), _template_mark(str(name)))) for name in levels["template"]
        ),
        intensities=tuple(float(intensity) for intensity in levels["intensity"]),
    )


def _shipped_marks() -> dict[str, str]:
    return {question.id: question.mark for question in prompts.shipped_questions().values()}


def _template_mark(name: str) -> str:
    return prompts.template(name).mark if name in prompts.shipped_templates() else "user"


def _run(manifest: Mapping[str, Any] | None) -> dict[str, Any]:
    """What identifies the run; the whole manifest lies beside the report."""
    manifest = manifest or {}
    spec = manifest.get("spec") or {}
    return {"name": manifest.get("name") or spec.get("name") or "run", "digest": manifest.get("digest")}


def _worst_last(one: ModelSummary) -> float:
    mean = one.scores.whole.group.cosine.estimate
    return math.inf if math.isnan(mean) else -mean


def plain(value: Any) -> Any:
    """A value as JSON knows it."""
    match value:
        case bool() | int() | str() | None:
            return value
        case float():
            return exact(value)
        case np.ndarray() | np.generic():
            return plain(value.tolist())
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case Group():
            return {**_fields(value), "relative": plain(value.relative)}
    if is_dataclass(value):
        return _fields(value)
    raise TypeError(f"a summary holds no {type(value).__name__}")


def exact(value: float) -> float | None:
    """To ten decimals, beyond which the order of rows shows in a sum; None for what is not known."""
    return round(value, 10) + 0.0 if math.isfinite(value) else None


def _fields(value: Any) -> dict[str, Any]:
    return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
