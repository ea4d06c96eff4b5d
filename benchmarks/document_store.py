"""The document-store benchmark: `python -m benchmarks.document_store run | check | plot`; see benchmarks/README.md."""

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

from benchmarks.expectations import read_expectations, table
from benchmarks.stores.environment import environment
from benchmarks.stores.passages import QUALITY_COLLECTION
from benchmarks.stores.prepare import RealWorkload, load_texts, real_workload, synthetic_workload
from benchmarks.stores.quality import answer_recall
from benchmarks.stores.runner import measure
from benchmarks.stores.subjects import SUBJECTS
from benchmarks.stores.worker import JobError

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Measure document stores.")
console = Console(stderr=True)

DIM = 384
EXPECTATIONS = Path(__file__).with_suffix(".yaml")

Results = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Results that `run` has written.")]


@contextmanager
def _mistakes_explained() -> Iterator[None]:
    try:
        yield
    except (ValueError, JobError, OSError) as error:
        console.print(f"[red]Error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


@app.command()
def run(
    output: Annotated[Path, typer.Option(help="JSON file for the results.")],
    sizes: Annotated[str, typer.Option(help="Synthetic sizes, joined by commas; empty for none.")] = (
        "10000,20000,100000,1000000"
    ),
    subjects: Annotated[str, typer.Option(help="Stores, joined by commas.")] = ",".join(SUBJECTS),
    data: Annotated[Path | None, typer.Option(help="Data folder: real texts, questions and a real workload.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for the real passages' embeddings; needs --data.")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder for workloads, which are kept; default: temporary.")] = None,
    queries: Annotated[int, typer.Option(min=1, help="Queries of each kind.")] = 1000,
    rounds: Annotated[int, typer.Option(min=1, help="How often each store is opened and searched.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Documents per write.")] = 5000,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.")] = 13,
) -> None:
    """Measure stores over synthetic collections and, with --data and --cache, over real passages.

    What an earlier run wrote to OUTPUT with the same settings is kept, and what is measured again replaced.
    """
    if cache is not None and data is None:
        raise typer.BadParameter("it holds embeddings of the passages in --data.", param_hint="--cache")
    names = subjects.split(",")
    options: dict[str, Any] = {"rounds": rounds, "batch_size": batch_size, "report": console.print}
    settings = {"queries": queries, "rounds": rounds, "batch_size": batch_size, "seed": seed, "data": data is not None}
    with _mistakes_explained(), _work_folder(work) as folder:
        results = _resumed(output, {"environment": environment(), "settings": settings, "synthetic": {}})
        texts = load_texts(data, queries, seed)
        for size in [int(size) for size in sizes.split(",") if size]:
            console.print(f"{size:,} documents: preparing")
            workload = synthetic_workload(folder / f"synthetic-{size}", size, DIM, texts, queries, seed)
            results["synthetic"][str(size)] = measure(workload, names, work=folder, **options)
            _write(results, output)
        if data is not None and cache is not None:
            real = real_workload(folder / "passages", data, cache, queries, seed)
            results["passages"] = {
                "documents": real.workload.size,
                "stores": measure(real.workload, ["sqlite_faiss"], work=folder, **options),
                "answer_recall": _answer_recall(real, folder),
            }
            _write(results, output)


@app.command()
def check(
    results: Results,
    expectations: Annotated[Path, typer.Option(help="YAML file with the expectations.")] = EXPECTATIONS,
) -> None:
    """Compare results with the expectations; exit with 1 unless all are met."""
    with _mistakes_explained():
        expected, measured = read_expectations(expectations), json.loads(results.read_text(encoding="utf-8"))
    Console().print(table(expected, measured))
    if any(expectation.verdict(measured) != "met" for expectation in expected):
        raise typer.Exit(1)


@app.command()
def plot(
    results: Results,
    output: Annotated[Path, typer.Option(help="File to draw; .svg, .png or .pdf.")],
) -> None:
    """Plot how the figures grow with the number of documents."""
    from benchmarks.growth import plot_growth  # noqa: PLC0415 (measuring works without matplotlib)

    with _mistakes_explained():
        plot_growth(json.loads(results.read_text(encoding="utf-8")), output)


def _answer_recall(real: RealWorkload, work: Path) -> dict[str, dict[str, float]]:
    rows = [row for row, name in enumerate(real.sets) if name in QUALITY_COLLECTION]
    console.print(f"{len(rows):,} passages: searching for answers")
    passages, vectors = [real.passages[row] for row in rows], real.workload.vectors[rows]
    with tempfile.TemporaryDirectory(dir=work) as folder:
        return answer_recall(Path(folder), passages, vectors, real.questions, real.workload.queries)


@contextmanager
def _work_folder(work: Path | None) -> Iterator[Path]:
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        yield work.resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _resumed(output: Path, fresh: dict[str, Any]) -> dict[str, Any]:
    """Take the results of an earlier run into ours, where it had the same settings and environment."""
    if output.exists():
        earlier: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
        if all(earlier.get(part) == fresh[part] for part in ("environment", "settings")):
            return earlier
        raise ValueError(f"{output} holds results of other settings or another machine; name another file.")
    return fresh


def _write(results: dict[str, Any], output: Path) -> None:
    output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()
