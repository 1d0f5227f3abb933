"""How the two small models of `emoray/embedded/` were made; `jobs/train_embedded.py` is the way in."""
