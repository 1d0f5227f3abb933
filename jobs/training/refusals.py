"""The linear half of the detector of refusals: `make refusals` writes `emoray/refusals/linear.npz`.

It learns from labelled answers (`tests/study/answers_labelled`: the first set and the developing half of the second
one), from texts of our own (`refusal_texts.yaml`), and from openers of the shipped corpus, none of which declines
anything. Of the second set half of the families are held out, by a hash: a family is a kind of text in all languages,
so no translation of what was learned is held out. Thresholds come from a cross-validation over families within what
is learned from. `--judge` (`PYTHONPATH=jobs python -m training.refusals --judge`) then looks at the held-out half, and
writes what it finds into `emoray/refusals/figures.json`, with the number of looks; who tunes after such a look writes
new texts for the next one.

Nothing is drawn at random: the same texts give the same file on any machine with the same numpy and scipy, to a last
bit or two.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse
import yaml
from scipy.optimize import minimize

from emoray import refusals
from emoray.refusals import Grams, notions, patterns

Array = npt.NDArray[np.float64]

_ROOT = Path(__file__).parents[2]
_LABELLED = _ROOT / "tests" / "study" / "answers_labelled"
_OURS = Path(__file__).with_name("refusal_texts.yaml")
_CORPUS = _ROOT / "emoray" / "embedded" / "corpus"
_HOME = _ROOT / "emoray" / "refusals"
_KINDS = {"refuses": (True, False), "machine": (True, True), "answers": (False, True), "persons": (False, False)}
_SALT = 39  # of those tried, the one that halves all kinds best; chosen before any detector saw the texts
_FOLDS = 5
_GRAMS, _NOTIONS = 6.0, 0.3  # what an n-gram and a notion count beside each other
_STEPS = 120
_PRECISION = 0.985  # of what is flagged, in cross-validation
_LOOKS = 1  # at the held-out half, before this one
_PATTERNS = {"refusal": patterns.is_refusal, "role_break": patterns.breaks_role}


@dataclass(frozen=True)
class Text:
    text: str
    refusal: bool
    role_break: bool
    family: str = ""  # "": learned from in every fold
    lang: str = ""

    @property
    def fold(self) -> int:
        return hashlib.md5(self.family.encode()).digest()[1] % _FOLDS if self.family else -1


def held_out(family: str) -> bool:
    """About half of the families, fixed; none that is `known` from texts that were there before."""
    return not family.startswith("known") and hashlib.sha256(f"{_SALT}{family}".encode()).digest()[0] % 2 == 1


def labelled(*, held: bool) -> list[Text]:
    """The held-out half of the second set, or all the rest."""
    second = [_text(one, one["family"]) for one in _all(_LABELLED / "second")]
    first = [_text(one, f"first-{one['id'].partition('-')[2]}") for one in _all(_LABELLED)]
    return [one for one in second if held_out(one.family)] if held else [
        *first, *(one for one in second if not held_out(one.family))
    ]  # fmt: skip


def ours() -> list[Text]:
    written = [
        Text(text, *_KINDS[kind], lang=lang)
        for lang, of in _yaml(_OURS).items()
        for kind, texts in of.items()
        for text in texts
    ]
    openers = [line for file in sorted(_CORPUS.glob("*.yaml")) for line in _yaml(file).get("openers", [])[:20]]
    bare = [re.sub(r"\(([^|)]*)\|[^)]*\)", r"\1", line) for line in openers]
    return [*written, *(Text(line, refusal=False, role_break=False, lang="en") for line in bare)]


def features(texts: list[Text]) -> sparse.csr_matrix:
    """(texts, n-grams and notions): counts over the square root of how many there are, and what is there."""
    said = [one.text for one in texts]
    grams = Grams.of(said)
    counts = sparse.diags_array(_GRAMS / np.sqrt(np.maximum(grams.counts, 1.0))) @ _counts(grams)
    return sparse.csr_matrix(sparse.hstack([counts, notions.seen(said) * _NOTIONS]))


def fit(known: sparse.csr_matrix, true: Array) -> tuple[Array, float]:
    """Logistic regression with a ridge: the weight of each feature, and what is added."""
    turned, sign = known.T.tocsr(), 2.0 * true - 1.0

    def loss(at: Array) -> tuple[float, Array]:
        margin = sign * (known @ at[:-1] + at[-1])
        slope = -sign / (1.0 + np.exp(margin))
        cost = np.logaddexp(0.0, -margin).sum() + 0.5 * at[:-1] @ at[:-1]
        return cost, np.append(turned @ slope + at[:-1], slope.sum())

    found = minimize(loss, np.zeros(known.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}).x
    return found[:-1], float(found[-1])


def out_of_fold(known: sparse.csr_matrix, true: Array, folds: npt.NDArray[np.int64]) -> Array:
    """The scores of the labelled texts, each by a model that has not seen its family; NaN of others."""
    scores = np.full(len(true), np.nan)
    for fold in range(_FOLDS):
        weights, bias = fit(known[folds != fold], true[folds != fold])
        scores[folds == fold] = known[folds == fold] @ weights + bias
    return scores


def sure_from(scores: Array, true: Array) -> float:
    """The least score from which on enough of what is flagged is true."""
    order = np.argsort(-scores)
    precise = np.cumsum(true[order]) / np.arange(1, len(order) + 1) >= _PRECISION
    return float(scores[order[np.flatnonzero(precise)[-1]]])


def train() -> dict[str, Any]:
    texts = [*labelled(held=False), *ours()]
    known, folds = features(texts), np.array([one.fold for one in texts])
    used = np.unique(known.indices)
    kept: dict[str, Any] = {}
    for name, found in _PATTERNS.items():
        true = np.array([getattr(one, name) for one in texts], dtype=np.float64)
        by_patterns = np.array([found(one.text) for one in texts])
        scores = out_of_fold(known[:, used], true, folds) + refusals.PATTERNS * by_patterns
        sure = sure_from(scores[folds >= 0], true[folds >= 0])
        weights = np.zeros(known.shape[1])
        weights[used], bias = fit(known[:, used], true)
        kept |= _kept(name, weights, bias, sure)
        _tell(name, scores, true, sure, texts)
    return kept


def judge() -> dict[str, Any]:
    """How the whole detector does on the held-out half."""
    texts = labelled(held=True)
    found = refusals.flags([one.text for one in texts])
    names = {"refusals": "refusal", "role_breaks": "role_break"}
    figures = {
        name: _figures(np.array([getattr(one, label) for one in texts]), flagged)
        for (name, label), flagged in zip(names.items(), found, strict=True)
    }
    return {"answers": len(texts), "looks": _LOOKS + 1, **figures}


def _counts(grams: Grams) -> sparse.csr_matrix:
    rows, columns = [], []
    for order, hashes in zip(refusals._ORDERS, grams.hashes, strict=True):
        for row, (start, length) in enumerate(zip(grams.starts, grams.lengths, strict=True)):
            columns.append(hashes[start : start + max(length - order + 1, 0)].astype(np.int64))
            rows.append(np.full(len(columns[-1]), row))
    at = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_matrix((np.ones(len(at[0])), at), shape=(len(grams.lengths), 1 << refusals._BITS))


def _kept(name: str, weights: Array, bias: float, sure: float) -> dict[str, Any]:
    """Whole numbers, and what one of them is."""
    grams, seen = weights[: 1 << refusals._BITS] * _GRAMS, weights[1 << refusals._BITS :] * _NOTIONS
    scale, scale_seen = float(np.abs(grams).max() / 127), float(np.abs(seen).max() / 32767)
    return {
        name: np.round(grams / scale).astype(np.int8),
        f"{name}_notions": np.round(seen / scale_seen).astype(np.int16),
        f"{name}_scales": np.array([scale, scale_seen, bias, sure]),
    }


def _figures(true: npt.NDArray[np.bool_], flagged: npt.NDArray[np.bool_]) -> dict[str, int]:
    return {"of": int(true.sum()), "flagged": int(flagged.sum()), "both": int((true & flagged).sum())}


def _tell(name: str, scores: Array, true: Array, sure: float, texts: list[Text]) -> None:
    """What the cross-validation found, of both sets."""
    for of in ("first", "", "second"):
        among = np.array(
            [one.fold >= 0 and (not of or one.family.startswith("first") == (of == "first")) for one in texts]
        )
        flagged, both = (scores >= sure) & among, true * (scores >= sure) * among
        print(
            f"{name}, {of or 'both'}: {int(flagged.sum())} of {int(among.sum())} out of fold, precision "
            f"{both.sum() / max(flagged.sum(), 1):.3f}, recall {both.sum() / true[among].sum():.3f}"
        )


def _text(one: dict[str, Any], family: str) -> Text:
    return Text(one["text"], one["refusal"], one["role_break"], family, one["lang"])


@cache
def _all(folder: Path) -> list[dict[str, Any]]:
    return [one for file in sorted(folder.glob("*.yaml")) for one in _yaml(file)]


def _yaml(file: Path) -> Any:
    return yaml.load(file.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judge", action="store_true", help="look at the held-out half and write down what it says")
    if parser.parse_args().judge:
        found = judge()
        (_HOME / "figures.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(found))
    else:
        np.savez_compressed(_HOME / "linear.npz", **train())


if __name__ == "__main__":
    main()
