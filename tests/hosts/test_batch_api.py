"""Batches overnight, against a real server on loopback."""

from __future__ import annotations

import json
import logging
import pickle
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from emoray.hosts.batch_api import BatchApi, _text_of
from emoray.hosts.batch_record import NotedBatch
from emoray.hosts.batch_round import is_full
from emoray.hosts.protocol import Ask, BudgetSpent, HostDown, Reply
from emoray.hosts.request_loop import Guess
from emoray.rate_limits.local import LocalLimiter
from emoray.rate_limits.protocol import Limits
from emoray.rehearsal.behaviour import BatchBehaviour, Behaviour
from emoray.rehearsal.faults import Fault, Plan, storm
from emoray.rehearsal.provider import Provider
from emoray.run_folder.batch_log import FolderBook
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.tabs import lost_by_model
from emoray.spec.accounts import Account, Retry
from emoray.spec.models import Hosted
from emoray.spec.prices import price_of
from emoray.study.outcomes import Answer, Failure, FailureKind
from tests.hosts.raw import responses, writing

CANARY = "sk-canary-77aa0c"
ENTRY = Hosted(host="batch_api", name="gpt", id="gpt-4o", account="lab")
PATIENCE = Retry(attempts=3, timeout_s=600.0, first_wait_s=0.01, longest_wait_s=0.02)
Start = Callable[..., BatchApi]


def asks(n: int) -> list[Ask]:
    chat = [{"role": "user", "content": "What is freedom?"}]
    return [Ask(f"{i:032x}", chat, i, 1.0, None, 64) for i in range(n)]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Start]:
    """A host on a provider; every host writes into the same book."""
    monkeypatch.setenv("LAB_KEY", CANARY)
    opened: list[BatchApi] = []

    def started(provider: Provider, **settings: Any) -> BatchApi:
        account = settings.pop("account", None) or Account(base_url=provider.base_url, key_env="LAB_KEY")
        options: dict[str, Any] = {"poll_s": 0.001, "retry": PATIENCE, "entry": ENTRY} | settings
        book = FolderBook(RunFolder(str(tmp_path)))
        opened.append(BatchApi(options.pop("entry"), account, options.pop("retry"), book, **options))
        return opened[-1]

    yield started
    for host in opened:
        host.close()


def book(tmp_path: Path) -> list[NotedBatch]:
    return FolderBook(RunFolder(str(tmp_path))).noted()


def until_down(host: BatchApi, owed: list[Ask]) -> tuple[list[Reply], HostDown]:
    """The replies that came before the lane stopped, and what it said."""
    replies: list[Reply] = []
    try:
        for reply in host.generate(owed):
            replies.append(reply)
    except HostDown as stopped:
        return replies, stopped
    raise AssertionError("the lane did not stop")


def kinds(replies: list[Reply]) -> Counter[str]:
    return Counter("answer" if isinstance(r.outcome, Answer) else r.outcome.kind.value for r in replies)


def test_every_ask_gets_one_reply_at_half_the_price(start: Start) -> None:
    with Provider() as provider:
        replies = list(start(provider).generate(asks(40)))
    assert Counter(reply.key for reply in replies) == Counter(ask.key for ask in asks(40))
    answer = replies[0].outcome
    assert isinstance(answer, Answer)
    assert answer.prompt_tokens is not None
    assert answer.completion_tokens is not None
    assert answer.cost_usd == pytest.approx((answer.prompt_tokens * 1.25 + answer.completion_tokens * 5.0) / 1e6)
    assert answer.returned_model == "gpt-4o-rehearsal"


def test_a_file_is_never_longer_than_the_provider_takes(start: Start, tmp_path: Path) -> None:
    with Provider() as provider:
        list(start(provider, most_lines=15).generate(asks(40)))
        assert sorted(len(batch.keys) for batch in book(tmp_path)) == [10, 15, 15]
        two = ENTRY.model_copy(update={"name": "two"})
        replies = list(start(provider, most_bytes=1000, entry=two).generate(asks(9)))
    assert len(replies) == 9
    sizes = [len(batch.keys) for batch in book(tmp_path) if batch.model == "two"]
    assert sum(sizes) == 9
    assert max(sizes) < 9


def test_the_id_is_written_down_before_anybody_waits(start: Start, tmp_path: Path) -> None:
    with Provider(Behaviour(batch_polls=10**9)) as provider:
        host = start(provider, poll_s=60.0)
        polled: list[list[NotedBatch]] = []
        retrieve = host._client.batches.retrieve

        def watched(id: str) -> Any:
            polled.append(book(tmp_path))
            host.close()  # the submitter dies at the first poll
            return retrieve(id)

        host._client.batches.retrieve = watched  # type: ignore[method-assign,assignment]
        with pytest.raises((HostDown, RuntimeError), match="closed"):
            list(host.generate(asks(5)))
    assert [batch.id for batch in polled[0]] == ["batch_1"]


def test_whoever_comes_after_a_dead_submitter_waits_for_its_batches_and_pays_nothing_twice(start: Start) -> None:
    with Provider(Behaviour(batch_polls=3)) as provider:
        first = start(provider, poll_s=60.0)
        first._closed.set()  # dies after its first poll
        with pytest.raises(HostDown, match="picks them up"):
            list(first.generate(asks(20)))
        replies = list(start(provider).generate(asks(30)))
    assert kinds(replies) == {"answer": 30}
    assert set(provider.counters.asked.values()) == {1}


def test_a_batch_made_by_a_submitter_that_died_before_it_could_note_the_id_is_found(
    start: Start, tmp_path: Path
) -> None:
    with Provider(Behaviour(batch_polls=3)) as provider:
        first = start(provider, poll_s=60.0)
        first._closed.set()
        with pytest.raises(HostDown, match="picks them up"):
            list(first.generate(asks(20)))
        FolderBook(RunFolder(str(tmp_path))).note(replace(book(tmp_path)[0], id=None))
        assert kinds(list(start(provider).generate(asks(20)))) == {"answer": 20}
    assert set(provider.counters.asked.values()) == {1}


def test_a_batch_that_was_noted_and_never_made_is_forgotten(start: Start, tmp_path: Path) -> None:
    keys = tuple(ask.key for ask in asks(20))
    FolderBook(RunFolder(str(tmp_path))).note(NotedBatch("never", "gpt", keys, "2026-01-01T00:00:00+00:00"))
    with Provider() as provider:
        assert kinds(list(start(provider).generate(asks(20)))) == {"answer": 20}
    assert "never" not in {batch.token for batch in book(tmp_path)}


def test_answers_that_were_fetched_and_lost_are_fetched_again_and_not_asked_again(start: Start) -> None:
    with Provider() as provider:
        list(start(provider).generate(asks(20)))  # and the rows never became durable
        assert kinds(list(start(provider).generate(asks(20)))) == {"answer": 20}
    assert set(provider.counters.asked.values()) == {1}


def test_a_batch_of_another_model_is_nobodys_business(start: Start) -> None:
    with Provider() as provider:
        list(start(provider).generate(asks(5)))
        other = ENTRY.model_copy(update={"name": "other"})
        list(start(provider, entry=other).generate(asks(5)))
    assert set(provider.counters.asked.values()) == {2}


def test_failed_lines_are_typed_and_asked_anew_by_the_next_run(start: Start) -> None:
    with Provider(Behaviour(Plan(3, storm(0.5)))) as provider:
        replies = list(start(provider).generate(asks(200)))
        failed = [reply.key for reply in replies if isinstance(reply.outcome, Failure)]
        assert len(replies) == 200
        assert 30 < len(failed) < 150
        again = list(start(provider).generate([ask for ask in asks(200) if ask.key in failed]))
    assert {reply.key for reply in again} == set(failed)
    assert kinds(again)["answer"] > 0
    assert max(provider.counters.answered.values()) == 1
    assert {provider.counters.asked[key] for key in failed} == {2}


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.UNAVAILABLE, FailureKind.OVERLOADED),
        (Fault.FILTERED_400, FailureKind.CONTENT_FILTERED),
        (Fault.CONTEXT_LENGTH, FailureKind.CONTEXT_LENGTH),
        (Fault.EMPTY, FailureKind.EMPTY),
        (Fault.NO_CHOICES, FailureKind.MALFORMED),
        (Fault.OK_HTML, FailureKind.MALFORMED),
        (Fault.CUT_JSON, FailureKind.MALFORMED),
        (Fault.HANG, FailureKind.TIMEOUT),  # the batch expired before this line was done
    ],
)
def test_each_failed_line_has_its_kind(start: Start, fault: Fault, kind: FailureKind) -> None:
    with Provider(Behaviour(Plan(schedule=[(1, None, fault)]))) as provider:
        assert kinds(list(start(provider).generate(asks(2)))) == {kind.value: 2}


def test_a_refused_key_stops_the_lane_with_one_sentence_after_typed_failures(start: Start) -> None:
    with Provider(Behaviour(api_key="another")) as provider:
        replies, stopped = until_down(start(provider), asks(3))
    assert "LAB_KEY" in str(stopped)
    assert kinds(replies) == {"auth": 3}


def test_a_server_that_is_not_there_leaves_typed_failures(start: Start) -> None:
    with Provider() as provider:
        host = start(provider)
    assert kinds(list(host.generate(asks(3)))) == {"connection": 3}


def test_no_batch_is_sent_that_might_pass_the_budget(start: Start, tmp_path: Path) -> None:
    budget = LocalLimiter(Limits(budget_usd=0.004))
    with Provider() as provider:
        replies, stopped = until_down(start(provider, budget=budget, most_lines=10), asks(200))
    assert isinstance(stopped, BudgetSpent)
    spent = sum(reply.outcome.cost_usd or 0.0 for reply in replies)
    assert 0 < spent <= 0.004
    assert len(replies) == sum(len(batch.keys) for batch in book(tmp_path)) == provider.counters.requests
    assert budget.bucket.spent_usd == pytest.approx(spent)


def test_a_batch_whose_making_was_not_confirmed_is_not_made_again(start: Start) -> None:
    with Provider() as provider:
        host = start(provider)
        create, lost = host._client.batches.create, [True]

        def unconfirmed(**asked: Any) -> Any:
            made = create(**asked)
            if lost and lost.pop():
                raise openai.APIConnectionError(request=httpx2.Request("POST", provider.base_url))
            return made

        host._client.batches.create = unconfirmed  # type: ignore[method-assign]
        assert kinds(list(host.generate(asks(5)))) == {"answer": 5}
        assert len(list(host._client.batches.list())) == 1


@pytest.mark.parametrize("file", [None, "file-that-is-gone-too"])
def test_the_cells_of_a_batch_that_the_provider_has_lost_are_asked_anew(
    file: str | None, start: Start, tmp_path: Path
) -> None:
    keys, then = tuple(ask.key for ask in asks(5)), "2026-01-01T00:00:00+00:00"
    lost = NotedBatch("old", "gpt", keys, then, id="gone", file=file, usd=0.25)
    FolderBook(RunFolder(str(tmp_path))).note(lost)
    with Provider() as provider:
        assert kinds(list(start(provider).generate(asks(5)))) == {"answer": 5}
    assert {batch.token: batch.ended for batch in book(tmp_path)}["old"]
    assert lost_by_model(RunFolder(str(tmp_path))) == {"gpt": 0.25}  # which may have been paid


def test_of_a_batch_that_is_lost_only_the_part_that_is_owed_counts_as_lost(start: Start, tmp_path: Path) -> None:
    keys, then = tuple(ask.key for ask in asks(5)), "2026-01-01T00:00:00+00:00"
    FolderBook(RunFolder(str(tmp_path))).note(NotedBatch("old", "gpt", keys, then, id="gone", usd=0.25))
    with Provider() as provider:
        assert kinds(list(start(provider).generate(asks(5)[:1]))) == {"answer": 1}  # the other four have rows
        assert lost_by_model(RunFolder(str(tmp_path))) == pytest.approx({"gpt": 0.05})
        assert kinds(list(start(provider).generate(asks(5)[:2]))) == {"answer": 2}  # another call, another cell of it
    assert lost_by_model(RunFolder(str(tmp_path))) == pytest.approx({"gpt": 0.10})


@pytest.mark.parametrize("knows", [True, False], ids=["and knows the batch", "and the batch"])
def test_answers_that_are_lost_with_their_rows_are_lost_money_once_the_provider_has_dropped_its_results(
    knows: bool, start: Start, tmp_path: Path
) -> None:
    folder = RunFolder(str(tmp_path))
    with Provider() as provider, Provider() as another:
        host = start(provider)
        list(host.generate(asks(5)))
        (batch,) = book(tmp_path)
        assert batch.unanswered == ()
        FolderBook(folder).note(
            replace(batch, usd=0.25, unanswered=batch.keys[:1])
        )  # of which a row says that it failed
        for told in host._client.batches.list():
            host._client.files.delete(str(told.output_file_id))
        assert kinds(list(start(provider if knows else another).generate(asks(5)[:3]))) == {"answer": 3}
    assert lost_by_model(folder) == pytest.approx({"gpt": 0.10})


def test_what_was_booked_of_a_lost_batch_is_taken_back_for_the_answers_that_come_after_all(
    start: Start, tmp_path: Path
) -> None:
    folder = RunFolder(str(tmp_path))
    with Provider() as provider:
        list(start(provider).generate(asks(5)))  # and the rows never became durable
        (batch,) = book(tmp_path)
        FolderBook(folder).lose(replace(batch, ended=False, usd=0.25), batch.keys)
        assert lost_by_model(folder) == {"gpt": 0.25}
        for _ in range(2):  # again none became durable
            assert kinds(list(start(provider).generate(asks(5)[:3]))) == {"answer": 3}
            assert lost_by_model(folder) == pytest.approx({"gpt": 0.10})
        assert kinds(list(start(provider).generate(asks(5)[3:]))) == {"answer": 2}
    assert once_each(provider)
    assert lost_by_model(folder) == {"gpt": 0.0}


def test_a_batch_that_is_known_again_is_not_lost_though_who_lost_it_died_before_that_was_noted(
    start: Start, tmp_path: Path
) -> None:
    folder = RunFolder(str(tmp_path))
    with Provider() as provider:
        list(start(provider).generate(asks(5)))
        (batch,) = book(tmp_path)
        FolderBook(folder).lose(batch, batch.keys)
        FolderBook(folder).note(replace(batch, ended=False))
        assert kinds(list(start(provider).generate(asks(5)))) == {"answer": 5}
    assert once_each(provider)
    assert lost_by_model(folder) == {"gpt": 0.0}


def test_what_the_open_batches_of_a_dead_submitter_may_cost_is_set_aside_by_whoever_comes_after(
    start: Start, tmp_path: Path
) -> None:
    most = Guess(price_of(ENTRY)).of(asks(1)[0])[1]
    budget = Limits(budget_usd=10.5 * most)
    with Provider(Behaviour(batch_polls=10**9)) as provider:
        first = start(provider, budget=LocalLimiter(budget))
        first._closed.set()
        until_down(first, asks(10))
        second = start(provider, budget=LocalLimiter(budget))
        second._closed.set()
        until_down(second, asks(20))
    assert sum(len(batch.keys) for batch in book(tmp_path)) == 10


def test_a_cell_that_two_batches_ask_has_one_reply(start: Start, tmp_path: Path) -> None:
    with Provider(Behaviour(batch_polls=3)) as provider:
        for some in (asks(10), asks(15)):
            first = start(provider, poll_s=60.0)
            first._closed.set()
            noted = book(tmp_path)
            for batch in noted:
                FolderBook(RunFolder(str(tmp_path))).forget(batch)
            until_down(first, some)
            for batch in noted:
                FolderBook(RunFolder(str(tmp_path))).note(batch)
        replies = list(start(provider).generate(asks(15)))
    assert Counter(reply.key for reply in replies) == Counter(ask.key for ask in asks(15))


@pytest.mark.parametrize("threads", [1, 2], ids=["one after the other", "at once"])
def test_a_batch_that_two_calls_wait_for_is_paid_once(start: Start, threads: int) -> None:
    budget = LocalLimiter(Limits(budget_usd=1.0))
    with Provider(Behaviour(batch_polls=2)) as provider:
        first = start(provider)
        first._closed.set()
        until_down(first, asks(10))
        host = start(provider, budget=budget)
        with ThreadPoolExecutor(threads) as pool:
            halves = list(pool.map(lambda owed: list(host.generate(owed)), (asks(10)[:5], asks(10)[5:])))
    spent = sum(reply.outcome.cost_usd or 0.0 for half in halves for reply in half)
    assert budget.bucket.spent_usd == pytest.approx(spent)


def test_lines_say_what_the_cells_say(start: Start) -> None:
    sent: list[dict[str, Any]] = []

    async def listen(body: dict[str, Any]) -> str:
        sent.append(body)
        return "Yes."

    with Provider(speaker=listen) as provider:
        list(start(provider).generate(asks(2)))
    assert sent[1] == {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "What is freedom?"}],
        "temperature": 1.0,
        "seed": 1,
        "max_tokens": 64,
    }


def test_the_key_is_in_no_file_no_log_and_no_repr(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def indiscreet(result: dict[str, Any]) -> dict[str, Any]:
        return result | {"response": None, "error": {"message": f"Your key is {CANARY}."}}

    def nobodys(content: bytes) -> bytes:
        return content + f"Your key is {CANARY}.\n".encode()

    caplog.set_level(logging.DEBUG)
    behaviour = BatchBehaviour(lines=indiscreet, spoils=nobodys)
    with Provider(Behaviour(api_key=CANARY, batches=behaviour)) as provider:
        host = start(provider)
        replies = list(host.generate(asks(3)))
        with pytest.raises(TypeError) as refused:
            pickle.dumps(host)
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    everything = "".join([written, caplog.text, repr(host), repr(replies), str(refused.value)])
    assert json.loads(next(tmp_path.rglob("*.json")).read_text())["id"] == "batch_1"
    assert everything.count("Your key is [key].") == 4
    assert CANARY not in everything


def test_nothing_of_an_answer_is_rewritten_whatever_the_key(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    async def speak(body: dict[str, Any]) -> str:
        del body
        return "I feel joy and anger, prompt and EMPTY."

    with Provider(speaker=speak) as provider:
        for key in ("joy", "EMPTY", "x", "prompt"):
            monkeypatch.setenv("LAB_KEY", key)
            named = ENTRY.model_copy(update={"name": f"with-{key}"})
            for reply in start(provider, entry=named).generate(asks(2)):
                assert isinstance(reply.outcome, Answer)
                assert reply.outcome.text == "I feel joy and anger, prompt and EMPTY."
                assert reply.outcome.prompt_tokens is not None


# ── results that are odd, late or partly there ─────────────────────────────────────────────────────────────────────


def batches(**behaviour: Any) -> Behaviour:
    return Behaviour(batches=BatchBehaviour(**behaviour))


def once_each(provider: Provider) -> bool:
    """Whether nothing was asked, so nothing paid, twice."""
    return set(provider.counters.asked.values()) == {1}


def test_one_odd_line_leaves_all_others(start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def odd(content: bytes) -> bytes:
        lines = content.split(b"\n")
        lines[1], lines[3], lines[5] = lines[1][:200], b"<html>502</html>", lines[5].replace(b"assistant", b"\xff")
        return b"\n".join(lines)

    with Provider(batches(spoils=odd)) as provider:
        replies = list(start(provider).generate(asks(20)))
    assert kinds(replies) == {"answer": 17, "malformed": 3}
    assert {reply.key for reply in replies} == {ask.key for ask in asks(20)}
    assert "1 lines of its results are no cell's" in caplog.text
    assert [batch.aside for batch in book(tmp_path)] == [1]


def test_what_an_odd_line_may_have_cost_is_booked(start: Start) -> None:
    with Provider(batches(spoils=lambda content: content.replace(b'"assistant"', b"assistant", 1))) as provider:
        replies = list(start(provider).generate(asks(4)))
    assert kinds(replies) == {"answer": 3, "malformed": 1}
    most = Guess(price_of(ENTRY)).of(asks(1)[0])[1]
    odd = next(reply.outcome for reply in replies if isinstance(reply.outcome, Failure))
    assert odd.cost_usd == pytest.approx(most)


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param({"late_polls": 12}, id="its files are not named yet"),
        pytest.param({"late_contents": 12}, id="their content is not there yet"),
        pytest.param({"finalizing_polls": 12}, id="it is finalizing"),
        pytest.param({"unknown_polls": 2}, id="it is not known yet"),
    ],
)
def test_answers_that_come_late_are_waited_for_and_never_asked_again(start: Start, behaviour: dict[str, int]) -> None:
    with Provider(batches(**behaviour)) as provider:
        replies = list(start(provider).generate(asks(5)))
    assert kinds(replies) == {"answer": 5}
    assert once_each(provider)


@pytest.mark.parametrize("counts", [{"total": 0, "completed": 0, "failed": 0}, None, {}])
def test_a_batch_that_is_completed_before_it_names_files_or_counts_lines_is_waited_for(
    start: Start, counts: dict[str, int] | None
) -> None:
    def early(batch: dict[str, Any]) -> dict[str, Any]:
        return batch if batch["output_file_id"] else batch | {"request_counts": counts}

    with Provider(batches(late_polls=12, says=early)) as provider:
        replies = list(start(provider).generate(asks(5)))
    assert kinds(replies) == {"answer": 5}
    assert once_each(provider)


def test_a_batch_that_expired_uncounted_is_waited_for_while_the_file_that_it_names_is_not_there(start: Start) -> None:
    def expired(batch: dict[str, Any]) -> dict[str, Any]:
        return batch | {"status": "expired", "request_counts": None} if batch["status"] == "completed" else batch

    with Provider(batches(late_contents=3, says=expired)) as provider:
        replies = list(start(provider).generate(asks(5)))
    assert kinds(replies) == {"answer": 5}
    assert once_each(provider)


def test_a_file_of_results_in_a_charset_that_it_declares_is_read_in_it() -> None:
    text = '{"text": "我很高兴"}'
    declared = {"content-type": "application/jsonl; charset=gb18030"}
    for content, headers in ((text.encode("gb18030"), declared), (text.encode(), declared), (text.encode(), {})):
        assert _text_of(httpx2.Response(200, headers=headers, content=content)) == text.encode()
    odd = b'{"text": "caf\xe9"}'
    assert _text_of(httpx2.Response(200, content=odd)) == odd


@pytest.mark.parametrize(
    ("charset", "read"), [("base64", "\ufffd"), ("undefined", "\ufffd"), ("idna", "\ufffd"), ("latin-1", "ÿ")]
)
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_a_charset_that_is_no_texts_leaves_a_refusal_what_its_status_says(
    start: Start, charset: str, read: str, kind: str
) -> None:
    head = f"401 No\r\nContent-Type: {kind}; charset={charset}".encode()
    with writing(lambda _: responses(head, b'{"error": {"message": "no \xff"}}')) as (url, _), Provider() as provider:
        host = start(provider, account=Account(base_url=f"{url}/v1", key_env="LAB_KEY"))
        _, stopped = until_down(host, asks(2))
    assert f"refuses the key in LAB_KEY (401: no {read})" in str(stopped)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_file_is_not_sent_to_another_place_and_the_failure_names_it(start: Start, status: int) -> None:
    there = b"%d Go\r\nLocation: http://127.0.0.1:9/v1/files" % status
    with writing(lambda _: responses(there, b"")) as (url, requests), Provider() as provider:
        host = start(provider, account=Account(base_url=f"{url}/v1", key_env="LAB_KEY"))
        replies: list[Reply] = []
        said = ""
        try:
            replies = list(host.generate(asks(2)))
        except HostDown as down:
            said = str(down)
        details = said + "".join(r.outcome.detail for r in replies if isinstance(r.outcome, Failure))
    assert f"{status}: it leads on to http://127.0.0.1:9/v1/files" in details
    assert len(requests) <= PATIENCE.attempts


def late_content(contents: list[bytes]) -> Callable[[bytes], bytes]:
    """A file of results that is each of these before it is whole."""
    return lambda whole: contents.pop(0) if contents else whole


@pytest.mark.parametrize("early", [b"", b"<html>soon</html>", b'{"error": {"message": "soon", "code": "not_ready"}}'])
def test_what_comes_in_place_of_a_file_is_no_file(start: Start, early: bytes) -> None:
    with Provider(batches(spoils=late_content([early] * 12))) as provider:
        assert kinds(list(start(provider).generate(asks(5)))) == {"answer": 5}
    assert once_each(provider)


def test_a_file_that_is_still_being_written_is_looked_at_again(start: Start) -> None:
    cut: list[bytes] = []

    def growing(whole: bytes) -> bytes:
        cut.append(whole)
        return whole if len(cut) > 1 else whole[: len(whole) // 2]

    with Provider(batches(spoils=growing)) as provider:
        assert kinds(list(start(provider).generate(asks(8)))) == {"answer": 8}
    assert once_each(provider)


def test_a_file_that_is_short_is_known_so_though_lines_of_it_come_twice(start: Start) -> None:
    looks: list[bytes] = []

    def growing(whole: bytes) -> bytes:
        looks.append(whole)
        return whole if len(looks) > 1 else b"\n".join(whole.split(b"\n")[:4] * 2)

    with Provider(batches(spoils=growing)) as provider:
        assert kinds(list(start(provider).generate(asks(8)))) == {"answer": 8}
    assert once_each(provider)


@pytest.mark.parametrize(
    ("status", "counts", "billed"),
    [
        ("cancelled", {"total": 8, "completed": 3, "failed": 0}, False),
        ("expired", {"total": 8, "completed": 3, "failed": 0}, False),
        ("expired", None, False),
        ("completed", {"total": 8, "completed": 3, "failed": 0}, False),
        ("completed", {"total": 8, "completed": 8, "failed": 0}, True),
        ("cancelled", {"total": 8, "completed": 6, "failed": 0}, True),
        ("cancelled", {"total": 8, "completed": 3, "failed": 5}, False),  # llm-d counts what it threw away as failed
        ("completed", None, True),
    ],
)
def test_of_a_batch_that_ended_early_is_booked_what_was_perhaps_answered(
    start: Start, status: str, counts: dict[str, int] | None, billed: bool
) -> None:
    """Three answers of eight are in its file; what the counts say beside them tells whether there were more."""

    def early(batch: dict[str, Any]) -> dict[str, Any]:
        return batch | {"status": status, "request_counts": counts} if batch["status"] == "completed" else batch

    behaviour = batches(says=early, spoils=lambda whole: b"\n".join(whole.split(b"\n")[:3]))
    with Provider(behaviour) as provider:
        replies = list(start(provider).generate(asks(8)))
    missing = [reply.outcome for reply in replies if isinstance(reply.outcome, Failure)]
    assert len(missing) == 5
    assert {bool(failure.cost_usd) for failure in missing} == {billed}
    assert once_each(provider)


def test_a_file_that_stays_short_is_read_as_far_as_it_goes(start: Start) -> None:
    with Provider(batches(spoils=lambda whole: whole[: len(whole) // 2])) as provider:
        replies = list(start(provider).generate(asks(8)))
    assert kinds(replies)["answer"] == 3 or kinds(replies)["answer"] == 4
    assert len(replies) == 8


def test_answers_that_never_come_end_the_lane_in_a_sentence_and_are_asked_by_no_run(start: Start) -> None:
    now = [datetime.now(UTC)]

    def later() -> datetime:
        now[0] += timedelta(hours=4)
        return now[0]

    with Provider(batches(late_polls=10**9)) as provider:
        for _ in range(3):
            replies, stopped = until_down(start(provider, clock=later), asks(5))
            assert replies == []
            assert "batch_1" in str(stopped)
            assert "results of 5 cells never came; they are not asked again" in str(stopped)
    assert once_each(provider)


def test_a_batch_that_never_ends_its_finalizing_gives_what_is_there(start: Start) -> None:
    def stuck(batch: dict[str, Any]) -> dict[str, Any]:
        return batch | {"status": "finalizing" if batch["status"] == "completed" else batch["status"]}

    def days_ago(batch: dict[str, Any]) -> dict[str, Any]:
        return stuck(batch) | {"created_at": batch["created_at"] - 3 * 86_400}

    def half(whole: bytes) -> bytes:
        return b"\n".join(whole.split(b"\n")[:4])

    with Provider(
        batches(says=days_ago, spoils=half),
    ) as provider:
        first, stopped = until_down(start(provider), asks(8))
        again, stopped = until_down(start(provider), [ask for ask in asks(8) if ask.key not in {r.key for r in first}])
    assert kinds(first) == {"answer": 4}
    assert again == []
    assert "results of 4 cells never came" in str(stopped)
    assert once_each(provider)


def test_the_next_run_waits_for_the_same_answers(start: Start, tmp_path: Path) -> None:
    with Provider(batches(late_polls=6)) as provider:
        first = start(provider, poll_s=60.0)
        first._closed.set()
        for _ in range(5):
            until_down(first, asks(5))
        assert [batch.waits_for for batch in book(tmp_path)] == ["its output file"]
        assert kinds(list(start(provider).generate(asks(5)))) == {"answer": 5}
    assert once_each(provider)


@pytest.mark.parametrize(
    ("fault", "says"),
    [(Fault.BAD_REQUEST, "failed alike (400: Unsupported value: 'temperature'.)"), (Fault.QUOTA, "is exhausted")],
)
def test_a_batch_whose_lines_all_fail_alike_ends_the_lane_with_the_providers_own_text(
    start: Start, fault: Fault, says: str
) -> None:
    with Provider(Behaviour(Plan(schedule=[(1, None, fault)]))) as provider:
        replies, stopped = until_down(start(provider), asks(20))
    assert len(replies) == 20
    assert says in str(stopped)


def test_results_in_a_foreign_format_end_the_lane_before_another_batch_is_paid(start: Start) -> None:
    def foreign(result: dict[str, Any]) -> dict[str, Any]:
        return {"request": "…", "prediction": result["response"]["body"]["choices"][0]["message"]["content"]}

    with Provider(batches(lines=foreign)) as provider:
        replies, stopped = until_down(start(provider), asks(20))
    assert kinds(replies) == {"malformed": 20}
    assert "do not say whose they are" in str(stopped)


def test_a_completed_batch_whose_lines_all_failed_has_no_answers_to_wait_for(start: Start) -> None:
    def honest(batch: dict[str, Any]) -> dict[str, Any]:
        done = batch["status"] == "completed"
        return batch | {"request_counts": {"total": 3, "completed": 0, "failed": 3 if done else 0}}

    fault = Plan(schedule=[(1, None, Fault.UNAVAILABLE)])
    with Provider(Behaviour(fault, batches=BatchBehaviour(says=honest))) as provider:
        assert kinds(list(start(provider).generate(asks(3)))) == {"overloaded": 3}


# ── a queue that is full ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("no_queue", [False, True], ids=["a batch that failed", "a 429 when it is made"])
def test_files_shrink_until_the_queue_takes_them(start: Start, no_queue: bool) -> None:
    with Provider(batches(most_enqueued=7, no_queue=no_queue)) as provider:
        replies = list(start(provider).generate(asks(40)))
    assert kinds(replies) == {"answer": 40}
    assert len(replies) == 40
    assert once_each(provider)


@pytest.mark.parametrize(
    ("code", "message", "full"),
    [
        *((code, "no", True) for code in ("token_limit_exceeded", "EnqueuedTokenLimitExceeded", "queue_full")),
        *((code, "no", True) for code in ("enqueued_tokens_exceeded", "batch-limit-exceeded", "too_many_batches")),
        (None, "Enqueued token limit reached for gpt-4o in organization org-1.", True),
        ("invalid_request", "Enqueued tokens are no matter.", False),
        (None, "no", False),
        ("context_length_exceeded", "no", False),
    ],
)
def test_a_full_queue_is_known_by_any_spelling_of_its_code(code: str | None, message: str, full: bool) -> None:
    assert is_full(code, message) is full


def test_files_that_fit_one_by_one_wait_for_one_another(start: Start, tmp_path: Path) -> None:
    with Provider(batches(most_enqueued=20)) as provider:
        replies = list(start(provider, most_lines=10).generate(asks(60)))
    assert kinds(replies) == {"answer": 60}
    assert once_each(provider)
    assert {len(batch.keys) for batch in book(tmp_path)} == {10}


def test_a_small_file_waits_for_the_accounts_other_batches(start: Start, tmp_path: Path) -> None:
    with Provider(Behaviour(batch_polls=3, batches=BatchBehaviour(most_enqueued=20))) as provider:
        other = start(provider, entry=ENTRY.model_copy(update={"name": "other"}), poll_s=60.0)
        other._closed.set()
        until_down(other, asks(20))  # it is under way when its submitter dies
        waiting = start(provider)
        listed: list[list[NotedBatch]] = []
        list_batches = waiting._client.batches.list

        def watched(**asked: Any) -> Any:
            listed.append([batch for batch in book(tmp_path) if batch.waits_for])
            if len(listed) == 3:
                for _ in range(2):  # its second and third poll: then it is through
                    with suppress(HostDown):
                        list(other.generate(asks(20)))
            return list_batches(**asked)

        waiting._client.batches.list = watched  # type: ignore[method-assign]
        assert kinds(list(waiting.generate(asks(20)))) == {"answer": 20}
    assert [(batch.waits_for, len(batch.keys)) for batch in listed[1]] == [("room in the provider's queue", 20)]
    assert [len(batch.keys) for batch in book(tmp_path) if batch.model == "gpt"] == [20]
    assert all(batch.waits_for is None for batch in book(tmp_path))


def test_a_queue_without_room_for_one_line_ends_the_lane_in_a_sentence(start: Start, tmp_path: Path) -> None:
    with Provider(batches(most_enqueued=0)) as provider:
        replies, stopped = until_down(start(provider), asks(6))
        assert replies == []
        assert "no room for another file" in str(stopped)
        assert "6 cells stay owed" in str(stopped)
        assert book(tmp_path) == []
    assert provider.counters.requests == 0


def test_a_batch_that_was_refused_reserves_no_money(start: Start) -> None:
    most = Guess(price_of(ENTRY)).of(asks(1)[0])[1]
    budget = LocalLimiter(Limits(budget_usd=41 * most))
    with Provider(batches(most_enqueued=7)) as provider:
        assert kinds(list(start(provider, budget=budget).generate(asks(40)))) == {"answer": 40}


@pytest.mark.parametrize("strict", [False, True], ids=["it says so", "it refuses a batch of it"])
def test_an_input_file_that_is_pending_is_waited_for(start: Start, tmp_path: Path, strict: bool) -> None:
    with Provider(batches(file_polls=5, strict_files=strict)) as provider:
        host = start(provider)
        asked: list[list[str | None]] = []
        retrieve = host._client.files.retrieve

        def watched(id: str) -> Any:
            asked.append([batch.waits_for for batch in book(tmp_path)])
            return retrieve(id)

        host._client.files.retrieve = watched  # type: ignore[method-assign,assignment]
        assert kinds(list(host.generate(asks(5)))) == {"answer": 5}
    assert len(asked) == 5
    assert strict or asked[0] == ["their input file to be processed"]
    assert once_each(provider)


def test_the_lines_that_a_batch_failed_for_are_left_out_the_next_time(start: Start) -> None:
    def picky(batch: dict[str, Any]) -> dict[str, Any]:
        if batch["request_counts"]["total"] < 5:
            return batch
        wrong = {"code": "invalid_request", "message": "This line is odd.", "line": 2, "param": None}
        return batch | {"status": "failed", "errors": {"object": "list", "data": [wrong]}}

    with Provider(batches(says=picky)) as provider:
        replies = {reply.key: reply for reply in start(provider).generate(asks(5))}
    assert kinds(list(replies.values())) == {"answer": 4, "bad_request": 1}
    assert isinstance(replies[asks(5)[1].key].outcome, Failure)


# ── other dialects ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("completed", ["COMPLETED", "success", "SUCCEEDED", "JOB_STATE_SUCCEEDED", "ended", "Done"])
@pytest.mark.parametrize("running", ["in-progress", "IN_PROGRESS", "JOB_STATE_RUNNING", "a new word"])
def test_a_status_in_another_spelling_ends_a_batch_too(start: Start, completed: str, running: str) -> None:
    with Provider(batches(words={"completed": completed, "in_progress": running, "validating": running})) as provider:
        assert kinds(list(start(provider).generate(asks(3)))) == {"answer": 3}
    assert once_each(provider)


@pytest.mark.parametrize(
    "odd",
    [
        {"created_at": "yesterday", "completed_at": "today"},
        {"created_at": None, "request_counts": None},
        {"created_at": 1e300, "completed_at": -1, "request_counts": {"completed": "many"}},
        {"errors": "none", "metadata": "none", "object": 7, "error_file_id": ""},
        {"request_counts": [], "metadata": None, "endpoint": None, "usage": {"input_tokens": "?"}},
    ],
)
def test_fields_that_are_odd_do_no_harm(start: Start, odd: dict[str, Any]) -> None:
    with Provider(batches(says=lambda batch: batch | odd)) as provider:
        replies = list(start(provider).generate(asks(3)))
    assert kinds(replies) == {"answer": 3}
    assert all(reply.latency_s >= 0 and reply.asked_at.tzinfo is UTC for reply in replies)


# ── answers that are lost, and places that are none ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("behaviour", [{}, {"echoes": True, "one_page": False}], ids=["a list", "one page for ever"])
def test_a_batch_whose_answer_was_lost_is_found_in_the_list(start: Start, behaviour: dict[str, bool]) -> None:
    with Provider(batches(lost_creates=2, **behaviour)) as provider:
        host = start(provider)
        assert kinds(list(host.generate(asks(5)))) == {"answer": 5}
    assert once_each(provider)


def test_a_batch_is_found_by_its_file_where_metadata_is_not_echoed(start: Start) -> None:
    def forgetful(batch: dict[str, Any]) -> dict[str, Any]:
        return batch | {"metadata": None}

    with Provider(batches(lost_creates=1, says=forgetful)) as provider:
        assert kinds(list(start(provider).generate(asks(5)))) == {"answer": 5}
    assert once_each(provider)


def test_where_nothing_is_listed_a_batch_that_may_have_been_made_is_not_made_again(
    start: Start, tmp_path: Path
) -> None:
    with Provider(batches(lost_creates=1, lists=False)) as provider:
        for _ in range(2):
            replies, stopped = until_down(start(provider), asks(5))
            assert replies == []
            assert "does not list its batches" in str(stopped)
            assert book(tmp_path)[0].token in str(stopped)
        for batch in book(tmp_path):  # as the sentence says
            FolderBook(RunFolder(str(tmp_path))).forget(batch)
        assert kinds(list(start(provider).generate(asks(5)))) == {"answer": 5}


def test_a_place_without_batches_ends_the_lane_in_a_sentence(start: Start) -> None:
    with Provider(batches(endpoints=False)) as provider:
        replies, stopped = until_down(start(provider), asks(3))
    assert replies == []
    assert "has no batch endpoint (404" in str(stopped)
    assert "base_url" in str(stopped)


@pytest.mark.parametrize("odd", ["<html></html>", None, [], 7, {}, {"error": {"message": "not now"}}])
def test_what_is_no_batch_ends_the_lane_in_a_sentence_and_its_answers_come_next_time(start: Start, odd: Any) -> None:
    told: list[Any] = []

    def pages(batch: dict[str, Any]) -> Any:
        told.append(batch)
        return batch if len(told) == 1 or len(told) > 1 + PATIENCE.attempts**2 else odd

    with Provider(batches(says=pages)) as provider:
        replies, stopped = until_down(start(provider), asks(5))
        assert replies == []
        assert "cannot be asked for batches" in str(stopped)
        assert kinds(list(start(provider).generate(asks(5)))) == {"answer": 5}
    assert once_each(provider)


def test_a_provider_that_is_away_for_a_while_is_asked_again(start: Start, tmp_path: Path) -> None:
    with Provider() as provider:
        host = start(provider)
        retrieve, polls = host._client.batches.retrieve, [0]
        noted: list[str | None] = []

        def away(id: str) -> Any:
            polls[0] += 1
            noted.append(book(tmp_path)[0].waits_for)
            if polls[0] <= 2 * PATIENCE.attempts:
                raise openai.APIConnectionError(request=httpx2.Request("GET", provider.base_url))
            return retrieve(id)

        host._client.batches.retrieve = away  # type: ignore[method-assign,assignment]
        assert kinds(list(host.generate(asks(5)))) == {"answer": 5}
    assert once_each(provider)
    assert noted[PATIENCE.attempts] == "word of the provider"


def test_a_batch_in_trouble_leaves_what_others_bring(start: Start) -> None:
    def one_is_odd(batch: dict[str, Any]) -> Any:
        return "no batch" if batch["id"] == "batch_2" and batch["status"] != "validating" else batch

    with Provider(batches(says=one_is_odd)) as provider:
        replies, stopped = until_down(start(provider, most_lines=5), asks(15))
    assert kinds(replies) == {"answer": 10}
    assert "cannot be asked for batches" in str(stopped)


def test_a_passing_401_is_not_believed(start: Start) -> None:
    with Provider() as provider:
        host = start(provider)
        retrieve, polls = host._client.batches.retrieve, [0]

        def refusing(id: str) -> Any:
            polls[0] += 1
            if polls[0] == 2:
                request = httpx2.Request("GET", provider.base_url)
                said = {"error": {"message": "Incorrect API key provided.", "code": "invalid_api_key"}}
                refused = httpx2.Response(401, json=said, request=request)
                raise openai.AuthenticationError("401", response=refused, body=said["error"])
            return retrieve(id)

        host._client.batches.retrieve = refusing  # type: ignore[method-assign,assignment]
        assert kinds(list(host.generate(asks(5)))) == {"answer": 5}
    assert once_each(provider)


def test_whose_batches_are_noted_is_welcome_from_the_start(start: Start, tmp_path: Path) -> None:
    """Whoever is started again in the middle of the night does not believe one 401."""
    noted = NotedBatch("token", ENTRY.name, ("k",), "2025-11-01T00:00:00+00:00")
    with Provider() as provider:
        FolderBook(RunFolder(str(tmp_path))).note(noted)
        assert not start(provider)._desk.welcome
        FolderBook(RunFolder(str(tmp_path))).note(replace(noted, id="batch_1"))
        assert start(provider)._desk.welcome
        assert not start(provider, entry=ENTRY.model_copy(update={"name": "other"}))._desk.welcome


def test_a_provider_that_says_how_long_to_wait_is_obeyed(start: Start) -> None:
    class Waits(threading.Event):
        """Nobody waits; how long they would have is written down."""

        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0.0)
            return False

    waited: list[float] = []
    with Provider() as provider:
        host = start(provider)
        host._desk._closed = Waits()
        retrieve = host._client.batches.retrieve

        def busy(id: str) -> Any:
            if not waited:
                request = httpx2.Request("GET", provider.base_url)
                refused = httpx2.Response(503, headers={"Retry-After": "70"}, request=request)
                raise openai.InternalServerError("503", response=refused, body=None)
            return retrieve(id)

        host._client.batches.retrieve = busy  # type: ignore[method-assign,assignment]
        assert kinds(list(host.generate(asks(5)))) == {"answer": 5}
    assert len(waited) == 1
    assert 70 <= waited[0] <= 70.02


def test_a_passing_404_is_not_believed(start: Start) -> None:
    with Provider() as provider:
        host = start(provider)
        retrieve, polls = host._client.batches.retrieve, [0]

        def flickering(id: str) -> Any:
            polls[0] += 1
            return retrieve(id if polls[0] % 3 == 2 else "batch_that_is_not_there")

        host._client.batches.retrieve = flickering  # type: ignore[method-assign,assignment]
        assert kinds(list(host.generate(asks(5)))) == {"answer": 5}
    assert once_each(provider)


def test_what_nobody_foresaw_ends_the_lane_in_a_sentence_with_its_type_and_place(start: Start) -> None:
    with Provider() as provider:
        host = start(provider)

        def strange(id: str) -> Any:
            raise LookupError(f"strange: {id} {CANARY}")

        host._client.batches.retrieve = strange  # type: ignore[method-assign,assignment]
        _, stopped = until_down(host, asks(2))
    assert "LookupError: strange: batch_1 [key] (test_batch_api.py:" in str(stopped)


@pytest.mark.parametrize("fault", [Fault.SURROGATE, Fault.ODD_USAGE, Fault.THINK])
def test_an_odd_answer_of_a_batch_is_read_as_any_other(start: Start, fault: Fault) -> None:
    with Provider(Behaviour(Plan(schedule=[(1, None, fault)]))) as provider:
        (reply,) = start(provider).generate(asks(1))
    answer = reply.outcome
    assert isinstance(answer, Answer)
    assert answer.text.isprintable()
    assert "think" not in answer.text
    assert (answer.prompt_tokens is None, answer.completion_tokens is None) == (False, False)
    assert answer.reasoning == ("How would that feel?" if fault is Fault.THINK else None)
