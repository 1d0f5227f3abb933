"""What goes wrong, as a tree; the message is one sentence for a person: what is wrong, where, what to do.

EmorayError
├── UserError            what the user gave cannot be done: exit code 2, nothing is written
│   └── SpecError        a spec, with the file and the field          (spec/base.py)
├── StoreError           a run folder cannot be read or written       (run_folder/errors.py)
├── HostDown             nothing of this model can be answered now    (hosts/protocol.py)
└── ReaderDown           this reader cannot read                      (readers/protocol.py)
"""

from __future__ import annotations


class EmorayError(Exception):
    """The root of all that emoray raises for its callers."""


class UserError(EmorayError, ValueError):
    """What the user gave cannot be done, in one sentence."""
