"""Precomputed reading: `python -m benchmarks.precomputed_reading run|tune|table`; see docs/precomputed-reading.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from transformers import PreTrainedTokenizerBase

from benchmarks.command import ResultsFile, console, mistakes_explained, read_results, resumed, write_results
from benchmarks.environment import environment
from benchmarks.precomputed.costs import (
    draw_work,
    loading_times,
    operations,
    passage_tokens,
    reading_times,
    storage,
)
from benchmarks.precomputed.quality import (
    BEST_SCHEME,
    SCHEMES,
    Sample,
    at_layers,
    draw,
    reading_quality,
    retrieval_recall,
)
from benchmarks.precomputed.report import markdown
from benchmarks.precomputed.split import SplitModel
from benchmarks.precomputed.stored import StoredReader
from benchmarks.precomputed.tuning import tune as run_tuning
from rom_haystack.modeling import DEFAULT_CHECKPOINT, ROMModel, load_checkpoint
from training.recipe import load_recipe

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Investigate reading from precomputed passages.")
RECIPE = Path(__file__).parents[1] / "training" / "recipes" / "rom-minilm-l6.yaml"

Data = Annotated[Path, typer.Option(help="Root folder of the data.")]
Model = Annotated[str, typer.Option(help="Checkpoint: folder or bundled name.")]
Layers = Annotated[int, typer.Option(min=0, help="Number of split layers of the tuned checkpoint.")]
DType = Literal["float32", "bfloat16"]


@app.command()
def run(
    data: Data,
    output: Annotated[Path, typer.Option(help="JSON file for the results; what it holds already is kept.")],
    model: Model = DEFAULT_CHECKPOINT,
    tuned: Annotated[Path | None, typer.Option(help="Checkpoint made by `tune`, to be measured too.")] = None,
    tuned_layers: Layers = 3,
    questions: Annotated[int, typer.Option(min=1, help="Questions of SQuAD dev to read gold passages for.")] = 1000,
    dtype: Annotated[DType, typer.Option(help="Type of the weights for all but the timings.")] = "bfloat16",
    timed_questions: Annotated[int, typer.Option(min=0, help="Questions that are timed; 0 leaves costs out.")] = 30,
    passages: Annotated[int, typer.Option(min=1, help="Passages per timed question.")] = 10,
    threads: Annotated[int, typer.Option(min=1, help="Threads.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.")] = 13,
) -> None:
    """Measure reading quality by scheme and number of split layers, and the costs; print both as Markdown."""
    torch.set_num_threads(threads)
    settings = {"model": model, "questions": questions, "dtype": dtype, "seed": seed}
    with mistakes_explained():
        results = resumed(output, {"environment": environment(), "settings": settings, "quality": {}})
        sample = draw(data / "squad" / "dev", questions, seed)
        loaded = load_checkpoint(model, dtype=getattr(torch, dtype))
        for scheme in SCHEMES:
            for layers in range(loaded[0].config.encoder.num_hidden_layers + 1):
                _measure_quality(results, scheme, layers, loaded, sample, output)
        if tuned is not None:
            adapted = load_checkpoint(tuned, dtype=getattr(torch, dtype))
            results["tuned"] = _tuned(results["quality"], loaded, adapted, tuned_layers, sample)
            write_results(results, output)
        if timed_questions:
            results["costs"] = _costs(model, sample, timed_questions, passages, output.parent, seed)
            write_results(results, output)
    typer.echo(markdown(results))


@app.command()
def tune(
    data: Data,
    output: Annotated[Path, typer.Option(help="Run folder; an interrupted run there is continued.")],
    model: Model = DEFAULT_CHECKPOINT,
    layers: Layers = 3,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 2000,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-4,
    reading_batch: Annotated[int, typer.Option(min=1, help="Questions per step of reading.")] = 32,
    retrieval_batch: Annotated[int, typer.Option(min=1, help="Questions per step of retrieval.")] = 12,
) -> None:
    """Train a checkpoint on with split layers, by the recipe that made it, and write it to OUTPUT/model."""
    tasks = {"reading": {"batch_size": reading_batch}, "retrieval": {"batch_size": retrieval_batch}}
    with mistakes_explained():
        recipe = load_recipe(RECIPE, steps=steps, learning_rate=learning_rate, checkpoint_every=50, tasks=tasks)
        folder = run_tuning(model, at_layers(BEST_SCHEME, layers), recipe, data, output)
    console.print(f"Model written to {folder}", markup=False)


@app.command()
def table(results: ResultsFile) -> None:
    """Print results as Markdown tables."""
    with mistakes_explained():
        typer.echo(markdown(read_results(results)))


def _measure_quality(
    results: dict[str, Any],
    scheme: str,
    layers: int,
    loaded: tuple[ROMModel, PreTrainedTokenizerBase],
    sample: Sample,
    output: Path,
) -> None:
    figures = results["quality"].setdefault(scheme, {})
    if str(layers) in figures:
        return
    figures[str(layers)] = reading_quality(*loaded, at_layers(scheme, layers), sample)
    console.print(f"{scheme}, {layers} layers split: {figures[str(layers)]}", markup=False)
    write_results(results, output)


def _tuned(
    quality: Mapping[str, Any],
    original: tuple[ROMModel, PreTrainedTokenizerBase],
    adapted: tuple[ROMModel, PreTrainedTokenizerBase],
    layers: int,
    sample: Sample,
) -> dict[str, Any]:
    split = at_layers(BEST_SCHEME, layers)
    reading = {
        "original, ordinary": quality["as in the pair"]["0"],
        f"original, {layers} layers split": quality[BEST_SCHEME][str(layers)],
        f"tuned, {layers} layers split": reading_quality(*adapted, split, sample),
        "the same from int8": reading_quality(*adapted, replace(split, stored_as="int8"), sample),
        "tuned, ordinary": reading_quality(*adapted, None, sample),
    }
    recall = {"original": retrieval_recall(*original, sample), "tuned": retrieval_recall(*adapted, sample)}
    return {"split": asdict(split), "reading": reading, "recall": recall}


def _costs(model: str, sample: Sample, questions: int, passages: int, folder: Path, seed: int) -> dict[str, Any]:
    loaded, tokenizer = load_checkpoint(model)
    config = loaded.config.encoder
    ids = passage_tokens(tokenizer, [passage.text for passage in sample.collection])
    queries = [tokenizer(question.text)["input_ids"] for question in sample.questions]
    work = draw_work(queries[:questions], ids, count=passages, seed=seed)
    sizes = {"query": _mean_length(queries), "passage": _mean_length(ids), "passages": passages}
    whole = operations(config, 0, **sizes)
    upper = range(1, config.num_hidden_layers)
    reader = StoredReader(SplitModel(loaded, tokenizer, at_layers(BEST_SCHEME, 1)).eval())
    return {
        "sizes": sizes,
        "operations": {str(n): round(operations(config, n, **sizes) / whole, 3) for n in [0, *upper]},
        "storage": storage([len(passage) for passage in ids], config.hidden_size),
        "timings": {
            dtype: reading_times(load_checkpoint(model, dtype=getattr(torch, dtype))[0], tokenizer, work, upper)
            for dtype in ("float32", "bfloat16")
        },
        "loading": loading_times(reader, ids, work, folder),
    }


def _mean_length(tokens: Sequence[Sequence[int]]) -> int:
    return round(sum(len(ids) for ids in tokens) / len(tokens))


if __name__ == "__main__":
    app()
