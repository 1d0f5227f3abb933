"""A run from a notebook, cell by cell (`# %%` begins one, for Jupyter, VS Code and others); needs `make run` before.

A test runs this file.
"""

# %% A folder here or in a bucket (s3://…); nothing is asked, and nothing is written
import emoray

run = emoray.load("runs/quickstart")

# %% One row per answer and reader. `docs/columns.md` says what each column is, and so does this:
rows = run.rows()
print(run.columns().loc[["valence", "felt_valence", "read_valence"], "meaning"])

# %% The report's mean cosine, by hand: refusals count by the run's rule, canaries and other conditions not at all
means = (rows.cosine * rows.weight).groupby([rows.model, rows.reader]).sum()
print(means)

# %% The same numbers as the report has them, exact, with their intervals
print(run.table("models")[["model", "reader", "refusals", "cosine", "cosine_low", "cosine_high", "ceiling"]])
print(run.summary["headline"])

# %% Where prompts were answered equally often, a plain mean is the same; and anything else is pandas
counted = rows[rows.counted]
print(counted.groupby("state_deg").cosine.agg(["mean", "count"]))
print(run.answers().outcome.value_counts())

# %% A question that nobody asked before the run, answered in a sentence; several belong into one call
print(run.contrast(factor="state", a="pleasant", b="unpleasant").sentence.to_list())

# %% Figures, each into a figure of its own or into `ax`
run.forest()
run.circumplex(run.models[0])
run.heat(run.models[0])

# %% For a paper
print(run.to_latex("models"))
