"""What run.json holds, as types. It is written as it was read: what a later emoray has put beside it stays."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat

FORMAT = 1


def _moment(text: str) -> str:
    """ValueError for what is no time that can be told from others."""
    with suppress(ValueError):
        if datetime.fromisoformat(text).tzinfo is not None:
            return text
    raise ValueError(f"is no time with its zone, such as 2026-11-30T08:00:00+00:00, but {text[:40]!r}")


def _whole(number: object) -> object:
    """Some tools write a whole number that passes through them as 5.0."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


Whole = Annotated[int, BeforeValidator(_whole)]
Moment = Annotated[str, AfterValidator(_moment)]
Json = dict[str, Any]  # of another document


class _Record(BaseModel):
    """Fields that are not set are not written, so that a record of an earlier emoray stays what it was."""

    model_config = ConfigDict(extra="allow", strict=True, ser_json_inf_nan="constants")

    def says(self, field: str) -> bool:
        """Whether the field has been written, or set since."""
        return field in self.model_fields_set

    def as_json(self) -> Json:
        """Plain JSON values."""
        return self.model_dump(mode="json", exclude_unset=True)


class CostRecord(_Record):
    """What the rows of one model in a folder have cost."""

    prompt_tokens: Whole = 0
    completion_tokens: Whole = 0
    cost_usd: FiniteFloat = 0.0
    read_cost_usd: FiniteFloat = 0.0  # of judges

    def since(self, before: CostRecord) -> CostRecord:
        """Rows that are lost since then count as none."""
        return CostRecord(
            prompt_tokens=max(0, self.prompt_tokens - before.prompt_tokens),
            completion_tokens=max(0, self.completion_tokens - before.completion_tokens),
            cost_usd=max(0.0, self.cost_usd - before.cost_usd),
            read_cost_usd=max(0.0, self.read_cost_usd - before.read_cost_usd),
        )


class LaneRecord(_Record):
    """What one model's lane did in an attempt, and what that cost, as CostRecord has it."""

    model: str
    answered: Whole = 0
    failed: dict[str, Whole] = {}  # by kind
    read: dict[str, Whole] = {}  # rows by reader
    put_aside: Whole = 0  # rows that the folder did not take, and another did
    lost: Whole = 0  # rows for which there was no place at all
    error: str | None = None  # why the lane could not go on
    prompt_tokens: Whole = 0
    completion_tokens: Whole = 0
    cost_usd: FiniteFloat = 0.0
    read_cost_usd: FiniteFloat = 0.0
    lost_usd: FiniteFloat = 0.0  # at most, for answers that nobody has
    read_lost_usd: FiniteFloat = 0.0


class UntilRecord(_Record):
    """The stopping rule of `emoray run --until`, and where it stood as a wave of it began."""

    half_width: FiniteFloat  # that every headline interval is to have
    repetitions: Whole  # of each prompt, when this wave has been asked
    of: Whole  # repetitions that the spec allows
    widest: FiniteFloat | None = None  # half-width before this wave; None where there was no interval
    whose: str = ""  # widest interval that is
    foreseen: Whole | None = None  # repetitions that may do; None where none would, or it is not known


class Attempt(_Record):
    """One command at a folder: who, where, when, with what, and what came of it."""

    id: str = ""  # sorts by time
    began: Moment
    command: list[str] = []
    host: str
    pid: Whole = 0
    user: str = ""
    versions: dict[str, str] = {}
    git: str | None = None
    settled_before: dict[str, Whole] = {}  # answers by model, before it began to ask
    spent_before: dict[str, CostRecord] = {}  # by model
    sampling: dict[str, Json] = {}  # how each model's answers are drawn
    asks_since: dict[str, Moment] = {}  # by model
    lanes: list[LaneRecord] = []
    limit: Whole | None = None  # it asks no more than the first so many cells of each model
    until: UntilRecord | None = None  # of a wave
    end: str = ""  # how; not said while it is under way
    ended: str = ""  # when

    @property
    def has_ended(self) -> bool:
        return self.says("end")


class PlacedLabels(_Record):
    """A label map, with the place of each label as `label_map_from` takes it."""

    name: str
    mark: str
    source: str
    labels: Json


class Manifest(_Record):
    """What a folder is a run of, and every attempt at it. While an attempt runs it is changed where it stands."""

    format: Whole
    name: str = ""
    day: object = None  # on which the run began; `manifest.day` reads it
    digest: str  # of the spec
    cells_per_model: Annotated[Whole, Field(ge=0)]
    spec: Json
    label_map: PlacedLabels
    marks: dict[str, dict[str, str]]  # whose is what: of templates, questions, models, and more
    attempts: list[Attempt]
    contrasts_first: list[Json] = []  # those that were said before there was any answer,
    contrasts_meant: Json | None = None  # and what they meant
    extended: bool = False  # shared with answers of another spec
    more_readers: list[Json] = []  # that read the run before or after those of its spec

    @property
    def last_attempt(self) -> Attempt | None:
        return self.attempts[-1] if self.attempts else None

    def changed(self, **fields: object) -> Manifest:
        """Another with these fields in place of its own; the attempts are shared."""
        return self.model_copy(update=fields)


def is_known(found: Mapping[str, Any]) -> bool:
    """Whether what run.json holds is of this format, so that it can be read as a Manifest."""
    return found.get("format") == FORMAT
