"""What a run does, on a real Ray cluster with a scripted speaker and reader."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from emoray.commands import attempt
from emoray.commands.described import described_as
from emoray.commands.status import status
from emoray.errors import UserError
from emoray.run_folder import columns, manifest
from emoray.run_folder.folder import RunFolder
from emoray.stream import cluster
from emoray.stream.driver import RunDriver
from emoray.study.prompts import prompts
from tests import tiny_models
from tests.stream.conftest import Run, Settled, study

pytestmark = pytest.mark.cluster

ONE = "- {name: a, host: scripted}"


def test_every_cell_of_the_grid_becomes_one_row_that_recomputes(settled: Settled) -> None:
    asked = study(ONE, repetitions=2)
    folder = settled(asked)

    table = folder.rows("r", "a").read()
    grid = asked.experiment.grid("a")
    assert sorted(table["key"].to_pylist()) == sorted(prompt.key for prompt in prompts(grid))
    assert table.schema.names == columns.SCORED.names
    again = columns.scored(table, asked.label_map, "zero")
    for column in ("cosine", "expected_cosine", "expected_valence", "read_valence", "angle_error_deg"):
        before, after = (t[column].to_numpy(zero_copy_only=False) for t in (table, again))
        np.testing.assert_array_equal(before, after)


def test_running_twice_asks_nothing_twice(run: Run, settled: Settled) -> None:
    asked = study(ONE, repetitions=2)
    folder = settled(asked)
    before = folder.answers("a").read()

    assert run(asked) == 0

    assert folder.answers("a").read().equals(before)
    assert folder.answers("a").counts().spare == 0
    attempts = (folder.manifest() or {})["attempts"]
    first, second = (lane for attempt in attempts for lane in attempt["lanes"])
    assert [lane["answered"] for lane in (first, second)] == [12, 0]
    assert first["completion_tokens"] == folder.answers("a").counts().completion_tokens > 0
    assert (second["completion_tokens"], second["cost_usd"], second["lost_usd"]) == (0, 0.0, 0.0)
    assert [attempt["settled_before"] for attempt in attempts] == [{"a": 0}, {"a": 12}]


def test_raising_repetitions_asks_only_the_new_cells(run: Run, settled: Settled) -> None:
    folder = settled(study(ONE, repetitions=2))
    before = {row["key"]: row for row in folder.answers("a").read().to_pylist()}

    assert run(study(ONE, repetitions=5)) == 0

    after = {row["key"]: row for row in folder.answers("a").read().to_pylist()}
    assert len(after) == 30
    assert {key: after[key] for key in before} == before
    assert (folder.manifest() or {})["attempts"][-1]["lanes"][0]["answered"] == 18


def test_a_failed_ask_is_a_row_without_text_and_score_is_owed_in_status_and_asked_again(
    run: Run, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(study("- {name: a, host: scripted, fails: 0.5}", repetitions=10)) == 3

    said = capsys.readouterr().err
    failed = [row for row in folder.rows("r", "a").read().to_pylist() if row["outcome"] != columns.ANSWERED]
    assert 0 < len(failed) < 60
    assert f"a: {len(failed)} cells are still owed ({len(failed)} overloaded)" in said
    assert "resume with: again" in said
    assert all(row["answer"] is None and row["cosine"] is None and row["label"] is None for row in failed)
    found = status(folder).models[0]
    assert found.settled + found.owed == found.cells == 60
    assert found.failed == {"overloaded": found.owed} == {"overloaded": len(failed)}
    assert found.read == {"r": found.settled}

    assert run(study("- {name: a, host: scripted}", repetitions=10)) == 0  # the provider has recovered

    settled = folder.rows("r", "a").read()
    assert settled.num_rows == 60
    assert set(settled["outcome"].to_pylist()) == {columns.ANSWERED}


@pytest.mark.campaign  # its actor loads PyTorch only to fail; test_vllm_run has a lane that ends likewise
def test_one_model_that_cannot_be_loaded_ends_its_own_lane_only(
    run: Run, folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    both = f"""
        - {{name: lost, host: transformers, id: {empty}}}
        - {{name: a, host: scripted}}
    """
    assert run(study(both)) == 3

    assert f"lost: model 'lost' ({empty}) cannot be loaded" in capsys.readouterr().err
    assert folder.answers("a").counts().answered == 6
    assert folder.answers("lost").counts().answered == 0


@pytest.mark.campaign  # so do lanes of test_turns and test_vllm_run
def test_lanes_that_do_not_fit_side_by_side_take_turns(run: Run, folder: RunFolder) -> None:
    two = "\n".join(f"- {{name: {name}, host: scripted, cpus: 1.2}}" for name in "ab")

    assert run(study(two)) == 0

    assert [folder.rows("r", name).counts().answered for name in "ab"] == [6, 6]


@pytest.mark.campaign  # e2e/test_job_submit counts what a limit leaves
def test_a_limit_asks_only_the_first_cells(run: Run, folder: RunFolder) -> None:
    assert run(study(ONE, repetitions=10), limit=8) == 0

    assert folder.answers("a").counts().answered == 8


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            "- {name: big, host: vllm, id: some/model, tensor_parallel_size: 4}",
            r"model 'big' needs [\d.]+ CPUs? and 4 GPUs, but the cluster has 2 CPUs",
        ),
        (
            "- {name: a, host: scripted, resources: {plots: 1}}",
            "model 'a' asks for the resource 'plots', which no node of the cluster has",
        ),
    ],
)
def test_what_the_cluster_cannot_hold_is_refused_at_once_and_nothing_is_written(
    run: Run, tmp_path: Path, model: str, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        run(study(model), out=tmp_path / "none")

    assert not (tmp_path / "none").exists()


def test_a_spec_that_leaves_answers_aside_must_say_so(
    run: Run, settled: Settled, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = settled(study(ONE, repetitions=2))
    changed = study(ONE, more="sampling: {temperature: 0.3}")

    with pytest.raises(UserError, match="holds 12 answers that this spec does not ask for"):
        run(changed)

    assert run(changed, extend=True, reports=True) == 0
    assert folder.answers("a").counts().answered == 18
    said = capsys.readouterr().out
    assert "left out: 12 answers in the folder that the spec does not ask for" in said


def test_the_manifest_tells_what_ran_and_keeps_every_attempt(run: Run, settled: Settled) -> None:
    asked = study(ONE, repetitions=2)
    folder = settled(asked)
    run(asked)

    kept = folder.manifest() or {}
    assert kept["digest"] == asked.spec.digest
    own = manifest.study(manifest.parsed(kept, "here"), "here").label_map
    assert own.vectors().tolist()[:27] == asked.label_map.vectors().tolist()[:27]
    assert [attempt["end"] for attempt in kept["attempts"]] == ["finished", "finished"]
    assert kept["attempts"][0]["versions"]["ray"] == "2.60.0"


def test_an_attempt_that_ended_while_this_one_was_starting_is_kept(settled: Settled) -> None:
    asked = study(ONE, repetitions=2)
    folder = settled(asked)

    def joined_late(number: str) -> RunDriver:
        kept = folder.manifest() or {}
        other = kept["attempts"][0] | {"id": "other"}
        folder.write_manifest(kept | {"attempts": [*kept["attempts"], other]})
        return RunDriver(asked, folder, cluster.nodes, number)

    assert (
        attempt._attempt(folder, asked, partial(described_as, folder, asked, extend=False), "again", joined_late) == 0
    )

    attempts = (folder.manifest() or {})["attempts"]
    assert [attempt["id"] == "other" for attempt in attempts] == [False, True, False]
    assert [attempt["end"] for attempt in attempts] == ["finished"] * 3


def test_a_reader_catches_up_on_answers_that_it_has_not_read_and_is_known_when_the_spec_drops_it(
    run: Run, settled: Settled
) -> None:
    folder = settled(study(ONE, repetitions=2))
    before = folder.answers("a").read()

    assert run(study(ONE, repetitions=2, readers="r second")) == 0

    assert folder.answers("a").read().equals(before)
    assert folder.rows("second", "a").read()["key"].equals(before["key"])

    assert run(study(ONE, repetitions=2)) == 0

    assert [entry["name"] for entry in (folder.manifest() or {})["more_readers"]] == ["second"]


def test_how_a_models_answers_are_drawn_and_what_it_has_to_say_is_told_at_its_start(
    run: Run, folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tiny_models.sayer(tmp_path / "model", ["Hm.", "</think>", "Yes."], chat_template=tiny_models.THINKS)
    tiny_models.change(words, "generation_config.json", top_k=3, top_p=0.5)
    thinks = f"- {{name: thinks, host: transformers, id: {words}, sampling_defaults: model}}"

    assert run(study(thinks), reports=True) == 0

    said = capsys.readouterr().err
    assert said.count("warning: model 'thinks': its chat template speaks of thinking (enable_thinking)") == 1
    (attempt,) = (folder.manifest() or {})["attempts"]
    neutral = {"temperature": 1.0, "max_tokens": 256, "min_p": 0.0, "repetition_penalty": 1.0}
    assert attempt["sampling"] == {"thinks": neutral | {"top_k": 3, "top_p": 0.5, "defaults": "model"}}
    found = folder.answers("thinks").read()
    assert set(found["top_p"].to_pylist()) == {0.5}
    assert set(zip(found["answer"].to_pylist(), found["reasoning"].to_pylist(), strict=True)) == {("Yes.", "Hm.")}
    assert (
        "max_tokens 256; top_k 3; what the spec leaves open"
        in (folder.read_bytes("report/report.html") or b"").decode()
    )
