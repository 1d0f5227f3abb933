"""Two readers and a judge behind a provider: killed without warning, resumed, and nothing is asked again."""

from __future__ import annotations

import asyncio
import json
import threading
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from emoray.rehearsal.behaviour import Behaviour
from emoray.rehearsal.provider import Provider
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.tabs import lost_usd
from tests.programs import EMORAY, Here, Start, killed, until

pytestmark = pytest.mark.cluster
SPEC = """
name: t
models: [{{name: a, host: scripted, latency_s: 0.02, in_flight: 64}}]
accounts: {{p: {{base_url: "{url}", budget_usd: 5}}}}
states: 3
questions: [freedom, art]
repetitions: 40
readers:
- {{kind: scripted, name: one}}
- {{kind: scripted, name: two}}
- kind: judge
  name: judge
  model:
    {{name: m, host: hosted_api, id: gpt-4o, account: p, in_flight: 16, usd_per_million: {{input: 10, output: 10}}}}
"""
CELLS = 240
GOOD = json.dumps({"valence": 0.4, "arousal": 0.3, "confidence": 0.7})


def is_hard(text: str) -> bool:
    """Every ninth or so, in whichever order and however often they are asked."""
    return zlib.crc32(text.encode()) % 9 == 0


@pytest.fixture
def provider() -> Any:
    """A server that judges, and of hard texts says nothing that is a reading until it is wiser. It replies as often as
    a third of the cells would need, and to all others when it is let go on.
    """
    asked: list[str] = []
    goes_on, is_wiser = threading.Event(), threading.Event()

    async def speak(body: dict[str, Any]) -> str:
        asked.append(text := body["messages"][-1]["content"])
        place = len(asked)
        while place > CELLS / 3 and not goes_on.is_set():
            await asyncio.sleep(0.01)
        return "I would rather not say." if is_hard(text) and not is_wiser.is_set() else GOOD

    with Provider(Behaviour(), speak) as server:
        server.asked, server.goes_on, server.is_wiser = asked, goes_on, is_wiser  # type: ignore[attr-defined]
        yield server


def test_a_killed_run_goes_on_and_asks_no_answer_and_hardly_a_judgement_again(
    provider: Any, join: Start, here: Here, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, folder = tmp_path / "spec.yaml", RunFolder(str(tmp_path / "run"))
    path.write_text(SPEC.format(url=provider.base_url))
    command = ["run", str(path), "--out", folder.uri]
    process = join([*EMORAY, *command])
    until(lambda: folder.exists() and folder.rows("judge", "a").counts().answered >= 32, process)

    killed(process)
    provider.goes_on.set()

    before = {row["key"]: row for row in folder.answers("a").read().to_pylist()}
    judged = folder.rows("judge", "a").counts().answered
    assert 32 <= judged < CELLS
    assert here(*command) == 3
    assert "cells are still owed" in capsys.readouterr().err  # what could not be parsed
    provider.is_wiser.set()
    assert here(*command) == 0  # and the next run asks it again
    answers = {row["key"]: row for row in folder.answers("a").read().to_pylist()}
    assert len(answers) == CELLS
    assert {key: answers[key] for key in before} == before
    for reader in ("one", "two", "judge"):
        assert folder.rows(reader, "a").counts().answered == CELLS
    rows = folder.rows("judge", "a").read().to_pylist()
    assert all(row["read_error"] is None and row["felt_valence"] == 0.4 and row["cosine"] is not None for row in rows)
    wanted, asked = Counter(f"<text>\n{row['answer']}\n</text>" for row in rows), Counter(provider.asked)
    assert asked.keys() == wanted.keys()  # and nothing of the state
    counts = folder.rows("judge", "a").counts()
    assert counts.read_cost_usd >= sum(row["read_cost_usd"] for row in rows) - 1e-9 > 0
    lanes = [lane for attempt in (folder.manifest() or {})["attempts"] for lane in attempt["lanes"]]
    assert lanes[0]["read_cost_usd"] > 0  # the first was killed, and the second told for it
    assert sum(lane["read_cost_usd"] for lane in lanes) == pytest.approx(counts.read_cost_usd)
    assert sum(lane["answered"] for lane in lanes) == CELLS
    until(lambda: provider.counters.in_flight == 0)
    charged_usd = sum(asked + said for _, asked, said in provider.counters.billed) * 10 / 1e6
    assert counts.read_cost_usd + lost_usd(folder.rows("judge", "a")) >= charged_usd - 1e-9
    # all that was asked twice is what did not parse, twice in each of two runs, and what was under way at the kill
    again = asked - wanted
    assert all(times <= 4 * wanted[text] for text, times in again.items() if is_hard(text))
    assert sum(times for text, times in again.items() if not is_hard(text)) <= 2 * 16 + 16
