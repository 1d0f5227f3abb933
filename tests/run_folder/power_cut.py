"""What a power cut may leave on a disk: every state that POSIX allows, of what a program did to a folder.

`kill -9` never shows a missing fsync, since the kernel keeps what a dead process has written. So a `Recording` notes
what a program does below a folder (files made, written, synced, renamed, unlinked; folders made, synced), and `states`
builds what may be there after a cut behind each step:

* the bytes of a file are those of its last fsync, or any later ones, whole, cut in the middle, or none of them;
* an entry of a folder (a file made, renamed, unlinked, a folder made) is sure once that folder was synced; of later
  ones any may be there and any may not, in any combination, each whole: a rename inside a folder happens or does not;
* a write in place of at most a sector happens or does not (a tab is written so).

Combinations that are too many to count are sampled: none, all, each alone, each alone missing, then by chance.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import random
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from emoray.run_folder.folder import RunFolder

_SECTOR = 512  # bytes
_ALL = 6  # changes of a folder of which every combination is tried
_DRAWN = 24  # combinations of more

Tree = Mapping[str, bytes | None]  # path below the folder -> content; None is a folder


@dataclass(frozen=True)
class _Entry:
    """A change of a folder's entries: what is no more, and what is there under which name."""

    folder: int
    gone: str | None = None
    name: str | None = None
    file: int = 0
    is_folder: bool = False


@dataclass(frozen=True)
class _Bytes:
    """What a file holds now; `synced`: for sure."""

    file: int
    content: bytes
    synced: bool


@dataclass(frozen=True)
class _Synced:
    folder: int


@dataclass(frozen=True)
class _Promise:
    """That something holds from now on, whatever happens."""

    fact: Hashable


class Recording:
    """What happens below a folder, in order, while it is `on`; from all threads of this process.

    `deaf_to`: "files" or "folders", of which no fsync is noted: a program that forgot them.
    """

    def __init__(self, root: Path, *, deaf_to: str = "") -> None:
        self._root = root
        self._deaf_to = deaf_to
        self._lock = threading.RLock()
        self._steps: list[_Entry | _Bytes | _Synced | _Promise] = []
        self._ids = itertools.count(1)
        self._files: dict[Path, int] = {root: 0}
        self._folders = {0}

    def promise(self, fact: Hashable) -> None:
        """From here on a cut may not take this."""
        with self._lock:
            self._steps.append(_Promise(fact))

    @contextmanager
    def on(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with monkeypatch.context() as patch:
            for name in ("fsync", "replace", "rename", "unlink", "remove", "mkdir", "rmdir", "pwrite", "open"):
                patch.setattr(os, name, self._noted(getattr(os, name), getattr(self, f"_{name}")))
            patch.setattr(io, "open", self._noted(io.open, self._opened))
            seen = RunFolder.fs.fget  # type: ignore[attr-defined]
            patch.setattr(RunFolder, "fs", property(lambda folder: _Disk(seen(folder), self)))
            yield

    def states(self, seed: int = 0) -> Iterator[tuple[Tree, Sequence[Hashable]]]:
        """What may be there after a cut, each state once for what was promised until then, with all of that."""
        chance, disk, promised = random.Random(seed), _After(), list[Hashable]()
        seen: set[bytes] = set()
        for step in (None, *self._steps):
            if isinstance(step, _Promise):
                promised.append(step.fact)
            elif step is not None:
                disk.add(step)
            for tree in disk.trees(chance):
                if (mark := _digest(tree, promised)) not in seen:
                    seen.add(mark)
                    yield tree, tuple(promised)

    # each is told of a call once it has returned

    def _noted(self, call: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
        def noted(*args: Any, **more: Any) -> Any:
            with self._lock:
                before = self._before(call, args)
                result = call(*args, **more)
                note(*args, result=result, before=before)
            return result

        return noted

    def _before(self, call: Callable[..., Any], args: Sequence[Any]) -> bool:
        """Whether a file was there before it was opened."""
        return call.__name__ == "open" and isinstance(args[0], str | os.PathLike) and Path(args[0]).exists()

    def _open(self, path: Any, *_: Any, before: bool, **__: Any) -> None:
        self._opened(path, before=before)

    def _opened(self, path: Any, *_: Any, before: bool, **__: Any) -> None:
        if isinstance(path, str | os.PathLike) and not before and self._inside(Path(path)):
            self._made(Path(path))

    def _made(self, path: Path, *, is_folder: bool = False) -> None:
        self._files[path] = next(self._ids)
        self._steps.append(_Entry(self._files[path.parent], None, path.name, self._files[path], is_folder))

    def _mkdir(self, path: Any, *_: Any, **__: Any) -> None:
        if self._inside(Path(path)):
            self._made(Path(path), is_folder=True)
            self._folders.add(self._files[Path(path)])

    def _rmdir(self, path: Any, *_: Any, **__: Any) -> None:
        self._unlink(path)

    def _unlink(self, path: Any, *_: Any, **__: Any) -> None:
        if self._files.pop(Path(path), None) is not None:
            self._steps.append(_Entry(self._files[Path(path).parent], gone=Path(path).name))

    _remove = _unlink

    def _replace(self, old: Any, new: Any, *_: Any, **__: Any) -> None:
        old, new = Path(old), Path(new)
        if old not in self._files:
            return
        self._content(new.read_bytes(), self._files[old], synced=False)
        file = self._files[new] = self._files.pop(old)
        source, target = self._files[old.parent], self._files[new.parent]
        if source == target:
            self._steps.append(_Entry(source, gone=old.name, name=new.name, file=file))
        else:
            self._steps += [_Entry(target, name=new.name, file=file), _Entry(source, gone=old.name)]

    _rename = _replace

    def _pwrite(self, handle: int, *_: Any, **__: Any) -> None:
        if (path := self._path(handle)) in self._files:
            self._content(path.read_bytes(), self._files[path], synced=False)

    def _fsync(self, handle: int, *_: Any, **__: Any) -> None:
        if (path := self._path(handle)) not in self._files:
            return
        kind = "folders" if self._files[path] in self._folders else "files"
        if kind == self._deaf_to:
            return
        if kind == "folders":
            self._steps.append(_Synced(self._files[path]))
        else:
            self._content(path.read_bytes(), self._files[path], synced=True)

    def _content(self, content: bytes, file: int, *, synced: bool) -> None:
        self._steps.append(_Bytes(file, content, synced))

    def _inside(self, path: Path) -> bool:
        return path.parent in self._files

    @staticmethod
    def _path(handle: int) -> Path:
        return Path(f"/proc/self/fd/{handle}").readlink()


class _Disk:
    """pyarrow's filesystem, which makes its calls where Python does not see them."""

    def __init__(self, fs: Any, recording: Recording) -> None:
        self._fs = fs
        self._recording = recording

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fs, name)

    def delete_file(self, path: str) -> None:
        Path(path).unlink()

    def move(self, old: str, new: str) -> None:
        Path(old).rename(new)

    def create_dir(self, path: str, *, recursive: bool = True) -> None:
        Path(path).mkdir(parents=recursive, exist_ok=True)


@dataclass
class _After:
    """What is sure on a disk, and what is not yet."""

    sure: dict[int, dict[str, int]] = field(default_factory=lambda: {0: {}})  # folder -> name -> file or folder
    open: dict[int, list[_Entry]] = field(default_factory=dict)  # by folder
    contents: dict[int, list[bytes]] = field(default_factory=dict)  # of each file: what was synced last, and later ones
    synced: set[int] = field(default_factory=set)
    folders: set[int] = field(default_factory=set)

    def add(self, step: _Entry | _Bytes | _Synced | _Promise) -> None:
        match step:
            case _Entry(folder):
                self.open.setdefault(folder, []).append(step)
                self.folders |= {step.file} if step.is_folder else set()
            case _Synced(folder):
                self.sure[folder] = _applied(self.sure.get(folder, {}), self.open.pop(folder, []))
            case _Bytes(file, content, synced):
                known = self.contents.get(file, [])
                self.contents[file] = [content] if synced else [*known, *([content] if content not in known else [])]
                self.synced |= {file} if synced else set()

    def trees(self, chance: random.Random) -> Iterator[Tree]:
        folders = list(self.open)
        for some in _several([_subsets(self.open[folder], chance) for folder in folders], chance):
            entries = dict(self.sure)
            for folder, changes in zip(folders, some, strict=True):
                entries[folder] = _applied(self.sure.get(folder, {}), changes)
            places = dict(self._walk(entries, 0, ""))
            unsure = [file for file in dict.fromkeys(places.values()) if file is not None and len(self._may(file)) > 1]
            for contents in _several([self._may(file) for file in unsure], chance):
                known = dict(zip(unsure, contents, strict=True))
                yield {
                    path: None if file is None else known.get(file, self._may(file)[0]) for path, file in places.items()
                }

    def _walk(
        self, entries: Mapping[int, Mapping[str, int]], folder: int, path: str
    ) -> Iterator[tuple[str, int | None]]:
        for name, file in entries.get(folder, {}).items():
            if file in self.folders:
                yield path + name, None
                yield from self._walk(entries, file, f"{path}{name}/")
            else:
                yield path + name, file

    def _may(self, file: int) -> list[bytes]:
        """What a file may hold."""
        known = self.contents.get(file, [])
        begin = known[:1] if file in self.synced else [b""]
        later = known[1:] if file in self.synced else known
        return list(dict.fromkeys([*begin, *itertools.chain.from_iterable(map(_cut, later))]))


def _cut(content: bytes) -> list[bytes]:
    return [content] if len(content) <= _SECTOR and content.endswith(b"\n") else [content, content[: len(content) // 2]]


def _applied(entries: Mapping[str, int], changes: Sequence[_Entry]) -> dict[str, int]:
    now = dict(entries)
    for change in changes:
        if change.gone is not None:
            now.pop(change.gone, None)
        if change.name is not None:
            now[change.name] = change.file
    return now


def _subsets(changes: Sequence[_Entry], chance: random.Random) -> list[Sequence[_Entry]]:
    count = len(changes)
    if count <= _ALL:
        picks = list(itertools.product([False, True], repeat=count))
    else:
        alone = [tuple(n == m for n in range(count)) for m in range(count)]
        missing = [tuple(not kept for kept in one) for one in alone]
        drawn = [tuple(chance.random() < 0.5 for _ in range(count)) for _ in range(_DRAWN)]
        picks = [(False,) * count, (True,) * count, *alone, *missing, *drawn]
    return [list(itertools.compress(changes, pick)) for pick in dict.fromkeys(picks)]


def _several(choices: Sequence[Sequence[Any]], chance: random.Random) -> Iterator[Sequence[Any]]:
    """All combinations where they are few, else some of them."""
    total = 1
    for choice in choices:
        total *= len(choice)
    if total <= 1 << _ALL:
        yield from itertools.product(*choices)
        return
    yield [choice[0] for choice in choices]
    yield [choice[-1] for choice in choices]
    for _ in range(1 << _ALL):
        yield [chance.choice(choice) for choice in choices]


def _digest(tree: Tree, promised: Sequence[Hashable]) -> bytes:
    digest = hashlib.blake2b(repr(promised).encode())
    for path in sorted(tree):
        content = tree[path]
        digest.update(f"{path} {'folder' if content is None else len(content)} ".encode() + (content or b""))
    return digest.digest()


def build(tree: Tree, root: Path) -> None:
    """The state as files."""
    root.mkdir(parents=True)
    for path, content in tree.items():
        if content is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(content)
