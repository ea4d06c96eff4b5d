"""Passages and questions by number, whether they are kept in memory or on disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import Passage

T = TypeVar("T")


class Numbered(ABC):
    """Passages of a data set by their number in it.

    Attributes:
        in_order: The passages.
    """

    in_order: Sequence[Passage]

    @abstractmethod
    def number(self, passage_id: str) -> int:
        """Return a passage's number.

        Raises:
            KeyError: It is not there.
        """

    @abstractmethod
    def article(self, title: str) -> Sequence[int]:
        """Return the numbers of an article's passages, which are those of its title, in rising order.

        Passages without a title belong to none, so that the article `""` is empty.
        """

    def ids(self, numbers: Sequence[int]) -> Sequence[str]:
        """Return the ids of some passages, each looked up when it is asked for."""
        return Lazy(len(numbers), lambda index: self.in_order[numbers[index]].id)


class InMemory(Numbered):
    """Passages by number, in lists and dictionaries."""

    def __init__(self, passages: Mapping[str, Passage]) -> None:
        self.in_order = list(passages.values())
        self._numbers = {name: number for number, name in enumerate(passages)}
        self._articles: dict[str, list[int]] = defaultdict(list)
        for number, passage in enumerate(self.in_order):
            if passage.title:
                self._articles[passage.title].append(number)

    def number(self, passage_id: str) -> int:
        """Return a passage's number."""
        return self._numbers[passage_id]

    def article(self, title: str) -> Sequence[int]:
        """Return the numbers of an article's passages."""
        return self._articles.get(title, ())


class Lazy(Sequence[T]):
    """A sequence whose items are made, or read, when they are asked for."""

    def __init__(self, count: int, item: Callable[[int], T]) -> None:
        self._count, self._item = count, item

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        found = range(self._count)[index]  # negative numbers, and errors, as a list has them
        return self._item(found) if isinstance(found, int) else [self._item(number) for number in found]


class Chosen(Lazy[T]):
    """Some items of a sequence.

    Args:
        items: The sequence.
        numbers: Which of them, in rising order.
    """

    def __init__(self, items: Sequence[T], numbers: NDArray[np.int32]) -> None:
        super().__init__(len(numbers), lambda index: items[int(numbers[index])])
        self.numbers = numbers


def numbered(passages: Mapping[str, Passage]) -> Numbered:
    """Number a data set's passages; those on disk are numbered already."""
    return passages if isinstance(passages, Numbered) else InMemory(passages)


def in_order(passages: Mapping[str, Passage]) -> Sequence[Passage]:
    """Return a data set's passages in their order."""
    return passages.in_order if isinstance(passages, Numbered) else list(passages.values())


def those(items: Sequence[T], fits: Callable[[T], bool]) -> Sequence[T]:
    """Return the items that fit; of items that are not in memory their numbers are kept, 4 bytes each."""
    if not isinstance(items, Lazy):
        return [item for item in items if fits(item)]
    return Chosen(items, np.fromiter((n for n, item in enumerate(items) if fits(item)), np.int32))


def places(items: Sequence[Passage], passages: Mapping[str, Passage]) -> Callable[[str], int]:
    """Return what finds a passage's place among some of a data set's, by its id.

    Args:
        items: The passages, as `those` chose them.
        passages: The data set's.
    """
    if isinstance(items, Chosen) and isinstance(passages, Numbered):
        numbers, number = items.numbers, passages.number
        return lambda passage_id: int(numbers.searchsorted(number(passage_id)))
    return {passage.id: place for place, passage in enumerate(items)}.__getitem__
