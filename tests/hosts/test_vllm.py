"""The vLLM host on the real engine, on a CPU, with a tiny Llama."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import psutil
import pytest

from emoray.hosts import Ask, HostDown, Reply
from emoray.hosts.chat_template import ChatTemplate
from emoray.spec import Vllm
from emoray.study.outcomes import Answer, FailureKind
from tests.hosts.vllm_tiny import POSITIONS, tiny_llama

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


def entry(model: Path | str, **settings: Any) -> Vllm:
    usual: dict[str, Any] = {"host": "vllm", "name": "tiny", "device": "cpu", "dtype": "float32", "max_num_seqs": 16}
    return Vllm(id=str(model), **usual | settings)


@pytest.fixture(scope="module")
def host(model: Path) -> Iterator[Any]:
    from emoray.hosts.vllm import VllmHost

    host = VllmHost(entry(model))
    started = _engines()
    yield host
    host.close()
    assert started
    assert _gone(started), "an engine that is closed leaves no process"


def ask(number: int, **settings: Any) -> Ask:
    chat = [{"role": "system", "content": "You are sad."}, {"role": "user", "content": f"What is art {number % 5}?"}]
    usual: dict[str, Any] = {"chat": chat, "temperature": 1.0, "top_p": None, "max_tokens": 24}
    return Ask(key=f"{number:032x}", seed=1000 + number, **usual | settings)


def texts(replies: Iterator[Reply]) -> dict[str, Any]:
    return {r.key: r.outcome.text if isinstance(r.outcome, Answer) else r.outcome.kind for r in replies}


def test_the_same_seed_says_the_same_in_any_order_and_beside_any_other_ask(host: Any) -> None:
    asks = [ask(number) for number in range(60)]

    together = texts(host.generate(asks))

    assert together == texts(host.generate(reversed(asks)))
    alone = {key: text for each in asks[:8] for key, text in texts(host.generate([each])).items()}
    assert alone.items() <= together.items()
    assert len(set(together.values())) > 40  # and different seeds say different things


def test_many_threads_ask_at_once_and_each_gets_its_own_replies(host: Any) -> None:
    found: dict[int, set[str]] = {}

    def work(start: int) -> None:
        found[start] = {reply.key for reply in host.generate(ask(n) for n in range(start, start + 20))}

    threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 160, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == {start: {ask(n).key for n in range(start, start + 20)} for start in range(0, 160, 20)}


def test_a_long_answer_holds_back_no_short_one(host: Any) -> None:
    long = ask(1, max_tokens=400, temperature=0.0)
    shorts = [ask(number, max_tokens=2) for number in range(2, 40)]

    keys = [reply.key for reply in host.generate([long, *shorts])]

    assert keys[-1] == long.key


def test_an_answer_tells_how_it_came_about(host: Any) -> None:
    replies: list[Any] = list(host.generate(ask(n, max_tokens=200) for n in range(30)))

    said = [reply.outcome for reply in replies if isinstance(reply.outcome, Answer)]
    assert {answer.finish_reason for answer in said} == {"stop", "length"}
    for answer in said:
        assert "<|eot_id|>" not in answer.text
        assert answer.prompt_tokens == len(host._template.tokens(ask(0).chat))
        assert (answer.completion_tokens == 200) == (answer.finish_reason == "length")
    assert {len(reply.chat_template_sha) for reply in replies} == {16}
    assert host.engine.startswith("vllm 0.")
    assert len(host.revision) == 16


def test_a_row_that_cannot_be_asked_is_a_failure_of_its_kind_and_the_others_go_on(host: Any) -> None:
    chat = [{"role": "user", "content": "x" * POSITIONS}]

    replies = list(host.generate([ask(1), ask(2, chat=chat), ask(3, top_p=7.0), ask(4)]))

    outcomes: dict[int, Any] = {int(reply.key, 16): reply.outcome for reply in replies}
    assert texts(iter(replies)).items() > texts(host.generate([ask(1), ask(4)])).items()
    assert outcomes[2].kind is FailureKind.CONTEXT_LENGTH
    assert f"the model reads {POSITIONS}" in outcomes[2].detail
    assert outcomes[3].kind is FailureKind.BAD_REQUEST
    assert "top_p" in outcomes[3].detail


def test_an_answer_may_fill_the_context_but_not_pass_it(host: Any) -> None:
    chat = [{"role": "user", "content": "x" * (POSITIONS - 62)}]

    replies = list(host.generate(ask(n, chat=chat, max_tokens=None) for n in range(20)))

    ends: list[Any] = [reply.outcome for reply in replies if isinstance(reply.outcome, Answer)]
    assert ends
    assert max(end.prompt_tokens + end.completion_tokens for end in ends) <= POSITIONS


def test_reasoning_is_kept_apart_and_only_the_answer_is_the_text(host: Any) -> None:
    from emoray.hosts.vllm import _Reasoning

    reasoning = _Reasoning("deepseek_r1", host._engine.get_tokenizer())

    assert reasoning.split("<think>I am told to be sad.</think>Rain again.") == ("I am told to be sad.", "Rain again.")
    assert reasoning.split("still thinking") == ("still thinking", "")
    with pytest.raises(HostDown, match="reasoning_parser 'nonsense' does not fit this model"):
        _Reasoning("nonsense", host._engine.get_tokenizer())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"id": "/no/such/model"}, r"\(/no/such/model\): the vLLM engine cannot start: .*; check the id"),
        ({"engine_kwargs": {"frobnicate": 1}}, "unexpected keyword argument 'frobnicate'; check engine_kwargs"),
        ({"engine_kwargs": {"kv_cache_memory_bytes": 1}}, "memory.*; lower max_model_len"),
    ],
    ids=["no model", "no such setting", "no memory"],
)
def test_an_engine_that_cannot_start_says_why_and_what_to_do(model: Path, settings: dict[str, Any], said: str) -> None:
    from emoray.hosts.vllm import VllmHost

    with pytest.raises(HostDown, match=said) as down:
        VllmHost(entry(settings.pop("id", model), **settings))

    assert "\n" not in str(down.value)


def test_no_engine_outlives_a_process_that_is_killed(model: Path) -> None:
    program = f"""
        import psutil, time
        from emoray.hosts.vllm import VllmHost
        from emoray.spec import Vllm
        if __name__ == "__main__":
            VllmHost(Vllm(**{entry(model).model_dump()!r}))
            print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
            time.sleep(600)
    """
    parent = _script(model.parent / "parent.py", program)
    assert parent.stdout is not None
    children = {int(pid) for pid in parent.stdout.readline().split()}
    parent.kill()

    assert len(children) >= 2  # the engine and its worker
    assert _gone(children)


def test_a_process_whose_engine_dies_ends_at_once(model: Path) -> None:
    program = f"""
        import os, psutil, signal
        from emoray.hosts import Ask
        from emoray.hosts.vllm import VllmHost
        from emoray.spec import Vllm
        if __name__ == "__main__":
            host = VllmHost(Vllm(**{entry(model).model_dump()!r}))
            for child in psutil.Process().children():
                if "EngineCore" in " ".join(child.cmdline()) + child.name():
                    os.kill(child.pid, signal.SIGKILL)
            chat = [{{"role": "user", "content": "?"}}]
            print(list(host.generate([Ask("k", chat, 1, 1.0, None, 300)])), flush=True)
    """
    parent = _script(model.parent / "dies.py", program)

    said, _ = parent.communicate(timeout=120)
    assert parent.returncode == 1
    assert said == ""


class _Refuses:
    """A tokenizer whose template knows no system role, as Gemma's."""

    chat_template = "refuses"

    def apply_chat_template(self, chat: list[dict[str, str]], **_: Any) -> list[int]:
        if chat[0]["role"] == "system":
            raise ValueError("System role not supported")
        return [len(chat), len(chat[0]["content"])]


def test_a_system_text_goes_before_the_question_where_the_template_has_no_such_role() -> None:
    assert ChatTemplate(_Refuses()).tokens(ask(1).chat) == [1, len("You are sad.\n\nWhat is art 1?")]


def test_the_specs_template_stands_in_for_the_models_own(host: Any) -> None:
    own = ChatTemplate(host._engine.get_tokenizer())
    other = ChatTemplate(host._engine.get_tokenizer(), "{% for m in messages %}{{ m['content'] }}{% endfor %}")

    assert own.sha != other.sha
    assert len(other.tokens(ask(1).chat)) == len("You are sad.What is art 1?")


def _engines() -> set[int]:
    children = psutil.Process().children(recursive=True)
    return {child.pid for child in children if child.name().startswith("VLLM")}


def _script(path: Path, program: str) -> subprocess.Popen[str]:
    path.write_text(dedent(program))
    return subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _gone(pids: set[int], within_s: float = 15.0) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
            return True
        time.sleep(0.2)
    return False
