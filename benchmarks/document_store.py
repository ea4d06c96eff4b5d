"""The document-store benchmark: `python -m benchmarks.document_store run | check | plot`; see benchmarks/README.md."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.command import (
    ResultsFile,
    add_check,
    console,
    mistakes_explained,
    read_results,
    resumed,
    work_folder,
    write_results,
)
from benchmarks.environment import environment
from benchmarks.passages import QUALITY_COLLECTION
from benchmarks.stores.prepare import RealWorkload, load_texts, real_workload, synthetic_workload
from benchmarks.stores.quality import answer_recall
from benchmarks.stores.runner import measure
from benchmarks.stores.subjects import SUBJECTS

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Measure document stores.")

DIM = 384
EXPECTATIONS = Path(__file__).with_suffix(".yaml")


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
    with mistakes_explained(), work_folder(work) as folder:
        results = resumed(output, {"environment": environment(), "settings": settings, "synthetic": {}})
        texts = load_texts(data, queries, seed)
        for size in [int(size) for size in sizes.split(",") if size]:
            console.print(f"{size:,} documents: preparing")
            workload = synthetic_workload(folder / f"synthetic-{size}", size, DIM, texts, queries, seed)
            results["synthetic"][str(size)] = measure(workload, names, work=folder, **options)
            write_results(results, output)
        if data is not None and cache is not None:
            real = real_workload(folder / "passages", data, cache, queries, seed)
            results["passages"] = {
                "documents": real.workload.size,
                "stores": measure(real.workload, ["sqlite_faiss"], work=folder, **options),
                "answer_recall": _answer_recall(real, folder),
            }
            write_results(results, output)


add_check(app, EXPECTATIONS)


@app.command()
def plot(
    results: ResultsFile,
    output: Annotated[Path, typer.Option(help="File to draw; .svg, .png or .pdf.")],
) -> None:
    """Plot how the figures grow with the number of documents."""
    from benchmarks.stores.growth import plot_growth  # noqa: PLC0415 (measuring works without matplotlib)

    with mistakes_explained():
        plot_growth(read_results(results), output)


def _answer_recall(real: RealWorkload, work: Path) -> dict[str, dict[str, float]]:
    rows = [row for row, name in enumerate(real.sets) if name in QUALITY_COLLECTION]
    console.print(f"{len(rows):,} passages: searching for answers")
    passages, vectors = [real.passages[row] for row in rows], real.workload.vectors[rows]
    with tempfile.TemporaryDirectory(dir=work) as folder:
        return answer_recall(Path(folder), passages, vectors, real.questions, real.workload.queries)


if __name__ == "__main__":
    app()
