"""Where engines and classifiers go, on paper."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.scheduling.demand import demand, engine, loads
from emoray.scheduling.packing import FreeResources, fits, seated
from emoray.scheduling.refusal import refusal
from emoray.scheduling.resources import Assignment, Bundle, Load, Node, PoolSize, in_words
from emoray.spec.models import Hosted, Vllm
from emoray.spec.readers import GoEmotionsReader, JudgeReader

H100 = Node(32, 8, "H100")


def entry(**settings: Any) -> Vllm:
    return Vllm(**{"host": "vllm", "name": "m", "id": "some/model"} | settings)


def reader(**settings: Any) -> GoEmotionsReader:
    return GoEmotionsReader(kind="goemotions", name="r", **settings)


def test_an_engine_on_one_gpu_takes_the_share_that_its_memory_takes() -> None:
    assert engine(entry(gpu_memory_utilization=0.8)) == (Bundle(1, 0.8),)
    assert engine(entry(device="cpu", cpus=4)) == (Bundle(4),)


def test_tensor_parallel_stays_inside_a_node() -> None:
    assert engine(entry(tensor_parallel_size=4), [H100]) == (Bundle(1, 4),)


def test_pipeline_stages_share_a_node_that_holds_them_and_spread_where_none_does() -> None:
    stages = entry(tensor_parallel_size=2, pipeline_parallel_size=2)

    assert engine(stages, [Node(32, 4)]) == (Bundle(1, 4),)
    assert engine(stages, [Node(32, 2), Node(32, 2)]) == (Bundle(1, 2), Bundle(0, 2))
    assert not fits(engine(stages, [Node(32, 2)]), [Node(32, 1), Node(32, 1), Node(32, 2)])


def test_one_gpu_serves_an_engine_and_a_classifier_beside_it() -> None:
    one = [Node(8, 1, "A10G")]

    assert refusal(entry(gpu_memory_utilization=0.85), [reader(gpus=0.15)], one) is None
    assert refusal(entry(), [reader()], one) is None
    assert refusal(entry(gpu_memory_utilization=0.9), [reader(gpus=0.2)], one) == (
        "model 'm' leaves no room on a GPU for the readers; give them gpus: 0, which reads on CPUs"
    )


@pytest.mark.parametrize(
    ("settings", "nodes", "said"),
    [
        (
            {},
            [Node(8)],
            "needs 1 CPU and 0.9 GPUs, but the cluster has 8 CPUs; a small model can be tried with device: cpu",
        ),
        ({"accelerator": "H200"}, [H100], "asks for H200, but the cluster has H100"),
        (
            {"tensor_parallel_size": 4},
            [Node(32, 2), Node(32, 2)],
            "shares every layer among 4 GPUs of one node, but the largest has 2; lower it, and raise pipeline",
        ),
        ({"tensor_parallel_size": 4, "replicas": 3}, [H100], "and its readers need 3.5 CPUs and 12 GPUs, but the clu"),
        ({"pipeline_parallel_size": 3}, [Node(8, 1), Node(8, 1)], "and its readers need 1.5 CPUs and 3 GPUs"),
        (
            {"device": "cpu", "cpus": 16},
            [Node(8), Node(8)],
            "and its readers need 16.5 CPUs, but the cluster has 16 CPUs on 2 ",
        ),
        ({"resources": {"rack": 1}, "device": "cpu"}, [Node(8)], "asks for the resource 'rack', which no node of the"),
    ],
)
def test_what_no_cluster_of_these_nodes_can_hold_is_refused_in_a_sentence(
    settings: dict[str, Any], nodes: list[Node], said: str
) -> None:
    assert (refusal(entry(**settings), [reader()], nodes) or "").startswith(f"model 'm' {said}")


def test_a_range_of_replicas_asks_for_the_least() -> None:
    assert refusal(entry(tensor_parallel_size=4, replicas=[2, 9]), [reader()], [H100]) is None


def test_fractions_lie_on_one_gpu() -> None:
    two = [Node(8, 2)]

    assert fits([Bundle(0, 0.6), Bundle(0, 0.6), Bundle(0, 0.4), Bundle(0, 0.4)], two)
    assert not fits([Bundle(0, 0.6)] * 3, two)
    assert not fits([Bundle(0, 2), Bundle(0, 0.1)], two)


@given(st.lists(st.sampled_from([0.1, 0.3, 0.5, 0.7, 1.0, 2.0]), max_size=14), st.randoms(use_true_random=False))
def test_seats_that_were_granted_can_be_taken_again_in_any_order_and_leave_what_was_free(
    shares: list[float], random: Random
) -> None:
    nodes = [Node(8, 2, name="a"), Node(8, 3, name="b")]
    rooms, again = FreeResources(nodes), FreeResources(nodes)
    granted = [seat for share in shares for seat in rooms.place([Bundle(0.5, share)]) or ()]
    random.shuffle(granted)

    assert all(again.take(seat) for seat in granted)
    left = [Bundle(0.5, share) for share in (1.0, 0.7, 0.5, 0.3, 0.1)] * 5
    assert [again.place([bundle]) is None for bundle in left] == [rooms.place([bundle]) is None for bundle in left]


def test_a_seat_on_a_node_that_has_gone_cannot_be_taken_again() -> None:
    assert not FreeResources([H100]).take(Assignment(Bundle(1, 1), "gone", (0,)))


def test_engines_are_packed_and_what_needs_no_gpu_is_spread() -> None:
    nodes = [Node(8, 4, name="a"), Node(8, 4, name="b"), Node(8, name="c")]
    rooms = FreeResources(nodes)

    first, second = rooms.place([Bundle(1, 2)]), rooms.place([Bundle(1, 2)])

    assert (first, second) == ((Assignment(Bundle(1, 2), "a", (0, 1)),), (Assignment(Bundle(1, 2), "a", (2, 3)),))
    assert [seat.node for seat in rooms.place([Bundle(2), Bundle(2), Bundle(2)]) or ()] == ["c", "b", "a"]


def test_a_judge_of_its_own_engine_is_placed_like_one() -> None:
    judge = JudgeReader(kind="judge", name="j", model=entry(tensor_parallel_size=2, replicas=[1, 3]))

    assert demand(entry(), [judge], [H100]).readers["j"] == PoolSize((Bundle(1, 2),), 1, 1)
    assert "need 2 CPUs and 2.9 GPUs" in (refusal(entry(), [judge], [Node(8, 2)]) or "")


def test_a_lane_loads_the_weights_of_its_model_and_of_its_judge_each_where_it_sits() -> None:
    judge = JudgeReader(kind="judge", name="j", model=entry(id="some/judge", revision="v2"))
    large = entry(tensor_parallel_size=8, replicas=2)
    rooms = FreeResources([Node(32, 8, name="a"), Node(32, 8, name="b"), Node(32, 1, name="c")])

    grant = seated(demand(large, [reader(), judge]), rooms)

    assert grant is not None
    assert loads(large, [reader(), judge], grant) == [
        Load("some/model", None, "a"),
        Load("some/model", None, "b"),
        Load("some/judge", "v2", "c"),
    ]
    settled = replace(grant, speakers=())
    assert loads(None, [reader(), judge], settled) == [Load("some/judge", "v2", "c")]


def test_an_api_needs_no_gpu_and_a_settled_model_nothing_but_its_readers() -> None:
    hosted = Hosted(host="hosted_api", name="api", id="x", account="a", actors=3)

    assert str(demand(hosted, [reader()], [])) == "0.8 CPUs"
    assert demand(None, [reader()], []).speakers is None
    assert refusal(None, [reader(cpus=9)], [Node(8)]) == (
        "the readers need 9 CPUs, but the cluster has 8 CPUs; submit to a larger cluster, or ask for less in the spec"
    )


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (Node(1, 1), "1 CPU and 1 GPU"),
        (Node(1, 1, accelerator="H200"), "1 CPU and 1 H200 GPU"),
        (Node(0.5, 0.1), "0.5 CPUs and 0.1 GPUs"),
        (Node(16, 2, accelerator="H200"), "16 CPUs and 2 H200 GPUs"),
    ],
)
def test_an_amount_of_one_is_one(node: Node, said: str) -> None:
    assert in_words([node]) == said


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 8)), min_size=1, max_size=6))
def test_the_nodes_hold_exactly_themselves(sizes: list[tuple[int, int]]) -> None:
    nodes = [Node(cpus, gpus) for cpus, gpus in sizes]
    most = max(node.cpus for node in nodes)

    assert fits([Bundle(min(node.cpus for node in nodes) / 2, node.gpus) for node in nodes], nodes)
    assert not fits([Bundle(most + 1)], nodes)
    assert not fits([Bundle(0, 1)] * (1 + int(sum(node.gpus for node in nodes))), nodes)
