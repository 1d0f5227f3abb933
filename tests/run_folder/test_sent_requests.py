"""What a tab says of requests that are not sent yet, of those that are, and of those that never were."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emoray.hosts.hosted_api import HostedApi
from emoray.hosts.protocol import Ask, HostDown, Reply
from emoray.rate_limits.local import LocalLimiter
from emoray.rehearsal.behaviour import Behaviour
from emoray.rehearsal.provider import Provider
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.partition import Partition
from emoray.run_folder.tabs import PartTab, lost_usd
from emoray.spec.accounts import Account, Price, Retry
from emoray.spec.models import Hosted
from tests.programs import Held, until

EACH_USD = 0.001
ASKS = [Ask(f"{number:032x}", [{"role": "user", "content": "Hm?"}], 1, None, None, 10) for number in range(40)]


@pytest.fixture
def part(tmp_path: Path) -> Partition:
    return RunFolder(str(tmp_path / "run")).answers("a")


@contextmanager
def asking(part: Partition, url: str, timeout_s: float = 60.0) -> Iterator[HostedApi]:
    priced = Price(input=0, output=100)
    entry = Hosted(host="hosted_api", name="a", id="x", account="fake", in_flight=8, usd_per_million=priced)
    patience = Retry(attempts=1, timeout_s=timeout_s)
    tab = PartTab(lambda: (part, "actor"))
    host = HostedApi(entry, Account(base_url=url), patience, LocalLimiter(), tab=tab)
    try:
        yield host
    finally:
        host.close()


@contextmanager
def proxy_that_opens_no_way() -> Iterator[tuple[str, threading.Semaphore]]:
    """It takes every connection, hears where it should lead, and says nothing; told of each as it was heard."""
    heard, taken = threading.Semaphore(0), list[socket.socket]()

    def serve(listening: socket.socket) -> None:
        while True:
            try:
                one, _ = listening.accept()
            except OSError:
                return
            taken.append(one)
            assert one.recv(1 << 16).startswith(b"CONNECT nowhere.example:443 ")
            heard.release()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", heard
        listening.shutdown(socket.SHUT_RDWR)
    for one in taken:
        one.close()


def test_a_request_whose_connection_is_not_made_yet_is_no_money_and_one_for_which_it_never_is_costs_nothing(
    part: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed now leaves what its tab says now; it once said that all of these had been sent."""
    with proxy_that_opens_no_way() as (url, heard):
        monkeypatch.setenv("HTTPS_PROXY", url)
        with asking(part, "https://nowhere.example/v1", timeout_s=1.0) as host:
            replies = host.generate(ASKS[:3])
            said: list[Reply] = []
            waiting = threading.Thread(target=lambda: said.extend(replies))
            waiting.start()
            for _ in range(3):
                heard.acquire()
            assert lost_usd(part) == 0.0
            waiting.join()
    assert [getattr(reply.outcome, "kind", None) for reply in said] == ["timeout"] * 3
    assert [reply.outcome.cost_usd or 0.0 for reply in said] == [0.0] * 3
    assert lost_usd(part) == 0.0


def test_what_the_provider_has_and_has_not_answered_is_money(part: Partition) -> None:
    speaks = Held(3)
    with Provider(Behaviour(), speaks) as provider, asking(part, provider.base_url) as host:
        said: list[Reply] = []
        waiting = threading.Thread(target=lambda: said.extend(host.generate(ASKS[:8])))
        waiting.start()
        until(lambda: provider.counters.requests == 8, every_s=0.01)
        assert lost_usd(part) == pytest.approx(8 * EACH_USD)  # no rows are written here
        speaks.most = 8
        waiting.join()
    assert len(said) == 8
    assert lost_usd(part) == pytest.approx(8 * EACH_USD)


@pytest.mark.parametrize("sent", [0, 8], ids=["by the library", "as it did"])
def test_what_cannot_be_written_down_in_the_moment_in_which_it_would_be_sent_is_not_sent(
    sent: int, part: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite

    def written(file: int, data: bytes, place: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Provider(Behaviour()) as provider, asking(part, provider.base_url) as host:
        assert len(list(host.generate(ASKS[:sent]))) == sent
        monkeypatch.setattr(os, "pwrite", written)
        with pytest.raises(HostDown, match="so none is sent: cannot write "):
            list(host.generate(ASKS[sent:]))
        monkeypatch.setattr(os, "pwrite", pwrite)
        assert provider.counters.requests == sent
