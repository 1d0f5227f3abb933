"""What is owed = what is asked − what is settled, and which of several rows of one key counts.

Arithmetic on keys, no files: a key (32 hex digits, 128 bits) is two unsigned 64-bit words here, so that ten million of
them are 160 MB, sort in seconds and travel between processes without a copy.
"""

from __future__ import annotations

import binascii
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from emoray.run_folder import columns
from emoray.run_folder.generations import Files

Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]
KEY_DIGITS = 32
MONEY = ("prompt_tokens", "completion_tokens", "cost_usd", "read_cost_usd")  # the columns that say what a row cost
_UNREAD = "unread"  # the kind of a row whose answer no reader could read
_NO_WORDS: Words = np.empty(0, dtype=np.uint64)
_NO_FILES = Files()
_NO_CODES: npt.NDArray[np.int16] = np.empty(0, dtype=np.int16)


class Keyed(Protocol):
    """Anything that was asked: a Prompt, an Ask."""

    @property
    def key(self) -> str: ...


_Asked = TypeVar("_Asked", bound=Keyed)


@dataclass(frozen=True, eq=False)
class KeySet:
    """A set of keys: sorted by (high, low), each once. Two flat arrays, so Ray shares them without copying."""

    high: Words = field(default_factory=_NO_WORDS.copy)  # the first 16 hex digits of each key
    low: Words = field(default_factory=_NO_WORDS.copy)  # the last 16

    @classmethod
    def of(cls, keys: Sequence[str] | npt.NDArray[Any] | pa.Array) -> KeySet:
        """The set of these keys, in any order and with repeats; ValueError for what is no key."""
        return cls.of_words(*split_keys(keys))

    @classmethod
    def of_words(cls, high: Words, low: Words) -> KeySet:
        order = _sorted(high, low)
        high, low = high[order], low[order]
        new = _starts(high, low)
        return cls(high, low) if new.all() else cls(high[new], low[new])

    @classmethod
    def of_parts(cls, parts: Sequence[tuple[Words, Words]]) -> KeySet:
        """The set of all (high, low) words; each key once, however often it comes."""
        high = np.concatenate([_NO_WORDS, *(high for high, _ in parts)])
        low = np.concatenate([_NO_WORDS, *(low for _, low in parts)])
        return cls.of_words(high, low)

    def has(self, keys: Sequence[str] | npt.NDArray[Any] | pa.Array) -> Mask:
        """Which of these keys are in the set, in their order."""
        return self.has_words(*split_keys(keys))

    def has_words(self, high: Words, low: Words) -> Mask:
        found = np.zeros(len(high), dtype=np.bool_)
        open_ = np.argsort(high)  # in order, so that the search walks through memory instead of jumping
        at = np.searchsorted(self.high, high[open_])
        while len(open_):  # once, and once more for each pair of keys that share their first 64 bits
            inside = at < len(self.high)
            at, open_ = at[inside], open_[inside]
            same = self.high[at] == high[open_]
            at, open_ = at[same], open_[same]
            hit = self.low[at] == low[open_]
            found[open_[hit]] = True
            at, open_ = at[~hit] + 1, open_[~hit]
        return found

    def union(self, *others: KeySet) -> KeySet:
        return KeySet.of_parts([(one.high, one.low) for one in (self, *others)])

    def keys(self) -> list[str]:
        """As hex digits, sorted."""
        return hexes(self.high, self.low)

    def __len__(self) -> int:
        return len(self.high)

    @property
    def nbytes(self) -> int:
        return int(self.high.nbytes + self.low.nbytes)


def owed(asked: Iterable[_Asked], settled: KeySet, *, chunk: int = 8192) -> Iterator[_Asked]:
    """What of the asked is not settled, in its order; holds one chunk at a time."""
    stream = iter(asked)
    while some := list(itertools.islice(stream, chunk)):
        done = settled.has([one.key for one in some])
        yield from (one for one, is_done in zip(some, done, strict=True) if not is_done)


def owed_rows(table: pa.Table, settled: KeySet) -> pa.Table:
    """The rows of a table whose key is not settled, in their order."""
    done = settled.has(table["key"])
    return table if not done.any() else table.filter(pa.array(~done))


def winners(high: Words, low: Words, good: Mask, when: Places) -> Places:
    """The place of the one row that counts for each key, in the order of keys.

    A good row (an answer) wins over a bad one; of good rows the earliest, of bad ones the latest; `when` decides,
    and where it ties the place does.
    """
    order = _sorted(high, low)
    new = _starts(high[order], low[order])
    if new.all():
        return order
    group = np.cumsum(new) - 1
    several = np.bincount(group)[group] > 1
    places, groups = order[several], group[several]
    sign = np.where(good[places], 1, -1)
    best = np.lexsort((places * sign, when[places] * sign, ~good[places], groups))
    first = _starts(groups[best], groups[best])
    chosen = order[new]
    chosen[groups[best[first]]] = places[best[first]]
    return chosen


@dataclass(frozen=True)
class Spent:
    """What rows cost, and how many of them are answers that do not count."""

    spare: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    read_cost_usd: float = 0.0  # by judges

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.spare + other.spare,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cost_usd + other.cost_usd,
            self.read_cost_usd + other.read_cost_usd,
        )

    @classmethod
    def of(cls, table: pa.Table | pa.RecordBatch) -> Spent:
        """What the rows of a table cost; what is no amount (NaN, endless, below zero) is not known, as a null is."""
        return cls(0, *(_known(table[name]) if name in table.schema.names else 0 for name in MONEY))

    @classmethod
    def told(cls, values: Mapping[str, Any]) -> Spent:
        """By its fields; what is no amount is not known. TypeError for another field, or what is no number."""
        odd = [name for name, value in values.items() if not (math.isfinite(value) and value >= 0)]
        return cls(**{**values, **dict.fromkeys(odd, 0)})

    def minus(self, other: Spent) -> Spent:
        return self + Spent(*(-value for value in other.__dict__.values()))


@dataclass(frozen=True)
class Keys:
    """The keys of one file, in its order, and what decides which rows count."""

    high: Words
    low: Words
    good: Mask  # whether the row settles its key
    outcome: npt.NDArray[np.int16]  # code of its kind
    kinds: tuple[str, ...]  # the kinds by code
    when: Places
    replaces: tuple[str, ...]  # the names of the files that do not count once this one exists
    spent: Spent  # by its rows, and by those that a compaction left out
    files: Files = _NO_FILES  # the smallest ones that it is, or was merged from
    taken: Files = _NO_FILES  # what it has taken the place of, over all generations

    @classmethod
    def of(
        cls,
        batches: Iterable[pa.RecordBatch],
        *,
        when: Places,
        replaces: Sequence[str],
        dropped: Spent,
        files: Files = _NO_FILES,
        taken: Files = _NO_FILES,
    ) -> Keys:
        """Of the columns of a file. ValueError when there is not one `when` per row, or a key is none."""
        kinds: dict[str, int] = {columns.ANSWERED: 0}
        spent = [Spent()]
        parts = [(split_keys(batch["key"]), _codes(batch, kinds)) for batch in _tallied(batches, spent)]
        high = np.concatenate([_NO_WORDS, *(pair[0] for pair, _ in parts)])
        low = np.concatenate([_NO_WORDS, *(pair[1] for pair, _ in parts)])
        outcome = np.concatenate([_NO_CODES, *(codes for _, codes in parts)])
        if len(when) != len(high):
            raise ValueError(f"{len(high)} rows, but the time of {len(when)}")
        all_spent = dropped + spent[0]
        return cls(high, low, outcome == 0, outcome, tuple(kinds), when, tuple(replaces), all_spent, files, taken)

    def bare(self) -> Keys:
        """The same file without its rows: what it cost, and what it replaces."""
        none = {name: getattr(self, name)[:0].copy() for name in ("high", "low", "good", "outcome", "when")}
        return replace(self, **none)


@dataclass(frozen=True)
class Census:
    """All rows of the files that count, end to end, and the place of the one that counts for each key."""

    names: list[str]
    starts: Places  # where the rows of each file begin, and the end
    high: Words
    low: Words
    good: Mask
    outcome: npt.NDArray[np.int16]
    kinds: list[str]
    chosen: Places  # sorted by key
    spent: Spent
    torn: list[str]
    replaced: list[str]
    taken: Files = _NO_FILES  # all files whose rows are in these, over all generations

    @classmethod
    def of(cls, found: Mapping[str, Keys], *, torn: list[str], replaced: list[str]) -> Census:
        keys = list(found.values())
        kinds = {kind: code for code, kind in enumerate(dict.fromkeys(k for one in keys for k in one.kinds))}
        outcome = [np.array([kinds[k] for k in one.kinds], dtype=np.int16)[one.outcome] for one in keys]
        high = np.concatenate([_NO_WORDS, *(one.high for one in keys)])
        low = np.concatenate([_NO_WORDS, *(one.low for one in keys)])
        good = np.concatenate([np.empty(0, dtype=np.bool_), *(one.good for one in keys)])
        when = np.concatenate([np.empty(0, dtype=np.int64), *(one.when for one in keys)])
        starts = np.cumsum([0, *(len(one.high) for one in keys)])
        spent = sum((one.spent for one in keys), Spent())
        return cls(
            names=list(found), starts=starts, high=high, low=low, good=good,
            outcome=np.concatenate([_NO_CODES, *outcome]), kinds=list(kinds),
            chosen=winners(high, low, good, when), spent=spent, torn=torn, replaced=replaced,
            taken=Files.union(files for one in keys for files in (one.files, one.taken)),
        )  # fmt: skip

    @property
    def all_spent(self) -> Spent:
        """All that was ever spent, and all answers that do not count, also those that a compaction left out."""
        spare = int(self.good.sum()) - int(self.good[self.chosen].sum())
        return self.spent + Spent(spare=spare)

    def without(self, seen: KeySet) -> Census:
        """Of the keys that are not in this set."""
        if not len(seen):
            return self
        done = seen.has_words(self.high[self.chosen], self.low[self.chosen])
        return Census(**{**self.__dict__, "chosen": self.chosen[~done]})

    def by_file(self) -> Iterator[tuple[str, Places, Places]]:
        """Of each file that has any: the places of the rows that count, ascending, and their ranks by key."""
        ranks = np.argsort(self.chosen, kind="stable")
        places = self.chosen[ranks]
        bounds = np.searchsorted(places, self.starts)
        for i, name in enumerate(self.names):
            some = slice(bounds[i], bounds[i + 1])
            if some.start < some.stop:
                yield name, places[some] - self.starts[i], ranks[some]


def split_keys(keys: Sequence[str] | npt.NDArray[Any] | pa.Array) -> tuple[Words, Words]:
    """The high and low words of keys; ValueError for what is not 32 hex digits."""
    try:
        digits = _digits(keys)
        raw = np.frombuffer(binascii.unhexlify(digits), dtype=">u8").reshape(-1, 2)
    except (ValueError, UnicodeEncodeError) as wrong:
        raise ValueError(f"a key is {KEY_DIGITS} hex digits, and not every one of these is: {wrong}") from None
    return raw[:, 0].astype(np.uint64), raw[:, 1].astype(np.uint64)


def hexes(high: Words, low: Words) -> list[str]:
    """The keys of these words, as hex digits."""
    raw = np.column_stack([high, low]).astype(">u8").tobytes().hex()
    return [raw[i : i + KEY_DIGITS] for i in range(0, len(raw), KEY_DIGITS)]


def _digits(keys: Sequence[str] | npt.NDArray[Any] | pa.Array) -> Any:
    """All digits of all keys end to end, as bytes."""
    if isinstance(keys, pa.ChunkedArray):
        return b"".join(_arrow_digits(chunk) for chunk in keys.chunks)
    if isinstance(keys, pa.Array):
        return _arrow_digits(keys)
    texts: Sequence[str] = keys.astype(str).tolist() if isinstance(keys, np.ndarray) else keys
    odd = next((text for text in texts if len(text) != KEY_DIGITS), None)
    if odd is not None:
        raise ValueError(f"got {odd!r}")
    return "".join(texts).encode("ascii")


def _arrow_digits(array: pa.Array) -> Any:
    if array.null_count:
        raise ValueError("got a null")
    if not len(array):
        return b""
    if array.type != pa.string():
        array = array.cast(pa.string())
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int32)[array.offset : array.offset + len(array) + 1]
    if (np.diff(offsets) != KEY_DIGITS).any():
        raise ValueError("got one of another length")
    return memoryview(array.buffers()[2])[offsets[0] : offsets[-1]]


def _known(column: pa.Array | pa.ChunkedArray) -> Any:
    """The sum of what is an amount."""
    amounts = column.filter(pc.and_(pc.is_finite(column), pc.greater_equal(column, 0)))
    return pc.sum(amounts).as_py() or 0


def _sorted(high: Words, low: Words) -> Places:
    """The order that sorts by (high, low); stable."""
    order = np.argsort(high, kind="stable")
    top = high[order]
    rest = low[order]
    if ((top[1:] == top[:-1]) & (rest[1:] != rest[:-1])).any():  # two keys that share their first 64 bits
        return np.lexsort((low, high))
    return order


def _starts(high: Words | Places, low: Words | Places) -> Mask:
    """Of sorted pairs: where a new one begins."""
    new = np.ones(len(high), dtype=np.bool_)
    new[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    return new


def _tallied(batches: Iterable[pa.RecordBatch], spent: list[Spent]) -> Iterator[pa.RecordBatch]:
    """The same batches; what their rows cost is added to spent[0] as they pass."""
    for batch in batches:
        spent[0] += Spent.of(batch)
        yield batch


def _codes(batch: pa.RecordBatch, kinds: dict[str, int]) -> npt.NDArray[np.int16]:
    """The code of each row's kind; 0 for one that settles its key. New kinds are added."""
    column = batch["outcome"].dictionary_encode()
    table = [kinds.setdefault(kind or "unknown", len(kinds)) for kind in column.dictionary.to_pylist()]
    unknown = kinds.setdefault("unknown", len(kinds)) if column.null_count else 0
    codes = np.array([*table, unknown], dtype=np.int16)
    found: npt.NDArray[np.int16] = codes[column.indices.fill_null(len(table)).to_numpy(zero_copy_only=False)]
    if "read_error" in batch.schema.names and batch["read_error"].null_count < len(batch):
        unread = (found == 0) & batch["read_error"].is_valid().to_numpy(zero_copy_only=False)
        found[unread] = kinds.setdefault(_UNREAD, len(kinds))
    return found
