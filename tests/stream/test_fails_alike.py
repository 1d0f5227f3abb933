"""Cells that no further run will settle as long as the spec stays what it is."""

from __future__ import annotations

import json

import pytest

from emoray.store import RunFolder
from tests.stream.conftest import Run, study

pytestmark = pytest.mark.cluster


def test_what_the_seed_of_a_cell_decides_is_said_to_fail_alike_and_what_to_change(
    run: Run, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    endless = {"name": "endless", "user": "why " * 5000 + "{question} {valence} {arousal}"}

    assert run(study("- {name: small, host: embedded}", more=f"templates: [{json.dumps(endless)}]")) == 3

    said = capsys.readouterr().err
    assert folder.answers("small").counts().failed == {"context_length": 6}
    assert "small: 6 context_length will fail alike on every run: shorten the template" in said
