"""A run folder that an emoray of November 2026 left behind (data/run_folder.tar.xz), held against any later one.

Five attempts at it: killed; ended, with cells owed; a reader that came later; killed; a spec with one repetition more,
killed. It has three models (a hosted one, a scripted one with an odd name, one in batches) and three readers (one of
them a judge that is paid), compacted files and those of a journal, a torn one, failures and readings that failed,
batches that ended and that are open, money that was lost and booked, marks and claims of the dead. Its numbers were
counted in the files with pyarrow alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from emoray.commands import attempt
from emoray.commands.compact import compact_all
from emoray.commands.status import ModelStatus, status
from emoray.rehearsal.behaviour import Behaviour
from emoray.rehearsal.provider import Provider
from emoray.run_folder.census import KeySet
from emoray.run_folder.folder import RunFolder
from tests.programs import Here

CANNED = Path(__file__).parent / "data" / "run_folder.tar.xz"
ODD = "Böse.r b"
UNDER_WAY_USD = 0.009894 - 0.007877  # what its actor may have spent, less its rows
BATCHES_USD = 0.008438 + 0.006951  # those that are open may cost so much
LOST_USD = {"now": 0.0130541295 + UNDER_WAY_USD, ODD: 0.1072655228, "overnight": 0.0}
MEANWHILE, LATER = (datetime(2026, 11, 30, 19, 41, tzinfo=UTC) + timedelta(days=days) for days in (0, 30))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    with tarfile.open(CANNED) as tar:
        tar.extractall(tmp_path, filter="data")
    return RunFolder(str(tmp_path / "run"))


def forget_the_dead(folder: RunFolder) -> None:
    """Of a process on another machine, of which one is only sure after 45 seconds."""
    shutil.rmtree(folder.path("_lease"))


def of_answers(model: ModelStatus) -> tuple[Any, ...]:
    return model.cells, model.settled, model.failed, model.read, model.unread


def test_its_status_is_told(folder: RunFolder) -> None:
    found = status(folder, now=LATER)

    now, odd, overnight = found.models
    failed = {"empty": 3, "bad_request": 6, "content_filtered": 4}
    not_read = {"j": {"content_filtered": 1, "empty": 2}}
    assert of_answers(now) == (64, 62, {}, {"j": 52, "late": 48, "r": 52}, {})
    assert of_answers(odd) == (64, 64, {}, {"j": 61, "late": 48, "r": 64}, not_read)
    assert of_answers(overnight) == (64, 35, failed, {"j": 35, "late": 35, "r": 35}, {})
    assert [model.torn for model in found.models] == [1, 0, 0]
    assert [model.spare for model in found.models] == [0, 0, 0]
    assert [model.batches for model in found.models] == [0, 0, 2]
    assert overnight.batches_wait == {"word of the provider": 1}
    assert [(model.prompt_tokens, model.completion_tokens) for model in found.models] == [
        (4301, 381), (2624, 608), (2400, 231)
    ]  # fmt: skip
    assert [model.cost_usd for model in found.models] == pytest.approx([0.043891, 0.0, 0.00573])
    assert [model.read_cost_usd for model in found.models] == pytest.approx([0.100385, 0.129785, 0.031889])
    assert {model.model: model.lost_usd for model in found.models} == pytest.approx(LOST_USD)
    ends = ["died", "finished; 18 cells are still owed", "finished", "died", None]
    assert [attempt.end.partition(":")[0] or None for attempt in found.attempts] == ends
    assert found.text().endswith("attempt 5 began 2026-11-30T19:40:29+00:00 on elsewhere: died without a word")


def test_as_long_as_its_lease_held_it_was_running(folder: RunFolder) -> None:
    found = status(folder, now=MEANWHILE)

    assert found.text().endswith("on elsewhere: running, process 24150 on elsewhere")
    assert [model.standing for model in found.models] == ["asks", "reads", "asks"]
    lost = [(model.lost_usd, model.under_way_usd) for model in found.models]
    assert lost[0] == pytest.approx((LOST_USD["now"] - UNDER_WAY_USD, UNDER_WAY_USD))
    assert lost[1:] == [pytest.approx((LOST_USD[ODD], 0.0)), (0.0, 0.0)]


def test_a_compaction_changes_no_row_and_no_money(folder: RunFolder) -> None:
    forget_the_dead(folder)
    before = {part.relative: part.read().to_pylist() for part in folder.parts()}
    told = status(folder, now=LATER).models

    compact_all(folder)

    assert {part.relative: part.read().to_pylist() for part in folder.parts()} == before
    assert len(before) == 3 + 3 * 3
    assert sum(map(len, before.values())) == 62 + 64 + 48 + 52 + 64 + 48 + 52 + 64 + 48 + 48 + 48 + 35
    for was, now in zip(told, status(folder, now=LATER).models, strict=True):
        assert of_answers(was) == of_answers(now)
        money = [(one.cost_usd, one.read_cost_usd, one.lost_usd) for one in (was, now)]
        assert money[0] == pytest.approx(money[1])
    assert all(len(part.files()) == 1 for part in folder.parts())
    assert [path.name for path in Path(folder.path("torn")).rglob("*.parquet")] == [TORN]


TORN = "20261130T194100.142965-20261130T194029_735be8_1751a3bbc288_d4a2c913-0.parquet"


def test_no_file_in_it_names_a_module(folder: RunFolder) -> None:
    """So that modules may be called otherwise."""
    files = [path for path in Path(folder.path()).rglob("*") if path.is_file()]
    named = {name for path in files for name in re.findall(rb"emoray\.[a-z_.]+", path.read_bytes())}
    assert len(files) > 40
    assert named == {b"emoray.schema_version", b"emoray.file"}


LINES = (
    "The sea is calm, and so am I.", "I could sing!", "How dare they!", "I'm sorry, but I can't help with that.",
    "It is quiet here.", "My hands are shaking.",
)  # fmt: skip


def drawn(text: str, choices: int) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % choices


def spoken(body: dict[str, Any]) -> str:
    """As its provider spoke and judged then."""
    if "confidence" not in json.dumps(body["messages"]):
        return LINES[drawn(f"{body['messages']} {body['seed']}", len(LINES))]
    text = body["messages"][-1]["content"]
    valence, arousal = (drawn(sign + text, 9) / 4 - 1 for sign in "va")
    return json.dumps({"valence": valence, "arousal": arousal, "confidence": 0.5})


MEANS = {  # by reader, then as the models are told
    "r": {"now": -0.0790421391, ODD: -0.0353859009, "overnight": -0.0437649633},
    "j": {"now": 0.1490224761, ODD: -0.2156909343, "overnight": -0.1171090639},
}
MEANS["late"] = MEANS["r"]  # which reads alike


@pytest.mark.cluster
def test_it_is_resumed_caught_up_on_by_a_later_reader_and_reported(
    folder: RunFolder, here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_the_dead(folder)
    before, told_before = {model: folder.answers(model).settled() for model in folder.models()}, told_usd(folder)
    asked, spec = Counter[str](), tmp_path / "spec.yaml"

    async def speak(body: dict[str, Any]) -> str:
        said = spoken(body)
        asked["judged" if said.startswith("{") else "answered"] += 1
        return said

    with Provider(Behaviour(batch_polls=1), speak) as provider, monkeypatch.context() as patch:
        spec.write_text(spec.read_text().replace("http://127.0.0.1:9/emoray/v1", provider.base_url))
        patch.setattr(attempt, "report", lambda folder: f"no report of {folder.shown} yet")
        assert here("run", str(spec), "--out", folder.uri) == 0
    for figures in ("_write_figures", "_write_pages"):  # which cost more than all the rest, and are drawn elsewhere
        monkeypatch.setattr(f"emoray.report.{figures}", lambda *_: None)
    assert here("score", folder.uri, "--reader", "late", report=True) == 0

    assert asked["answered"] == 2 + 29
    assert 0 < asked["judged"] <= 12 + 3 + 29  # what several say may be judged once
    found = status(folder)
    for model in found.models:
        assert of_answers(model) == (64, 64, {}, {"j": 64, "late": 64, "r": 64}, {})
        assert (model.torn, model.batches, model.spare) == (0, 0, 0)
        assert folder.answers(model.model).settled().has(before[model.model].keys()).all()
    lost_usd = LOST_USD | {"overnight": BATCHES_USD}  # its provider is another now, and knows of no batch
    assert {model.model: model.lost_usd for model in found.models} == pytest.approx(lost_usd)
    assert told_usd(folder) - told_before == pytest.approx(charged_usd(provider, folder, before["overnight"]))

    killed = (folder.manifest() or {})["attempts"][4]["lanes"]
    assert [(lane["model"], lane["answered"]) for lane in killed] == [("now", 14), (ODD, 16), ("overnight", 0)]
    assert [(lane["cost_usd"], lane["lost_usd"]) for lane in killed] == [
        pytest.approx((0.007877, UNDER_WAY_USD)), (0, 0), (0, 0)
    ]  # fmt: skip
    summary = json.loads(folder.read_bytes("report/summary.json") or b"")
    for one in summary["models"]:
        assert (one["counts"]["answers"], one["counts"]["read"], one["counts"]["failures"]) == (64, 64, 0)
        assert one["counts"]["refused"] == {"now": 10, ODD: 0, "overnight": 16}[one["model"]]
        mean = one["scores"]["whole"]["group"]["cosine"]["estimate"]
        assert mean == pytest.approx(MEANS[one["reader"]][one["model"]])
    assert len(summary["models"]) == 9
    assert summary["looks"]["answers"] == [131, 192]
    assert summary["lost_usd"] == pytest.approx(lost_usd)


def told_usd(folder: RunFolder) -> float:
    return sum(model.cost_usd + model.read_cost_usd for model in status(folder).models)


def charged_usd(provider: Provider, folder: RunFolder, before: KeySet) -> float:
    """At a dollar per million of tokens asked and a hundred of those said; of those in a batch it is ten."""
    rows = folder.answers("overnight").read(["key", "completion_tokens"]).to_pylist()
    in_batches: int = sum(row["completion_tokens"] for row in rows if not before.has([row["key"]])[0])
    return (sum(asked + 100 * said for _, asked, said in provider.counters.billed) - 90 * in_batches) / 1e6
