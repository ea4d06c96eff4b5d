"""Work on collections in the background, with what becomes of each file."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Literal
from weakref import WeakValueDictionary

from demo.core.collection import Collection
from demo.core.jobs import Job, Report
from demo.core.uploads import Added, Upload
from rom_haystack.library import UpdateReport

Step = Literal["waiting", "reading", "done"]


class Adding:
    """Uploads on their way into a collection.

    Args:
        collection: Where they go.
        uploads: The files.

    Attributes:
        collection: As given.
        job: The work.
    """

    def __init__(self, collection: Collection, uploads: Sequence[Upload]) -> None:
        self.collection = collection
        self._steps: dict[str, Step] = {
            unicodedata.normalize("NFC", upload.name).strip(): "waiting" for upload in uploads
        }
        self.job: Job[Added] = Job(lambda report: collection.add(uploads, self._noting(report)), "Adding documents")

    def steps(self) -> list[tuple[str, Step]]:
        """List the files by name, each with how far it is."""
        return sorted(self._steps.copy().items())

    def _noting(self, report: Report) -> Report:
        """Note at which file the work is; it is done with those before."""

        def note(done: int, total: int, label: str) -> None:
            self._steps.update({name: "done" for name, step in self._steps.items() if step == "reading"})
            if label in self._steps:
                self._steps[label] = "reading"
            report(done, total, label)

        return note


class Updating:
    """A collection whose index is brought up to date.

    Args:
        collection: The collection.

    Attributes:
        collection: As given.
        job: The work.
    """

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self.job: Job[UpdateReport] = Job(self._update, "Reading documents")

    def steps(self) -> list[tuple[str, Step]]:
        """List nothing: which files have changed is not known before."""
        return []

    def _update(self, report: Report) -> UpdateReport:
        return self.collection.reindex(report)


@dataclass(frozen=True)
class Removed:
    """What came of documents that were to be removed.

    Attributes:
        names: Those that are gone.
    """

    names: tuple[str, ...]


class Removing:
    """Documents that are taken out of a collection.

    Args:
        collection: The collection.
        names: The documents.

    Attributes:
        collection: As given.
        job: The work.
    """

    def __init__(self, collection: Collection, names: Sequence[str]) -> None:
        self.collection = collection
        self._names = tuple(names)
        self.job: Job[Removed] = Job(self._remove, "Deleting documents")

    def steps(self) -> list[tuple[str, Step]]:
        """List nothing: the documents go all at once."""
        return []

    def _remove(self, report: Report) -> Removed:
        self.collection.remove(self._names, report)
        return Removed(self._names)


Work = Adding | Updating | Removing


class Works:
    """The work that goes on, by collection; whoever sees a collection sees it.

    Work is not kept alive here: while it goes on its thread does that, and then whoever shows its outcome. So unsaved
    documents still go with their session.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._latest: WeakValueDictionary[str, Work] = WeakValueDictionary()

    def begin(self, collection: Collection, make: Callable[[], Work]) -> Work:
        """Start work on a collection, unless other work on it goes on.

        Args:
            collection: The collection.
            make: Starts the work.

        Returns:
            The work that goes on now.
        """
        with self._lock:
            work = self.running_on(collection)
            if work is None:
                work = self._latest[collection.id] = make()
            return work

    def running_on(self, collection: Collection) -> Work | None:
        """Return the work that goes on on a collection."""
        work = self._latest.get(collection.id)
        return work if work is not None and work.job.state == "running" else None
