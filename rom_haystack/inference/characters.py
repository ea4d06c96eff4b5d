"""What is to know of characters, looked up for a whole text at once."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


class CharacterTable:
    """A number for each character that there is; safe to use from several threads.

    Args:
        number_of: Finds a character's number, from 1 to 255; asked once for each character that is met.
    """

    def __init__(self, number_of: Callable[[str], int]) -> None:
        self._number_of = number_of
        self._numbers = np.zeros(sys.maxunicode + 1, dtype=np.uint8)  # 0 for what was not met yet

    def look_up(self, text: str) -> NDArray[np.uint8]:
        """Return the number of each character of a text: `[len(text)]`."""
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        numbers: NDArray[np.uint8] = self._numbers[codes]
        if not numbers.all():
            for code in np.unique(codes[numbers == 0]).tolist():
                self._numbers[code] = self._number_of(chr(code))
            numbers = self._numbers[codes]
        return numbers
