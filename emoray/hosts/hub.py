"""Where weights come from: whether an id can name a model at all, and why the hub did not give one. Asks nobody."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_HUB_ID = re.compile(rf"(?:{_PART}/)?{_PART}")  # huggingface_hub's rules, which it tells where it is asked
_ON_THE_HUB = re.compile(
    r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<id>[^/?#]+(?:/(?!(?:tree|blob|resolve)/)[^/?#]+)?)|"
    r"hf://(?:models/)?(?P<hf>[^/?#@]+(?:/[^/?#@]+)?)"
)
_OF_NO_STORE = ("http:", "https:", "hf:", "ftp:", "ftps:", "file:")
_PATH = re.compile(r"[./~]|[A-Za-z]:[\\/]")  # how a path begins
_UNREACHABLE = re.compile(r"connect|timeout|network|proxy|protocol|nameresolution|gaierror", re.IGNORECASE)
_TAGGED = re.compile(r"[\w./-]+:[\w.-]+")
_WANTED = "give a hub id (owner/model) or the folder of a model"
_OLLAMA = f"a name with a colon is Ollama's, which host: hosted_api asks; else {_WANTED}"
_YES = ("1", "ON", "YES", "TRUE")
_SHOWN = 100  # characters of an id, to a person
_NETWORK = ("httpx2", "httpx", "httpcore", "requests", "urllib3", "socket")


class Told(NamedTuple):
    """Why a model cannot be had, and what to do; each half of a sentence."""

    cause: str
    hint: str


def unusable(id: str, *, here: bool = True, vllm: bool = False) -> str | None:
    """Why an id is no model's, in half a sentence; None where it may be one.

    Folders are looked for where they must be on this machine (`here`); vLLM also takes s3:// and its like, and GGUF.
    """
    if vllm and ("gguf" in id.lower() or _in_a_store(id)):
        return None
    shown, place = repr(id if len(id) <= _SHOWN else f"{id[:_SHOWN]}…"), Path(id)
    if "://" in id or _ON_THE_HUB.match(id):
        return f"is {shown}, an address; {_address(id)}"
    if _is(place, folder=True):
        return None
    if _is(place, folder=False):
        return f"is {shown}, a file; give the folder that it lies in, which must hold config.json and the weights"
    if _PATH.match(id) or id.count("/") > 1 or "\\" in id:
        return f"is {shown}, which is no folder here; {_in_full(id)}" if here else None
    if _HUB_ID.fullmatch(id) and not re.search(r"--|\.\.|\.git$", id):
        return None
    return f"is {shown}, which is neither a folder nor a hub id; {_OLLAMA if _TAGGED.fullmatch(id) else _WANTED}"


def told(wrong: BaseException) -> Told | None:
    """What is behind an exception of whoever loaded a model from the hub; None where the hub has no part in it."""
    from huggingface_hub import errors

    chain = list(_causes(wrong))

    def among(*kinds: type[BaseException]) -> bool:
        return any(isinstance(one, kinds) for one in chain)

    if among(errors.GatedRepoError):
        return Told("the model is gated: its owner must grant access", _access())
    offline = any(os.environ.get(name, "").upper() in _YES for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    if among(errors.OfflineModeIsEnabled) or (offline and among(errors.LocalEntryNotFoundError)):
        return Told(
            "HF_HUB_OFFLINE is set, and the model is not in the cache", "unset it, or give the folder of a model"
        )
    if among(errors.RevisionNotFoundError):
        return Told("the hub has no such revision of the model", "check revision: a branch, a tag or a commit")
    if among(errors.DisabledRepoError):
        return Told("the hub has disabled the model", "take another one")
    if among(errors.RepositoryNotFoundError):
        return Told("the hub has no such model, or it is private", f"check the id; a private one needs {_token()}")
    if among(errors.RemoteEntryNotFoundError):
        return None  # the model is there, and lacks a file: whoever wanted it says which
    for one in chain:
        if isinstance(one, errors.HfHubHTTPError):
            return _by_status(one.response.status_code)
    return _by_system(chain)


def _by_status(status: int) -> Told | None:
    if status == 429:
        return Told("the hub is busy (429, too many requests)", f"run the same command later, or with {_token()}")
    if status >= 500 or status == 408:
        return Told(f"the hub is busy or has trouble ({status})", "run the same command later")
    if status in (401, 403):
        return Told(f"the hub refuses the request ({status})", _access())
    return None


def _by_system(chain: list[BaseException]) -> Told | None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    if any(getattr(one, "errno", None) in (errno.ENOSPC, errno.EDQUOT) for one in chain):
        return Told("the disk of the hub's cache is full", "make room, or name a larger one in HF_HOME")
    foreign = [type(one).__name__ for one in chain if type(one).__module__.split(".")[0] in _NETWORK]
    unreachable = any(isinstance(one, ConnectionError | LocalEntryNotFoundError) for one in chain)
    if unreachable or any(map(_UNREACHABLE.search, foreign)):
        return Told(
            "the hub cannot be reached from here, and the model is not in the cache",
            "check the network (HTTPS_PROXY), or give the folder of a model",
        )
    return None


def _access() -> str:
    if os.environ.get("HF_TOKEN"):
        return "ask for access on its page of the hub, with the account that the token in HF_TOKEN belongs to"
    return f"ask for access on its page of the hub, and set {_token()}"


def _token() -> str:
    return "HF_TOKEN in the environment of the run's actors"


def _causes(wrong: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it came of, each once."""
    seen: set[int] = set()
    while wrong is not None and id(wrong) not in seen:
        seen.add(id(wrong))
        yield wrong
        wrong = wrong.__cause__ or (None if wrong.__suppress_context__ else wrong.__context__)


def _is(place: Path, *, folder: bool) -> bool:
    try:
        return place.is_dir() if folder else place.is_file()
    except (OSError, ValueError):  # too long for a name
        return False


def _in_a_store(id: str) -> bool:
    """Whether it is an object store's address, or one of its kind."""
    return "://" in id and not id.startswith(_OF_NO_STORE)


def _address(id: str) -> str:
    on_hub = _ON_THE_HUB.match(id)
    if on_hub:
        return f"write {on_hub['id'] or on_hub['hf']}"
    if id.startswith("file://"):
        return f"write {id.removeprefix('file://')}"
    return f"host: vllm loads from there; else {_WANTED}" if _in_a_store(id) else _WANTED


def _in_full(id: str) -> str:
    """Nobody but a shell knows what ~ is."""
    if not id.startswith("~"):
        return _WANTED
    with suppress(RuntimeError):  # no such user
        return f"write it in full: {Path(id).expanduser()}"
    return _WANTED
