"""The GoEmotions comments that the reader learns from: read from TSV, masks filled in, never shipped."""

import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NAMES = (
    "James", "Mary", "Robert", "Anna", "David", "Linda", "Ali", "Sara", "Tom",
    "Maria", "Peter", "Julia", "Chris", "Emma", "Kevin", "Laura", "Ben", "Mia",
)  # fmt: skip
RELIGIONS = ("Christian", "Muslim", "Catholic", "Jewish", "Buddhist", "Hindu")


@dataclass(frozen=True)
class Comment:
    text: str
    labels: tuple[int, ...]  # line numbers of labels.txt, 0 … 27


def read_labels(folder: Path) -> list[str]:
    """The 28 names in GoEmotions order; the last one is neutral."""
    return (folder / "labels.txt").read_text(encoding="utf-8").split()


def read_comments(folder: Path, split: str) -> list[Comment]:
    """The comments of `train`, `dev` or `test`."""
    with (folder / f"{split}.tsv").open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quotechar='"')
        return [Comment(row[0], tuple(int(label) for label in row[1].split(","))) for row in rows]


def unmasked(comments: Sequence[Comment], rng: random.Random) -> list[Comment]:
    """The comments with names and religions in place of the masks."""
    return [Comment(unmask(comment.text, rng), comment.labels) for comment in comments]


def unmask(text: str, rng: random.Random) -> str:
    """No answer of a language model holds `[NAME]`, so the reader should not learn to lean on it."""
    while "[NAME]" in text:
        text = text.replace("[NAME]", rng.choice(NAMES), 1)
    while "[RELIGION]" in text:
        text = text.replace("[RELIGION]", rng.choice(RELIGIONS), 1)
    return text


def with_one_label(comments: Sequence[Comment]) -> list[Comment]:
    """What the paper's classifier was trained and measured on: 36,308, 4,548 and 4,590 comments."""
    return [comment for comment in comments if len(comment.labels) == 1]
