"""The index of a collection, made before it is asked for the first time."""

from functools import partial
from threading import Lock

import streamlit as st

from demo.core.jobs import Job
from demo.core.shelf import Collection
from demo.core.wording import literal
from rom_haystack.library import UpdateReport
from rom_haystack.modeling import DEFAULT_CHECKPOINT

# Seconds in which most indexes are found to be up to date; nothing flashes up for so short a time.
_BRIEF = 0.4
_TICK = 0.1


class Updates:
    """One update of each collection since the start, whichever session came first."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._jobs: dict[tuple[str, str], Job[UpdateReport]] = {}

    def of(self, collection: Collection, model: str) -> Job[UpdateReport]:
        """Return the update of a collection with a model; the first call starts it."""
        with self._lock:
            if (collection.id, model) not in self._jobs:
                work = partial(collection.reindex, model=model)
                self._jobs[collection.id, model] = Job(work, f"Indexing {collection.name}")
            return self._jobs[collection.id, model]

    def forget(self, collection: Collection, model: str) -> None:
        """Let the next call of `of` start anew."""
        with self._lock:
            self._jobs.pop((collection.id, model), None)


@st.cache_resource(show_spinner=False)
def updates() -> Updates:
    """The updates of all sessions."""
    return Updates()


def indexed(collection: Collection, model: str = DEFAULT_CHECKPOINT) -> bool:
    """Make sure that a collection can be asked: index it on its first use, with visible progress.

    Args:
        collection: The collection.
        model: The checkpoint that it is to be asked with.

    Returns:
        Whether it can be asked. If not, the page says why.
    """
    job = updates().of(collection, model)
    if not job.wait(_BRIEF):
        _show_progress(job, _title(collection, model))
    if job.state == "done":
        return True
    reason = str(job.error) if job.error else "It was cancelled."
    st.error(f"“{literal(collection.name)}” could not be indexed. {literal(reason)}", icon=":material/error:")
    if st.button("Try again", icon=":material/refresh:", key=f"index again {collection.id} {model}"):
        updates().forget(collection, model)
        st.rerun()
    return False


def _title(collection: Collection, model: str) -> str:
    by = "" if model == DEFAULT_CHECKPOINT else f" with “{literal(model)}”"
    return f"Reading “{literal(collection.name)}” for the first time{by}"


def _show_progress(job: Job[UpdateReport], title: str) -> None:
    bar = st.progress(0.0, text=f"{title} …")
    while not job.wait(_TICK):
        now = job.progress
        share = now.done / now.total if now.total else 0.0
        counted = f"{now.done} of {now.total} files" if now.total else "…"
        bar.progress(min(share, 1.0), text=f"{title}: {counted}")
    bar.empty()
