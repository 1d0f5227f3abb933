"""A spec that has been read: the experiment that it asks for, with all that it names looked up."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from emoray.hints import did_you_mean
from emoray.spec.asked import HeadlineSpec, QuestionText, StatePair, TemplateText
from emoray.spec.base import SpecError, short
from emoray.spec.contrasts import Levels, checked
from emoray.spec.document import Spec
from emoray.spec.entry import SamplingSpec
from emoray.spec.label_maps import chosen_label_map
from emoray.study import prompts
from emoray.study.circumplex import Affect, around_the_circle
from emoray.study.conditions import Condition
from emoray.study.experiment import Canaries, Experiment, Model, Question, Sampling, State, Template
from emoray.study.goemotions import LabelMap

_NEAREST = 0.001  # to the origin: templates write three decimals
_SAME_DIRECTION = 6  # decimals of a degree
MOST_PROMPTS = 10_000_000  # of a model: the order of asking is a permutation of them
MOST_CELLS = 1_000_000_000_000  # of a model


class Study:
    """A spec with its texts and maps resolved: what the grid, the scores and the report need."""

    def __init__(self, spec: Spec, folder: Path = Path(), label_map: LabelMap | None = None) -> None:
        """SpecError where a template, question or label map cannot be used; `folder` is the spec's own."""
        self.spec = spec
        self.label_map = label_map or chosen_label_map(spec.label_map, folder)
        self.experiment = Experiment(
            models=tuple(_model(entry, spec.sampling) for entry in spec.models),
            states=_unique("states", _states(spec.states), lambda state: _shown(state.affect)),
            questions=_unique("questions", _questions(spec.questions), lambda question: question.id),
            templates=_unique("templates", [_template(t) for t in spec.templates], lambda template: template.name),
            intensities=_unique("intensities", spec.intensities, float),
            repetitions=spec.repetitions,
            seed=spec.seed,
            canaries=Canaries(spec.canaries.every, spec.canaries.prompts) if spec.canaries else None,
        )
        _within_limits(self.experiment)
        _unique("questions", self.experiment.questions, lambda question: question.text)
        _unique(
            "templates", self.experiment.templates, lambda template: (template.system.strip(), template.user.strip())
        )
        _directions(self.experiment)
        self.headline = _headline(spec.headline, self.experiment)
        self.contrasts = checked(
            spec.contrasts, Levels.of(self.experiment, [reader.name for reader in spec.readers], self.headline)
        )


# ── resolving ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _model(entry: Any, sampling: SamplingSpec) -> Model:
    chosen = sampling.model_copy(update=entry.model_dump(include={"sampling"})["sampling"])
    identity = tuple(sorted(entry.decides().items()))
    return Model(entry.name, entry.id, Sampling(chosen.temperature, chosen.top_p, chosen.max_tokens), identity)


def _within_limits(e: Experiment) -> None:
    """SpecError where the product is larger than what can be counted, or ordered."""
    if e.prompts_per_model > MOST_PROMPTS:
        raise SpecError(
            f"templates × states × intensities × questions are {e.prompts_per_model:,} prompts, at most "
            f"{MOST_PROMPTS:,} can be put in order; take fewer"
        )
    if e.cells_per_model > MOST_CELLS:
        raise SpecError(
            f"{e.cells_per_model:,} cells are asked of each model, at most {MOST_CELLS:,} can be; "
            f"{'ask canaries less often' if e.canaries_per_model > e.measured_per_model else 'lower repetitions'}"
        )


def _states(states: int | list[float | StatePair]) -> list[State]:
    if isinstance(states, int):
        return [State(affect, affect.angle_deg) for affect in around_the_circle(states)]
    return [_state(index, state) for index, state in enumerate(states)]


def _state(index: int, state: float | StatePair) -> State:
    if not isinstance(state, StatePair):
        return State(Affect.at(state), state % 360.0)
    affect = Affect(state.valence, state.arousal)
    if affect.intensity == 0:
        raise SpecError(f"states[{index}] is the origin, which has no direction; give a valence or an arousal")
    return State(affect, affect.angle_deg)


def _directions(experiment: Experiment) -> None:
    """SpecError where two states differ in length alone, or a state at an intensity has no direction left."""
    seen: dict[float, State] = {}
    for state in experiment.states:
        direction = round(state.angle_deg, _SAME_DIRECTION) % 360.0
        other = seen.setdefault(direction, state)
        if other is not state:
            raise SpecError(
                f"states has {_shown(other.affect)} and {_shown(state.affect)}, which differ in length alone, but "
                "tables tell states apart by direction; keep one, and give the lengths as intensities"
            )
    wanted = [state.affect.scaled(intensity) for state in experiment.states for intensity in experiment.intensities]
    _unique("states × intensities", wanted, _shown)
    for affect in wanted:
        if affect.intensity < _NEAREST:
            raise SpecError(
                f"states × intensities has {_shown(affect)}, so close to the origin that it has no direction"
            )


def _shown(affect: Affect) -> str:
    """An affect for a person, to the six decimals that tell keys apart."""
    return f"valence {round(affect.valence, 6) + 0.0:.7g}, arousal {round(affect.arousal, 6) + 0.0:.7g}"


def _template(entry: str | TemplateText) -> Template:
    if isinstance(entry, str):
        if entry not in prompts.shipped_templates():
            known = prompts.shipped_templates()
            raise SpecError(
                f"templates: {short(entry)} is none of {', '.join(known)}{did_you_mean(entry, known) or _own(entry)}"
            )
        return prompts.template(entry)
    written = prompts.check_template(Template(entry.name, entry.system, entry.user))
    blind = prompts.asks_no_state(entry.system, entry.user)
    return replace(written, control=blind if entry.control is None else entry.control)


def _headline(wanted: HeadlineSpec, e: Experiment) -> Condition:
    names = [template.name for template in e.templates]
    controls = [template.name for template in e.templates if template.control]
    told = names if len(controls) == len(names) else [name for name in names if name not in controls]
    if wanted.template is not None and wanted.template not in told:
        what = "is a control, which enters no mean" if wanted.template in names else "is none of the templates"
        raise SpecError(
            f"headline.template {short(wanted.template)} {what}; give one of {', '.join(told)}"
            f"{did_you_mean(wanted.template, told)}"
        )
    if wanted.intensity is not None and wanted.intensity not in e.intensities:
        known = ", ".join(f"{intensity:g}" for intensity in e.intensities)
        raise SpecError(f"headline.intensity {wanted.intensity:g} is none of the intensities; give one of {known}")
    return Condition(wanted.template or told[0], wanted.intensity or max(e.intensities))


def _own(template: str) -> str:
    return "; one of your own is {name: …, user: …}" if re.search(r"[{\s]", template) else ""


def _questions(entries: list[str | QuestionText]) -> list[Question]:
    shipped, sets = prompts.shipped_questions(), prompts.question_sets()
    known = shipped | {question.id: question for some in sets.values() for question in some}
    chosen: list[Question] = []
    for entry in entries:
        if isinstance(entry, QuestionText):
            chosen.append(Question(entry.id, entry.text, tags=tuple(dict.fromkeys(entry.tags))))
        elif entry == "all":
            chosen.extend(shipped.values())
        elif entry in sets:
            chosen.extend(sets[entry])
        elif entry in known:
            chosen.append(known[entry])
        elif _is_text(entry):
            chosen.append(_bare_question(entry.strip()))
        else:
            raise SpecError(
                f"questions: {entry!r} is none of {', '.join([*shipped, *sets])}"
                f"{did_you_mean(entry, [*shipped, 'all', *sets]) or _OWN_QUESTION}"
            )
    return chosen


_OWN_QUESTION = "; one of your own is a sentence, or {id: …, text: …}"


def _is_text(entry: str) -> bool:
    """Whether a question is written out: no id has a blank, a question mark, or letters that are not ASCII's."""
    return re.fullmatch(r"[\w.+-]*", entry.strip(), re.ASCII) is None


def _bare_question(text: str) -> Question:
    """A question that was given as its text. Its id is made of the text alone, and stays when others come and go."""
    for question in prompts.shipped_questions().values():
        if question.text == text:
            return question
    words = "-".join(re.findall(r"[a-z0-9]+", text.lower()))[:40].strip("-")
    return Question(f"{words or 'question'}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}", text)


def _unique(field: str, values: Any, of: Any) -> tuple[Any, ...]:
    """The values as a tuple; SpecError where two are the same ask."""
    twice = [shown for shown, n in Counter(of(value) for value in values).items() if n > 1]
    if twice:
        raise SpecError(f"{field} has {twice[0]!r} twice; every cell of the grid must be asked once")
    return tuple(values)
