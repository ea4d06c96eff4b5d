"""Commands on folders of documents: ask one, index one."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from rom_haystack.answers import NO_ANSWER_FOUND, answer_fields, passage_fields, place, quotes, result_fields
from rom_haystack.cli.app import (
    ANSWERED,
    DEFAULT_MODEL,
    EPILOG,
    NO_ANSWER,
    NOTHING_INDEXED,
    PACKAGE,
    JsonOption,
    ModelOption,
    app,
    fail,
    mistakes_explained,
)
from rom_haystack.cli.output import errors, print_json, printable
from rom_haystack.cli.quiet import importing, preparation_announced, quiet

if TYPE_CHECKING:
    from haystack import Document, ExtractedAnswer

    from rom_haystack.library import Library, UpdateReport
    from rom_haystack.library import Progress as ProgressCallback

SAMPLE_CORPUS = PACKAGE / "sample_corpus"

IndexOption = Annotated[
    Path | None,
    typer.Option("--index", help="Where the index lies. Default: in your cache (set ROM_HOME to move it)."),
]
KeywordWeightOption = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Share of shared words, against meaning, in finding passages; see tune-hybrid."),
]


@app.command(epilog=EPILOG)
def ask(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    docs: Annotated[Path, typer.Option("--docs", help="Folder of documents. Default: a sample.")] = SAMPLE_CORPUS,
    index: IndexOption = None,
    model: ModelOption = DEFAULT_MODEL,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Most answers to show.")] = 5,
    passages: Annotated[int, typer.Option("--passages", min=1, help="Most passages to read.")] = 10,
    keyword_weight: KeywordWeightOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a question from the documents of a folder.

    The folder is indexed first; later only what changed in it is.
    """
    with mistakes_explained(as_json), preparation_announced():
        if not question.strip():
            raise ValueError("The question is empty; ask with at least one word.")
        quiet(model)
        with open_library(docs, index, model) as library:
            report = updated(lambda progress: library.update(progress, required=False), as_json)
            require_passages(report, docs, as_json)
            # One more answer, as the no-answer counts.
            result = library.qa(keyword_weight).run(query=question, top_k=top_k + 1, top_k_retriever=passages)
            answers = quotes(result["answers"], top_k)
            if as_json:
                print_json(
                    {
                        **result_fields(question, result, top_k, model),
                        "index": {"folder": str(library.folder), "path": str(library.index), **report_fields(report)},
                    }
                )
            elif answers:
                _show_answers(answers)
            else:
                _show_no_answer(result["documents"][:top_k])
            raise typer.Exit(ANSWERED if answers else NO_ANSWER)


@app.command("index", epilog=EPILOG)
def index_folder(
    folder: Annotated[Path, typer.Argument(help="Folder of documents: txt, md, html, pdf, docx.")],
    index: IndexOption = None,
    model: ModelOption = DEFAULT_MODEL,
    repair: Annotated[bool, typer.Option("--repair", help="First check the index in full, and mend it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Index a folder of documents, or bring its index up to date."""
    with mistakes_explained(as_json), preparation_announced():
        quiet(model)
        with open_library(folder, index, model) as library:
            report = updated(library.repair if repair else library.update, as_json)
            require_passages(report, folder, as_json)
            if as_json:
                print_json({"folder": str(library.folder), "path": str(library.index), **report_fields(report)})
            else:
                _show_report(library, report)


def open_library(folder: Path, index: Path | None, model: str) -> "Library":
    """Open a folder's library; its index is not brought up to date yet."""
    with importing():
        from rom_haystack.library import Library  # noqa: PLC0415

    return Library(folder, index=index, model=model)


def updated(update: "Callable[[ProgressCallback], UpdateReport]", as_json: bool) -> "UpdateReport":
    """Let a library be updated; progress and what should be known of it go to stderr."""
    console = errors()
    columns = (TextColumn("Indexing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), _FILE_COLUMN)
    with Progress(*columns, console=console, transient=True, disable=as_json or not console.is_terminal) as bar:
        task = bar.add_task("", total=None, file="", visible=False)

        def progress(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, file=printable(name), visible=True)

        report = update(progress)
    for line in _remarks(report):
        console.print(Text(printable(line)), soft_wrap=True)
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


def require_passages(report: "UpdateReport", folder: Path, as_json: bool) -> None:
    """Exit where an update left nothing to search."""
    if report.passages:
        return
    from rom_haystack.files import MIME_TYPES  # noqa: PLC0415

    message = f"Nothing to index in '{folder}': it has no readable files ({', '.join(MIME_TYPES)})."
    fail(message, NOTHING_INDEXED, as_json, **report_fields(report))


def report_fields(report: "UpdateReport") -> dict[str, Any]:
    """Return what an update did, in plain values."""
    return {**asdict(report), "skipped": [{"file": name, "reason": reason} for name, reason in report.skipped]}


def _show_answers(answers: "list[ExtractedAnswer]") -> None:
    output = Console(highlight=False)
    for number, answer in enumerate(answers, start=1):
        fields = answer_fields(answer)
        sentence, start, end = fields["sentence"], fields["sentence_start"], fields["sentence_end"]
        if number > 1:
            output.print()
        output.print(Text.assemble((f"{number}. {printable(fields['answer'])}", "bold"), f"  {answer.score:.0%}"))
        output.print(
            Text.assemble(
                "   ",
                printable(sentence[:start]),
                (printable(sentence[start:end]), "bold black on green"),
                printable(sentence[end:]),
            )
        )
        output.print(Text(f"   {printable(place(fields['document']))}", style="dim"))


def _show_no_answer(documents: "list[Document]") -> None:
    output = Console(highlight=False)
    output.print(NO_ANSWER_FOUND)
    if documents:
        output.print("Nearest passages:")
    for line in dict.fromkeys(place(passage_fields(document)) for document in documents):
        output.print(Text(f"   {printable(line)}", style="dim"))


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


_FILE_COLUMN = TextColumn("{task.fields[file]}", markup=False)
