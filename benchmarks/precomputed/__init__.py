"""Precomputed reading: lower layers of passages computed at indexing, upper layers per question."""
