"""What headers and 429s teach of one model of an account, to the second."""

from __future__ import annotations

import pytest

from emoray.rate_limits.learned import Model, _Ease, _Found
from emoray.rate_limits.protocol import Feedback, LimitHeaders, Limits
from emoray.rate_limits.token_bucket import HEADROOM


def busy(per_s: int, seconds: int = 10) -> _Ease:
    """One that took so many a second."""
    ease = _Ease()
    for second in range(seconds):
        ease.refill(float(second))
        ease.took(per_s, float(second))
    ease.refill(float(seconds))
    return ease


# ── 429s where a rate is known ──


@pytest.mark.parametrize(
    ("per_s", "refused", "factor"),
    [
        (10, 1, 0.98),  # of a hundred a second, where fewer are asked
        (200, 1, 0.99),
        (200, 10, 0.9),
        (200, 30, 0.8),  # and never more than a fifth
    ],
)
def test_429s_that_stand_alone_cost_twice_the_part_of_a_second_that_was_refused(
    per_s: int, refused: int, factor: float
) -> None:
    ease = busy(per_s)
    assert not ease.refused(refused, 10.0, known=True)
    assert ease.factor == pytest.approx(factor, abs=2e-3)


def test_429s_within_a_second_are_one_event_and_its_cut_is_of_the_rate_before_it() -> None:
    ease = busy(200)
    for n in range(10):
        ease.refused(1, 10.0 + n / 10, known=True)
    assert ease.factor == pytest.approx(1 - 2 * 10 / ease.pace(10.9)) == pytest.approx(1 - 20 / (1200 / 6.9))


def test_an_event_soon_after_another_shows_a_lower_limit_once() -> None:
    ease = busy(200)
    ease.refused(5, 10.0, known=True)
    before = ease.factor
    assert ease.refused(1, 11.0, known=True)
    assert ease.factor == pytest.approx(0.8 * before)
    assert not ease.refused(1, 11.5, known=True)  # the same event
    assert ease.factor == pytest.approx(0.8 * before)
    assert ease.refused(1, 12.0, known=True)
    assert ease.factor == pytest.approx(0.64 * before)


def test_an_event_may_be_an_accident_again_after_half_a_minute_without_a_429() -> None:
    for pause_s, shows in ((29.5, True), (30.0, False)):
        ease = busy(200)
        ease.refused(1, 10.0, known=True)
        assert ease.refused(1, 10.0 + pause_s, known=True) is shows


def test_few_among_very_many_are_an_accident_however_often_they_come() -> None:
    ease = busy(1000, seconds=20)  # 20,000: thirty of them are no larger a part than chance
    assert [ease.refused(10, 20.0 + n, known=True) for n in range(4)] == [False, False, False, True]
    assert ease.factor == pytest.approx(0.8 * 0.94, abs=0.02)


def test_what_was_asked_half_a_minute_ago_is_no_measure_of_what_is_refused_now() -> None:
    ease = busy(1000, seconds=20)
    for n in range(3):
        ease.refused(10, 20.0 + n, known=True)
    ease.took(10, 45.0)
    assert ease.refused(1, 45.0, known=True)  # of the 20,000 only what was asked from second 15 on counts


def test_where_no_rate_is_known_every_event_shows_a_limit() -> None:
    ease = busy(200)
    assert ease.refused(1, 10.0, known=False)
    assert ease.factor == pytest.approx(0.8)
    assert not ease.refused(1, 10.5, known=False)


def test_a_tenth_of_the_rate_always_remains() -> None:
    ease = busy(200)
    for second in range(40):
        ease.refused(50, 10.0 + second, known=True)
    assert ease.factor == pytest.approx(0.1)


# ── and quiet after them ──


def test_a_fiftieth_of_the_rate_that_was_cut_comes_back_every_second() -> None:
    ease = busy(200)
    ease.refused(10, 10.0, known=True)
    ease.refill(11.0)
    cut = ease.factor
    ease.refused(10, 11.0, known=True)
    ease.refill(11.0)
    assert ease.factor == pytest.approx(0.8 * cut)
    ease.refill(16.0)
    assert ease.factor == pytest.approx(0.8 * cut + 5 * 0.02 * cut)
    ease.refill(13.0)  # a clock that goes back
    assert ease.factor == pytest.approx(0.8 * cut + 5 * 0.02 * cut)


def test_after_half_a_minute_of_quiet_it_is_of_the_full_rate_and_ends_there() -> None:
    ease = busy(200)
    for second in range(10):
        ease.refused(50, 10.0 + second, known=True)
    assert ease.factor == pytest.approx(0.8**9 * 0.8, abs=0.05)
    ease.refill(19.0)
    ease.refill(49.0)
    quiet = ease.factor
    ease.refill(54.0)
    assert ease.factor == pytest.approx(min(1.0, quiet + 0.1), abs=1e-9)
    ease.refill(1000.0)
    assert ease.factor == 1.0


# ── the pace ──


def test_the_pace_is_that_of_the_last_five_seconds_in_which_something_was_taken() -> None:
    ease = _Ease()
    assert ease.pace(0.0) == 0.0
    ease.took(1000, 0.0)
    assert ease.pace(0.0) == 1000.0  # a second at least
    for second in range(1, 11):
        ease.took(20, float(second))
    assert ease.pace(11.0) == pytest.approx(6 * 20 / 6)
    ease.took(0, 12.0)
    assert ease.pace(12.0) == pytest.approx(6 * 20 / 7)


def test_where_a_429_is_all_that_is_known_a_fifth_less_than_the_pace_is_taken_for_the_rate() -> None:
    found = _Found()
    found.cut(100.0, 10.0)
    assert found.per_s == pytest.approx(80.0)
    found.cut(100.0, 11.0)  # it was asked faster than that before
    assert found.per_s == pytest.approx(64.0)
    found.cut(10.0, 12.0)
    assert found.per_s == pytest.approx(8.0)
    for _ in range(20):
        found.cut(0.0, 13.0)
    assert found.per_s == 1.0


def test_it_grows_by_a_fiftieth_a_second_and_is_forgotten_at_four_times_the_rate_of_the_429() -> None:
    found = _Found()
    found.cut(100.0, 10.0)
    found.refill(15.0)
    assert found.per_s == pytest.approx(80.0 + 5 * 2.0)
    found.refill(12.0)  # a clock that goes back
    found.refill(16.0)
    assert found.per_s == pytest.approx(80.0 + 6 * 2.0)
    found.refill(10.0 + 160.0)
    assert found.per_s == pytest.approx(400.0)
    found.refill(10.0 + 160.1)
    assert found.per_s is None
    found.refill(1000.0)
    assert found.per_s is None


# ── headers ──


def told(model: Model, heard: LimitHeaders, now: float = 0.0, stated: Limits | None = None, age_s: float = 0.0) -> None:
    model.refill(stated or Limits(), now)
    model.learn(Feedback(heard=heard, heard_age_s=age_s), stated or Limits(), now)


def test_what_one_answer_does_not_tell_an_earlier_one_did() -> None:
    model = Model("life")
    told(model, LimitHeaders(limit_requests=600.0, limit_tokens=60_000.0))
    told(model, LimitHeaders())
    assert (model.rates.requests.per_s, model.rates.tokens.per_s) == pytest.approx((10 * HEADROOM, 1000 * HEADROOM))
    told(model, LimitHeaders(limit_requests=60.0))
    assert (model.rates.requests.per_s, model.rates.tokens.per_s) == pytest.approx((1 * HEADROOM, 1000 * HEADROOM))


def test_a_share_of_what_headers_tell_is_left_to_colleagues() -> None:
    model = Model("life")
    told(model, LimitHeaders(limit_requests=600.0, limit_tokens=60_000.0), stated=Limits(share=0.5))
    assert (model.rates.requests.per_s, model.rates.tokens.per_s) == pytest.approx((5 * HEADROOM, 500 * HEADROOM))


def test_of_what_is_stated_and_what_is_heard_the_less_holds() -> None:
    model = Model("life")
    told(model, LimitHeaders(limit_requests=600.0, limit_tokens=600.0), stated=Limits(60.0, 6000.0))
    assert (model.rates.requests.per_s, model.rates.tokens.per_s) == pytest.approx((HEADROOM, 10 * HEADROOM))


def test_a_limit_that_was_seen_to_be_a_days_stays_one_and_is_no_rate() -> None:
    model = Model("life")
    told(model, LimitHeaders(limit_requests=200.0, remaining_requests=0.0, reset_requests_s=121.0))
    told(model, LimitHeaders(limit_requests=200.0, remaining_requests=0.0, reset_requests_s=3.0))  # the end of the day
    assert (model.per_day, model.rates.requests.per_s) == (200.0, None)
    model.rates.turns.come("a", [])
    model.take("a", 30, 0.0, 0.0)
    assert model.left_today(0.5) == 70.0
    model.take("a", 90, 0.0, 0.0)
    assert model.left_today(0.5) == 0.0


@pytest.mark.parametrize("reset_s", [None, 0.5, 120.0])
def test_a_limit_that_is_reset_within_two_minutes_is_a_minutes(reset_s: float | None) -> None:
    model = Model("life")
    told(model, LimitHeaders(limit_requests=600.0, reset_requests_s=reset_s))
    assert model.per_day is None
    assert model.left_today(0.5) == float("inf")
    assert model.rates.requests.per_s == pytest.approx(10 * HEADROOM)


def test_what_a_header_says_is_left_caps_what_is_there_by_its_age() -> None:
    model = Model("life")
    told(model, LimitHeaders(limit_requests=600.0, remaining_requests=1.0, limit_tokens=6000.0, remaining_tokens=7.0))
    assert (model.rates.requests.level, model.rates.tokens.level) == pytest.approx((1.0, 7.0))
    told(model, LimitHeaders(remaining_requests=0.0, remaining_tokens=0.0), now=10.0, age_s=0.1)
    assert (model.rates.requests.level, model.rates.tokens.level) == pytest.approx((0.99, 9.9))


# ── 429s of a model ──


def test_the_longest_pause_that_a_429_asks_for_holds() -> None:
    model = Model("life")
    model.refill(Limits(), 0.0)
    model.learn(Feedback(throttled=1), Limits(), 5.0)
    assert model.paused_until == 5.0
    model.learn(Feedback(throttled=1, retry_after_s=20.0), Limits(), 5.0)
    model.learn(Feedback(throttled=1, retry_after_s=2.0), Limits(), 6.0)
    model.learn(Feedback(retry_after_s=99.0), Limits(), 6.0)  # none was refused
    assert model.paused_until == 25.0


def taken(model: Model, per_s: int, seconds: int, stated: Limits) -> None:
    model.rates.turns.come("a", [])
    for second in range(seconds):
        model.refill(stated, float(second))
        model.take("a", per_s, 0.0, float(second))


def test_where_nothing_tells_a_rate_a_429_does_at_once() -> None:
    model, stated = Model("life"), Limits()
    taken(model, 100, 10, stated)
    model.learn(Feedback(throttled=1), stated, 10.0)
    assert model.rates.requests.per_s == pytest.approx(80.0, rel=0.05)
    model.learn(Feedback(throttled=1), stated, 10.5)  # the same event
    assert model.rates.requests.per_s == pytest.approx(80.0, rel=0.05)


def test_where_tokens_are_all_that_is_stated_only_an_event_that_is_no_accident_teaches_a_rate_of_requests() -> None:
    model, stated = Model("life"), Limits(tokens_per_minute=600_000)
    taken(model, 100, 10, stated)
    model.learn(Feedback(throttled=1), stated, 10.0)
    assert model.rates.requests.per_s is None
    model.learn(Feedback(throttled=1), stated, 12.0)
    assert model.rates.requests.per_s == pytest.approx(80.0, rel=0.25)
    assert model.rates.tokens.per_s == pytest.approx(10_000 * HEADROOM * model.ease.factor)


def test_where_requests_are_stated_429s_only_ease_that_rate() -> None:
    model, stated = Model("life"), Limits(requests_per_minute=6000)
    taken(model, 100, 10, stated)
    for at in (10.0, 12.0):
        model.learn(Feedback(throttled=1), stated, at)
    assert model._found.per_s is None
    assert model.rates.requests.per_s == pytest.approx(100 * HEADROOM * model.ease.factor)
    assert model.ease.factor < 0.85
