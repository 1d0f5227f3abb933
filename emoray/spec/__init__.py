"""A spec in YAML, validated: the method section of a run."""
