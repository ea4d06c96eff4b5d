"""Operations on a store: what each does, and what must be there afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy

from benchmarks.faults.contents import GROUPS, Contents, Version, document, group_of, name_of
from rom_haystack.document_stores import SQLiteFAISSDocumentStore

Policy = Literal["fail", "skip", "overwrite"]
_POLICIES: tuple[Policy, ...] = ("fail", "skip", "overwrite")


class Operation(Protocol):
    """Something that is done to a store, wholly or not at all."""

    def expected(self, before: Contents) -> Contents:
        """Return what must be there when it is done."""

    def perform(self, store: SQLiteFAISSDocumentStore, seed: int) -> None:
        """Do it."""


@dataclass(frozen=True)
class Write:
    """Write documents.

    Args:
        documents: Number and revision of each.
        policy: `fail`, `skip` or `overwrite`.
    """

    documents: tuple[tuple[int, int], ...]
    policy: Policy

    def expected(self, before: Contents) -> Contents:
        """Add those that the policy lets through."""
        if self._refused(before):
            return before
        after = dict(before)
        for number, revision in self.documents:
            if self.policy == "overwrite" or number not in after:
                after[number] = Version(revision)
        return after

    def perform(self, store: SQLiteFAISSDocumentStore, seed: int) -> None:
        """Write; being refused is as good as being accepted, as what is there is compared later."""
        documents = [document(seed, number, Version(revision)) for number, revision in self.documents]
        try:
            store.write_documents(documents, DuplicatePolicy[self.policy.upper()])
        except DuplicateDocumentError:
            if self.policy != "fail":
                raise

    def _refused(self, before: Contents) -> bool:
        numbers = [number for number, _ in self.documents]
        return self.policy == "fail" and (len(set(numbers)) < len(numbers) or any(n in before for n in numbers))


@dataclass(frozen=True)
class Delete:
    """Delete documents by id; some are not there."""

    numbers: tuple[int, ...]

    def expected(self, before: Contents) -> Contents:
        """Leave them out."""
        gone = set(self.numbers)
        return {number: version for number, version in before.items() if number not in gone}

    def perform(self, store: SQLiteFAISSDocumentStore, seed: int) -> None:  # noqa: ARG002
        """Delete."""
        store.delete_documents([name_of(number) for number in self.numbers])


@dataclass(frozen=True)
class DeleteGroup:
    """Delete the documents of a group by a filter."""

    group: int

    def expected(self, before: Contents) -> Contents:
        """Leave them out."""
        return {n: version for n, version in before.items() if group_of(n, version.revision) != self.group}

    def perform(self, store: SQLiteFAISSDocumentStore, seed: int) -> None:  # noqa: ARG002
        """Delete."""
        store.delete_by_filter(_of_group(self.group))


@dataclass(frozen=True)
class MarkGroup:
    """Set a metadata field, which keyword search covers, in the documents of a group."""

    group: int
    mark: str

    def expected(self, before: Contents) -> Contents:
        """Give them the mark."""
        return {
            n: version._replace(mark=self.mark) if group_of(n, version.revision) == self.group else version
            for n, version in before.items()
        }

    def perform(self, store: SQLiteFAISSDocumentStore, seed: int) -> None:  # noqa: ARG002
        """Update."""
        store.update_by_filter(_of_group(self.group), {"mark": self.mark})


@dataclass(frozen=True)
class DeleteAll:
    """Delete everything."""

    def expected(self, before: Contents) -> Contents:  # noqa: ARG002
        """Leave nothing."""
        return {}

    def perform(self, store: SQLiteFAISSDocumentStore, seed: int) -> None:  # noqa: ARG002
        """Delete."""
        store.delete_all_documents()


@dataclass(frozen=True)
class Optimize:
    """Compact, merge, train, save and pack."""

    def expected(self, before: Contents) -> Contents:
        """Change no document."""
        return before

    def perform(self, store: SQLiteFAISSDocumentStore, seed: int) -> None:  # noqa: ARG002
        """Optimize."""
        store.optimize()


@dataclass(frozen=True)
class Reopen:
    """Close the store, which ends SQLite's log, and open it again."""

    def expected(self, before: Contents) -> Contents:
        """Change no document."""
        return before

    def perform(self, store: SQLiteFAISSDocumentStore, seed: int) -> None:  # noqa: ARG002
        """Close, and open by counting."""
        store.close()
        store.count_documents()


def _of_group(group: int) -> dict[str, Any]:
    return {"field": "meta.group", "operator": "==", "value": group}


# Shares of the kinds of operations.
_KINDS = {
    "write": 0.49,
    "delete": 0.16,
    "delete_group": 0.04,
    "mark": 0.1,
    "optimize": 0.13,
    "reopen": 0.05,
    "all": 0.03,
}


def draw_operations(
    rng: np.random.Generator, contents: Contents, count: int, *, first_revision: int, most_documents: int
) -> Iterator[Operation]:
    """Draw operations that make sense one after the other.

    Args:
        rng: Where chance comes from.
        contents: What is there before the first.
        count: Number of operations.
        first_revision: Revision of the first one's documents; each operation takes the next.
        most_documents: About so many documents are let into the store; also the number of different ids.
    """
    kinds, shares = list(_KINDS), np.array(list(_KINDS.values()))
    for revision in range(first_revision, first_revision + count):
        kind = str(rng.choice(kinds, p=shares / shares.sum()))
        operation = _draw(rng, kind, contents, revision, most_documents)
        contents = operation.expected(contents)
        yield operation


def _draw(rng: np.random.Generator, kind: str, contents: Contents, revision: int, most_documents: int) -> Operation:
    if kind == "write":
        return _draw_write(rng, contents, revision, most_documents)
    if kind == "delete":
        return Delete(tuple(rng.integers(2 * most_documents, size=int(rng.integers(1, most_documents // 5))).tolist()))
    if kind == "delete_group":
        return DeleteGroup(int(rng.integers(GROUPS)))
    if kind == "mark":
        return MarkGroup(int(rng.integers(GROUPS)), f"mark{revision}")
    plain: dict[str, Operation] = {"optimize": Optimize(), "reopen": Reopen(), "all": DeleteAll()}
    return plain[kind]


def _draw_write(rng: np.random.Generator, contents: Contents, revision: int, most_documents: int) -> Write:
    """Draw a batch, mostly of new documents; with some policies also of known ones, and of the same one twice."""
    size = int(rng.integers(1, 301))
    policy = _POLICIES[rng.choice(len(_POLICIES), p=[0.5, 0.2, 0.3])]
    unused = [number for number in range(most_documents) if number not in contents]
    new = rng.choice(unused, min(size, len(unused)), replace=False).tolist() if unused else []
    known = rng.integers(most_documents, size=max(1, size // 4)).tolist()
    numbers = new if policy == "fail" and new and rng.random() < 0.8 else [*new, *known, *new[:2]]
    return Write(tuple((number, revision) for number in numbers), policy)
