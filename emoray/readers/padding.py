"""How texts of different length share a batch, so that each reads as if it were alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from emoray.readers.onnx import Tokens

Way = Literal["right", "left", "alike", "alone"]  # padded there; only texts of one length together; each for itself
SIDES: tuple[Way, ...] = ("right", "left")
UNPADDED: tuple[Way, ...] = ("alike", "alone")


@dataclass(frozen=True)
class Piece:
    """What of a text goes through the network at once."""

    text: int  # the place of the text
    ids: list[int]  # with the special tokens
    own: int  # tokens without them: the weight of this piece in the mean of its text
    types: list[int] | None = None  # of a network that reads them


def known_ids(model: Any) -> int | None:
    """How many ids the network has an embedding for; None where it does not say."""
    weight = getattr(model.get_input_embeddings(), "weight", None)
    return None if weight is None else int(weight.shape[0])


def padding_id(model: Any) -> int:
    """The id that the network itself takes for padding, whatever its tokenizer says: heads on causal networks look for
    the last other one.

    A network that has none, or one beyond its embedding, gets a row more there: so it is an id that no text has.
    """
    own, known = getattr(model.config.get_text_config(), "pad_token_id", None), known_ids(model)
    if known is None:
        return int(own or 0)
    if own is not None and 0 <= own < known:
        return int(own)
    model.resize_token_embeddings(known + 1, mean_resizing=False)
    for config in (model.config, model.config.get_text_config()):
        config.pad_token_id = known
    return known


def padded(pieces: Sequence[Piece], pad: int, way: Way) -> Tokens:
    """Ids, their mask, and their types where the pieces have them."""
    width = max(len(piece.ids) for piece in pieces)
    tokens = np.zeros((2 if pieces[0].types is None else 3, len(pieces), width), dtype=np.int64)
    tokens[0] = pad
    for line, piece in enumerate(pieces):
        own = slice(width - len(piece.ids), width) if way == "left" else slice(0, len(piece.ids))
        tokens[0, line, own], tokens[1, line, own] = piece.ids, 1
        if piece.types is not None:
            tokens[2, line, own] = piece.types
    return tokens
