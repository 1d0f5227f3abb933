"""A reader against people's ratings of valence and arousal, in EmoBank's columns."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from emoray.analysis.concordance import Concordance, concordance, one_against_the_others
from emoray.commands.cli import main
from emoray.errors import UserError
from emoray.exit_codes import WRONG
from emoray.readers.protocol import Reading
from emoray.readers.rated import compare, is_rated, rated, whole_table
from emoray.study.circumplex import Affect
from emoray.study.goemotions import DIRECT

EMOBANK = 'id,split,V,A,D,text\na_1,train,3.0,3.0,3.2,"Remember, she said."\na_2,test,2.5,4.0,3.0,Help!\n'


class Says:
    """Reads what it was told to, in the order of the texts."""

    name, revision = "va", None

    def __init__(self, *readings: Reading) -> None:
        self._readings = list(readings)

    def read(self, texts: Sequence[str]) -> list[Reading]:
        given, self._readings = self._readings[: len(texts)], self._readings[len(texts) :]
        return given

    def close(self) -> None:
        pass


def written(path: Path, text: str) -> Path:
    file = path / "emobank.csv"
    file.write_text(text, encoding="utf-8")
    return file


def at(valence: float, arousal: float) -> Reading:
    return Reading(None, affect=Affect(valence, arousal))


def test_emobanks_columns_are_read_on_the_circles_scale(tmp_path: Path) -> None:
    file = written(tmp_path, EMOBANK)
    assert is_rated(file)
    found = rated(file)
    assert found.texts == ("Remember, she said.", "Help!")
    np.testing.assert_allclose(found.means, [[0.0, 0.0], [-0.25, 0.5]])
    assert found.first(1).texts == ("Remember, she said.",)
    assert not is_rated(written(tmp_path, "I love it\t18\teew5j0j\n"))
    assert not is_rated(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,V,A,text\na,6,3,x\n", "line 2 needs a rating from 1 to 5 under V, got '6'"),
        ("id,V,A,text\na,3,,x\n", "line 2 needs a rating from 1 to 5 under A, got ''"),
        ("id,V,A,text\na,3,3,x\nb,3,3,\n", "line 3 has no text"),
        ("id,V,A,text\n", "holds no rated texts"),
    ],
)
def test_ratings_that_cannot_be_used_get_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(UserError) as told:
        rated(file)
    assert str(told.value) == f"{file}: {sentence}"


def test_a_reader_is_held_against_people_axis_by_axis(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    people = rng.uniform(1.5, 4.5, (60, 2))
    lines = [f"t{i},{v:.4f},{a:.4f},text {i}" for i, (v, a) in enumerate(people)]
    given = (people - 3) / 2 * 0.8 + 0.05 * rng.standard_normal((60, 2))
    data = rated(written(tmp_path, "\n".join(["id,V,A,text", *lines])))
    readings = [at(*one) for one in given[:-1]] + [Reading(None, error="too strange")]
    found = compare(Says(*readings), data, DIRECT)
    assert (found.texts, found.unread) == (60, 1)
    valence, arousal = found.axes
    theirs = stats.pearsonr(data.means[:-1, 0], given[:-1, 0])
    assert valence.reader.pearson.estimate == pytest.approx(theirs.statistic, abs=1e-8)
    assert (valence.reader.pearson.low, valence.reader.pearson.high) == pytest.approx(
        tuple(theirs.confidence_interval()), abs=1e-5
    )
    assert arousal.reader.error.estimate == pytest.approx(np.abs(data.means[:-1, 1] - given[:-1, 1]).mean())
    assert valence.people is None
    assert "not readable   1 text" in whole_table("va", found)
    json.dumps(found.as_json(), allow_nan=False)


def test_single_ratings_tell_how_well_people_agree(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    truth = rng.uniform(2, 4, 80)
    lines = [f"t{i},{t + d:.3f},3,x {i}" for i, t in enumerate(truth) for d in rng.normal(0, 0.3, 3).clip(-1, 1)]
    data = rated(written(tmp_path, "\n".join(["id,V,A,text", *lines])))
    found = compare(Says(*[at((t - 3) / 2, 0.0) for t in truth]), data, DIRECT)
    people = found.axes[0].people
    assert people is not None
    assert people.texts == 240
    assert people.pearson.estimate < found.axes[0].reader.pearson.estimate
    assert "one person and others" in whole_table("va", found)


def test_what_goes_with_labelled_comments_alone_is_refused_of_ratings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, EMOBANK)
    assert main(["validate", "embedded", "--data", str(file), "--save", str(tmp_path / "x.json")]) == WRONG
    assert f"--save goes with labelled comments, and {file} holds ratings of valence" in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()


def test_what_has_no_direction_counts_as_the_middle_and_nothing_read_is_no_measurement(tmp_path: Path) -> None:
    data = rated(written(tmp_path, EMOBANK))
    found = compare(Says(Reading(None), at(0.5, 0.5)), data, DIRECT)
    assert (found.undirected, found.axes[0].reader.texts) == (1, 2)
    with pytest.raises(UserError, match="reader 'va' could not read a text: no"):
        compare(Says(Reading(None, error="no"), Reading(None, error="no")), data, DIRECT)


def test_concordance_is_lins_and_its_interval_holds() -> None:
    """Two normal columns of correlation 0.8, the second shifted by half a spread: 2 * 0.8 / (2 + 0.25)."""
    truth, hits, rng = 2 * 0.8 / 2.25, 0, np.random.default_rng(3)
    for _ in range(600):
        x, noise = rng.standard_normal((2, 80))
        found = concordance(x, 0.8 * x + 0.6 * noise + 0.5)
        hits += found.concordance.low <= truth <= found.concordance.high
    assert 0.93 <= hits / 600 <= 0.97
    same = concordance(x, x)
    assert [one.estimate for one in (same.pearson, same.concordance, same.error)] == pytest.approx([1.0, 1.0, 0.0])
    turned = concordance(x, 2 * x + 1)
    assert turned.pearson.estimate == pytest.approx(1.0)
    assert turned.concordance.estimate < 0.8


@pytest.mark.parametrize("raters", [2, 5])
def test_the_intervals_of_people_among_themselves_hold(raters: int) -> None:
    """A rating counts among the others of every other of its text: taken as independent, intervals held 72 to 84 %."""
    rng = np.random.default_rng(7)

    def people(texts: int) -> Concordance:
        ratings = rng.normal(0.0, 0.3, (texts, 1)) + rng.normal(0.0, 0.4, (texts, raters))
        found = one_against_the_others(ratings.ravel(), np.repeat(np.arange(texts), raters))
        assert found is not None
        return found

    names = ("pearson", "concordance", "error")
    truths, hits = people(100_000), np.zeros(3)
    for _ in range(400):
        found = people(60)
        for place, name in enumerate(names):
            hits[place] += getattr(found, name).low <= getattr(truths, name).estimate <= getattr(found, name).high
    assert ((hits / 400 >= 0.92) & (hits / 400 <= 0.98)).all(), hits


def test_what_never_varies_has_no_correlation() -> None:
    found = concordance(np.array([0.1, 0.1, 0.1]), np.array([0.1, 0.2, 0.3]))
    assert math.isnan(found.pearson.estimate)
    assert found.error.estimate == pytest.approx(0.1)
    assert one_against_the_others(np.array([0.1, 0.2]), np.array([0, 1])) is None
