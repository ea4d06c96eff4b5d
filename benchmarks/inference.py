"""The inference benchmark: `python -m benchmarks.inference run | check | plot`; see benchmarks/README.md."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.answering.growth import Points
from benchmarks.answering.parts import PARTS, Measurement, Settings
from benchmarks.answering.prepare import Sources
from benchmarks.answering.systems import SYSTEMS, chosen_systems
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
from rom_haystack.modeling import DEFAULT_CHECKPOINT

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Measure how fast questions are answered.")

EXPECTATIONS = Path(__file__).with_suffix(".yaml")
#: Environment variables that change what is measured.
_VARIABLES = ("ROM_BACKEND", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "ONEDNN_MAX_CPU_ISA")


@app.command()
def run(
    output: Annotated[Path, typer.Option(help="JSON file for the results.")],
    data: Annotated[Path, typer.Option(help="Data folder, with squad/train and squad/dev.")],
    base: Annotated[Path, typer.Option(help="Folder of the plain encoder that ROM was trained from, for the peers.")],
    cache: Annotated[Path, typer.Option(help="Folder for the passages' embeddings.")],
    work: Annotated[
        Path | None, typer.Option(help="Folder for models and stores, which are kept; default: temporary.")
    ] = None,
    model: Annotated[str, typer.Option(help="Bundled name or folder of the ROM checkpoint.")] = DEFAULT_CHECKPOINT,
    parts: Annotated[str, typer.Option(help="What to measure, joined by commas.")] = ",".join(PARTS),
    systems: Annotated[str, typer.Option(help="Systems, joined by commas.")] = ",".join(SYSTEMS),
    passages: Annotated[int | None, typer.Option(min=1, help="Passages in the collection; default: all.")] = None,
    questions: Annotated[int, typer.Option(min=1, help="Questions end to end, and for the stages.")] = 200,
    warm_up: Annotated[int, typer.Option(min=0, help="Questions before them, not counted.")] = 10,
    adaptive: Annotated[int, typer.Option(min=1, help="Questions for adaptive reading.")] = 1000,
    indexed: Annotated[int, typer.Option(min=1, help="Passages that are embedded for speed.")] = 1000,
    read: Annotated[int, typer.Option(min=1, help="Questions for reading quality and for recall.")] = 2000,
    growth: Annotated[int, typer.Option(min=1, help="Questions per point of a curve.")] = 30,
    rounds: Annotated[int, typer.Option(min=1, help="Cold starts of each system.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.")] = 13,
) -> None:
    """Measure ROM beside the stock components and DPR's shape.

    What an earlier run wrote to OUTPUT with the same settings is kept, and parts that are measured again replaced.
    """
    settings = Settings(
        passages=passages,
        questions=questions,
        warm_up=warm_up,
        adaptive=adaptive,
        indexed=indexed,
        read=read,
        rounds=rounds,
        points=Points(questions=growth),
        seed=seed,
    )
    with mistakes_explained(), work_folder(work) as folder:
        chosen = chosen_systems(systems)
        wanted = _chosen_parts(parts)
        variables = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        made_of = {**asdict(settings), "points": {"questions": growth}, "model": model, "variables": variables}
        results = resumed(output, {"environment": environment(), "settings": made_of})
        sources = Sources(data=data, base=base.resolve(), model=model, cache=cache, work=folder)
        measurement = Measurement(sources, settings, chosen, console.print)
        results["engines"] = results.get("engines", {}) | measurement.engines()
        for part in wanted:
            results[part] = measurement.measure(part)
            write_results(results, output)


add_check(app, EXPECTATIONS)


@app.command()
def plot(
    results: ResultsFile,
    output: Annotated[Path, typer.Option(help="File to draw; .svg, .png or .pdf.")],
) -> None:
    """Plot how time grows with passages, their length, cores and users."""
    from benchmarks.answering.plots import plot_growth  # noqa: PLC0415 (measuring works without matplotlib)

    with mistakes_explained():
        plot_growth(read_results(results), output)


def _chosen_parts(names: str) -> list[str]:
    chosen = [name for name in names.split(",") if name]
    for name in chosen:
        if name not in PARTS:
            raise ValueError(f"There is no part '{name}' to measure; choose from {', '.join(PARTS)}.")
    return [part for part in PARTS if part in chosen]


if __name__ == "__main__":
    app()
