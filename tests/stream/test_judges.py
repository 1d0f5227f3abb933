"""Several readers and a judge in one run, on a real Ray cluster."""

from __future__ import annotations

import json

import pytest

from emoray import job, rows
from emoray.spec import JudgeReader, Scripted, parse
from emoray.store import RunFolder
from tests.stream.conftest import Run

pytestmark = pytest.mark.cluster

GOOD = json.dumps({"valence": 0.5, "arousal": -0.5, "confidence": 0.8})


def spec(*lines: str) -> str:
    judge = {"kind": "judge", "name": "j", "model": {"host": "scripted", "name": "m", "lines": list(lines)}}
    return "\n".join(
        [
            "name: t",
            "states: 3",
            "questions: [freedom, art]",
            "repetitions: 4",
            "models: [{name: a, host: scripted}]",
            "readers:",
            "- {kind: scripted, name: r}",
            f"- {json.dumps(judge)}",
        ]
    )


def test_a_reader_and_a_judge_read_the_same_answers(run: Run, folder: RunFolder) -> None:
    assert run(parse(spec(GOOD))) == 0

    judged = folder.rows("j", "a").read().to_pylist()
    assert len(judged) == folder.rows("r", "a").counts().answered == 24
    assert {(row["felt_valence"], row["felt_arousal"], row["confidence"]) for row in judged} == {(0.5, -0.5, 0.8)}
    assert all(row["reader"] == "j" and row["cosine"] is not None and row["label"] is None for row in judged)


def test_a_reply_that_cannot_be_parsed_is_owed_again_and_no_answer_is(
    run: Run, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(parse(spec(GOOD, "I cannot say."))) == 3

    answers = folder.answers("a").read()
    unread = [row for row in folder.rows("j", "a").read().to_pylist() if row["read_error"]]
    assert 0 < len(unread) < 24
    assert all(row["outcome"] == rows.ANSWERED and row["cosine"] is None for row in unread)
    assert unread[0]["read_error"] == "unparsed: the judge's reply holds no JSON object: I cannot say."

    judge = JudgeReader(kind="judge", name="j", model=Scripted(host="scripted", name="m", lines=[GOOD]))
    assert job.score(folder.uri, judge, command="again") == 0

    assert folder.rows("j", "a").counts().answered == 24
    assert folder.answers("a").read().equals(answers)
