"""The document stores that are measured, one module each, behind one interface."""

from __future__ import annotations

from importlib import import_module

from benchmarks.stores.subjects.base import KeywordSearch, Subject

__all__ = ["SUBJECTS", "KeywordSearch", "Subject", "load_subject"]

#: Name in the results to the module, in the order in which they are measured.
SUBJECTS = {
    "sqlite_faiss": "benchmarks.stores.subjects.sqlite_faiss",
    "faiss": "benchmarks.stores.subjects.faiss_haystack",
    "in_memory": "benchmarks.stores.subjects.in_memory",
}


def load_subject(name: str) -> type[Subject]:
    """Import a subject and with it the store that it measures.

    Raises:
        ValueError: There is no subject of that name, or its package is not installed.
    """
    if name not in SUBJECTS:
        raise ValueError(f"There is no store '{name}' to measure; choose from {', '.join(SUBJECTS)}.")
    try:
        found: type[Subject] = import_module(SUBJECTS[name]).SUBJECT
    except ModuleNotFoundError as error:
        raise ValueError(
            f"The store '{name}' can't be measured: {error}. Install what benchmarks/README.md names, or leave the "
            "store out by --subjects."
        ) from error
    return found
