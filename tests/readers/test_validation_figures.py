"""What `validate` prints for the embedded reader equals an independent computation with scikit-learn.

On the first of the test split's 4,590 single-label comments, read twice per session: once by emoray and once plainly.
"""

from __future__ import annotations

import csv
import json
import math
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn import metrics
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from emoray.analysis.calibration import Probabilities, on_human_text
from emoray.analysis.classification import Indices
from emoray.commands.cli import main
from emoray.embedded import reader_path
from emoray.errors import UserError
from emoray.readers.protocol import Reading
from emoray.readers.scorecard import human_text, saved
from emoray.readers.validation import Labelled, Validation, examine, judged, judged_by_place
from emoray.readers.validation_table import whole_table
from emoray.spec.entry import SamplingSpec
from emoray.spec.models import Scripted
from emoray.spec.readers import GoEmotionsReader, JudgeReader, ReaderEntry, RegressorReader
from emoray.study.circumplex import Affect
from emoray.study.goemotions import DIRECT, LABELS, label_map
from tests.programs import ROOT

DATA = ROOT.parent / "shared" / "goemotions" / "test.tsv"
THERE = pytest.mark.skipif(
    not DATA.is_file() or not (reader_path() / "model.safetensors").is_file(),
    reason="needs the GoEmotions test split in ../shared/goemotions and the embedded reader",
)


FIRST = 900


@cache
def independently() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """(n,) true labels and (n, 28) probabilities in GoEmotions order, with nothing of ours."""
    with DATA.open(encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file, delimiter="\t"))
    singles = [(text, int(label)) for text, label, _ in lines if "," not in label][:FIRST]
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


@pytest.fixture(scope="session")
def printed() -> dict[str, Any]:
    """The JSON of `emoray validate embedded` on the same comments."""
    with redirect_stdout(StringIO()) as out:
        assert main(["validate", "embedded", "--data", str(DATA), "--limit", str(FIRST), "--json"]) == 0
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


@THERE
def test_accuracy_and_f1_are_scikit_learns(printed: dict[str, Any]) -> None:
    true, chances = independently()
    read_ = chances.argmax(axis=1)
    assert printed["quality"]["comments"] == len(true) == FIRST
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
    assert len(scores) > 20
    for label, found in scores.items():
        assert printed["labels"][label]["cosine"] == pytest.approx(np.mean(found), abs=1e-6)
    assert printed["labels"][27]["cosine"] is None


# ── without the reader ──


def noisy(n: int, seed: int = 1) -> tuple[Indices, Probabilities]:
    """True labels, and probabilities that know a little of them."""
    true = np.arange(n) % 28
    chances = np.random.default_rng(seed).dirichlet(np.ones(28), n) + 0.2 * np.eye(28)[true]
    return true, (chances / chances.sum(axis=1, keepdims=True)).astype(np.float32)


def noise(n: int = 400) -> Validation:
    return judged(*noisy(n), label_map())


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


class Reads:
    """A reader that gives these readings, in their order."""

    revision = "r1"

    def __init__(self, *readings: Reading, name: str = "mine") -> None:
        self.name, self._readings = name, list(readings)

    def read(self, texts: Any) -> list[Reading]:
        given, self._readings = self._readings[: len(texts)], self._readings[len(texts) :]
        return given

    def close(self) -> None:
        pass


JUDGE = JudgeReader(kind="judge", name="mine", model=Scripted(host="scripted", name="m"))
REGRESSOR = RegressorReader(kind="regressor", name="vad", model="hub/regressor")
CLASSIFIER = GoEmotionsReader(kind="goemotions", name="mine", model="hub/classifier")
JOY, SADNESS, NEUTRAL = (LABELS.index(label) for label in ("joy", "sadness", "neutral"))


def two_comments() -> Labelled:
    return Labelled(("I am glad", "I am sad"), (JOY, SADNESS))


@pytest.mark.parametrize("entry", [JUDGE, REGRESSOR])
def test_a_reader_without_labels_is_measured_by_the_places_it_gives(entry: ReaderEntry) -> None:
    joy = label_map().places[JOY].affect
    assert joy is not None
    reader = Reads(Reading(None, affect=joy.scaled(0.5), cost_usd=0.25), Reading(None, affect=Affect(0.0, 0.0)))
    found = examine(reader, entry, two_comments(), label_map())
    assert found.quality.cosine_neutral_zero == pytest.approx(0.5)
    assert found.quality.cosine_neutral_dropped == pytest.approx(1.0)
    assert found.cost_usd == 0.25
    assert (found.quality.correct, found.calibration, found.confusion) == (None, None, None)
    text = whole_table("mine", found, label_map())
    assert "accuracy" not in text
    assert "cost           $0.25" in text
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["accuracy"] is None


def test_what_a_judge_could_not_say_is_counted_and_left_out() -> None:
    said = (Reading(None, affect=Affect(1.0, 0.0)), Reading(None, error="unparsed: the judge's reply holds no JSON"))
    found = examine(Reads(*said), JUDGE, two_comments(), label_map())
    assert (found.quality.comments, found.unread) == (1, 1)
    assert "not readable   1 more comment" in whole_table("mine", found, label_map())


def test_a_temperature_of_a_reader_without_labels_is_refused() -> None:
    with pytest.raises(
        UserError, match="--calibrate needs a reader with the 28 GoEmotions labels, and 'mine' has others or none"
    ):
        examine(Reads(), JUDGE, two_comments(), label_map(), fit_on=two_comments().first(1))


def test_a_temperature_is_not_judged_on_what_it_was_fitted_to() -> None:
    with pytest.raises(UserError, match=r"--calibrate same\.tsv and --data hold the same comments"):
        examine(Reads(), CLASSIFIER, two_comments(), label_map(), fit_on=two_comments(), fit_name="same.tsv")


def test_a_temperature_is_fitted_to_one_file_and_judged_on_the_other() -> None:
    fit_true, fit_chances = noisy(600, seed=2)
    true, chances = noisy(400)
    given = [Reading(row) for row in (*chances, *fit_chances)]
    data, fit_on = (Labelled(("x",) * len(some), tuple(some.tolist())) for some in (true, fit_true))
    entry = CLASSIFIER.model_copy(update={"temperature": 2.0})
    found = examine(Reads(*given), entry, data, label_map(), fit_on=fit_on, fit_name="dev.tsv").calibration
    alone = judged(true, chances, label_map(), fit=(fit_true, fit_chances), fit_name="dev.tsv").calibration
    assert found is not None
    assert alone is not None
    assert found.fitted_to == "dev.tsv"
    assert found.temperature == pytest.approx(2.0 * alone.temperature)  # of the logits, not of what 2.0 made of them
    assert found.error_before == found.error  # of all comments: none of them was fitted to
    assert found.error_after < found.error_before
    text = whole_table("mine", examine(Reads(*given), CLASSIFIER, data, label_map(), fit_on=fit_on, fit_name="dev.tsv"),
                       label_map())  # fmt: skip
    assert "makes it" in text
    assert "(fitted to dev.tsv, judged on others)" in text


# ── what is saved for a report ──


def kept(path: Path, entry: ReaderEntry = CLASSIFIER, name: str = "russell", found: Validation | None = None) -> Path:
    file = path / "ceilings.json"
    file.write_text(saved(found or noise(), entry, "r1", "test.tsv", label_map(name)))
    return file


def test_a_saved_file_says_the_same_again_of_the_reader_whatever_a_run_calls_it(tmp_path: Path) -> None:
    found = noise()
    here = CLASSIFIER.model_copy(update={"name": "here", "actors": 3, "temperature": 1.4, "activation": "sigmoid"})
    other = GoEmotionsReader(kind="goemotions", name="mine", model="hub/another")
    names, reads = human_text(kept(tmp_path, found=found), [other, here], label_map())
    assert names == ("here",)
    for ours, theirs in zip(vars(reads).values(), vars(found.reads).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_judges_file_is_the_judges(tmp_path: Path) -> None:
    judged_ = judged_by_place(np.array([JOY]), [Reading(None, affect=Affect(1.0, 0.0))], label_map(), DIRECT)
    assert human_text(kept(tmp_path, JUDGE, found=judged_), [CLASSIFIER, JUDGE], label_map())[0] == ("mine",)


def told(file: Path, readers: list[ReaderEntry] | None = None, name: str = "russell") -> str:
    with pytest.raises(UserError) as wrong:
        human_text(file, readers or [CLASSIFIER], label_map(name))
    assert str(wrong.value).startswith(f"{file}: ")
    return str(wrong.value).removeprefix(f"{file}: ")


def test_a_file_of_another_reader_or_map_gets_a_sentence(tmp_path: Path) -> None:
    assert told(kept(tmp_path), [JUDGE, REGRESSOR]) == (
        "is about the reader 'mine', from which those of this run differ: mine (kind) and vad (kind)"
    )
    assert told(kept(tmp_path, name="octants")).startswith("was made with the label map 'octants', and this report")


@pytest.mark.parametrize(
    ("entry", "setting", "value"),
    [
        (REGRESSOR, "valence", "arousal"),
        (REGRESSOR, "range", [0.0, 1.0]),
        (REGRESSOR, "activation", "sigmoid"),
        (CLASSIFIER, "model", "hub/another"),
        (CLASSIFIER, "max_tokens", 64),
        (CLASSIFIER, "long_texts", "window"),
        (CLASSIFIER, "label_map", {"joy": {"term": "happy"}}),
        (JUDGE, "structured", "none"),
        (JUDGE, "rubric", "mine"),
        (JUDGE, "model", Scripted(host="scripted", name="m", sampling=SamplingSpec(temperature=1.0))),
    ],
)
def test_a_reader_that_reads_otherwise_is_another_reader(
    tmp_path: Path, entry: ReaderEntry, setting: str, value: object
) -> None:
    other = entry.model_copy(update={setting: value, "name": "other"})
    sentence = told(kept(tmp_path, entry), [other])
    assert sentence == f"is about the reader {entry.name!r}, from which those of this run differ: other ({setting})"


@pytest.mark.parametrize(
    ("asked", "pinned", "same"),
    [(None, "r1", True), (None, "r2", False), ("main", "main", True), ("r2", "r3", False), ("r2", None, True)],
)
def test_a_revision_counts_where_both_are_known(
    tmp_path: Path, asked: str | None, pinned: str | None, *, same: bool
) -> None:
    """`r1` is what the file's reader was resolved to."""
    file = kept(tmp_path, CLASSIFIER.model_copy(update={"revision": asked}))
    entry = CLASSIFIER.model_copy(update={"revision": pinned})
    if same:
        assert human_text(file, [entry], label_map())[0] == ("mine",)
    else:
        assert told(file, [entry]).endswith("differ: mine (revision)")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 2}', '{"format": 2, "reader": {}, "label_map": {"places": {}}, "reads": [{}]}']
)
def test_a_file_that_is_none_gets_a_sentence(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    assert told(file) == "is no file that `emoray validate … --save` of this emoray wrote"
    assert told(tmp_path / "no.json").startswith("cannot be read (No such file or directory)")


def test_a_file_that_an_earlier_emoray_wrote_is_read_and_its_ceilings_have_no_error(tmp_path: Path) -> None:
    file = kept(tmp_path)
    old = json.loads(file.read_text())
    for line in old["reads"]:
        del line["top_squares"], line["expected_squares"]
    file.write_text(json.dumps(old))
    _, reads = human_text(file, [CLASSIFIER], label_map())
    found = on_human_text(np.array([30.0, 180.0]), reads)
    assert np.isfinite(found.means).all()
    assert np.isnan(found.covariance).all()
