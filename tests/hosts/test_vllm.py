"""The vLLM host on the real engine, on a CPU, with a tiny Llama."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from transformers import AutoTokenizer

from emoray.errors import UserError
from emoray.hosts.chat_template import ChatTemplate
from emoray.hosts.protocol import Ask, HostDown, Reply
from emoray.readers.judge import Judge, asked_of
from emoray.spec.load import parse, with_reader
from emoray.spec.models import Local, Vllm
from emoray.spec.readers import JudgeReader
from emoray.study.outcomes import Answer, Failure, FailureKind
from emoray.study.sampling import NEUTRAL
from tests.hosts.conftest import gone, vllm_entry, vllm_judge
from tests.hosts.vllm_tiny import LLAMA_3, POSITIONS, tiny_llama
from tests.programs import until
from tests.tiny_models import change

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.xdist_group("vllm_host"),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]


def ask(number: int, **settings: Any) -> Ask:
    chat = [{"role": "system", "content": "You are sad."}, {"role": "user", "content": f"What is art {number % 5}?"}]
    usual: dict[str, Any] = {"chat": chat, "temperature": 1.0, "top_p": None, "max_tokens": 24}
    return Ask(key=f"{number:032x}", seed=1000 + number, **usual | settings)


def texts(replies: Iterator[Reply]) -> dict[str, Any]:
    return {r.key: r.outcome.text if isinstance(r.outcome, Answer) else r.outcome.kind for r in replies}


def test_the_same_seed_says_the_same_in_any_order_and_beside_any_other_ask(vllm_host: Any) -> None:
    asks = [ask(number) for number in range(60)]

    together = texts(vllm_host.generate(asks))

    assert together == texts(vllm_host.generate(reversed(asks)))
    alone = {key: text for each in asks[:8] for key, text in texts(vllm_host.generate([each])).items()}
    assert len(alone) == 8
    assert alone.items() <= together.items()
    assert len(set(together.values())) > 40  # and different seeds say different things


def test_many_threads_ask_at_once_and_each_gets_its_own_replies(vllm_host: Any) -> None:
    found: dict[int, set[str]] = {}

    def work(start: int) -> None:
        found[start] = {reply.key for reply in vllm_host.generate(ask(n) for n in range(start, start + 20))}

    threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 160, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == {start: {ask(n).key for n in range(start, start + 20)} for start in range(0, 160, 20)}


def test_a_long_answer_holds_back_no_short_one(vllm_host: Any) -> None:
    long = ask(1, max_tokens=400, temperature=0.0)
    shorts = [ask(number, max_tokens=2) for number in range(2, 40)]

    keys = [reply.key for reply in vllm_host.generate([long, *shorts])]

    assert keys[-1] == long.key


def test_an_answer_tells_how_it_came_about(vllm_host: Any) -> None:
    replies: list[Any] = list(vllm_host.generate(ask(n, max_tokens=200) for n in range(30)))

    said = [reply.outcome for reply in replies if isinstance(reply.outcome, Answer)]
    assert {answer.finish_reason for answer in said} == {"stop", "length"}
    for answer in said:
        assert "<|eot_id|>" not in answer.text
        assert answer.prompt_tokens == len(vllm_host._template.tokens(ask(0).chat))
        assert (answer.completion_tokens == 200) == (answer.finish_reason == "length")
    assert {len(reply.chat_template_sha) for reply in replies} == {16}
    assert vllm_host.engine.startswith("vllm 0.")
    assert len(vllm_host.revision) == 16


def test_a_row_that_cannot_be_asked_is_a_failure_of_its_kind_and_the_others_go_on(vllm_host: Any) -> None:
    chat = [{"role": "user", "content": "x" * POSITIONS}]

    replies = list(vllm_host.generate([ask(1), ask(2, chat=chat), ask(3, top_p=7.0), ask(4)]))

    outcomes: dict[int, Any] = {int(reply.key, 16): reply.outcome for reply in replies}
    assert texts(iter(replies)).items() > texts(vllm_host.generate([ask(1), ask(4)])).items()
    assert outcomes[2].kind is FailureKind.CONTEXT_LENGTH
    assert f"the model reads {POSITIONS}" in outcomes[2].detail
    assert outcomes[3].kind is FailureKind.BAD_REQUEST
    assert "top_p" in outcomes[3].detail


def test_an_answer_may_fill_the_context_but_not_pass_it(vllm_host: Any) -> None:
    chat = [{"role": "user", "content": "x" * (POSITIONS - 62)}]

    replies = list(vllm_host.generate(ask(n, chat=chat, max_tokens=None) for n in range(20)))

    ends: list[Any] = [reply.outcome for reply in replies if isinstance(reply.outcome, Answer)]
    assert ends
    assert max(end.prompt_tokens + end.completion_tokens for end in ends) <= POSITIONS


def test_reasoning_is_kept_apart_and_only_the_answer_is_the_text(vllm_host: Any) -> None:
    from emoray.hosts.vllm import _Reasoning

    reasoning = _Reasoning("deepseek_r1", vllm_host._tokenizer)

    assert reasoning.split("<think>I am told to be sad.</think>Rain again.") == ("I am told to be sad.", "Rain again.")
    assert reasoning.split("still thinking") == ("still thinking", "")


def spoken(vllm_host: Any, text: str, finish: str) -> Any:
    """What the engine hands out of an answer that it has written."""
    tokens = vllm_host._tokenizer.encode(text) + [vllm_host._tokenizer.eos_token_id] * (finish == "stop")
    return SimpleNamespace(prompt_token_ids=[0] * 5, outputs=[SimpleNamespace(finish_reason=finish, token_ids=tokens)])


def test_reasoning_between_tags_is_kept_apart_without_a_parser_too(vllm_host: Any) -> None:
    answer = vllm_host._said(spoken(vllm_host, "<think>Hm.</think>\n\nYes.", "stop"))
    assert (answer.text, answer.reasoning, answer.finish_reason_raw) == ("Yes.", "Hm.", "stop")
    cut = vllm_host._said(spoken(vllm_host, "<think>Hm.", "length"))
    assert (cut.kind, cut.finish_reason_raw) == ("empty", "length")
    assert "raise it" in cut.detail


@pytest.mark.parametrize(
    ("word", "becomes"), [("repetition", "length"), ("abort", "engine"), ("error", "engine"), ("whim", "engine")]
)
def test_what_the_engine_says_of_an_end_is_known_by_its_word(vllm_host: Any, word: str, becomes: str) -> None:
    outcome = vllm_host._said(spoken(vllm_host, "Yes. Yes. Yes.", word))
    assert outcome.finish_reason_raw == word
    assert (outcome.kind if isinstance(outcome, Failure) else outcome.finish_reason) == becomes


@pytest.mark.parametrize("name", ["nonsense", "openai_gptoss"], ids=["unknown", "finds the end of reasoning only"])
def test_a_parser_that_cannot_tell_reasoning_from_answer_is_refused_before_anything_is_asked(
    vllm_host: Any, name: str
) -> None:
    from emoray.hosts.vllm import _Reasoning

    with pytest.raises(HostDown, match=f"reasoning_parser '{name}' does not fit this model: .*; take another"):
        _Reasoning(name, vllm_host._tokenizer)


def test_a_llama_3_ends_its_turn_also_where_no_generation_config_says_so(vllm_host: Any) -> None:
    (end,) = vllm_host._sampling(ask(1))["stop_token_ids"]

    assert vllm_host._tokenizer.decode([end]) == "<|eot_id|>"


@pytest.fixture(scope="module")
def recommends(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose generation_config shapes its answers."""
    folder = tiny_llama(tmp_path_factory.mktemp("recommends"))
    own = {"repetition_penalty": 5.0, "temperature": 0.1, "top_k": 2, "top_p": 0.3, "min_p": 0.2, "max_new_tokens": 3}
    change(folder, "generation_config.json", **own)
    return folder


def learned(entry: Vllm) -> Any:
    """A host that knows the model as vLLM's own configuration does; its engine has not been started."""
    from vllm import EngineArgs

    from emoray.hosts.vllm import VllmHost, engine_arguments

    config = EngineArgs(**engine_arguments(entry)).create_model_config()
    host = VllmHost.__new__(VllmHost)
    host._learn(
        entry, SimpleNamespace(model_config=config, get_tokenizer=lambda: AutoTokenizer.from_pretrained(entry.id))
    )
    assert config.try_get_generation_config()["eos_token_id"] == [1, 2]  # which the engine ends answers at
    return host


def beside(vllm_host: Any, entry: Vllm) -> Any:
    """A host of another entry on the engine that is there: the weights are the same, and what differs is part of every
    ask.
    """
    host = learned(entry)
    host._driver, host.in_flight = vllm_host._driver, vllm_host.in_flight
    return host


OPEN = {"temperature": None, "top_p": None, "max_tokens": None}


def test_what_the_model_folder_recommends_does_not_shape_answers_unsaid(recommends: Path) -> None:
    from vllm import SamplingParams

    host = learned(vllm_entry(recommends))
    bare = SamplingParams(temperature=1.0, max_tokens=None, seed=1001, stop_token_ids=[2])
    assert SamplingParams(**host._sampling(ask(1, **OPEN))) == bare
    greedy = SamplingParams(temperature=0.0, max_tokens=24, seed=1001, stop_token_ids=[2])
    assert SamplingParams(**host._sampling(ask(1, temperature=0.0))) == greedy


def test_with_the_models_own_defaults_they_hold_where_the_spec_says_nothing(recommends: Path) -> None:
    from vllm import SamplingParams

    host = learned(vllm_entry(recommends, sampling_defaults="model"))
    own = {"repetition_penalty": 5.0, "top_k": 2, "min_p": 0.2, "seed": 1001, "stop_token_ids": [2]}
    assert SamplingParams(**host._sampling(ask(1, **OPEN))) == SamplingParams(
        temperature=0.1, top_p=0.3, max_tokens=3, **own
    )
    assert SamplingParams(**host._sampling(ask(1, top_p=0.9))) == SamplingParams(
        temperature=1.0, top_p=0.9, max_tokens=24, **own
    )
    assert host.defaults["max_tokens"] == 3


def test_what_the_spec_hands_to_the_engine_is_the_specs_word(recommends: Path) -> None:
    host = learned(vllm_entry(recommends, engine_kwargs={"override_generation_config": {"top_k": 7}}))
    assert host.defaults == {**NEUTRAL, "top_k": 7}


def test_both_hosts_draw_from_the_same_words(vllm_model: Path) -> None:
    """In the same order: what repeats, the temperature, the least share, the likeliest, the nucleus."""
    import torch
    from vllm.model_executor.layers.utils import apply_penalties
    from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p_pytorch

    from emoray.hosts.transformers import _Draw

    generator = torch.Generator().manual_seed(3)
    for top_k, top_p, min_p, penalty in (
        (0, 1.0, 0.0, 1.0),
        (9, 0.8, 0.05, 1.4),
        (0, 0.5, 0.3, 0.7),
        (3, 1.0, 0.0, 2.0),
    ):
        scores, prompt = torch.randn(1, 64, generator=generator) * 3, [5, 9, 11]
        settings: dict[str, float | None] = {
            "temperature": 0.7,
            "top_p": top_p,
            "top_k": top_k,
            "min_p": min_p,
            "repetition_penalty": penalty,
        }
        draw = _Draw([ask(1)], [prompt], torch.device("cpu"), settings)
        ids = torch.tensor([[*prompt, 20]])
        ours = draw._narrowed((draw._penalised(ids, scores) if penalty != 1 else scores) / 0.7)
        theirs, nothing = scores.clone(), torch.zeros(1)
        apply_penalties(theirs, torch.tensor([prompt]), torch.tensor([[20]]), nothing, nothing, torch.tensor([penalty]))
        theirs /= 0.7
        chances = theirs.softmax(-1)
        theirs[chances < min_p * chances.amax(-1, keepdim=True)] = -torch.inf
        k = torch.tensor([top_k]) if top_k else None
        theirs = apply_top_k_top_p_pytorch(theirs, k, torch.tensor([top_p]))
        torch.testing.assert_close(ours, theirs)


def test_one_spec_means_one_sampling_on_either_host(vllm_host: Any, recommends: Path) -> None:
    """The most probable words under the model's own repetition penalty, which are others than without it."""
    from emoray.hosts.transformers import TransformersHost

    asks = [ask(number, temperature=0.0) for number in range(5)]
    engine = beside(vllm_host, vllm_entry(recommends, sampling_defaults="model"))
    said = {key: text.rstrip("\ufffd") for key, text in texts(engine.generate(asks)).items()}

    entry = Local(host="transformers", name="m", id=str(recommends), sampling_defaults="model")
    here = TransformersHost(entry)
    assert {key: text.rstrip("\ufffd") for key, text in texts(here.generate(asks)).items()} == said
    bare = texts(TransformersHost(entry.model_copy(update={"sampling_defaults": "spec"})).generate(asks))
    assert not {key: text.rstrip("\ufffd") for key, text in bare.items()}.items() & said.items()


def test_keywords_of_the_entry_reach_the_template_and_the_parser(recommends: Path) -> None:
    change(recommends, "tokenizer_config.json", chat_template=None)
    (recommends / "chat_template.jinja").write_text(LLAMA_3 + "{% if thinking %}{{ '<think>\\n' }}{% endif %}")
    parsed = {"reasoning_parser": "deepseek_v3"}  # which knows by `thinking` whether there is something to part
    plain = learned(vllm_entry(recommends, **parsed))
    told = learned(vllm_entry(recommends, **parsed, chat_template_kwargs={"thinking": True}))
    assert len(told._template.tokens(ask(1).chat)) > len(plain._template.tokens(ask(1).chat))
    assert plain._reasoning.split("Hm.</think>Yes.") == (None, "Hm.</think>Yes.")
    assert told._reasoning.split("Hm.</think>Yes.") == ("Hm.", "Yes.")
    assert "speaks of thinking (thinking)" in learned(vllm_entry(recommends)).notes[0]
    assert plain.notes == told.notes == []


@pytest.mark.parametrize("parser", [None, "deepseek_r1", "deepseek_v3"])
def test_what_the_prompt_opened_is_reasoning_until_it_is_closed(recommends: Path, parser: str | None) -> None:
    host = learned(vllm_entry(recommends, reasoning_parser=parser))
    prompt = host._tokenizer.encode("Why?<think>\n")

    def said(text: str, finish: str) -> Any:
        out = spoken(host, text, finish)
        out.prompt_token_ids = prompt
        return host._said(out)

    whole = said("Hm.</think>\n\nYes.", "stop")
    assert (whole.text, whole.reasoning) == ("Yes.", "Hm.")
    assert said("</think>Yes.", "stop").text == "Yes."  # of which a parser leaves no sign
    cut = said("Hm. I cou", "length")
    assert (cut.kind, "raise it" in cut.detail) == ("empty", True)
    host._longest = len(prompt) + 1
    assert "a higher max_tokens gives no more" in said("Hm. I cou", "length").detail
    prompt = host._tokenizer.encode("Why?<think>\n</think>\n\n")
    if parser is None:
        assert said("Yes.", "stop").text == "Yes."


def test_an_answer_whose_form_holds_from_its_first_token_on_has_no_reasoning(recommends: Path) -> None:
    host = learned(vllm_entry(recommends, structured_outputs={"choice": ["Yes.", "No."]}))
    out = spoken(host, "Yes.", "stop")
    out.prompt_token_ids = host._tokenizer.encode("Why?<think>\n")
    assert host._said(out).text == "Yes."


_NO_TEMPLATE = r"its chat template cannot write a question \(.*\); correct it"
_KILLED = r"cannot start: its process died without a word; killed for want of memory, or .* \(dmesg\) knows"
_DIES = {"engine_kwargs": {"distributed_executor_backend": "tests.hosts.vllm_dies.Dies"}}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param(
            {"id": "/no/such/model"},
            r"\(/no/such/model\): the vLLM engine cannot start: .*; check the id",
            id="no model",
        ),
        pytest.param(
            {"engine_kwargs": {"frobnicate": 1}},
            "unexpected keyword argument 'frobnicate'; check engine_kwargs",
            id="no such setting",
        ),
        pytest.param({"engine_kwargs": {"kv_cache_memory_bytes": 1}}, "memory.*; lower max_model_len", id="no memory"),
        pytest.param(
            {"id": "s3://bucket/llama"},
            r"; vLLM reads weights from an object store .*: pip install 'vllm\[runai\]'",
            id="no reader of object stores",
        ),
        # an engine each, only to fail; what is said of them is shown below without one
        pytest.param({"chat_template": "{% for"}, _NO_TEMPLATE, id="no template", marks=pytest.mark.campaign),
        pytest.param(_DIES, _KILLED, id="killed", marks=pytest.mark.campaign),
    ],
)
def test_an_engine_that_cannot_start_says_why_and_what_to_do(
    vllm_model: Path, settings: dict[str, Any], said: str
) -> None:
    from emoray.hosts.vllm import VllmHost

    before = _engines()
    with pytest.raises(HostDown, match=said) as down:
        VllmHost(vllm_entry(settings.get("id", vllm_model), **{k: v for k, v in settings.items() if k != "id"}))

    assert "\n" not in str(down.value)
    assert str(down.value).startswith("model 'tiny' (")
    until(lambda: gone(_engines() - before))


def test_a_template_that_cannot_write_a_question_is_said_to_be_corrected(vllm_model: Path) -> None:
    with pytest.raises(HostDown, match=_NO_TEMPLATE):
        learned(vllm_entry(vllm_model, chat_template="{% for"))


def test_a_tokenizer_whose_class_is_another_familys_is_refused(tmp_path: Path) -> None:
    change(tiny_llama(tmp_path), "tokenizer_config.json", tokenizer_class="LlamaTokenizer")

    with pytest.raises(HostDown, match=r"makes a LlamaTokenizer of it.* in a copy$"):
        learned(vllm_entry(tmp_path))


def test_of_an_engine_that_was_killed_while_it_started_the_kernel_knows(vllm_model: Path, tmp_path: Path) -> None:
    from emoray.hosts.vllm import _why

    vllms = RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}")
    assert re.search(_KILLED, _why(vllm_entry(vllm_model), vllms, tmp_path / "errors.log"))


def test_of_an_engine_that_died_the_last_error_that_it_logged_is_the_cause() -> None:
    from emoray.hosts.vllm import _deadly

    frames = 'Traceback (most recent call last):\n  File "core.py", line 609, in step\n    outputs = self.step()\n'
    logged = (
        f"ERROR a request was refused.\n{frames}ValueError: too long\nERROR no traceback\n"
        f"ERROR EngineCore encountered a fatal error.\n{frames}RuntimeError: no kernel for head_dim=8\n"
    )
    assert _deadly(logged) == "RuntimeError: no kernel for head_dim=8"
    assert _deadly("ERROR it was killed\n") is None


def test_what_an_engine_logged_before_it_was_up_is_not_what_it_died_of_later(tmp_path: Path) -> None:
    from emoray.hosts.vllm import _deadly, _from_now_on

    frames = 'Traceback (most recent call last):\n  File "core.py", line 609, in step\n    outputs = self.step()\n'
    log = tmp_path / "errors.log"
    assert _from_now_on(log) is None
    log.write_text(f"ERROR usage statistics cannot be sent.\n{frames}ValueError: no network\n")
    once_up = _from_now_on(log)
    assert once_up is not None
    with once_up:
        assert _deadly(once_up.read()) is None
        with log.open("a") as more:
            more.write(f"ERROR EngineCore encountered a fatal error.\n{frames}RuntimeError: no kernel\n")
        assert _deadly(once_up.read()) == "RuntimeError: no kernel"


def test_a_judge_on_an_engine_can_say_nothing_but_a_reading(vllm_host: Any, vllm_model: Path) -> None:
    """A model with random weights, which by itself would never write JSON."""
    entry = vllm_judge(vllm_model)
    asked = asked_of(entry)
    assert isinstance(asked, Vllm)
    judge = Judge(entry, beside(vllm_host, asked))
    readings = judge.read([f"text {number}" for number in range(12)])

    assert [reading.error for reading in readings] == [None] * 12
    assert all(reading.affect and reading.confidence is not None for reading in readings)


@pytest.mark.parametrize(
    ("structured", "own", "form"),
    [
        ("json_schema", {}, {"json": ["valence", "arousal", "confidence"]}),
        ("json_object", {}, {"json_object": True}),
        ("json_schema", {"regex": "[01]"}, {"regex": "[01]"}),
        ("none", {}, {}),
    ],
)
def test_a_judge_on_an_engine_is_held_to_json_unless_its_entry_says_how_itself(
    structured: Any, own: dict[str, Any], form: dict[str, Any]
) -> None:
    model = vllm_entry("some/model", structured_outputs=own)

    asked = asked_of(JudgeReader(kind="judge", name="j", model=model, structured=structured))

    assert isinstance(asked, Vllm)
    schema = asked.structured_outputs.get("json")
    shown = {"json": schema["required"]} if isinstance(schema, dict) else asked.structured_outputs
    assert shown == form


def test_what_an_answer_must_look_like_is_part_of_every_key() -> None:
    plain, shaped = (vllm_entry("some/model", structured_outputs=form) for form in ({}, {"choice": ["yes", "no"]}))

    assert plain.decides() != shaped.decides()


@pytest.mark.parametrize(
    ("given", "field"),
    [("revision", "revision"), ("tensor_parallel_size", "tensor_parallel_size"), ("model", "id"),
     ("data_parallel_size", "replicas")],
)  # fmt: skip
def test_what_has_a_field_of_its_own_is_refused_among_the_engines_settings(given: str, field: str) -> None:
    """Past the field, other weights would have the same keys, and other GPUs the same seat."""
    entry = {"name": "a", "host": "vllm", "id": "some/model", "engine_kwargs": {given: "4"}}

    with pytest.raises(UserError) as told:
        parse(json.dumps({"name": "t", "models": [entry]}))

    assert str(told.value) == (
        f"spec: models[0].engine_kwargs: has {given!r}, which has a field of its own; set {field} of the model instead"
    )


def test_a_judges_chat_template_is_read_from_its_file_as_a_models_is(tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text("{{ messages[0]['content'] }}")
    model = {"name": "m", "host": "vllm", "id": "some/model", "chat_template": "own.jinja"}
    judge = {"kind": "judge", "name": "j", "model": model}
    both = json.dumps({"name": "t", "models": [model], "readers": [judge]})
    (tmp_path / "judge.yaml").write_text(json.dumps(judge))

    spec, alone = parse(both, folder=tmp_path).spec, with_reader(tmp_path / "judge.yaml")

    asked = [*spec.asked, alone.asked[-1]]
    assert [entry.chat_template for entry in asked if isinstance(entry, Vllm)] == ["{{ messages[0]['content'] }}"] * 3
    with pytest.raises(UserError, match=r"readers\[0\].model.chat_template is 'no.jinja', which is neither"):
        parse(both.replace('"own.jinja"}}', '"no.jinja"}}'), folder=tmp_path)


# an engine that has a worker process, as those of several GPUs do
WITH_WORKER = {"engine_kwargs": {"distributed_executor_backend": "mp"}}


@contextmanager
def parent(vllm_model: Path, settings: Mapping[str, Any]) -> Iterator[subprocess.Popen[str]]:
    """A process with an engine. A line in is a list of asks; a line out is what was said to them."""
    entry = vllm_entry(vllm_model, **settings)
    program = f"""
        import json, sys
        import psutil
        from emoray.hosts.protocol import Ask
        from emoray.hosts.vllm import VllmHost
        from emoray.spec.models import Vllm
        if __name__ == "__main__":
            host = VllmHost(Vllm(**{entry.model_dump()!r}))
            children = psutil.Process().children(recursive=True)
            print(*(child.pid for child in children if child.name().startswith("VLLM")), flush=True)
            for line in sys.stdin:
                replies = host.generate(Ask(**fields) for fields in json.loads(line))
                said = {{reply.key: getattr(reply.outcome, "text", None) or reply.outcome.kind for reply in replies}}
                print(json.dumps(said), flush=True)
    """
    script = vllm_model.parent / "parent.py"
    script.write_text(dedent(program))
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    started = subprocess.Popen([sys.executable, str(script)], **pipes, text=True)
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


@pytest.mark.parametrize(("settings", "processes"), [({}, 1), pytest.param(WITH_WORKER, 2, marks=pytest.mark.campaign)])
def test_the_same_seed_says_the_same_on_any_engine_and_none_outlives_a_process_that_is_killed(
    vllm_host: Any, vllm_model: Path, settings: Mapping[str, Any], processes: int
) -> None:
    asks = [ask(number) for number in range(40)]
    with parent(vllm_model, settings) as other:
        engine = _processes(other)
        assert other.stdin is not None
        other.stdin.write(json.dumps([asdict(one) for one in reversed(asks)]) + "\n")
        other.stdin.flush()
        assert json.loads(_line(other)) == texts(vllm_host.generate(asks))

        other.kill()

        assert len(engine) >= processes
        until(lambda: gone(engine))


@pytest.mark.campaign  # chaos/test_engine kills one in a run, which goes on only if its process has ended
def test_a_process_whose_engine_dies_ends_at_once(vllm_model: Path) -> None:
    with parent(vllm_model, WITH_WORKER) as one:
        engine = _processes(one)
        core = next(pid for pid in engine if "EngineCore" in psutil.Process(pid).name())

        os.kill(core, signal.SIGKILL)
        said, _ = one.communicate(json.dumps([asdict(ask(1, max_tokens=300))]) + "\n")

        assert one.returncode == 1
        assert said == ""
        until(lambda: gone(engine))


def test_the_specs_template_stands_in_for_the_models_own(vllm_host: Any) -> None:
    own = ChatTemplate(vllm_host._tokenizer)
    other = ChatTemplate(vllm_host._tokenizer, "{% for m in messages %}{{ m['content'] }}{% endfor %}")

    assert own.sha != other.sha
    assert len(other.tokens(ask(1).chat)) == len("You are sad.What is art 1?")


def test_a_tokenizer_that_writes_chats_by_code_of_its_own_does_so(vllm_host: Any) -> None:
    from vllm.tokenizers.deepseek_v32 import get_deepseek_v32_tokenizer

    tokenizer = get_deepseek_v32_tokenizer(vllm_host._tokenizer)
    tokenizer.chat_template = None
    template = ChatTemplate(tokenizer)

    said = tokenizer.decode(template.tokens(ask(1).chat))
    assert "You are sad.<｜User｜>What is art 1?<｜Assistant｜>" in said
    assert len(template.sha or "") == 16
    with pytest.raises(HostDown, match="writes chats by code of its own; leave chat_template out"):
        ChatTemplate(tokenizer, "{{ messages[0]['content'] }}")


def _engines() -> set[int]:
    """The processes of all engines that this process has started."""
    return {child.pid for child in psutil.Process().children(recursive=True) if child.name().startswith("VLLM")}


def _processes(parent: subprocess.Popen[str]) -> set[int]:
    """Those of its engine."""
    return {int(pid) for pid in _line(parent).split()}


def _line(parent: subprocess.Popen[str]) -> str:
    assert parent.stdout is not None
    return parent.stdout.readline()
