"""Everything the report shows, as one frozen value: the tables, the figures, the page and summary.json draw on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any

import numpy as np

import emoray
from emoray.analysis.agreement import Conclusion
from emoray.analysis.calibration import HumanReads, OnHumanText, on_human_text
from emoray.analysis.correction import Corrected, Labelled, corrected_differences, corrected_questions
from emoray.analysis.intervals import Interval
from emoray.analysis.paired import Difference, differences
from emoray.analysis.paper_claims import Claim
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
from emoray.report.about_run import AboutAttempt, AboutRun, Drawn
from emoray.report.agreement import Agreement, Who, agreement, paper_claims
from emoray.report.conditions import (
    REFUSAL_RULES,
    OneCondition,
    Weighed,
    by_intensity,
    by_template,
    conditions,
    each_alone,
    focus,
    over_conditions,
    weighed,
    with_level,
)
from emoray.report.contrasts import Line, Wanted, contrasts
from emoray.report.directions import Directions, directions
from emoray.report.kept_answers import MOST, Browsed, Readings
from emoray.report.looks import Looks, looks_of
from emoray.report.maps import ByMap, by_maps
from emoray.report.order import Ranked, ranked
from emoray.report.people import Raters, labelled_of, raters_of
from emoray.report.read_run import Closely, Example, Felt, Said, Source, felt, said, under
from emoray.report.timeline import Timeline, Watched, one_family, round_width, timeline
from emoray.run_folder.columns import ANSWERED, OtherLabels
from emoray.run_folder.frozen_plan import Checked
from emoray.study import families, prompts
from emoray.study.circumplex import Array
from emoray.study.conditions import Condition, controls_of, headline_of
from emoray.study.endings import Ending, ending_of
from emoray.study.experiment import Sampling
from emoray.study.goemotions import DIRECT, LabelMap
from emoray.study.ratings import Label
from emoray.study.scoring import NeutralRule, RefusalRule, Rules

FORMAT = 2  # of summary.json


@dataclass(frozen=True)
class Settings:
    """What the numbers depend on; printed wherever they are."""

    label_map: LabelMap
    neutral: NeutralRule
    level: float = 0.95
    shuffles: int = 1000
    seed: int = 0
    own_maps: Mapping[str, LabelMap] = field(default_factory=dict)  # of readers whose labels are not GoEmotions'
    human_text: Mapping[str, HumanReads] = field(default_factory=dict)  # reader -> what it made of human text
    human_labels: Mapping[str, Label] = field(default_factory=dict)  # key -> what people read in that answer
    refusals: RefusalRule = "zero"
    beside: Settings | None = None  # the run's own, where the report was asked for under others
    looked: tuple[int, ...] = ()  # answers that there were when the run was reported on before
    contrasts: Wanted = field(default_factory=Wanted)
    frozen: tuple[Checked, ...] = ()  # the run held against its frozen plan, where one was given

    def map_of(self, reader: str) -> LabelMap:
        return self.own_maps.get(reader, self.label_map)

    @property
    def moved(self) -> list[str]:
        """The readers whose own labels lie elsewhere than the run says."""
        before = {} if self.beside is None else self.beside.own_maps
        return [name for name, own in self.own_maps.items() if own.affects != before.get(name, own).affects]


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
    control: bool = False


@dataclass(frozen=True)
class Design:
    """The levels of the axes, in the order of every table."""

    states: tuple[State, ...]
    questions: tuple[Question, ...]
    templates: tuple[Template, ...]
    intensities: tuple[float, ...]
    headline: Condition | None = None  # the condition that every mean is of that says no other; None of nothing asked

    @property
    def several_conditions(self) -> bool:
        return len(self.templates) * len(self.intensities) > 1

    @property
    def controls(self) -> frozenset[str]:
        return frozenset(one.name for one in self.templates if one.control)


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
    """All tables of one model by one reader, of the headline's condition."""

    whole: Whole
    states: tuple[Group, ...]
    questions: tuple[Group, ...]
    templates: tuple[Group, ...]  # at the headline's intensity
    intensities: tuple[Group, ...]  # with the headline's template
    state_by_question: Array  # (states, questions) mean cosines


@dataclass(frozen=True)
class ModelSummary:
    model: str
    reader: str
    model_id: str | None  # as the spec names it to its host; None where the host has but one
    samplings: tuple[Sampling, ...]  # one, or several where a spec was changed in the middle
    model_revisions: tuple[str, ...]
    reader_revisions: tuple[str, ...]
    hosts: tuple[str, ...]
    counts: Counts
    failures: Mapping[str, int]  # by kind
    failures_by_state: Mapping[float, int]
    identical: float  # share of answers that repeat an earlier one to the same prompt
    scores: Scores
    otherwise: Mapping[str, Scores]  # under the other rules for refusals; empty where nothing was refused
    weighed: Weighed
    conditions: tuple[OneCondition, ...] = ()  # each by itself, controls too
    over_conditions: Group | None = None  # the mean over all that are no control; None where there is but one

    @property
    def without_refusals(self) -> Scores | None:
        """None where nothing was refused, or refusals are left out anyway."""
        return self.otherwise.get("drop")


@dataclass(frozen=True)
class Comparison:
    """Paired differences of one family, Holm-corrected."""

    of: str  # "models", "readers" or "templates"
    within: str  # what the family shares: a reader, or a model
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Correction:
    """The mean cosine of one model by one reader, corrected by what people read in a few of its answers."""

    reader: str
    model: str
    corrected: Corrected


@dataclass(frozen=True)
class Beside:
    """The same readings under two settings: those of this report, and the run's own."""

    reader: str
    model: str
    here: Interval
    own: Interval


@dataclass(frozen=True)
class Kinship:
    """A judge that comes from the house of a model that it judges."""

    reader: str
    model: str
    family: str


class Unusable(ValueError):
    """What was given beside a run cannot be used with it; the message is one sentence."""


@dataclass(frozen=True)
class Summary:
    run: Mapping[str, str | None]  # its name and the digest of its spec; the whole manifest lies beside the report
    settings: Settings
    design: Design
    models: tuple[ModelSummary, ...]  # best mean first within a reader
    comparisons: tuple[Comparison, ...]
    examples: tuple[Example, ...]
    ranks: tuple[Ranked, ...] = ()  # of what was scored, in the order of the models
    by_maps: tuple[ByMap, ...] = ()  # under every shipped label map, by readers that know the 28 labels
    directions: tuple[Directions, ...] = ()  # in the order of the models
    looks: Looks | None = None
    claims: tuple[Claim, ...] = ()  # the paper's conclusions, under every reader: one family of tests
    contrasts: tuple[Line, ...] = ()  # those said before the run first
    agreement: Agreement | None = None  # None for fewer than two readers
    corrections: tuple[Correction, ...] = ()  # in the order of the models
    corrected_pairs: tuple[Comparison, ...] = ()  # of the corrected means, by reader
    raters: Raters | None = None  # None where nobody read what another had read
    beside: tuple[Beside, ...] = ()
    kinships: tuple[Kinship, ...] = ()
    nights: tuple[Timeline, ...] = ()  # a model each, by name
    watched: tuple[Watched, ...] = ()  # in the order of the models
    left_out: Mapping[str, str] = field(default_factory=dict)  # reader -> why its readings cannot be placed
    failure_texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # model -> kind -> one of them
    drawn: Mapping[str, tuple[Drawn, ...]] = field(default_factory=dict)
    """Model -> how run.json says that its answers were drawn, attempt by attempt, where that changed."""
    odd_endings: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Finish reason that nobody here knows -> model -> answers that ended so."""
    earlier: Mapping[str, int] = field(default_factory=dict)
    """Model -> answers of an emoray from before rows of format 2, whose readings were scored anew."""
    browsed: tuple[Browsed, ...] = ()  # single answers for the page, which stand in no other file of a report
    lost_usd: Mapping[str, float] = field(default_factory=dict)
    """Model -> US dollars at most for what was asked, of it or of a judge, and whose answers nobody has."""

    @property
    def readers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.reader for one in self.models))

    @property
    def lasted(self) -> bool:
        """Whether any model was asked for so long that its answers make a timeline."""
        return any(len(night.answers) > 1 for night in self.nights)

    def of_reader(self, reader: str) -> tuple[ModelSummary, ...]:
        return tuple(one for one in self.models if one.reader == reader)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; null for what is not known, numbers to ten decimals."""
        label_map = self.settings.label_map
        settings = {
            "label_map": {"name": label_map.name, "mark": label_map.mark, "source": label_map.source},
            "own_maps": {
                name: {label: affect and asdict(affect) for label, affect in own.affects}
                for name, own in self.settings.own_maps.items()
                if own is not DIRECT
            },
            **{name: getattr(self.settings, name) for name in ("neutral", "refusals", "level", "shuffles", "seed")},
            "human_text": sorted(self.settings.human_text),
            "human_labels": len(self.settings.human_labels),
        }
        names = (
            "design", "models", "comparisons", "ranks", "by_maps", "directions", "looks", "claims", "agreement",
            "corrections", "beside", "kinships", "nights", "watched", "left_out", "examples",
        )  # fmt: skip
        rest = {name: getattr(self, name) for name in names}
        if self.corrections:
            rest |= {"corrected_pairs": self.corrected_pairs, "raters": self.raters}
        if self.contrasts:
            rest["contrasts"] = self.contrasts
        if self.settings.frozen:
            rest["frozen"] = self.settings.frozen
        if self.drawn:
            rest["drawn"] = self.drawn
        if self.earlier:
            rest["earlier"] = self.earlier
        if self.lost_usd:
            rest["lost_usd"] = self.lost_usd
        if self.odd_endings:
            rest["odd_endings"] = self.odd_endings
        whole = {"format": FORMAT, "emoray": emoray.__version__, "run": self.run, "settings": settings, **rest}
        return dict(plain(whole))


def summarize(source: Source, settings: Settings) -> Summary:
    """Read a run folder once per model and once per model and reader, in bounded memory.

    A reader whose readings no map at hand can place is left out. Unusable, where people's labels do not belong to the
    run or are too few.
    """
    about = AboutRun.of(source.manifest())
    readers = _in_order(source.readers(), about)
    closely = Closely(
        sample=True,
        human=settings.human_labels,
        round_width=round_width(about.repetitions),
        projections=settings.contrasts.projections,
        browsed=MOST // max(1, len(source.models())),
    )
    heard = {model: said(model, source.answers(model), closely) for model in source.models()}
    _check_labels(settings.human_labels, heard)
    closely = _within(closely, about, heard)
    read: dict[Who, Felt] = {}
    left_out: dict[str, str] = {}
    for reader in readers:
        try:
            read |= _of_reader(reader, source, settings, heard, closely)
        except OtherLabels as wrong:
            left_out[reader] = str(wrong)
    _check_reads(read, settings, closely.headline)
    axes = _axes([one.scores for one in read.values()] + [one.failed for one in heard.values()], closely.headline)
    counted = {who: one.scores.over((_REFUSED, *axes)) for who, one in read.items()}
    ruled = {who: under(tally, settings.refusals) for who, tally in counted.items()}
    tallies = {who: focus(tally, closely.headline) for who, tally in ruled.items()}
    found = [
        _model(*who, about.model_ids.get(who[1]), heard[who[1]], read[who], tally, settings, closely)
        for who, tally in counted.items()
    ]
    found.sort(key=lambda one: (readers.index(one.reader), _worst_last(one), one.model))
    order = [(one.reader, one.model) for one in found]
    tallies = {who: tallies[who] for who in order}
    nights, watched = one_family(
        [timeline(model, one.heard, _rng(settings, model)) for model, one in sorted(heard.items())],
        [read[who].rounds.watched(who[1], who[0], _rng(settings, "/".join(who))) for who in order],
    )
    comparisons = tuple(_comparisons(tallies, _by_template(ruled, closely.headline), settings.level))
    claims = _claims(tallies, read, heard, settings)
    labelled = _labelled(tallies, read, settings)
    return Summary(
        run={"name": about.name, "digest": about.digest},
        settings=settings,
        design=_design(axes, list(heard.values()), settings.label_map, about.marks, closely),
        models=tuple(found),
        comparisons=comparisons,
        ranks=_ranks(found, comparisons, settings.level),
        by_maps=by_maps(tallies, settings.level),
        directions=tuple(directions(*who, tally, settings.level) for who, tally in tallies.items()),
        looks=looks_of(
            about.attempts,
            sum({one.model: one.counts.answers for one in found}.values()),
            settings.looked,
            tallies,
            settings.level,
        ),
        claims=claims,
        contrasts=contrasts(
            {who: ruled[who].without("refused") for who in order},
            settings.contrasts,
            closely.headline,
            settings.level,
        ),
        examples=tuple(example for who in order for example in read[who].examples),
        agreement=_agreement(tallies, read, heard, settings, claims),
        corrections=tuple(_corrections(labelled, tallies, settings.level)),
        corrected_pairs=tuple(_corrected_pairs(labelled, settings.level)),
        raters=raters_of((reads for one in read.values() for reads in one.human), settings.refusals, settings.level),
        beside=tuple(_beside(source, tallies, settings, closely)),
        kinships=tuple(_kinships(about, readers)),
        nights=nights,
        watched=watched,
        left_out=left_out,
        failure_texts={model: one.failure_texts for model, one in sorted(heard.items()) if one.failure_texts},
        drawn=_drawn(about.attempts),
        odd_endings=_odd_endings(heard),
        browsed=_browsed(heard, read),
        earlier={model: one.earlier for model, one in sorted(heard.items()) if one.earlier},
    )


def _browsed(heard: Mapping[str, Said], read: Mapping[Who, Felt]) -> tuple[Browsed, ...]:
    by_model: dict[str, dict[str, Readings]] = {model: {} for model in heard}
    for (reader, model), one in read.items():
        if one.readings:
            by_model[model][reader] = one.readings
    return tuple(Browsed(model, one.kept, by_model[model]) for model, one in sorted(heard.items()))


def _of_reader(
    reader: str, source: Source, settings: Settings, heard: Mapping[str, Said], closely: Closely
) -> dict[Who, Felt]:
    label_map = settings.map_of(reader)
    return {
        (reader, model): felt(
            reader,
            source.rows(reader, model),
            label_map,
            settings.neutral,
            one.examples,
            closely,
            settings.refusals,
            one.kept,
        )
        for model, one in heard.items()
    }


_REFUSED = Axis("refused", (False, True))


def _rng(settings: Settings, what: str) -> np.random.Generator:
    return np.random.default_rng([settings.seed, *what.encode()])


def _within(closely: Closely, about: AboutRun, heard: Mapping[str, Said]) -> Closely:
    """With the headline's condition and the controls, by the manifest and by what was asked."""
    seen = {condition for one in heard.values() for condition in one.conditions}
    controls = controls_of(about.spec, about.marks.get("templates", {}), {one.template for one in seen})
    return replace(closely, headline=headline_of(about.spec, seen, controls), controls=controls)


def _axes(tallies: Sequence[Tally], headline: Condition | None) -> tuple[Axis, ...]:
    """The union of what all models and readers have seen; shipped questions in their own order, others after them."""
    shipped = list(prompts.shipped_questions())
    axes = []
    for name in AXES:
        levels = sorted({level for tally in tallies for level in tally.axis(name).levels})
        known = [level for level in shipped if level in levels] if name == "question" else []
        axis = Axis(name, (*known, *(level for level in levels if level not in known)))
        axes.append(with_level(axis, getattr(headline, name)) if hasattr(headline, name) else axis)
    return tuple(axes)


def _claims(
    tallies: Mapping[Who, Tally], read: Mapping[Who, Felt], heard: Mapping[str, Said], settings: Settings
) -> tuple[Claim, ...]:
    readings = {who: one.sample for who, one in read.items()}
    return paper_claims(tallies, readings, {model: one.sample for model, one in heard.items()}, settings.level)


def _agreement(
    tallies: Mapping[Who, Tally],
    read: Mapping[Who, Felt],
    heard: Mapping[str, Said],
    settings: Settings,
    claims: tuple[Claim, ...],
) -> Agreement | None:
    readings = {who: one.sample for who, one in read.items()}
    return agreement(tallies, readings, {model: one.sample for model, one in heard.items()}, settings.level, claims)


def _ranks(models: Sequence[ModelSummary], comparisons: Sequence[Comparison], level: float) -> tuple[Ranked, ...]:
    scored = {(one.reader, one.model): one.scores.whole.group for one in models if one.scores.whole.group.scored}
    pairs = {one.within: one.differences for one in comparisons if one.of == "models"}
    return ranked({who: group.cosine.estimate for who, group in scored.items()}, pairs, level)


def _check_labels(labels: Mapping[str, Label], heard: Mapping[str, Said]) -> None:
    """Every label belongs to an answer, and every model that has any has them on two questions at least."""
    unknown = set(labels).difference(*(one.labelled for one in heard.values()))
    if unknown:
        raise Unusable(
            f"{len(unknown):,} of its {len(labels):,} keys are of no answer in this run, such as {min(unknown)!r}; "
            "draw the answers to label with `emoray sample`"
        )
    for model, one in heard.items():
        questions = set(one.labelled.values())
        if len(questions) == 1:
            raise Unusable(
                f"labels answers of {model} to one question only ({min(questions)}); an interval over questions needs "
                "labels on two at least"
            )


def _check_reads(read: Mapping[Who, Felt], settings: Settings, headline: Condition | None) -> None:
    """Labels count where they are of the headline's condition: a mean is corrected by answers that it is a mean of."""
    of = {who: {reads.question_id for reads in one.human} for who, one in read.items()}
    if settings.human_labels and of and not any(of.values()):
        raise Unusable(f"labels no answer of the headline's condition ({headline}); draw answers with `emoray sample`")
    for (_, model), questions in of.items():
        if len(questions) == 1:
            raise Unusable(
                f"labels answers of {model} in the headline's condition ({headline}) to one question only "
                f"({min(questions)}); an interval over questions needs labels on two at least"
            )


def _labelled(tallies: Mapping[Who, Tally], read: Mapping[Who, Felt], settings: Settings) -> dict[Who, Labelled]:
    """What has been labelled, with the weights of the tables: a question's mean is that of its prompts."""
    return {
        who: labelled_of(
            moments(tally.without("refused"), "cosine").fit,
            tally.axis("question").levels,
            read[who].human,
            Rules(settings.neutral, settings.refusals),
        )
        for who, tally in tallies.items()
        if read[who].human
    }


def _corrections(labelled: Mapping[Who, Labelled], tallies: Mapping[Who, Tally], level: float) -> list[Correction]:
    """Beside the mean as it was read stands the interval that the tables give it."""
    return [
        Correction(
            *who,
            replace(
                corrected_questions(one.means, one.scores, one.human, level, one.by_rater, one.added),
                raw=moments(tallies[who].without("refused"), "cosine").interval(level),
            ),
        )
        for who, one in labelled.items()
    ]


def _corrected_pairs(labelled: Mapping[Who, Labelled], level: float) -> list[Comparison]:
    found = []
    for reader in dict.fromkeys(reader for reader, _ in labelled):
        mine = {model: one for (whose, model), one in labelled.items() if whose == reader}
        found += [Comparison("corrected models", reader, corrected_differences(mine, level))] if len(mine) > 1 else []
    return found


def _beside(source: Source, tallies: Mapping[Who, Tally], settings: Settings, closely: Closely) -> list[Beside]:
    """The same readings scored under the run's own settings; one more pass, and only where they are others."""
    other = settings.beside
    if other is None:
        return []
    found = []
    for (reader, model), tally in tallies.items():
        own = felt(reader, source.rows(reader, model), other.map_of(reader), other.neutral).scores
        own = focus(under(own.over((_REFUSED, *_axes([own], closely.headline))), other.refusals), closely.headline)
        here, there = (moments(one.without("refused"), "cosine").interval(settings.level) for one in (tally, own))
        found.append(Beside(reader, model, here, there))
    return found


def _drawn(attempts: Sequence[AboutAttempt]) -> dict[str, tuple[Drawn, ...]]:
    found: dict[str, tuple[Drawn, ...]] = {}
    for attempt in attempts:
        for model, settings in attempt.sampling.items():
            if settings not in found.get(model, ()):
                found[model] = (*found.get(model, ()), settings)
    return found


_WHOLE = (Ending.STOP, Ending.LENGTH, Ending.TOOL)


def _odd_endings(heard: Mapping[str, Said]) -> dict[str, dict[str, int]]:
    """Answers that ended for an unknown reason; or for one that is no answer's, kept before that was known."""
    words = sorted({word for one in heard.values() for word in one.endings if ending_of(word) not in _WHOLE})
    return {
        word: {model: one.endings[word] for model, one in sorted(heard.items()) if one.endings[word]}
        for word in words
        if word
    }


def _kinships(about: AboutRun, readers: Sequence[str]) -> list[Kinship]:
    """By the ids in the manifest: of the spec's judges, and of those that read the run later."""
    judges = {name: about.judges[name] for name in readers if name in about.judges}
    return [
        Kinship(judge, model, family)
        for judge, judge_id in judges.items()
        for model, model_id in about.model_ids.items()
        if judge_id and (family := families.kin(judge_id, model_id))
    ]


def _in_order(readers: Sequence[str], about: AboutRun) -> list[str]:
    """The spec's in its order, then those that came later, then others."""
    return sorted(readers, key=[*about.readers, *readers].index)


def _model(
    reader: str,
    model: str,
    model_id: str | None,
    heard: Said,
    read: Felt,
    tally: Tally,
    settings: Settings,
    closely: Closely,
) -> ModelSummary:
    """`tally` holds the scores as they were read, of all conditions."""
    rng = _rng(settings, f"{reader}/{model}")
    counts = _counts(heard, tally.without("refused"))
    kept = under(tally, settings.refusals).without("refused")
    others = [rule for rule in REFUSAL_RULES if rule != settings.refusals and counts.refused]
    label_map, human = settings.map_of(reader), _on_human_text(tally, reader, settings)
    told = (closely.controls, label_map, settings.level, human)
    failed, repeated = heard.failed.over(kept.axes), heard.identical_in(closely.headline)
    return ModelSummary(
        model=model,
        reader=reader,
        model_id=model_id,
        samplings=tuple(sorted(heard.samplings, key=repr)),
        model_revisions=tuple(sorted(heard.revisions)),
        reader_revisions=tuple(sorted(read.revisions)),
        hosts=tuple(sorted(heard.hosts)),
        counts=counts,
        failures=_failures(heard.outcomes.without("state"), "outcome"),
        failures_by_state=_failures_by_state(heard.outcomes),
        identical=repeated,
        scores=_scores(kept, reader, settings, rng, closely.headline, repeated),
        otherwise={
            rule: _scores(under(tally, rule).without("refused"), reader, settings, rng, closely.headline, repeated)
            for rule in others
        },
        weighed=weighed(
            focus(tally, closely.headline), focus(failed, closely.headline), settings.refusals, settings.level
        ),
        conditions=conditions(kept, *told),
        over_conditions=over_conditions(kept, *told),
    )


def _scores(
    every: Tally,
    reader: str,
    settings: Settings,
    rng: np.random.Generator,
    headline: Condition | None,
    identical: float,
) -> Scores:
    """`every` has all conditions, of which one is the headline's."""
    label_map, human = settings.map_of(reader), _on_human_text(every, reader, settings)
    tally = focus(every, headline)
    of_axes: dict[GroupAxis, Tally] = {
        "state": tally,
        "question": tally,
        "template": by_template(every, headline),
        "intensity": by_intensity(every, headline),
    }
    tables: dict[GroupAxis, tuple[Group, ...]] = {
        axis: groups(one, axis, label_map, level=settings.level, human=human)
        if axis in ("state", "question")
        else each_alone(one, axis, label_map, settings.level, human)
        for axis, one in of_axes.items()
    }
    return Scores(
        whole=whole(
            tally, label_map, rng, level=settings.level, shuffles=settings.shuffles, human=human, identical=identical
        ),
        states=tables["state"],
        questions=tables["question"],
        templates=tables["template"],
        intensities=tables["intensity"],
        state_by_question=state_by_question(tally),
    )


def _on_human_text(tally: Tally, reader: str, settings: Settings) -> OnHumanText | None:
    """What the reader scores on human text of each state; None where it has not been validated."""
    reads = settings.human_text.get(reader)
    if reads is None:
        return None
    return on_human_text(np.array([float(state) for state in tally.axis("state").levels]), reads, settings.neutral)


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


def _comparisons(
    tallies: Mapping[Who, Tally], templates: Mapping[Who, Mapping[str, Array]], level: float
) -> list[Comparison]:
    """Models under one reader, readers of one model, templates within one model and reader."""
    matrices = {who: moments(tally.without("refused"), "cosine").by_question for who, tally in tallies.items()}
    readers, models = (dict.fromkeys(names) for names in zip(*matrices, strict=True)) if matrices else ({}, {})
    families = [("models", r, {m: matrices[r, m] for m in models}) for r in readers]
    families += [("readers", m, {r: matrices[r, m] for r in readers}) for m in models]
    families += [("templates", f"{m}, read by {r}", dict(templates[r, m])) for r, m in matrices]
    return [Comparison(of, within, differences(one, level)) for of, within, one in families if len(one) > 1]


def _by_template(tallies: Mapping[Who, Tally], headline: Condition | None) -> dict[Who, dict[str, Array]]:
    """Per template, at the headline's intensity, the (questions, prompts) matrix."""
    return {
        who: {
            str(name): moments(only, "cosine").by_question
            for name, only in by_template(tally, headline).without("refused").each("template")
        }
        for who, tally in tallies.items()
    }


def _design(
    axes: tuple[Axis, ...],
    heard: Sequence[Said],
    label_map: LabelMap,
    marks: Mapping[str, Mapping[str, str]],
    closely: Closely,
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
            Template(str(name), of_template.get(str(name), _template_mark(str(name))), name in closely.controls)
            for name in levels["template"]
        ),
        intensities=tuple(float(intensity) for intensity in levels["intensity"]),
        headline=closely.headline,
    )


def _shipped_marks() -> dict[str, str]:
    return {question.id: question.mark for question in prompts.shipped_questions().values()}


def _template_mark(name: str) -> str:
    return prompts.template(name).mark if name in prompts.shipped_templates() else "user"


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
            shares = ("relative", "relative_low", "relative_high")
            return {**_fields(value), **{name: plain(getattr(value, name)) for name in shares}}
        case Conclusion():
            return {**_fields(value), "survives": value.survives}
    if is_dataclass(value):
        return _fields(value)
    raise TypeError(f"a summary holds no {type(value).__name__}")


def exact(value: float) -> float | None:
    """To ten decimals, beyond which the order of rows shows in a sum; None for what is not known."""
    return round(value, 10) + 0.0 if math.isfinite(value) else None


def _fields(value: Any) -> dict[str, Any]:
    return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
