from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoray.run_folder.generations import Files

STAMPS = st.sets(st.integers(0, 2**53), max_size=8)


@settings(max_examples=25, deadline=None)
@given(STAMPS, STAMPS, st.sets(st.text(max_size=5)))
def test_a_set_of_files_knows_exactly_what_is_in_it_also_after_it_was_written_down(
    some: set[int], others: set[int], names: set[str]
) -> None:
    whole = Files.union([Files.written("w", some), Files.written("v", others), Files(names=frozenset(names))])
    told = Files.unpacked(json.loads(json.dumps(whole.packed())))
    for stamp in some | others:
        assert told.has(Files.written("w", [stamp])) == (stamp in some)
        assert told.has(Files.written("v", [stamp])) == (stamp in others)
    assert not told.has(Files())
    assert told.has(Files(names=frozenset(names))) == bool(names)
    assert told.has(Files.written("w", some)) == bool(some)


def test_a_night_of_small_files_takes_little_room() -> None:
    chance = np.random.default_rng(7)
    stamps = 1_790_000_000_000_000 + np.cumsum(chance.integers(20_000, 400_000, 100_000))
    packed = Files.written("20260102T030000_0abc12_actor_0123abcd", stamps.tolist()).packed()
    assert len(json.dumps(packed)) < 4 * len(stamps)


@pytest.mark.parametrize("odd", [{"stamps": 7}, {"stamps": {"w": "!"}}, {"names": 3}])
def test_what_is_no_set_of_files_is_said(odd: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Files.unpacked(odd)
