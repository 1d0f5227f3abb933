"""A run as a job of a Ray cluster: what travels to it, and how it is followed."""
