"""Batches overnight, against a real server on loopback."""

from __future__ import annotations

import json
import logging
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from emoray.batches import FolderBook
from emoray.governor import Limits
from emoray.governor.local import LocalGovernor
from emoray.hosts import Ask, BudgetSpent, HostDown, Reply
from emoray.hosts.asking import Guess
from emoray.hosts.batch_api import BatchApi
from emoray.hosts.batch_book import NotedBatch
from emoray.prices import price_of
from emoray.rehearsal.faults import Fault, Plan, storm
from emoray.rehearsal.provider import Manners, Provider
from emoray.spec import Account, Hosted, Retry
from emoray.store import RunFolder
from emoray.study.outcomes import Answer, Failure, FailureKind

CANARY = "sk-canary-77aa0c"
ENTRY = Hosted(host="batch_api", name="gpt", id="gpt-4o", account="lab")
PATIENCE = Retry(attempts=3, timeout_s=20.0, first_wait_s=0.01, longest_wait_s=0.02)
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
        account = Account(base_url=provider.base_url, key_env="LAB_KEY")
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
    assert all(len(batch.keys) < 9 for batch in book(tmp_path) if batch.model == "two")


def test_the_id_is_written_down_before_anybody_waits(start: Start, tmp_path: Path) -> None:
    with Provider(Manners(batch_polls=10**9)) as provider:
        host = start(provider, poll_s=60.0)
        polled: list[list[NotedBatch]] = []
        retrieve = host._client.batches.retrieve

        def watched(id: str) -> Any:
            polled.append(book(tmp_path))
            host.close()  # the submitter dies at the first poll
            return retrieve(id)

        host._client.batches.retrieve = watched  # type: ignore[method-assign,assignment]
        with pytest.raises((HostDown, RuntimeError)):
            list(host.generate(asks(5)))
    assert [batch.id for batch in polled[0]] == ["batch_1"]


def test_whoever_comes_after_a_dead_submitter_waits_for_its_batches_and_pays_nothing_twice(start: Start) -> None:
    with Provider(Manners(batch_polls=3)) as provider:
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
    with Provider(Manners(batch_polls=3)) as provider:
        first = start(provider, poll_s=60.0)
        first._closed.set()
        with pytest.raises(HostDown):
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
    with Provider(Manners(Plan(3, storm(0.5)))) as provider:
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
        (Fault.HANG, FailureKind.TIMEOUT),  # the batch expired before this line was done
    ],
)
def test_each_failed_line_has_its_kind(start: Start, fault: Fault, kind: FailureKind) -> None:
    with Provider(Manners(Plan(schedule=[(1, None, fault)]))) as provider:
        assert kinds(list(start(provider).generate(asks(2)))) == {kind.value: 2}


def test_a_refused_key_stops_the_lane_with_one_sentence_after_typed_failures(start: Start) -> None:
    with Provider(Manners(api_key="another")) as provider:
        replies, stopped = until_down(start(provider), asks(3))
    assert "LAB_KEY" in str(stopped)
    assert kinds(replies) == {"auth": 3}


def test_a_server_that_is_not_there_leaves_typed_failures(start: Start) -> None:
    with Provider() as provider:
        host = start(provider)
    assert kinds(list(host.generate(asks(3)))) == {"connection": 3}


def test_no_batch_is_sent_that_might_pass_the_budget(start: Start, tmp_path: Path) -> None:
    purse = LocalGovernor(Limits(budget_usd=0.004))
    with Provider() as provider:
        replies, stopped = until_down(start(provider, purse=purse, most_lines=10), asks(200))
    assert isinstance(stopped, BudgetSpent)
    spent = sum(reply.outcome.cost_usd or 0.0 for reply in replies)
    assert 0 < spent <= 0.004
    assert len(replies) == sum(len(batch.keys) for batch in book(tmp_path)) == provider.counters.requests
    assert purse.bucket.spent_usd == pytest.approx(spent)


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


def test_the_cells_of_a_batch_that_the_provider_has_lost_are_asked_anew(start: Start, tmp_path: Path) -> None:
    keys = tuple(ask.key for ask in asks(5))
    FolderBook(RunFolder(str(tmp_path))).note(NotedBatch("old", "gpt", keys, "2026-01-01T00:00:00+00:00", id="gone"))
    with Provider() as provider:
        assert kinds(list(start(provider).generate(asks(5)))) == {"answer": 5}
    assert {batch.token: batch.ended for batch in book(tmp_path)}["old"]


def test_what_the_open_batches_of_a_dead_submitter_may_cost_is_set_aside_by_whoever_comes_after(
    start: Start, tmp_path: Path
) -> None:
    most = Guess(price_of(ENTRY)).of(asks(1)[0])[1]
    budget = Limits(budget_usd=10.5 * most)
    with Provider(Manners(batch_polls=10**9)) as provider:
        first = start(provider, purse=LocalGovernor(budget))
        first._closed.set()
        until_down(first, asks(10))
        second = start(provider, purse=LocalGovernor(budget))
        second._closed.set()
        until_down(second, asks(20))
    assert sum(len(batch.keys) for batch in book(tmp_path)) == 10


def test_a_batch_that_two_calls_wait_for_is_paid_once(start: Start) -> None:
    purse = LocalGovernor(Limits(budget_usd=1.0))
    with Provider(Manners(batch_polls=2)) as provider:
        first = start(provider)
        first._closed.set()
        until_down(first, asks(10))
        host = start(provider, purse=purse)
        with ThreadPoolExecutor(2) as pool:
            halves = list(pool.map(lambda owed: list(host.generate(owed)), (asks(10)[:5], asks(10)[5:])))
    spent = sum(reply.outcome.cost_usd or 0.0 for half in halves for reply in half)
    assert purse.bucket.spent_usd == pytest.approx(spent)


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
    async def indiscreet(body: dict[str, Any]) -> str:
        del body
        return f"Your key is {CANARY}."

    caplog.set_level(logging.DEBUG)
    with Provider(Manners(api_key=CANARY), indiscreet) as provider:
        host = start(provider)
        replies = list(host.generate(asks(3)))
        with pytest.raises(TypeError) as refused:
            pickle.dumps(host)
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    everything = "".join([written, caplog.text, repr(host), repr(replies), str(refused.value)])
    assert json.loads(next(tmp_path.rglob("*.json")).read_text())["id"] == "batch_1"
    assert "[key]" in everything
    assert CANARY not in everything


@pytest.mark.parametrize("fault", [Fault.SURROGATE, Fault.ODD_USAGE, Fault.THINK])
def test_an_odd_answer_of_a_batch_is_read_as_any_other(start: Start, fault: Fault) -> None:
    with Provider(Manners(Plan(schedule=[(1, None, fault)]))) as provider:
        (reply,) = start(provider).generate(asks(1))
    answer = reply.outcome
    assert isinstance(answer, Answer)
    assert answer.text.isprintable()
    assert "think" not in answer.text
    assert (answer.prompt_tokens is None, answer.completion_tokens is None) == (False, False)
    assert answer.reasoning == ("How would that feel?" if fault is Fault.THINK else None)


def test_a_short_key_changes_nothing_of_what_a_batch_brought(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    async def joyful(_: dict[str, Any]) -> str:
        return "I feel joy and anger, x EMPTY."

    monkeypatch.setenv("LAB_KEY", "joy")
    with Provider(Manners(), joyful) as provider:
        (reply,) = start(provider).generate(asks(1))
    assert isinstance(reply.outcome, Answer)
    assert reply.outcome.text == "I feel joy and anger, x EMPTY."
