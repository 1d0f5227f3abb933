"""The linear half of the detector of refusals: `make refusals` writes `emoray/refusals/linear.npz`.

It learns from the developing half of `tests/study/answers_labelled` (by a hash of the ids; the other is held out),
from texts of our own (`refusal_texts.yaml`), and from openers of the shipped corpus, none of which declines anything.
Thresholds come from a cross-validation within the developing half. `--judge` (`PYTHONPATH=jobs python -m
training.refusals --judge`) then looks at the held-out half, and writes what it finds into
`emoray/refusals/figures.json`; who tunes after such a look writes new texts for the next one.

Nothing is drawn at random: the same texts give the same file on any machine with the same numpy, to a last bit or two.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from emoray import refusals
from emoray.refusals import Grams

Array = npt.NDArray[np.float64]

_ROOT = Path(__file__).parents[2]
_LABELLED = _ROOT / "tests" / "study" / "answers_labelled"
_OURS = Path(__file__).with_name("refusal_texts.yaml")
_CORPUS = _ROOT / "emoray" / "embedded" / "corpus"
_HOME = _ROOT / "emoray" / "refusals"
_KINDS = {"refuses": (True, False), "machine": (True, True), "answers": (False, True), "persons": (False, False)}
_RIDGE = 0.003
_FOLDS = 5
_STEPS = 12
_PRECISION = 0.985  # of what the model flags by itself, in cross-validation
_FOUND = {"refusal": 0.985, "role_break": 0.8}  # of what is true, at least so much is looked at by the patterns


@dataclass(frozen=True)
class Text:
    text: str
    refusal: bool
    role_break: bool
    fold: int = -1  # -1: learned from in every fold


def held_out(id_: str) -> bool:
    """Half of the ids, fixed."""
    return hashlib.sha256(id_.encode()).digest()[0] % 2 == 1


def labelled(*, held: bool) -> list[Text]:
    found = [one for file in sorted(_LABELLED.glob("*.yaml")) for one in _yaml(file)]
    return [
        Text(one["text"], one["refusal"], one["role_break"], hashlib.md5(one["id"].encode()).digest()[1] % _FOLDS)
        for one in found
        if held_out(one["id"]) == held
    ]


def ours() -> list[Text]:
    written = [
        Text(text, *_KINDS[kind]) for of in _yaml(_OURS).values() for kind, texts in of.items() for text in texts
    ]
    openers = [line for file in sorted(_CORPUS.glob("*.yaml")) for line in _yaml(file).get("openers", [])[:20]]
    return [*written, *(Text(re.sub(r"\(([^|)]*)\|[^)]*\)", r"\1", line), False, False) for line in openers)]


def features(texts: list[Text]) -> Array:
    """(texts, n-grams): counts over the square root of how many there are."""
    grams = Grams.of([one.text for one in texts])
    rows = np.zeros((len(texts), 1 << refusals._BITS), dtype=np.float32)
    for order, hashes in zip(refusals._ORDERS, grams.hashes, strict=True):
        for row, (start, length) in enumerate(zip(grams.starts, grams.lengths, strict=True)):
            np.add.at(rows[row], hashes[start : start + max(length - order + 1, 0)], 1.0)
    return np.asarray(rows / np.sqrt(np.maximum(grams.counts, 1.0)).astype(np.float32)[:, None])


def fit(kernel: Array, true: Array) -> tuple[Array, float]:
    """Logistic regression with a ridge, by Newton's steps on the kernel; the factor of each text, and what is added."""
    n = len(true)
    alpha, bias = np.zeros(n), 0.0
    for _ in range(_STEPS):
        score = kernel @ alpha + bias
        chance = 1.0 / (1.0 + np.exp(-score))
        weight = np.maximum(chance * (1.0 - chance), 1e-9)
        whole = np.block([[kernel + np.diag(_RIDGE / weight), np.ones((n, 1))], [np.ones((1, n)), np.zeros((1, 1))]])
        *alpha_, bias = np.linalg.solve(whole, np.append(score + (true - chance) / weight, 0.0))
        alpha = np.array(alpha_)
    return alpha, float(bias)


def out_of_fold(kernel: Array, true: Array, folds: npt.NDArray[np.int64]) -> Array:
    """The scores of the labelled texts, each by a model that has not seen it; NaN of others."""
    scores = np.full(len(true), np.nan)
    for fold in range(_FOLDS):
        test, learn = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        alpha, bias = fit(kernel[np.ix_(learn, learn)], true[learn])
        scores[test] = kernel[np.ix_(test, learn)] @ alpha + bias
    return scores


def sure_from(scores: Array, true: Array) -> float:
    """The least score from which on enough of what is flagged is true."""
    order = np.argsort(-scores)
    precise = np.cumsum(true[order]) / np.arange(1, len(order) + 1) >= _PRECISION
    return float(scores[order[np.flatnonzero(precise)[-1]]])


def least(scores: Array, true: Array, found: float) -> float:
    """The score that so many of the true ones reach."""
    return float(np.quantile(scores[true > 0], 1.0 - found))


def train() -> dict[str, Any]:
    texts = [*labelled(held=False), *ours()]
    rows, folds = features(texts), np.array([one.fold for one in texts])
    kernel, known = (rows @ rows.T).astype(np.float64), folds >= 0
    kept: dict[str, Any] = {}
    thresholds: list[float] = []
    for name in ("refusal", "role_break"):
        true = np.array([getattr(one, name) for one in texts], dtype=np.float64)
        scores = out_of_fold(kernel, true, folds)[known]
        thresholds += [sure_from(scores, true[known])] if name == "refusal" else []
        thresholds.append(least(scores, true[known], _FOUND[name]))
        alpha, bias = fit(kernel, true)
        weights = alpha @ rows
        scale = float(np.abs(weights).max() / 127)
        kept |= {name: np.round(weights / scale).astype(np.int8), f"{name}_scale_bias": np.array([scale, bias])}
        _tell(name, scores, true[known], thresholds)
    return kept | {"thresholds": np.array(thresholds)}


def judge() -> dict[str, Any]:
    """How the whole detector does on the held-out half."""
    texts = labelled(held=True)
    found = refusals.flags([one.text for one in texts])
    names = {"refusals": "refusal", "role_breaks": "role_break"}
    figures = {
        name: _figures(np.array([getattr(one, label) for one in texts]), flagged)
        for (name, label), flagged in zip(names.items(), found, strict=True)
    }
    return {"answers": len(texts), **figures}


def _figures(true: npt.NDArray[np.bool_], flagged: npt.NDArray[np.bool_]) -> dict[str, int]:
    return {"of": int(true.sum()), "flagged": int(flagged.sum()), "both": int((true & flagged).sum())}


def _tell(name: str, scores: Array, true: Array, thresholds: list[float]) -> None:
    for at in thresholds:
        flagged = scores >= at
        both = true[flagged].sum()
        print(
            f"{name}: from {at:.2f} on {int(flagged.sum())} of {len(true)} out of fold, precision "
            f"{both / max(flagged.sum(), 1):.3f}, recall {both / true.sum():.3f}"
        )


def _yaml(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


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
