"""Who reads: one file per reader."""
