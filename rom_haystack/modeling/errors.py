"""Errors of the modeling layer."""


class CheckpointError(ValueError):
    """A checkpoint can't be found, read or understood; the message names it and the remedy."""


class MissingHeadError(CheckpointError, KeyError):
    """A model has not the head that is asked for: a passage encoder can't read, say."""

    def __str__(self) -> str:
        """Return the message as it is, where KeyError's own way would quote it."""
        return str(self.args[0])
