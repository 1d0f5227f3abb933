"""`emoray validate`: a reader's accuracy on labelled text."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emoray.commands.options import READER, at_least_one
from emoray.errors import UserError
from emoray.exit_codes import OK
from emoray.plurals import count
from emoray.readers import scorecard, validation_table
from emoray.spec.accounts import Account, Retry
from emoray.spec.label_maps import chosen_label_map
from emoray.spec.models import Hosted
from emoray.spec.readers import JudgeReader, ReaderEntry, label_map_of

if TYPE_CHECKING:
    from emoray.readers.protocol import Reader
from emoray.commands.named_reader import named_reader
from emoray.commands.options import asked_by, check_writable, warn_of_code


def add(own: argparse.ArgumentParser) -> None:
    """Its flags."""
    own.set_defaults(command=_call)
    own.add_argument("reader", metavar="READER", help=f"`embedded`, {READER}")
    own.add_argument("--data", required=True, metavar="FILE", help="a TSV of GoEmotions, or a CSV of EmoBank")
    own.add_argument("--calibrate", metavar="TSV", help="fit a temperature to this data, and judge it on --data")
    own.add_argument("--save", metavar="FILE", help="keep the figures as JSON, for `report --ceilings`")
    own.add_argument("--limit", type=at_least_one, metavar="N", help="only the first N comments")
    own.add_argument("--label-map", default="russell", metavar="MAP", help="a shipped map or a file (russell)")
    own.add_argument("--json", action="store_true", help="for programs")


def _call(arguments: argparse.Namespace) -> int:
    from emoray.hosts.protocol import HostDown
    from emoray.readers import rated, validation
    from emoray.readers.protocol import ReaderDown

    if rated.is_rated(arguments.data):
        return _validate_rated(arguments)
    labelled = validation.single_labelled(arguments.data).first(arguments.limit)
    fit_on = validation.single_labelled(arguments.calibrate).first(arguments.limit) if arguments.calibrate else None
    label_map = chosen_label_map(arguments.label_map, Path())
    entry, accounts = named_reader(arguments.reader)
    warn_of_code(asked_by(entry))
    entry = entry.model_copy(update={"cpus": float(os.cpu_count() or 1)})
    if arguments.save:
        check_writable(Path(arguments.save))
    try:
        reader = _started(entry, accounts, labelled.texts)
        found = validation.examine(
            reader, entry, labelled, label_map, fit_on=fit_on, fit_name=arguments.calibrate or ""
        )
    except (ReaderDown, HostDown) as wrong:
        raise UserError(str(wrong)) from None
    if arguments.save:
        kept = scorecard.saved(found, entry, reader.revision, Path(arguments.data).name, label_map)
        Path(arguments.save).write_text(kept, encoding="utf-8")
    text = validation_table.whole_table(arguments.reader, found, label_map)
    print(json.dumps(found.as_json(), indent=2) if arguments.json else text)
    return OK


def _validate_rated(arguments: argparse.Namespace) -> int:
    """Against people's valence and arousal."""
    from emoray.hosts.protocol import HostDown
    from emoray.readers import rated
    from emoray.readers.protocol import ReaderDown

    for option in ("calibrate", "save"):
        if getattr(arguments, option):
            raise UserError(
                f"--{option} goes with labelled comments, and {arguments.data} holds ratings of valence and arousal"
            )
    people = rated.rated(arguments.data).first(arguments.limit)
    own_map = chosen_label_map(arguments.label_map, Path())
    entry, accounts = named_reader(arguments.reader)
    warn_of_code(asked_by(entry))
    entry = entry.model_copy(update={"cpus": float(os.cpu_count() or 1)})
    try:
        reader = _started(entry, accounts, people.texts)
        found = rated.compare(reader, people, label_map_of(entry, own_map))
    except (ReaderDown, HostDown) as wrong:
        raise UserError(str(wrong)) from None
    print(json.dumps(found.as_json(), indent=2) if arguments.json else rated.whole_table(arguments.reader, found))
    return OK


def _started(entry: ReaderEntry, accounts: Mapping[str, Account], texts: Sequence[str]) -> Reader:
    """The reader by itself, without a run; a hosted judge keeps its account's limits, and says what it will cost."""
    if not (isinstance(entry, JudgeReader) and isinstance(entry.model, Hosted)):
        from emoray.readers.factory import reader_of

        return reader_of(entry)
    from emoray.commands.estimate import CHARS_PER_TOKEN, estimate_judge
    from emoray.hosts.hosted_api import HostedApi
    from emoray.rate_limits.local import LocalLimiter
    from emoray.rate_limits.protocol import Limits
    from emoray.readers.judge import Judge, asked_of

    account, asked = accounts[entry.model.account], asked_of(entry)
    assert isinstance(asked, Hosted)
    judge = Judge(entry, HostedApi(asked, account, Retry(), LocalLimiter(Limits.of(account))))
    mean = sum(map(len, texts)) / len(texts) / CHARS_PER_TOKEN
    cost = estimate_judge(entry, len(texts), answer_tokens=mean)
    print(f"{entry.model.id} judges {count(len(texts), 'comment')}: {cost.money()}", file=sys.stderr)
    return judge
