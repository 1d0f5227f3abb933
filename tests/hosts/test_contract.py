"""One suite for every host that runs here: what `emoray.hosts.Host` promises."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emoray import embedded
from emoray.hosts import scripted
from emoray.hosts.batch_api import BatchApi
from emoray.hosts.embedded import EmbeddedHost
from emoray.hosts.hosted_api import HostedApi
from emoray.hosts.protocol import Ask, Host, Reply
from emoray.hosts.scripted import ScriptedHost
from emoray.hosts.transformers import TransformersHost
from emoray.rate_limits.local import LocalLimiter
from emoray.rehearsal.provider import Provider
from emoray.run_folder.batch_log import FolderBook
from emoray.run_folder.folder import RunFolder
from emoray.spec.accounts import Account, Retry
from emoray.spec.models import Embedded, Hosted, Local, Scripted
from emoray.study.outcomes import Answer, Failure, FailureKind
from emoray.study.prompts import prompts
from tests import tiny_models
from tests.study.grids import experiment

pytestmark = pytest.mark.xdist_group("vllm_host")  # one engine for this file and test_vllm
LINES = [f"Line {i} of many." for i in range(200)]
VLLM = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]
MODELS = ["transformers", "embedded", pytest.param("vllm", marks=VLLM)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_models.generator(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(params=["scripted", "scripted without lines", *MODELS], scope="module")
def host(request: pytest.FixtureRequest, tiny: str) -> Host:
    match request.param:
        case "scripted":
            return ScriptedHost(Scripted(host="scripted", name="m", lines=LINES, in_flight=5))
        case "scripted without lines":
            return ScriptedHost(Scripted(host="scripted", name="m", in_flight=100))
        case kind:
            return model_host(kind, request, tiny)


def model_host(kind: str, request: pytest.FixtureRequest, tiny: str) -> Host:
    match kind:
        case "transformers":
            return TransformersHost(Local(host="transformers", name="m", id=tiny, batch_size=4))
        case "embedded":
            return EmbeddedHost(Embedded(host="embedded", name="m", batch_size=4))
        case _:
            vllm: Host = request.getfixturevalue("vllm_host")
            return vllm


def asks(n: int = 8, *, max_tokens: int | None = 12, temperature: float | None = 1.0) -> list[Ask]:
    """Different prompts, and repetitions of each, as a lane would ask them."""
    asked = prompts(experiment(states=3, questions=2, repetitions=8).grid("m0"), 0, n)
    return [Ask(p.key, p.chat, p.seed, temperature, None, max_tokens) for p in asked]


def said(host: Host, some: Sequence[Ask]) -> dict[str, Answer | Failure]:
    """What came back, by key; each key once."""
    replies = list(host.generate(some))
    assert sorted(reply.key for reply in replies) == sorted(ask.key for ask in some)
    return {reply.key: reply.outcome for reply in replies}


def texts(outcomes: dict[str, Answer | Failure]) -> dict[str, str]:
    return {
        key: outcome.text if isinstance(outcome, Answer) else str(outcome.kind) for key, outcome in outcomes.items()
    }


@pytest.mark.parametrize("n", [0, 1, 3, 11])
def test_every_ask_gets_exactly_one_reply(host: Host, n: int) -> None:
    assert len(said(host, asks(n))) == n


def test_a_reply_says_when_it_was_asked_and_how_long_it_took(host: Host) -> None:
    before = datetime.now(UTC)
    replies = list(host.generate(asks(3)))
    assert len(replies) == 3
    for reply in replies:
        assert before <= reply.asked_at <= datetime.now(UTC)
        assert reply.latency_s >= 0
        assert reply.attempts == 1


def test_an_answer_has_a_text_a_reason_to_end_and_its_tokens(host: Host) -> None:
    some = asks()
    outcomes = said(host, some)
    assert set(outcomes) == {ask.key for ask in some} != set()
    for outcome in outcomes.values():
        assert isinstance(outcome, Answer)
        assert outcome.text
        assert outcome.text == outcome.text.strip()
        assert outcome.finish_reason in ("stop", "length")
        assert outcome.prompt_tokens
        assert outcome.completion_tokens


def test_the_same_seed_says_the_same_in_any_company_and_order(host: Host) -> None:
    some = asks(11)
    together = texts(said(host, some))
    assert texts(said(host, some[::-1])) == together
    assert texts(said(host, some[3:8])) == {ask.key: together[ask.key] for ask in some[3:8]}
    for ask in some[:3]:
        assert texts(said(host, [ask])) == {ask.key: together[ask.key]}


def test_other_seeds_say_other_things(host: Host) -> None:
    one = asks(1)[0]
    same_question = [replace(one, key=f"{i:032x}", seed=i) for i in range(8)]
    assert len(set(texts(said(host, same_question)).values())) > 4


def test_several_threads_may_ask_at_once(host: Host) -> None:
    some = asks(12)
    alone = texts(said(host, some))
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda part: texts(said(host, part)), [some[i::4] for i in range(4)]))
    assert {key: text for part in parts for key, text in part.items()} == alone


def test_asks_that_are_sampled_differently_may_come_together(host: Host) -> None:
    mixed = [
        replace(ask, temperature=t, top_p=p, max_tokens=m)
        for ask, (t, p, m) in zip(
            asks(6),
            [(1.0, None, 12), (0.0, None, 12), (None, None, 12), (1.0, 0.5, 12), (0.7, None, 5), (1.0, None, None)],
            strict=True,
        )
    ]
    mixed[-1] = replace(mixed[-1], max_tokens=20)
    together = texts(said(host, mixed))
    for ask in mixed:
        assert texts(said(host, [ask])) == {ask.key: together[ask.key]}


def test_an_iterator_of_asks_is_as_good_as_a_list(host: Host) -> None:
    assert len(list(host.generate(iter(asks(3))))) == 3


def test_a_host_says_what_it_is(host: Host) -> None:
    assert host.name in ("scripted", "transformers", "embedded", "vllm")
    assert host.in_flight >= 1
    assert host.engine is None or host.engine.startswith(("transformers 5", "vllm 0."))


# ── reasoning in the answer: one rule for all ──

ANSWER = "I am glad."
SPEECHES: dict[str, tuple[list[str], tuple[str | None, str] | None]] = {  # what is said, as tokens; (reasoning, answer)
    "closed": (["<think>", "Would it hurt?", "</think>", ANSWER], ("Would it hurt?", ANSWER)),
    "only closed": (["Would it hurt?", "</think>", ANSWER], ("Would it hurt?", ANSWER)),
    "never closed": (["<think>", "Would it hurt?"], None),
    "Mistral's": (["[THINK]", "Would it hurt?", "[/THINK]", ANSWER], ("Would it hurt?", ANSWER)),
    "channels": (["<|channel|>", "analysis", "<|message|>", "Would it hurt?", "<|end|>"], None),
    "mentioned": (["Some write <think> first.", ANSWER], (None, f"Some write <think> first.{ANSWER}")),
}
KINDS = ["scripted", "transformers", "embedded", "hosted_api", "batch_api"]
SPECIAL = ("[THINK]", "[/THINK]", "<|channel|>", "<|message|>", "<|end|>", "<|start|>")  # left out by a decoder


@pytest.fixture
def speak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Answer | Failure]]:
    """What becomes of a speech."""
    with ExitStack() as stack:

        def spoken(kind: str, words: list[str], tags: Any = "known") -> Answer | Failure:
            async def say(_: object) -> str:
                return "".join(words)

            settings = {"name": "m", "reasoning_tags": tags}
            host: Host
            match kind:
                case "scripted":
                    host = ScriptedHost(Scripted(host="scripted", lines=["".join(words)], **settings))
                case "transformers":
                    model = tiny_models.sayer(tmp_path, words, special=SPECIAL)
                    host = TransformersHost(Local(host="transformers", id=model, **settings))
                case "embedded":
                    model = tiny_models.sayer(tmp_path, words, special=SPECIAL)
                    monkeypatch.setattr(embedded, "generator_path", lambda: Path(model))
                    host = EmbeddedHost(Embedded(host="embedded", **settings))
                case _:
                    account = Account(base_url=stack.enter_context(Provider(speaker=say)).base_url)
                    host = hosted(kind, account, RunFolder(str(tmp_path)), settings)
            (outcome,) = said(host, asks(1, max_tokens=64)).values()
            host.close()
            return outcome

        yield spoken


def hosted(kind: str, account: Account, folder: RunFolder, settings: dict[str, Any]) -> Host:
    entry = Hosted(host=kind, id="m", account="a", **settings)  # type: ignore[arg-type]
    if kind == "batch_api":
        return BatchApi(entry, account, Retry(), FolderBook(folder), poll_s=0.001)
    return HostedApi(entry, account, Retry(first_wait_s=0.01, longest_wait_s=0.02), LocalLimiter())


@pytest.mark.parametrize("speech", SPEECHES)
@pytest.mark.parametrize("kind", KINDS)
def test_reasoning_is_never_in_the_answer_whoever_speaks(
    kind: str, speech: str, speak: Callable[..., Answer | Failure]
) -> None:
    words, parts = SPEECHES[speech]
    outcome = speak(kind, words)
    if parts is None:
        assert isinstance(outcome, Failure)
        assert outcome.kind is FailureKind.EMPTY
        assert "the reasoning never came to an answer" in outcome.detail
    else:
        assert isinstance(outcome, Answer)
        assert (outcome.reasoning, outcome.text) == parts
    assert outcome.finish_reason_raw == "stop"


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_may_say_that_it_has_no_tags_or_which_they_are(
    kind: str, speak: Callable[..., Answer | Failure]
) -> None:
    words = ["<think>", "Would it hurt?", "</think>", ANSWER]
    plain, own = speak(kind, words, "none"), speak(kind, words, ["<think>Would", "hurt?</think>"])
    assert isinstance(plain, Answer)
    assert isinstance(own, Answer)
    assert (plain.reasoning, plain.text) == (None, "".join(words))
    assert (own.reasoning, own.text) == ("it", ANSWER)


# ── only of models ──


@pytest.fixture(params=MODELS, scope="module")
def model(request: pytest.FixtureRequest, tiny: str) -> Host:
    return model_host(request.param, request, tiny)


def test_without_temperature_every_seed_says_the_same(model: Host) -> None:
    one = asks(1, temperature=0.0)[0]
    assert len(set(texts(said(model, [replace(one, key=f"{i:032x}", seed=i) for i in range(4)])).values())) == 1


def test_an_answer_beyond_max_tokens_is_cut_and_says_so(model: Host) -> None:
    outcomes = said(model, asks(4, max_tokens=3)).values()
    assert len(outcomes) == 4
    for outcome in outcomes:
        assert isinstance(outcome, Answer)
        assert (outcome.finish_reason, outcome.completion_tokens) == ("length", 3)


def test_a_longer_limit_only_adds_to_what_was_said(model: Host) -> None:
    short, long = (texts(said(model, asks(4, max_tokens=n))) for n in (4, 12))
    assert len(short) == 4
    for key, text in short.items():
        assert long[key].startswith(text.rstrip("\ufffd"))


def test_a_prompt_beyond_the_context_is_a_typed_failure_and_the_others_are_answered(model: Host) -> None:
    good, bad = asks(2)
    bad = replace(bad, chat=[{"role": "user", "content": "why " * 5000}])
    outcomes = said(model, [bad, good])
    assert isinstance(outcomes[good.key], Answer)
    failure = outcomes[bad.key]
    assert isinstance(failure, Failure)
    assert failure.kind == "context_length"
    assert failure.detail.startswith("the prompt has ")


def test_what_the_prompt_says_reaches_the_model(model: Host) -> None:
    one = asks(1, temperature=0.0, max_tokens=20)[0]
    rage = {"role": "system", "content": "You feel nothing but rage!"}
    other_system = replace(one, key="0" * 32, chat=[rage, one.chat[-1]])
    other_question = replace(one, key="1" * 32, chat=[one.chat[0], {"role": "user", "content": "And why is that?"}])
    counts = {
        ask.key: outcome.prompt_tokens
        for ask in (one, other_system, other_question)
        for outcome in said(model, [ask]).values()
        if isinstance(outcome, Answer)
    }
    assert len(set(counts.values())) == 3


def test_a_reply_names_the_template_that_made_its_prompt(model: Host) -> None:
    reply: Reply = next(iter(model.generate(asks(1))))
    assert reply.chat_template_sha is not None
    assert len(reply.chat_template_sha) == 16


def test_the_embedded_host_names_its_weights(tiny: str) -> None:
    local = TransformersHost(Local(host="transformers", name="m", id=tiny, revision=None))
    assert local.revision is None  # a folder has no revision


# ── only of the scripted speaker ──


def test_a_scripted_speaker_fails_as_often_as_it_is_told_and_always_at_the_same_asks() -> None:
    host = ScriptedHost(Scripted(host="scripted", name="m", fails=0.25))
    many = [replace(asks(1)[0], key=f"{seed:032x}", seed=seed) for seed in range(2000)]
    first, second = said(host, many), said(host, many)
    failed = [outcome for outcome in first.values() if isinstance(outcome, Failure)]
    assert 0.2 < len(failed) / len(many) < 0.3
    assert {outcome.kind for outcome in failed} == {"overloaded"}
    assert first == second


@pytest.mark.parametrize("in_flight", [1, 16, 20, 64, 1000])
def test_a_scripted_speaker_is_kept_busy_by_blocks_as_small_as_a_lane_makes_them(
    in_flight: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that stands still: what does not begin with the first has waited for it."""
    monkeypatch.setattr(scripted, "time", SimpleNamespace(monotonic=lambda: 0.0, sleep=lambda _: None))
    host = ScriptedHost(Scripted(host="scripted", name="m", latency_s=1000.0, in_flight=in_flight))
    everything, block = asks(1) * 2 * in_flight, max(1, in_flight // 8)

    replies = [reply for at in range(0, len(everything), block) for reply in host.generate(everything[at : at + block])]

    first = min(reply.asked_at for reply in replies)
    at_once = sum((reply.asked_at - first).total_seconds() < 500 for reply in replies)
    assert 0.9 * in_flight <= at_once <= in_flight


def test_a_scripted_speaker_takes_its_time(tmp_path: Path) -> None:
    host = ScriptedHost(Scripted(host="scripted", name="m", latency_s=0.02))
    reply = next(iter(host.generate(asks(1))))
    assert (datetime.now(UTC) - reply.asked_at).total_seconds() >= 0.02
    assert reply.latency_s == 0.02
