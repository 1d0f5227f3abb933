"""The reader of an entry."""

from __future__ import annotations

import pkgutil
from datetime import date

from emoray.hosts.access import ProviderAccess
from emoray.hosts.factory import host_of
from emoray.readers.protocol import Reader
from emoray.spec.accounts import Retry
from emoray.spec.entry import AddedReader
from emoray.spec.readers import GoEmotionsReader, JudgeReader, ReaderEntry, RegressorReader, ScriptedReader


def reader_of(
    entry: ReaderEntry, access: ProviderAccess | None = None, day: date | None = None, *, across_nodes: bool = False
) -> Reader:
    """The reader of an entry; `access` is that of a hosted judge, `day` is today to a judge's chat template."""
    match entry:
        case GoEmotionsReader():
            from emoray.readers.goemotions import GoEmotions

            return GoEmotions(entry)
        case RegressorReader():
            from emoray.readers.regressor import Regressor

            return Regressor(entry)
        case JudgeReader():
            from emoray.readers.judge import Judge, asked_of

            return Judge(
                entry,
                host_of(asked_of(entry), access, day, across_nodes=across_nodes),
                access.retry if access else Retry(),
            )
        case ScriptedReader():
            from emoray.readers.scripted import ScriptedReading

            return ScriptedReading(entry)
        case AddedReader():
            reader: Reader = pkgutil.resolve_name(entry.made_by)(entry)
            return reader
