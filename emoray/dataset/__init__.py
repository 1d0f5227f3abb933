"""A run as a data set for others: Parquet, a card, and Croissant metadata, ready for a hub."""
