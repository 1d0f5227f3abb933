"""How well a classifier reads: figures that can be checked by hand, and against scikit-learn."""

from __future__ import annotations

import math
import warnings

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from emoray.analysis.classification import confusion_matrix, f1_errors, f1_per_label, quality
from emoray.study.circumplex import Affect, cosine
from emoray.study.goemotions import LABELS, label_map

Indices = npt.NDArray[np.int64]
pairs = st.lists(st.tuples(st.integers(0, 27), st.integers(0, 27)), min_size=1, max_size=60)


def indices(*names: str) -> Indices:
    return np.array([LABELS.index(name) for name in names], dtype=np.int64)


def place(label: str) -> Affect:
    affect = label_map().places[LABELS.index(label)].affect
    assert affect is not None
    return affect


@given(pairs)
def test_accuracy_and_macro_f1_are_what_scikit_learn_says(some: list[tuple[int, int]]) -> None:
    true, read = (np.array(column, dtype=np.int64) for column in zip(*some, strict=True))
    found = quality(true, read, label_map())
    assert found.accuracy == accuracy_score(true, read)
    assert found.macro_f1 == pytest.approx(f1_score(true, read, average="macro", zero_division=0.0))
    assert found.comments == len(some)


def test_a_perfect_reader_is_perfect_in_every_figure() -> None:
    true = np.arange(28, dtype=np.int64)
    found = quality(true, true, label_map())
    assert (found.correct, found.accuracy, found.macro_f1, found.not_neutral) == (28, 1.0, 1.0, 27)
    assert found.cosine_neutral_zero == found.cosine_neutral_dropped == pytest.approx(1.0)


def test_a_neutral_reading_counts_as_zero_or_not_at_all() -> None:
    true, read = indices("joy", "joy", "anger", "neutral"), indices("joy", "neutral", "fear", "joy")
    found = quality(true, read, label_map())
    near = cosine(place("anger"), place("fear"))
    assert found.not_neutral == 3
    assert found.cosine_neutral_zero == pytest.approx((1.0 + 0.0 + near) / 3)
    assert found.cosine_neutral_dropped == pytest.approx((1.0 + near) / 2)


def test_only_neutral_comments_have_no_mean_cosine_and_that_is_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = quality(indices("neutral"), indices("joy"), label_map())
    assert math.isnan(found.cosine_neutral_zero)
    assert math.isnan(found.cosine_neutral_dropped)


def test_the_papers_figure_is_what_its_accuracy_and_a_mean_cosine_of_its_errors_make() -> None:
    right, wrong = 589, 411
    rng = np.random.default_rng(0)
    true = rng.integers(0, 27, right + wrong)
    read = np.concatenate([true[:right], rng.integers(0, 27, wrong)]).astype(np.int64)
    found = quality(true, read, label_map())
    errors = quality(true[right:], read[right:], label_map()).cosine_neutral_zero
    assert found.cosine_neutral_zero == pytest.approx(0.589 + 0.411 * errors, abs=1e-3)


def test_a_label_that_nowhere_occurs_has_no_f1() -> None:
    found = f1_per_label(indices("joy", "anger"), indices("joy", "fear"))
    assert np.isfinite(found).sum() == 3
    assert found[LABELS.index("joy")] == 1.0
    assert found[LABELS.index("fear")] == 0.0


@given(pairs)
def test_a_confusion_matrix_counts_every_comment_once(some: list[tuple[int, int]]) -> None:
    true, read = (np.array(column, dtype=np.int64) for column in zip(*some, strict=True))
    found = confusion_matrix(true, read)
    assert found.shape == (28, 28)
    assert found.sum() == len(some)
    for t, r in some:
        assert found[t, r] == some.count((t, r))


def test_a_few_comments_that_were_all_read_rightly_do_not_promise_that_others_will_be() -> None:
    found = quality(indices("joy", "joy", "anger"), indices("joy", "joy", "anger"), label_map())
    assert (found.accuracy, found.macro_f1) == (1.0, 1.0)
    assert found.accuracy_error == found.macro_f1_error == pytest.approx(math.sqrt(1 / 6 * 5 / 6 / 3))
    assert math.isnan(found.cosine_neutral_zero_error)  # all 1: nothing tells how others would differ
    f1 = f1_errors(indices("joy", "joy", "anger"), indices("joy", "joy", "fear"))
    assert f1[LABELS.index("joy")] == pytest.approx(math.sqrt(1 / 4 * 3 / 4 / 2))
    assert f1[LABELS.index("anger")] > f1[LABELS.index("joy")]
    assert np.isfinite(f1).sum() == 3


def test_where_some_are_wrong_the_error_of_the_accuracy_is_that_of_a_share() -> None:
    true, read = indices("joy", "joy", "anger", "fear"), indices("joy", "joy", "anger", "joy")
    assert quality(true, read, label_map()).accuracy_error == pytest.approx(math.sqrt(0.75 * 0.25 / 4))
