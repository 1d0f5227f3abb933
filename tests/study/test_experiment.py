"""The grid is arithmetic: every cell is asked once, in an order that mixes."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoray.study.experiment import BLOCK_REPETITIONS, Canaries, Cell, Experiment, Sampling
from emoray.study.prompts import prompts
from tests.study.grids import experiment

shapes = st.builds(
    experiment,
    models=st.integers(1, 3),
    templates=st.integers(1, 3),
    states=st.integers(1, 5),
    intensities=st.integers(1, 3),
    questions=st.integers(1, 4),
    repetitions=st.integers(1, 11),
    seed=st.integers(0, 2**63 - 1),
)


@settings(max_examples=60)
@given(shapes)
def test_the_number_of_cells_is_the_product(e: Experiment) -> None:
    per_model = len(e.templates) * len(e.states) * len(e.intensities) * len(e.questions) * e.repetitions
    assert len(e) == len(e.models) * per_model
    for model in e.models:
        grid = e.grid(model.name)
        assert len(grid) == sum(1 for _ in grid.cells()) == per_model


@settings(max_examples=60)
@given(shapes)
def test_the_asking_order_visits_every_cell_exactly_once(e: Experiment) -> None:
    asked = Counter(
        (cell.model.name, cell.template.name, cell.state.angle_deg, cell.intensity, cell.question.id, cell.repetition)
        for model in e.models
        for cell in e.grid(model.name).cells()
    )
    assert len(asked) == len(e)
    assert set(asked.values()) == {1}


@settings(max_examples=60)
@given(shapes)
def test_every_ask_of_an_experiment_has_a_key_and_a_seed_of_its_own(e: Experiment) -> None:
    asked = [prompt for model in e.models for prompt in prompts(e.grid(model.name))]
    assert len({prompt.key for prompt in asked}) == len(e)
    assert all(0 <= prompt.seed < 2**31 for prompt in asked)
    by_prompt: dict[tuple[str, str], list[int]] = {}
    for prompt in asked:
        by_prompt.setdefault((prompt.cell.model.name, prompt.messages), []).append(prompt.seed)
    assert all(len(set(seeds)) == len(seeds) for seeds in by_prompt.values())


@settings(max_examples=60)
@given(shapes)
def test_after_every_whole_block_all_states_and_questions_have_been_asked_equally_often(e: Experiment) -> None:
    grid = e.grid("m0")
    block = e.prompts_per_model * BLOCK_REPETITIONS
    states: Counter[float] = Counter()
    questions: Counter[str] = Counter()
    for place, cell in enumerate(grid.cells(), start=1):
        states[cell.state.angle_deg] += 1
        questions[cell.question.id] += 1
        if place % block == 0 or place == len(grid):
            assert len(states) == len(e.states)
            assert len(set(states.values())) == 1
            assert len(questions) == len(e.questions)
            assert len(set(questions.values())) == 1
    assert sum(states.values()) == len(grid) > 0


@settings(max_examples=60)
@given(shapes)
def test_the_repetitions_of_a_prompt_stand_together_and_rise(e: Experiment) -> None:
    grid = e.grid("m0")
    block = e.prompts_per_model * BLOCK_REPETITIONS
    for start in range(0, len(grid), block):
        places = [grid.place(i) for i in range(start, min(start + block, len(grid)))]
        changes = sum(a[0] != b[0] for a, b in itertools.pairwise(places))
        assert changes == e.prompts_per_model - 1
        repetitions = [[r for p, r, _ in places if p == prompt] for prompt in range(e.prompts_per_model)]
        assert all(mine == repetitions[0] == sorted(mine) for mine in repetitions)


@settings(max_examples=40)
@given(shapes, st.data())
def test_any_slice_of_the_grid_is_that_slice_of_the_whole(e: Experiment, data: st.DataObject) -> None:
    grid = e.grid("m0")
    start = data.draw(st.integers(0, len(grid)))
    stop = data.draw(st.integers(start, len(grid) + 5))
    assert list(grid.cells(start, stop)) == list(grid.cells())[start:stop]
    assert [p.key for p in prompts(grid, start, stop)] == [p.key for p in prompts(grid)][start:stop]


def test_states_and_questions_are_mixed_and_not_asked_in_turn() -> None:
    first = [
        cell.state.angle_deg for cell in experiment(states=12, questions=10, repetitions=1).grid("m0").cells(0, 24)
    ]
    assert len(set(first)) > 6
    assert first != sorted(first)


def test_the_order_differs_between_seeds_models_and_blocks_and_the_cells_do_not() -> None:
    def order(e: Experiment, model: str, start: int) -> list[int]:
        return [e.grid(model).place(i)[0] for i in range(start, start + e.prompts_per_model * BLOCK_REPETITIONS)]

    e, other = (experiment(models=2, states=6, repetitions=8, seed=seed) for seed in (0, 1))
    second = e.prompts_per_model * BLOCK_REPETITIONS
    assert order(e, "m0", 0) == order(experiment(models=2, states=6, repetitions=8), "m0", 0)
    assert order(e, "m0", 0) != order(other, "m0", 0)
    assert order(e, "m0", 0) != order(e, "m1", 0)
    assert order(e, "m0", 0) != order(e, "m0", second)
    assert {p.key for p in prompts(e.grid("m0"))} == {p.key for p in prompts(other.grid("m0"))}


def test_raising_the_repetitions_keeps_every_old_key() -> None:
    for few, many in ((1, 2), (3, 5), (4, 8), (5, 21)):
        old, new = ({p.key for p in prompts(experiment(repetitions=n).grid("m0"))} for n in (few, many))
        assert old < new
        assert len(new) - len(old) == (many - few) * 4


def test_adding_states_and_questions_keeps_every_old_key() -> None:
    def keys(**shape: int) -> set[str]:
        return {p.key for p in prompts(experiment(**shape).grid("m0"))}

    assert keys() < keys(states=4) < keys(states=4, questions=5) < keys(states=4, questions=5, templates=2)


watched = st.builds(
    lambda e, every, prompts: replace(e, canaries=Canaries(every, prompts)),
    shapes,
    st.integers(1, 30),
    st.integers(1, 6),
)


@settings(max_examples=60)
@given(watched)
def test_the_places_of_so_many_repetitions_hold_every_prompt_so_often_and_no_other(e: Experiment) -> None:
    for repetitions in {min(4, e.repetitions), e.repetitions}:
        places = [e.grid("m0").place(index) for index in range(e.places_of(repetitions))]
        measured = [place for place in places if not place.canary]
        assert sorted(measured) == [(p, r, False) for p in range(e.prompts_per_model) for r in range(repetitions)]


@settings(max_examples=60)
@given(watched)
def test_canaries_come_before_every_stretch_and_after_the_last_and_change_no_other_cell(e: Experiment) -> None:
    assert e.canaries
    cells = list(e.grid("m0").cells())
    assert len(cells) == e.cells_per_model
    assert [c for c in cells if not c.canary] == list(replace(e, canaries=None).grid("m0").cells())

    few = min(e.canaries.prompts, e.prompts_per_model)
    rounds = _batched([c for c in cells if c.canary], few)
    assert [{c.repetition for c in one} for one in rounds] == [{n} for n in range(len(rounds))]
    assert len({tuple((c.template, c.state, c.intensity, c.question) for c in one) for one in rounds}) == 1
    assert all(c.model.sampling.temperature == 0.0 for one in rounds for c in one)

    gaps = [len(list(run)) for canary, run in itertools.groupby(cells, key=lambda c: c.canary) if not canary]
    assert gaps[:-1] == [e.canaries.every] * (len(gaps) - 1)
    assert gaps[-1] <= e.canaries.every
    assert cells[0].canary
    assert cells[-1].canary


@settings(max_examples=40)
@given(watched)
def test_a_canary_has_a_key_of_its_own(e: Experiment) -> None:
    asked = [prompt for model in e.models for prompt in prompts(e.grid(model.name))]
    assert len({prompt.key for prompt in asked}) == len(e)


def test_more_repetitions_keep_the_canaries_that_were_asked() -> None:
    old, new = (
        {p.key for p in prompts(replace(experiment(repetitions=n), canaries=Canaries(5, 2)).grid("m0"))} for n in (3, 9)
    )
    assert old < new


def test_a_model_that_takes_no_temperature_is_not_given_one_for_its_canaries() -> None:
    e = experiment()
    bare = tuple(replace(model, sampling=Sampling(temperature=None)) for model in e.models)
    cells = replace(e, models=bare, canaries=Canaries(3, 1)).grid("m0").cells()
    assert {cell.model.sampling.temperature for cell in cells} == {None}


def test_a_model_that_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        experiment().grid("gpt")


def test_a_grid_of_a_billion_cells_costs_nothing_until_it_is_asked() -> None:
    grid = experiment(states=12, questions=10, repetitions=10_000_000).grid("m0")
    assert len(grid) == 1_200_000_000
    last = list(grid.cells(len(grid) - 3))
    assert [cell.repetition for cell in last] == [9_999_997, 9_999_998, 9_999_999]


PRINT_KEYS = """
import json
from emoray.study.prompts import prompts
from tests.study.grids import experiment
asked = list(prompts(experiment(models=2, templates=2, intensities=2, repetitions=5, seed=3).grid("m1")))
print(json.dumps([[p.key, p.seed, p.sha] for p in asked]))
"""


def test_keys_seeds_and_order_are_equal_in_every_process() -> None:
    def keys(hash_seed: str) -> list[list[object]]:
        done = subprocess.run(
            [sys.executable, "-c", PRINT_KEYS],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        return list(json.loads(done.stdout))

    one, other = keys("1"), keys("4242")
    assert one == other
    assert len({key for key, _, _ in one}) == len(one) == 80


def _batched(cells: list[Cell], size: int) -> list[list[Cell]]:
    return [cells[start : start + size] for start in range(0, len(cells), size)]
