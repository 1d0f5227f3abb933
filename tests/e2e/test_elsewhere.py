"""A run from a folder in which things are called as we are, or as what we need; and from where Ray cannot start.

test_quickstart starts a Ray in such a folder.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from emoray.exit_codes import OK, WRONG
from emoray.run_folder.folder import RunFolder
from tests.e2e.conftest import installed, shadows
from tests.programs import ROOT, deaf

pytestmark = pytest.mark.cluster
HIDE = """
for device in null zero random urandom
do touch "$0/$device"; mount --bind "/dev/$device" "$0/$device"
done
mount --rbind "$0" /dev && exec "$@"
"""
Spec = Callable[..., Path]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    return shadows(tmp_path / "elsewhere")


@pytest.fixture
def emoray(tmp_path: Path) -> list[str]:
    return installed(tmp_path / "bin")


def ended(command: list[str], spec: Path, cwd: Path, *more: str, **env: str | None) -> subprocess.CompletedProcess[str]:
    """A run into the folder `run` beside the spec."""
    environment = {name: value for name, value in (os.environ | env).items() if value is not None}
    whole = [*command, "run", str(spec), "--out", str(spec.with_name("run")), *more]
    return subprocess.run(whole, capture_output=True, text=True, cwd=cwd, env=environment)


def refused(done: subprocess.CompletedProcess[str], spec: Path) -> list[str]:
    """What a run said that ended with exit code 2: what it waited for, and one sentence; nothing is written."""
    assert done.returncode == WRONG, done.stderr
    assert done.stdout == ""
    assert not spec.with_name("run").exists()
    waited, said = done.stderr.splitlines()
    assert said.startswith("emoray: ")
    return [waited, said.removeprefix("emoray: ")]


def settled(spec: Path) -> int:
    return RunFolder(str(spec.with_name("run"))).rows("r", "a").counts().answered


def test_the_module_runs_among_files_that_are_called_as_what_we_need_and_joins_a_cluster(
    elsewhere: Path, spec: Spec, two_cpus: str
) -> None:
    path = spec()
    done = ended([sys.executable, "-m", "emoray"], path, elsewhere, PYTHONPATH=str(ROOT), RAY_ADDRESS=two_cpus)

    assert done.returncode == OK, done.stderr
    assert settled(path) == 6
    assert done.stderr.splitlines()[0] == f"joining the cluster at {two_cpus} …"


def test_a_cluster_whose_nodes_import_another_emoray_is_not_written_with(
    tmp_path: Path, spec: Spec, two_cpus: str
) -> None:
    """An installed one of another version, such as on a laptop that was not upgraded."""
    installed = tmp_path / "site-packages" / "emoray"
    installed.mkdir(parents=True)
    for part in (ROOT / "emoray").iterdir():
        (installed / part.name).symlink_to(part)
    (installed / "__init__.py").unlink()
    (installed / "__init__.py").write_text('__version__ = "0.0.9"\n')
    path = spec()
    done = ended(
        [sys.executable, "-m", "emoray"], path, tmp_path, PYTHONPATH=str(installed.parent), RAY_ADDRESS=two_cpus
    )

    _, said = refused(done, path)
    assert "and this run is emoray 0.0.9: install the same one there" in said


def test_a_run_from_a_folder_that_was_deleted_is_refused(emoray: list[str], tmp_path: Path, spec: Spec) -> None:
    gone, path = tmp_path / "gone", spec()
    gone.mkdir()
    leave = ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh"]
    done = ended([*leave, *emoray], path, gone)

    assert done.returncode == WRONG, done.stderr
    assert done.stderr.startswith(
        "emoray: the folder that this was started in cannot be reached any more (No such file"
    )
    assert len(done.stderr.splitlines()) == 1
    assert not path.with_name("run").exists()


@pytest.mark.parametrize("by", ["--address", "RAY_ADDRESS"])
def test_a_cluster_that_nobody_listens_for_is_one_sentence_and_nothing_is_written(
    by: str, emoray: list[str], tmp_path: Path, spec: Spec
) -> None:
    path = spec()
    with deaf() as port:
        where = f"127.0.0.1:{port}"
        more = ["--address", where] if by == "--address" else []
        done = ended(emoray, path, tmp_path, *more, RAY_ADDRESS=None if more else where)

    waited, said = refused(done, path)
    assert waited == f"joining the cluster at {where} …"
    assert said.startswith(f"--address {where}: " if more else f"RAY_ADDRESS={where}: ")
    assert "no Ray cluster answers there (Connection refused)" in said


def test_a_folder_for_temporary_files_that_is_too_long_for_rays_sockets_is_said(
    emoray: list[str], tmp_path: Path, spec: Spec
) -> None:
    long, path = tmp_path / ("x" * 100), spec()
    long.mkdir()
    done = ended(emoray, path, tmp_path, TMPDIR=str(long))

    waited, said = refused(done, path)
    assert waited == "starting Ray …"
    assert said == (
        f"Ray cannot be started on this machine: {long} is too long for its sockets, whose paths may have 107 bytes; "
        "set TMPDIR=/tmp"
    )


def test_a_port_that_is_taken_is_said(emoray: list[str], tmp_path: Path, spec: Spec) -> None:
    path = spec()
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        patience = dict.fromkeys(["RAY_gcs_server_port_wait_time_s", "RAY_py_gcs_connect_timeout_s"], "1")  # in vain
        done = ended(emoray, path, tmp_path, RAY_GCS_SERVER_PORT=str(port), **patience)

    _, said = refused(done, path)
    assert said == (f"Ray cannot be started on this machine: port {port} is taken, and RAY_GCS_SERVER_PORT asks for it")


def test_a_machine_that_is_too_slow_for_ray_is_said(emoray: list[str], tmp_path: Path, spec: Spec) -> None:
    path = spec()
    done = ended(emoray, path, tmp_path, RAY_gcs_server_port_wait_time_s="0")

    _, said = refused(done, path)
    assert said.startswith("Ray cannot be started on this machine: it did not come up in time (")
    assert "start again when it is not; what it says is in " in said


def test_a_machine_without_shared_memory_is_said(emoray: list[str], tmp_path: Path, spec: Spec) -> None:
    (devices := tmp_path / "dev").mkdir()
    hidden = ["unshare", "--mount", "sh", "-c", HIDE, str(devices)]
    if subprocess.run([*hidden, "test", "!", "-e", "/dev/shm"], capture_output=True).returncode:
        pytest.skip("this machine does not let us hide its shared memory")
    path = spec()
    done = ended([*hidden, *emoray], path, tmp_path)

    waited, said = refused(done, path)
    assert waited == "starting Ray …"
    assert said.startswith("Ray cannot be started on this machine: /dev/shm, which its processes share, is missing")
