"""What a model is told is what was asked, in the form that its family was taught, on every day alike."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from emoray.hosts.chat_template import BadChat, ChatTemplate
from emoray.hosts.protocol import HostDown
from tests import tiny_models

SYSTEM, QUESTION = "You are sad.", "Why?"
CHAT = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
DAY = date(2026, 3, 9)

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WITH_A_SYSTEM_OF_ITS_OWN = (  # as Qwen 2's
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are helpful<|im_end|>\n' }}{% endif %}"
    + CHATML
)
LLAMA_3_2 = (
    "{{- bos_token }}{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    '{%- set date_string = strftime_now("%d %b %Y") %}{%- else %}{%- set date_string = "26 Jul 2024" %}{%- endif %}'
    "{%- endif %}{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set system_message = '' %}{%- endif %}"
    '{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}{{- "Today Date: " + date_string + "\n\n" }}'
    '{{- system_message }}{{- "<|eot_id|>" }}{%- for message in messages %}'
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{- message['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no') }}"
    "{% elif message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else 'user' %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PHI_3 = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
ZEPHYR = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
VICUNA = (  # which begins no answer
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] + ' ' }}"
    "{% elif message['role'] == 'user' %}{{ 'USER: ' + message['content'] + ' ' }}"
    "{% else %}{{ 'ASSISTANT: ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
SMOLVLM = (  # a list of parts
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
PARTS_FOR_THE_USER = (  # and a text for the system, as Llama 3.2's that sees
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ '<|im_start|>system\n' + message['content'] ~ "
    "'<|im_end|>\n' }}{% else %}{{ '<|im_start|>' + message['role'] + '\n' }}{% for part in message['content'] %}"
    "{{ part['text'] }}{% endfor %}{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
COMMAND_R = (
    "{{ bos_token }}{% for message in messages %}{% set role = {'user': 'USER', 'system': 'SYSTEM', 'assistant': "
    "'CHATBOT'}[message['role']] %}{{ '<|START_OF_TURN_TOKEN|><|' + role + '_TOKEN|>' + message['content'] | trim + "
    "'<|END_OF_TURN_TOKEN|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"
)
NEMOTRON = (  # whose turns end where the next one begins
    "{% for message in messages %}{{ '<extra_id_1>' + message['role'] + '\n' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<extra_id_1>assistant\n' }}{% endif %}"
)
GLM = (
    "{{ '[gMASK]<sop>' }}{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
HARMONY = (  # gpt-oss': an answer's last turn ends otherwise than those before it
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ '<|start|>assistant<|channel|>final"
    "<|message|>' + message['content'] }}{% if loop.last %}{{ '<|return|>' }}{% else %}{{ '<|end|>' }}{% endif %}"
    "{% else %}{{ '<|start|>' + message['role'] + '<|message|>' + message['content'] + '<|end|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
SPECIAL = [
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>"),
    *("<end_of_turn>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<end_of_utterance>", "<extra_id_1>"),
    *("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|CHATBOT_TOKEN|>"),
    *("[gMASK]", "<sop>", "<|start|>", "<|message|>", "<|channel|>", "<|return|>"),
]


def byte_level(template: str | None, special: list[str] = SPECIAL) -> Any:
    """As Llama 3's, Qwen's and GPT-2's."""
    made = tiny_models.tokenizer()
    made.add_tokens([AddedToken(token, special=True) for token in special])
    made.chat_template = template
    return made


def metaspace(template: str | None, special: list[str] = SPECIAL) -> Any:
    """As Llama 2's, Mistral's and Gemma's: a space begins each word, and of itself it writes where a text begins."""
    letters = [chr(number) for number in range(32, 127)]
    first = ["<unk>", "<s>", "</s>", *special]
    vocabulary = {token: place for place, token in enumerate([*first, "\n", "\u2581", *letters])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in first])
    fast = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    fast.chat_template = template
    return fast


TOKENIZERS = pytest.mark.parametrize("kind", [byte_level, metaspace])


def prompt(tokenizer: Any, chat: list[dict[str, str]] = CHAT, **how: Any) -> str:
    text = str(tokenizer.decode(ChatTemplate(tokenizer, **how).tokens(chat)))
    return text.replace("\u2581", " ")


def ends(tokenizer: Any) -> list[str]:
    return [str(token) for token in tokenizer.convert_ids_to_tokens(ChatTemplate(tokenizer).ends())]


# ── the prompt comes out ──

AS_CHATML = "<|im_start|>system\nYou are sad.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
PROMPTS = {
    "ChatML": (CHATML, AS_CHATML),
    "Mistral": (MISTRAL, "<s>[INST] You are sad.\n\nWhy? [/INST]"),
    "Gemma": (GEMMA, "<s><start_of_turn>user\nYou are sad.\n\nWhy?<end_of_turn>\n<start_of_turn>model\n"),
    "Phi 3": (PHI_3, "<|system|>\nYou are sad.<|end|>\n<|user|>\nWhy?<|end|>\n<|assistant|>\n"),
    "Zephyr": (ZEPHYR, "<|system|>\nYou are sad.</s>\n<|user|>\nWhy?</s>\n<|assistant|>\n"),
    "Vicuna": (VICUNA, "You are sad. USER: Why? ASSISTANT:"),
    "SmolVLM": (
        SMOLVLM,
        "<|im_start|>System: You are sad.<end_of_utterance>\nUser: Why?<end_of_utterance>\nAssistant:",
    ),
    "parts for the user": (PARTS_FOR_THE_USER, AS_CHATML),
    "Command R": (
        COMMAND_R,
        "<s><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>You are sad.<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Why?<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    ),
    "GLM": (GLM, "[gMASK]<sop><|system|>\nYou are sad.<|user|>\nWhy?<|assistant|>"),
    "gpt-oss": (
        HARMONY,
        "<|start|>system<|message|>You are sad.<|end|><|start|>user<|message|>Why?<|end|><|start|>assistant",
    ),
}


@pytest.mark.parametrize("family", PROMPTS)
def test_system_text_and_question_come_out_as_each_family_was_taught_them(family: str) -> None:
    template, written = PROMPTS[family]
    assert prompt(byte_level(template)) == written


@TOKENIZERS
@pytest.mark.parametrize(
    "family", sorted(set(PROMPTS) - {"Vicuna", "SmolVLM", "parts for the user", "Mistral", "Gemma"})
)
def test_where_a_template_needs_no_help_the_tokens_are_those_of_transformers_itself(family: str, kind: Any) -> None:
    tokenizer = kind(PROMPTS[family][0])
    own = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_dict=False)
    assert ChatTemplate(tokenizer).tokens(CHAT) == own


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (CHATML.replace("message['content']", "''"), "leaves out what the user says, given as a text and as a list of"),
        ("{{ '<|im_start|>user\n<|im_end|>' }}", "leaves out what the user says, given as a text and as a list of"),
        (CHATML.replace("messages %}", "messages if message['role'] == 'system' %}"), "leaves out what the user says"),
        ("{{ raise_exception('no chats,\nplease') }}", r"cannot write a question \(no chats, please\); correct it"),
        ("{% for", r"cannot write a question \(.+\); correct it"),
    ],
    ids=["no contents", "no messages", "no user", "refuses", "broken"],
)
def test_a_template_from_which_no_question_comes_out_is_refused(template: str, said: str) -> None:
    with pytest.raises(HostDown, match=f"its chat template {said}") as told:
        ChatTemplate(byte_level(template))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "template",
    [
        CHATML.replace("messages %}", "messages if message['role'] != 'system' %}"),
        CHATML.replace("messages %}", "messages[:1] %}"),
        CHATML.replace("messages %}", "messages[-1:] %}"),
        "{{ messages[1]['role'] + raise_exception('one turn only') if messages | length > 1 }}" + CHATML,
    ],
    ids=[
        "drops the system",
        "writes the first message only",
        "writes the last message only",
        "refuses a second message",
    ],
)
def test_a_system_text_that_would_be_lost_or_cost_the_question_goes_before_it(template: str) -> None:
    assert prompt(byte_level(template)) == ("<|im_start|>user\nYou are sad.\n\nWhy?<|im_end|>\n<|im_start|>assistant\n")


CHANGES = {
    "small letters": "message['content'] | lower",
    "capitals": "message['content'] | title",
    "the first line": "message['content'].split('\n')[0]",
    "the first sentence": "message['content'].split('.')[0]",
    "the first letters": "message['content'][:200]",
    "no quotes": "message['content'] | replace('\"', '')",
    "HTML": "message['content'] | e",
    "JSON": "message['content'] | tojson",
    "words turned round": "message['content'].split() | reverse | join(' ')",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_template_that_makes_another_text_of_a_question_is_refused_and_both_are_shown(change: str) -> None:
    with pytest.raises(
        HostDown, match=r"its chat template (changes what the user says, or cuts it|leaves out)"
    ) as told:
        ChatTemplate(byte_level(CHATML.replace("message['content']", f"({CHANGES[change]})")))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("change", CHANGES)
def test_a_system_text_that_would_be_changed_goes_before_the_question(change: str) -> None:
    written = f"(({CHANGES[change]}) if message['role'] == 'system' else message['content'])"
    assert prompt(byte_level(CHATML.replace("message['content']", written))) == (
        "<|im_start|>user\nYou are sad.\n\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_template_that_leaves_something_to_chance_is_refused() -> None:
    with pytest.raises(HostDown, match="its chat template writes one question in several ways, by chance; correct it"):
        ChatTemplate(byte_level("{{ range(99999) | random }}" + CHATML))


@pytest.mark.parametrize(
    ("told", "question"),
    [
        ("(message['content'] if message['content']|length > 60 else '')", QUESTION),
        ("message['content'][:2000]", "Why? " * 500),
        ("message['content'].replace('/no_think', '')", "Why /no_think?"),
        ("message['content'].split('###')[0]", "Why?\n### And when?"),
        ("message['content'].split('</think>')[-1]", "Is </think> a word?"),
        ("(message['content'] if message['content'].endswith('ostrich') else message['content'][:-1])", QUESTION),
    ],
    ids=["short ones go", "long ones are cut", "a switch", "a mark", "a tag", "by its last word"],
)
def test_a_question_that_a_template_changes_and_no_other_is_refused_by_itself(told: str, question: str) -> None:
    template = ChatTemplate(byte_level(CHATML.replace("message['content']", told)))
    with pytest.raises(BadChat, match=r"the chat template leaves out or changes what the (user|system) says: "):
        template.tokens([{"role": "user", "content": question}])
    fits = "Would you say that it is long enough, and not too long, with nothing special, ostrich"
    assert fits in template._tokenizer.decode(template.tokens([{"role": "user", "content": fits}]))


def test_a_chat_that_a_template_refuses_is_refused_in_its_words() -> None:
    at_elephants = "{% if 'elephant' in messages[-1]['content'] %}{{ raise_exception('no elephants') }}{% endif %}"
    with pytest.raises(BadChat, match=r"^the chat template refuses this chat: no elephants$"):
        ChatTemplate(byte_level(at_elephants + CHATML)).tokens([{"role": "user", "content": "an elephant"}])


@pytest.mark.parametrize("end", ["{{ eos_token }}", "{% if add_generation_prompt %}{{ eos_token + '\n' }}{% endif %}"])
def test_a_template_that_ends_the_text_where_the_answer_begins_is_refused(end: str) -> None:
    with pytest.raises(HostDown, match=r"its chat template ends the text \(</s>\) where the answer begins; correct it"):
        ChatTemplate(byte_level(CHATML + end))


def test_a_question_may_end_as_each_turn_does() -> None:
    """As DialoGPT's."""
    each = "{% for message in messages %}{{ message['content'] + eos_token }}{% endfor %}"
    assert prompt(byte_level(each)) == "You are sad.</s>Why?</s>"


def test_blanks_and_empty_lines_may_go() -> None:
    """As Falcon's."""
    less = CHATML.replace("message['content']", "message['content'].strip().replace('\n\n', '\n')")
    assert prompt(byte_level(less)) == AS_CHATML


def test_a_list_that_comes_out_as_python_writes_it_is_no_question() -> None:
    loses = CHATML.replace(
        "message['content']", "(message['content'] | string if message['content'] is not string else '')"
    )
    with pytest.raises(HostDown, match="leaves out what the user says"):
        ChatTemplate(byte_level(loses))


# ── an answer is begun, and once ──


@TOKENIZERS
def test_where_a_template_begins_no_answer_its_own_answers_show_how(
    kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    without = CHATML.partition("{% if add_generation_prompt")[0]
    assert prompt(kind(without)) == prompt(kind(CHATML))
    assert ChatTemplate(kind(without)).notes == [
        r"its chat template begins no answer; prompts end with '<|im_start|>assistant\n', as its answers begin"
    ]
    assert ChatTemplate(kind(CHATML)).notes == []
    assert ChatTemplate(kind(without)).sha != ChatTemplate(kind(CHATML)).sha


def test_where_an_answer_begins_with_nothing_or_cannot_be_written_the_prompt_is_left_alone() -> None:
    only_users = "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ raise_exception('no') }}{% endif %}"
    for template in (MISTRAL, only_users + "{{ m['content'] }}{% endfor %}"):
        tokenizer = metaspace(template)
        chat = CHAT[1:]
        own = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        assert ChatTemplate(tokenizer).tokens(chat) == own


def test_what_ends_a_conversation_is_not_left_before_the_answer() -> None:
    closes = CHATML.partition("{% if add_generation_prompt")[0] + "{{ eos_token }}"
    assert prompt(byte_level(closes)) == prompt(byte_level(CHATML))


@TOKENIZERS
def test_a_text_begins_once(kind: Any) -> None:
    for template in (GEMMA, "{{ bos_token }}" + GEMMA, "<s><s>" + GEMMA):
        assert prompt(kind(template)).count("<s>") == 1
    assert ChatTemplate(metaspace(None)).tokens(CHAT[1:])[:2] != [1, 1]


@pytest.mark.parametrize("single", ["<s> $A </s>", "$A </s>", "$A"])
def test_a_bare_text_is_not_ended_before_the_model_goes_on(single: str) -> None:
    tokenizer = metaspace(None)
    specials = [("<s>", 1), ("</s>", 2)]
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=specials)
    text = tokenizer.decode(ChatTemplate(tokenizer).tokens(CHAT))
    assert text.replace("<s>", "").strip() == "You are sad.\n\nWhy?"
    assert text.startswith("<s>") == single.startswith("<s>")


# ── today ──


def test_a_template_that_tells_the_date_tells_the_one_on_which_the_run_began() -> None:
    first = prompt(byte_level(LLAMA_3_2), day=DAY)
    assert first == (
        "<s><|start_header_id|>system<|end_header_id|>\n\nToday Date: 09 Mar 2026\n\nYou are sad.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert prompt(byte_level(LLAMA_3_2), day=date(2026, 3, 10)) == first.replace("09 Mar", "10 Mar")


def test_also_the_hour_is_that_of_the_day_on_which_the_run_began() -> None:
    assert "it is 2026-03-09 00:00" in prompt(
        byte_level("it is {{ strftime_now('%Y-%m-%d %H:%M') }}" + CHATML), day=DAY
    )


def test_a_date_that_a_template_has_of_its_own_stays() -> None:
    fixed = LLAMA_3_2.replace('strftime_now("%d %b %Y")', '"26 Jul 2024"')
    assert "Today Date: 26 Jul 2024" in prompt(byte_level(fixed), day=DAY)


# ── the ends of turns ──


@TOKENIZERS
@pytest.mark.parametrize(
    ("template", "token"),
    [
        (CHATML, "<|im_end|>"),
        (WITH_A_SYSTEM_OF_ITS_OWN, "<|im_end|>"),
        (LLAMA_3_2, "<|eot_id|>"),
        (GEMMA, "<end_of_turn>"),
        (PHI_3, "<|end|>"),
        (COMMAND_R, "<|END_OF_TURN_TOKEN|>"),
        (SMOLVLM, "<end_of_utterance>"),
        (HARMONY, "<|return|>"),
        (MISTRAL, "</s>"),
        (ZEPHYR, "</s>"),
        (VICUNA, "</s>"),
        (CHATML.replace("+ '<|im_end|>\n'", "+ ' \n<|end|>\n'"), "<|end|>"),
    ],
    ids=["ChatML", "Qwen 2", "Llama 3.2", "Gemma", "Phi 3", "Command R", "SmolVLM", "gpt-oss", "Mistral", "Zephyr",
         "Vicuna", "after a line feed"],
)  # fmt: skip
def test_what_a_template_writes_behind_an_answer_ends_a_turn(kind: Any, template: str, token: str) -> None:
    seen = set(SPECIAL) - {"<|eot_id|>", "<|im_end|>", "<end_of_turn>"}  # those of the known list are there by name
    tokenizer = kind(template, sorted({*seen, token} - {"</s>"}))
    assert ends(tokenizer) == [token]


@TOKENIZERS
@pytest.mark.parametrize(
    "template",
    [NEMOTRON, GLM, NEMOTRON.replace("+ '\n' }}{% endfor", "+ '<extra_id_1>' }}{% endfor")],
    ids=["Nemotron", "GLM", "the same token on both sides"],
)
def test_what_begins_a_turn_does_not_end_one(kind: Any, template: str) -> None:
    assert ends(kind(template, ["<extra_id_1>", "[gMASK]", "<sop>", "<|user|>", "<|assistant|>"])) == []


def test_the_known_ends_of_turns_are_ends_where_no_template_tells_more() -> None:
    assert ends(byte_level(None)) == ["<|eot_id|>", "<|im_end|>", "<end_of_turn>"]
