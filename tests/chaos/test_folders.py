"""What a `run` says and does when its folder is not as it left it, or the disk is not as it should be."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from emoray.commands.cli import main
from emoray.rehearsal.local_cluster import Nodes
from emoray.run_folder import columns
from emoray.run_folder.folder import RunFolder
from emoray.spec.load import load
from emoray.spec.study import Study
from tests.disks import fill, small_disk
from tests.programs import EMORAY, Here, Start, until

pytestmark = [pytest.mark.chaos, pytest.mark.cluster]
ON_NODES = pytest.mark.xdist_group("nodes")

SPEC = """
name: t
models: [{{name: a, host: scripted, latency_s: {latency_s}, in_flight: 8}}]
states: 4
questions: [freedom, art]
repetitions: {repetitions}
readers: [{{kind: scripted, name: r}}]
"""
CELLS = 40
ENDLESS = 300  # repetitions: at two seconds an answer, no machine is so slow that a run ends before something happens


Run = Callable[..., int]


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC.format(repetitions=5, latency_s=0.0))
    return path


@pytest.fixture
def run(here: Here, spec: Path) -> Run:
    """`emoray run` in this process, into a folder of this test."""

    def call(out: Path | None = None, *options: str) -> int:
        return here("run", str(spec), "--out", str(out or spec.with_name("run")), *options)

    return call


@pytest.fixture
def folder(run_once: Callable[[Study, Path], None], spec: Path) -> RunFolder:
    """Where a run has just ended well."""
    run_once(load(str(spec)), spec.with_name("run"))
    return RunFolder(str(spec.with_name("run")))


def files(folder: RunFolder) -> list[Path]:
    return sorted(Path(folder.path("answers/model_folder=m-a")).glob("*.parquet"))


def settled_once(folder: RunFolder) -> bool:
    said, read = folder.answers("a").read(["key"]), folder.rows("r", "a").read(["key"])
    return said.num_rows == read.num_rows == CELLS and bool(said.equals(read))


@pytest.mark.parametrize("keeps", [0, 0.6], ids=["empty", "truncated"])
def test_a_torn_file_is_set_aside_and_its_cells_are_asked_again(
    keeps: float, run: Run, folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    torn = files(folder)[0]
    torn.write_bytes(torn.read_bytes()[: int(keeps * torn.stat().st_size)])

    assert run() == 0

    assert f"{torn.name}" in caplog.text
    assert settled_once(folder)
    assert Path(folder.path(f"torn/answers/model_folder=m-a/{torn.name}")).exists()  # for whoever wants to look


def test_a_foreign_file_does_not_count_and_does_no_harm(
    run: Run, folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    place = Path(folder.path("answers/model_folder=m-a"))
    (place / "notes.txt").write_text("remember the milk")
    (place / "table.parquet").write_text("no Parquet at all")
    pq.write_table(columns.ASKED.empty_table(), place / "other.parquet")

    assert run() == 0

    assert "table.parquet" in caplog.text
    assert "other.parquet" in caplog.text
    assert settled_once(folder)
    assert (place / "notes.txt").read_text() == "remember the milk"


def test_a_file_of_another_schema_version_is_refused_before_anything_is_written(
    run: Run, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    file = files(folder)[0]
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata({"emoray.schema_version": "99"}), file)
    before = {path: path.read_bytes() for path in Path(folder.path()).rglob("*") if path.is_file()}
    capsys.readouterr()

    assert run() == 2

    assert (
        "has schema version '99', and this emoray knows '1' and '2': use the emoray that wrote it"
        in capsys.readouterr().err
    )
    assert {path: path.read_bytes() for path in Path(folder.path()).rglob("*") if path.is_file()} == before


def test_of_a_half_deleted_folder_only_what_is_missing_is_made_again(run: Run, folder: RunFolder, spec: Path) -> None:
    answers = folder.answers("a").read()
    shutil.rmtree(folder.path("rows"))
    shutil.rmtree(folder.path("report"))

    assert main(["run", "--verbose", str(spec), "--out", folder.uri]) == 0

    assert folder.answers("a").read().equals(answers)  # not one was asked again
    assert settled_once(folder)
    assert Path(folder.path("report/report.html")).is_file()

    shutil.rmtree(folder.path("answers"))
    assert run() == 0
    assert settled_once(folder)


def test_a_folder_without_its_manifest_is_refused_and_taken_when_told_so_with_its_answers(
    run: Run, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    answers, day = folder.answers("a").read(), (folder.manifest() or {})["day"]
    Path(folder.path("run.json")).unlink()

    assert run() == 2
    assert "holds answers and no run.json" in capsys.readouterr().err

    assert run(None, "--extend") == 0
    assert folder.answers("a").read().equals(answers)
    whole = folder.manifest() or {}
    assert (whole["day"], whole["extended"]) == (day, True)
    assert whole["attempts"][-1]["settled_before"] == {"a": CELLS}


def test_a_broken_manifest_is_said_and_nothing_is_touched(
    run: Run, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = Path(folder.path("run.json"))
    manifest.write_text(manifest.read_text()[:100])
    capsys.readouterr()

    assert run() == 2

    assert "run.json is broken" in capsys.readouterr().err

    assert run(None, "--extend") == 0
    assert settled_once(folder)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "300m") as disk:
        yield disk


def test_a_read_only_folder_is_said_before_anything_is_asked(
    run: Run, mounted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)

    assert run(mounted / "run") == 2

    said = capsys.readouterr().err
    assert "no permission to create" in said
    assert "choose another run folder" in said


def test_a_disk_without_room_is_said_before_anything_is_asked(
    run: Run, mounted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (mounted / "filler").write_bytes(bytes(100 << 20))

    assert run(mounted / "run") == 2

    assert "MB are free at" in capsys.readouterr().err
    assert not (mounted / "run" / "run.json").exists()


def test_a_disk_that_fills_up_ends_the_run_with_a_sentence_and_room_lets_it_go_on(
    mounted: Path, join: Start, run: Run, spec: Path
) -> None:
    folder = RunFolder(str(mounted / "run"))
    spec.write_text(SPEC.format(repetitions=ENDLESS, latency_s=2.0))
    full = join([*EMORAY, "run", str(spec), "--out", folder.uri])
    until(lambda: folder.exists() and folder.answers("a").counts().answered > 0, full)

    fill(mounted / "filler")
    _, said = full.communicate()

    assert full.returncode == 3, said
    assert "there is no space left to write" in said
    assert "resume with: emoray run" in said
    assert "Traceback" not in said
    kept = folder.answers("a").settled()
    lane = (folder.manifest() or {})["attempts"][-1]["lanes"][0]  # written with the room that the ballast gave
    assert (lane["answered"], lane["lost"]) == (len(kept), 0)  # all that was in flight was received and kept

    (mounted / "filler").unlink()
    spec.write_text(SPEC.format(repetitions=ENDLESS, latency_s=0.0))
    assert run(mounted / "run", "--limit", "100") == 0
    counts = folder.answers("a").counts()
    assert (counts.answered, counts.spare) == (max(100, len(kept)), 0)
    assert folder.answers("a").settled().has(kept.keys()).all()


def test_a_folder_that_is_deleted_under_its_run_ends_it_in_a_sentence_and_is_not_made_anew(
    join: Start, spec: Path, tmp_path: Path
) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    spec.write_text(SPEC.format(repetitions=ENDLESS, latency_s=2.0))
    running = join([*EMORAY, "run", str(spec), "--out", folder.uri])
    until(lambda: folder.exists() and folder.answers("a").counts().answered > 0, running)

    (tmp_path / "run").rename(tmp_path / "elsewhere")
    _, said = running.communicate()

    assert running.returncode == 3, said
    assert "was deleted or moved away while this run wrote to it" in said
    assert "resume with: emoray run" in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


@ON_NODES
def test_a_folder_that_not_every_node_sees_is_said_before_anything_is_asked(
    start: Start, nodes: Nodes, tmp_path: Path
) -> None:
    alone = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {tmp_path} && exec "$@"', "sh"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("this user may mount nothing")
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC.format(repetitions=1, latency_s=0.0))
    nodes.add(before=tuple(alone))  # blind for this test's folder only, so it may stay
    nodes.wait()
    run = start(
        [*EMORAY, "run", str(spec), "--out", str(tmp_path / "run"), "--address", nodes.address], **nodes.environment
    )
    _, said = run.communicate()

    assert run.returncode == 2
    assert "does not see" in said
    assert "choose a run folder that all nodes share (NFS, s3://…)" in said
    assert not (tmp_path / "run" / "run.json").exists()
