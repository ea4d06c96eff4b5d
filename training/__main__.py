"""Command line of the training module."""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from transformers.utils.logging import disable_progress_bar

from rom_haystack.inference import EncoderSpec
from rom_haystack.inference.stopping import CALIBRATION_FILE
from rom_haystack.modeling import CheckpointError, resolve_checkpoint
from training.calibration import CHECKS, PASSAGES, QUESTIONS, checks_table, scores_table, write_calibration
from training.calibration import calibrate as run_calibration
from training.compare import compare as run_comparison
from training.curves import write_curves
from training.data.dataset import DataSet
from training.data.formats import Format, read_data, write_data
from training.errors import DataError, RecipeError, RunError
from training.evaluation import ASKED, COLLECTION, UNANSWERABLE, EvaluationOptions
from training.evaluation import evaluate as run_evaluation
from training.figures import markdown_table
from training.grid import load_grid
from training.memory import keep_freed_memory
from training.merging import merge as merge_with_base
from training.negatives import Source, with_keyword_negatives, with_mined_negatives
from training.rankers import best_device
from training.recipe import load_recipe
from training.release import release as write_release
from training.release import write_report
from training.samples import resampled
from training.trainer import train as run_training

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Train and evaluate ROM models.")
console = Console(stderr=True)

Data = Annotated[Path, typer.Option(help="Root folder of the data.")]
Backend = Literal["auto", "torch", "onnx", "openvino"]
EncoderOption = Annotated[str | None, typer.Option(help="Folder or hub id to use instead of the recipe's encoder.")]


@contextmanager
def _store_near(output: Path) -> Iterator[Path]:
    """Make a folder for data that is too large for memory, on the disk of what is written, and delete it in the end."""
    place = next(folder for folder in output.resolve().parents if folder.is_dir())
    try:
        folder = tempfile.TemporaryDirectory(prefix="read-", dir=place, ignore_cleanup_errors=True)
    except OSError as error:
        raise DataError(f"{output} can't be written ({error}).") from error
    with folder as store:
        yield Path(store)


@contextmanager
def _mistakes_explained() -> Iterator[None]:
    try:
        yield
    except (RecipeError, DataError, RunError, CheckpointError, ImportError) as error:
        console.print(f"[red]Error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (YAML).")],
    data: Data,
    output: Annotated[Path, typer.Option(help="Run folder; an interrupted run there is continued.")],
    encoder: EncoderOption = None,
    steps: Annotated[int | None, typer.Option(help="Number of steps to train instead of the recipe's.")] = None,
    stop_after: Annotated[int | None, typer.Option(min=1, help="Stop after this step, to be continued later.")] = None,
) -> None:
    """Train a model by a recipe and write it to OUTPUT/model."""
    if not sys.stderr.isatty():
        disable_progress_bar()  # of transformers, which says how weights are loaded and written; a log wants lines
    with _mistakes_explained():
        folder = run_training(load_recipe(recipe, encoder=encoder, steps=steps), data, output, stop_after=stop_after)
    if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
        paused = f"Step {stop_after} is reached; without --stop-after the run goes on."
        console.print(f"Model written to {folder}" if folder else paused, markup=False)


@app.command()
def curves(run: Annotated[Path, typer.Argument(help="Run folder, finished or not.")]) -> None:
    """Draw a run's learning curves into its folder: curves.html, and curves.png where matplotlib is installed."""
    with _mistakes_explained():
        files = write_curves(run)
    console.print(f"Curves written to {' and '.join(map(str, files))}", markup=False, soft_wrap=True)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="Checkpoint folder or bundled name.")],
    data: Data,
    questions: Annotated[str, typer.Option(help="Set of the questions, a folder of JSON lines.")] = ASKED,
    collection: Annotated[list[str], typer.Option(help="Set whose passages are searched (repeatable).")] = COLLECTION,
    base: Annotated[str | None, typer.Option(help="Folder or hub id of the untuned encoder to compare with.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Number of questions; default: all.")] = None,
    end_to_end_limit: Annotated[int, typer.Option(min=1, help="Questions for the end-to-end figures.")] = 1000,
    passages: Annotated[int, typer.Option(min=1, help="Passages read per question end to end.")] = 10,
    also_passages: Annotated[
        list[int] | None, typer.Option(min=1, help="Another number of passages to read end to end (repeatable).")
    ] = None,
    further: Annotated[
        list[str] | None, typer.Option(help="Further set for answer recall over its own passages (repeatable).")
    ] = None,
    beir: Annotated[list[str] | None, typer.Option(help="Folder in BEIR's form for nDCG@10 (repeatable).")] = None,
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="Type of the weights.")] = "float32",
    unanswerable: Annotated[
        str | None,
        typer.Option(
            help=f"Set of questions without an answer; default: that of QUESTIONS, for {ASKED} {UNANSWERABLE} if there."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of draws and bootstrap.")] = 13,
    report: Annotated[Path | None, typer.Option(help="Also write everything to this JSON file.")] = None,
) -> None:
    """Print answer recall, reading and end-to-end figures beside hybrid search, BM25 and the untuned base."""
    if report and not report.parent.is_dir():
        raise typer.BadParameter(f"{report.parent} is no folder.", param_hint="--report")
    with _mistakes_explained():
        options = EvaluationOptions(
            base=base,
            questions=questions,
            passages=collection,
            further=further or [],
            beir=beir or [],
            unanswerable=unanswerable or _usual_unanswerable(questions, data),
            limit=limit,
            end_to_end_limit=end_to_end_limit,
            passage_count=passages,
            further_counts=also_passages or [],
            dtype=dtype,
            seed=seed,
        )
        result = run_evaluation(model, data, options).report()
    Console().print(Markdown(markdown_table(result["systems"])))
    settings = result["settings"]
    Console().print(f"In percent, with 95% bootstrap intervals over {resampled(settings)}.")
    Console().print("Points by which rom is better, by the paired bootstrap:")
    Console().print(Markdown(markdown_table(result["differences"])))
    Console().print(f"Best calibration_factor for the answers end to end: {settings['calibration factor']}")
    if report:
        write_report(result, report)


@app.command()
def compare(
    grid: Annotated[Path, typer.Argument(help="Grid file (YAML): a base recipe and variants of it.")],
    data: Data,
    output: Annotated[Path, typer.Option(help="Folder to write; what is finished there is not done again.")],
    encoder: EncoderOption = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed instead of the grid's (repeatable).")] = None,
) -> None:
    """Train and evaluate variants of a recipe, and write their figures side by side (OUTPUT/table.md, report.json).

    Ends with code 1 if a variant failed; the others are in the table all the same.
    """
    if not sys.stderr.isatty():
        disable_progress_bar()
    with _mistakes_explained():
        comparison = run_comparison(*load_grid(grid, encoder, seed), data, output)
    Console().print(Markdown(comparison.markdown()))
    console.print(f"Table written to {output}", markup=False, soft_wrap=True)
    if comparison.failures:
        raise typer.Exit(1)


@app.command()
def calibrate(
    model: Annotated[str, typer.Argument(help="Checkpoint folder or bundled name.")],
    data: Data,
    questions: Annotated[str, typer.Option(help="Set whose questions fit the rules and check them.")] = QUESTIONS,
    check: Annotated[list[str], typer.Option(help="Further set whose questions check them (repeatable).")] = CHECKS,
    collection: Annotated[list[str], typer.Option(help="Set whose passages are searched (repeatable).")] = PASSAGES,
    limit: Annotated[int | None, typer.Option(min=1, help="Number of questions; default: all.")] = None,
    check_limit: Annotated[int, typer.Option(min=1, help="Most questions of a set in the further checks.")] = 200,
    passages: Annotated[int, typer.Option(min=2, help="Passages per question that the promises hold for.")] = 10,
    backend: Annotated[Backend, typer.Option(help="Inference engine.")] = "auto",
    dtype: Annotated[str | None, typer.Option(help="Type of its arithmetic; default: the engine's choice.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of draws and halves.")] = 13,
    output: Annotated[Path | None, typer.Option(help="File to write instead of the checkpoint's own.")] = None,
) -> None:
    """Measure when reading may stop early and how answers are scored, for the checkpoint's calibration.json."""
    if output and not output.parent.is_dir():
        raise typer.BadParameter(f"{output.parent} is no folder.", param_hint="--output")
    try:
        spec = EncoderSpec.create(model, backend=backend, device=_device(backend), model_kwargs={"dtype": dtype})
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--dtype") from error
    with _mistakes_explained():
        result = run_calibration(
            spec,
            data,
            questions_in=questions,
            checks_in=check,
            passages_in=collection,
            limit=limit,
            check_limit=check_limit,
            passage_count=passages,
            seed=seed,
        )
        file = output or resolve_checkpoint(model) / CALIBRATION_FILE
        write_calibration(result, file)
    Console().print(Markdown(checks_table(result)))
    Console().print(Markdown(scores_table(result)))
    console.print(f"Calibration written to {file}", markup=False)


@app.command()
def convert_data(
    source: Annotated[Path, typer.Argument(help="SQuAD or DPR file (.json, .json.gz), or folder of JSON lines.")],
    output: Annotated[
        Path, typer.Argument(help="File to write, gzip'd if it ends in .gz; a folder for jsonl and beir.")
    ],
    to: Annotated[Format, typer.Option(help="Format to write.")],
    hard_negatives: Annotated[
        int, typer.Option(min=0, help="For dpr: hard negatives that BM25 finds for questions without any.")
    ] = 1,
) -> None:
    """Convert questions and passages between formats, and say what could not be carried over."""
    with _mistakes_explained(), _store_near(output) as store:
        data = read_data(source, store)
        if to == "dpr":
            data = with_keyword_negatives(data, hard_negatives)
        left_out = data.left_out + write_data(data, output, to, source.name.partition(".")[0])
    _say_written(data, source, output, left_out)


@app.command()
def mine(
    source: Annotated[Path, typer.Argument(help="SQuAD or DPR file (.json, .json.gz), or folder of JSON lines.")],
    output: Annotated[Path, typer.Argument(help="DPR file to write.")],
    model: Annotated[str, typer.Option(help="Checkpoint folder or bundled name, or the untuned base.")],
    by: Annotated[Source, typer.Option(help="Who ranks candidates; both in turn.")] = "both",
    count: Annotated[int, typer.Option(min=1, help="Hard negatives per question.")] = 8,
    most: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the gold passage's score that a hard negative's stays below.")
    ] = 0.95,
    backend: Annotated[Backend, typer.Option(help="Inference engine.")] = "auto",
) -> None:
    """Find hard negatives in a data set by a model and BM25, without those that seem to answer the question."""
    with _mistakes_explained(), _store_near(output) as store:
        if output.exists():
            raise DataError(f"{output} exists already; choose another output, or delete it.")
        data = read_data(source, store)
        encoder = EncoderSpec.create(model, backend=backend, device=_device(backend)).load()
        data = with_mined_negatives(data, encoder, count, source=by, most=most)
        left_out = data.left_out + write_data(data, output, "dpr", source.name.partition(".")[0])
    found = sum(len(question.hard_negative_ids) for question in data.questions)
    _say_written(data, source, output, left_out)
    console.print(f"Hard negatives: {found}", markup=False, highlight=False)


@app.command()
def merge(
    model: Annotated[Path, typer.Argument(help="Trained model: the folder RUN/model, or another ROM checkpoint.")],
    base: Annotated[str, typer.Argument(help="Folder or hub id of the encoder that it was trained from.")],
    output: Annotated[Path, typer.Option(help="Folder to write.")],
    share: Annotated[float, typer.Option(min=0, max=1, help="Share of the base in the merged weights.")] = 0.5,
) -> None:
    """Interpolate between a trained model's encoder and the encoder that it was trained from; heads stay."""
    with _mistakes_explained():
        merge_with_base(model, base, share, output)
    console.print(f"Merged model written to {output}", markup=False, soft_wrap=True)


@app.command()
def release(
    recipe: Annotated[Path, typer.Argument(help="Recipe that made the model.")],
    model: Annotated[Path, typer.Option(help="Trained model, the folder RUN/model.")],
    evaluation: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Report of the evaluate command.")],
    output: Annotated[Path, typer.Option(help="Folder to write.")],
    licence: Annotated[str, typer.Option(help="The model's licence, as the Hugging Face hub names it.")] = "apache-2.0",
    language: Annotated[str, typer.Option(help="Its language, ISO 639-1.")] = "en",
) -> None:
    """Write a publishable checkpoint: float16 weights, tokenizer, calibration and model card."""
    with _mistakes_explained():
        write_release(model, output, load_recipe(recipe), recipe, evaluation, licence=licence, language=language)
    console.print(f"Release written to {output}", markup=False)


def _device(backend: Backend) -> str:
    return best_device() if backend in ("auto", "torch") else "cpu"  # the other engines run on CPUs only


def _usual_unanswerable(questions: str, data: Path) -> str | None:
    return UNANSWERABLE if questions == ASKED and (data / UNANSWERABLE).is_dir() else None


def _say_written(data: DataSet, source: Path, output: Path, left_out: Counter[str]) -> None:
    counted = f"{len(data.questions)} questions, {len(data.passages)} passages"
    console.print(f"{counted}: {source} to {output}", markup=False, soft_wrap=True)
    for description, count in left_out.items():
        console.print(f"Left out: {count} x {description}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    keep_freed_memory()  # here alone, as it holds for the whole process, which belongs to whoever calls otherwise
    app()
