"""How well the shipped reader reads GoEmotions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from training.comments import read_comments, with_one_label
from training.reader_figures import cosine_means, f1_scores, read

from emoray.embedded import reader_path

pytestmark = pytest.mark.campaign  # the weights are the shipped ones: test_shipped_folders

Labels = npt.NDArray[np.int64]


@pytest.fixture(scope="module")
def readings(goemotions: Path) -> tuple[Labels, Labels]:
    """True and predicted labels of the test comments with one label, as they stand in the file."""
    comments = with_one_label(read_comments(goemotions, "test"))
    shares = read(reader_path(), [comment.text for comment in comments])
    return np.array([comment.labels[0] for comment in comments]), shares.argmax(axis=1)


def test_the_reader_is_at_least_as_accurate_as_the_papers(readings: tuple[Labels, Labels]) -> None:
    truth, said = readings
    assert len(truth) == 4590
    assert np.mean(truth == said) >= 0.589


def test_the_reader_knows_more_than_the_frequent_labels(readings: tuple[Labels, Labels]) -> None:
    assert f1_scores(*readings).mean() >= 0.40


def test_the_labels_it_confuses_lie_near_one_another(readings: tuple[Labels, Labels]) -> None:
    neutral_zero, neutral_out = cosine_means(*readings)
    assert neutral_zero >= 0.55
    assert neutral_out >= 0.78
