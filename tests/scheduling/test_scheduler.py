"""Who runs when, on paper: a night in simulated time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoray.scheduling.packing import FreeResources
from emoray.scheduling.resources import Allocation, Bundle, Demand, Node, PoolSize
from emoray.scheduling.scheduler import LaneRequest, Scheduler, seconds_until

ONE_NODE = [Node(32, 8, name="n")]
HEAD = [Node(4, 0, name="head")]
NEVER = bool  # bool() is False
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=timezone(timedelta(hours=1)))


def lane(
    name: str,
    gpus: float = 0.0,
    *,
    reads_on: float = 0.0,  # GPUs of its reader
    most: int = 1,
    priority: int = 0,
    deadline: float | None = None,
) -> LaneRequest:
    needs = Demand(PoolSize((Bundle(1.0 if gpus else 0.1, gpus),), 1, most), {"r": PoolSize((Bundle(0.1, reads_on),))})
    return LaneRequest(name, lambda _: needs, priority, deadline)


def started(scheduler: Scheduler, now: float, nodes: Sequence[Node] = ONE_NODE) -> list[str]:
    return list(scheduler.turn(nodes, now))


def test_api_lanes_start_at_once_and_the_largest_model_first() -> None:
    scheduler = Scheduler([lane("small", 2), lane("large", 8), lane("api")])

    assert started(scheduler, 0) == ["api", "large"]
    scheduler.end("large")
    assert started(scheduler, 1) == ["small"]


def test_an_api_whose_reader_takes_a_share_of_a_gpu_starts_first_where_that_leaves_room_for_any_other() -> None:
    """Limits make it the longest lane of a night, so it must not begin when all the others have ended."""
    requests = [*(lane(f"m{i}", 1) for i in range(6)), lane("large", 3), lane("api", reads_on=0.1)]

    assert started(Scheduler(requests), 0, [Node(32, 4, name="n")]) == ["api", "large"]
    assert started(Scheduler(requests), 0, [Node(32, 3, name="n")]) == ["large"]


def test_smaller_lanes_fill_the_gaps() -> None:
    scheduler = Scheduler([lane("a", 5), lane("b", 4), lane("c", 3), lane("d", 1)])

    assert started(scheduler, 0) == ["a", "c"]
    assert scheduler.waiting() == ["b", "d"]


def test_a_lane_that_has_waited_is_not_starved_by_smaller_ones() -> None:
    """Without a reservation there would always be another small lane on some of the GPUs that `large` needs."""
    scheduler = Scheduler([lane("first", 8), lane("large", 7), *(lane(f"s{i}", 2) for i in range(6))], patience_s=100)
    assert started(scheduler, 0) == ["first"]
    scheduler.end("first")
    grown = [Node(32, 6, name="n")]  # a GPU node came back smaller: `large` does not fit, and keeps nothing
    assert started(scheduler, 200, grown) == ["s0", "s1", "s2"]
    scheduler.end("s0")

    assert started(scheduler, 201) == []  # two are free, and another small one would fit
    scheduler.end("s1")
    scheduler.end("s2")
    assert started(scheduler, 202) == ["large"]


def test_what_can_run_beside_the_one_that_waits_does_not_wait_with_it() -> None:
    scheduler = Scheduler([lane("running", 6), lane("large", 4), lane("beside", 3)], patience_s=0)
    assert started(scheduler, 0) == ["running"]
    smaller = [Node(32, 9, name="n")]

    assert started(scheduler, 1, smaller) == ["beside"]  # 4 + 3 fit into 9 once the first has ended
    scheduler.end("running")
    assert started(scheduler, 2, smaller) == ["large"]


def test_a_lower_priority_never_takes_what_a_higher_one_waits_for() -> None:
    scheduler = Scheduler([lane("first", 6, priority=2), lane("urgent", 4, priority=1), lane("later", 2)])

    assert started(scheduler, 0) == ["first", "later"]  # it fits beside: nothing is taken from anybody
    scheduler = Scheduler([lane("first", 6, priority=2), lane("urgent", 8, priority=1), lane("later", 2)])
    assert started(scheduler, 0) == ["first"]
    scheduler.end("first")
    assert started(scheduler, 1) == ["urgent"]


def test_a_lane_that_has_asked_all_keeps_only_its_readers() -> None:
    scheduler = Scheduler([lane("a", 8), lane("b", 8)])
    assert started(scheduler, 0) == ["a"]
    assert scheduler.standing() == {"a": "asks", "b": "waits for 1.1 CPUs and 8 GPUs, held by a"}

    scheduler.hand_back("a")

    assert started(scheduler, 1) == ["b"]
    assert scheduler.standing() == {"a": "reads", "b": "asks"}


def test_a_lane_waits_for_a_node_and_starts_when_it_has_joined() -> None:
    scheduler = Scheduler([lane("a", 8)])
    assert started(scheduler, 0, HEAD) == []
    assert scheduler.standing() == {"a": "waits for 1.1 CPUs and 8 GPUs, which the cluster does not have now"}
    assert scheduler.wanted() == [Bundle(1, 8), Bundle(0.1)]

    assert started(scheduler, 1, [*HEAD, *ONE_NODE]) == ["a"]
    assert scheduler.wanted() == []


@pytest.mark.parametrize("now", [1, 2, 400, 1000])
def test_lanes_that_share_gpus_keep_their_seats_and_leave_a_free_node_to_who_needs_it_whole(now: float) -> None:
    """Packed anew in the order of the spec, 0.3, 0.5, 0.5 and 0.7 do not fit on the two GPUs that hold them."""
    shares = {"a": 0.3, "b": 0.5, "c": 0.5, "d": 0.7}
    scheduler = Scheduler([*(lane(name, share) for name, share in shares.items()), lane("large", 4)])
    assert sorted(started(scheduler, 0, [Node(32, 2, name="n")])) == list(shares)

    assert started(scheduler, now, [Node(32, 2, name="n"), Node(32, 4, name="free")]) == ["large"]


def test_what_a_dead_nodes_actors_cannot_use_is_not_kept_for_them() -> None:
    nodes = [Node(8, 4, name="x"), Node(8, 4, name="y"), Node(8, 1, name="small")]
    both = Demand(PoolSize((Bundle(1, 4),), 2, 2), {})
    scheduler = Scheduler([LaneRequest("both", lambda _: both), lane("little", 1), lane("next", 1)])
    assert started(scheduler, 0, nodes) == ["both", "little"]
    scheduler.end("little")

    assert started(scheduler, 1, nodes[1:]) == ["next"]  # an engine of `both` waits for another node of four


def test_the_actors_of_a_node_that_left_have_the_first_choice_of_what_is_free() -> None:
    two = [Node(8, 4, name="x"), Node(8, 4, name="y")]
    scheduler = Scheduler([lane("a", 4), lane("b", 4), lane("c", 1)])
    first = scheduler.turn(two, 0)
    assert list(first) == ["a", "b"]
    left = [node for node in two if node.name != first["a"].nodes[0]]

    assert started(scheduler, 1, left) == []
    scheduler.end("b")
    assert started(scheduler, 2, left) == []  # `a` has moved there
    scheduler.end("a")
    assert started(scheduler, 3, left) == ["c"]


def test_a_lane_that_waits_will_likely_sit_where_it_would_were_nobody_else_there() -> None:
    scheduler = Scheduler([lane("a", 8), lane("b", 8), lane("huge", 16)])
    assert started(scheduler, 0) == ["a"]

    assert scheduler.waiting() == ["huge", "b"]
    assert scheduler.likely("huge") is None
    likely = scheduler.likely("b")
    assert likely is not None
    assert likely.nodes == ["n"]


def test_what_the_cluster_has_lost_is_given_up_after_a_while_but_not_while_anything_runs() -> None:
    scheduler = Scheduler([lane("a", 8), lane("b", 8), lane("api")], patience_s=100)
    started(scheduler, 0)
    scheduler.end("a")
    assert started(scheduler, 500, HEAD) == []
    assert scheduler.hopeless(1000, grows=NEVER) == {}
    scheduler.end("api")
    started(scheduler, 1000, HEAD)

    assert scheduler.hopeless(1099, grows=NEVER) == {}
    assert scheduler.hopeless(1100, grows=NEVER) == {"b": "the cluster has lost the nodes that it needs"}


def test_a_cluster_that_grows_has_an_hour_to_do_so() -> None:
    """Right after `ray up` there is only a head; the autoscaler has been asked, and a machine takes its time."""
    scheduler = Scheduler([lane("large", 4)])
    assert started(scheduler, 0, HEAD) == []
    assert scheduler.wanted() != []

    assert scheduler.hopeless(3599, grows=lambda: True) == {}
    assert scheduler.hopeless(3600, grows=lambda: True) == {
        "large": "in 60 minutes the cluster has not grown to what it needs"
    }


def test_a_range_of_engines_takes_what_is_free_and_may_grow_where_nobody_waits() -> None:
    grant = Scheduler([lane("a", 1, most=4)]).turn([Node(32, 2, name="n")], 0)["a"]
    assert (len(grant.speakers), grant.most) == (2, 4)

    assert "a" not in Scheduler([lane("a", 1, most=4), lane("b", 3)]).turn([Node(32, 3, name="n")], 0)

    both = Scheduler([lane("a", 1, most=4), lane("b", 2)]).turn([Node(32, 4, name="n")], 0)
    assert (len(both["a"].speakers), both["a"].most) == (2, 4)


def test_a_range_does_not_grow_into_what_another_waits_for() -> None:
    grants = Scheduler([lane("a", 1, most=8), lane("b", 6, priority=1), lane("c", 5, priority=1)]).turn(ONE_NODE, 0)

    assert list(grants) == ["b", "a"]
    assert (len(grants["a"].speakers), grants["a"].most) == (2, 2)


def test_a_deadline_is_told_once() -> None:
    scheduler = Scheduler([lane("a", 8, deadline=60), lane("b", 8, deadline=60), lane("c", 8)])
    started(scheduler, 0)
    assert scheduler.late(59) == []
    scheduler.end("a")

    assert scheduler.late(60) == ["b"]
    assert scheduler.late(61) == []


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine's clock is Berlin's."""
    with monkeypatch.context() as here:
        here.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(("evening", "hours"), [((10, 23), 9), ((10, 24), 10), ((10, 25), 9), ((3, 28), 8)])
def test_a_deadline_on_the_clock_knows_when_clocks_change(evening: tuple[int, int], hours: float, berlin: None) -> None:
    assert seconds_until("07:00", datetime(2026, *evening, 22)) == hours * 3600


def test_a_deadline_in_the_hour_that_comes_twice_is_the_next_of_its_name(berlin: None) -> None:
    second = datetime(2026, 10, 25, 2, 30, fold=1)

    assert seconds_until("02:45", second) == 15 * 60
    assert seconds_until("02:15", second) == 23.75 * 3600


@pytest.mark.parametrize(
    ("deadline", "seconds"),
    [("45s", 45), ("90min", 5400), ("1.5h", 5400), ("2d", 172800), ("13:30", 5400), ("12:00", 86400), ("7:00", 68400)],
)
def test_a_deadline_is_a_time_from_the_start_or_on_the_clock(deadline: str, seconds: float) -> None:
    assert seconds_until(deadline, NOON) == seconds


GPUS = st.sampled_from([0, 0.3, 0.5, 0.7, 1, 2, 4, 7])
LANES = st.lists(st.tuples(GPUS, st.sampled_from([0, 0.1]), st.integers(0, 2), st.integers(1, 9)), max_size=12)


@given(LANES, st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_every_lane_that_fits_runs_in_the_end_and_no_gpu_is_given_twice(
    lanes: list[tuple[float, float, int, int]], nodes: int
) -> None:
    cluster = [Node(64, 8, name=str(place)) for place in range(nodes)]
    requests = [
        lane(str(place), gpus, reads_on=share, priority=priority)
        for place, (gpus, share, priority, _) in enumerate(lanes)
    ]
    scheduler, running, ran = Scheduler(requests, patience_s=3), dict[str, int](), dict[str, Allocation]()
    for now in range(sum(lasts for *_, lasts in lanes) + 1):
        for name, ends in list(running.items()):
            if ends <= now:
                scheduler.end(name)
                del running[name]
        for name, grant in scheduler.turn(cluster, now).items():
            running[name], ran[name] = now + lanes[int(name)][-1], grant
        crews = [crew for name in running for crew in (ran[name].speakers, *ran[name].readers.values())]
        seats = [seat for crew in crews for actor in crew for seat in actor]
        taken = Counter[tuple[str, int]]()
        for seat in seats:
            taken.update({(seat.node, gpu): min(seat.bundle.gpus, 1) for gpu in seat.gpus})
        assert max(taken.values(), default=0) <= 1.001
        waiting = scheduler.waiting()
        assert running or not waiting  # the cluster never idles while somebody waits

    assert set(ran) == {request.name for request in requests}


def test_rooms_are_not_changed_by_what_does_not_fit() -> None:
    rooms = FreeResources(ONE_NODE)

    assert rooms.place([Bundle(1, 4), Bundle(1, 5)]) is None
    assert rooms.place([Bundle(1, 8)]) is not None
