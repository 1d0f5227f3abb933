"""How far a run is, told from its folder alone."""

from __future__ import annotations

import json
import os
import socket
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from emoray.commands.status import ModelStatus, status, watch
from emoray.errors import UserError
from emoray.hosts.batch_record import NotedBatch
from emoray.run_folder import recovery
from emoray.run_folder.batch_log import FolderBook
from emoray.run_folder.errors import StoreError
from emoray.run_folder.folder import LANES, RunFolder
from emoray.run_folder.lease import Lease
from emoray.run_folder.lost import lost_usd
from emoray.study.outcomes import Failure, FailureKind
from tests import runs


def of(folder: RunFolder, model: str = "a") -> ModelStatus:
    return next(m for m in status(folder).models if m.model == model)


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one on which the attempts of these folders began."""
    monkeypatch.setattr(socket, "gethostname", lambda: "h")


def test_a_run_that_has_just_begun_owes_everything(tmp_path: Path) -> None:
    found = status(runs.begun(tmp_path))
    assert [(m.model, m.cells, m.settled, m.owed) for m in found.models] == [("a", 12, 0, 12), ("b b", 12, 0, 12)]
    assert found.models[0].failed == {}
    assert found.models[0].last_write is None


def test_answers_are_settled_and_failures_are_owed_and_named(tmp_path: Path) -> None:
    folder, cells = runs.begun(tmp_path), runs.asked()
    runs.say(folder, cells[:5])
    runs.say(folder, cells[5:8], runs.FAILURE)
    found = of(folder)
    assert (found.settled, found.owed, found.failed) == (5, 7, {"overloaded": 3})
    assert (found.prompt_tokens, found.completion_tokens) == (50, 25)
    assert found.cost_usd == pytest.approx(5 * 0.01 + 3 * 0.002)
    assert of(folder, "b b").settled == 0


def test_a_failure_that_was_answered_later_is_no_failure_any_more(tmp_path: Path) -> None:
    folder, cells = runs.begun(tmp_path), runs.asked()
    runs.say(folder, cells[:3], runs.FAILURE)
    runs.say(folder, cells[:2])
    assert (of(folder).settled, of(folder).failed) == (2, {"overloaded": 1})


def test_an_answer_that_came_twice_is_counted_once_and_its_copy_is_told(tmp_path: Path) -> None:
    folder, cells = runs.begun(tmp_path), runs.asked()
    runs.say(folder, cells[:4])
    runs.say(folder, cells[:3])
    assert (of(folder).settled, of(folder).spare) == (4, 3)
    assert "3 spare copies" in status(folder).text()


def test_what_batches_wait_for_is_told(tmp_path: Path) -> None:
    folder = runs.begun(tmp_path)
    book, noted = FolderBook(folder), NotedBatch("1", "a", ("k1", "k2"), "2026-11-30T04:00:00+00:00")
    book.note(replace(noted, id="b1"))
    book.note(replace(noted, token="2", id="b2", waits_for="its output file"))
    book.note(replace(noted, token="3", id="b3", waits_for="its output file"))
    book.note(replace(noted, token="4", waits_for="room in the provider's queue"))
    book.note(replace(noted, token="5", id="b5", ended=True, aside=3))
    found = of(folder)
    assert (found.batches, found.batches_wait) == (3, {"its output file": 2})
    assert (found.waiting_cells, found.lines_aside) == ({"room in the provider's queue": 2}, 3)
    text = status(folder).text()
    assert "3 batches open, of which 2 wait for its output file" in text
    assert "2 cells wait for room in the provider's queue" in text
    assert "3 result lines set aside" in text
    assert (of(folder, "b b").batches, of(folder, "b b").waiting_cells) == (0, {})


def test_a_batch_that_a_later_version_noted_is_read(tmp_path: Path) -> None:
    folder = runs.begun(tmp_path)
    noted = {"token": "1", "model": "a", "keys": ["k"], "noted_at": "2026-11-30T04:00:00+00:00", "new": 1}
    folder.write_text("batches/1.json", json.dumps(noted))
    assert [batch.keys for batch in FolderBook(folder).noted()] == [("k",)]


def test_what_each_reader_has_read_is_told(tmp_path: Path) -> None:
    folder, cells = runs.begun(tmp_path), runs.asked()
    runs.say(folder, cells)
    runs.feel(folder, cells[:7])
    assert of(folder).read == {"r": 7}
    assert "read by r 7" in status(folder).text()


def test_the_money_of_judges_is_told_beside_that_of_the_models(tmp_path: Path) -> None:
    folder, cells = runs.begun(tmp_path), runs.asked()
    runs.say(folder, cells[:4])
    runs.feel(folder, cells[:4], cost_usd=0.25)
    assert of(folder).cost_usd == pytest.approx(0.04)
    assert of(folder).read_cost_usd == pytest.approx(1.0)
    assert "$0.04  $1.00 for judges" in status(folder).text()
    assert of(folder, "b b").read_cost_usd == 0


def test_what_a_reader_could_not_read_is_named_by_its_kind(tmp_path: Path) -> None:
    folder, cells = runs.begun(tmp_path), runs.asked()
    runs.say(folder, cells[:6])
    runs.feel(folder, cells[:2])
    runs.feel(folder, cells[2:5], error="unparsed: holds no JSON object: I: cannot say")
    runs.feel(folder, cells[5:6], error="content_filtered: no")
    assert (of(folder).read, of(folder).unread) == ({"r": 2}, {"r": {"content_filtered": 1, "unparsed": 3}})
    text = status(folder).text()
    assert "read by r 2  not read by r 1 content_filtered, 3 unparsed" in text
    assert "    unparsed, for example: holds no JSON object: I: cannot say\n" in text


def test_answers_that_another_spec_asked_for_settle_nothing(tmp_path: Path) -> None:
    other = runs.asked(runs.SPEC.replace("states: 3", "states: 4"))
    folder, cells = runs.extended(runs.begun(tmp_path)), runs.asked()
    strangers = [prompt for prompt in other if prompt.key not in {cell.key for cell in cells}]
    runs.say(folder, [*cells[:2], *strangers[:5]])
    runs.say(folder, [cells[2], *strangers[5:8]], runs.FAILURE)
    runs.feel(folder, [cells[0], *strangers[:4]])
    runs.feel(folder, [cells[1], strangers[4]], error="unparsed: no")
    found = of(folder)
    assert (found.settled, found.owed, found.failed) == (2, 10, {"overloaded": 1})
    assert (found.read, found.unread) == ({"r": 1}, {"r": {"unparsed": 1}})
    assert found.cost_usd == pytest.approx(7 * 0.01 + 4 * 0.002)  # it was spent


def test_batches_that_are_open_are_told_and_those_that_ended_are_not(tmp_path: Path) -> None:
    folder = runs.begun(tmp_path)
    keys = tuple(prompt.key for prompt in runs.asked())
    for token, ended in (("one", False), ("two", False), ("three", True)):
        FolderBook(folder).note(NotedBatch(token, "a", keys, runs.BEGAN.isoformat(), id=f"batch_{token}", ended=ended))
    assert (of(folder).batches, of(folder, "b b").batches) == (2, 0)
    assert "2 batches open" in status(folder).text()


@pytest.mark.parametrize("odd", [b"{", b"[1]", b"\xff\xfe\xff", b'{"a": 5}', b"null", b"[" * 9999, b'{"a": null}'])
def test_what_lanes_do_is_left_out_with_a_sentence_where_its_file_is_odd(
    odd: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = runs.begun(tmp_path)
    folder.write_bytes(LANES, odd)
    with Lease(folder, settle_s=0):
        found = status(folder)
    assert [model.standing for model in found.models] == [None, None]
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"{tmp_path}/lanes.json is not as emoray wrote it (it ") or "(a should be" in said
    assert said.endswith("and tells nothing: delete it, it comes anew")
    assert "0 of 12" in found.text()


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (b"{", "it is no JSON"),
        (b'["1"]', "it should be an object"),
        (b'{"token": "1", "model": "a", "keys": ["k"]}', "noted_at is missing"),
        (b'{"token": "1", "model": "a", "keys": "k", "noted_at": "x"}', "keys should be a valid array"),
        (b'{"token": "1", "model": "a", "keys": ["k"], "noted_at": "then"}', "noted_at is no time with its zone"),
        (b'{"token": "1", "model": "a", "keys": [], "noted_at": "2026-11-30", "usd": NaN}', "usd is nan"),
        (b'{"token": "1", "model": "a", "keys": [], "noted_at": "2026-11-30", "usd": -3}', "usd is -3"),
        (b'{"token": "../run", "model": "a", "keys": [], "noted_at": "2026-11-30"}', "token is '../run'"),
    ],
)
def test_an_odd_note_of_a_batch_is_left_out_of_the_status_and_stops_a_run_for_it_may_have_been_paid(
    odd: bytes, why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, other = runs.begun(tmp_path), NotedBatch("2", "a", ("k",), runs.BEGAN.isoformat(), id="b")
    FolderBook(folder).note(other)
    folder.write_bytes("batches/1.json", odd)
    assert of(folder).batches == 1
    assert f"{tmp_path}/batches/1.json is no note of a batch ({why}" in caplog.text
    with pytest.raises(
        StoreError, match=r"put back a good copy, or .* delete the file; its cells are then asked again"
    ):
        FolderBook(folder).noted()


def test_a_folders_name_cannot_steer_a_terminal(tmp_path: Path) -> None:
    folder = runs.begun(tmp_path / "a\x1b]0;owned\x07\nb")
    assert "/a\\x1b]0;owned\\x07\\nb\n" in status(folder).text()


def test_no_secret_of_the_folders_uri_is_told(tmp_path: Path) -> None:
    runs.begun(tmp_path)
    found = status(RunFolder(f"file://{tmp_path}?KEY"))
    assert "KEY" not in found.text() + json.dumps(found.as_json())


def test_a_file_that_cannot_be_read_is_told_and_does_not_stop_the_telling(tmp_path: Path) -> None:
    folder, cells = runs.begun(tmp_path), runs.asked()
    runs.say(folder, cells[:4])
    torn = next((tmp_path / "answers" / "model_folder=m-a").glob("*.parquet"))
    torn.with_name(f"2{torn.name[1:]}").write_bytes(torn.read_bytes()[:50])
    assert of(folder).torn == 1
    assert "1 torn file" in status(folder).text()


def test_looking_changes_nothing(tmp_path: Path) -> None:
    folder = runs.begun(tmp_path)
    runs.say(folder, runs.asked()[:4])
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")}
    status(folder).text()
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")} == before


def test_while_it_runs_a_rate_and_a_time_are_told(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    folder = runs.begun(tmp_path, began=(now - timedelta(minutes=2)).isoformat(), settled_before={"a": 0, "b b": 0})
    runs.say(folder, runs.asked()[:6])
    with Lease(folder):
        found = status(folder, now=now)
    assert found.models[0].per_minute == pytest.approx(3.0, rel=0.05)
    assert "3/min  2 min left" in found.text()


def test_what_failed_is_asked_no_more_and_no_time_is_left_for_it(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    folder = runs.begun(tmp_path, began=(now - timedelta(minutes=2)).isoformat(), settled_before={"a": 0, "b b": 0})
    runs.say(folder, runs.asked()[:6])
    runs.say(folder, runs.asked()[6:9], runs.FAILURE)
    with Lease(folder):
        found = status(folder, now=now)
    assert found.models[0].seconds_left == pytest.approx(120 * 3 / 9, rel=0.05)
    assert found.models[0].per_minute == pytest.approx(3.0, rel=0.05)


def test_the_time_left_of_a_run_with_a_limit_is_that_of_what_it_asks(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    began = (now - timedelta(minutes=2)).isoformat()
    folder = runs.begun(tmp_path, began=began, settled_before={"a": 0, "b b": 0}, limit=8)
    runs.say(folder, runs.asked()[:6])
    with Lease(folder):
        found = status(folder, now=now)
    assert (found.models[0].cells, found.models[0].owed) == (12, 6)
    assert found.models[0].seconds_left == pytest.approx(120 * 2 / 6, rel=0.05)


def test_what_failed_before_a_run_was_resumed_is_asked_again_and_takes_its_time(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    began = (now - timedelta(minutes=2)).isoformat()
    folder = runs.begun(tmp_path, began=began, settled_before={"a": 0, "b b": 0})
    whole = folder.manifest() or {}
    (attempt,) = whole["attempts"]
    folder.write_manifest(whole | {"attempts": [attempt, attempt | {"settled_before": {"a": 2, "b b": 0}}]})
    runs.say(folder, runs.asked()[:6])
    runs.say(folder, runs.asked()[6:9], runs.FAILURE)
    with Lease(folder):
        found = status(folder, now=now)
    assert found.models[0].seconds_left == pytest.approx(120 * 6 / 4, rel=0.05)


def test_of_a_resumed_run_the_rate_counts_the_answers_of_this_attempt_since_it_asks(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    began, asks = ((now - timedelta(minutes=minutes)).isoformat() for minutes in (30, 2))
    folder = runs.begun(tmp_path, began=began, settled_before={"a": 6, "b b": 0}, asks_since={"a": asks})
    runs.say(folder, runs.asked()[:8])
    with Lease(folder):
        found = status(folder, now=now)
    assert found.models[0].per_minute == pytest.approx(1.0, rel=0.05)
    assert "1/min  4 min left" in found.text()


def test_where_nobody_knows_what_was_there_before_there_is_no_rate(tmp_path: Path) -> None:
    folder = runs.begun(tmp_path)
    runs.say(folder, runs.asked()[:8])
    with Lease(folder):
        assert of(folder).per_minute is None


def test_of_a_run_that_begins_only_later_by_this_clock_no_rate_is_told(tmp_path: Path) -> None:
    """Its driver runs on a machine whose clock is ahead, or this clock has jumped back."""
    now = datetime.now(UTC)
    folder = runs.begun(tmp_path, began=(now + timedelta(minutes=2)).isoformat(), settled_before={"a": 0, "b b": 0})
    runs.say(folder, runs.asked()[:6])
    with Lease(folder):
        assert [model.per_minute for model in status(folder, now=now).models] == [None, None]


def test_of_a_dead_run_neither_a_rate_nor_a_time_left_is_told(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    folder = runs.begun(tmp_path, began=(now - timedelta(minutes=2)).isoformat(), settled_before={"a": 0, "b b": 0})
    runs.say(folder, runs.asked()[:6])
    assert [model.per_minute for model in status(folder, now=now).models] == [None, None]
    assert "left" not in status(folder, now=now).text()
    with Lease(folder):  # of somebody who is no attempt: who compacts the folder, or is about to begin
        (attempt,) = (folder.manifest() or {})["attempts"]
        folder.write_manifest((folder.manifest() or {}) | {"attempts": [attempt | {"pid": 1}]})
        assert "/min" not in status(folder, now=now).text()
        assert status(folder, now=now).text().endswith("died without a word")


@pytest.mark.parametrize("standing", ["reads", "ended", "waits for 4 GPUs", "loading weights of a"])
def test_a_lane_that_does_not_ask_has_no_rate(standing: str, tmp_path: Path) -> None:
    folder = runs.begun(tmp_path, settled_before={"a": 0, "b b": 0})
    runs.say(folder, runs.asked()[:6])
    runs.feel(folder, runs.asked()[:4])
    folder.write_text(LANES, json.dumps({"a": standing}))
    with Lease(folder):
        found = status(folder)
    assert found.models[0].per_minute is None
    told = {"reads": "reads, 2 answers left", "ended": "read by r 4"}.get(standing, standing)
    assert told in found.text().splitlines()[1]


def test_money_for_answers_that_nobody_has_is_told_apart_from_that_of_what_is_under_way(tmp_path: Path) -> None:
    folder = runs.begun(tmp_path, id="20260102T000000-bbbbbb")
    runs.say(folder, runs.asked()[:4])
    for writer, usd in (("20260101T000000_aaaaaa_1_0", 2.0), ("20260102T000000_bbbbbb_1_0", 1.0)):  # as journals do
        folder.write_text(f"tabs/{folder.answers('a').relative}/{writer}.json", json.dumps({"usd": usd}))
    with Lease(folder):
        found = status(folder)
        assert (found.models[0].lost_usd, found.models[0].under_way_usd) == (2.0, 1.0)
        assert "$0.04  up to $2.00 for answers that nobody has  up to $1.00 under way" in found.text()
    assert (of(folder).lost_usd, of(folder).under_way_usd) == (3.0, 0.0)


@pytest.mark.parametrize("by", ["the run", "who compacts it", "nobody"])
def test_a_report_tells_the_same_of_lost_money_whoever_holds_the_folder(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs.begun(tmp_path, id="20260102T000000-bbbbbb", pid=os.getpid() if by == "the run" else 1)
    runs.say(folder, runs.asked()[:4])
    for writer, usd in (("20260101T000000_aaaaaa_1_0", 2.0), ("20260102T000000_bbbbbb_1_0", 1.0)):
        folder.write_text(f"tabs/{folder.answers('a').relative}/{writer}.json", json.dumps({"usd": usd}))
    with Lease(folder) if by != "nobody" else nullcontext():
        monkeypatch.setattr(os, "getpid", lambda: -1)  # as another process
        told = {model.model: model.lost_usd for model in status(folder).models if model.lost_usd}
        assert lost_usd(folder, recovery.begun(folder)) == told == {"a": 2.0 if by == "the run" else 3.0}
        monkeypatch.undo()


def test_who_writes_is_told_and_whose_attempt_died(tmp_path: Path) -> None:
    folder = runs.begun(tmp_path)
    assert status(folder).text().endswith("attempt 1 began 2026-01-02T03:00:00+00:00 on h: died without a word")
    with Lease(folder):
        assert ": running, process " in status(folder).text()
    ended = runs.begun(tmp_path / "other", end="finished")
    assert status(ended).text().endswith(": finished")


def test_who_waits_for_what_is_told_while_the_run_lives(tmp_path: Path) -> None:
    folder = runs.begun(tmp_path)
    waits = "waits for 1 CPU and 4 GPUs, held by b b"
    folder.write_text(LANES, json.dumps({"a": waits, "b b": "asks"}))
    with Lease(folder):
        found = status(folder)
        assert [model.standing for model in found.models] == [waits, "asks"]
        assert f"owed 12  failed none  {waits}" in found.text()
    assert [model.standing for model in status(folder).models] == [None, None]


def test_for_programs_it_is_json(tmp_path: Path) -> None:
    folder = runs.begun(tmp_path)
    runs.say(folder, runs.asked()[:4])
    data = json.loads(json.dumps(status(folder).as_json()))
    assert data["name"] == "t"
    assert {(m["model"], m["settled"], m["owed"]) for m in data["models"]} == {("a", 4, 8), ("b b", 0, 12)}


def test_who_watches_is_told_again_until_nobody_writes_any_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs.begun(tmp_path)
    held = ExitStack()
    held.enter_context(Lease(folder, settle_s=0))
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 1:
            runs.say(folder, runs.asked()[:4])
        else:
            held.close()

    assert watch(folder, as_json=True, pause=pause) == 0
    looks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [look["models"][0]["settled"] for look in looks] == [0, 4, 4]
    assert [bool(look["writer"]) for look in looks] == [True, True, False]
    assert pauses == [30.0, 30.0]


def test_of_a_dead_run_the_watcher_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(runs.begun(tmp_path)) == 0
    assert "died without a word" in (said := capsys.readouterr().out)
    assert "left" not in said


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run folder"):
        status(RunFolder(str(tmp_path)))


def test_of_each_kind_of_failure_one_text_is_shown_and_why_the_lane_could_not_go_on(tmp_path: Path) -> None:
    refusal = Failure(FailureKind.BAD_REQUEST, "400: Unsupported parameter: 'max_tokens'")
    lanes = [{"model": "a", "error": "the provider refused all"}, {"model": "b b", "error": None}]
    folder, cells = runs.begun(tmp_path, lanes=lanes), runs.asked()
    runs.say(folder, cells[:2])
    runs.say(folder, cells[2:4], runs.FAILURE)
    runs.say(folder, cells[4:6], refusal)
    assert of(folder).failure_texts == {"bad_request": refusal.detail, "overloaded": "503"}
    assert (of(folder).ended, of(folder, "b b").ended) == ("the provider refused all", None)
    said = status(folder).text()
    assert f"    bad_request, for example: {refusal.detail}\n" in said
    assert "    asked no more: the provider refused all\n" in said


def test_a_failure_that_was_answered_since_is_shown_no_more(tmp_path: Path) -> None:
    folder, cells = runs.begun(tmp_path), runs.asked()
    runs.say(folder, cells[:2], runs.FAILURE)
    runs.say(folder, cells[:2])
    assert of(folder).failure_texts == {}
