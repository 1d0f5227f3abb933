"""Who speaks: one file per host."""
