"""A disk of 512 kB, for what must be said and kept when it is full."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 512 kB."""
    with disks.small_disk(tmp_path / "disk", "512k") as disk:
        yield disk
