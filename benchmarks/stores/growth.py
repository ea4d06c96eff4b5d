"""Plot how a document store's figures grow with its size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.figures import figure_at
from benchmarks.panels import Line, Panel, draw

#: Name in the results to the name for people, color and marker, in the order of the legend.
_STORES = {
    "sqlite_faiss": ("SQLiteFAISSDocumentStore", "#0b6e4f", "o"),
    "faiss": ("FAISSDocumentStore", "#c8553d", "s"),
    "in_memory": ("InMemoryDocumentStore", "#6c757d", "^"),
}

#: One panel each: its title, the figure's keys below a store, and the figure's worth of one unit. What grows with the
#: collection has a logarithmic axis, what is counted per document one that begins at zero.
_PANELS = (
    ("search and fetch 10 documents, median, ms", "search.p50_ms", 1),
    ("the same among 1% of the documents, ms", "filtered.p50_ms", 1),
    ("BM25, median, ms", "keywords.p50_ms", 1),
    ("resident memory after the queries, MB", "memory.searched", 1e6),
    ("opening and first query, s", "opening.ready_s", 1),
    ("disk per document, KB", "disk_bytes_per_document", 1e3),
)


def plot_growth(results: Mapping[str, Any], output: Path) -> None:
    """Draw a panel per figure with a line per store over the sizes.

    Args:
        results: Results of the benchmark; only its synthetic part is drawn.
        output: File to write; its suffix says which format (png, svg, pdf).

    Raises:
        ValueError: There is nothing to draw, or the format is unknown.
    """
    if not results.get("synthetic"):
        raise ValueError("The results hold no synthetic sizes, so there is no growth to plot.")
    panels = [
        Panel(
            title,
            "documents",
            [Line(*looks, curve(results, store, keys, unit)) for store, looks in _STORES.items()],
            from_zero=keys.endswith("_per_document"),
        )
        for title, keys, unit in _PANELS
    ]
    draw(panels, output)


def curve(results: Mapping[str, Any], store: str, keys: str, unit: float) -> dict[int, float]:
    """Collect a figure of a store, in some unit, by number of documents, rising."""
    sizes = sorted(int(size) for size in results["synthetic"])
    values = {size: figure_at(results, f"synthetic.{size}.{store}.{keys}") for size in sizes}
    return {size: value / unit for size, value in values.items() if value is not None}
