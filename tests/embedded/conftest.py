"""The embedded models, loaded once; the code that trained them lives in jobs/, so it is put on the path here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "jobs"))

torch.set_num_threads(1)  # on a busy machine more threads only wait for one another; these models are tiny

GOEMOTIONS = ROOT.parent / "shared" / "goemotions"


@pytest.fixture(scope="session")
def goemotions() -> Path:
    if not (GOEMOTIONS / "test.tsv").is_file():
        pytest.skip(f"the GoEmotions comments are not shipped, and {GOEMOTIONS} has none")
    return GOEMOTIONS


@pytest.fixture(scope="session")
def voice() -> Any:
    from training.generator_figures import Voice

    from emoray.embedded import generator_path

    return Voice(generator_path())
