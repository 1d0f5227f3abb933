"""emoray: can a language model express the emotion it is told to, and how surely do we know?

What is public; everything else may move. Each is imported when it is first asked for, so that a command which needs
none of them stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emoray.errors import EmorayError as EmorayError
    from emoray.errors import UserError as UserError
    from emoray.hosts.protocol import HostDown as HostDown
    from emoray.notebook.run import load as load
    from emoray.readers.protocol import ReaderDown as ReaderDown
    from emoray.run_folder.errors import StoreError as StoreError
    from emoray.run_folder.folder import RunFolder as RunFolder
    from emoray.spec.base import SpecError as SpecError
    from emoray.spec.document import Spec as Spec
    from emoray.study.circumplex import Affect as Affect

__version__ = "0.1.0"

_PUBLIC = {
    "load": "notebook.run",
    "RunFolder": "run_folder.folder",
    "Spec": "spec.document",
    "Affect": "study.circumplex",
    "EmorayError": "errors",
    "UserError": "errors",
    "SpecError": "spec.base",
    "StoreError": "run_folder.errors",
    "HostDown": "hosts.protocol",
    "ReaderDown": "readers.protocol",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'emoray' has no attribute {name!r}")
    return getattr(import_module(f"emoray.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
