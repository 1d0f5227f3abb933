"""What `validate` prints for the embedded reader equals an independent computation with scikit-learn."""

from __future__ import annotations

import csv
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn import metrics
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from emoray.cli import main
from emoray.embedded import reader_path
from emoray.readers import Reading
from emoray.spec import SpecError
from emoray.study.circumplex import Affect
from emoray.study.goemotions import LABELS, label_map
from emoray.validate import Validation, human_scores, judged, read, whole_table

DATA = Path(__file__).resolve().parents[2] / "shared" / "goemotions" / "test.tsv"
THERE = pytest.mark.skipif(
    not DATA.is_file() or not (reader_path() / "model.safetensors").is_file(),
    reason="needs the GoEmotions test split in ../shared/goemotions and the embedded reader",
)
FEW = 1000  # lines


@cache
def independently() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """(n,) true labels and (n, 28) probabilities in GoEmotions order, with nothing of ours."""
    with DATA.open(encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file, delimiter="\t"))[:FEW]
    singles = [(text, int(label)) for text, label, _ in lines if "," not in label]
    words = AutoTokenizer.from_pretrained(reader_path())
    model = AutoModelForSequenceClassification.from_pretrained(reader_path(), dtype=torch.float32).eval()
    rows = []
    with torch.inference_mode():
        for start in range(0, len(singles), 64):
            texts = [text for text, _ in singles[start : start + 64]]
            rows.append(model(**words(texts, truncation=True, padding=True, return_tensors="pt")).logits)
    logits = torch.cat(rows)
    sigmoid = model.config.problem_type == "multi_label_classification"
    chances = (logits.sigmoid() if sigmoid else logits.softmax(-1)).numpy().astype(np.float64)
    order = [int(model.config.label2id[label]) for label in LABELS]
    return np.array([label for _, label in singles]), chances[:, order]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The JSON of `emoray validate embedded` on the same comments."""
    some = tmp_path_factory.mktemp("data") / "some.tsv"
    some.write_bytes(b"".join(DATA.read_bytes().splitlines(keepends=True)[:FEW]))
    from contextlib import redirect_stdout
    from io import StringIO

    with redirect_stdout(StringIO()) as out:
        assert main(["validate", "embedded", "--data", str(some), "--json"]) == 0
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


@THERE
def test_accuracy_and_f1_are_scikit_learns(printed: dict[str, Any]) -> None:
    true, chances = independently()
    read_ = chances.argmax(axis=1)
    assert printed["quality"]["comments"] == len(true)
    assert printed["accuracy"] == pytest.approx(metrics.accuracy_score(true, read_))
    seen = sorted({*true.tolist(), *read_.tolist()})
    assert printed["quality"]["macro_f1"] == pytest.approx(metrics.f1_score(true, read_, labels=seen, average="macro"))
    each = metrics.f1_score(true, read_, labels=seen, average=None)
    assert [printed["labels"][label]["f1"] for label in seen] == pytest.approx(each.tolist())
    confusion = metrics.confusion_matrix(true, read_, labels=range(28))
    assert printed["confusion"] == confusion.tolist()


@THERE
def test_calibration_is_what_a_plain_computation_gives(printed: dict[str, Any]) -> None:
    true, chances = independently()
    right, sure = chances.argmax(axis=1) == true, chances.max(axis=1)
    error = 0.0
    for low in np.arange(15) / 15:
        some = (sure >= low) & (sure < low + 1 / 15) if low < 14 / 15 - 1e-9 else sure >= low
        if some.any():
            error += some.mean() * abs(sure[some].mean() - right[some].mean())
    assert printed["calibration"]["error"] == pytest.approx(error, abs=2e-3)  # a reading can lie on a bin's edge
    shares = chances / chances.sum(axis=1, keepdims=True)
    assert printed["calibration"]["log_loss"] == pytest.approx(
        metrics.log_loss(true, shares, labels=range(28)), rel=1e-4
    )


@THERE
def test_mean_cosine_per_true_label_is_what_a_plain_loop_gives(printed: dict[str, Any]) -> None:
    true, chances = independently()
    places = [place.affect for place in label_map().places]
    scores: dict[int, list[float]] = {}
    for label, chosen in zip(true.tolist(), chances.argmax(axis=1).tolist(), strict=True):
        mine, theirs = places[label], places[chosen]
        if mine is None:
            continue
        turn = math.radians(mine.angle_deg - theirs.angle_deg) if theirs else 0.0
        scores.setdefault(label, []).append(math.cos(turn) if theirs else 0.0)
    for label, found in scores.items():
        assert printed["labels"][label]["cosine"] == pytest.approx(np.mean(found), abs=1e-6)
    assert printed["labels"][27]["cosine"] is None


# ── without the reader ──


def noise(n: int = 400) -> Validation:
    rng = np.random.default_rng(1)
    true = np.arange(n) % 28
    chances = rng.dirichlet(np.ones(28), n) + 0.2 * np.eye(28)[true]
    return judged(true, chances.astype(np.float32), label_map())


def test_the_table_names_every_label_and_every_state() -> None:
    text = whole_table("mine", noise(), label_map())
    lines = text.splitlines()
    assert lines[0] == "mine on 400 single-label comments, label map russell (ours)"
    for label in LABELS:
        assert any(line.strip().startswith(label) for line in lines)
    assert sum("°" in line for line in lines) == 12
    assert "expected error 0." in text
    assert "nan" not in text


def test_the_json_is_json_and_says_null_where_nothing_is_known() -> None:
    found = noise(28).as_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["ceilings"][9]["state_deg"] == 270
    assert found["ceilings"][9]["texts"] == 0
    assert found["ceilings"][9]["top"] is None


def test_a_reader_without_goemotions_labels_is_refused() -> None:
    class Direct:
        name, revision = "direct", None

        def read(self, texts: Any) -> list[Reading]:
            return [Reading(None, affect=Affect(0.5, 0.5)) for _ in texts]

        def close(self) -> None:
            pass

    with pytest.raises(SpecError, match="reader 'direct' could not read a comment: it reads other labels than"):
        read(Direct(), ("hello",))


def test_human_labels_are_places_or_labels_by_key(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("key,label\nk1,Joy\nk2, neutral\n")
    (tmp_path / "b.csv").write_text("key,valence,arousal\nk1,0.5,-1\n")
    joy = label_map().places[LABELS.index("joy")].affect
    assert human_scores(tmp_path / "a.csv", label_map()) == {"k1": joy, "k2": None}
    assert human_scores(tmp_path / "b.csv", label_map()) == {"k1": Affect(0.5, -1)}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("key,label\nk1,jolly\n", "line 2 has the label 'jolly', which the label map does not place"),
        ("key,valence,arousal\nk1,2,0\n", "line 2 needs a label, or valence and arousal between -1 and 1"),
        ("key,valence,arousal\nk1,x,0\n", "line 2 needs a label, or valence and arousal between -1 and 1"),
        ("key,label\nk1,joy\nk1,joy\n", "line 3 has a key that came before"),
        ("key,label\n,joy\n", "line 2 has no key"),
        ("key,label\n", "holds no labels; its columns are key and label, or key, valence and arousal"),
    ],
)
def test_human_labels_that_cannot_be_used_get_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "human.csv"
    path.write_text(text)
    with pytest.raises(SpecError) as told:
        human_scores(path, label_map())
    assert str(told.value).startswith(f"{path}: {sentence}")
