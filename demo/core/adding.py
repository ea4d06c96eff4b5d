"""Work on a collection in the background, with what becomes of each file."""

import unicodedata
from collections.abc import Sequence
from typing import Literal

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
        self.job: Job[UpdateReport] = Job(collection.reindex, "Reading documents")

    def steps(self) -> list[tuple[str, Step]]:
        """List nothing: which files have changed is not known before."""
        return []
