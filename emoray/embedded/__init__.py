"""The two small models that ship with the package: a generator to ask and a reader to read with.

Both are ordinary Hugging Face folders; nothing else in emoray knows that they are small. Their cards (README.md in
each folder) say what they are; `jobs/train_embedded.py` makes them anew.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

_HERE = Path(__file__).parent
CHECKSUMS = {  # sha256 of model.safetensors
    "generator": "06abffe0d27a7acf58583da6bc56445ae9cf9b083e0586eb4fd87d508f5ccbcf",
    "reader": "545a7d1eab4d868cf715302afebc840e48d84c009236a88967963fb25fa7ff8b",
}


class DamagedModel(RuntimeError):
    """A shipped weight file is not the one that was shipped."""


def generator_path() -> Path:
    """The folder of the embedded generator."""
    return _HERE / "generator"


def reader_path() -> Path:
    """The folder of the embedded reader."""
    return _HERE / "reader"


def verify() -> None:
    """Nothing, or DamagedModel: both weight files are compared with their checksums."""
    for folder in (generator_path(), reader_path()):
        weights = folder / "model.safetensors"
        found = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else "no file"
        if found != CHECKSUMS[folder.name]:
            raise DamagedModel(f"{weights} is damaged: its sha256 is {found}, not {CHECKSUMS[folder.name]}")
