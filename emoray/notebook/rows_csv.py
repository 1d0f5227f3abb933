"""The rows of a run as a tidy CSV, and an R script that fits a mixed model to them."""

from __future__ import annotations

from collections.abc import Iterator

from emoray.notebook import frames
from emoray.report import Source
from emoray.report.summary import Summary

_TEXTS = ["prompt", "question", "answer", "reasoning", "error", "read_error"]
SCRIPT = """\
# The rows that the report's means are made of, in a mixed model: Rscript rows.R, beside rows.csv
# needs lme4 (install.packages("lme4")); docs/columns.md of emoray says what the columns are
file <- sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE))
folder <- if (length(file)) dirname(file) else "."
rows <- read.csv(file.path(folder, "rows.csv"), encoding = "UTF-8")
rows <- rows[rows$counted, ]
rows$model <- factor(rows$model)
rows$state <- factor(rows$state_deg)
rows$question <- factor(rows$question_id)
for (reader in unique(rows$reader)) {
  some <- droplevels(rows[rows$reader == reader, ])
  cat("\\n== read by", reader, "==\\n")
  fit <- if (nlevels(some$model) > 1) {
    lme4::lmer(cosine ~ model * state + (1 | question), data = some)
  } else {
    lme4::lmer(cosine ~ state + (1 | question), data = some)
  }
  print(summary(fit))
}
"""


def csv_lines(source: Source, found: Summary) -> Iterator[str]:
    """The header, then the rows of each reader and model, as `emoray.load(RUN).rows()` has them, without its texts.

    Flags are TRUE and FALSE, as R and pandas take them; what is not known is empty.
    """
    yield frames.rows_of(frames.SCHEMA.empty_table()).drop(columns=_TEXTS).to_csv(index=False)
    for _, table in frames.scored(source, found):
        frame = frames.rows_of(table).drop(columns=_TEXTS)
        flags = frame.select_dtypes(["bool", "boolean"]).columns
        told = frame[flags].astype(object).replace({True: "TRUE", False: "FALSE"})
        yield frame.assign(**told).to_csv(index=False, header=False)
