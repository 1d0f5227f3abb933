"""Sums per cell add up, whatever the order and size of the tables."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.analysis.tally import Axis, Factor, Tally

ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([0.0, 30.0, 330.0]), st.integers(-5, 5)), min_size=1, max_size=40
)


def tally(rows: list[tuple[str, float, int]]) -> Tally:
    names, states, values = zip(*rows, strict=True) if rows else ((), (), ())
    factors = {"question": Factor.of(list(names)), "state": Factor.of(list(states))}
    return Tally.of(factors, {"n": np.ones(len(rows)), "sum": np.array(values, dtype=float)})


@given(ROWS, st.integers(0, 40), st.randoms(use_true_random=False))
def test_parts_in_any_order_add_up_to_the_whole(rows: list[tuple[str, float, int]], at: int, random: Random) -> None:
    whole = tally(rows)
    mixed = sorted(rows, key=lambda _: random.random())
    parts = [tally(part) for part in (mixed[:at], mixed[at:]) if part]
    added = parts[0] if len(parts) == 1 else parts[0] + parts[1]
    assert added.axes == whole.axes
    assert all(np.array_equal(added.sums[name], whole.sums[name]) for name in whole.sums)


@given(ROWS)
def test_every_row_lands_in_its_cell(rows: list[tuple[str, float, int]]) -> None:
    found = tally(rows)
    assert list(found.axis("question").levels) == sorted({question for question, _, _ in rows})
    assert list(found.axis("state").levels) == sorted({state for _, state, _ in rows})
    for i, question in enumerate(found.axis("question").levels):
        for j, state in enumerate(found.axis("state").levels):
            here = [value for q, s, value in rows if (q, s) == (question, state)]
            assert (found.sums["n"][i, j], found.sums["sum"][i, j]) == (len(here), sum(here))


def test_what_is_not_a_number_adds_nothing() -> None:
    found = Tally.of({"q": Factor.of(["a", "a"])}, {"x": np.array([math.nan, 2.0])})
    assert found.sums["x"].tolist() == [2.0]


def test_an_axis_can_be_summed_away_or_held_at_a_level() -> None:
    found = tally([("a", 0.0, 1), ("a", 30.0, 2), ("b", 0.0, 4)])
    assert found.without("question").sums["sum"].tolist() == [5.0, 2.0]
    assert found.without("question", level="b").sums["sum"].tolist() == [4.0, 0.0]
    assert found.without("question", level="never seen").sums["sum"].tolist() == [0.0, 0.0]
    assert found.only("state", 30.0).sums["sum"].tolist() == [[2.0], [0.0]]
    assert found.only("state", 30.0).axis("state") == Axis("state", (30.0,))


def test_wider_axes_in_any_order_hold_the_same_sums() -> None:
    found = tally([("a", 0.0, 1), ("b", 0.0, 4)])
    wide = found.over((Axis("question", ("b", "c", "a")), Axis("state", (330.0, 0.0))))
    assert wide.sums["sum"].tolist() == [[0.0, 4.0], [0.0, 0.0], [0.0, 1.0]]


def test_no_rows_are_a_tally_without_cells() -> None:
    nothing, something = tally([]), tally([("a", 0.0, 1)])
    assert nothing.sums["n"].shape == (0, 0)
    assert np.array_equal((nothing + something).sums["n"], something.sums["n"])


def test_other_axes_do_not_add() -> None:
    with pytest.raises(ValueError, match="do not match"):
        Tally.of({"x": Factor.of(["a"])}, {}) + Tally.of({"y": Factor.of(["a"])}, {})
