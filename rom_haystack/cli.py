"""The `rom` command: ask a folder of documents, index it, describe a model."""

import gc
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

# Everything heavy is imported inside the commands, so that `rom --help` is there at once.
if TYPE_CHECKING:
    from haystack import Document, ExtractedAnswer
    from transformers import PretrainedConfig

    from rom_haystack.library import Library, UpdateReport
    from rom_haystack.library import Progress as ProgressCallback

ANSWERED = 0
NO_ANSWER = 1
MISTAKE = 2
NOTHING_INDEXED = 3
INTERRUPTED = 130

_PACKAGE = Path(__file__).parent
SAMPLE_CORPUS = _PACKAGE / "sample_corpus"
DEFAULT_MODEL = "rom-minilm-l6"

_EPILOG = (
    "Exit codes: 0 answered (or done), 1 no answer found, 2 a mistake in what was asked (a path, a model, an option, "
    "an empty question), 3 nothing could be indexed, 130 interrupted."
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=_EPILOG,
    help="Ask your own documents. Answers are quotes, and nothing leaves this machine.",
)

ModelOption = Annotated[
    str, typer.Option("--model", help="Bundled name, folder or Hugging Face id of a ROM checkpoint.", metavar="M")
]
IndexOption = Annotated[
    Path | None,
    typer.Option("--index", help="Where the index lies. Default: in your cache (set ROM_HOME to move it)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")]


def main() -> None:
    """Run the `rom` command."""
    app()


def _print_version(value: bool) -> None:
    if value:
        from rom_haystack import __version__  # noqa: PLC0415

        typer.echo(f"rom-haystack {__version__}")
        raise typer.Exit


@app.callback()
def rom(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Ask your own documents. Answers are quotes, and nothing leaves this machine."""


@app.command(epilog=_EPILOG)
def ask(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    docs: Annotated[Path, typer.Option("--docs", help="Folder of documents. Default: a sample.")] = SAMPLE_CORPUS,
    index: IndexOption = None,
    model: ModelOption = DEFAULT_MODEL,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Most answers to show.")] = 5,
    passages: Annotated[int, typer.Option("--passages", min=1, help="Most passages to read.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Answer a question from the documents of a folder.

    The folder is indexed first; later only what changed in it is.
    """
    with _mistakes_explained(as_json):
        if not question.strip():
            raise ValueError("The question is empty; ask with at least one word.")
        _quiet(model)
        with _library(docs, index, model) as library:
            report = _updated(lambda progress: library.update(progress, required=False), as_json)
            _require_passages(report, docs, as_json)
            from rom_haystack.pipelines import ROMExtractiveQA  # noqa: PLC0415

            qa = ROMExtractiveQA(library.store, model=model, top_k_retriever=passages, top_k_reader=top_k + 1)
            result = qa.run(query=question)
            answered = bool(result["answers"]) and result["answers"][0].data is not None
            answers = [a for a in result["answers"] if a.data is not None][:top_k] if answered else []
            if as_json:
                _print_json(
                    {
                        "question": question,
                        "answered": answered,
                        "answers": [_answer_fields(answer) for answer in answers],
                        "passages": [_passage_fields(document) for document in result["documents"]],
                        "model": model,
                        "index": {"folder": str(library.folder), "path": str(library.index), **_report_fields(report)},
                    }
                )
            elif answered:
                _show_answers(answers)
            else:
                _show_no_answer(result["documents"][:top_k])
            raise typer.Exit(ANSWERED if answered else NO_ANSWER)


@app.command("index", epilog=_EPILOG)
def index_folder(
    folder: Annotated[Path, typer.Argument(help="Folder of documents: txt, md, html, pdf, docx.")],
    index: IndexOption = None,
    model: ModelOption = DEFAULT_MODEL,
    repair: Annotated[bool, typer.Option("--repair", help="First check the index in full, and mend it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Index a folder of documents, or bring its index up to date."""
    with _mistakes_explained(as_json):
        _quiet(model)
        with _library(folder, index, model) as library:
            report = _updated(library.repair if repair else library.update, as_json)
            _require_passages(report, folder, as_json)
            if as_json:
                _print_json({"folder": str(library.folder), "path": str(library.index), **_report_fields(report)})
            else:
                _show_report(library, report)


@app.command(epilog=_EPILOG)
def info(
    model: Annotated[str, typer.Argument(help="Bundled name, folder or Hugging Face id.")] = DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Describe a model and the software around it."""
    with _mistakes_explained(as_json):
        _quiet(model)
        facts = _describe(model)
        if as_json:
            _print_json(facts)
        else:
            _show_facts(facts)


@contextmanager
def _mistakes_explained(as_json: bool) -> Iterator[None]:
    """Turn a user's mistake into one line and exit code 2, and Ctrl-C into exit code 130."""
    try:
        yield
    except ValueError as error:  # CheckpointError and LibraryError are such too
        _fail(str(error), MISTAKE, as_json)
    except BrokenPipeError:  # the reader of the output has left; typer ends quietly
        raise
    except OSError as error:
        place = f"'{error.filename}': " if error.filename else ""
        _fail(f"{place}{error.strerror or error}. Check the path and its permissions.", MISTAKE, as_json)
    except KeyboardInterrupt:
        _fail("Interrupted.", INTERRUPTED, as_json)
    except Exception as error:
        from haystack.core.errors import PipelineRuntimeError  # noqa: PLC0415

        if not isinstance(error, PipelineRuntimeError):
            raise
        _fail(f"'{error.component_name}' failed: {error.__cause__ or error}", MISTAKE, as_json)


def _fail(message: str, code: int, as_json: bool, **fields: Any) -> NoReturn:
    if as_json:
        _print_json({"error": message, **fields})
    _errors().print(Text(_printable(message)), soft_wrap=True)
    raise typer.Exit(code)


def _quiet(model: str) -> None:
    """Keep the libraries from calling home and from chatting; must run before they are imported."""
    os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if _is_local(model):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import logging  # noqa: PLC0415

    for name in ("haystack", "pypdf", "trafilatura", "htmldate"):  # bad files are reported by the library itself
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with _importing():
        from transformers.utils import logging as transformers_logging  # noqa: PLC0415

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def _is_local(model: str) -> bool:
    """Tell whether a model is bundled or a folder, without importing torch as `resolve_checkpoint` does."""
    try:
        return (_PACKAGE / "checkpoints" / model).is_dir() or Path(model).expanduser().exists()
    except (OSError, RuntimeError):  # no possible path; `resolve_checkpoint` explains it
        return False


@contextmanager
def _importing() -> Iterator[None]:
    """Import without collecting garbage: the libraries' objects stay anyway, and looking for it takes half a second."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _library(folder: Path, place: Path | None, model: str) -> "Library":
    with _importing():
        from rom_haystack.library import Library  # noqa: PLC0415

    return Library(folder, index=place, model=model)


def _updated(update: "Callable[[ProgressCallback], UpdateReport]", as_json: bool) -> "UpdateReport":
    """Let a library be updated; progress and what should be known of it go to stderr."""
    errors = _errors()
    columns = (TextColumn("Indexing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), _FILE_COLUMN)
    with Progress(*columns, console=errors, transient=True, disable=as_json or not errors.is_terminal) as bar:
        task = bar.add_task("", total=None, file="", visible=False)

        def progress(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, file=_printable(name), visible=True)

        report = update(progress)
    for line in _remarks(report):
        errors.print(Text(_printable(line)), soft_wrap=True)
    return report


def _remarks(report: "UpdateReport") -> Iterator[str]:
    if report.repaired is not None:
        for problem in report.repaired.problems:
            yield f"Found damage: {problem}"
        if not report.repaired.problems:
            yield "Found no damage."
        if report.repaired.damaged_folder:
            yield (
                f"Kept {report.repaired.kept} passages. The damaged files are in {report.repaired.damaged_folder}; the "
                "next repair removes them."
            )
    if report.rebuilt:
        yield f"Indexed anew: {report.rebuilt}."
    if report.stale:
        yield f"{report.stale} Until then, answers come from what the index holds."
    for name, reason in report.skipped:
        yield f"Skipped {name}: {reason}."


def _require_passages(report: "UpdateReport", folder: Path, as_json: bool) -> None:
    if report.passages:
        return
    from rom_haystack.files import MIME_TYPES  # noqa: PLC0415

    message = f"Nothing to index in '{folder}': it has no readable files ({', '.join(MIME_TYPES)})."
    _fail(message, NOTHING_INDEXED, as_json, **_report_fields(report))


def _describe(model: str) -> dict[str, Any]:
    import haystack.version  # noqa: PLC0415
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415
    from haystack.utils import ComponentDevice  # noqa: PLC0415

    from rom_haystack import __version__  # noqa: PLC0415
    from rom_haystack.modeling import load_checkpoint, resolve_checkpoint  # noqa: PLC0415

    folder = resolve_checkpoint(model)
    loaded, tokenizer = load_checkpoint(model)
    encoder: PretrainedConfig = loaded.config.encoder
    counts = loaded.parameter_counts()
    return {
        "model": model,
        "path": str(folder),
        "format_version": loaded.config.format_version,
        "encoder": encoder.model_type,
        "layers": encoder.num_hidden_layers,
        "hidden_size": encoder.hidden_size,
        "vocabulary": len(tokenizer),
        "heads": {name: dict(options) for name, options in loaded.config.heads.items()},
        "parameters": {
            "shared": counts["shared"],
            "heads": counts["heads"],
            "total": counts["total"],
            "three_separate_encoders": counts["three separate encoders"],
            "ratio": round(counts["three separate encoders"] / counts["total"], 3),
        },
        "weights_bytes": sum(path.stat().st_size for path in folder.glob("*.safetensors")),
        "device": ComponentDevice.resolve_device(None).to_torch_str(),
        "versions": {
            "rom-haystack": __version__,
            "haystack": haystack.version.__version__,
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
        },
    }


def _answer_fields(answer: "ExtractedAnswer") -> dict[str, Any]:
    span, context = answer.document_offset, answer.context_offset
    if answer.document is None or span is None or context is None:
        raise TypeError(f"The reader gave an answer without its place: {answer}.")
    return {
        "answer": answer.data,
        "score": answer.score,
        "start": span.start,
        "end": span.end,
        "sentence": answer.context,
        "sentence_start": context.start,
        "sentence_end": context.end,
        "document": {
            "id": answer.document.id,
            "title": answer.document.meta.get("title"),
            "file_path": answer.document.meta.get("file_path"),
            "page": answer.meta.get("answer_page_number"),
            "content": answer.document.content,
        },
    }


def _passage_fields(document: "Document") -> dict[str, Any]:
    return {
        "id": document.id,
        "title": document.meta.get("title"),
        "file_path": document.meta.get("file_path"),
        "page": document.meta.get("page_number"),
        "score": document.score,
    }


def _report_fields(report: "UpdateReport") -> dict[str, Any]:
    return {**asdict(report), "skipped": [{"file": name, "reason": reason} for name, reason in report.skipped]}


def _show_answers(answers: "list[ExtractedAnswer]") -> None:
    output = Console(highlight=False)
    for number, answer in enumerate(answers, start=1):
        fields = _answer_fields(answer)
        sentence, start, end = fields["sentence"], fields["sentence_start"], fields["sentence_end"]
        if number > 1:
            output.print()
        output.print(Text.assemble((f"{number}. {_printable(fields['answer'])}", "bold"), f"  {answer.score:.0%}"))
        output.print(
            Text.assemble(
                "   ",
                _printable(sentence[:start]),
                (_printable(sentence[start:end]), "bold black on green"),
                _printable(sentence[end:]),
            )
        )
        output.print(Text(f"   {_place(fields['document'])}", style="dim"))


def _show_no_answer(documents: "list[Document]") -> None:
    output = Console(highlight=False)
    output.print("No answer found in these documents.")
    if documents:
        output.print("Nearest passages:")
    for place in dict.fromkeys(_place(_passage_fields(document)) for document in documents):
        output.print(Text(f"   {place}", style="dim"))


def _show_report(library: "Library", report: "UpdateReport") -> None:
    output = Console(highlight=False)
    counts = [
        f"{len(names)} {what}"
        for what, names in (
            ("added", report.added),
            ("replaced", report.replaced),
            ("removed", report.removed),
            ("unchanged", report.unchanged),
            ("skipped", report.skipped),
        )
        if names
    ]
    output.print(Text(f"Files: {', '.join(counts)}. Passages: {report.passages}."))
    output.print(Text(f"Index: {library.index}", style="dim"), soft_wrap=True)


def _show_facts(facts: dict[str, Any]) -> None:
    parameters = facts["parameters"]
    rows = {
        "Model": facts["model"],
        "Path": facts["path"],
        "Format version": facts["format_version"],
        "Encoder": f"{facts['encoder']}, {facts['layers']} layers, {facts['hidden_size']} wide, "
        f"vocabulary of {facts['vocabulary']:,}",
        "Heads": "; ".join(
            name + "".join(f", {option} {value}" for option, value in options.items())
            for name, options in facts["heads"].items()
        ),
        "Parameters": f"{parameters['total']:,} (shared encoder {parameters['shared']:,}, "
        f"heads {parameters['heads']:,})",
        "Three encoders": f"{parameters['three_separate_encoders']:,}, {parameters['ratio']:.2f} times as many",
        "Weights": f"{facts['weights_bytes'] / 1e6:.1f} MB",
        "Device": facts["device"],
        "Versions": ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
    }
    output = Console(highlight=False)
    for name, value in rows.items():
        output.print(Text.assemble((f"{name:<15}", "bold"), _printable(str(value))), soft_wrap=True)


def _place(fields: dict[str, Any]) -> str:
    """Say where a passage stands: title, file, page."""
    page = None if fields["page"] is None else f"page {fields['page']}"
    return _printable(", ".join(str(part) for part in (fields["title"], fields["file_path"], page) if part))


def _printable(text: str) -> str:
    """Put text on one line and take out control characters, which could command the terminal."""
    return "".join(map(_printable_character, text)).encode("utf-8", "replace").decode("utf-8")


def _printable_character(character: str) -> str:
    if character.isspace():
        return " "
    if character.isprintable() or character in "\u200c\u200d":  # these two shape the letters beside them
        return character
    return "" if unicodedata.category(character) == "Cf" else "\ufffd"


def _print_json(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def _errors() -> Console:
    return Console(stderr=True, highlight=False)


_FILE_COLUMN = TextColumn("{task.fields[file]}", markup=False)
