"""What `status` says of a real run at several moments, against what is known of it: a provider answers when it is told
to.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from emoray.plurals import count
from emoray.rehearsal.behaviour import Behaviour
from emoray.rehearsal.provider import Provider
from emoray.run_folder.folder import LANES, RunFolder
from tests.programs import EMORAY, Start, killed, until

pytestmark = [pytest.mark.cluster, pytest.mark.campaign]

SPEC = """
name: t
accounts: {{fake: {{base_url: "{url}"}}}}
models:
- {{name: a, host: hosted_api, account: fake, id: x, in_flight: 4, usd_per_million: {{input: 0, output: 100}}}}
states: 6
questions: [freedom, art]
repetitions: 2
sampling: {{max_tokens: 10}}
readers:
- kind: judge
  name: j
  model: {{name: m, host: hosted_api, account: fake, id: judge, in_flight: 4, usd_per_million: {{input: 0, output: 0}}}}
"""
CELLS = 24
IN_FLIGHT = 4
EACH_USD = 0.001  # 10 tokens said, and none asked for money
GOOD = json.dumps({"valence": 0.5, "arousal": -0.5, "confidence": 0.8})


class Gate:
    """Answers that come when they are let out."""

    def __init__(self) -> None:
        self.waiting: deque[asyncio.Future[None]] = deque()
        self._free = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    async def passed(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._free:
            self._free -= 1
            return
        turn = self._loop.create_future()
        self.waiting.append(turn)
        await turn

    def let_out(self, answers: int) -> None:
        """These, or as many that are asked later."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._let_out, answers)

    def _let_out(self, answers: int) -> None:
        for _ in range(answers):
            if self.waiting:
                self.waiting.popleft().set_result(None)
            else:
                self._free += 1


def last_attempt(folder: RunFolder) -> dict[str, Any]:
    found: dict[str, Any] = {"asks_since": {}}
    found |= (folder.manifest() or {})["attempts"][-1]
    return found


def told(folder: RunFolder) -> dict[str, Any]:
    said = subprocess.run([*EMORAY, "status", folder.uri, "--json"], capture_output=True, text=True, check=True).stdout
    whole: dict[str, Any] = json.loads(said)
    (model,) = whole.pop("models")
    whole |= model
    return whole


def test_status_of_a_live_a_dead_a_resumed_and_a_reading_run_says_what_is_so(join: Start, tmp_path: Path) -> None:
    speaks, judges, folder = Gate(), Gate(), RunFolder(str(tmp_path / "run"))

    async def speak(body: dict[str, Any]) -> str:
        await (judges if body["model"] == "judge" else speaks).passed()
        return GOOD if body["model"] == "judge" else "I am so glad, and the sea is blue to-day"

    def settled() -> int:
        return folder.answers("a").counts().answered

    def stands(text: str) -> bool:
        return bool(json.loads(folder.read_bytes(LANES) or b"{}").get("a") == text)

    def asks() -> bool:
        """All that may be are under way, and that it asks is written down."""
        return len(speaks.waiting) == IN_FLIGHT and stands("asks") and "a" in last_attempt(folder)["asks_since"]

    def told_with_rate(answers: int, asked_at: datetime) -> dict[str, Any]:
        """That the rate is of these answers, since a moment between the attempt's start and this one."""
        looked_at = datetime.now(UTC)
        found = told(folder)
        longest = datetime.now(UTC) - datetime.fromisoformat(found["attempts"][-1]["began"])
        least_s = max(1.0, (looked_at - asked_at).total_seconds())
        assert 60 * answers / (longest.total_seconds() + 1.0) <= found["per_minute"] <= 60 * answers / least_s
        return found

    with Provider(Behaviour(), speak) as provider:
        (tmp_path / "spec.yaml").write_text(SPEC.format(url=provider.base_url))
        command = [*EMORAY, "run", str(tmp_path / "spec.yaml"), "--out", folder.uri]

        live = join(command)
        until(asks, live)
        asked_at = datetime.now(UTC)
        speaks.let_out(6)
        until(lambda: settled() == 6 and asks() and len(judges.waiting) == IN_FLIGHT, live)
        found = told_with_rate(6, asked_at)
        assert (found["settled"], found["owed"], found["failed"], found["standing"]) == (6, CELLS - 6, {}, "asks")
        assert found["writer"].startswith(f"process {live.pid} on ")
        assert found["cost_usd"] == pytest.approx(6 * EACH_USD)
        assert found["under_way_usd"] == pytest.approx(IN_FLIGHT * EACH_USD)
        assert found["lost_usd"] == 0

        killed(live)
        found = told(folder)
        assert (found["settled"], found["standing"], found["per_minute"], found["writer"]) == (6, None, None, None)
        assert (found["lost_usd"], found["under_way_usd"]) == (pytest.approx(IN_FLIGHT * EACH_USD), 0)
        assert "end" not in found["attempts"][-1]
        for gate in (speaks, judges):
            gate.let_out(IN_FLIGHT)  # to nobody
        until(lambda: not speaks.waiting and not judges.waiting)

        resumed = join(command)
        until(asks, resumed)
        asked_at = datetime.now(UTC)
        found = told(folder)
        assert (found["settled"], found["attempts"][-1]["settled_before"], found["per_minute"]) == (6, {"a": 6}, 0)
        speaks.let_out(8)
        until(lambda: settled() == 14 and asks(), resumed)
        found = told_with_rate(8, asked_at)
        assert (found["settled"], found["owed"]) == (14, CELLS - 14)
        assert found["lost_usd"] == found["under_way_usd"] == pytest.approx(IN_FLIGHT * EACH_USD)
        assert [attempt.get("end", "").partition(":")[0] for attempt in found["attempts"]] == ["died", ""]

        speaks.let_out(CELLS - 14)
        until(lambda: settled() == CELLS and stands("reads") and len(judges.waiting) == IN_FLIGHT, resumed)
        found = told(folder)
        assert (found["standing"], found["per_minute"], found["owed"]) == ("reads", None, 0)
        said = subprocess.run([*EMORAY, "status", folder.uri], capture_output=True, text=True, check=True).stdout
        assert f"reads, {count(CELLS - folder.rows('j', 'a').counts().answered, 'answer')} left" in said

        judges.let_out(10 * CELLS)
        assert resumed.wait() == 0, resumed.communicate()
        found = told(folder)
        assert (found["settled"], found["read"], found["standing"]) == (CELLS, {"j": CELLS}, None)
        assert (found["per_minute"], found["under_way_usd"], found["writer"]) == (None, 0, None)
        asked = [said for _, _, said in provider.counters.billed if said == 10]
        assert found["cost_usd"] + found["lost_usd"] == pytest.approx(len(asked) * EACH_USD)
        assert found["attempts"][-1]["end"] == "finished"
