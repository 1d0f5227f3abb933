"""The only package that knows the files of a run."""
