"""Cells that no further run will settle as long as the spec stays what it is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emoray.commands.summary import say_end
from emoray.exit_codes import OWED
from emoray.study.outcomes import Failure, FailureKind
from tests import runs

SPEC = runs.SPEC.replace("{name: a, host: scripted}", "{name: a, host: embedded}")


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (FailureKind.CONTEXT_LENGTH, "shorten the template or lower max_tokens"),
        (FailureKind.EMPTY, "raise temperature or max_tokens, or change the template"),
    ],
)
def test_what_the_seed_of_a_cell_decides_is_said_to_fail_alike_and_what_to_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: FailureKind, change: str
) -> None:
    folder, cells = runs.begun(tmp_path / "run", SPEC), runs.asked(SPEC)
    runs.say(folder, cells, Failure(kind, "of its seed"))
    ended: Any = SimpleNamespace(stopping=False)

    left = {"a": len(cells), "b b": 0}
    assert say_end(ended, [], left, folder, runs.study(SPEC), "again") == OWED

    said = capsys.readouterr().err
    assert f"a: 12 cells are still owed (12 {kind})" in said
    assert f"a: {kind}, for example: of its seed" in said
    assert f"a: 12 {kind} will fail alike on every run: {change}" in said


@pytest.mark.parametrize(
    ("host", "change"),
    [
        ("host: embedded", "lower max_tokens\n"),
        ("host: transformers, id: here", "lower max_tokens\n"),
        ("host: vllm, id: here", "lower max_tokens, or give the engine more room (max_model_len)\n"),
    ],
)
def test_a_setting_is_named_only_to_the_host_that_has_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str, change: str
) -> None:
    spec = runs.SPEC.replace("{name: a, host: scripted}", f"{{name: a, {host}}}")
    folder, cells = runs.begun(tmp_path / "run", spec), runs.asked(spec)
    runs.say(folder, cells, Failure(FailureKind.CONTEXT_LENGTH, "too long"))
    ended: Any = SimpleNamespace(stopping=False)

    say_end(ended, [], {"a": len(cells), "b b": 0}, folder, runs.study(spec), "again")

    assert f"on every run: shorten the template or {change}" in capsys.readouterr().err
