"""Rows of a run folder as pandas frames, each row with what it counts for in the report."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from emoray.analysis.additive import Additive
from emoray.report import Source
from emoray.report.summary import Summary
from emoray.report.tables import Table
from emoray.run_folder import columns
from emoray.study.circumplex import Array
from emoray.study.conditions import Condition
from emoray.study.goemotions import DIRECT, LabelMap

SCHEMA = pa.schema([*columns.SCORED, ("counted", pa.bool_()), ("weight", pa.float64())])
_FLAGS = (
    "refused",
    "role_break",
    "canary",
)  # known of every answer: null is older than the flag
_LISTS = ("probabilities", "labels")
_EXACT = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}  # nulls would make floats and objects of them


def answers(source: Source) -> pd.DataFrame:
    """The ASKED and ANSWERED columns of all models, failures too."""
    parts = [some for model in source.models() for some in said(source, model)]
    return _pandas(pa.concat_tables([columns.ANSWERS.empty_table(), *parts]))


def said(source: Source, model: str) -> Iterator[pa.Table]:
    """The same of one model, as tables."""
    for some in source.answers(model).tables():
        yield columns.flagged_anew(some)


def rows(source: Source, found: Summary, *, probabilities: bool) -> pd.DataFrame:
    """All columns of answers that a reader looked at but its lists, then `counted` and `weight`, then probabilities.

    Scored anew under the settings of `found`; readers that it leaves out are left out.
    """
    maps = found.settings.map_of
    parts = [
        rows_of(table).join(_by_label(table, maps(reader))) if probabilities else rows_of(table)
        for reader, table in scored(source, found)
    ]
    return pd.concat(parts or [rows_of(SCHEMA.empty_table())], ignore_index=True)


def scored(source: Source, found: Summary) -> Iterator[tuple[str, pa.Table]]:
    """(reader, rows of SCHEMA) of every reader and model: one is in memory at a time."""
    for reader in found.readers:
        for model in source.models():
            table = _scored(source, found, reader, model)
            counted = _counted(table, found.design.headline)
            weighed = [pa.array(counted), pa.array(_weights(table, counted))]
            yield reader, pa.Table.from_arrays([*table.columns, *weighed], schema=SCHEMA)


def framed(table: Table) -> pd.DataFrame:
    """A table of the report."""
    return pd.DataFrame(list(table.rows), columns=list(table.columns))


def _scored(source: Source, found: Summary, reader: str, model: str) -> pa.Table:
    settings = found.settings
    label_map = settings.map_of(reader)
    parts = [
        columns.scored(columns.flagged_anew(some), label_map, settings.neutral, settings.refusals)
        for some in _answered(source, reader, model)
    ]
    return pa.concat_tables([columns.SCORED.empty_table(), *parts])


def _answered(source: Source, reader: str, model: str) -> Iterator[pa.Table]:
    for some in source.rows(reader, model).tables():
        yield some.filter(pc.equal(some["outcome"], columns.ANSWERED)).combine_chunks()


def rows_of(table: pa.Table) -> pd.DataFrame:
    """A table of SCHEMA without its lists."""
    flags = {name: columns.flags(table[name]) for name in _FLAGS}
    return _pandas(table.drop_columns(list(_LISTS))).assign(**flags)


def _counted(table: pa.Table, headline: Condition | None) -> npt.NDArray[np.bool_]:
    """(rows,): which rows the headline's mean is made of."""
    if headline is None:
        return np.zeros(table.num_rows, dtype=np.bool_)
    of_template = columns.flags(pc.equal(table["template"], headline.template))
    at_intensity = columns.flags(pc.equal(table["intensity"], headline.intensity))
    scored = np.asarray(table["cosine"].is_valid().to_numpy(), dtype=np.bool_)
    return np.asarray(of_template & at_intensity & scored & ~columns.flags(table["canary"]))


def _weights(table: pa.Table, counted: npt.NDArray[np.bool_]) -> Array:
    """(rows,): what each row makes of the mean; 0 of one that does not count, and 1 in sum where any does.

    A prompt counts by the mean of its answers, and every cell of questions × states by its weight in the additive fit.
    """
    found = np.zeros(table.num_rows)
    if not counted.any():
        return found
    some = table.filter(pa.array(counted))
    questions, question = np.unique(some["question_id"].to_numpy().astype(str), return_inverse=True)
    states, state = np.unique(some["state_deg"].to_numpy(), return_inverse=True)
    sums, counts = (np.zeros((len(questions), len(states))) for _ in range(2))
    np.add.at(sums, (question, state), some["cosine"].to_numpy())
    np.add.at(counts, (question, state), 1.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = Additive(sums / counts).weights / counts
    found[counted] = share[question, state]
    return found


def _by_label(table: pa.Table, label_map: LabelMap) -> pd.DataFrame:
    """A column per label, NaN where nothing was read; none of a reader that knows no labels."""
    if label_map is DIRECT:
        return pd.DataFrame(index=range(table.num_rows))
    read = columns.probabilities(table, label_map.labels)
    return pd.DataFrame(read, columns=[f"p_{label}" for label in label_map.labels])


def _pandas(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas(types_mapper=_EXACT.get)
    return frame
