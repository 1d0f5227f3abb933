"""The money of requests whose answers nobody has: RUN/tabs/<part>/<writer>.json, a small file of each actor that pays.

An answer is money that its row tells. A request that was under way when its process died has no row, and yet the
provider charges it. So an actor keeps a *tab*: a total of what its requests have cost, those under way at the most
that they may, written as each is handed to its connection, with nothing in between. What a tab has beyond the rows that
its writer wrote is *lost*:

    lost = tab − rows of the same writer

That holds after the death of an actor, of a driver, or of all at once, and needs no word from any of them: a tab of an
actor that ended well has nothing beyond its rows. While an actor is at work it is what is under way.

On a disk a tab is written in place, without waiting: a process that is killed leaves to its kernel what it has written.
So it is never too little, and too much by one request at most of each process that was killed: the one of which the
line was written and the bytes were not. A machine that loses its power may take the last second's with it. An object
store cannot do that: there a tab is put
whole, with as much ahead as is under way, so that few requests wait for a put; what is ahead counts as lost where the
actor dies. When nothing is under way a tab is exact, and durable before the last answer is handed on.

Compacted rows tell no writer. So before a part is compacted its tabs are *booked*: of each that has lost something
there is then RUN/tabs/<part>/<writer>.booked-<n>.json with what it lost, and with the names of the files whose rows are
taken off already. So it may be booked as often as one likes, rows that come back later (from where they were put aside,
from a backup) are taken off as well, and of what a backup brings back of tabs nothing counts that is booked:

    lost = booked − rows of the same writer in other files

A tab of which nothing was lost is deleted; should a backup bring it back, a compacted file tells that it has its rows.

An actor may ask on after the lease of its run was taken over, and its tab booked: it finds its tab gone and writes it
anew. How often it was changed tells it from an older one, which a backup brings back:

    lost = booked + (tab − tab when it was booked) − rows of the same writer in other files

So of an actor that may not know yet that its run is over the booked file stays, also where nothing was lost, and the
tab stays beside it until it is booked once more and has told nothing since.

Rows may be lost as well when nobody can take them off any tab: those of a compacted file that is torn later, or of
one that tears while it is compacted. Of each such file RUN/tabs/<part>/<file>.json tells what was *paid* for its rows;
that is lost while neither the file counts nor another that has taken its place.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import math
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from emoray.hosts.protocol import HostDown
from emoray.run_folder.census import Keys, Spent
from emoray.run_folder.errors import StoreError, telling
from emoray.run_folder.file_names import ENDING, TABS, Name
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.generations import Files
from emoray.run_folder.journal import in_name, insist
from emoray.run_folder.partition import Partition

log = logging.getLogger(__name__)

NOBODY = "?"  # of whom there is no tab
_ENDING = ".json"
_NAMED = re.compile(r"(?P<writer>[^.].*?)(?:\.booked-(?P<turn>\d+))?\.json")
_PAID = re.compile(rf"(?P<file>[^.].*{re.escape(ENDING)})\.json")
_LISTINGS = 20  # how often who reads looks again while tabs are booked under its eyes
_BYTES = 64  # of a tab that is written in place
_DUST_USD = 1e-9  # less is rounding
_SYNC_S = 1.0
_TRIES = 9  # with the waits between them about a minute, as a journal has it


class PartTab:
    """The tab of one actor beside the part that it writes to; see `Tab`."""

    def __init__(self, beside: Callable[[], tuple[Partition, str]]) -> None:
        """`beside`: the part, and the writer as the files of its journal name it; called at the first request."""
        self._beside = beside
        self._spent_usd = self._open_usd = 0.0  # of requests that are over; of those under way, at most
        self._open = self._turn = 0

    async def may_cost(self, usd: float, /) -> _Charge:
        charge = _Charge(self, usd)
        with charge.counted() if self._sheet.is_ahead else _nothing_sent():
            await self._sheet.ready(self._now)
        return charge

    def sent(self) -> None:
        """A request goes out, of which the total knows."""
        self._sheet.write(self._now)

    async def over(self) -> None:
        """A request is over, of which the total knows."""
        try:
            await self._sheet.keep(self._now)
        except StoreError as wrong:  # what was paid for is here, and what is written down is too much at worst
            log.warning("%s", wrong)

    def open(self, usd: float) -> None:
        """One more under way, which costs at most so much."""
        self._open, self._open_usd, self._turn = self._open + 1, self._open_usd + usd, self._turn + 1

    def end(self, at_most: float, usd: float) -> None:
        """One fewer."""
        self._open, self._spent_usd, self._turn = self._open - 1, self._spent_usd + usd, self._turn + 1
        self._open_usd = self._open_usd - at_most if self._open else 0.0  # no rounding dust remains

    @property
    def _now(self) -> _Total:
        return _Total(self._spent_usd + self._open_usd, self._open_usd, self._turn)

    @cached_property
    def _sheet(self) -> _OnDisk | _InStore:
        part, writer = self._beside()
        kind = _OnDisk if part.folder.fs.type_name == "local" else _InStore
        return kind(part, f"{_place(part)}/{writer}{_ENDING}")


class _Charge:
    """See `Charge`: what a tab knows of one request. It counts from when it is sent, or before where a tab is put
    ahead.
    """

    def __init__(self, tab: PartTab, usd: float) -> None:
        self._tab, self._usd, self._counts = tab, usd, False

    def sent(self) -> None:
        if self._counts:
            return
        with self.counted():
            self._tab.sent()

    async def over(self, usd: float) -> None:
        if self._counts:
            self._counts = False
            self._tab.end(self._usd, usd)
            await self._tab.over()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """From now on, unless that cannot be written down."""
        self._tab.open(self._usd)
        try:
            with _nothing_sent():
                yield
        except BaseException:
            self._tab.end(self._usd, 0.0)
            raise
        self._counts = True


@contextmanager
def _nothing_sent() -> Iterator[None]:
    try:
        yield
    except StoreError as wrong:
        raise HostDown(f"what a request may cost cannot be written down, so none is sent: {wrong}") from wrong


class _Total(NamedTuple):
    """What an actor may have spent."""

    usd: float
    open_usd: float  # of that under way, at most
    turn: int  # how often it has changed

    @property
    def is_exact(self) -> bool:
        return not self.open_usd


class _OnDisk:
    """A file that is written in place."""

    is_ahead = False

    def __init__(self, part: Partition, path: str) -> None:
        self._part, self._path = part, path
        self._file: int | None = None
        self._counts_links = True
        self._synced_at = 0.0

    async def ready(self, now: _Total) -> None:
        """A file is there: what is written into it later takes no time, and seldom fails."""
        if self._file is None:
            with self._telling():
                self._begun(_line(now.usd, now.turn))

    def write(self, now: _Total) -> None:
        with self._telling():
            file = self._written(_line(now.usd, now.turn))
        if not now.is_exact and time.monotonic() - self._synced_at >= _SYNC_S:
            self._synced_at = time.monotonic()
            asyncio.get_running_loop().run_in_executor(None, _synced_if_it_can, os.dup(file))

    async def keep(self, now: _Total) -> None:
        """Durable where it is exact."""
        self.write(now)
        if now.is_exact and self._file is not None:
            with self._telling():
                await self._insist_on(now)

    async def _insist_on(self, now: _Total) -> None:
        assert self._file is not None
        try:
            await asyncio.to_thread(_synced, os.dup(self._file))
        except OSError as wrong:
            if wrong.errno != errno.ESTALE:  # deleted on NFS since it was written
                raise
            self._begun(_line(now.usd, now.turn))

    def _telling(self) -> AbstractContextManager[None]:
        return telling("write", self._part.folder.where(self._path))

    def _written(self, line: str) -> int:
        """The open file that says so."""
        if self._file is None:
            return self._begun(line)
        try:
            os.pwrite(self._file, line.encode(), 0)
        except OSError as wrong:
            if wrong.errno != errno.ESTALE:  # deleted on NFS
                raise
            return self._begun(line)
        return self._begun(line) if self._is_gone(self._file) else self._file

    def _begun(self, line: str) -> int:
        """Durable, with its folders, in place of one that was booked meanwhile."""
        old, path = self._file, self._part.folder.path(self._path)
        self._part.folder.write_text(self._path, line)
        self._file = os.open(path, os.O_WRONLY)
        self._counts_links = os.fstat(self._file).st_nlink > 0  # some filesystems count none, ever
        if old is not None:
            with suppress(OSError):
                os.close(old)
        return self._file

    def _is_gone(self, file: int) -> bool:
        """Whether somebody has deleted it."""
        try:
            there = os.fstat(file)
            if self._counts_links:
                return there.st_nlink == 0
            return not os.path.samestat(there, Path(self._part.folder.path(self._path)).stat())
        except FileNotFoundError:
            return True
        except OSError as wrong:
            if wrong.errno == errno.ESTALE:  # on NFS
                return True
            raise


def _synced(file: int) -> None:
    """Of a copy of a descriptor, which is closed: the file that it is of may be replaced meanwhile."""
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _synced_if_it_can(file: int) -> None:
    """Where the disk fails, the next write says so."""
    with suppress(OSError):
        _synced(file)


class _InStore:
    """An object that is put anew."""

    is_ahead = True

    def __init__(self, part: Partition, path: str) -> None:
        self._part, self._path = part, path
        self._now = _Total(0.0, 0.0, 0)
        self._kept_usd = 0.0  # what is there, or will be
        self._put: asyncio.Task[None] | None = None

    async def ready(self, now: _Total) -> None:
        await self.keep(now)

    def write(self, now: _Total) -> None:
        """It is there already."""

    async def keep(self, now: _Total) -> None:
        self._now = now
        while self._kept_usd < self._now.usd or (self._now.is_exact and self._kept_usd != self._now.usd):
            self._put = self._put or asyncio.create_task(self._write())
            await asyncio.shield(self._put)

    async def _write(self) -> None:
        usd = self._now.usd + self._now.open_usd
        try:
            await asyncio.to_thread(self._insist, _line(usd, self._now.turn))
            self._kept_usd = usd
        finally:
            self._put = None

    def _insist(self, line: str) -> None:
        put = partial(self._part.folder.write_text, self._path, line)
        insist(put, pause=time.sleep, draw=lambda: 0.5, tries=_TRIES)


@dataclass(frozen=True)
class _Named:
    """The file of a tab (turn 0), or the last of those in which it was booked."""

    writer: str
    turn: int
    older: tuple[str, ...] = ()  # names of what it has taken the place of

    @property
    def tab(self) -> str:
        """Of the tab that lies beside what was booked; empty where none does."""
        tab = f"{self.writer}{_ENDING}"
        return tab if tab in self.older else ""

    def __str__(self) -> str:
        return f"{self.writer}.booked-{self.turn}{_ENDING}" if self.turn else f"{self.writer}{_ENDING}"


@dataclass(frozen=True)
class _Kept:
    """What one file says: what its actor may have spent, or what was booked of it as lost."""

    named: _Named
    usd: float
    less: Files = field(default_factory=Files)  # the files whose rows are taken off already
    booked: bool = False
    at_usd: float = 0.0  # what its actor said that it may have spent, when it was booked,
    at_turn: int | None = None  # and how often it had said something; None: nobody knows
    grown: bool = False  # since then

    def since(self, tab: _Kept | None) -> _Kept:
        """With what its actor may have spent since it was booked, where it has asked on."""
        if tab is None or self.at_turn is None or (tab.at_turn or 0) <= self.at_turn:
            return self
        usd = self.usd + tab.usd - self.at_usd
        return replace(self, usd=usd, at_usd=tab.usd, at_turn=tab.at_turn, grown=True)

    def tells(self, files: Files) -> bool:
        """Whether the rows of such files, where they are lost, are part of what is lost of this tab."""
        return self.named.writer in files.stamps and not self.less.has(files)


@dataclass(frozen=True)
class _Lost:
    """What is lost of one tab when the rows of these files, of the same writer, are taken off as well."""

    kept: _Kept
    usd: float
    rows: Sequence[Keys]

    def is_new(self, ended: str) -> bool:
        """Whether it must be booked: else it is, or what a compaction tells of its rows is enough."""
        if self.kept.booked:
            return bool(self.rows) or self.kept.grown
        return self.may_ask_on(ended) or self.usd > 0 or not self.rows

    def may_ask_on(self, ended: str) -> bool:
        """Whether its actor may not know yet that its run is over, when those of this attempt have ended."""
        return not self.kept.named.writer.startswith(in_name(ended))

    def booked(self) -> str:
        """As a file says it."""
        less = Files.union([self.kept.less, *(one.files for one in self.rows)])
        at = {"at_usd": self.kept.at_usd, "at_turn": self.kept.at_turn}
        return json.dumps({"lost_usd": self.usd, "less": less.packed(), **at})


def lost_usd(part: Partition, attempt: str = "", *, but: str | None = None) -> float:
    """US dollars at most for requests whose answers nobody has; of actors that are at work, for what is under way.

    `attempt`: of the actors of one attempt alone; `but`: of all others. Reads only.
    """
    torn = 0.0 if attempt else torn_usd(part)
    return torn + sum(
        one.usd
        for one in _lost(part)
        if one.kept.named.writer.startswith(in_name(attempt))
        and not (but and one.kept.named.writer.startswith(in_name(but)))
    )


def lost_usd_of(part: Partition, attempts: Collection[str]) -> dict[str, float]:
    """The same by attempt, without what nobody's tab tells. Reads only."""
    found = [(one.kept.named.writer, one.usd) for one in _lost(part)]
    return {attempt: sum(usd for writer, usd in found if writer.startswith(in_name(attempt))) for attempt in attempts}


def torn_usd(part: Partition) -> float:
    """US dollars paid for rows that are lost with their files, and that no tab tells. Reads only."""
    return sum(_of_lost_files(part).values())


def lost(folder: RunFolder, attempt: str = "", *, but: str | None = None) -> dict[tuple[str, str | None], float]:
    """The same by (model, judge that read it; None: the model itself), also of parts that have no row."""
    asked: list[tuple[str, str | None]] = [(model, None) for model in folder.models(f"{TABS}/answers")]
    for reader in judges_with_tabs(folder):
        beside = _place(folder.rows(reader, "any")).rpartition("/")[0]
        asked += [(model, reader) for model in folder.models(beside)]
    return {who: lost_usd(_part(folder, *who), attempt, but=but) for who in asked}


def judges_with_tabs(folder: RunFolder) -> list[str]:
    """Those that were ever asked for money, sorted."""
    return folder.readers(f"{TABS}/rows")


def lost_by_model(folder: RunFolder, attempt: str = "", *, but: str | None = None) -> dict[str, float]:
    """The same by model alone, judges with it."""
    found: dict[str, float] = {}
    for (model, _), usd in lost(folder, attempt, but=but).items():
        found[model] = found.get(model, 0.0) + usd
    return found


def book(part: Partition, ended: str = "") -> None:
    """Turns the tabs of a part into what each has lost, before its rows forget who wrote them.

    For whoever holds the lease, when no actor of the attempt `ended` asks any more; empty: of none that there was.
    Nothing counts twice or is forgotten, whenever it dies; a second time changes nothing.
    """
    for one in list(_lost(part)):
        named = one.kept.named
        if one.is_new(ended):
            part.folder.write_text(f"{_place(part)}/{replace(named, turn=named.turn + 1)}", one.booked())
        for name in _settled(one, ended):
            part.folder.delete(f"{_place(part)}/{name}")


def _settled(one: _Lost, ended: str) -> list[str]:
    """The files of a tab that tell nothing any more once it is booked. The tab itself, of an actor that may ask on, is
    one of them when it was booked before and has told nothing since: what it writes just now would go with its file.
    """
    named = one.kept.named
    if one.is_new(ended):
        stays = f"{named.writer}{_ENDING}" if one.may_ask_on(ended) else ""
    else:
        stays = str(named) if one.kept.booked else ""
    return [name for name in (str(named), *named.older) if name != stays]


def book_lost(part: Partition, whose: str, usd: float) -> None:
    """Books what was sent at once and in no actor's name, as a batch is, in place of what was booked of it before."""
    lost = _Lost(_Kept(_Named(whose, 1), usd), usd, ())
    if usd > _DUST_USD:
        part.folder.write_text(f"{_place(part)}/{lost.kept.named}", lost.booked())
    else:
        part.folder.delete(f"{_place(part)}/{lost.kept.named}")


def note_paid(
    part: Partition, name: str, spent: Spent, instead_of: Collection[str] = (), taken: Files | None = None
) -> None:
    """Notes of a file what was paid for its rows, where no tab tells that any more; for who holds the lease.

    `instead_of`: the files that it has taken the place of, of which nobody asks that now; `taken`: those over all
    generations, where who wrote it may have died before their notes were deleted.
    """
    there, usd = {info.base_name for info in part.folder.infos(_place(part))}, paid_usd(part, spent)
    if usd > _DUST_USD and f"{name}{_ENDING}" not in there:
        part.folder.write_text(f"{_place(part)}/{name}{_ENDING}", json.dumps({"paid_usd": usd}))
    noted = {found["file"] for info in there if (found := _PAID.fullmatch(info))} - {name}
    for old in noted:
        if old in instead_of or (taken is not None and taken.has(_files_of(old))):
            part.folder.delete(f"{_place(part)}/{old}{_ENDING}")


def _of_lost_files(part: Partition) -> dict[str, float]:
    """What was paid for the rows of each file that is neither here nor in another that has taken its place."""
    told = _paid(part)  # first: what is compacted meanwhile is in another file, which is seen then
    if not told:
        return {}
    files = part.files_alone()
    taken = Files.union(some for one in files.values() for some in (one.taken, one.files))
    kept = list(_all_kept(part))
    return {
        name: usd
        for name, usd in told.items()
        if not (name in files or taken.has(of := _files_of(name)) or any(one.tells(of) for one in kept))
    }


def _files_of(name: str) -> Files:
    found = Name.of(name)
    if found.level < 0:
        return Files(names=frozenset([name]))
    return Files.written(found.writer, [found.stamp])


def _paid(part: Partition) -> dict[str, float]:
    """What was paid for the rows of files, by their names."""
    return dict(_each_paid(part))


def _each_paid(part: Partition) -> Iterator[tuple[str, float]]:
    for info in part.folder.infos(_place(part)):
        if found := _PAID.fullmatch(info.base_name):
            raw = part.folder.read_bytes(f"{_place(part)}/{info.base_name}")
            usd = None if raw is None else _amount(raw, "paid_usd")
            if usd is not None:
                yield found["file"], usd
            elif raw is not None:
                log.warning(_NO_TAB, part.folder.where(f"{_place(part)}/{info.base_name}"))


def _lost(part: Partition) -> Iterator[_Lost]:
    if not any(_names(part)):
        return
    rows, compacted = _by_writer(part)  # first: what is written meanwhile counts as under way, and not as nothing
    for kept in _all_kept(part):
        yield _taken_off(part, kept, rows.get(kept.named.writer, ()), compacted)


def _taken_off(part: Partition, kept: _Kept, rows: Sequence[Keys], compacted: Mapping[str, Any]) -> _Lost:
    if not kept.booked and kept.named.writer in compacted:  # a backup: it was booked before, and nothing was lost
        return _Lost(kept, 0.0, ())
    new = [one for one in rows if not kept.less.has(one.files)]
    usd = kept.usd - sum(paid_usd(part, one.spent) for one in new)
    return _Lost(kept, usd if usd > _DUST_USD else 0.0, new)


def _by_writer(part: Partition) -> tuple[dict[str, list[Keys]], Mapping[str, Any]]:
    """The files of each writer, without their rows; and the writers of which a compaction has rows."""
    found, files = defaultdict[str, list[Keys]](list), part.files_alone()
    for name, one in files.items():
        found[Name.of(name).writer].append(one)
    return found, Files.union(one.taken for one in files.values()).stamps


def paid_usd(part: Partition, spent: Spent) -> float:
    """What was paid for the rows of a part: for answers, or for what judges read in them."""
    return spent.read_cost_usd if "read_cost_usd" in part.schema.names else spent.cost_usd


def _part(folder: RunFolder, model: str, reader: str | None) -> Partition:
    return folder.answers(model) if reader is None else folder.rows(reader, model)


def _names(part: Partition) -> list[_Named]:
    """One for each writer: the last of its turns."""
    turns = defaultdict[str, dict[int, str]](dict)
    for info in part.folder.infos(_place(part)):
        if (found := _NAMED.fullmatch(info.base_name)) and not _PAID.fullmatch(info.base_name):
            turns[found["writer"]][int(found["turn"] or 0)] = info.base_name
    last = {writer: max(names) for writer, names in turns.items()}
    return [
        _Named(writer, turn, tuple(name for number, name in turns[writer].items() if number != turn))
        for writer, turn in sorted(last.items())
    ]


def _all_kept(part: Partition) -> Iterator[_Kept]:
    for named, raw, tab in _raw(part):
        kept = _read(named, raw)
        if kept is None:
            log.warning(_NO_TAB, part.folder.where(f"{_place(part)}/{named}"))
        else:
            yield kept.since(_read(named, tab)) if tab else kept


_NO_TAB = "%s is no tab of this emoray and does not count"


def _raw(part: Partition) -> list[tuple[_Named, bytes, bytes]]:
    """What each says, and beside what was booked the tab of an actor that asks on, or came back (else nothing).
    StoreError where they are booked faster than they can be read.
    """
    for _ in range(_LISTINGS):
        found = [(named, _said(part, str(named)), _said(part, named.tab)) for named in _names(part)]
        whole = [(named, raw, tab) for named, raw, tab in found if raw is not None and tab is not None]
        if len(whole) == len(found):
            return whole
    raise StoreError(f"the files of {part.folder.where(_place(part))}/ changed while they were read: try again")


def _said(part: Partition, name: str) -> bytes | None:
    return part.folder.read_bytes(f"{_place(part)}/{name}") if name else b""


def _read(named: _Named, raw: bytes) -> _Kept | None:
    try:
        told: Any = json.loads(raw)
        booked = "lost_usd" in told
        usd = float(told["lost_usd" if booked else "usd"])
        less = Files.unpacked(told["less"]) if booked else Files()
        at_usd = float(told.get("at_usd", 0.0)) if booked else usd
        turn = told.get("at_turn" if booked else "turn")  # of none in files of an earlier emoray
        at_turn = None if turn is None else int(turn)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
    sound = _is_amount(usd) and _is_amount(at_usd)
    return _Kept(named, usd, less, booked, at_usd, at_turn) if sound else None


def _is_amount(usd: float) -> bool:
    return math.isfinite(usd) and usd >= 0


def _amount(raw: bytes, name: str) -> float | None:
    try:
        usd = float(json.loads(raw)[name])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return usd if _is_amount(usd) else None


def _line(usd: float, turn: int) -> str:
    return json.dumps({"usd": usd, "turn": turn}).ljust(_BYTES - 1) + "\n"


def _place(part: Partition) -> str:
    return f"{TABS}/{part.relative}"
