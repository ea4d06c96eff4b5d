"""Convert models of other kinds into checkpoints, and checkpoints for sentence-transformers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rom_haystack.cli.app import EPILOG, JsonOption, app, mistakes_explained
from rom_haystack.cli.output import print_json, print_rows
from rom_haystack.cli.quiet import preparation_announced, quiet

if TYPE_CHECKING:
    from rom_haystack.modeling.conversion.parts import Converted


@app.command(epilog=EPILOG)
def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder or Hugging Face id of a DPR, sentence-transformers or question answering model, or a file of "
            "the original DPR (.cp); a ROM checkpoint with --to sentence-transformers."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", help="Folder to write, new or empty; use it as a model.")],
    to: Annotated[
        Literal["rom", "sentence-transformers"],
        typer.Option("--to", help="What to write: a ROM checkpoint, or its retriever for sentence-transformers."),
    ] = "rom",
    reader: Annotated[
        str | None,
        typer.Option("--reader", help="A reader with the same encoder, whose reading head comes along.", metavar="M"),
    ] = None,
    part: Annotated[
        Literal["question", "passage"] | None,
        typer.Option("--part", help="Which of the two encoders in a file of the original DPR."),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", help="Folder of the tokenizer, if the source comes without one.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a ROM checkpoint from a model of another kind, or the reverse.

    Pickled code is never run: of files that torch wrote, weights and plain values alone are read.
    """
    with mistakes_explained(as_json):
        quiet(source)
        if to == "sentence-transformers":
            if any(option is not None for option in (reader, part, tokenizer)):
                raise ValueError("--reader, --part and --tokenizer are for conversions into a ROM checkpoint.")
            report = _to_sentence_transformers(source, output)
        else:
            report = _to_rom(source, output, reader, part, tokenizer)
        if as_json:
            print_json(report)
        else:
            _show(report)


def _to_rom(source: str, output: Path, reader: str | None, part: str | None, tokenizer: Path | None) -> dict[str, Any]:
    from rom_haystack.folders import expanded  # noqa: PLC0415
    from rom_haystack.modeling.conversion.convert import combine  # noqa: PLC0415
    from rom_haystack.modeling.conversion.sources import split_part  # noqa: PLC0415
    from rom_haystack.modeling.conversion.writing import write_checkpoint  # noqa: PLC0415

    name, named = split_part(source)
    if part and named and part != named:
        raise ValueError(f"--part is {part}, but {source} names the other; leave one of them out.")
    converted = _converted(name, part or named, tokenizer)
    sources = [source]
    if reader is not None:
        converted = combine(converted, _converted(reader, None, tokenizer))
        sources.append(reader)
    folder = expanded(output).absolute()
    write_checkpoint(converted, folder, sources=sources)
    return {
        "sources": sources,
        "kind": converted.kind,
        "to": "rom",
        "output": str(folder),
        "heads": {name: dict(options) for name, options in converted.model.config.heads.items()},
        "parameters": converted.model.parameter_counts()["total"],
        "notes": list(converted.notes),
    }


def _converted(name: str, part: str | None, tokenizer: Path | None) -> "Converted":
    from rom_haystack.folders import expanded  # noqa: PLC0415
    from rom_haystack.inference.converted import find_source  # noqa: PLC0415
    from rom_haystack.modeling.conversion.convert import convert as convert_source  # noqa: PLC0415

    return convert_source(find_source(name), part=part, tokenizer=expanded(tokenizer) if tokenizer else None)


def _to_sentence_transformers(model: str, output: Path) -> dict[str, Any]:
    from rom_haystack.folders import expanded  # noqa: PLC0415
    from rom_haystack.inference.converted import find_checkpoint  # noqa: PLC0415
    from rom_haystack.inference.facts import facts_of  # noqa: PLC0415
    from rom_haystack.modeling import load_checkpoint  # noqa: PLC0415
    from rom_haystack.modeling.conversion.writing import write_sentence_transformers  # noqa: PLC0415

    with preparation_announced():
        checkpoint = find_checkpoint(model)
    loaded, tokenizer = load_checkpoint(checkpoint)
    folder = expanded(output).absolute()
    limit = facts_of(loaded, tokenizer).max_length
    write_sentence_transformers(loaded, tokenizer, folder, source=model, max_length=limit)
    return {
        "sources": [model],
        "kind": "ROM checkpoint",
        "to": "sentence-transformers",
        "output": str(folder),
        "heads": {"retrieval": dict(loaded.config.heads["retrieval"])},
        "parameters": sum(p.numel() for part in (loaded.encoder, loaded.retrieval_head) for p in part.parameters()),
        "notes": [],
    }


def _show(report: dict[str, Any]) -> None:
    rows = {
        "From": f"{' and '.join(report['sources'])} ({report['kind']})",
        "To": f"{report['output']} ({'ROM checkpoint' if report['to'] == 'rom' else report['to']})",
        "Heads": "; ".join(
            name + "".join(f", {option} {value}" for option, value in options.items())
            for name, options in report["heads"].items()
        ),
        "Parameters": f"{report['parameters']:,}",
    }
    print_rows(rows)
    for note in report["notes"]:
        print_rows({"Note": note})
