"""Errors of the modeling layer."""


class CheckpointError(ValueError):
    """A checkpoint can't be found, read or understood; the message names it and the remedy."""
