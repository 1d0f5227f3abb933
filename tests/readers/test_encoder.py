"""What a GPU without room does, which needs no GPU to be seen: the network that says so stands in for it."""

from __future__ import annotations

import pytest
import torch

from emoray.readers.encoder import Encoder
from emoray.readers.onnx import Tokens
from emoray.readers.protocol import ReaderDown
from emoray.spec.readers import GoEmotionsReader

TEXTS = ["What a day!", "No.", "I am so happy that I could sing all day long", "Leave me alone, I am tired of this"]


def with_room_for(tokens: int) -> Encoder:
    """The embedded classifier, on a device that can take so many tokens at once."""
    encoder = Encoder(GoEmotionsReader(kind="goemotions", name="r", batch_tokens=1024))
    run = encoder._network

    def narrow(padded: Tokens) -> torch.Tensor:
        if padded[0].size > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return run(padded)

    encoder._network = narrow
    return encoder


def test_batches_for_which_a_gpu_has_no_room_are_halved_and_read_the_same() -> None:
    wide, narrow = with_room_for(1024), with_room_for(16)
    pieces = wide.pieces(TEXTS)[0]

    assert narrow.outputs(pieces) == pytest.approx(wide.outputs(pieces), abs=1e-5)

    assert narrow._most_tokens == 16  # tried once, and kept
    assert wide._most_tokens == 1024


def test_a_gpu_without_room_for_one_text_is_told_of_with_what_helps() -> None:
    narrow = with_room_for(4)

    with pytest.raises(ReaderDown, match=r"reader 'r' \(embedded\): its share of a GPU .* no room for a text of \d+"):
        narrow.outputs(narrow.pieces(TEXTS)[0])
