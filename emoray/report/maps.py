"""The same readings placed by every shipped label map: does it matter where the labels lie?

A map decides what every label scores, and none of them is the paper's, which is not known. So the report says beside
its own what the others give. Only readers of the 28 GoEmotions labels have such a choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from emoray.analysis.intervals import Interval
from emoray.analysis.paired import differences
from emoray.analysis.simultaneous import Rank, ranks
from emoray.analysis.summaries import Moments, moments
from emoray.analysis.tally import Tally
from emoray.study.circumplex import Array, cosines
from emoray.study.goemotions import LABELS, label_map, shipped_maps
from emoray.study.scoring import NeutralRule

_PREFIX = "map_"
_MOST = 40  # models whose pairs are tested under every map; of more, no place is ruled out
_UNUSED = ("squares", "unit_valence", "unit_arousal")  # of what moments are made of


@dataclass(frozen=True)
class ByMap:
    """One model by one reader under one shipped map; `rank` is among the models that the reader has scored."""

    label_map: str
    reader: str
    model: str
    cosine: Interval
    rank: Rank


def map_values(scored: pa.Table, neutral: NeutralRule) -> dict[str, npt.NDArray[np.generic]]:
    """The sums that a comparison of maps needs, from SCORED rows: of top labels, under every shipped map."""
    codes = _codes(scored)
    asked = np.stack([scored[name].to_numpy() for name in ("valence", "arousal")], axis=1)
    found: dict[str, npt.NDArray[np.generic]] = {f"{_PREFIX}read": codes >= 0}
    for name in shipped_maps():
        score = cosines(asked, _vectors(name)[codes])
        score = np.where(np.isnan(score) & (codes >= 0), 0.0, score) if neutral == "zero" else score
        found |= {f"{_PREFIX}{name}_n": ~np.isnan(score), f"{_PREFIX}{name}_sum": score}
    return found


def by_maps(tallies: Mapping[tuple[str, str], Tally], level: float) -> tuple[ByMap, ...]:
    """Every map, then every reader of GoEmotions labels and its models, in the order given."""
    return tuple(
        one
        for name in shipped_maps()
        for reader in dict.fromkeys(reader for reader, _ in tallies)
        for one in _of_reader(name, reader, {m: tally for (r, m), tally in tallies.items() if r == reader}, level)
    )


def _of_reader(name: str, reader: str, tallies: Mapping[str, Tally], level: float) -> list[ByMap]:
    every = {model: _moments(tally, name) for model, tally in tallies.items()}
    scored = {model: one for model, one in every.items() if one.scored}
    means = {model: one.interval(level) for model, one in scored.items()}
    pairs = {model: one.by_question for model, one in scored.items()}
    apart = differences(pairs, level) if len(pairs) <= _MOST else ()
    places = ranks(list(means), [mean.estimate for mean in means.values()], apart, level)
    return [ByMap(name, reader, model, mean, rank) for (model, mean), rank in zip(means.items(), places, strict=True)]


def _moments(tally: Tally, name: str) -> Moments:
    sums = {f"cosine_{what}": tally.sums[f"{_PREFIX}{name}_{what}"] for what in ("n", "sum")}
    nothing = {f"cosine_{what}": np.zeros_like(sums["cosine_n"]) for what in _UNUSED}
    return moments(Tally(tally.axes, (sums | nothing)).without("refused"), "cosine")


def _codes(scored: pa.Table) -> npt.NDArray[np.int64]:
    """(rows,) of the top label's place among the 28; -1 where none of them was read."""
    encoded = scored["label"].combine_chunks().dictionary_encode()
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    places = {label: place for place, label in enumerate(LABELS)}
    known = np.array([*(places.get(label, -1) for label in encoded.dictionary.to_pylist()), -1], dtype=np.int64)
    codes = known[encoded.indices.fill_null(len(known) - 1).to_numpy()]
    own = scored["labels"].is_valid().to_numpy()
    return np.where(own, -1, codes)


@cache
def _vectors(name: str) -> Array:
    """(29, 2): the places of the labels, and a last one that is none."""
    return np.vstack([label_map(name).vectors(), [[np.nan, np.nan]]])
