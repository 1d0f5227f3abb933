"""Several readers and a judge in one run, on a real Ray cluster."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from emoray.commands import attempt
from emoray.commands.record import open_account, tell_late
from emoray.errors import UserError
from emoray.rehearsal.behaviour import Behaviour
from emoray.rehearsal.provider import Provider
from emoray.run_folder import columns, manifest
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.run_json import CostRecord
from emoray.spec.load import parse
from emoray.spec.models import Scripted
from emoray.spec.readers import JudgeReader
from emoray.stream import accounts, cluster
from emoray.stream.driver import RunDriver
from tests import runs
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


def test_a_judge_reads_the_same_answers_as_a_reader_and_one_that_comes_later_is_known_to_the_run_and_its_report(
    run: Run, folder: RunFolder
) -> None:
    assert run(parse(spec(GOOD))) == 0

    answers = folder.answers("a").read()
    judged = folder.rows("j", "a").read().to_pylist()
    assert len(judged) == folder.rows("r", "a").counts().answered == 24
    assert {(row["felt_valence"], row["felt_arousal"], row["confidence"]) for row in judged} == {(0.5, -0.5, 0.8)}
    assert all(row["reader"] == "j" and row["cosine"] is not None and row["label"] is None for row in judged)

    late = JudgeReader(kind="judge", name="late", model=Scripted(host="scripted", name="m", lines=[GOOD]))
    assert attempt.score(folder.uri, late, command="again") == 0

    assert folder.answers("a").read().equals(answers)  # nothing was asked
    assert folder.rows("late", "a").read()["key"].equals(answers["key"])
    kept = folder.manifest() or {}
    assert [entry["name"] for entry in kept["more_readers"]] == ["late"]
    found = json.loads(folder.read_bytes("report/summary.json") or b"")  # which knows that it needs no label map
    assert found["agreement"]["readers"] == ["r", "j", "late"]

    other = JudgeReader(kind="judge", name="late", rubric="other", model=late.model)
    with pytest.raises(UserError, match="the run has another reader called 'late' already"):
        attempt.score(folder.uri, other, command="again")


def test_a_judge_stops_where_the_budget_would_be_passed_and_a_reply_that_cannot_be_parsed_is_owed_again(
    run: Run, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    texts: list[str] = []
    recovered = Event()

    async def speak(body: dict[str, Any]) -> str:
        texts.append(body["messages"][-1]["content"])
        return "I cannot say." if texts[-1] == texts[0] and not recovered.is_set() else GOOD

    with Provider(Behaviour(), speak) as provider:
        assert run(parse(hosted(provider.base_url, 0.3))) == 3

        counts = folder.rows("j", "a").counts()
        answers = folder.answers("a").read()
        assert "budget" in capsys.readouterr().err
        assert 0 < counts.read_cost_usd <= 0.3
        assert answers["outcome"].to_pylist() == [columns.ANSWERED] * 24  # what is asked for nothing is all there

        assert run(parse(hosted(provider.base_url, 100)), extend=True) == 3  # more money lets it go on

        unread = [row for row in folder.rows("j", "a").read().to_pylist() if row["read_error"]]
        assert 0 < len(unread) < 24
        assert f"a: reader j could not read {len(unread)} unparsed" in capsys.readouterr().err
        assert all(row["outcome"] == columns.ANSWERED and row["cosine"] is None for row in unread)
        assert unread[0]["read_error"] == "unparsed: the judge's reply holds no JSON object: I cannot say."

        recovered.set()
        assert run(parse(hosted(provider.base_url, 100))) == 0

    assert folder.rows("j", "a").counts().answered == 24
    assert folder.answers("a").read().equals(answers)


def hosted(url: str, budget_usd: float) -> str:
    """A judge that costs about three cents an answer; its answers are asked one after the other."""
    price = {"input": 50, "output": 100}
    model = {"host": "hosted_api", "name": "m", "id": "judge", "account": "o", "usd_per_million": price, "in_flight": 2}
    judge = {"kind": "judge", "name": "j", "model": model}
    lines = spec(GOOD).splitlines()[:-2]  # nobody else reads
    return "\n".join(
        [*lines, f"- {json.dumps(judge)}", f"accounts: {{o: {{base_url: {url!r}}}}}", f"budget_usd: {budget_usd}"]
    )


def test_what_every_judge_has_cost_counts_whichever_of_them_reads_now(tmp_path: Path) -> None:
    cells = runs.asked()
    asked = parse(hosted("http://localhost/v1", 5))
    (judge,) = (reader for reader in asked.spec.readers if isinstance(reader, JudgeReader))
    made = RunFolder(str(tmp_path / "run"))
    made.write_manifest(manifest.fresh(asked).as_json())
    runs.say(made, cells[:1])
    runs.feel(made, cells[:1], cost_usd=4.0, reader="j")
    runs.feel(made, cells[:1], cost_usd=0.5, reader="of another spec")

    alone = asked.spec.model_copy(update={"readers": [judge.model_copy(update={"name": "second"})]})

    spent = accounts._spent(alone, made)
    assert spent == {"o": 4.0, "?": 0.5}

    for judge_name, usd in (("j", 1.5), ("of another spec", 0.25), ("second", 0.125)):  # killed while they asked
        made.write_text(f"tabs/{made.rows(judge_name, 'a').relative}/killed.json", json.dumps({"usd": usd}))
    assert accounts._spent(alone, made) == {"o": 5.625, "?": 0.75}


def test_what_a_killed_attempt_cost_is_told_by_who_comes_next_also_with_other_readers_and_fewer_models(
    two_cpus: str, folder: RunFolder
) -> None:
    both = spec(GOOD).replace("{name: a, host: scripted}", "{name: a, host: scripted}, {name: b, host: scripted}")
    killed, whole = manifest.attempt(["emoray", "run"]), manifest.fresh(parse(both))
    killed.settled_before, killed.spent_before = {"a": 0, "b": 0}, {"a": CostRecord(), "b": CostRecord()}
    whole.attempts = [killed]
    folder.create()
    folder.write_manifest(whole.as_json())
    for model in ("a", "b"):
        cells = runs.asked(both, model)[:4]
        runs.say(folder, cells)
        runs.feel(folder, cells, cost_usd=0.25, reader="j")
        writer = f"{killed.id.replace('-', '_')}_1_0"
        folder.write_text(f"tabs/{folder.rows('j', model).relative}/{writer}.json", json.dumps({"usd": 0.5}))

    def begins(study: str) -> dict[str, tuple[float, float, int]]:
        """An attempt at it; what the killed one is known to have cost by then."""
        begun = manifest.attempt(["emoray", "run"])
        whole.attempts.append(begun)
        open_account(RunDriver(parse(study), folder, cluster.nodes, begun.id), whole, begun)
        return {lane.model: (lane.read_cost_usd, lane.read_lost_usd, lane.answered) for lane in killed.lanes}

    def without_judge(study: str) -> str:
        return "\n".join(study.splitlines()[:-1])

    assert begins(without_judge(spec(GOOD))) == {"a": (1.0, 0.5, 4)}
    assert begins(without_judge(both)) == {"a": (1.0, 0.5, 4), "b": (1.0, 0.5, 4)}
    assert begins(both) == {"a": (1.0, 0.5, 4), "b": (1.0, 0.5, 4)}
    second, third = whole.attempts[1:3]
    assert {lane.model: lane.read_cost_usd for lane in (*second.lanes, *third.lanes)} == {"a": 0, "b": 0}

    folder.write_text(f"tabs/{folder.rows('j', 'b').relative}/{writer}.json", json.dumps({"usd": 0.75}))  # it asked on
    dead = whole.attempts[0]
    dead.end = "died: it was killed"
    tell_late(RunDriver(parse(both), folder, cluster.nodes, "another").lanes, whole.attempts)
    assert {lane.model: lane.read_lost_usd for lane in dead.lanes} == {"a": 0.5, "b": 0.75}
    assert [lane.read_cost_usd for lane in dead.lanes] == [1.0, 1.0]
