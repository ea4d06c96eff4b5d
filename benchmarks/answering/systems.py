"""What is measured, in plain values, so that another process can be told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Family = Literal["rom", "stock", "dpr"]
StoreKind = Literal["sqlite_faiss", "faiss", "in_memory"]

#: Passages read per question, and answers returned, the no-answer counted (the stock reader returns one more).
TOP_PASSAGES = 10
TOP_ANSWERS = 20


@dataclass(frozen=True)
class System:
    """A system that answers questions.

    Args:
        family: `rom`, `stock` (Haystack's components with models of ROM's size), or `dpr` (the same components with
            three encoders of BERT-base's size).
        store: The document store that it searches.
        backend: ROM's inference engine; None for the default.
        dtype: Type of that engine's arithmetic; None for the default.
        adaptive_reading: ROM's setting; None for the default.
        coalesced: Whether users who ask at once share ROM's calls of the engine, as they do by default.
    """

    family: Family
    store: StoreKind
    backend: str | None = None
    dtype: str | None = None
    adaptive_reading: str | None = None
    coalesced: bool = True


#: Name in the results to the system.
SYSTEMS: dict[str, System] = {
    "rom": System("rom", "sqlite_faiss"),
    "rom_torch": System("rom", "sqlite_faiss", backend="torch", dtype="float32"),
    "rom_openvino_float32": System("rom", "sqlite_faiss", backend="openvino", dtype="float32"),
    "rom_openvino_int8": System("rom", "sqlite_faiss", backend="openvino", dtype="int8"),
    "rom_onnx": System("rom", "sqlite_faiss", backend="onnx", dtype="float32"),
    "rom_cautious": System("rom", "sqlite_faiss", adaptive_reading="cautious"),
    "rom_fast": System("rom", "sqlite_faiss", adaptive_reading="fast"),
    "rom_uncoalesced": System("rom", "sqlite_faiss", coalesced=False),
    "stock": System("stock", "in_memory"),
    "stock_faiss": System("stock", "faiss"),
    "dpr": System("dpr", "faiss"),
}
#: ROM as it comes, and the engine that the others are compared with.
DEFAULT, REFERENCE = "rom", "rom_torch"
#: ROM's systems that differ in their engines; those that may leave passages unread; one that matters only where users
#: ask at once; and what shows how time grows.
ENGINES = (DEFAULT, REFERENCE, "rom_openvino_float32", "rom_openvino_int8", "rom_onnx")
ADAPTIVE = ("rom_cautious", "rom_fast")
UNCOALESCED = "rom_uncoalesced"
GROWING = (DEFAULT, REFERENCE, "stock_faiss")


@dataclass(frozen=True)
class Place:
    """Where a system's models and documents are.

    Args:
        store: The document store's folder.
        dim: Width of the embeddings in it.
        embedder: Model of the query embedder: a folder or, of ROM, a bundled name.
        reader: Model of the reader; ROM's is its embedder.
        document_embedder: Model of the document embedder.
    """

    store: str
    dim: int
    embedder: str
    reader: str
    document_embedder: str


@dataclass(frozen=True)
class Job:
    """What a measuring process is started for.

    Args:
        system: The system that it holds.
        place: Where that is.
        cores: How many cores it may use; None for all that there are.
    """

    system: System
    place: Place
    cores: int | None = None


def chosen_systems(names: str) -> dict[str, System]:
    """Pick systems by their names, joined by commas.

    Raises:
        ValueError: There is no such system.
    """
    wanted = [name for name in names.split(",") if name]
    for name in wanted:
        if name not in SYSTEMS:
            raise ValueError(f"There is no system '{name}'; choose from {', '.join(SYSTEMS)}.")
    return {name: SYSTEMS[name] for name in wanted}
