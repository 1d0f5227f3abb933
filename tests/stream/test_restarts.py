"""An engine that dies whenever it starts: Ray would start it again for ever."""

from __future__ import annotations

from functools import partial
from typing import Any

import psutil
import pytest

from emoray.hosts.rehearsed import MODULE
from emoray.rehearsal.behaviour import Behaviour
from emoray.rehearsal.provider import Provider
from emoray.run_folder.folder import RunFolder
from emoray.stream import lane
from emoray.stream.lane_state import LaneState, Verdict, open_lane_state
from tests.stream.conftest import Run, study

SAID = {"answered": 1, "failed": {}}


def test_a_speaker_that_dies_again_and_again_before_a_cell_is_settled_ends_its_lane() -> None:
    ledger = LaneState()

    assert [ledger.starting("a") for _ in range(6)] == [True] * 5 + [False]

    assert str(ledger.tally().down).startswith("its actor died 5 times before another cell was settled")
    assert not ledger.starting("b")  # nobody loads a model for a lane that is over


def test_a_speaker_may_die_as_often_as_it_likes_while_cells_are_settled() -> None:
    ledger = LaneState()

    for _ in range(50):
        assert ledger.starting("a")
        ledger.said("first", SAID)


def test_a_replica_that_cannot_start_again_is_tried_again_and_one_that_never_could_ends_the_lane() -> None:
    never, once = LaneState(), LaneState()
    once.ready()

    assert never.cannot_start("no such model")
    assert not once.cannot_start("out of memory")

    assert never.tally().down == "no such model"
    assert once.tally().down is None
    assert [once.starting("a") for _ in range(6)] == [True] * 5 + [False]
    assert str(once.tally().down).endswith("5 times before another cell was settled; out of memory")


def test_of_an_engine_that_dies_again_and_again_it_is_said_why() -> None:
    ledger = LaneState()
    for _ in range(5):
        assert ledger.starting("a")
        ledger.ready("a")
        ledger.dying("the vLLM engine died of RuntimeError: no kernel for head_dim=8")

    assert not ledger.starting("a")
    assert ledger.tally().down == (
        "its actor died 5 times before another cell was settled; the vLLM engine died of RuntimeError: no kernel for "
        "head_dim=8"
    )


def test_a_death_is_blamed_on_what_was_last_wrong_with_the_same_kind_of_actor_since_it_last_did_something() -> None:
    of_a_reader, of_an_earlier = LaneState(), LaneState()
    for ledger in (of_a_reader, of_an_earlier):
        ledger.ready("a")
        ledger.dying("the vLLM engine died of RuntimeError: no kernel for head_dim=8")
    of_an_earlier.said("first", SAID)

    assert [of_a_reader.starting("r", "judge") for _ in range(6)] == [True] * 5 + [False]
    assert [of_an_earlier.starting("a") for _ in range(6)] == [True] * 5 + [False]

    for ledger in (of_a_reader, of_an_earlier):
        assert str(ledger.tally().down).endswith("; -v shows what Ray saw of it")


def test_of_a_judge_whose_engine_dies_again_and_again_it_is_said_why_as_long_as_it_has_read_nothing_since() -> None:
    """And what another reader, or the speaker, last died of is not said of it."""
    ledger, read_since = LaneState(), LaneState()
    for one in (ledger, read_since):
        for _ in range(5):
            assert one.starting("a", "judge")
            one.ready("a", "judge")
            one.dying("the vLLM engine died of RuntimeError: no kernel for head_dim=8", "judge")
    ledger.read("other", 3)
    read_since.read("judge", 3)

    assert not ledger.starting("a", "judge")
    assert str(ledger.tally().down).endswith(
        "another cell was read; the vLLM engine died of RuntimeError: no kernel for head_dim=8"
    )
    assert [read_since.starting("a", "judge") for _ in range(6)] == [True] * 5 + [False]
    assert str(read_since.tally().down).endswith("; -v shows what Ray saw of it")


def test_a_reader_that_dies_at_every_start_ends_its_lane_and_the_others_readers_go_on() -> None:
    ledger = LaneState()
    for _ in range(5):
        assert ledger.starting("a", "judge")
        ledger.said("first", SAID)  # what is answered meanwhile does not help it

    assert not ledger.starting("a", "judge")
    assert ledger.tally().down == (
        "the actor of judge died 5 times before another cell was read; -v shows what Ray saw of it"
    )
    assert ledger.starting("b", "other")  # what was answered is read


def test_an_actor_loads_from_when_it_has_a_process_until_it_is_ready() -> None:
    ledger = LaneState()
    assert not ledger.tally().started

    for actor, reader in [("a", ""), ("b", ""), ("c", "judge"), ("a", "")]:
        assert ledger.starting(actor, reader)
    assert ledger.tally().started
    assert ledger.tally().loading == ["", "judge"]

    ledger.ready("a")
    assert ledger.tally().loading == ["", "judge"]
    ledger.ready("c", "judge")
    ledger.ready("b")
    assert ledger.tally().loading == []
    assert ledger.tally().speakers == 2


def test_what_a_model_or_a_reader_says_of_itself_at_its_start_is_kept_once() -> None:
    ledger = LaneState()
    for actor in "ab":
        ledger.ready(actor, "", {"top_k": 0}, ["it may think"])
        ledger.ready(actor, "judge", None, ["it may think"])
    assert ledger.tally().notes == [("", "it may think"), ("judge", "it may think")]


def test_a_lane_that_is_stopped_has_asked_all_as_soon_as_what_was_begun_is_settled() -> None:
    ledger = LaneState()
    ledger.found(0, 8)
    ledger.begin("first", 2)
    ledger.begin("first", 2)  # Ray runs it again

    ledger.stop("its deadline has passed")

    assert ledger.begin("second", 2) is Verdict.STOP
    ledger.said("first", SAID)
    assert not ledger.tally().asked_out
    ledger.said("first", SAID)
    assert ledger.tally().asked_out


def told(answered: int, **failed: int) -> dict[str, Any]:
    return SAID | {"answered": answered, "failed": failed}


def test_what_a_killed_speaker_had_written_and_not_told_counts_once_it_is_found() -> None:
    """Or its lane would hold the engines' GPUs until all is read."""
    ledger = LaneState()
    ledger.another_pass()
    ledger.found(0, 8)
    ledger.searched(0, 1)
    ledger.begin("block", 8)
    ledger.said("block", told(2, empty=1))

    assert ledger.begin("block", 8) is Verdict.RESUME
    ledger.resumed("block", 3)  # five have an answer, and three of them nobody had told of

    assert (ledger.tally().answered, ledger.tally().failed) == (5, {})
    assert not ledger.tally().asked_out
    ledger.said("block", told(2, empty=1))
    assert (ledger.tally().answered, ledger.tally().failed) == (7, {"empty": 1})
    assert ledger.tally().asked_out


def test_a_block_whose_cells_all_have_an_answer_counts_nothing_when_ray_makes_it_anew() -> None:
    ledger = LaneState()
    ledger.begin("block", 2)
    ledger.said("block", told(2))

    assert ledger.begin("block", 2) is Verdict.RESUME
    ledger.resumed("block", 0)

    assert ledger.tally().answered == ledger.tally().begun == 2


def test_a_slice_of_the_grid_that_a_lost_node_had_gone_through_counts_once() -> None:
    ledger = LaneState()
    for slice_, owed in [(0, 64), (0, 128), (512, 64), (0, 64), (0, 128)]:
        ledger.found(slice_, owed)

    assert ledger.tally().owed == 192


def test_in_another_pass_a_lane_has_asked_all_when_what_was_left_is_settled() -> None:
    """Ray gave up the first."""
    ledger = LaneState()
    for left in (8, 3):
        ledger.another_pass()
        assert not ledger.tally().asked_out  # nobody has looked yet
        ledger.found(0, left)
        ledger.searched(0, 1)
        ledger.begin("block", left)
        ledger.resumed("block", left)
        assert not ledger.tally().asked_out
        ledger.said("block", told(min(left, 5)))

    assert (ledger.tally().answered, ledger.tally().begun) == (8, 8)
    assert ledger.tally().asked_out


def test_a_block_that_a_reader_had_begun_is_resumed_and_after_the_end_none_is() -> None:
    ledger = LaneState()
    ledger.begin("key", 2)
    assert [ledger.begin_reading("r", "key") for _ in range(2)] == [Verdict.BEGIN, Verdict.RESUME]
    assert ledger.begin_reading("other", "key") is Verdict.BEGIN

    ledger.stop("its deadline has passed")
    assert ledger.begin_reading("r", "more") is Verdict.BEGIN  # what was asked is read

    ledger.close()
    assert ledger.begin_reading("r", "key") is Verdict.STOP
    assert not ledger.reads_on()


@pytest.mark.cluster
def test_an_engine_that_dies_at_every_start_ends_its_lane_with_a_sentence_and_the_others_go_on(
    run: Run, folder: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "open_lane_state", partial(open_lane_state, starts=2))  # each is a process that loads Ray
    killed: list[int] = []

    async def speak(body: dict[str, Any]) -> str:
        """kill -9 for the engine that asks."""
        killed.extend(process.pid for process in _engines(provider.base_url))
        for engine in _engines(provider.base_url):
            engine.kill()
        return "Nobody hears this."

    with Provider(Behaviour(), speak) as provider:
        lanes = (
            f"- {{name: dies, host: rehearsed, id: x, base_url: {provider.base_url}}}\n- {{name: a, host: scripted}}"
        )
        assert run(study(lanes)) == 3

    assert len(set(killed)) == 2
    assert "dies: its actor died 2 times before another cell was settled" in capsys.readouterr().err
    assert folder.answers("dies").counts().answered == 0
    assert folder.answers("a").counts().answered == 6


def _engines(base_url: str) -> list[psutil.Process]:
    """Those that ask this provider."""
    words = ((process, process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
    return [process for process, command in words if MODULE in command and base_url in command]
