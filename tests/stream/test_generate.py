"""How the actors of a lane share their host and their reader among the blocks that Ray has handed them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import ray

from emoray.hosts.factory import host_of
from emoray.hosts.protocol import Ask, HostDown, Reply
from emoray.readers.protocol import Reading
from emoray.run_folder import columns, directory, manifest
from emoray.run_folder.errors import StoreError
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.journal import Journal
from emoray.run_folder.probe import write_probe
from emoray.run_folder.spill import take_in
from emoray.spec.models import Local
from emoray.stream import generate
from emoray.stream.actor_context import Work, check_node, day_of_run, still_owed
from emoray.stream.admission import AdmissionGate
from emoray.stream.generate import GenerateActor
from emoray.stream.lane_state import LaneState, Verdict
from emoray.stream.read import _SEATS, ReadActor, _ReadBatcher
from emoray.stream.refuge import LaneRefuge
from emoray.study.outcomes import Answer
from tests import runs, tiny_models
from tests.disks import fill, small_disk


def until(there: Callable[[], bool]) -> None:
    """Lets the other threads go on."""
    while not there():
        threading.Event().wait(0.001)


def test_a_block_goes_in_as_soon_as_those_inside_no_longer_keep_the_host_full() -> None:
    turnstile, inside = AdmissionGate(), threading.Event()

    def third() -> None:
        with turnstile.turn(4, 4):
            inside.set()

    with turnstile.turn(4, 4) as first, turnstile.turn(4, 4):  # one filling of the host, and one ahead
        thread = threading.Thread(target=third)
        thread.start()
        until(lambda: len(turnstile._outside) == 1)
        assert not inside.is_set()
        first.answered()
        assert inside.wait()
    thread.join()


def test_blocks_go_in_in_their_order() -> None:
    turnstile, order = AdmissionGate(), list[int]()

    def go(number: int) -> None:
        with turnstile.turn(0, 1):  # one at a time
            order.append(number)

    with turnstile.turn(0, 1):
        threads = [threading.Thread(target=go, args=(number,)) for number in range(5)]
        for waiting, thread in enumerate(threads, 1):
            thread.start()
            until(lambda waiting=waiting: len(turnstile._outside) == waiting)  # type: ignore[misc]
    for thread in threads:
        thread.join()
    assert order == list(range(5))
    assert turnstile._open == 0


def test_a_block_gives_back_its_room_when_it_owes_less_than_it_has_and_when_it_is_given_up() -> None:
    turnstile = AdmissionGate()
    with turnstile.turn(4, 4) as turn:
        turn.asks(2)
        assert turnstile._open == 2
    turn.answered()  # the host answers still, though the block has been given up
    assert turnstile._open == 0


def block(rows: int) -> pa.Table:
    return pa.table({"answer": ["x"] * rows})


def test_blocks_that_wait_for_the_reader_are_read_as_one() -> None:
    together, sizes, go = _ReadBatcher(), list[int](), threading.Event()

    def read(table: pa.Table) -> Future[None]:
        sizes.append(table.num_rows)
        go.wait()
        done: Future[None] = Future()
        done.set_result(None)
        return done

    with ThreadPoolExecutor(8) as threads:
        calls = []
        for number in range(_SEATS):  # every seat is taken
            calls.append(threads.submit(together.read, block(1), read))
            until(lambda number=number: len(sizes) == number + 1)  # type: ignore[misc]
        calls += [threads.submit(together.read, block(10), read) for _ in range(4)]
        until(lambda: len(together._waiting) == 4)
        go.set()
        for call in calls:
            call.result().result()
    assert sizes == [1] * _SEATS + [40]


def test_what_a_reader_raises_reaches_everybody_whose_block_it_had() -> None:
    def read(table: pa.Table) -> Future[None]:
        raise ValueError("cannot read")

    with pytest.raises(ValueError, match="cannot read"):
        _ReadBatcher().read(block(3), read)


class OneIsSlow:
    """The last ask is answered when somebody lets it."""

    name, revision, engine, in_flight = "slow", None, None, 8

    def __init__(self) -> None:
        self.go = threading.Event()

    def generate(self, asks: Iterable[Ask]) -> Iterator[Reply]:
        *others, last = asks
        for ask in others:
            yield self._reply(ask)
        assert self.go.wait()
        yield self._reply(last)

    def close(self) -> None: ...

    @staticmethod
    def _reply(ask: Ask) -> Reply:
        return Reply(ask.key, Answer("said", "stop", 1, 1), datetime.now(UTC), 0.0)


def speaker_in(folder: RunFolder, ledger: LaneState) -> GenerateActor:
    """Outside Ray, and so without what it starts there."""
    speaker = GenerateActor.__new__(GenerateActor)
    speaker._journal = Journal(folder.answers("a"), "w", schema=columns.ANSWERS)
    speaker._work = Work(folder.uri, "a", "t", SimpleNamespace(said=SimpleNamespace(remote=ledger.said)))
    return speaker


def test_what_is_said_while_nobody_takes_it_on_becomes_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray holds up an actor whose rows wait to be read."""
    monkeypatch.setattr(generate, "_RELEASE_S", 0.01)
    folder, host = RunFolder(str(tmp_path)), OneIsSlow()
    with AdmissionGate().turn(host.in_flight, 6) as turn:
        speaking = speaker_in(folder, LaneState())._speak(host, columns.asked(runs.asked()[:6]), "block", turn)
        some = next(speaking).num_rows
        host.go.set()
        until(lambda: len(folder.answers("a").settled()) == 6)
        assert some + sum(table.num_rows for table in speaking) == 6


def test_a_slow_answer_does_not_hold_back_those_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "_RELEASE_S", 0.01)
    folder, host, ledger = RunFolder(str(tmp_path)), OneIsSlow(), LaneState()
    with AdmissionGate().turn(host.in_flight, 6) as turn:
        speaking = speaker_in(folder, ledger)._speak(host, columns.asked(runs.asked()[:6]), "block", turn)
        first = next(speaking)
        while first.num_rows < 5:
            first = pa.concat_tables([first, next(speaking)])
        assert len(folder.answers("a").settled()) == 5
        host.go.set()
        assert sum(table.num_rows for table in speaking) == 1
    assert ledger.tally().answered == 6


def told(ledger: LaneState) -> SimpleNamespace:
    """A ledger as an actor sees it, outside Ray."""
    names = ("said", "full", "put_aside", "lost", "down")
    return SimpleNamespace(**{name: SimpleNamespace(remote=getattr(ledger, name)) for name in names})


@pytest.mark.parametrize("ballast", [False, True])
def test_what_is_in_flight_when_a_disk_fills_up_is_received_and_kept(
    ballast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "_RELEASE_S", 0.01)
    monkeypatch.setattr(directory, "_BALLAST_BYTES", 300_000)
    monkeypatch.setenv("EMORAY_SPILL_DIR", str(tmp_path / "aside"))
    host, ledger = OneIsSlow(), LaneState()
    with small_disk(tmp_path / "disk", "1m") as disk, AdmissionGate().turn(host.in_flight, 6) as turn:
        folder = RunFolder(str(disk / "run"), begun=True)
        folder.create()
        folder.write_manifest({})
        if ballast:
            folder.lay_ballast()
        fill(disk / "filler")
        speaker = speaker_in(folder, ledger)
        speaker._work = speaker._work._replace(ledger=told(ledger))
        part = folder.answers("a")
        refuge = LaneRefuge(part, "t", told(ledger))
        speaker._journal = Journal(part, "w", schema=columns.ANSWERS, refuge=refuge)
        speaking = speaker._speak(host, columns.asked(runs.asked()[:6]), "block", turn)
        found = threading.Thread(target=lambda: handed_on.extend(speaking))
        handed_on: list[pa.Table] = []
        found.start()
        until(lambda: ledger.tally().down is not None)  # nothing more is asked, while one is in flight
        host.go.set()
        found.join()

        assert "there is no space left to write" in (ledger.tally().down or "")
        assert ledger.tally().lost == 0
        if ballast:
            assert len(part.settled()) == sum(table.num_rows for table in handed_on) == 6
            return
        assert (len(part.settled()), handed_on) == (0, [])
        assert sum(ledger.tally().aside.values()) == 6
        assert str(tmp_path / "aside") in ledger.tally().unwritten
        (disk / "filler").unlink()
        take_in(folder, ["t"])
        assert len(part.settled()) == 6


class EndsAfterAll(OneIsSlow):
    """As a host whose budget is spent: what was under way is answered."""

    def generate(self, asks: Iterable[Ask]) -> Iterator[Reply]:
        yield from map(self._reply, asks)
        raise HostDown("the budget is spent")


def test_what_was_said_before_a_host_went_down_is_durable_before_its_lane_ends(tmp_path: Path) -> None:
    folder, ledger, host = RunFolder(str(tmp_path)), LaneState(), EndsAfterAll()
    with AdmissionGate().turn(host.in_flight, 6) as turn:
        speaking = speaker_in(folder, ledger)._speak(host, columns.asked(runs.asked()[:6]), "block", turn)
        assert sum(table.num_rows for table in islice(speaking, 1)) == 6
        assert len(folder.answers("a").settled()) == 6
        with pytest.raises(HostDown, match="the budget is spent"):
            next(speaking)


class OneIsOdd(OneIsSlow):
    """What it says to one ask cannot become a row."""

    @staticmethod
    def _reply(ask: Ask) -> Reply:
        odd = Answer("half an emoji \ud83d", "stop", 2**70, 1, 0.25)
        return Reply(ask.key, odd if ask.key == runs.asked()[2].key else Answer("said"), datetime.now(UTC), 0.0)


def test_a_reply_that_cannot_become_a_row_is_one_failure_and_its_neighbours_are_kept(tmp_path: Path) -> None:
    folder, host, ledger = RunFolder(str(tmp_path)), OneIsOdd(), LaneState()
    host.go.set()
    with AdmissionGate().turn(host.in_flight, 6) as turn:
        said = pa.concat_tables(speaker_in(folder, ledger)._speak(host, columns.asked(runs.asked()[:6]), "block", turn))
    assert sorted(said["outcome"].to_pylist()) == [*["answer"] * 5, "malformed"]
    counts = folder.answers("a").counts()
    assert (counts.answered, dict(counts.failed), counts.cost_usd) == (5, {"malformed": 1}, 0.25)


class Odd:
    """A reader with a fault that nobody foresaw."""

    name, revision = "odd", None

    def read(self, texts: Sequence[str]) -> list[Reading]:
        return [Reading(None, labels=self.labels) for _ in texts]  # type: ignore[attr-defined]

    def close(self) -> None: ...


def test_a_fault_of_a_reader_that_nobody_foresaw_ends_its_lane_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside Ray, where what a call returns is there at once."""
    monkeypatch.setattr(ray, "get", lambda said: said)
    ledger, listener = LaneState(), ReadActor.__new__(ReadActor)
    listener._reader, listener._careful, listener._together = Odd(), False, _ReadBatcher()
    listener._work = Work(str(tmp_path), "a", "t", SimpleNamespace(down=SimpleNamespace(remote=ledger.down)))
    answers = pa.table({"key": ["0" * 32], "answer": ["hello"]})

    assert listener(answers) is answers

    said = ledger.tally().down
    assert said is not None
    assert re.fullmatch(
        r"reader 'odd' failed: AttributeError: 'Odd' object has no attribute 'labels' \(at test_generate.py:\d+\); "
        "this is a fault of emoray: please report it",
        said,
    )


def test_of_a_block_that_is_run_again_only_what_has_no_reading_is_read_again(tmp_path: Path) -> None:
    folder, cells = runs.begun(tmp_path), runs.asked()
    runs.feel(folder, cells[:3])
    runs.feel(folder, cells[3:4], error="unparsed: no")
    block, part = columns.asked(cells[:6]), folder.rows("r", "a")

    assert still_owed(block, Verdict.BEGIN, part).num_rows == 6
    assert still_owed(block, Verdict.RESUME, part)["key"].to_pylist() == [prompt.key for prompt in cells[3:6]]
    assert still_owed(block, Verdict.STOP, part).num_rows == 0


def test_an_actor_on_a_node_that_does_not_see_the_folder_as_the_driver_does_says_so(tmp_path: Path) -> None:
    shared, own = RunFolder(str(tmp_path / "shared")), RunFolder(str(tmp_path / "own"))
    mark = write_probe(shared)

    check_node(Work(shared.uri, "a", "attempt", None, mark=mark))
    with pytest.raises(StoreError, match=r"does not see .*/own/ as the driver does"):
        check_node(Work(own.uri, "a", "attempt", None, mark=mark))


def test_whenever_a_run_goes_on_its_chat_templates_tell_the_day_on_which_it_began(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    folder.write_manifest(manifest.fresh(runs.study()).changed(day="2026-03-09").as_json())
    dated = "It is {{ strftime_now('%d %b %Y') }}." + tiny_models.WITH_SYSTEM
    model = tiny_models.generator(tmp_path / "model", chat_template=dated)
    entry = Local(host="transformers", name="m", id=model)

    host: Any = host_of(entry, day=day_of_run(Work(folder.uri, "m", "attempt", None)))

    tokens = host._template.tokens([{"role": "user", "content": "Why?"}])
    assert host._tokenizer.decode(tokens).startswith("It is 09 Mar 2026.")
