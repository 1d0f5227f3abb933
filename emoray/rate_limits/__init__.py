"""An account's limits, kept over all actors of a run."""
