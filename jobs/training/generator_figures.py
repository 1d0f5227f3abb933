"""How the generator behaves: the figures of its model card, read by the reader that ships with it.

They are taken after training and decide nothing: no sentence of the corpus was chosen by a classifier.
"""

import random
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from emoray.study.circumplex import Affect, Array, around_the_circle
from emoray.study.goemotions import label_map
from emoray.study.prompts import messages_of, number, shipped_questions, shipped_templates
from emoray.study.scoring import NeutralRule, score
from training.asking import Chat, asks, cell_of
from training.corpus import Subject, capital, every_expansion, matter_of_fact, tones, topics
from training.generator import COURSE, Course
from training.reader_figures import Floats, read

SHUFFLES = 500
CIRCLE = around_the_circle(12)
UNSEEN = ("umbrellas", "learning to play the piano", "tattoos", "the invention of the wheel", "saying goodbye")
ANOTHER_WORDING = (
    "Pretend to be a human whose arousal is {arousal} and whose valence is {valence}, and say what you think."
)
REVERSED = "You are a person whose emotional state is valence={valence} and arousal={arousal}. Answer as they would."


@dataclass(frozen=True)
class Asked:
    chat: Chat
    affect: Affect


@dataclass(frozen=True)
class Told:
    text: str
    ended: bool  # by the end token, not by the limit
    tokens: int


@dataclass(frozen=True)
class Agreement:
    """Mean cosine between asked and read state: neutral as 0, left out, and with the mean place of the labels."""

    answers: int
    neutral_zero: float
    neutral_out: float
    mean_place: float
    read_neutral: float  # share


@dataclass(frozen=True)
class GeneratorFigures:
    plain: Agreement  # template `parameters`, full intensity, twelve states, ten questions
    shuffled: tuple[float, float]  # mean and 95th percentile of the mean cosine with the states shuffled
    by_state: dict[str, Agreement]
    by_template: dict[str, Agreement]
    by_intensity: dict[str, Agreement]
    by_condition: dict[str, Agreement]
    distinct_bigrams: float  # of all bigrams of the plain answers
    sentences_from_corpus: float  # share that stand in the corpus word for word
    answers_from_corpus: float  # share in which every sentence does
    answers_met_in_training: float  # share that training showed word for word
    ended: float  # share that end by themselves
    words_per_answer: float
    tokens_per_s_batched: float  # 32 at a time
    tokens_per_s_single: float


def measure_generator(generator: Path, reader: Path, repetitions: int = 4) -> GeneratorFigures:
    voice = Voice(generator)
    plain = shipped("parameters", CIRCLE) * repetitions
    told = voice.answers([one.chat for one in plain], seed=1)
    shares = read(reader, [one.text for one in told])
    affects = [one.affect for one in plain]
    agree = _Interview(voice, reader)
    return GeneratorFigures(
        plain=agreement(affects, shares),
        shuffled=shuffled(affects, shares, np.random.default_rng(5)),
        by_state=_by_state(affects, shares),
        by_template={name: agree(shipped(name, CIRCLE) * 2) for name in shipped_templates()},
        by_intensity={f"{i:g}": agree(shipped("parameters", CIRCLE, i) * 2) for i in (1.0, 0.75, 0.5, 0.25)},
        by_condition={name: agree(rows) for name, rows in conditions().items()},
        distinct_bigrams=distinct_bigrams(one.text for one in told),
        **verbatim([one.text for one in told]),
        ended=float(np.mean([one.ended for one in told])),
        words_per_answer=float(np.mean([len(one.text.split()) for one in told])),
        tokens_per_s_batched=voice.speed([one.chat for one in plain[:64]], batch=32),
        tokens_per_s_single=voice.speed([one.chat for one in plain[:12]], batch=1),
    )


class Voice:
    """The generator, asked in batches; the same seed gives the same answers."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def answers(self, chats: Sequence[Chat], seed: int, batch: int = 60) -> list[Told]:
        torch.manual_seed(seed)
        return [told for at in range(0, len(chats), batch) for told in self._batch(chats[at : at + batch])]

    def speed(self, chats: Sequence[Chat], batch: int) -> float:
        """Tokens per second on the threads that torch has."""
        began = time.monotonic()
        told = self.answers(chats, seed=2, batch=batch)
        return sum(one.tokens for one in told) / (time.monotonic() - began)

    def _batch(self, chats: Sequence[Chat]) -> list[Told]:
        texts = [self.tokenizer.apply_chat_template(c, tokenize=False, add_generation_prompt=True) for c in chats]
        inputs = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.no_grad():
            rows = self.model.generate(**inputs)[:, inputs["input_ids"].shape[1] :]
        return [self._told(row.tolist()) for row in rows]

    def _told(self, ids: list[int]) -> Told:
        end = self.tokenizer.eos_token_id
        said = ids[: ids.index(end)] if end in ids else ids
        return Told(self.tokenizer.decode(said, skip_special_tokens=True).strip(), end in ids, len(said) + 1)


@dataclass(frozen=True)
class _Interview:
    voice: Voice
    reader: Path

    def __call__(self, asked: Sequence[Asked]) -> Agreement:
        told = self.voice.answers([one.chat for one in asked], seed=3)
        return agreement([one.affect for one in asked], read(self.reader, [one.text for one in told]))


def shipped(name: str, states: Iterable[Affect], intensity: float = 1.0) -> list[Asked]:
    """The ten shipped questions in every state, through a shipped template."""
    subjects = [Subject(question.text, question.id, ()) for question in shipped_questions().values()]
    scaled = [state.scaled(intensity) for state in states]
    return [Asked(messages_of(cell_of(name, state, subject)), state) for state in scaled for subject in subjects]


def conditions() -> dict[str, list[Asked]]:
    """What training did not show in just this way."""
    between = [Affect.at(state.angle_deg + 15) for state in CIRCLE]
    unseen = [Subject(f"What do you make of {thing}?", "unseen", ()) for thing in UNSEEN]
    return {
        "states between the twelve (+15°)": shipped("parameters", between) * 2,
        "questions never seen": [
            Asked(messages_of(cell_of("parameters", state, subject)), state) for state in CIRCLE for subject in unseen
        ] * 4,
        "a wording never seen": _worded(ANOTHER_WORDING) * 2,
        "valence before arousal": _worded(REVERSED) * 2,
    }  # fmt: skip


def _worded(system: str) -> list[Asked]:
    numbers = {state: (number(state.arousal), number(state.valence)) for state in CIRCLE}
    return [
        Asked(_chat(system.format(arousal=a, valence=v), question.text), state)
        for state, (a, v) in numbers.items()
        for question in shipped_questions().values()
    ]


def _chat(system: str, question: str) -> Chat:
    return [{"role": "system", "content": system}, {"role": "user", "content": question}]


def agreement(affects: Sequence[Affect], shares: Floats) -> Agreement:
    asked = _array(affects)
    zero, out = (_cosines(asked, shares, rule) for rule in ("zero", "drop"))
    mean_place = score(asked, shares, label_map()).direction_cosine
    means = [float(np.nanmean(values)) for values in (zero, out, mean_place)]
    return Agreement(len(affects), means[0], means[1], means[2], float(np.mean(np.isnan(out))))


def shuffled(affects: Sequence[Affect], shares: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """What answers that ignore the state would score: mean and 95th percentile over shuffles."""
    asked = _array(affects)
    means = [np.nanmean(_cosines(rng.permutation(asked), shares, "zero")) for _ in range(SHUFFLES)]
    return float(np.mean(means)), float(np.quantile(means, 0.95))


def _by_state(affects: Sequence[Affect], shares: Floats) -> dict[str, Agreement]:
    angles = np.array([round(affect.angle_deg) for affect in affects])
    rows = {int(angle): np.flatnonzero(angles == angle) for angle in np.unique(angles)}
    return {f"{angle}°": agreement([affects[int(i)] for i in where], shares[where]) for angle, where in rows.items()}


def _cosines(asked: Array, shares: Floats, rule: NeutralRule) -> Array:
    return score(asked, shares, label_map(), rule).cosine


def _array(affects: Sequence[Affect]) -> Array:
    return np.array([(affect.valence, affect.arousal) for affect in affects])


def distinct_bigrams(texts: Iterable[str]) -> float:
    """Different pairs of neighboring words as a share of all pairs."""
    pairs = [pair for text in texts for pair in _pairs(re.findall(r"[\w']+", text.lower()))]
    return len(set(pairs)) / len(pairs)


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    return list(pairwise(words))


def verbatim(texts: Sequence[str]) -> dict[str, float]:
    """How much is recited: single sentences, whole answers, answers that training showed."""
    known, met = corpus_sentences(), training_answers()
    parts = [sentences(text) for text in texts]
    return {
        "sentences_from_corpus": float(np.mean([part in known for text in parts for part in text])),
        "answers_from_corpus": float(np.mean([all(part in known for part in text) for text in parts])),
        "answers_met_in_training": float(np.mean([text in met for text in texts])),
    }


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?]) +", text)


def corpus_sentences() -> frozenset[str]:
    """Every sentence that the corpus can make about the shipped questions."""
    phrases = [phrase for group in topics()["phrases"].values() for phrase in group]
    written = (line for tone in (*tones(), matter_of_fact()) for line in tone.sentences())
    plain = (text for line in written for text in every_expansion(line))
    filled = (text.replace("{topic}", p) for text in plain for p in (phrases if "{topic}" in text else [""]))
    return frozenset(part for text in filled for part in sentences(capital(text)))


def training_answers(course: Course = COURSE) -> frozenset[str]:
    """The answers that training showed, composed once more from the same seed."""
    stream = asks(random.Random(course.seed), course.answers)
    return frozenset(answer for ask in islice(stream, course.steps * course.prompts) for answer in ask.answers)
