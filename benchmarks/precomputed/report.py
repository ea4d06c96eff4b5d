"""The measured figures as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_Quality = Mapping[str, Mapping[str, float]]


def markdown(results: Mapping[str, Any]) -> str:
    """Write all tables that the results have figures for."""
    sections = [("Reading by split layers, EM / F1", _quality(results["quality"]))]
    if "tuned" in results:
        sections.append(("After tuning", _tuned(results["tuned"])))
    if "costs" in results:
        sections.append(("Costs", _costs(results["costs"])))
    return "\n\n".join(f"## {title}\n\n{body}" for title, body in sections) + "\n"


def _quality(quality: Mapping[str, _Quality]) -> str:
    layers = sorted({layer for figures in quality.values() for layer in figures}, key=int)
    rows = ([scheme, *(_pair(figures.get(layer)) for layer in layers)] for scheme, figures in quality.items())
    return _table(["", *layers], rows)


def _tuned(tuned: Mapping[str, Any]) -> str:
    reading: _Quality = tuned["reading"]
    recall: _Quality = tuned["recall"]
    cutoffs = list(next(iter(recall.values())))
    text = _table(["reading", "EM / F1"], ([name, _pair(figures)] for name, figures in reading.items()))
    rows = ([name, *(f"{figures[cutoff]:.1f}" for cutoff in cutoffs)] for name, figures in recall.items())
    return text + "\n\n" + _table(["gold passage", *cutoffs], rows)


def _costs(costs: Mapping[str, Any]) -> str:
    layers = list(costs["operations"])
    rows = [["operations of ordinary reading", *(f"{100 * costs['operations'][layer]:.0f}%" for layer in layers)]]
    for dtype, times in costs["timings"].items():
        upper = {"0": times["all layers"], **times["upper layers"]}
        ratio = {"0": 1.0, **times["ratio"]}
        rows.append([f"{dtype}, ms", *(f"{upper[n]:.1f}" if n in upper else "–" for n in layers)])
        rows.append([f"{dtype}, times as fast", *(f"{ratio[n]:.2f}" if n in ratio else "–" for n in layers)])
    loading = [
        [f"loading {precision}, ms", f"{times['warm']:.1f}", f"{times['cold']:.1f}"]
        for precision, times in costs["loading"].items()
    ]
    space = [
        [name, f"{s['bytes_per_passage']:,}", f"{s['gb_per_100000']:.1f}", f"{s['times_store']:.0f}"]
        for name, s in costs["storage"].items()
        if isinstance(s, Mapping)
    ]
    tables = (
        _table(["split layers", *layers], rows),
        _table(["", "warm", "cold"], loading),
        _table(["stored as", "bytes per passage", "GB per 100,000", "times the store"], space),
    )
    return "\n\n".join(tables)


def _pair(figures: Mapping[str, float] | None) -> str:
    return f"{figures['EM']:.1f} / {figures['F1']:.1f}" if figures else "–"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
