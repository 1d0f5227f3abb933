"""Reasoning between tags, by the ways of the families that write it; and texts that are none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.hosts.reasoning import _KNOWN, KNOWN, NONE, no_answer, tags_of, unsettled
from emoray.spec.models import Local, Vllm

_HOSTILE = [
    '"<think>" x',
    "```\nx\n",
    "`x",
    '<think>x"</think>"',
    "<thought> x",
    "x </think> x",
    "x\n<thinking> x",
    "x <think> x",
    '<think a="',
    "<think a=b ",
]
JOY = "I am glad.\n\nThe sun is out."


@pytest.mark.parametrize(("opened", "closed"), _KNOWN)
def test_what_stands_between_the_tags_of_a_family_is_reasoning(opened: str, closed: str) -> None:
    assert KNOWN.split(f"{opened}\nHow would that feel?\n{closed}\n\n{JOY}") == ("How would that feel?", JOY)


@pytest.mark.parametrize(("opened", "closed"), _KNOWN)
def test_what_never_closes_leaves_no_answer(opened: str, closed: str) -> None:
    assert closed
    assert KNOWN.split(f"{opened}How would that feel? I coul") == ("How would that feel? I coul", "")


@pytest.mark.parametrize(("opened", "closed"), _KNOWN)
def test_what_stands_before_a_tag_that_only_closes_is_reasoning(opened: str, closed: str) -> None:
    assert opened
    assert KNOWN.split(f"How would that feel?{closed}{JOY}") == ("How would that feel?", JOY)


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>\n\n</think>\n\nYes.", None, "Yes."),  # Qwen, told not to think
        ("</think>Yes.", None, "Yes."),
        ("<think></think>", None, ""),
        ("\n <THINK>Hm.</Think> Yes.", "Hm.", "Yes."),
        ("< think >Hm.</ think >Yes.", "Hm.", "Yes."),
        ("<think>Hm.< / think>\nYes.", "Hm.", "Yes."),
        ("Hm.< /think>\n\nYes.", "Hm.", "Yes."),
        ("<think>One.</think>\n<think>Two.</think>Yes.", "One.\n\nTwo.", "Yes."),
        ("<think>One <think>two</think> three.</think>Yes.", "One <think>two\n\nthree.", "Yes."),
        ("One.</think>Two.</think>Yes.", "One.\n\nTwo.", "Yes."),
        (
            "<thinking>A<reflection>B</reflection></thinking><output>Yes.</output>",
            "A<reflection>B</reflection>",
            "Yes.",
        ),
        ("<think>Hm.</think>\n<answer>\nYes.\n</answer>", "Hm.", "Yes."),
        ("<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>Yes.<|END_RESPONSE|>", "Hm.", "Yes."),
        ("Yes.\n<think>\nOr no?\n</think>\nYes, I say.", "Or no?", "Yes.\n\nYes, I say."),
        ("<think>Hm.</think>Yes.<think>No?</think> Yes, I say.", "Hm.\n\nNo?", "Yes. Yes, I say."),
        ("Yes. <think>No?</think> Yes, I say.", "No?", "Yes.  Yes, I say."),
        ("Yes. <think> No? </think>\nYes, I say.", "No?", "Yes. \nYes, I say."),
        ("Okay. <think>Hm.\nSo.</think>\n\nYes.", "Hm.\nSo.", "Okay. \n\nYes."),
        ("Yes.\n\n<reasoning>No?</reasoning>", "No?", "Yes."),
        ("Okay.\n<think>\nHm. I cou", "Okay.\n\nHm. I cou", ""),
        ("Okay.\n<think>Hm. I cou", "Okay.\n\nHm. I cou", ""),
        ("<think>Hm.</thinking>Yes.", "Hm.", "Yes."),
        ("<reason>Hm.</reasoning>Yes.", "Hm.", "Yes."),
        ("<think/>Yes.", None, "Yes."),
        ('<think time="5s" type=internal>Hm.</think>Yes.', "Hm.", "Yes."),
        ('<Thinking mode="x">\nHm. I cou', "Hm. I cou", ""),
        ("<think >Hm.</think >Yes.", "Hm.", "Yes."),
        ("<think\n>Hm.</think\n>Yes.", "Hm.", "Yes."),
        ("<think />\n\nYes.", None, "Yes."),
        *(
            (f"{unseen}<think>Hm.</think>Yes.", "Hm.", "Yes.")
            for unseen in ("\ufeff", "\u200b", "\n \ufeff", "\x00", "\u00a0")
        ),
        ('<think>He wrote "</think>" here.</think>Yes.', 'He wrote "</think>" here.', "Yes."),
        ('<think>"Hm."</think>"Yes."', '"Hm."', '"Yes."'),
        ("<think>Hm.</think><Answer>Yes.</ANSWER>", "Hm.", "Yes."),
        ("<think>Hm.</think><|begin_of_box|>Yes.<|end_of_box|>", "Hm.", "Yes."),
        ("<think>Hm.</think><answer>Yes. I f", "Hm.", "Yes. I f"),
        ("<think>Hm.</think><answer>Yes.</answer> So it is.", "Hm.", "<answer>Yes.</answer> So it is."),
        ("<think>x</think><answer>A</answer><answer>B</answer>", "x", "<answer>A</answer><answer>B</answer>"),
        ("<think>Hm.</think>I <answer>am</answer>", "Hm.", "I <answer>am</answer>"),
        ("<thinking>Hm.</thinking>", "Hm.", ""),
        ("<thought>Hm.</thought>", "Hm.", ""),
        ("<thinking>The user wants", "The user wants", ""),
        ("<thinking>\nthe user wants", "the user wants", ""),
        ("<reflection>Hm.</reflection>Yes.", "Hm.", "Yes."),
        # Granite
        ("Here is my thought process:\nHm.\n\nHere is my response:\nYes.", "Hm.", "Yes."),
        ("Here's my thought process: Hm.\n\nHere's my response: Yes.", "Hm.", "Yes."),
        ("Here is my thought process:\nHm. I cou", "Hm. I cou", ""),
    ],
)
def test_tags_come_in_many_ways(text: str, reasoning: str | None, answer: str) -> None:
    assert KNOWN.split(text) == (reasoning, answer)


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>",
            "Hm.",
            "Yes.",
        ),
        ("Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.", "Hm.", "Yes."),
        ("<|channel|>final<|message|>Yes.", None, "Yes."),
        ("<|channel|>final <|constrain|>json<|message|>{}", None, "{}"),
        ("<|channel|>analysis<|message|>Hm. I cou", "Hm. I cou", ""),
        (
            "<|start|>assistant<|channel|>commentary<|message|>So.<|end|>"
            "<|start|>assistant<|channel|>analysis<|message|>Hm.",
            "So.\nHm.",
            "",
        ),
        ("analysisWe need to be glad.assistantfinalYes.", "We need to be glad.", "Yes."),  # its tokens were skipped
        ("analysisWe need to be gl", "We need to be gl", ""),
    ],
)
def test_of_channels_only_the_final_one_is_the_answer(text: str, reasoning: str | None, answer: str) -> None:
    assert KNOWN.split(text) == (reasoning, answer)


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("Hm.\n</think>\n\nYes.", "Hm.", "Yes."),
        ("Hm.</think>\nYes.", "Hm.", "Yes."),
        ("Hm.</think> Yes.", "Hm.", "Yes."),
        ("Hm. </think>Yes.", "Hm.", "Yes."),
        ("Hm. </think> Yes.", "Hm.", "Yes."),
        ("Hm </think>\nYes.", "Hm", "Yes."),
        ("Hm.\n</think> yes.", "Hm.", "yes."),
        ('He wrote "<think>", hm.\n</think>\n\nYes.', 'He wrote "<think>", hm.', "Yes."),
        ("Hm.\n</think>", "Hm.", ""),
        ("Hm [/THINK]\nYes.", "Hm", "Yes."),
        ("Hm <|END_THINKING|> Yes.", "Hm", "Yes."),
        ("Hm ◁/think▷ yes", "Hm", "yes"),
    ],
)
def test_a_tag_that_only_closes_ends_reasoning_where_it_looks_like_an_end(
    text: str, reasoning: str, answer: str
) -> None:
    assert KNOWN.split(text) == (reasoning, answer)


@pytest.mark.parametrize("text", ["Yes.\n</think>\nYes.", "Yes.</think>Yes.", "Yes. </think> Yes."])
def test_beside_reasoning_that_came_apart_no_tag_ends_any(text: str) -> None:
    assert KNOWN.split(text, apart=True) == (None, text)
    assert KNOWN.split("</think>\n\nYes.", apart=True) == (None, "Yes.")
    assert KNOWN.split("<think>Hm.</think>Yes.", apart=True) == ("Hm.", "Yes.")


@pytest.mark.parametrize(
    "text",
    [
        "I feel joy when I read [/THINK] in logs, and happy.",
        "I feel joy. When I see the tag </think> in a text I smile.",
        "I feel joy, and I close with </think>",
        "I feel joy, and I close with </think>.",
        "I feel joy. I wrote ` </think>` and smiled.",
        "I feel joy.\n```\n<think>x</think>\n```\nVery happy.",
        "I feel joy.\n~~~\nx</think>\n~~~\nVery happy.",
        "```\n<think>\nx\n```\nVery happy.",
        "`<think>x</think>` is how they write it.",
        "They say <think> this and that </think> and go on.",
        "The tags <think>…</think> are odd.",
        "<thought> is what I name it, and it brings me joy.",
        "<thinking> about my day, I feel joy.",
        "<reflection>, I feel joy.",
        "I feel joy.\n<thinking> about it, I smile.",
        "<reflection>I feel joy.</reflection>",
        "<thoughts>\nI feel joy.\n</thoughts>\n",
        "I was told <reasoning> matters; joy matters more.",
        "I feel joy. <think>",
        "Here is my thought process: I feel joy, then I sing.",
        "\ufeffI am glad.",
        "The tag <think/> is empty.",
        "I am glad.",
        "I < 3 you [and you].",
        "Models write <think> when they begin.",
        "They write <think> and </think>, which I never do.",
        "<think of me> she said, and I felt joy.",
        'One writes "<think a=b>" and goes on.',
        "One ends with `</think>`, they say.",
        'One ends with "</think>", they say.',
        "I [THINK] so.",
        "<thınk>Hm.</thınk>Yes.",  # without its dot
        "analysis of my joy: none.",
        "Analysis: I am glad.",
        "  <b>glad</b>",
        "<answer>Yes.</answer>",
        "",
    ],
)
def test_an_answer_that_mentions_a_tag_is_left_as_it_is(text: str) -> None:
    assert KNOWN.split(text) == (None, text)


def test_a_pair_of_ones_own_is_the_only_one() -> None:
    own = tags_of(["<<", ">>"])
    assert own.split("<<Hm.>>Yes.") == ("Hm.", "Yes.")
    assert tags_of(["<Дума>", "</ДУМА>"]).split("<Дума>Hm.</ДУМА>Yes.") == ("Hm.", "Yes.")
    assert own.split("<think>Hm.</think>Yes.") == (None, "<think>Hm.</think>Yes.")
    assert tags_of(["<my-think>", "</my-think>"]).split("<my-think>Hm.</my-think>Yes.") == ("Hm.", "Yes.")
    assert tags_of(["<my-think>", "</my-think>"]).split("<my>Hm.</my>Yes.") == (None, "<my>Hm.</my>Yes.")
    assert own.split("analysisWe need.assistantfinalYes.") == (None, "analysisWe need.assistantfinalYes.")


@given(st.text() | st.sampled_from(["<think>Hm.</think>Yes.", "</think>", "analysisHm.assistantfinalYes."]))
def test_none_leaves_every_text_alone(text: str) -> None:
    assert tags_of("none") is NONE
    assert NONE.split(text) == (None, text)


@given(st.lists(st.sampled_from([*(tag for pair in _KNOWN for tag in pair), "*", "\n", " . ", "`"])))
def test_of_what_stands_between_tags_nothing_is_lost(parts: list[str]) -> None:
    reasoning, answer = KNOWN.split("".join(parts))
    assert ((reasoning or "") + answer).count("*") == "".join(parts).count("*")


@pytest.mark.parametrize(
    "text", ["x\n<think>", "</think>x", "x<think>", "<think>x</think>", "\n<think>x</think>", *_HOSTILE]
)
def test_a_text_full_of_tags_is_split_in_reasonable_time(text: str) -> None:
    """By whoever wants a run to stand still: what grows with the square would take hours."""
    reasoning, answer = KNOWN.split(text * 20_000)
    assert ((reasoning or "") + answer).count("x") == (text * 20_000).count("x")


@pytest.mark.parametrize(("opened", "closed"), _KNOWN)
@pytest.mark.parametrize("gap", ["", "\n", "\n\n "])
def test_what_the_prompt_opened_goes_on_in_the_answer(opened: str, closed: str, gap: str) -> None:
    begun = KNOWN.opened(f"<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n{opened}{gap}")
    assert begun == opened + gap
    assert KNOWN.split(f"How would that feel?\n{closed}\n\n{JOY}", begun) == ("How would that feel?", JOY)
    assert KNOWN.split("How would that feel? I coul", begun) == ("How would that feel? I coul", "")
    assert KNOWN.split(f"{closed}{JOY}", begun) == (None, JOY)
    assert KNOWN.split(f"{opened}Hm.{closed}{JOY}", begun) == ("Hm.", JOY)  # opened once more
    assert KNOWN.split(" about my day, I coul", opened) == ("about my day, I coul", "")
    assert KNOWN.split(f"Hm.{closed}", opened) == ("Hm.", "")


def test_a_channel_that_the_prompt_opened_goes_on_in_the_answer() -> None:
    thinks = KNOWN.opened("<|start|>user<|message|>Why?<|end|><|start|>assistant<|channel|>analysis<|message|>")
    assert KNOWN.split("I am told to", thinks) == ("I am told to", "")
    says = KNOWN.opened("<|start|>assistant<|channel|>final<|message|>")
    assert KNOWN.split("Yes.", says) == (None, "Yes.")


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "Why?",
        "<|im_start|>assistant\n",
        "<think>\n\n</think>\n\n",
        "<think>\nOkay",
        "What is <think>?",
        "<|start|>assistant",
    ],
)
def test_a_prompt_that_opens_nothing_leaves_its_answer_alone(prompt: str) -> None:
    assert KNOWN.opened(prompt) == ""
    assert KNOWN.split("Yes.", KNOWN.opened(prompt)) == (None, "Yes.")
    assert NONE.opened(f"{prompt}<think>") == ""
    assert tags_of(["<<", ">>"]).opened(f"{prompt}<think>") == ""
    assert tags_of(["<<", ">>"]).opened(f"{prompt}<<\n") == "<<\n"


def entry(host: str = "transformers", **settings: Any) -> Any:
    if host == "vllm":
        return Vllm(host="vllm", name="m", id="x", **settings)
    return Local(host="transformers", name="m", id="x", **settings)


@pytest.mark.parametrize(
    ("template", "sign"),
    [
        ("{% if enable_thinking is defined %}", "enable_thinking"),  # Qwen 3
        ("{%- if thinking %}", "thinking"),  # Granite, DeepSeek V3.1
        ("{{ 'assistant\\n<think>\\n' }}", "<think>"),  # DeepSeek R1
        ("{{ reasoning_effort }}", "reasoning_effort"),  # gpt-oss
        ("{{ '<|START_THINKING|>' }}", "<|START_THINKING|>"),
        ("{{ '◁think▷' }}", "◁think▷"),
        ("{{ thinking_budget }}", "thinking_budget"),
    ],
)
def test_a_model_that_may_think_is_told_of_unless_its_entry_settles_it(template: str, sign: str) -> None:
    for host in ("transformers", "vllm"):
        (told,) = unsettled(entry(host), template)
        assert f"({sign})" in told
        assert "\n" not in told
        assert unsettled(entry(host, chat_template_kwargs={"a": 1}), template) == []
        for tags in ("known", "none", ["<a>", "</a>"]):
            assert unsettled(entry(host, reasoning_tags=tags), template) == []
    assert unsettled(entry("vllm", reasoning_parser="qwen3"), template) == []


@pytest.mark.parametrize("template", ["", "{{ messages[0]['content'] }}", "Let me think. {{ '<turn>' }} a reason"])
def test_of_a_template_that_speaks_of_no_thinking_nothing_is_said(template: str) -> None:
    assert unsettled(entry(), template) == []


def test_a_reply_without_an_answer_says_what_to_change() -> None:
    assert "raise it" in no_answer("Hm.", cut=True, word="length").detail
    assert "never came to an answer" in no_answer("Hm.", cut=False, word="stop").detail
    assert "without a word" in no_answer(None, cut=False, word=None).detail
