"""How a provider is reached, as the environment says it: the key, and the proxy. What cannot work is said before
anything is asked, and never with the secret.
"""

from __future__ import annotations

import ipaddress
import os
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from emoray.hosts.batch_record import BatchBook
from emoray.hosts.protocol import HostDown
from emoray.hosts.tab import Tab
from emoray.rate_limits.protocol import RateLimiter
from emoray.spec.accounts import Account, Retry

_PORTS = {"http": 80, "https": 443}


class Proxy(NamedTuple):
    url: str  # without name and password
    login: str | None  # these, as a header has them


def key_in(variable: str) -> str:
    """The key in a variable, without the blanks and line breaks around it: secrets that are mounted from files have
    them. Empty where there is none. ValueError, as half a sentence, where no header can carry it.
    """
    key = os.environ.get(variable, "").strip()
    if any(not character.isprintable() for character in key):
        raise ValueError("which holds a line break or another control character inside the key; it must be one line")
    if not key.isascii():
        raise ValueError("which holds a character that no key has (it is not ASCII); copy the key anew")
    return key


def key_of(account: Account) -> str | None:
    """The key of an account that has one; HostDown without it. The error names only the variable."""
    if account.key_env is None:
        return None
    try:
        key = key_in(account.key_env)
    except ValueError as wrong:
        where = f"the environment variable {account.key_env} is to hold the key for {account.base_url}"
        raise HostDown(f"{where}, {wrong}") from None
    if not key:
        raise HostDown(
            f"the environment variable {account.key_env}, which holds the key for {account.base_url}, is not set; "
            "set it where the run's actors start"
        )
    return key


def proxy_of(url: str) -> Proxy | None:
    """The proxy that the environment names for an address (HTTPS_PROXY, ALL_PROXY, less NO_PROXY); HostDown where it
    cannot be used. The error names only the variable: a proxy's address may hold a password.
    """
    there, known = urlsplit(url), urllib.request.getproxies()
    host = there.hostname or ""
    if urllib.request.proxy_bypass(host) or _passed_by(known.get("no", ""), host, there.port or _PORTS[there.scheme]):
        return None
    kind = there.scheme if there.scheme in known else "all"
    return _checked(known[kind], f"{kind}_proxy".upper()) if kind in known else None


def _checked(text: str, variable: str) -> Proxy:
    said = f"the environment variable {variable} names a proxy"
    if "://" not in text:
        raise HostDown(f"{said} without a scheme; write http:// before it")
    proxy = _parts(text)
    if proxy is None or not proxy.hostname:
        raise HostDown(f"{said} whose address cannot be read; write it as http://host:port")
    if proxy.scheme not in _PORTS:
        raise HostDown(
            f"{said} that speaks {proxy.scheme}, which emoray does not; name one that speaks HTTP (http://host:port), "
            "or put the provider's host into NO_PROXY"
        )
    where = proxy.netloc.rpartition("@")[2]
    return Proxy(f"{proxy.scheme}://{where}", None if proxy.username is None else _login(proxy))


def _login(proxy: SplitResult) -> str:
    both = f"{unquote(proxy.username or '')}:{unquote(proxy.password or '')}"
    return f"Basic {b64encode(both.encode()).decode()}"


def _parts(text: str) -> SplitResult | None:
    with suppress(ValueError):
        parts = urlsplit(text.strip())
        _ = parts.port  # which may be none, too
        return parts
    return None


def _passed_by(no_proxy: str, host: str, port: int) -> bool:
    """Whether NO_PROXY has the address: `*`, a name and all below it, a network, an address; perhaps with a port."""
    return any(_is_for(entry, host.lower(), port) for entry in _entries(no_proxy))


def _entries(no_proxy: str) -> Iterator[str]:
    return (entry.strip().lower() for entry in no_proxy.replace(" ", ",").split(",") if entry.strip())


def _is_for(entry: str, host: str, port: int) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    name, colon, at = entry.rpartition(":")
    if colon and at.isdecimal():
        return int(at) == port and _is_for(name, host, port)
    name = entry.removeprefix("*").removeprefix(".")
    return not name or host == name or host.endswith(f".{name}")


@dataclass(frozen=True)
class ProviderAccess:
    """What a hosted model's speakers need beside its entry; can be sent to any actor, and holds no key."""

    account: Account
    retry: Retry
    limiter: RateLimiter
    run: str  # the run's name towards limiters, the same whenever it is resumed
    batches: BatchBook
    budget: RateLimiter | None = None  # money alone, for batches, which have no rate: the same that `limiter` asks
    had_answers: Callable[[], bool] = lambda: False  # the lane, from whichever actor; set where that is known
    tab: Tab | None = None  # of the actor; set where that is known
