"""One benchmark per file, each with `run(…) -> figures`."""
