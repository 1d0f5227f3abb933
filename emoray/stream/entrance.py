"""How a run comes to a Ray cluster: it starts one here, or joins one at its address.

Ray itself waits for minutes where nobody listens, and ends in tracebacks. So an address is looked at first, and what
goes wrong is one sentence, before anything is written.
"""

from __future__ import annotations

import logging
import os
import re
import resource
import shutil
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray._private import services
from ray.exceptions import AuthenticationError, RayError, RayTaskError
from ray.job_config import JobConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from emoray import __version__
from emoray.errors import UserError
from emoray.exit_codes import WRONG
from emoray.home import PATH
from emoray.stream import left_behind
from emoray.stream.cause import sentence

LOCAL = "local"
_log = logging.getLogger(__name__)
_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:/@\[\]]+)):(?P<port>[0-9]{1,5})")
_PATIENCE_S = 6.0  # a head that was started a moment ago may not listen yet
_AGAIN_S = 0.5
_TRY_S = 3.0  # until a connection stands
_WORD_S = 20.0  # until a busy head says its first word
_STUCK_S = 300.0  # Ray has limits of its own, most of them of half a minute; beyond this it never ends
_LOOK_S = 300.0  # until a node has a process that can say what it imports
# HTTP/2: what a client begins with, and a frame of settings without any; a gRPC server answers with its own settings
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS = 1, 4
_ASKS_NOTHING = "/ray.rpc.NodeInfoGcsService/CheckAlive"  # what any head answers whom it trusts
_PRIVATE = 0o077  # what others may not
_UNIX_PATH = 107  # bytes that the path of a socket may have (Linux)
_MANY_FILES = 512  # open at once: fewer, and its processes end before they can say why
_LATE = "timed out during startup"  # as Ray says it of a node
_ROOM = 64 << 20  # bytes for its sockets and logs: without, its workers end without a word


def enter(address: str | None, **options: Any) -> None:
    """Joins the cluster at an address (or in RAY_ADDRESS), or starts one; `options` are those of `ray.init`.

    UserError where that cannot be, or where a node imports another emoray than this process.
    """
    named = "--address " if address else "RAY_ADDRESS="
    where = address or os.environ.get("RAY_ADDRESS") or LOCAL
    at = None if where == LOCAL else _bootstrap(where, f"{named}{where}")
    mend_token()
    with _not_for_ever("Ray was not there" if at is None else f"the cluster at {at} did not let this run in"):
        if at is None:
            with _private():
                _start(options)
        else:
            _join(at, options)
            check_nodes()
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled" if at is None else asks_no_token(at):
        _log.warning(_OPEN, "the Ray that this run starts" if at is None else f"the cluster at {at}")


_OPEN = (
    "warning: %s answers without a token: whoever reaches its ports can run code on its nodes and read their keys; "
    "start all of them with RAY_AUTH_MODE=token and one token (`ray get-auth-token --generate` makes it), as "
    "cluster/README.md shows"
)


class _Ours(JobConfig):  # type: ignore[misc]
    """Ray has workers import from the folder that a program was started in before any other: what lies there may be
    called as we are, or as a library. A job's own folder they know by themselves.
    """

    def _serialize(self) -> str:
        self._py_driver_sys_path = [] if self._runtime_env_has_working_dir() else list(PATH)
        self._cached_pb = None
        serialized: str = super()._serialize()
        return serialized


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _private() -> Iterator[None]:
    """What Ray writes when it starts is nobody else's: its token, its logs, its sockets."""
    before = os.umask(_PRIVATE)
    try:
        yield
    finally:
        os.umask(before)


def mend_token() -> None:
    """Takes the rights of others from the token that Ray once wrote by the umask of whoever was there."""
    with suppress(RuntimeError):  # nobody's home
        for path in (Path.home() / ".ray", Path.home() / ".ray/auth_token"):
            with suppress(OSError):  # not there, or somebody else's
                rights = stat.S_IMODE(path.stat().st_mode)
                if rights & _PRIVATE:
                    path.chmod(rights & ~_PRIVATE)


def asks_no_token(at: str) -> bool:
    """Whether the head there answers who brings no token; False also where it says nothing that can be read.

    A call that it refuses is over with its first headers; one that it answers brings data.
    """
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return False
    with suppress(OSError, EOFError), socket.create_connection(host_and_port(at), _TRY_S) as there:
        there.settimeout(_WORD_S)
        there.sendall(_HELLO + _call(at))
        for kind, flags, stream in _frames(there):
            if stream and (kind == _DATA or flags & _END_STREAM):
                return kind == _DATA
    return False


def _call(at: str) -> bytes:
    """A gRPC call with an empty message, in two frames of stream 1. HPACK: each header as it is, none remembered."""
    named = {4: _ASKS_NOTHING, 1: at, 31: "application/grpc"}  # by their places in HPACK's table: path, authority, type
    headers = bytes((0x83, 0x86))  # POST, http
    headers += b"".join(_place(place) + _text(value) for place, value in named.items())
    headers += b"\0" + _text("te") + _text("trailers")
    return _frame(_HEADERS, _END_HEADERS, headers) + _frame(_DATA, _END_STREAM, bytes(5))


def _place(place: int) -> bytes:
    return bytes((place,)) if place < 15 else bytes((15, place - 15))


def _text(text: str) -> bytes:
    data = text.encode()
    return bytes((len(data),)) + data if len(data) < 127 else bytes((127, len(data) - 127)) + data


def _frame(kind: int, flags: int, payload: bytes) -> bytes:
    return struct.pack(">BHBBL", 0, len(payload), kind, flags, 1) + payload


def _frames(there: socket.socket) -> Iterator[tuple[int, int, int]]:
    """(kind, flags, stream) of each frame that comes; EOFError where no more does."""
    while True:
        high, low, kind, flags, stream = struct.unpack(">BHBBL", _whole(there, 9))
        _whole(there, high << 16 | low)
        yield kind, flags, stream


def _whole(there: socket.socket, size: int) -> bytes:
    found = there.recv(size, socket.MSG_WAITALL) if size else b""
    if len(found) < size:
        raise EOFError
    return found


# ── starting ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _start(options: Mapping[str, Any]) -> None:
    _check_room()
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # for what its workers start: those stand where we do
    try:
        started = _came_up(options)
    except Exception as wrong:  # of many types, and some of none
        _log.info("Ray did not start", exc_info=True)
        raise UserError(f"Ray cannot be started on this machine: {_not_started(wrong)}") from None
    _kept_open.append(left_behind.watch(started.address_info["session_dir"]))


def _came_up(options: Mapping[str, Any]) -> Any:
    """Of two tries: its raylet gives its agent fifteen seconds to name a port, and dies on a machine that is busy."""
    begin = partial(ray.init, address=LOCAL, include_dashboard=False, job_config=_Ours(), **options)
    try:
        return begin()
    except Exception as wrong:
        if _LATE not in str(wrong):
            raise
        _log.info("Ray did not come up in time, and is started once more", exc_info=True)
    ray.shutdown()
    return begin()


_kept_open: list[Any] = []  # as long as this process lives


def _own_folder() -> tuple[str, str]:
    """In which folder Ray makes the one for its files, and the setting that says so."""
    setting = "RAY_TMPDIR" if os.environ.get("RAY_TMPDIR") else "TMPDIR"
    return os.environ.get(setting) or "/tmp", setting


def _check_room(least: int = _ROOM) -> None:
    """UserError where Ray's own files would fill a disk."""
    folder, setting = _own_folder()
    place = next((path for path in (Path(folder, "ray"), Path(folder)) if path.is_dir()), None)
    if place is None or (disk := shutil.disk_usage(place)).total == 0 or disk.free >= least:
        return
    raise UserError(
        f"Ray cannot be started on this machine: its own files lie in {place}, whose disk has "
        f"{disk.free >> 20} MB free of the {least >> 20} that they need; make room, or name another folder in {setting}"
    )


def _not_started(wrong: Exception) -> str:
    said, (folder, setting) = sentence(wrong), _own_folder()
    logs = f"what it says is in {folder}/ray/session_latest/logs"
    if taken := re.search(r"The specified port is (\d+)", said):
        return f"port {taken[1]} is taken, and RAY_GCS_SERVER_PORT asks for it"
    if "AF_UNIX" in said:
        return f"{folder} is too long for its sockets, whose paths may have {_UNIX_PATH} bytes; set {setting}=/tmp"
    if "/dev/shm" in said:
        return (
            f"/dev/shm, which its processes share, is missing or too small ({said}); docker run --shm-size=4g makes one"
        )
    if "object store" in said:
        return f"too little memory is free here ({said})"
    if (few := _few_files()) and ("timed out" in said.lower() or "open files" in said):
        return f"it may have {few} files open at once, and needs some thousands: ulimit -n 65536 ({said})"
    if "timed out" in said.lower():
        return f"it did not come up in time ({said}); the machine may be busy: start again when it is not; {logs}"
    if isinstance(wrong, OSError) and _is_at_home(wrong):
        return f"{said}; it keeps its token there: HOME must name a folder that can be written"
    if isinstance(wrong, PermissionError | FileNotFoundError | NotADirectoryError) or getattr(wrong, "filename", None):
        return f"{said}; its own files lie in {folder}/ray: {setting} says in which folder"
    return f"{said}; {logs}, and -v shows more"


def _few_files() -> int | None:
    """How many files a process may have open, where it is less than Ray needs."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return most if 0 <= most < _MANY_FILES else None


def _is_at_home(wrong: OSError) -> bool:
    home = os.environ.get("HOME")
    return bool(home) and str(wrong.filename or "").startswith(str(home))


# ── joining ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _bootstrap(where: str, named: str) -> str | None:
    """HOST:PORT of a head that listens; None where RAY_ADDRESS says that one is to be started."""
    if "://" in where:
        raise UserError(
            f"{named} is a URL; a run joins the cluster on one of its machines, at HOST:PORT of its head (such as "
            "10.0.0.1:6379), or is submitted from elsewhere with jobs/submit.py"
        )
    if where != "auto" and not ((found := _ADDRESS.fullmatch(where)) and 0 < int(found["port"]) < 1 << 16):
        raise UserError(f"{named} is no address of a cluster; give HOST:PORT of its head, such as 10.0.0.1:6379")
    try:
        at: str | None = services.canonicalize_bootstrap_address(where)
    except (ConnectionError, ValueError):
        raise UserError(
            f"{named}: no Ray cluster runs on this machine; start one with `ray start --head`, or leave the address out"
        ) from None
    if at is not None:
        _listens(at, named)
    return at


def _listens(at: str, named: str) -> None:
    """UserError where nobody listens, or somebody who is not Ray."""
    host, port = host_and_port(at)
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with socket.create_connection((host, port), _TRY_S) as there:
                return _speaks(there, named)
        except (socket.gaierror, UnicodeError) as wrong:
            raise UserError(f"{named}: no machine has the name {host} here ({wrong})") from None
        except OSError as wrong:
            if time.monotonic() >= deadline:
                raise UserError(
                    f"{named}: no Ray cluster answers there ({wrong.strerror or wrong}); is its head up (`ray start "
                    f"--head --port={port}`), and is this the address that it told?"
                ) from None
        time.sleep(_AGAIN_S)


def host_and_port(at: str) -> tuple[str, int]:
    """Of an address HOST:PORT."""
    found = _ADDRESS.fullmatch(at)
    assert found is not None
    return found["six"] or found["host"], int(found["port"])


def _speaks(there: socket.socket, named: str) -> None:
    """UserError where what listens does not begin as Ray's servers do."""
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return
    there.settimeout(_WORD_S)
    try:
        there.sendall(_HELLO)
        first = there.recv(9, socket.MSG_WAITALL)
    except OSError:
        first = b""
    if len(first) < 9 or first[3] != _SETTINGS:
        raise UserError(
            f"{named}: what listens there is no Ray head; give the port that `ray start --head` told (6379), not that "
            "of a dashboard or of another program"
        )


def _join(at: str, options: Mapping[str, Any]) -> None:
    _wait_for_node(at)
    try:
        ray.init(address=at, job_config=_Ours(), **options)
    except Exception as wrong:  # of many types, and some of none
        _log.info("the cluster was not joined", exc_info=True)
        raise UserError(f"the cluster at {at} cannot be joined: {_not_joined(wrong)}") from None


def _wait_for_node(at: str) -> None:
    """UserError where this machine is none of the cluster's: a driver needs a node beside it."""
    deadline = time.monotonic() + _PATIENCE_S
    while not services.find_node_ids():
        if time.monotonic() >= deadline:
            raise UserError(
                f"the cluster at {at} has no node on this machine, and a run needs one beside it: start it on a node, "
                f"make this machine one (`ray start --address={at}`), or submit the run with jobs/submit.py"
            )
        time.sleep(_AGAIN_S)


def _not_joined(wrong: Exception) -> str:
    said = sentence(wrong)
    if "AuthenticationError" in said or isinstance(wrong, AuthenticationError):  # Ray wraps it
        told = said.rpartition("AuthenticationError: ")[2].partition(". ")[0].rstrip(".")
        return f"it wants its token ({told}); export it as RAY_AUTH_TOKEN, and RAY_AUTH_MODE=token"
    if "Method not found" in said or "Received http2 header" in said:
        return (
            "what answers there is no head of Ray's (its client port, 10001, is none, nor is a proxy); give the head's "
            "own port, 6379"
        )
    if "No node info found" in said:
        return "no node of it runs on this machine; start the run on one of its nodes, or use jobs/submit.py"
    if "ersion mismatch" in said:
        versions = ", ".join(line.strip() for line in str(wrong).splitlines()[1:] if line.strip())
        return f"Ray and Python must be the same on both sides: {versions or said}"
    return said


def check_nodes() -> None:
    """UserError where a node imports another emoray than this process, or none."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    look = ray.remote(_look())
    looks = {
        look.options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(): f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        for node in nodes
    }
    there, late = ray.wait(list(looks), num_returns=len(looks), timeout=_LOOK_S)
    for one in late:
        raise UserError(f"node {looks[one]} did not start a process within {_LOOK_S / 60:g} minutes; it may be busy")
    for one in there:
        if found := _found(one):
            raise UserError(
                f"node {looks[one]} imports {found}, and this run is emoray {__version__}: install the same one there"
            )


def _look() -> Callable[[], tuple[str, str]]:
    """A function that travels whole: where there is no emoray, none of ours could be found by its name."""

    def look() -> tuple[str, str]:
        try:
            import emoray.stream.generate
        except Exception as wrong:
            return "", f"no emoray that works ({type(wrong).__name__}: {wrong})"
        return emoray.__version__, f"emoray {emoray.__version__} from {emoray.__file__}"

    return look


def _found(look: Any) -> str | None:
    """What a node imports, where that is not the same as here; None also where the node has gone."""
    try:
        version, words = ray.get(look)
    except RayTaskError as wrong:
        return f"no emoray that works ({sentence(wrong)})"
    except RayError:
        return None
    return None if version == __version__ else words


@contextmanager
def _not_for_ever(what: str) -> Iterator[None]:
    """Ends the process with a sentence where Ray neither comes up nor gives up; nothing has been written by then."""
    over = threading.Event()
    threading.Thread(target=_end_unless, args=(over, what), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _end_unless(over: threading.Event, what: str) -> None:
    if not over.wait(_STUCK_S + _LOOK_S):
        print(f"emoray: {what} after {(_STUCK_S + _LOOK_S) / 60:g} minutes; see Ray's logs", file=sys.stderr)
        os._exit(WRONG)
