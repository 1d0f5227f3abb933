"""One answer that a classifier cannot read costs no other, on a real Ray cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import AddedToken

from emoray.commands.status import status
from emoray.run_folder.folder import RunFolder
from emoray.spec.load import parse
from emoray.study.goemotions import LABELS
from tests import tiny_models
from tests.stream.conftest import Run

pytestmark = pytest.mark.cluster


def spec(model: str) -> str:
    return f"""
name: t
states: 3
questions: [freedom, art]
repetitions: 4
models: [{{name: a, host: scripted, lines: [I am grmpf, I am happy, I am sad]}}]
readers: [{{kind: goemotions, name: g, model: {model}}}]
"""


def test_an_answer_that_a_classifier_cannot_read_is_owed_again_with_its_cause_and_all_others_are_read(
    run: Run, folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_models.classifier(tmp_path / "model", LABELS)
    words = tiny_models.tokenizer(classifier=True)
    words.add_tokens([AddedToken("grmpf", special=False)])  # and the network has no row for it
    words.save_pretrained(model)

    assert run(parse(spec(model))) == 3

    felt = folder.rows("g", "a").read().to_pylist()
    cause = f"unreadable: reader 'g' ({model}): ValueError: the text has token 262, and the network knows 262"
    assert {row["answer"]: row["read_error"] for row in felt} == {
        "I am grmpf": cause,
        "I am happy": None,
        "I am sad": None,
    }
    assert all((row["label"] is None) == (row["cosine"] is None) == bool(row["read_error"]) for row in felt)
    unread = sum(row["answer"] == "I am grmpf" for row in felt)
    said = capsys.readouterr().err
    assert f"a: reader g could not read {unread} unreadable; a network that fails on a text will fail alike" in said
    assert f"a: {cause.replace(': ', ', for example: ', 1)}" in said
    assert f"    {cause.replace(': ', ', for example: ', 1)}" in status(folder).text()
    assert folder.rows("g", "a").counts().answered == 24 - unread  # the next run reads them, as those of a judge
