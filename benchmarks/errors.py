"""What can go wrong in a measurement."""


class JobError(RuntimeError):
    """A measuring process failed; the message holds what it said."""
