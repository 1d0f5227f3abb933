"""The science: circumplex, terms, labels, prompts, outcomes and scores. Only the standard library and numpy."""
