"""How many asks are under way: few enough that they are answered in time, as many as the entry says where they are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiohttp import web

from emoray.hosts.hosted_api import HostedApi
from emoray.hosts.places import FIRST, Places
from emoray.rate_limits.local import LocalLimiter
from emoray.rehearsal.behaviour import Behaviour
from emoray.rehearsal.faults import Fault, Plan
from emoray.rehearsal.provider import Provider
from emoray.rehearsal.responses import completion
from emoray.spec.accounts import Account, Retry
from tests.hosts.test_hosted_api import asks, entry, kinds, serving

TIMEOUT_S = 90.0


@contextmanager
def lanes(provider: Provider, *, timeout_s: float, actors: int = 1, in_flight: int = 256) -> Iterator[list[HostedApi]]:
    account, limiter = Account(base_url=provider.base_url), LocalLimiter()
    retry = Retry(attempts=20, timeout_s=timeout_s, first_wait_s=0.05, longest_wait_s=1.0)
    hosts = [HostedApi(entry(in_flight=in_flight), account, retry, limiter) for _ in range(actors)]
    yield hosts
    for host in hosts:
        host.close()


@pytest.mark.parametrize(
    ("slots", "latency_s", "n", "timeout_s"),
    [
        (4, 0.25, 120, 3.0),  # in all 7.5 s
        *(
            pytest.param(*close, 1.0, marks=pytest.mark.campaign)
            for close in ((4, 0.1, 120), (1, 0.1, 30), (4, 0.4, 40))
        ),
    ],
)
def test_a_server_with_few_slots_is_asked_no_more_than_twice_as_often_as_need_be_and_answers_everything(
    slots: int, latency_s: float, n: int, timeout_s: float
) -> None:
    with (
        Provider(Behaviour(slots=slots, latency_s=latency_s)) as provider,
        lanes(provider, timeout_s=timeout_s) as (host,),
    ):
        assert kinds(list(host.generate(asks(n)))) == {"answer": n}
        assert provider.counters.requests <= 2 * n


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize(("slots", "n"), [(2, 40), (1, 15)])
def test_a_server_that_refuses_what_it_has_no_slot_for_is_asked_no_more_than_twice_as_often_and_answers_everything(
    slots: int, n: int, resets: bool
) -> None:
    asked, under_way = 0, 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked, under_way
        body = await request.json()
        asked += 1
        if under_way >= slots and resets:
            assert request.transport is not None
            request.transport.abort()
        if under_way >= slots:
            busy = {"message": "all slots busy", "type": "unavailable_error", "code": 503}
            return web.json_response({"error": busy}, status=503)
        under_way += 1
        await asyncio.sleep(0.15)
        under_way -= 1
        return web.json_response(completion(body, "Yes.", ""))

    with serving(answer) as url:
        retry = Retry(attempts=8, first_wait_s=0.5)
        host = HostedApi(entry(in_flight=256), Account(base_url=f"{url}/v1"), retry, LocalLimiter())
        replies = list(host.generate(asks(n)))
        host.close()
    assert kinds(replies) == {"answer": n}
    assert asked <= 2 * n


@pytest.mark.campaign
def test_a_server_that_hangs_for_a_while_gets_few_at_once_then_and_as_many_as_before_when_it_is_back() -> None:
    plan = Plan(schedule=[(101, 170, Fault.HANG)])
    with Provider(Behaviour(plan)) as provider, lanes(provider, timeout_s=0.5, in_flight=64) as (host,):
        assert kinds(list(host.generate(asks(400)))) == {"answer": 400}
        assert 400 + 70 <= provider.counters.requests <= 2 * 400
        provider.counters.peak_in_flight = 0
        list(host.generate(asks(600)[400:]))
        assert provider.counters.peak_in_flight > 16


def answer(places: Places, n: int, took_s: float, now: float) -> float:
    """So many answers, as many at once as there are places; the time then."""
    while n > 0:
        at_once = min(n, places.limit)
        for _ in range(at_once):
            places.asked()
        for _ in range(at_once):
            places.over()
            places.answered(now, now + took_s)
        n, now = n - at_once, now + took_s
    return now


def test_a_lane_begins_with_a_few_and_has_all_places_after_the_first_quick_answers() -> None:
    places = Places(256, TIMEOUT_S)
    assert places.limit == FIRST
    answer(places, FIRST, 0.5, 0.0)
    assert places.limit == 256


def test_answers_that_take_long_however_many_are_asked_are_no_queue() -> None:
    places = Places(256, TIMEOUT_S)
    answer(places, 1000, 0.7 * TIMEOUT_S, 0.0)
    assert places.limit == 256


def test_a_server_that_works_off_one_after_the_other_gets_no_more_than_it_answers_in_time() -> None:
    places, now = Places(256, TIMEOUT_S), 0.0
    for _ in range(60):
        for _ in range(places.limit):
            places.asked()
        for place in range(places.limit):
            places.over()
            places.answered(now, now + 1.0 * (place + 1))
        now += places.limit
    assert 0.25 * TIMEOUT_S < places.limit < TIMEOUT_S


def test_asks_that_are_late_together_leave_as_many_places_as_were_answered_in_time_or_one() -> None:
    places = Places(256, TIMEOUT_S)
    now = answer(places, 300, 1.0, 0.0)
    for wave in (1, 2):  # in the second nothing is answered any more
        for _ in range(200):
            places.late(now + (wave - 1) * TIMEOUT_S, now + wave * TIMEOUT_S + 0.1)
        assert places.limit < 64 / wave
    assert places.limit == 1
    now = answer(places, 1, 1.0, now + 3 * TIMEOUT_S)
    assert 1 < places.limit < 256
    answer(places, 100, 1.0, now)
    assert places.limit == 256


def test_one_late_ask_among_many_quick_ones_is_an_accident() -> None:
    places, now = Places(64, TIMEOUT_S), 0.0
    for _ in range(50):
        asked_at, now = now, answer(places, 100, 1.0, now)
        places.late(asked_at, now)
    assert places.limit == 64


def test_one_refusal_in_a_hundred_takes_no_place_away() -> None:
    places = Places(256, TIMEOUT_S)
    now = answer(places, 300, 0.5, 0.0)
    for _ in range(200):
        for _ in range(256):
            places.asked()
        for i in range(256):
            places.over()
            places.turned_away(now, now + 0.01) if i < 3 else places.answered(now, now + 0.5)
        now += 0.5
        assert places.limit == 256


def test_a_lane_has_all_places_again_soon_after_a_server_refused_everything_for_a_while() -> None:
    places = Places(256, TIMEOUT_S)
    now = answer(places, 300, 0.5, 0.0)
    for _ in range(100):
        waiting = min(256, places.limit)
        for _ in range(waiting):
            places.asked()
        for _ in range(waiting):
            places.over()
            places.turned_away(now, now + 0.01)
        now += 1.0
    assert places.limit <= FIRST
    back = answer(places, 2000, 0.5, now)
    assert places.limit == 256
    assert back - now < 20.0


def test_a_wave_of_late_asks_cuts_once() -> None:
    places = Places(256, TIMEOUT_S)
    now = answer(places, 300, 1.0, 0.0)
    for _ in range(40):
        places.answered(now, now + 0.6 * TIMEOUT_S)
    for _ in range(100):
        places.late(now, now + TIMEOUT_S)
    assert places.limit >= 10


def test_places_are_given_in_turn_and_a_place_of_somebody_who_left_is_given_on() -> None:
    async def taken() -> tuple[list[int], int]:
        places, order = Places(1, TIMEOUT_S), list[int]()

        async def take(number: int) -> None:
            await places.enter()
            order.append(number)
            places.leave()

        await places.enter()
        waiting = [asyncio.create_task(take(number)) for number in range(5)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        places.leave()
        waiting[2].cancel()  # it may have been given the place already
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.wait_for(places.enter(), 10)
        return order, places.limit

    order, limit = asyncio.run(taken())
    assert order == sorted(order)
    assert {0, 3, 4} <= set(order)
    assert limit == 1


def test_who_asks_again_goes_before_all_new_ones_and_in_turn() -> None:
    async def taken() -> list[int]:
        places, order = Places(1, TIMEOUT_S), list[int]()

        async def take(number: int, *, again: bool) -> None:
            await places.enter(again=again)
            order.append(number)
            places.leave()

        await places.enter()
        waiting = [asyncio.create_task(take(number, again=number >= 3)) for number in range(6)]
        await asyncio.sleep(0)
        waiting[4].cancel()
        places.leave()
        await asyncio.gather(*waiting, return_exceptions=True)
        return order

    assert asyncio.run(taken()) == [3, 5, 0, 1, 2]


def test_while_a_lane_doubts_one_at_a_time_is_asked_after_the_pause() -> None:
    async def held() -> tuple[list[float], float]:
        loop, places, began = asyncio.get_running_loop(), Places(8, TIMEOUT_S), list[float]()

        async def take() -> None:
            await places.enter()
            began.append(loop.time())

        until = loop.time() + 0.05
        places.hold(until)
        waiting = [asyncio.create_task(take()) for _ in range(3)]
        while not began:
            await asyncio.sleep(0.005)
        for _ in range(10):
            await asyncio.sleep(0)
        alone = len(began)
        places.answered(loop.time(), loop.time())
        await asyncio.gather(*waiting)
        assert alone == 1
        return began, until

    began, until = asyncio.run(held())
    assert min(began) >= until
