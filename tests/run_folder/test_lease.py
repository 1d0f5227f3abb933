import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from emoray.run_folder import lease as leases
from emoray.run_folder.errors import StoreError
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.lease import Claim, Lease, LeaseHeld, at_work, holder
from emoray.run_folder.run_json import Attempt
from tests.programs import ROOT, until


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path / "run"))


def test_a_process_of_the_same_number_on_another_host_is_not_at_work_on_the_last_attempt(
    folder: RunFolder, clock: Clock
) -> None:
    leave(folder, elsewhere(clock))
    its = Attempt(began="2026-11-30T08:00:00+00:00", host="node-7", pid=4242)
    assert at_work(folder, its, clock.now) is not None
    assert at_work(folder, its.model_copy(update={"host": "node-8"}), clock.now) is None  # as containers have it
    assert at_work(folder, its.model_copy(update={"end": "done"}), clock.now) is None


def lease(folder: RunFolder, clock: Clock, pause: Callable[[float], object] = lambda _: None) -> Lease:
    return Lease(folder, ttl_s=120, clock=clock, pause=pause)


def leave(folder: RunFolder, claim: Claim) -> None:
    folder.write_text(f"_lease/{claim.token}.json", json.dumps(asdict(claim)))


def elsewhere(clock: Clock, *, token: str = "ffff", held: bool = True) -> Claim:
    here = Claim.here(since=clock.now, expires=clock.now + 120)
    return replace(here, token=token, host="node-7", pid=4242, place="node-7", held=held)


def sleeping(folder: RunFolder, clock: Clock, token: str = "ffff") -> Lease:
    """A lease that was taken on another machine."""
    sleeper = lease(folder, clock)
    sleeper._mine = replace(sleeper._mine, token=token, place="node-7")
    sleeper.take()
    return sleeper


class Flaky(RunFolder):
    """A run folder on a store that fails in the ways that are named in `broken`."""

    broken: frozenset[str] = frozenset()

    def infos(self, relative: str) -> list[object]:
        self._fail("list")
        return super().infos(relative)

    def write_text(self, relative: str, text: str) -> None:
        self._fail("write")
        super().write_text(relative, text)

    def delete(self, relative: str) -> None:
        self._fail("delete")
        super().delete(relative)

    def _fail(self, deed: str) -> None:
        if deed in self.broken:
            raise StoreError(f"cannot {deed} {self.uri}: 503 SlowDown")


@pytest.fixture
def flaky(folder: RunFolder) -> Iterator[Flaky]:
    yield Flaky(folder.uri)
    Flaky.broken = frozenset()


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose own time is not UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("tokyo")
def test_the_second_run_is_told_who_writes_since_when_and_until_when(folder: RunFolder, clock: Clock) -> None:
    lease(folder, clock).take()
    (claim,) = (info.base_name for info in folder.infos("_lease"))
    clock.now += 10
    with pytest.raises(StoreError) as told:
        lease(folder, clock).take()
    assert str(told.value) == (
        f"{folder.where('')} is being written by process {os.getpid()} on {socket.gethostname()} "
        "since 2023-11-14 22:13:20 UTC: wait for it or stop it "
        "(if it is dead, its lease expires at 2023-11-14 22:15:20 UTC; "
        f"if this is a copy of the folder that it writes to, delete {folder.where(f'_lease/{claim}')})"
    )


def test_a_run_that_ended_well_leaves_the_folder_to_the_next(folder: RunFolder, clock: Clock) -> None:
    for _ in range(3):
        with lease(folder, clock):
            assert holder(folder, clock.now) is not None
        assert holder(folder, clock.now) is None
    assert list((Path(folder.uri) / "_lease").iterdir()) == []


def test_the_loser_leaves_no_claim_behind(folder: RunFolder, clock: Clock) -> None:
    with lease(folder, clock):
        with pytest.raises(LeaseHeld, match=rf"is being written by process {os.getpid()} "):
            lease(folder, clock).take()
        assert len(list((Path(folder.uri) / "_lease").iterdir())) == 1


def test_a_lease_that_is_renewed_lives_on(folder: RunFolder, clock: Clock) -> None:
    mine = lease(folder, clock)
    mine.take()
    for _ in range(10):
        clock.now += 100
        mine.renew()
        with pytest.raises(LeaseHeld, match=rf"is being written by process {os.getpid()} "):
            lease(folder, clock).take()
    assert holder(folder, clock.now) == mine._mine


def test_a_lease_of_another_machine_is_free_when_it_expires_and_not_before(folder: RunFolder, clock: Clock) -> None:
    leave(folder, elsewhere(clock))
    clock.now += 119
    with pytest.raises(StoreError, match="process 4242 on node-7"):
        lease(folder, clock).take()
    clock.now += 1
    lease(folder, clock).take()


def test_a_run_that_died_on_this_machine_is_noticed_at_once(folder: RunFolder, clock: Clock) -> None:
    code = "from emoray.run_folder.lease import Lease; from emoray.run_folder.folder import RunFolder; import sys, os\n"
    code += "Lease(RunFolder(sys.argv[1]), settle_s=0).take(); os._exit(9)"
    dead = subprocess.run([sys.executable, "-c", code, folder.uri], env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert dead.returncode == 9
    assert len(list((Path(folder.uri) / "_lease").iterdir())) == 1
    lease(folder, clock).take()


def test_a_later_process_with_the_same_number_is_another_one(folder: RunFolder, clock: Clock) -> None:
    leave(folder, replace(elsewhere(clock), pid=os.getpid(), place=Claim.here(since=0, expires=0).place, born="0"))
    assert holder(folder, clock.now) is None
    mine = lease(folder, clock)
    mine.take()
    assert holder(folder, clock.now) == mine._mine


def test_who_slept_too_long_finds_the_lease_lost_and_must_stop(folder: RunFolder, clock: Clock) -> None:
    for token in ("0" * 16, "f" * 16):  # whoever has the smaller token
        sleeper, other = sleeping(folder, clock, token), lease(folder, clock)
        clock.now += 121
        other.take()
        with pytest.raises(StoreError, match="is being written by"):
            sleeper.renew()
        assert sleeper.lost.is_set()
        other.renew()
        other.release()


def test_who_slept_too_long_while_another_came_and_went_must_stop_too(folder: RunFolder, clock: Clock) -> None:
    sleeper = sleeping(folder, clock)
    clock.now += 121
    with lease(folder, clock):
        pass
    with pytest.raises(LeaseHeld) as told:
        sleeper.renew()
    assert str(told.value) == f"the lease on {folder.where('')} was lost: another run came and went meanwhile"


def test_who_slept_while_nobody_came_goes_on(folder: RunFolder, clock: Clock) -> None:
    sleeper = lease(folder, clock)
    sleeper.take()
    clock.now += 10_000
    sleeper.renew()
    assert not sleeper.lost.is_set()


def test_a_process_of_this_machine_that_runs_holds_its_lease_whatever_the_clock_says(
    folder: RunFolder, clock: Clock
) -> None:
    mine = lease(folder, clock)
    mine.take()
    for jump in (-100_000, 200_000):  # somebody sets the clock; a laptop sleeps
        clock.now += jump
        with pytest.raises(LeaseHeld, match=rf"is being written by process {os.getpid()} "):
            lease(folder, clock).take()
        assert holder(folder, clock.now) == mine._mine
    mine.renew()
    assert not mine.lost.is_set()


@pytest.mark.parametrize("jump", [-3600, -121])
def test_a_holder_elsewhere_whose_clock_jumped_back_keeps_its_lease_while_it_beats(
    folder: RunFolder, clock: Clock, jump: float
) -> None:
    late = replace(elsewhere(clock), expires=clock.now + 120 + jump)
    leave(folder, late)
    with pytest.raises(LeaseHeld, match="process 4242 on node-7"):
        lease(folder, clock, lambda seconds: leave(folder, replace(late, expires=late.expires + seconds))).take()
    assert list((Path(folder.uri) / "_lease").iterdir()) == [Path(folder.uri) / f"_lease/{late.token}.json"]


def test_a_holder_elsewhere_that_expired_is_watched_for_a_beat_and_a_half_before_it_counts_as_dead(
    folder: RunFolder, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    leave(folder, replace(elsewhere(clock), expires=clock.now - 1))
    waits: list[float] = []
    with caplog.at_level(logging.WARNING):
        lease(folder, clock, waits.append).take()
    assert waits[0] == 45
    assert "was written by process 4242 on node-7: waiting 45 s for a sign of it" in caplog.text


@pytest.mark.parametrize("deed", ["list", "write"])
def test_a_store_that_fails_for_a_moment_costs_nobody_the_lease(flaky: Flaky, clock: Clock, deed: str) -> None:
    mine = lease(flaky, clock)
    mine.take()
    Flaky.broken = frozenset({deed})
    for _ in range(3):
        clock.now += 30
        with pytest.raises(StoreError, match=rf"cannot {deed}"):
            mine.renew()
        assert not mine.lost.is_set()
    Flaky.broken = frozenset()
    mine.renew()
    assert holder(flaky, clock.now) == mine._mine


@pytest.mark.parametrize("deed", ["list", "write"])
def test_a_store_that_fails_until_the_lease_expires_costs_it(flaky: Flaky, clock: Clock, deed: str) -> None:
    mine = lease(flaky, clock)
    mine.take()
    Flaky.broken = frozenset({deed})
    for _ in range(4):
        assert not mine.lost.is_set()
        clock.now += 30
        with pytest.raises(StoreError, match=rf"cannot {deed}"):
            mine.renew()
    assert mine.lost.is_set()


def test_a_lease_that_cannot_be_handed_back_is_no_error_of_the_run(
    flaky: Flaky, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), lease(flaky, clock):
        Flaky.broken = frozenset({"delete"})
    assert "cannot delete" in caplog.text


def test_of_two_that_come_at_once_the_smaller_token_waits_for_the_other_to_withdraw(
    folder: RunFolder, clock: Clock
) -> None:
    other = elsewhere(clock, token="ffff", held=False)
    leave(folder, other)
    looks: list[float] = []

    def pause(seconds: float) -> None:
        looks.append(seconds)
        folder.delete(f"_lease/{other.token}.json")

    mine = lease(folder, clock, pause)
    mine._mine = replace(mine._mine, token="0000")
    mine.take()
    assert looks


def test_of_two_that_come_at_once_the_larger_token_withdraws(folder: RunFolder, clock: Clock) -> None:
    leave(folder, elsewhere(clock, token="0", held=False))
    with pytest.raises(LeaseHeld, match="process 4242 on node-7"):
        lease(folder, clock).take()
    assert [path.name for path in (Path(folder.uri) / "_lease").iterdir()] == ["0.json"]


def test_two_that_a_slow_store_let_in_together_end_as_one(folder: RunFolder, clock: Clock) -> None:
    late = elsewhere(clock, token="0", held=True)

    def pause(_: float) -> None:
        leave(folder, late)  # was written before, and shows only now

    with pytest.raises(StoreError, match="node-7"):
        lease(folder, clock, pause).take()


def test_of_many_that_come_at_once_exactly_one_writes(
    folder: RunFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_ROUNDS", 100_000)  # however long a busy machine lets the weaker ones wait
    for _ in range(10):
        contenders = [lease(folder, clock, lambda _: time.sleep(0.02)) for _ in range(4)]
        start, told = threading.Barrier(4), list[str]()

        def take(one: Lease, start: threading.Barrier = start, told: list[str] = told) -> None:
            start.wait()
            try:
                one.take()
            except StoreError as wrong:
                told.append(str(wrong))

        threads = [threading.Thread(target=take, args=(one,)) for one in contenders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ["is being written by process" in sentence for sentence in told] == [True] * 3, told
        for one in contenders:
            one.release()


def test_scraps_in_the_lease_folder_hold_nobody_up(
    folder: RunFolder, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    claim = json.dumps(asdict(elsewhere(clock)))
    folder.write_text("_lease/claim.txt", claim)
    folder.write_text("_lease/.half-written.json", claim)
    folder.write_text("_lease/note.txt", "hello")
    folder.write_text("_lease/broken.json", "{")
    folder.write_text("_lease/other.json", '{"owner": "me"}')
    with caplog.at_level(logging.WARNING):
        assert holder(folder, clock.now) is None
        assert leases._read(folder, "gone.json") is None  # between the listing and the look
    assert sorted(record.getMessage() for record in caplog.records) == [
        f"{folder.uri}/_lease/{name}.json is no lease of this emoray and does not count; delete it"
        for name in ("broken", "other")
    ]
    mine = lease(folder, clock)
    mine.take()
    assert holder(folder, clock.now) == mine._mine


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ({"expires": "tomorrow"}, "expires should be a valid number, and is 'tomorrow'"),
        ({"since": None}, "since should be a valid number, and is None"),
        ({"expires": 1e30}, "expires is 1e+30, and no time in seconds since 1970"),
        ({"expires": float("nan")}, "expires is nan"),
        ({"since": -1.0}, "since is -1"),
        ({"pid": "me"}, "pid should be a valid integer"),
        ({"pid": 10**12}, "pid is 1000000000000"),
        ({"host": ["a"]}, "host should be a valid string"),
        ({"held": "yes"}, "held should be a valid boolean"),
    ],
)
def test_an_odd_lease_is_named_with_what_to_delete_and_stops_nobody_who_has_one(
    odd: dict[str, object], why: str, folder: RunFolder, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    mine = lease(folder, clock)
    mine.take()
    folder.write_text("_lease/ffff.json", json.dumps(asdict(elsewhere(clock)) | odd))
    mine.renew()
    assert f"ffff.json is an odd lease ({why}" in caplog.text
    assert holder(folder, clock.now) == mine._mine
    mine.release()

    with pytest.raises(StoreError, match="if no run writes to this folder, delete it") as told:
        lease(folder, clock).take()
    assert str(told.value).startswith(f"{folder.uri}/_lease/ffff.json is an odd lease ({why}")
    assert [path.name for path in (Path(folder.uri) / "_lease").iterdir()] == ["ffff.json"]


def test_nobody_is_told_to_wait_until_2036(folder: RunFolder, clock: Clock) -> None:
    leave(folder, replace(elsewhere(clock), expires=clock.now + 12 * 365.25 * 86_400))
    with pytest.raises(LeaseHeld) as told:
        lease(folder, clock).take()
    assert f"if it is dead, delete {folder.uri}/_lease/ffff.json, which would expire at 2035-" in str(told.value)


def test_a_claim_that_names_another_file_is_a_scrap_and_has_nothing_deleted(folder: RunFolder, clock: Clock) -> None:
    folder.write_manifest({"name": "precious"})
    expired = replace(elsewhere(clock, token="../run"), expires=clock.now - 1000)
    folder.write_text("_lease/odd.json", json.dumps(asdict(expired)))
    with lease(folder, clock):
        assert folder.manifest() == {"name": "precious"}


def test_what_a_later_emoray_says_beside_a_claim_is_left_out(folder: RunFolder, clock: Clock) -> None:
    folder.write_text("_lease/ffff.json", json.dumps(asdict(elsewhere(clock)) | {"colour": "blue"}))
    assert holder(folder, clock.now) == elsewhere(clock)


def test_status_sees_the_holder_and_touches_nothing(folder: RunFolder, clock: Clock) -> None:
    assert holder(folder, clock.now) is None
    assert not folder.exists()
    leave(folder, elsewhere(clock))
    found = holder(folder, clock.now)
    assert found is not None
    assert (found.host, found.pid) == ("node-7", 4242)
    assert holder(folder, clock.now + 500) is None
    assert len(list((Path(folder.uri) / "_lease").iterdir())) == 1


class Written(RunFolder):
    """A run folder that remembers what was written into it."""

    texts: list[str]

    def write_text(self, relative: str, text: str) -> None:
        self.__dict__.setdefault("texts", []).append(text)
        super().write_text(relative, text)


def test_a_claim_is_made_before_it_is_held_and_each_beat_renews_it_for_its_whole_time(
    folder: RunFolder, clock: Clock
) -> None:
    written = Written(folder.uri)
    mine = lease(written, clock)
    clock.now += 5
    mine.take()
    clock.now += 30
    mine.renew()
    began = Clock().now
    assert [(one["held"], one["since"], one["expires"]) for one in map(json.loads, written.texts)] == [
        (False, began, began + 125),
        (True, began, began + 125),
        (True, began, began + 155),
    ]
    assert len({one["token"] for one in map(json.loads, written.texts)}) == 1


def test_who_takes_a_lease_looks_once_more_when_it_holds_it(folder: RunFolder, clock: Clock) -> None:
    looks: list[tuple[float, bool]] = []

    def pause(seconds: float) -> None:
        looks.append((seconds, holder(folder, clock.now) is not None))

    Lease(folder, settle_s=0.5, clock=clock, pause=pause).take()
    assert looks == [(0.5, True)]


def test_a_contender_that_neither_holds_nor_withdraws_is_believed_in_the_end(folder: RunFolder, clock: Clock) -> None:
    leave(folder, elsewhere(clock, token="ffff", held=False))
    looks: list[float] = []
    mine = lease(folder, clock, looks.append)
    mine._mine = replace(mine._mine, token="0000")
    with pytest.raises(LeaseHeld, match="process 4242 on node-7"):
        mine.take()
    assert looks == [0.2] * 40
    assert [path.name for path in (Path(folder.uri) / "_lease").iterdir()] == ["ffff.json"]


def test_of_several_that_stand_in_the_way_the_one_that_holds_is_named(folder: RunFolder, clock: Clock) -> None:
    leave(folder, replace(elsewhere(clock, token="0", held=False), host="node-8"))
    leave(folder, elsewhere(clock, token="1"))
    with pytest.raises(LeaseHeld, match="process 4242 on node-7"):
        lease(folder, clock).take()


def test_of_two_that_hold_because_a_store_was_slow_the_smaller_token_stays(folder: RunFolder, clock: Clock) -> None:
    late = elsewhere(clock, token="ffff", held=True)
    mine = lease(folder, clock, lambda _: leave(folder, late))
    mine._mine = replace(mine._mine, token="0000")
    mine.take()
    mine.renew()
    assert not mine.lost.is_set()


def test_whoever_is_interrupted_while_it_takes_a_lease_leaves_none(folder: RunFolder, clock: Clock) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lease(folder, clock, interrupted).take()
    assert list((Path(folder.uri) / "_lease").iterdir()) == []
    lease(folder, clock).release()  # what was not held is no error


def test_a_contender_that_died_elsewhere_before_it_held_anything_is_cleared_away(
    folder: RunFolder, clock: Clock
) -> None:
    leave(folder, replace(elsewhere(clock, held=False), expires=clock.now))
    mine = lease(folder, clock)
    mine.take()
    assert [path.name for path in (Path(folder.uri) / "_lease").iterdir()] == [f"{mine._mine.token}.json"]


def test_who_holds_is_a_claim_that_is_held_whatever_others_want(folder: RunFolder, clock: Clock) -> None:
    leave(folder, elsewhere(clock, token="0", held=False))
    assert holder(folder, clock.now) is None
    leave(folder, elsewhere(clock, token="1"))
    found = holder(folder, clock.now)
    assert found is not None
    assert found.token == "1"


# ── whose process runs ──


def test_a_claim_says_who_makes_it_and_where() -> None:
    mine, other = (Claim.here(since=1.0, expires=2.0) for _ in range(2))
    assert (mine.host, mine.pid, mine.since, mine.expires, mine.held) == (
        socket.gethostname(), os.getpid(), 1.0, 2.0, False,
    )  # fmt: skip
    assert len(mine.token) == len(other.token) == 16
    assert mine.token != other.token
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if boot.exists():
        assert mine.place == f"{socket.gethostname()} {boot.read_text().strip()} {space.readlink()}"
        assert int(mine.born) / os.sysconf("SC_CLK_TCK") + psutil.boot_time() == pytest.approx(
            psutil.Process().create_time(), abs=0.02
        )


@pytest.mark.parametrize(
    ("place", "born", "until_expiry", "lives"),
    [
        ("here", "mine", 1, True),
        ("here", "mine", -1000, True),  # whatever the clock says
        ("here", "another", 1, False),
        ("here", "", 1, False),
        ("elsewhere", "mine", 1, True),
        ("elsewhere", "another", 1, True),
        ("elsewhere", "mine", 0, False),
        ("elsewhere", "mine", -1000, False),
    ],
)
def test_a_claim_lives_as_long_as_its_process_here_and_until_it_expires_elsewhere(
    place: str, born: str, until_expiry: float, *, lives: bool
) -> None:
    mine = Claim.here(since=0.0, expires=100.0)
    claim = replace(
        mine,
        place={"here": mine.place}.get(place, "node-7"),
        born={"mine": mine.born, "another": str(int(mine.born) - 1)}.get(born, ""),
    )
    assert claim.lives(100.0 - until_expiry) is lives


@pytest.mark.parametrize(("now", "lives"), [(99.0, True), (100.0, False)])
def test_where_no_kernel_tells_when_a_process_began_the_clock_decides(
    now: float, monkeypatch: pytest.MonkeyPatch, *, lives: bool
) -> None:
    without_proc(monkeypatch)
    mine = Claim.here(since=0.0, expires=100.0)
    assert mine.born == "alive"
    assert mine.lives(now) is lives
    dead = subprocess.Popen(["true"])
    dead.wait()
    assert leases._born(dead.pid) == ""
    assert not replace(mine, pid=dead.pid).lives(0.0)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
@pytest.mark.parametrize("told", ["when it was made", "when it is looked at"])
@pytest.mark.parametrize(("now", "lives"), [(99.0, True), (100.0, False)])
def test_a_kernel_that_does_not_tell_of_a_process_that_runs_leaves_it_to_the_clock(
    told: str, now: float, monkeypatch: pytest.MonkeyPatch, *, lives: bool
) -> None:
    """It hides the processes of other users, or has no file to open at the moment."""
    mine = Claim.here(since=0.0, expires=100.0)
    with monkeypatch.context() as silent:
        silent.setattr(leases, "_kernel", hiding(mine.pid))
        hidden = Claim.here(since=0.0, expires=100.0)
        if told == "when it was made":
            assert (mine.lives(now), mine.ended) == (lives, False)
    if told == "when it is looked at":
        assert (hidden.lives(now), hidden.ended) == (lives, False)


def hiding(pid: int) -> Callable[[str], str]:
    """A kernel that tells nothing of one process."""
    kernel = leases._kernel
    return lambda path: "" if path == f"/proc/{pid}/stat" else kernel(path)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_a_process_whose_name_is_no_text_is_known_too(tmp_path: Path) -> None:
    program = os.fsencode(tmp_path) + b"/\xff"
    shutil.copy(os.fsencode(shutil.which("sleep") or ""), program)
    process = subprocess.Popen([program, "600"])
    try:
        until(lambda: b"\xff" in Path(f"/proc/{process.pid}/comm").read_bytes())
        assert leases._born(process.pid).isdigit()
    finally:
        process.kill()
        process.wait()


def test_a_process_of_another_user_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    without_proc(monkeypatch)

    def forbidden(pid: int, sign: int) -> None:
        assert (pid, sign) == (7, 0)
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    assert leases._born(7) == "alive"


def without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    monkeypatch.setattr(leases, "_kernel", lambda _: "")
    monkeypatch.setattr(Path, "exists", lambda _: False)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_a_process_is_known_by_when_it_began_whatever_its_name_and_no_more_when_it_has_ended(tmp_path: Path) -> None:
    program = tmp_path / "a) b (c"
    shutil.copy(shutil.which("sleep") or "", program)
    process = subprocess.Popen([program, "600"])
    try:
        born = leases._born(process.pid)
        assert int(born) / os.sysconf("SC_CLK_TCK") + psutil.boot_time() == pytest.approx(
            psutil.Process(process.pid).create_time(), abs=0.02
        )
    finally:
        process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody was told
    assert leases._born(process.pid) == ""
    process.wait()
    assert leases._born(process.pid) == ""


# ── the heart ──


class Beats(threading.Event):
    """Lets a heart beat so often at once, and remembers how long it wanted to wait."""

    def __init__(self, beats: int) -> None:
        super().__init__()
        self.left, self.waits = beats, list[float | None]()

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        self.left -= 1
        return self.left < 0


class Renewed(Lease):
    """Counts its beats, which fail as they are told to."""

    def beats(self, count: int, *wrong: StoreError | None) -> Beats:
        self._end, self.renewed, self._wrong = Beats(count), 0, list(wrong)
        return self._end

    def renew(self) -> None:
        self.renewed += 1
        wrong = self._wrong.pop(0) if self._wrong else None
        if isinstance(wrong, LeaseHeld):
            self.lost.set()
        if wrong is not None:
            raise wrong
        super().renew()


def test_a_heart_beats_four_times_in_a_lease_and_goes_on_though_a_store_fails(
    folder: RunFolder, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    running = Renewed(folder, ttl_s=120, clock=clock, pause=lambda _: None)
    beats = running.beats(5, StoreError("503 SlowDown"), StoreError("no route"))
    with caplog.at_level(logging.WARNING), running as entered:
        assert entered is running
        assert running._heart is not None
        assert running._heart.daemon  # a process that ends does not wait for it
        running._heart.join()
    assert running.renewed == 5
    assert beats.waits == [30.0] * 6
    assert [record.getMessage() for record in caplog.records] == ["503 SlowDown", "no route"]


def test_a_heart_stops_when_its_lease_is_lost(folder: RunFolder, clock: Clock) -> None:
    running = Renewed(folder, ttl_s=120, clock=clock, pause=lambda _: None)
    beats = running.beats(5, None, LeaseHeld("gone"))
    with running:
        assert running._heart is not None
        running._heart.join()
    assert (running.renewed, len(beats.waits)) == (2, 2)


def test_a_lease_is_handed_back_when_the_heart_has_stopped_or_it_would_claim_it_once_more(
    folder: RunFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    deeds: list[str] = []
    with lease(folder, clock) as running:
        heart = running._heart
        assert heart is not None

        def noted(deed: str, done: Callable[[], None]) -> Callable[[], None]:
            def call() -> None:
                deeds.append(deed)
                done()

            return call

        monkeypatch.setattr(heart, "join", noted("join", heart.join))
        monkeypatch.setattr(running, "release", noted("release", running.release))
    assert deeds == ["join", "release"]
    assert not heart.is_alive()


def test_the_heart_beats_while_the_run_lasts(folder: RunFolder) -> None:
    beats = threading.Semaphore(0)

    class Counted(Lease):
        def renew(self) -> None:
            super().renew()
            beats.release()

    with Counted(folder, ttl_s=0.01, settle_s=0, clock=lambda: 0.0) as running:
        assert all(beats.acquire() for _ in range(3))
        assert not running.lost.is_set()
