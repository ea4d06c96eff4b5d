"""What the commands share: results that are kept between calls, mistakes explained, the verdict on the figures."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from benchmarks.errors import JobError
from benchmarks.expectations import read_expectations, table

console = Console(stderr=True)

ResultsFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Results that `run` has written.")]


@contextmanager
def mistakes_explained() -> Iterator[None]:
    """End the command with 2 and a sentence where a value, a file or a measuring process is at fault."""
    try:
        yield
    except (ValueError, JobError, OSError) as error:
        console.print(f"[red]Error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


@contextmanager
def work_folder(folder: Path | None) -> Iterator[Path]:
    """Make the folder where it is missing; None for a temporary one."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def resumed(output: Path, fresh: dict[str, Any]) -> dict[str, Any]:
    """Take the results of an earlier run into ours, where it had the same settings and environment.

    Raises:
        ValueError: It had others.
    """
    if not output.exists():
        return fresh
    earlier = read_results(output)
    if any(earlier.get(part) != fresh[part] for part in ("environment", "settings")):
        raise ValueError(f"{output} holds results of other settings or another machine; name another file.")
    return earlier


def read_results(file: Path) -> dict[str, Any]:
    """Read results that `write_results` wrote.

    Raises:
        ValueError: It is no such file.
    """
    results = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(results, dict):
        raise ValueError(f"{file} holds no results.")
    return results


def write_results(results: dict[str, Any], output: Path) -> None:
    """Write results, indented."""
    output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def add_check(app: typer.Typer, expected_in: Path) -> None:
    """Give a benchmark the command `check`.

    Args:
        app: The benchmark's commands.
        expected_in: YAML file with the expectations, unless the command is told of another.
    """

    @app.command()
    def check(
        results: ResultsFile,
        expectations: Annotated[Path, typer.Option(help="YAML file with the expectations.")] = expected_in,
    ) -> None:
        """Compare results with the expectations; exit with 1 unless all are met."""
        with mistakes_explained():
            expected, measured = read_expectations(expectations), read_results(results)
        Console().print(table(expected, measured))
        if any(expectation.verdict(measured) != "met" for expectation in expected):
            raise typer.Exit(1)
