"""How a run comes to a cluster, or is told why it cannot."""

from __future__ import annotations

import errno
import os
import resource
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest
import ray

from emoray.errors import UserError
from emoray.stream import entrance
from tests.programs import deaf, free_port

pytestmark = pytest.mark.cluster


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "_PATIENCE_S", 0.0)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """With who never says a word; all others are given the time that they need."""
    monkeypatch.setattr(entrance, "_WORD_S", 1.0)


def refused(where: str) -> str:
    with pytest.raises(UserError) as caught:
        entrance._bootstrap(where, f"--address {where}")
    said = str(caught.value)
    assert said.startswith(f"--address {where}")
    assert said.splitlines() == [said]
    return said


@pytest.mark.parametrize("where", ["ray://10.0.0.1:10001", "http://10.0.0.1:8265", "anyscale://here"])
def test_a_url_is_no_address_of_a_cluster(where: str) -> None:
    assert "is a URL; a run joins the cluster on one of its machines, at HOST:PORT of its head" in refused(where)


@pytest.mark.parametrize(
    "where", ["head", "head:", ":6379", "head:6379:1", "head:ray", "head:0", "head:99999", "1.2.3.4:-1", "a b:6379",
              "::1:6379", "user@head:6379", " 10.0.0.1:6379", "head:٦٣٧٩"]
)  # fmt: skip
def test_what_is_no_host_and_port_is_said_to_be_none(where: str) -> None:
    assert "is no address of a cluster; give HOST:PORT of its head, such as 10.0.0.1:6379" in refused(where)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_where_nobody_listens_it_is_said(host: str) -> None:
    port = free_port()
    said = refused(f"{host}:{port}")
    assert "no Ray cluster answers there (" in said
    assert f"is its head up (`ray start --head --port={port}`)" in said


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 70 + ".invalid"])
def test_a_name_that_no_machine_has_is_said(host: str) -> None:
    assert f"no machine has the name {host} here" in refused(f"{host}:6379")


@contextmanager
def listening(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """Somebody on a port, who answers whoever connects."""
    with socket.create_server(("0.0.0.0", 0)) as server:

        def serve() -> None:
            there, _ = server.accept()
            with there:
                answer(there)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def silent(there: socket.socket) -> None:
    while there.recv(100):
        pass


@pytest.mark.parametrize(
    "answer",
    [silent, socket.socket.close, lambda there: there.sendall(b"-ERR unknown command 'PRI'\r\n")],
    ids=["says nothing", "hangs up", "is Redis"],
)
def test_what_listens_and_is_no_ray_is_said_to_be_none(answer: Callable[[socket.socket], object], short: None) -> None:
    with listening(answer) as where:
        assert "what listens there is no Ray head; give the port that `ray start --head` told" in refused(where)


def test_a_web_server_is_no_ray_head() -> None:
    with HTTPServer(("0.0.0.0", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert "what listens there is no Ray head" in refused(f"127.0.0.1:{server.server_port}")


def test_a_head_that_listens_is_found_by_its_address(two_cpus: str) -> None:
    assert entrance._bootstrap(two_cpus, "") == two_cpus


# ── secrets ──


@pytest.fixture
def grpc_server() -> Iterator[str]:
    """A gRPC server that answers every call, but for one that brings no token where `token` is set."""
    server = grpc.server(ThreadPoolExecutor(1), handlers=[_Anything()], options=[("grpc.so_reuseport", 0)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


class _Anything(grpc.GenericRpcHandler):  # type: ignore[misc]
    wants_token = False

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        assert details.method == entrance._ASKS_NOTHING
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        if self.wants_token:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
        return b"\x0a\x00"


def test_a_head_that_answers_without_a_token_is_found_out(grpc_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert entrance.asks_no_token(grpc_server)
    monkeypatch.setattr(_Anything, "wants_token", True)
    assert not entrance.asks_no_token(grpc_server)


def test_a_cluster_with_a_token_answers_nobody_without_one(two_cpus: str) -> None:
    assert not entrance.asks_no_token(two_cpus)


@pytest.mark.parametrize("answer", [silent, socket.socket.close, lambda there: there.sendall(b"-ERR unknown\r\n")])
def test_of_who_says_nothing_that_can_be_read_nothing_is_said(
    answer: Callable[[socket.socket], object], short: None
) -> None:
    with listening(answer) as where:
        assert not entrance.asks_no_token(where)
    with deaf() as port:
        assert not entrance.asks_no_token(f"127.0.0.1:{port}")


def test_a_token_that_others_may_read_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    entrance.mend_token()  # there is none
    token = tmp_path / ".ray/auth_token"
    token.parent.mkdir()
    token.parent.chmod(0o755)
    token.write_text("secret")
    token.chmod(0o644)
    entrance.mend_token()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (token.parent, token)] == [0o700, 0o600]
    assert token.read_text() == "secret"


def test_what_ray_writes_when_it_starts_is_private_and_what_comes_after_is_as_before(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with entrance._private():
            (tmp_path / "inside").touch()
        (tmp_path / "after").touch()
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("inside", "after")] == [0o600, 0o644]


def test_every_node_of_a_cluster_imports_what_the_driver_does(two_cpus: str) -> None:
    entrance.check_nodes()


def test_a_node_with_another_version_is_named_with_what_it_imports(
    two_cpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrance, "__version__", "9.9")
    with pytest.raises(UserError, match=r"node \S+ \([\d.]+\) imports emoray [\d.]+ from .*/emoray/__init__.py, and "
                                        r"this run is emoray 9\.9: install the same one there"):  # fmt: skip
        entrance.check_nodes()


@pytest.mark.parametrize(
    "said",
    [
        "RpcError: RPC error: Method not found! rpc_code: 12",
        "RpcError: RPC error: Received http2 header with status: 404",
    ],
)
def test_what_speaks_http_2_and_is_no_head_is_said_to_be_none(said: str) -> None:
    assert entrance._not_joined(RuntimeError(said)).startswith("what answers there is no head of Ray's")


def test_a_home_that_cannot_be_written_is_told_as_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/proc/nobody")
    told = entrance._not_started(OSError(errno.EROFS, "Read-only file system", "/proc/nobody/.ray"))
    assert told.endswith("; it keeps its token there: HOME must name a folder that can be written")


def test_a_folder_that_cannot_be_written_is_told_with_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/mnt/fixed")
    told = entrance._not_started(OSError(errno.EROFS, "Read-only file system", "/mnt/fixed/ray"))
    assert told.endswith("; its own files lie in /mnt/fixed/ray: RAY_TMPDIR says in which folder")


def test_too_few_open_files_are_told_and_not_taken_for_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    late = RuntimeError("Timed out waiting for file gcs_server_port")
    monkeypatch.setattr(entrance, "_MANY_FILES", 1 << 40)
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert entrance._not_started(late).startswith(f"it may have {soft} files open at once, and needs some thousands: ")
    monkeypatch.setattr(entrance, "_MANY_FILES", 0)
    assert "the machine may be busy" in entrance._not_started(late)


def test_a_disk_without_room_for_rays_own_files_is_told_before_it_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    entrance._check_room(1)
    with pytest.raises(UserError, match=rf"files lie in {tmp_path}, whose disk has \d+ MB free of the \d+ that"):
        entrance._check_room(1 << 60)


@pytest.mark.parametrize("setting", ["RAY_TMPDIR", "TMPDIR"])
def test_the_setting_that_is_to_be_changed_is_the_one_that_counts(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    monkeypatch.setenv(setting, "/no/such")
    assert entrance._not_started(NotADirectoryError("nothing there")).endswith(
        f"its own files lie in /no/such/ray: {setting} says in which folder"
    )
    assert entrance._not_started(OSError("AF_UNIX path length")).endswith(f"; set {setting}=/tmp")


def test_a_ray_that_did_not_come_up_in_time_is_started_once_more_and_no_other_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late, other = "The current node timed out during startup. This could happen because …", "no disk"
    for failures, started in (([late], True), ([late, late], False), ([other], False)):
        waiting = iter(failures)

        def init(waiting: Iterator[str] = waiting, **_: object) -> str:
            for why in waiting:
                raise RuntimeError(why)
            return "started"

        monkeypatch.setattr(ray, "init", init)
        monkeypatch.setattr(ray, "shutdown", lambda: None)
        if started:
            assert entrance._came_up({}) == "started"
        else:
            with pytest.raises(RuntimeError, match=failures[-1].split()[0]):
                entrance._came_up({})
        assert next(waiting, None) is None
