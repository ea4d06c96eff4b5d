"""Reports of `python -m training evaluate --report`: figures of systems, with their intervals."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rom_haystack.metrics import Figure

#: Most bytes of a file that is taken for a report.
_MAX_BYTES = 5 * 2**20
_CHECKPOINTS = "checkpoint-"


@dataclass(frozen=True)
class Report:
    """An evaluation.

    Attributes:
        name: Where it lies in its folder, without the ending.
        systems: By system, its figures by metric.
        settings: How it was made, such as `question count`.
    """

    name: str
    systems: Mapping[str, Mapping[str, Figure]]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class ReportTable:
    """Reports side by side.

    Attributes:
        systems: Names of the columns.
        rows: By metric, a figure per column; None where a system has none.
    """

    systems: tuple[str, ...]
    rows: Mapping[str, tuple[Figure | None, ...]]


def find_reports(folder: Path, *, inner: bool = True) -> Iterator[Report]:
    """Find the reports in a folder, by name; other files are passed over, and a folder that is gone has none.

    Args:
        folder: The folder.
        inner: Also find those in the folders in it.
    """
    for path in sorted([*folder.glob("*.json"), *(folder.glob("*/*.json") if inner else ())]):
        if not path.parent.name.startswith(_CHECKPOINTS):
            report = _read(path, str(path.relative_to(folder).with_suffix("")))
            if report is not None:
                yield report


def side_by_side(reports: Sequence[Report]) -> ReportTable:
    """Lay reports out in one table; a system with the same figures in several of them, as a baseline, comes once."""
    columns: dict[str, Mapping[str, Figure]] = {}
    for report in reports:
        for system, figures in report.systems.items():
            if figures in columns.values():
                continue
            alone = sum(system in other.systems and other.systems[system] != figures for other in reports) == 0
            columns[system if alone else f"{report.name}: {system}"] = figures
    metrics = dict.fromkeys(metric for figures in columns.values() for metric in figures)
    rows = {metric: tuple(figures.get(metric) for figures in columns.values()) for metric in metrics}
    return ReportTable(tuple(columns), rows)


def resampled(reports: Sequence[Report]) -> str:
    """Say what the bootstrap of reports drew: the articles that the questions are about, or questions.

    Articles are drawn where there are several; older reports don't count them.
    """
    counts = {count for report in reports if isinstance(count := report.settings.get("article count"), int)}
    several = ", ".join(str(count) for count in sorted(counts) if count > 1)
    return f"articles ({several}; questions where none are known)" if several else "questions"


def _read(path: Path, name: str) -> Report | None:
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        whole = json.loads(path.read_text(encoding="utf-8"))
        systems = {
            str(system): {str(metric): _figure(values) for metric, values in figures.items()}
            for system, figures in whole["systems"].items()
        }
        settings = dict(whole.get("settings", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return Report(name, systems, settings) if systems else None


def _figure(values: Mapping[str, Any]) -> Figure:
    return Figure(float(values["mean"]), float(values["low"]), float(values["high"]))
