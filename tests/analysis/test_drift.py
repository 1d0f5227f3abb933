"""A change in the middle of the night is found, and a quiet night raises no alarm."""

from __future__ import annotations

import numpy as np
import pytest

from emoray.analysis.drift import LEAST, change, drift, one_family
from emoray.study.circumplex import Array

HOURS = np.linspace(0.0, 8.0, 40)


def _night(seed: int, *, rounds: int = 40, prompts: int = 4) -> Array:
    """Cosines of prompts that differ from one another, with chance in every answer, and nothing that changes."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.uniform(-0.5, 0.9, prompts) + rng.normal(0.0, 0.2, (rounds, prompts)))


def test_a_quiet_night_raises_a_false_alarm_as_often_as_promised() -> None:
    found = [drift(_night(seed), HOURS, np.random.default_rng(seed), shuffles=199) for seed in range(400)]
    assert all(one is not None for one in found)
    for name in ("per_hour_p", "step_p"):
        alarms = np.mean([getattr(one, name) <= 0.05 for one in found])
        assert 0.02 < alarms < 0.09, name


def test_two_tests_of_one_night_are_corrected_for_by_what_they_have_in_common() -> None:
    found = [drift(_night(seed), HOURS, np.random.default_rng(seed), shuffles=199) for seed in range(400)]
    least = np.array([min(one.per_hour_p_pair, one.step_p_pair) for one in found if one])
    assert 0.03 < (least <= 0.05).mean() < 0.08
    assert 0.45 < (least <= 0.5).mean() < 0.55
    for one in found:
        assert one is not None
        assert one.per_hour_p <= one.per_hour_p_pair <= 2 * one.per_hour_p + 0.01
        assert one.step_p <= one.step_p_pair


def test_a_step_and_a_new_voice_are_told_in_one_family() -> None:
    stepped, quiet = _night(2), _night(3)
    stepped[25:] -= 0.4
    drifts = [drift(values, HOURS, np.random.default_rng(0)) for values in (stepped, quiet)]
    heard = change(np.ones((40, 40)), HOURS, np.random.default_rng(0), shuffles=50)
    assert heard is not None
    (moved, still), (voice,) = one_family([one for one in drifts if one], [heard])
    assert moved.step_p_holm == pytest.approx(3 * moved.step_p_pair)
    assert moved.step_p_holm < 0.01
    assert min(still.per_hour_p_holm, still.step_p_holm) > 0.05
    assert voice.p_holm == 1.0


def test_rounds_that_resemble_themselves_raise_no_more_alarms() -> None:
    def night(seed: int) -> Array:
        return np.asarray(_night(seed) + np.random.default_rng(seed + 10_000).normal(0.0, 0.3, (40, 1)))

    found = [drift(night(seed), HOURS, np.random.default_rng(seed), shuffles=199) for seed in range(400)]
    assert np.mean([one.step_p <= 0.05 for one in found if one]) < 0.09


def test_a_slow_drift_is_found_with_its_slope() -> None:
    values = _night(1) + 0.05 * HOURS[:, None]
    found = drift(values, HOURS, np.random.default_rng(0))
    assert found is not None
    assert found.per_hour == pytest.approx(0.05, abs=0.02)
    assert found.per_hour_p < 0.01
    assert found.hours == 8.0


def test_a_step_is_found_where_it_happened() -> None:
    values = _night(2)
    values[25:] -= 0.4
    found = drift(values, HOURS, np.random.default_rng(0))
    assert found is not None
    assert found.step == pytest.approx(-0.4, abs=0.1)
    assert found.step_at == pytest.approx(HOURS[25], abs=0.3)
    assert found.step_p < 0.01


def test_missing_answers_do_not_look_like_a_change() -> None:
    values = np.tile([0.9, -0.5, 0.3, 0.1], (40, 1))
    values[20:, 0] = np.nan  # the best prompt fails from the middle on
    values[7] = np.nan
    found = drift(values, HOURS, np.random.default_rng(0))
    assert found is not None
    assert found.rounds == 39
    assert abs(found.step) < 1e-12
    assert found.step_p == 1.0


def test_too_few_rounds_tell_nothing() -> None:
    few = LEAST - 1
    assert drift(_night(0)[:few], HOURS[:few], np.random.default_rng(0)) is None
    assert change(np.eye(few), HOURS[:few], np.random.default_rng(0)) is None
    assert drift(_night(0), np.zeros(40), np.random.default_rng(0)) is None


def test_a_new_voice_is_heard_at_the_moment_it_begins() -> None:
    voice = np.array([0] * 15 + [1] * 25)
    same = np.where(voice[:, None] == voice[None, :], 1.0, 0.25)
    found = change(same, HOURS, np.random.default_rng(0))
    assert found is not None
    assert found.at == HOURS[15]
    assert found.contrast == pytest.approx(0.75)
    assert found.p < 0.01


def test_a_server_that_is_never_quite_the_same_has_not_changed() -> None:
    alarms = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        texts = rng.integers(0, 3, (30, 4))
        same = (texts[:, None, :] == texts[None, :, :]).mean(axis=2)
        found = change(same, HOURS[:30], rng, shuffles=99)
        alarms.append(found is not None and found.p <= 0.05)
    assert np.mean(alarms) < 0.12


def test_a_model_that_says_the_same_all_night_has_not_changed() -> None:
    found = change(np.ones((12, 12)), HOURS[:12], np.random.default_rng(0))
    assert found is not None
    assert found.alike == 1.0
    assert found.p == 1.0
