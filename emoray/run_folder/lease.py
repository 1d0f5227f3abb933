"""One writer per run folder: a lease with an expiry, renewed by a heartbeat.

pyarrow has no conditional put, and a rename is no atom on an object store, so the lease needs neither. It needs one
thing, which local disks, NFS and today's object stores (S3 since 2020, GCS, Azure) all give: whoever lists a folder
after a file was written there sees it. Each contender writes a claim of its own, RUN/_lease/<token>.json, and *then*
looks for others. Of two that come at once at least one sees the other:

* a claim that is held: withdraw and say who holds it;
* claims that are only made: the smallest token stays and looks again until the others are gone, the rest withdraw.

After that it looks once more, `settle_s` later, for stores that are slower to show what was written than they say
(NFS clients cache listings).

Claims of the dead are cleared away before. A process on this same machine is asked of the kernel, whatever the clock
says. One elsewhere is dead when its claim has expired by the clock and also stays as it is for a beat and a half: a
clock that jumps, here or there, neither ends a lease nor lets a second run in, only that wait becomes longer or
shorter.
"""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from emoray.run_folder import json_file
from emoray.run_folder.errors import StoreError
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.run_json import Attempt

log = logging.getLogger(__name__)

_FOLDER = "_lease"
_BEATS = 4  # in a lease
_WATCHED = 1.5  # beats without a change, after which a holder is not only late
_LATEST = 253_402_300_799.0  # the end of the year 9999
_MOST_AHEAD_S = 86_400.0  # that a lease may last yet; clocks that differ by hours are no rarity
_ROUNDS = 40  # looks at contenders that neither withdraw nor hold
_ALIVE = "alive"  # in place of when a process began: there is one of this number, and no more is known


@dataclass(frozen=True)
class Claim:
    """Who writes, or wants to. Times in seconds since 1970."""

    token: str
    host: str
    pid: int
    place: str  # this machine since it was started, and its process numbers: where `pid` means something
    born: str  # when the process began, by its kernel: tells it from a later one of the same number
    since: float
    expires: float
    held: bool = False

    @classmethod
    def here(cls, *, since: float, expires: float) -> Claim:
        host, pid = socket.gethostname(), os.getpid()
        return cls(secrets.token_hex(8), host, pid, _place(), _born(pid), since, expires)

    @property
    def ended(self) -> bool:
        """Whether its process is known to have ended: one of this machine."""
        if self.place != _place():
            return False
        found = _born(self.pid)
        return not found or (found != self.born and _ALIVE not in {found, self.born})

    def lives(self, now: float) -> bool:
        """Not ended as far as we know, and not expired, which does not matter where its process is known to run."""
        runs = self.place == _place() and self.born == _born(self.pid) != _ALIVE
        return not self.ended and (now < self.expires or runs)


class LeaseHeld(StoreError):
    """Somebody else holds the lease, or has held it meanwhile."""


class Lease:
    """The right to write to a run folder. As a context manager it takes, renews in a thread, and releases.

    `lost` is set when somebody else has taken over (this process was suspended for longer than the lease), or may have
    because the store could not be reached until it expired: whoever writes must then stop.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        ttl_s: float = 120.0,
        settle_s: float = 0.2,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        now = clock()
        self._folder = folder
        self._ttl_s = ttl_s
        self._beat_s = ttl_s / _BEATS
        self._settle_s = settle_s
        self._clock = clock
        self._pause = pause
        self._mine = Claim.here(since=now, expires=now + ttl_s)
        self._end = threading.Event()
        self._heart: threading.Thread | None = None
        self.lost = threading.Event()

    def take(self) -> None:
        """LeaseHeld, with who holds it, since when, until when; takes a while where somebody elsewhere may have died.

        StoreError for a claim of which nobody can tell until when it holds.
        """
        for name in _names(self._folder):
            _read(self._folder, name)
        self._clear()
        self._write(held=False)
        try:
            self._settle()
            self._write(held=True)
            self._pause(self._settle_s)
            self._stand()
        except BaseException:
            self.release()
            raise

    def renew(self) -> None:
        """For another `ttl_s`. LeaseHeld when the lease is lost; StoreError when the store cannot be reached."""
        try:
            self._stand()
            self._write(held=True)
        except StoreError as wrong:
            if isinstance(wrong, LeaseHeld) or self._clock() >= self._mine.expires:
                self.lost.set()
            raise

    def release(self) -> None:
        """No error when it was not held."""
        self._folder.delete(self._name(self._mine))

    def __enter__(self) -> Lease:
        self.take()
        self._heart = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self._heart is not None:
            self._heart.join()
        try:
            self.release()
        except StoreError as wrong:  # what was written is there, and the claim dies with this process
            log.warning("%s", wrong)

    def _beat(self) -> None:
        while not self._end.wait(self._beat_s):
            try:
                self.renew()
            except StoreError as wrong:
                log.warning("%s", wrong)
            if self.lost.is_set():
                return

    def _clear(self) -> None:
        """Deletes the claims of the dead, once it is sure that they are."""
        late = [claim for claim in _claims(self._folder) if not claim.lives(self._clock())]
        if doubtful := [claim for claim in late if not claim.ended]:
            who = f"process {doubtful[0].pid} on {doubtful[0].host}"
            wait_s = _WATCHED * self._beat_s
            log.warning("%s was written by %s: waiting %.0f s for a sign of it", self._folder.where(""), who, wait_s)
            self._pause(wait_s)
        still = _claims(self._folder)
        for claim in late:
            if claim.ended or claim in still:
                self._folder.delete(self._name(claim))

    def _settle(self) -> None:
        """Return when nobody else lives here."""
        for _ in range(_ROUNDS):
            others = self._others()
            stronger = [one for one in others if one.held or one.token < self._mine.token]
            if stronger:
                raise LeaseHeld(self._taken(max(stronger, key=lambda one: one.held)))
            if not others:
                return
            self._pause(self._settle_s)
        raise LeaseHeld(self._taken(others[0]))

    def _stand(self) -> None:
        """LeaseHeld when the claim is gone (whoever takes over clears it away), or somebody else's comes first.

        Two can hold when a store showed neither the other in time: then the smaller token stays.
        """
        others = [one for one in self._others() if one.held]
        gone = not any(claim.token == self._mine.token for claim in _claims(self._folder))
        if others and (gone or others[0].token < self._mine.token):
            raise LeaseHeld(self._taken(others[0]))
        if gone:
            raise LeaseHeld(f"the lease on {self._folder.where('')} was lost: another run came and went meanwhile")

    def _others(self) -> list[Claim]:
        """The claims of others that may live."""
        return [claim for claim in _claims(self._folder) if claim.token != self._mine.token and not claim.ended]

    def _write(self, *, held: bool) -> None:
        mine = replace(self._mine, held=held, expires=self._clock() + self._ttl_s)
        self._folder.write_text(self._name(mine), json.dumps(asdict(mine)))
        self._mine = mine

    def _taken(self, other: Claim) -> str:
        file = self._folder.where(self._name(other))
        ends = f"its lease expires at {_utc(other.expires)}"
        if other.expires - self._clock() > _MOST_AHEAD_S:
            ends = f"delete {file}, which would expire at {_utc(other.expires)} only"
        elif other.lives(math.inf):  # its process runs
            ends += f"; if this is a copy of the folder that it writes to, delete {file}"
        return (
            f"{self._folder.where('')} is being written by process {other.pid} on {other.host} since "
            f"{_utc(other.since)}: wait for it or stop it (if it is dead, {ends})"
        )

    @staticmethod
    def _name(claim: Claim) -> str:
        return f"{_FOLDER}/{claim.token}.json"


def holder(folder: RunFolder, now: float) -> Claim | None:
    """Who writes to a run folder, if anybody does; for `status`: touches nothing."""
    return next((claim for claim in _claims(folder) if claim.held and claim.lives(now)), None)


def at_work(folder: RunFolder, last: Attempt | None, now: float) -> Claim | None:
    """Who is at work on the last attempt of a run folder, if anybody is: not who compacts it, or is about to begin
    another. Touches nothing.
    """
    held = holder(folder, now)
    if held is None or last is None or last.has_ended:
        return None
    return held if (held.host, held.pid) == (last.host, last.pid) else None  # containers share pids


def _claims(folder: RunFolder) -> list[Claim]:
    """Of which a date is known."""
    return [claim for name in _names(folder) if (claim := _known(folder, name)) is not None]


def _known(folder: RunFolder, name: str) -> Claim | None:
    try:
        return _read(folder, name)
    except _Odd as wrong:
        log.warning("%s", wrong)
        return None


def _names(folder: RunFolder) -> list[str]:
    """Of the files that may be claims."""
    found = [info.base_name for info in folder.infos(_FOLDER) if info.is_file]
    return [name for name in found if name.endswith(".json") and not name.startswith(".")]


class _Odd(StoreError):
    """A claim that says its token, and not who makes it, or not until when."""


def _read(folder: RunFolder, name: str) -> Claim | None:
    """None where it is gone, or a scrap that nobody claims anything by."""
    where, raw = folder.where(f"{_FOLDER}/{name}"), folder.read_bytes(f"{_FOLDER}/{name}")
    if raw is None:
        return None
    try:
        token = json_file.read(_Named, raw).token
    except json_file.BadJson:
        token = ""
    if name != f"{token}.json":
        log.warning("%s is no lease of this emoray and does not count; delete it", where)
        return None
    try:
        return _dated(json_file.read(Claim, raw))
    except json_file.BadJson as wrong:
        raise _Odd(f"{where} is an odd lease ({wrong}): if no run writes to this folder, delete it") from None


@dataclass(frozen=True)
class _Named:
    """What makes a file a claim, of whatever version."""

    token: str


def _dated(claim: Claim) -> Claim:
    """BadJson where a date is none, or no process has such a number."""
    for name, seconds in (("since", claim.since), ("expires", claim.expires)):
        if not (math.isfinite(seconds) and 0 <= seconds <= _LATEST):
            raise json_file.BadJson(f"{name} is {seconds:g}, and no time in seconds since 1970")
    if not 0 < claim.pid < 1 << 31:
        raise json_file.BadJson(f"pid is {claim.pid}")
    return claim


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _place() -> str:
    """This machine since its last start, and this namespace of process numbers (a container has its own)."""
    boot = _kernel("/proc/sys/kernel/random/boot_id")
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        space = ""
    return f"{socket.gethostname()} {boot} {space}"


def _born(pid: int) -> str:
    """When a process began, in ticks of its kernel; "" when there is none, _ALIVE when there is no telling.

    There is none where there is no /proc (macOS), where it hides the processes of others (hidepid), and where it
    cannot be read for a moment (too many open files).
    """
    stat = _kernel(f"/proc/{pid}/stat")
    if stat:
        fields = stat.rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return _ALIVE


def _kernel(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""
