"""An engine that dies whenever it starts: Ray would start it again for ever."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from emoray.rehearsal.engine import MODULE
from emoray.store import RunFolder
from emoray.stream.ledger import LaneLedger, Verdict
from tests.stream.conftest import Run, study

SAID = {"answered": 1, "failed": {}, "prompt_tokens": 1, "completion_tokens": 1, "cost_usd": 0.0}


def test_a_speaker_that_dies_again_and_again_before_a_cell_is_settled_ends_its_lane() -> None:
    ledger = LaneLedger()

    assert [ledger.starting("a") for _ in range(6)] == [True] * 5 + [False]

    assert str(ledger.tally().down).startswith("its actor died 5 times before another cell was settled")
    assert not ledger.starting("b")  # nobody loads a model for a lane that is over


def test_a_speaker_may_die_as_often_as_it_likes_while_cells_are_settled() -> None:
    ledger = LaneLedger()

    for _ in range(50):
        assert ledger.starting("a")
        ledger.said(SAID)


def test_a_replica_that_cannot_start_again_is_tried_again_and_one_that_never_could_ends_the_lane() -> None:
    never, once = LaneLedger(), LaneLedger()
    once.ready()

    assert never.cannot_start("no such model")
    assert not once.cannot_start("out of memory")

    assert never.tally().down == "no such model"
    assert once.tally().down is None
    assert [once.starting("a") for _ in range(6)] == [True] * 5 + [False]
    assert str(once.tally().down).endswith("5 times before another cell was settled; out of memory")


def test_a_reader_that_dies_at_every_start_ends_its_lane_and_the_others_readers_go_on() -> None:
    ledger = LaneLedger()
    for _ in range(5):
        assert ledger.starting("a", "judge")
        ledger.said(SAID)  # what is answered meanwhile does not help it

    assert not ledger.starting("a", "judge")
    assert ledger.tally().down == (
        "the actor of judge died 5 times before another cell was read; -v shows what Ray saw of it"
    )
    assert ledger.starting("b", "other")  # what was answered is read


def test_a_lane_that_is_stopped_has_asked_all_as_soon_as_what_was_begun_is_settled() -> None:
    ledger = LaneLedger()
    ledger.found(8)
    ledger.begin("first", 2)
    ledger.begin("first", 2)  # Ray runs it again

    ledger.stop("its deadline has passed")

    assert ledger.begin("second", 2) is Verdict.STOP
    ledger.said(SAID)
    assert not ledger.tally().asked_out
    ledger.said(SAID)
    assert ledger.tally().asked_out


def test_a_block_that_a_reader_had_begun_is_resumed_and_after_the_end_none_is() -> None:
    ledger = LaneLedger()
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
    run: Run, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    with _silent_provider() as base_url, _killed_when_seen(base_url) as killed:
        lanes = f"- {{name: dies, host: rehearsed, id: x, base_url: {base_url}}}\n- {{name: a, host: scripted}}"
        assert run(study(lanes)) == 3

    assert len(killed) >= 5
    assert "dies: its actor died 5 times before another cell was settled" in capsys.readouterr().err
    assert folder.answers("dies").counts().answered == 0
    assert folder.answers("a").counts().answered == 6


@contextmanager
def _silent_provider() -> Iterator[str]:
    """Takes a connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"


@contextmanager
def _killed_when_seen(base_url: str) -> Iterator[list[int]]:
    """kill -9 for every engine of this provider, as soon as it runs."""
    killed: list[int] = []
    done = threading.Event()

    def hunt() -> None:
        while not done.wait(0.05):
            for process in psutil.process_iter(["pid", "cmdline"]):
                words = process.info["cmdline"] or []
                if MODULE in words and base_url in words and process.pid not in killed:
                    process.kill()
                    killed.append(process.pid)

    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        yield killed
    finally:
        done.set()
        hunter.join()
