"""A run folder as frames and figures, for a notebook; it reads what `emoray report` reads, and counts as it counts."""
