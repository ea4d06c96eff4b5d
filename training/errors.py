"""Errors of the training module."""


class RecipeError(ValueError):
    """A recipe holds a key or value that training can't use; the message names it."""


class DataError(ValueError):
    """A data file can't be used; the message names the file, the line and the field."""


class RunError(RuntimeError):
    """A run can't go on; the message says why and what to try."""


class OptionError(RecipeError):
    """An option of a dataclass that recipes fill can't be used.

    Args:
        key: Name of the option. A recipe's error puts where it stands before it.
        problem: What is wrong with its value, and what would be right.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"Option '{key}' {problem}")
        self.key = key
        self.problem = problem


def require(options: object, key: str, fits: bool, limit: str) -> None:
    """Refuse an option whose value does not fit.

    Args:
        options: Who holds it, as an attribute named `key`.
        key: Name of the option.
        fits: Whether the value will do.
        limit: What it must be, for the message: "at least 1".

    Raises:
        OptionError: It does not fit.
    """
    if not fits:
        raise OptionError(key, f"is {getattr(options, key)!r}; it must be {limit}.")
