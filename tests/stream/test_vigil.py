"""Whether the Ray under a run lives, without one: what is watched is any process, any socket."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from emoray.stream import left_behind, vigil
from emoray.stream.vigil import _listens, _patience_s, _Reached, _watch
from tests.programs import Start, deaf, free_port


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The codes with which this process would have ended."""
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        raise SystemExit

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(vigil, "_EVERY_S", 0.001)
    return codes


def watched(signs: Iterator[bool], code: int = 3) -> list[str]:
    told: list[str] = []
    with pytest.raises(SystemExit):
        _watch(threading.Event(), {"well": lambda: True, "it is dead": lambda: next(signs)}, told.append, code)
    return told


def test_what_has_died_is_told_before_the_process_ends(ended: list[int]) -> None:
    assert watched(iter([True, True, False])) == ["it is dead"]
    assert ended == [3]


def test_a_telling_that_never_comes_back_does_not_hold_the_end_up(
    ended: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vigil, "_TOLD_S", 0.0)
    never = threading.Event()
    with pytest.raises(SystemExit):
        _watch(threading.Event(), {"it is dead": lambda: False}, lambda _: never.wait(), 3)
    never.set()
    assert ended == [3]


def test_when_the_run_is_over_nobody_is_watched_any_more(ended: list[int]) -> None:
    over = threading.Event()
    over.set()
    _watch(over, {"it is dead": lambda: False}, lambda _: None, 3)
    assert ended == []


def test_who_listens_at_a_socket_is_known_and_nobody_where_nobody_does(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "raylet"))
        server.listen()
        assert _listens(str(tmp_path / "raylet")) == os.getpid()
    assert _listens(str(tmp_path / "raylet")) is None
    assert _listens(str(tmp_path / "nobody")) is None


class Clock:
    now = 0.0

    def at(self, seconds: float) -> Clock:
        self.now = seconds
        return self

    def __call__(self) -> float:
        return self.now


def test_a_head_may_be_away_for_a_while_and_not_for_longer() -> None:
    clock = Clock()
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        reached = _Reached("127.0.0.1", port, 60.0, clock)
        assert [reached() for _ in map(clock.at, (0.0, 10.0, 100.0))] == [True] * 3
    assert [reached() for _ in map(clock.at, (101.0, 140.0, 144.9, 145.1))] == [True, True, True, False]
    with socket.create_server(("127.0.0.1", port)):
        clock.at(151.0)
        assert reached()  # it is back


def test_a_head_that_never_answered_is_given_as_long() -> None:
    clock = Clock()
    with deaf() as port:
        reached = _Reached("127.0.0.1", port, 60.0, clock)
        assert [reached() for _ in map(clock.at, (0.0, 44.0, 46.0))] == [True, True, False]


@pytest.mark.parametrize(("patience_s", "bears_s"), [(600.0, 585.0), (20.0, 15.0), (4.0, 3.0)])
def test_a_head_is_given_as_long_as_its_cluster_gives_it(patience_s: float, bears_s: float) -> None:
    clock = Clock()
    with deaf() as port:
        reached = _Reached("127.0.0.1", port, patience_s, clock)
        assert [reached() for _ in map(clock.at, (0.0, bears_s - 0.5, bears_s + 0.1))] == [True, True, False]


def test_the_patience_of_a_cluster_is_what_it_was_started_with_or_the_least_of_those_it_ends_with(
    monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    config = dict[str, int]()
    monkeypatch.setattr(ray._private.state.state, "get_system_config", lambda: config)
    monkeypatch.delenv("RAY_gcs_rpc_server_reconnect_timeout_s", raising=False)
    assert _patience_s(None) == 60.0
    silent = start(["sleep", "1000"])
    other = start(["sleep", "1000"], RAY_gcs_rpc_server_reconnect_timeout_s="20")
    assert _patience_s(other.pid) == 20.0
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "600")
    assert (_patience_s(None), _patience_s(other.pid), _patience_s(silent.pid)) == (600.0, 20.0, 60.0)
    config["gcs_rpc_server_reconnect_timeout_s"] = 120
    assert _patience_s(other.pid) == 120.0


def test_of_a_session_that_nobody_has_there_are_no_agents(tmp_path: Path) -> None:
    assert list(left_behind.agents(str(tmp_path))) == []
