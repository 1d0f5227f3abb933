"""The speaker with fixed lines keeps the rate that its latency and its places give."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from types import SimpleNamespace

import pytest

from emoray.hosts import scripted
from emoray.hosts.scripted import ScriptedHost
from emoray.spec.models import Scripted


@pytest.mark.parametrize("in_flight", [1, 5, 24, 100])
@pytest.mark.parametrize("block", [1, 4, 7, 64])
def test_every_place_is_used_however_small_the_blocks_are(
    in_flight: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripted, "time", SimpleNamespace(monotonic=lambda: 0.0))
    host = ScriptedHost(Scripted(host="scripted", name="m", in_flight=in_flight, latency_s=1.0))
    asks = iter(range(20 * max(in_flight, block)))
    answered: Counter[float] = Counter()
    while some := list(islice(asks, block)):
        for group in host._groups(some):  # type: ignore[arg-type]
            answered[host._due(len(group))] += len(group)

    asked = answered.total()
    assert max(answered.values()) <= in_flight
    assert max(answered) <= 1.3 * asked / in_flight + 1
