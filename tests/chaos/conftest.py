"""A Ray cluster of several nodes, on which programs are killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emoray.stream.nodes import Nodes


@pytest.fixture(scope="package")
def nodes() -> Iterator[Nodes]:
    """A head without CPUs and two workers, for all tests of this room that kill no node."""
    with Nodes(workers=2, cpus=2) as cluster:
        yield cluster
