"""Any Hugging Face sequence classifier with the 28 GoEmotions labels.

Soft-max or sigmoid follows the model's own config (`problem_type`); labels may be spelled as they like, or be
`LABEL_0` … `LABEL_27` in GoEmotions order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from emoray import embedded
from emoray.readers import Reading, ReaderDown
from emoray.spec import GoEmotionsReader
from emoray.study.goemotions import LABELS, canonical_label


class GoEmotions:
    """One classifier on one device."""

    def __init__(self, entry: GoEmotionsReader) -> None:
        """Loads the classifier; ReaderDown where that cannot be done or a label is missing."""
        torch.set_num_threads(max(1, math.ceil(entry.cpus)))
        self.name = entry.name
        self._batch_size = entry.batch_size
        self._tokenizer, self._model = _load(entry)
        self._device = self._model.device
        self._order = _label_order(entry, dict(self._model.config.id2label))
        self._sigmoid = self._model.config.problem_type == "multi_label_classification"
        self._longest = _longest(entry, self._tokenizer, self._model.config)
        own = entry.model == "embedded"
        hub = getattr(self._model.config, "_commit_hash", None) or entry.revision
        self.revision: str | None = embedded.CHECKSUMS["reader"][:12] if own else hub

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """Readings in the order of the texts; inside, texts of like length share a batch."""
        encodings = self._tokenizer(list(texts), truncation=True, max_length=self._longest).encodings if texts else []
        readings: list[Reading | None] = [None] * len(encodings)
        for places in self._batches([len(encoding.ids) for encoding in encodings]):
            probabilities = self._probabilities([encodings[place].ids for place in places])
            for place, row in zip(places, probabilities, strict=True):
                readings[place] = Reading(row, truncated=bool(encodings[place].overflowing))
        return [reading for reading in readings if reading is not None]

    def close(self) -> None:
        del self._model
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        by_length = sorted(range(len(lengths)), key=lambda place: lengths[place])
        for start in range(0, len(by_length), self._batch_size):
            yield by_length[start : start + self._batch_size]

    @torch.inference_mode()
    def _probabilities(self, ids: list[list[int]]) -> npt.NDArray[np.float32]:
        """(rows, 28) in GoEmotions order."""
        padded = self._tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(self._device)
        logits = self._model(**padded).logits.float()
        probabilities = logits.sigmoid() if self._sigmoid else logits.softmax(dim=-1)
        return np.ascontiguousarray(probabilities.cpu().numpy()[:, self._order], dtype=np.float32)


def _load(entry: GoEmotionsReader) -> tuple[Any, Any]:
    path = str(embedded.reader_path()) if entry.model == "embedded" else entry.model
    device = "cuda" if entry.gpus and torch.cuda.is_available() else "cpu"
    auto = "bfloat16" if device == "cuda" else "float32"
    dtype = getattr(torch, auto if entry.dtype == "auto" else entry.dtype)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=entry.revision)
        model = AutoModelForSequenceClassification.from_pretrained(path, revision=entry.revision, dtype=dtype)
    except (OSError, ValueError) as wrong:
        reason = str(wrong).strip().splitlines()[0]
        raise ReaderDown(f"reader {entry.name!r} ({entry.model}) cannot be loaded: {reason}") from wrong
    return tokenizer, model.to(device).eval()


def _label_order(entry: GoEmotionsReader, id2label: dict[int, str]) -> list[int]:
    """Which of the model's outputs stands for each GoEmotions label."""
    found = {canonical_label(str(spelling)): index for index, spelling in id2label.items()}
    missing = [label for label in LABELS if label not in found]
    if missing or len(id2label) != len(LABELS):
        known = ", ".join(str(label) for label in list(id2label.values())[:5])
        raise ReaderDown(
            f"reader {entry.name!r} ({entry.model}) has {len(id2label)} labels ({known}, …) and none for "
            f"{', '.join(missing[:3]) or 'some'}; it must have the 28 GoEmotions labels"
        )
    return [found[label] for label in LABELS]


def _longest(entry: GoEmotionsReader, tokenizer: Any, config: Any) -> int:
    """The most tokens the model can read: positions of the network, less those that RoBERTa-like models skip."""
    positions = int(getattr(config, "max_position_embeddings", 512) or 512)
    if getattr(config, "model_type", "") in ("roberta", "xlm-roberta", "camembert"):
        positions -= int(config.pad_token_id or 0) + 1
    return min(positions, int(tokenizer.model_max_length), entry.max_tokens or positions)
