"""A reader against labelled text in the format of GoEmotions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from emoray.analysis.classification import Quality, quality
from emoray.errors import UserError
from emoray.readers.protocol import Reading
from emoray.readers.validation import Labelled, examine, single_labelled
from emoray.readers.validation_table import table
from emoray.spec.readers import GoEmotionsReader
from emoray.study.goemotions import LABELS, NEUTRAL, label_map

TSV = (
    "I love it\t18\teew5j0j\n"
    '"He said ""no"", and left"\t3\ted7ypvh\n'
    "Two at once\t3,10\ted0bdzj\n"
    "Nothing much\t27\teczgv1o\n"
    "Schöne Grüße 🙂\t17\teel8u0q\n"
)


ENTRY = GoEmotionsReader(kind="goemotions", name="names")


class LabelIn:
    """Reads the label whose name stands in the text; else neutral."""

    name = "names"
    revision = None

    def read(self, texts: Sequence[str]) -> list[Reading]:
        hits = [next((i for i, label in enumerate(LABELS) if label in text), 27) for text in texts]
        return [Reading(np.eye(28, dtype=np.float32)[hit]) for hit in hits]

    def close(self) -> None:
        pass


def written(path: Path, text: str | bytes) -> Path:
    file = path / "data.tsv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def complaint(path: Path) -> str:
    with pytest.raises(UserError) as told:
        single_labelled(path)
    return str(told.value)


def test_comments_with_one_label_are_read_and_others_left_out(tmp_path: Path) -> None:
    found = single_labelled(written(tmp_path, TSV))
    assert found.texts == ("I love it", 'He said "no", and left', "Nothing much", "Schöne Grüße 🙂")
    assert [LABELS[label] for label in found.labels] == ["love", "annoyance", "neutral", "joy"]


def test_windows_line_ends_and_empty_lines_do_no_harm(tmp_path: Path) -> None:
    assert len(single_labelled(written(tmp_path, TSV.replace("\n", "\r\n") + "\r\n")).texts) == 4


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("text,label\nhello,3\n", "is no GoEmotions TSV; each line is text, label numbers, id, with tabs between"),
        ("hello\tjoy\tid\n", "is no GoEmotions TSV; each line is text, label numbers, id, with tabs between"),
        (b"\xff\xfe\t3\tid\n", "is no GoEmotions TSV; each line is text, label numbers, id, with tabs between"),
        ("", "holds no single-label comments with labels 0 … 27"),
        ("hello\t1,2\tid\n", "holds no single-label comments with labels 0 … 27"),
        ("hello\t28\tid\n", "holds no single-label comments with labels 0 … 27"),
    ],
)
def test_a_file_that_is_no_such_table_gets_a_sentence(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    path = written(tmp_path, text)
    assert complaint(path) == f"{path}: {sentence}"


def test_a_file_that_is_not_there_gets_a_sentence(tmp_path: Path) -> None:
    assert complaint(tmp_path / "no.tsv") == (
        f"{tmp_path}/no.tsv: cannot be read (No such file or directory); give a TSV of GoEmotions, such as test.tsv"
    )


def test_a_reader_is_measured_on_every_comment() -> None:
    texts = [f"this is {label}, you see" for label in LABELS] * 40
    labelled = Labelled(tuple(texts), tuple(range(28)) * 40)
    found = examine(LabelIn(), ENTRY, labelled, label_map()).quality
    assert found.comments == 1120
    # "approval" stands in "disapproval" too, and "joy" in no other: one label of 28 is mistaken
    assert found.correct == 1080
    assert found.accuracy == 1080 / 1120
    assert found.macro_f1 < 1.0


def test_where_no_comment_can_be_read_there_is_no_measurement() -> None:
    class Mute(LabelIn):
        def read(self, texts: Sequence[str]) -> list[Reading]:
            return [Reading(None, error="too strange") for _ in texts]

    with pytest.raises(UserError, match="reader 'names' could not read a comment: too strange"):
        examine(Mute(), ENTRY, Labelled(("hello",), (17,)), label_map())


def test_the_table_sets_the_figures_beside_the_papers_and_says_what_is_unknown() -> None:
    text = table("mine", Quality(4590, 2703, 0.45, 0.61, 0.68, 2984), label_map())
    assert text.startswith("mine on 4,590 single-label comments, label map russell (ours)\n")
    assert "0.5889 ± 0.0073  (2703/4590; the paper's: 0.5889)" in text
    assert "0.610 with neutral readings as 0, 0.680 without them" in text
    assert "the paper says 0.680, and not which rule or map" in text


def test_baselines_are_what_knowing_nothing_scores() -> None:
    """Comments of joy and sadness, three to one; the reader is right of all of them."""
    joy, sadness = LABELS.index("joy"), LABELS.index("sadness")
    true = np.array([joy, joy, joy, sadness])
    found = quality(true, true, label_map())
    units = label_map().vectors()[true]
    units /= np.hypot(*units.T)[:, None]
    assert found.constant_cosine == pytest.approx(max((units @ one / np.hypot(*one)).mean() for one in every_place()))
    dealt = [units @ one for one in units]
    assert found.permuted_cosine == pytest.approx(np.mean(dealt))
    text = table("mine", found, label_map())
    constant = f"{found.constant_cosine:.3f} ± {found.constant_cosine_error:.3f}"
    permuted = f"{found.permuted_cosine:.3f} ± {found.permuted_cosine_error:.3f}"
    assert f"{constant} by reading {found.constant_label} everywhere, the best constant label" in text
    assert f"{permuted} by the same readings dealt anew among the comments" in text


def test_the_errors_of_the_baselines_are_their_spread_over_other_comments_of_this_kind() -> None:
    rng = np.random.default_rng(2)
    shape, joy = (600, 150), LABELS.index("joy")
    true = np.where(rng.random(shape) < 0.4, joy, rng.integers(NEUTRAL, size=shape))
    read = np.where(rng.random(shape) < 0.5, true, rng.integers(28, size=shape))
    found = [quality(*one, label_map()) for one in zip(true, read, strict=True)]
    for name in ("constant_cosine", "permuted_cosine"):
        told = np.sqrt(np.mean([getattr(one, f"{name}_error") ** 2 for one in found]))
        assert told == pytest.approx(np.std([getattr(one, name) for one in found]), rel=0.1), name


def test_readings_dealt_anew_score_as_the_mean_over_many_deals_does() -> None:
    rng = np.random.default_rng(1)
    true = rng.integers(28, size=400)
    read = np.where(rng.random(400) < 0.5, true, rng.integers(28, size=400))
    found = quality(true, read, label_map())
    placed = true != NEUTRAL
    deals = [quality(true[placed], rng.permutation(read[placed]), label_map()).cosine_neutral_zero for _ in range(200)]
    assert found.permuted_cosine == pytest.approx(np.mean(deals), abs=0.02)


def every_place() -> list[np.typing.NDArray[np.float64]]:
    return [one for one in label_map().vectors() if not np.isnan(one).any()]
