"""Figures held to expectations: a YAML file names each figure and its limit."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from rich.markup import escape
from rich.table import Table

from benchmarks.figures import figure_at

Verdict = Literal["met", "missed", "not measured"]

_STYLES: dict[Verdict, str] = {"met": "green", "missed": "bold red", "not measured": "yellow"}
_FIELDS = {"name", "figure", "relative_to", "at_most", "at_least", "unit"}


class ExpectationError(ValueError):
    """An expectations file can't be read or says something that makes no sense; the message names the place."""


@dataclass(frozen=True)
class Expectation:
    """A limit for a figure, or for its ratio to another one.

    Args:
        name: What is expected, for people.
        figure: Keys that lead to the figure in the results, joined by dots.
        relative_to: Keys of the figure that it is divided by, if any.
        limit: Its limit.
        upper: Whether the figure must be at most the limit, rather than at least.
        unit: Unit of figure and limit.
    """

    name: str
    figure: str
    relative_to: str | None
    limit: float
    upper: bool
    unit: str

    def value(self, results: Mapping[str, Any]) -> float | None:
        """Look the figure up in the results; None where it was not measured."""
        figure = figure_at(results, self.figure)
        if self.relative_to is None or figure is None:
            return figure
        base = figure_at(results, self.relative_to)
        return figure / base if base else None

    def verdict(self, results: Mapping[str, Any]) -> Verdict:
        """Compare the figure with its limit."""
        value = self.value(results)
        if value is None:
            return "not measured"
        compare = operator.le if self.upper else operator.ge
        return "met" if compare(value, self.limit) else "missed"


def read_expectations(file: Path) -> list[Expectation]:
    """Read a YAML list of `{name, figure, relative_to?, at_most | at_least, unit?}`.

    Raises:
        ExpectationError: The file can't be read, or an entry is wrong.
    """
    try:
        entries = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ExpectationError(f"{file} can't be read: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise ExpectationError(f"{file} must hold a list of expectations.")
    return [_expectation(entry, f"{file}, entry {number}") for number, entry in enumerate(entries, start=1)]


def table(expectations: Sequence[Expectation], results: Mapping[str, Any]) -> Table:
    """Lay out expectations, figures and verdicts."""
    rows = Table("expectation", "limit", "measured", "verdict")
    for expected in expectations:
        value, verdict = expected.value(results), expected.verdict(results)
        limit = f"{'≤' if expected.upper else '≥'} {_number(expected.limit)} {expected.unit}"
        measured = "–" if value is None else f"{_number(value)} {expected.unit}"
        style = _STYLES[verdict]
        rows.add_row(escape(expected.name), limit.rstrip(), measured.rstrip(), f"[{style}]{verdict}[/{style}]")
    return rows


def _expectation(entry: Any, where: str) -> Expectation:
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("name"), str)
        or not isinstance(entry.get("figure"), str)
    ):
        raise ExpectationError(f"{where} must be a mapping with a name and a figure.")
    where = f"{where} ('{entry['name']}')"
    if unknown := set(entry) - _FIELDS:
        raise ExpectationError(f"{where} has unknown fields: {', '.join(sorted(map(str, unknown)))}.")
    limits = [key for key in ("at_most", "at_least") if key in entry]
    if len(limits) != 1 or not isinstance(entry[limits[0]], int | float):
        raise ExpectationError(f"{where} must have one number, as at_most or as at_least.")
    return Expectation(
        name=entry["name"],
        figure=entry["figure"],
        relative_to=entry.get("relative_to"),
        limit=float(entry[limits[0]]),
        upper=limits[0] == "at_most",
        unit=str(entry.get("unit", "")),
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
