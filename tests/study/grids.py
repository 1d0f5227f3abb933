"""Experiments to test with."""

from __future__ import annotations

from emoray.study.circumplex import Affect, around_the_circle
from emoray.study.experiment import Cell, Experiment, Model, Question, Sampling, State, Template
from emoray.study.prompts import shipped_questions, template

MODEL = Model("m", "org/m", Sampling(0.8, None, 96))
ONE_LINER = Template("t", "", "{question} {valence} {arousal}")


def state(angle_deg: float) -> State:
    return State(Affect.at(angle_deg), angle_deg)


def experiment(
    *,
    models: int = 1,
    templates: int = 1,
    states: int = 2,
    intensities: int = 1,
    questions: int = 2,
    repetitions: int = 3,
    seed: int = 0,
) -> Experiment:
    """An experiment of a given shape."""
    return Experiment(
        models=tuple(Model(f"m{i}", f"org/m{i}", MODEL.sampling) for i in range(models)),
        states=tuple(State(affect, affect.angle_deg) for affect in around_the_circle(states)),
        questions=tuple(Question(f"q{i}", f"Why {i}?") for i in range(questions)),
        templates=tuple(Template(f"t{i}", f"Role {i}.", ONE_LINER.user) for i in range(templates)),
        intensities=tuple((i + 1) / intensities for i in range(intensities)),
        repetitions=repetitions,
        seed=seed,
    )


def cell(
    *,
    model: Model = MODEL,
    form: str | Template = "parameters",
    angle_deg: float = 30.0,
    intensity: float = 1.0,
    question: str = "freedom",
    repetition: int = 0,
) -> Cell:
    """One cell with shipped texts."""
    chosen = template(form) if isinstance(form, str) else form
    return Cell(model, chosen, state(angle_deg), intensity, shipped_questions()[question], repetition)
