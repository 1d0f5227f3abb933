"""A local Hugging Face model as a host: chat templates, the draw, the ends of turns, and what can go wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from emoray.hosts.protocol import Ask, HostDown
from emoray.hosts.transformers import TransformersHost, _nucleus
from emoray.spec.models import Local
from emoray.study.outcomes import Answer, Failure
from emoray.study.sampling import NEUTRAL
from tests import tiny_models
from tests.tiny_models import DROPS_SYSTEM, WITHOUT_SYSTEM, change

SYSTEM, QUESTION = "You are sad.", "Why?"
CHAT = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_models.generator(tmp_path_factory.mktemp("tiny"))


def host(folder: str, **settings: Any) -> TransformersHost:
    return TransformersHost(Local(host="transformers", name="m", id=folder, **settings))


def ask(seed: int = 0, **changes: Any) -> Ask:
    settings: dict[str, Any] = {"chat": CHAT, "temperature": 1.0, "top_p": None, "max_tokens": 8} | changes
    return Ask(key=f"{seed:032x}", seed=seed, **settings)


def answers(speaker: TransformersHost, *asks: Ask) -> list[Answer]:
    found = {reply.key: reply.outcome for reply in speaker.generate(asks)}
    outcomes = [found[one.key] for one in asks]
    assert all(isinstance(outcome, Answer) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, Answer)]


def prompt_text(speaker: TransformersHost, chat: list[dict[str, str]] = CHAT) -> str:
    return str(speaker._tokenizer.decode(speaker._template.tokens(chat)))


# ── chat templates ──


def test_the_chat_template_makes_the_prompt(tiny: str) -> None:
    assert prompt_text(host(tiny)) == ("<s><turn>system\nYou are sad.<end><turn>user\nWhy?<end><turn>assistant\n")


@pytest.mark.parametrize("template", [WITHOUT_SYSTEM, DROPS_SYSTEM], ids=["refuses", "drops without a word"])
def test_a_system_text_reaches_a_model_whose_template_knows_no_system_role(tmp_path: Path, template: str) -> None:
    speaker = host(tiny_models.generator(tmp_path, chat_template=template))
    assert prompt_text(speaker) == "<s><turn>user\nYou are sad.\n\nWhy?<end><turn>assistant\n"
    assert answers(speaker, ask())


def test_a_model_without_a_template_gets_the_bare_texts(tmp_path: Path) -> None:
    speaker = host(tiny_models.generator(tmp_path, chat_template=None))
    assert prompt_text(speaker) == "You are sad.\n\nWhy?"
    reply = next(iter(speaker.generate([ask()])))
    assert reply.chat_template_sha is None


def test_of_several_templates_the_default_makes_the_prompt(tmp_path: Path) -> None:
    named: Any = {"default": tiny_models.WITH_SYSTEM, "rag": "{{ messages[0]['content'] }}"}
    speaker = host(tiny_models.generator(tmp_path, chat_template=named))
    assert prompt_text(speaker) == "<s><turn>system\nYou are sad.<end><turn>user\nWhy?<end><turn>assistant\n"


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ({"rag": "{{ messages }}", "tool_use": "{{ tools }}"}, r"of its chat templates \(rag, tool_use\) none is"),
        ("{{ nothing() }}", r"its chat template cannot write a question \('nothing' is undefined\)"),
    ],
    ids=["none is the default", "broken"],
)
def test_a_model_that_no_question_can_be_written_for_is_refused(tmp_path: Path, template: Any, sentence: str) -> None:
    with pytest.raises(HostDown, match=sentence):
        host(tiny_models.generator(tmp_path, chat_template=template))


def test_the_end_of_a_turn_is_known_also_where_the_config_does_not_name_it(tmp_path: Path) -> None:
    folder = tiny_models.generator(tmp_path)
    words = AutoTokenizer.from_pretrained(folder)
    words.add_special_tokens({"additional_special_tokens": ["<|eot_id|>"]})
    words.save_pretrained(folder)
    assert words.convert_tokens_to_ids("<|eot_id|>") in host(folder)._ends


def test_a_chat_without_a_system_message_stays_as_it_is(tiny: str) -> None:
    assert prompt_text(host(tiny), CHAT[1:]) == "<s><turn>user\nWhy?<end><turn>assistant\n"


# ── the draw ──


def test_without_temperature_it_says_what_plain_transformers_says(tiny: str) -> None:
    model, words = AutoModelForCausalLM.from_pretrained(tiny), AutoTokenizer.from_pretrained(tiny)
    prompt = words.apply_chat_template(CHAT, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    plain = model.generate(**prompt, do_sample=False, max_new_tokens=8)[0, prompt["input_ids"].shape[1] :]
    assert answers(host(tiny), ask(temperature=0.0))[0].text == words.decode(plain, skip_special_tokens=True).strip()


def first_letter_chances(folder: str, temperature: float) -> dict[str, float]:
    """What the model itself thinks of each first token, by the answer that consists of it."""
    speaker = host(folder)
    ids = torch.tensor([speaker._template.tokens(CHAT)])
    with torch.inference_mode():
        chances = (speaker._model(ids).logits[0, -1].float() / temperature).softmax(-1)
    found: Counter[str] = Counter()
    for token, chance in enumerate(chances.tolist()):
        text = "" if token in speaker._ends else speaker._tokenizer.decode([token], skip_special_tokens=True).strip()
        found[text] += chance
    return dict(found)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_words_are_drawn_as_often_as_the_model_thinks_them_likely(tiny: str, temperature: float) -> None:
    n = 3000
    speaker = host(tiny, batch_size=500)
    asks = [ask(seed, temperature=temperature, max_tokens=1) for seed in range(n)]
    drawn: Counter[str] = Counter()
    for reply in speaker.generate(asks):
        drawn[reply.outcome.text if isinstance(reply.outcome, Answer) else ""] += 1
    for text, chance in first_letter_chances(tiny, temperature).items():
        spread = 4.5 * (n * chance * (1 - chance)) ** 0.5 + 1
        assert abs(drawn[text] - n * chance) < spread


def test_no_temperature_setting_means_temperature_one(tiny: str) -> None:
    speaker = host(tiny)
    silent, said, other = ([ask(seed, temperature=t) for seed in range(24)] for t in (None, 1.0, 0.9))
    assert answers(speaker, *silent) == answers(speaker, *said) != answers(speaker, *other)


def test_a_hardly_open_nucleus_leaves_only_the_likeliest_words(tiny: str) -> None:
    speaker = host(tiny)
    narrow = answers(speaker, *[ask(seed, top_p=1e-6) for seed in range(4)])
    assert {one.text for one in narrow} == {answers(speaker, ask(temperature=0.0))[0].text}
    assert answers(speaker, ask(top_p=1.0)) == answers(speaker, ask(top_p=None))


@given(st.lists(st.floats(-8, 8), min_size=2, max_size=30), st.floats(0.01, 0.99))
def test_the_nucleus_is_the_smallest_set_that_reaches_top_p(logits: list[float], top_p: float) -> None:
    scores = torch.tensor([logits])
    chances = scores.double().softmax(-1)[0]
    kept = torch.isfinite(_nucleus(scores, top_p))[0]
    assert kept.any()
    assert float(chances[kept].sum()) >= top_p - 1e-5
    assert float(chances[kept].sum() - chances[kept].min()) < top_p + 1e-5  # without the least of them it would not
    if (~kept).any():
        assert chances[kept].min() >= chances[~kept].max() - 1e-9


def test_what_the_model_folder_recommends_does_not_shape_answers_unsaid(tiny: str, tmp_path: Path) -> None:
    folder = tiny_models.generator(tmp_path)
    before = answers(host(folder), ask(max_tokens=30), ask(1, temperature=0.0))
    change(folder, "generation_config.json", repetition_penalty=5.0, temperature=0.1, top_k=2, min_new_tokens=25)
    assert answers(host(folder), ask(max_tokens=30), ask(1, temperature=0.0)) == before


def greedy(folder: str, *, tokens: int = 24) -> str:
    """What plain transformers says, by the folder's own generation_config where that says something."""
    model, words = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    prompt = words.apply_chat_template(CHAT, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    plain = model.generate(**prompt, do_sample=False, max_new_tokens=tokens)[0, prompt["input_ids"].shape[1] :]
    return str(words.decode(plain, skip_special_tokens=True)).removesuffix("<end>").strip()


def test_with_the_models_own_defaults_it_says_what_plain_transformers_says_by_them(tmp_path: Path) -> None:
    folder = tiny_models.generator(tmp_path)
    bare = greedy(folder)
    change(folder, "generation_config.json", repetition_penalty=5.0)
    speaker = host(folder, sampling_defaults="model")
    long = ask(1, chat=[{"role": "user", "content": "w" * 90}], temperature=0.0, max_tokens=24)
    beside, alone = answers(speaker, ask(temperature=0.0, max_tokens=24), long)[0], greedy(folder)
    assert beside.text == alone != bare  # whose padding is a token of the vocabulary as well
    assert answers(host(folder), ask(temperature=0.0, max_tokens=24))[0].text == bare


def test_with_the_models_own_defaults_words_are_drawn_as_often_as_transformers_would(tmp_path: Path) -> None:
    folder = tiny_models.generator(tmp_path)
    change(folder, "generation_config.json", temperature=0.7, top_k=12, top_p=0.9, repetition_penalty=1.3)
    n, speaker = 2000, host(folder, sampling_defaults="model", batch_size=500)
    ids = torch.tensor([speaker._template.tokens(CHAT)])
    with torch.inference_mode():
        scores = RepetitionPenaltyLogitsProcessor(1.3)(ids, speaker._model(ids).logits[:, -1].float())
    for warper in (TemperatureLogitsWarper(0.7), TopKLogitsWarper(12), TopPLogitsWarper(0.9)):
        scores = warper(ids, scores)
    drawn = Counter(
        token for reply in speaker.generate(ask(seed, temperature=None, max_tokens=1) for seed in range(n))
        for token in [reply.outcome.text if isinstance(reply.outcome, Answer) else ""]
    )  # fmt: skip
    chances: Counter[str] = Counter()
    for token, chance in enumerate(scores[0].softmax(-1).tolist()):
        ends = token in speaker._ends
        chances["" if ends else speaker._tokenizer.decode([token], skip_special_tokens=True).strip()] += chance
    assert set(drawn) <= {text for text, chance in chances.items() if chance > 0}
    for text, chance in chances.items():
        assert abs(drawn[text] - n * chance) < 4.5 * (n * chance * (1 - chance)) ** 0.5 + 1


def test_what_the_spec_says_goes_before_the_models_own_defaults(tmp_path: Path) -> None:
    folder = tiny_models.generator(tmp_path)
    before = answers(host(folder), ask(top_p=0.8))
    change(folder, "generation_config.json", temperature=0.1, top_p=0.2, max_new_tokens=3)
    speaker = host(folder, sampling_defaults="model")
    assert answers(speaker, ask(top_p=0.8)) == before
    assert (answers(speaker, ask(max_tokens=None))[0].completion_tokens or 0) <= 3
    assert dict(speaker.defaults) == {
        "temperature": 0.1, "top_p": 0.2, "max_tokens": 3, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0
    }  # fmt: skip
    assert dict(host(folder).defaults) == dict(NEUTRAL)


def test_a_least_share_of_the_likeliest_leaves_out_what_is_less_likely(tmp_path: Path) -> None:
    folder = tiny_models.generator(tmp_path)
    change(folder, "generation_config.json", min_p=1.0)
    said = answers(host(folder, sampling_defaults="model"), *[ask(seed) for seed in range(4)])
    assert {one.text for one in said} == {answers(host(folder), ask(temperature=0.0))[0].text}


def test_defaults_by_which_nothing_can_be_drawn_are_refused(tmp_path: Path) -> None:
    folder = tiny_models.generator(tmp_path)
    change(folder, "generation_config.json", top_k=-5)
    with pytest.raises(
        HostDown, match=r"^model 'm' \(.*\): its generation_config has top_k -5, .*; leave sampling_def"
    ):
        host(folder, sampling_defaults="model")
    assert answers(host(folder), ask())


# ── thinking ──


def test_keywords_of_the_entry_reach_the_chat_template(tmp_path: Path) -> None:
    folder = tiny_models.generator(tmp_path, chat_template=tiny_models.THINKS)
    plain, told = host(folder), host(folder, chat_template_kwargs={"enable_thinking": False})
    assert prompt_text(plain).endswith("<turn>assistant\n<think>\n")
    assert prompt_text(told).endswith("<turn>assistant\n<think>\n\n</think>\n\n")
    assert plain._template.sha != told._template.sha


def test_a_keyword_that_the_chat_template_never_reads_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.generator(tmp_path, chat_template=tiny_models.THINKS)
    said = r"^model 'm' \(.*\): its chat template never reads 'enable_thinkng' of chat_template_kwargs; correct it"
    with pytest.raises(HostDown, match=said):
        host(folder, chat_template_kwargs={"enable_thinkng": False})


def test_keywords_for_a_model_without_a_chat_template_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HostDown, match="no chat template that could read chat_template_kwargs; leave them out"):
        host(tiny_models.generator(tmp_path, chat_template=None), chat_template_kwargs={"enable_thinking": False})


def outcome(speaker: TransformersHost, **changes: Any) -> Any:
    return next(iter(speaker.generate([ask(temperature=0.0, **changes)]))).outcome


def test_what_the_prompt_opened_is_reasoning_until_it_is_closed(tmp_path: Path) -> None:
    speaker = host(tiny_models.sayer(tmp_path, ["Hm.", "</think>", "Yes."], chat_template=tiny_models.THINKS))
    whole, cut = outcome(speaker), outcome(speaker, max_tokens=1)
    assert (whole.text, whole.reasoning) == ("Yes.", "Hm.")
    assert (cut.kind, cut.finish_reason_raw) == ("empty", "length")
    assert "raise it" in cut.detail


def test_a_model_that_thinks_to_its_end_gives_no_answer_and_one_told_not_to_does(tmp_path: Path) -> None:
    folder = tiny_models.sayer(tmp_path, ["Yes."], chat_template=tiny_models.THINKS)
    lost = outcome(host(folder))
    assert (lost.kind, "never came to an answer" in lost.detail) == ("empty", True)
    said = outcome(host(folder, chat_template_kwargs={"enable_thinking": False}))
    assert (said.text, said.reasoning) == ("Yes.", None)
    assert outcome(host(folder, reasoning_tags="none")).text == "Yes."


def test_a_model_that_may_think_says_so_at_its_start_unless_the_entry_settles_it(tmp_path: Path) -> None:
    folder = tiny_models.generator(tmp_path, chat_template=tiny_models.THINKS)
    assert "speaks of thinking (enable_thinking)" in host(folder).notes[0]
    assert host(folder, reasoning_tags="known").notes == []
    assert host(folder, chat_template_kwargs={"enable_thinking": False}).notes == []


def test_a_model_that_does_not_think_has_nothing_to_say_of_it(tiny: str) -> None:
    assert host(tiny).notes == []


# ── ends ──


def ending(folder: Path, token: int, **settings: Any) -> TransformersHost:
    """A host whose model says nothing but one token."""
    speaker = host(tiny_models.generator(folder, **settings))
    with torch.no_grad():
        speaker._model.lm_head.weight.zero_()
        speaker._model.lm_head.weight[token] = 0.0
    speaker._model.lm_head.register_forward_hook(
        lambda _module, _inputs, out: (
            torch.nn.functional.one_hot(torch.full(out.shape[:-1], token), out.shape[-1]) * 1e4
        )
    )
    return speaker


@pytest.mark.parametrize("end", [2, 5], ids=["</s>", "<end>"])
def test_a_turn_that_ends_before_it_began_is_a_failure_and_no_empty_answer(tmp_path: Path, end: int) -> None:
    outcome = next(iter(ending(tmp_path, end).generate([ask()]))).outcome
    assert isinstance(outcome, Failure)
    assert outcome.kind == "empty"


def test_each_of_several_end_tokens_ends_a_turn(tiny: str) -> None:
    speaker = host(tiny, batch_size=64)
    replies = list(speaker.generate([ask(seed, max_tokens=120) for seed in range(64)]))
    ended = [r.outcome for r in replies if isinstance(r.outcome, Answer) and r.outcome.finish_reason == "stop"]
    assert len(ended) > 5
    for outcome in ended:
        assert outcome.completion_tokens is not None
        assert outcome.completion_tokens < 120
        assert "<end>" not in outcome.text


def test_an_answer_that_is_cut_says_so(tmp_path: Path) -> None:
    a = tiny_models.tokenizer().convert_tokens_to_ids("a")
    (outcome,) = answers(ending(tmp_path, a), ask(max_tokens=7))
    assert (outcome.text, outcome.finish_reason, outcome.completion_tokens) == ("aaaaaaa", "length", 7)


def test_without_a_limit_an_answer_goes_on_to_the_end_of_the_context(tmp_path: Path) -> None:
    a = tiny_models.tokenizer().convert_tokens_to_ids("a")
    (outcome,) = answers(ending(tmp_path, a, positions=100), ask(max_tokens=None))
    assert outcome.prompt_tokens is not None
    assert len(outcome.text) == 100 - outcome.prompt_tokens


def test_a_long_neighbour_does_not_cut_a_short_prompts_answer(tmp_path: Path) -> None:
    a = tiny_models.tokenizer().convert_tokens_to_ids("a")
    speaker = ending(tmp_path, a, positions=100)
    long = ask(1, chat=[{"role": "user", "content": "w" * 60}], max_tokens=20)
    short = ask(2, chat=[{"role": "user", "content": "w"}], max_tokens=20)
    cut, whole = answers(speaker, long, short)
    assert len(whole.text) == 20
    assert len(cut.text) == 100 - (cut.prompt_tokens or 0) < 20


def test_a_tokenizer_without_padding_and_without_an_end_still_works(tmp_path: Path) -> None:
    folder = tiny_models.generator(tmp_path)
    change(folder, "tokenizer_config.json", pad_token=None, eos_token=None)
    for file in ("config.json", "generation_config.json"):
        change(folder, file, eos_token_id=None, pad_token_id=None)
    speaker = host(folder)
    assert speaker._tokenizer.pad_token_id is None
    long = ask(1, chat=[{"role": "user", "content": "a longer question"}])
    assert [one.finish_reason for one in answers(speaker, ask(), long)] == ["length", "length"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_runs_in_the_precision_that_the_spec_says(tiny: str, dtype: str) -> None:
    speaker = host(tiny, dtype=dtype)
    assert str(speaker._model.dtype) == f"torch.{dtype}"
    assert answers(speaker, ask())


# ── what can go wrong ──


@pytest.mark.parametrize("template", [tiny_models.WITH_SYSTEM, None], ids=["template", "none"])
def test_a_text_that_the_tokenizer_cannot_read_is_a_failure_and_the_others_are_answered(
    tmp_path: Path, template: str | None
) -> None:
    asks = [ask(n, chat=[{"role": "user", "content": said}]) for n, said in enumerate(["Why?", "\ud800?", "How?"])]
    found = {
        int(reply.key, 16): reply.outcome
        for reply in host(tiny_models.generator(tmp_path, chat_template=template)).generate(asks)
    }
    assert [isinstance(found[n], Answer) for n in range(3)] == [True, False, True]
    assert getattr(found[1], "kind", None) == "bad_request"
    assert getattr(found[1], "detail", "").startswith("the tokenizer cannot read this chat: ")


def test_a_question_that_cannot_be_written_is_a_failure_and_the_others_are_answered(tmp_path: Path) -> None:
    refuses = "{% if 'elephant' in messages[-1]['content'] %}{{ raise_exception('no elephants') }}{% endif %}"
    folder = tiny_models.generator(tmp_path, chat_template=refuses + tiny_models.WITH_SYSTEM)
    words = AutoTokenizer.from_pretrained(folder)
    words.add_tokens(["zebra"])  # of which the network knows nothing
    words.save_pretrained(folder)
    questions = ["Why?", "An elephant?", "A zebra?", "A horse?"]
    asks = [ask(n, chat=[{"role": "user", "content": said}]) for n, said in enumerate(questions)]
    found = {int(reply.key, 16): reply.outcome for reply in host(folder).generate(asks)}
    assert [isinstance(found[n], Answer) for n in range(4)] == [True, False, False, True]
    assert [getattr(found[n], "detail", None) for n in (1, 2)] == [
        "the chat template refuses this chat: no elephants",
        "the prompt has token 262, and the model knows 262: its tokenizer is another's",
    ]


def complaint(
    folder: str, remedy: str = "give a hub id, or a folder with config.json, the tokenizer and the weights"
) -> str:
    with pytest.raises(HostDown) as told:
        host(folder)
    said = str(told.value)
    assert "\n" not in said
    assert said.startswith(f"model 'm' ({folder}) cannot be loaded: ")
    assert said.endswith(f"; {remedy}")
    return said


def test_a_model_that_is_not_there_is_said_in_one_sentence(tmp_path: Path) -> None:
    complaint(str(tmp_path / "nowhere"))
    said = complaint("no-such-organisation/no-such-model", "unset it, or give the folder of a model")
    assert "HF_HUB_OFFLINE is set" in said


def test_a_folder_without_weights_or_with_cut_ones_is_said_in_one_sentence(tmp_path: Path) -> None:
    folder = tiny_models.generator(tmp_path)
    weights = Path(folder, "model.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    complaint(folder)
    weights.unlink()
    complaint(folder)


def test_a_tokenizer_that_lost_its_vocabulary_is_refused(tmp_path: Path) -> None:
    """transformers makes one of special tokens, to which every question is the same."""
    for template in (tiny_models.WITH_SYSTEM, None):
        folder = tiny_models.generator(tmp_path / str(bool(template)), chat_template=template)
        for kind in ("LlamaTokenizer", "GPT2Tokenizer", "Qwen2Tokenizer", "GemmaTokenizer", "T5Tokenizer"):
            tiny_models.lose_vocabulary(folder, kind)
            with pytest.raises(HostDown, match=r"its tokenizer knows no words, .* tokenizer\.model"):
                host(folder)


REMEDY = "name the tokenizer_class that belongs to it, or PreTrainedTokenizerFast, in a copy"


def test_a_tokenizer_whose_class_is_another_familys_is_refused(tmp_path: Path) -> None:
    """As Qwen's files with the class of Llama's: transformers makes it anew, without spaces between words."""
    folder = tiny_models.generator(tmp_path)
    tiny_models.change(folder, "tokenizer_config.json", tokenizer_class="LlamaTokenizer")
    assert "makes a LlamaTokenizer of it" in complaint(folder, REMEDY)


def test_a_chat_model_that_lost_its_template_says_that_it_is_given_bare_texts(tmp_path: Path) -> None:
    folder = tiny_models.generator(tmp_path, chat_template=None)
    assert host(folder).notes == []
    words = tiny_models.tokenizer()
    words.add_tokens(["<|im_end|>"], special_tokens=True)
    words.save_pretrained(folder)
    (note,) = host(folder).notes
    assert note.startswith("its vocabulary has <|im_end|>, which ends a turn of a chat, and it has no chat template")


def test_a_broken_config_is_said_in_one_sentence(tmp_path: Path) -> None:
    folder = tiny_models.generator(tmp_path)
    Path(folder, "config.json").write_text("{")
    complaint(folder)


def test_a_model_of_an_unknown_kind_is_said_in_one_sentence(tmp_path: Path) -> None:
    folder = tiny_models.generator(tmp_path)
    change(folder, "config.json", model_type="emotional-llama", architectures=None)
    complaint(folder)
