"""What a spec may say of a host that gives a question back, and of a reader that looks at punctuation."""

from typing import ClassVar, Literal

from emoray.spec.entry import AddedModel, AddedReader


class Mirror(AddedModel):
    """`{host: mirror, name: Mirror, id: mirror-1, mark: "!"}` under `models:`."""

    made_by: ClassVar[str] = "emoray_mirror_at_work:MirrorHost"
    host: Literal["mirror"]
    mark: str = "!"
    """What every answer ends with; part of every key, as each field that is added here."""


class Punctuation(AddedReader):
    """`{kind: punctuation, name: marks}` under `readers:`."""

    made_by: ClassVar[str] = "emoray_mirror_at_work:PunctuationReader"
    reads: ClassVar[Literal["goemotions", "affect"]] = "affect"
    kind: Literal["punctuation"]
