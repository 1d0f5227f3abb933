"""What each output of a classifier is called, and how it is meant: by its config.json, which can contradict itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from emoray.study.goemotions import plain_label

_NUMBERED = re.compile(r"LABEL_\d+")  # transformers' own, where nobody named them
_SEVERAL = re.compile(r"multi[-_ ]?label", re.IGNORECASE)


class Unclear(ValueError):
    """A config.json by which nobody can tell what the outputs are; the message is the end of a sentence."""


def output_labels(id2label: Mapping[int, str], told: Mapping[str, Any]) -> dict[int, str]:
    """The label of each output, from 0 on; `told` is config.json as it is written.

    `id2label` counts, as for transformers; where it only numbers them, label2id does. Unclear where the two contradict
    each other, a label stands twice, or there is another number of outputs; where only label2id has names, also by it.
    """
    named = {int(number): str(label) for number, label in id2label.items()}
    if sorted(named) != list(range(len(named))):
        raise Unclear(f"numbers its outputs {min(named)} … {max(named)} in id2label, and they are 0 … {len(named) - 1}")
    label, count = Counter(map(plain_label, named.values())).most_common(1)[0]
    if count > 1:
        raise Unclear(f"calls {count} outputs {label!r}")
    other = _inverted(told.get("label2id"))
    if set(other) == set(named) and not _only_numbered(other):
        named = other if _only_numbered(named) else named
        _check_agree(named, other)
    elif _only_numbered(named) and (real := _names(told.get("label2id"))):
        raise Unclear(
            f"has {len(named)} outputs without names, and names in label2id, such as {real[0]!r}, that do not number "
            f"them 0 … {len(named) - 1}"
        )
    return named


def _only_numbered(labels: Mapping[int, str]) -> bool:
    return all(map(_NUMBERED.fullmatch, labels.values()))


def _names(label2id: object) -> list[str]:
    """Those that somebody gave."""
    labels = map(str, label2id) if isinstance(label2id, Mapping) else ()
    return [label for label in labels if not _NUMBERED.fullmatch(label)]


def _check_agree(named: Mapping[int, str], other: Mapping[int, str]) -> None:
    """Unclear where a label stands for one output here and for another there; another spelling contradicts nothing."""
    theirs = {plain_label(label): number for number, label in other.items()}
    for number, label in named.items():
        if (elsewhere := theirs.get(plain_label(label), number)) != number:
            raise Unclear(f"contradicts itself: {label!r} is output {number} by id2label, {elsewhere} by label2id")


def several_at_once(config: Any) -> bool | None:
    """Whether a text can have several labels, each with a chance of its own; None where the config does not say.

    Unclear where the outputs are not said to be chances of labels.
    """
    kind = config.problem_type or None
    if kind not in (None, "multi_label_classification", "single_label_classification"):
        raise Unclear(f"says problem_type {kind!r}, by which its outputs are no chances of labels")
    if kind:
        return bool(kind == "multi_label_classification")
    if any(map(_SEVERAL.search, getattr(config, "architectures", None) or [])):
        return True
    return {"sigmoid": True, "softmax": False}.get(str(getattr(config, "function_to_apply", None)).lower())


def _inverted(label2id: object) -> dict[int, str]:
    """{} for what is no numbering."""
    if not isinstance(label2id, Mapping):
        return {}
    whole = {number: str(label) for label, number in label2id.items() if isinstance(number, int)}
    return whole if len(whole) == len(label2id) else {}
