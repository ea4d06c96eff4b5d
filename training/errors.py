"""Errors of the training module."""


class RecipeError(ValueError):
    """A recipe holds a key or value that training can't use; the message names it."""


class DataError(ValueError):
    """A data file can't be used; the message names the file, the line and the field."""


class RunError(RuntimeError):
    """A run can't go on; the message says why and what to try."""
