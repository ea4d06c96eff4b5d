"""The command that fits hybrid retrieval to questions with known answers."""

import inspect
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from rom_haystack.cli.app import DEFAULT_MODEL, EPILOG, JsonOption, app, mistakes_explained
from rom_haystack.cli.documents import IndexOption, open_library, require_passages, updated
from rom_haystack.cli.output import print_json
from rom_haystack.cli.quiet import importing, preparation_announced, quiet

if TYPE_CHECKING:
    from haystack import Pipeline

    from rom_haystack.fusion import FusionFit
    from rom_haystack.hybrid import ROMHybridRetriever


@app.command("tune-hybrid", epilog=EPILOG)
def tune_hybrid(
    questions: Annotated[Path, typer.Argument(help="Questions with answers: CSV, JSON lines, DPR's or SQuAD's JSON.")],
    docs: Annotated[Path | None, typer.Option("--docs", help="Folder of documents that they are about.")] = None,
    pipeline: Annotated[
        Path | None, typer.Option("--pipeline", help="Haystack pipeline (YAML) with a ROMHybridRetriever.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write the pipeline with the numbers in it to this file.")] = None,
    index: IndexOption = None,
    model: Annotated[
        str | None,
        typer.Option(help=f"The model of the folder's index, as for rom ask. Default: {DEFAULT_MODEL}.", metavar="M"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit how keyword and dense search are weighted, in a folder's index or in a pipeline of any store.

    Prints plain numbers: `--keyword-weight` of `rom ask` and `rom serve`, or `join_mode` and `weights` of
    ROMHybridRetriever.
    """
    with mistakes_explained(as_json), preparation_announced():
        if (docs is None) == (pipeline is None):
            raise ValueError("Give either --docs, a folder, or --pipeline, a YAML file, one of the two.")
        if output is not None and pipeline is None:
            raise ValueError("--output writes a pipeline; give it with --pipeline.")
        if pipeline is not None and (index is not None or model is not None):
            raise ValueError("A pipeline names its own model and store; give --index and --model with --docs.")
        model = DEFAULT_MODEL if model is None else model
        quiet(model if pipeline is None else None)
        with importing():
            from rom_haystack.questions import read_questions  # noqa: PLC0415

        asked = read_questions(questions)
        if docs is not None:
            with open_library(docs, index, model) as library:
                report = updated(library.update, as_json)
                require_passages(report, docs, as_json)
                from rom_haystack.hybrid import ROMHybridRetriever  # noqa: PLC0415

                fit = ROMHybridRetriever(library.store, model=model).fit(asked, join_modes=("z_score",))
        elif pipeline is not None:
            loaded, retriever = _hybrid_of(pipeline)
            fit = retriever.fit(asked)
            if output is not None:
                retriever.join_mode, retriever.weights = fit.join_mode, fit.weights
                output.write_text(loaded.dumps(), encoding="utf-8")
        if as_json:
            print_json(_fields(fit, len(asked)))
        else:
            _show(fit, len(asked), folder=docs is not None)


def _hybrid_of(file: Path) -> "tuple[Pipeline, ROMHybridRetriever]":
    """Load a pipeline and find the hybrid retriever in it, or in a component in it."""
    import yaml  # noqa: PLC0415
    from haystack import Pipeline  # noqa: PLC0415
    from haystack.core.errors import DeserializationError  # noqa: PLC0415

    try:
        loaded = Pipeline.loads(file.read_text(encoding="utf-8"))
    except (DeserializationError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"'{file}' can't be loaded as a pipeline: {error}") from error
    found = list(_hybrids(loaded))
    if len(found) != 1:
        raise ValueError(
            f"'{file}' has {len(found)} components of type ROMHybridRetriever; one is needed. "
            "(ROMExtractiveQA takes one as retriever; what it makes for a document_store has no place in the file.)"
        )
    return loaded, found[0]


def _hybrids(thing: Any) -> "Iterator[ROMHybridRetriever]":
    """Find the hybrid retrievers that a pipeline's file names: its components, and what these were given."""
    from haystack import Pipeline  # noqa: PLC0415

    from rom_haystack.hybrid import ROMHybridRetriever  # noqa: PLC0415

    if isinstance(thing, ROMHybridRetriever):
        yield thing
        return
    parts: list[Any] = []
    if isinstance(thing, Pipeline):
        parts = [part for _, part in thing.walk()]
    elif isinstance(thing, dict):
        parts = list(thing.values())
    elif hasattr(thing, "__haystack_input__"):
        parts = [getattr(thing, name, None) for name in inspect.signature(type(thing).__init__).parameters]
    for part in parts:
        yield from _hybrids(part)


def _fields(fit: "FusionFit", asked: int) -> dict[str, Any]:
    keyword, dense = fit.alone
    return {
        "join_mode": fit.join_mode,
        "weights": fit.weights,
        "questions": asked,
        "telling_questions": fit.questions,
        **{name: asdict(quality) for name, quality in (("keyword", keyword), ("dense", dense), ("hybrid", fit.fused))},
    }


def _show(fit: "FusionFit", asked: int, *, folder: bool) -> None:
    output = Console(highlight=False)
    table = Table("search", *(f"recall@{k}" for k in fit.fused.recall), "MRR", box=None)
    for name, quality in zip(("keyword", "dense", "hybrid"), (*fit.alone, fit.fused), strict=True):
        table.add_row(name, *(f"{share:.1%}" for share in quality.recall.values()), f"{quality.mrr:.3f}")
    output.print(table)
    output.print(f"{asked} questions, {fit.questions} of them with an answer among the documents found.")
    if folder:
        output.print(f"For rom ask and rom serve: --keyword-weight {fit.weights[0]}")
    else:
        output.print(f"For ROMHybridRetriever: join_mode={fit.join_mode!r}, weights={fit.weights}")
