"""The reader that a command line names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from emoray.commands.options import LONGEST_PATH, READER, absolute, asked_by, shortened
from emoray.errors import UserError
from emoray.spec.accounts import Account
from emoray.spec.document import Spec
from emoray.spec.load import with_reader
from emoray.spec.models import Hosted
from emoray.spec.readers import GoEmotionsReader, ReaderEntry


def named_reader(
    reader: str, spec: Spec | None = None, later: Sequence[ReaderEntry] = (), *, here: bool = True
) -> tuple[ReaderEntry, dict[str, Account]]:
    """A reader of the run by its name, in a YAML file, or a classifier by its hub id or folder; and the accounts.

    `later` are those that have read the run beside its spec's; `here`: it is to read on this machine.
    """
    from emoray.hosts.hub import unusable

    if reader.endswith((".yaml", ".yml")):
        found = with_reader(reader, spec)
        return found.readers[0], found.accounts
    known = {entry.name: entry for entry in [*later, *(spec.readers if spec else [])]}
    reader = unicodedata.normalize("NFC", reader)
    if not reader.strip() or len(reader) > LONGEST_PATH:
        raise UserError(f"{shortened(reader)} is no reader; give one of the spec by name, {READER}")
    own = GoEmotionsReader(kind="goemotions", name=_safe(reader), model=_model(reader))
    if reader not in known and reader != "embedded" and (why := unusable(own.model, here=here)):
        raise UserError(f"the reader {why}")
    entry, accounts = known.get(reader, own), spec.accounts if spec else {}
    for asked in asked_by(entry):
        if isinstance(asked, Hosted) and asked.account not in accounts:
            raise UserError(f"reader {reader!r} needs the account {asked.account!r}; give the YAML file that has both")
    return entry, accounts


def _model(reader: str) -> str:
    """A folder by its whole path, so that every node finds it; a hub id as it is."""
    return absolute(reader) if Path(reader).is_dir() else reader


def _safe(reader: str) -> str:
    """A reader's name from its hub id or path: owner/model is called model."""
    plain = re.sub(r"[^A-Za-z0-9._+-]", "-", reader.rstrip("/").rsplit("/", 1)[-1]).lstrip("._+-")
    return plain[:64] or "reader"
