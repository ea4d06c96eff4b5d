"""One way in for all kinds of sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rom_haystack.modeling.conversion.dpr import convert_dpr
from rom_haystack.modeling.conversion.original_dpr import convert_original_dpr
from rom_haystack.modeling.conversion.parts import Converted, HeadWeights, put_together, same_encoder
from rom_haystack.modeling.conversion.readers import convert_reader
from rom_haystack.modeling.conversion.sentence_transformers import convert_sentence_transformers
from rom_haystack.modeling.conversion.sources import Kind, recognise
from rom_haystack.modeling.errors import CheckpointError

_FOLDERS: dict[Kind, Callable[..., Converted]] = {
    "dpr": convert_dpr,
    "reader": convert_reader,
    "sentence-transformers": convert_sentence_transformers,
}


def convert(source: Path, *, part: str | None = None, tokenizer: Path | None = None) -> Converted:
    """Convert a model of another kind.

    Args:
        source: Folder or file.
        part: As in `convert_original_dpr`; only files have parts.
        tokenizer: Folder of the tokenizer, where the source has none.

    Raises:
        CheckpointError: The source is of no known kind, or can't be converted; the message says why.
    """
    kind = recognise(source)
    if kind is None:
        raise CheckpointError(
            f"{source} is no model that can be converted: neither a DPR model of transformers, nor a file of the "
            "original DPR, nor a sentence-transformers model (modules.json), nor a model for question answering."
        )
    if kind == "original dpr":
        return convert_original_dpr(source, part=part, tokenizer=tokenizer)
    if part is not None:
        raise CheckpointError(
            f"{source} is a folder with one model; only files of the original DPR have a part '{part}'."
        )
    return _FOLDERS[kind](source, tokenizer=tokenizer)


def combine(retriever: Converted, reader: Converted) -> Converted:
    """Put the retrieval head of one model and the reading head of another on the encoder that they share.

    Raises:
        CheckpointError: Their encoders or tokenizers differ, or a head is missing.
    """
    for converted, head in ((retriever, "retrieval"), (reader, "reading")):
        if head not in converted.model.heads:
            raise CheckpointError(f"The {converted.kind} has no {head} head to combine.")
    if not same_encoder(retriever.model, reader.model):
        raise CheckpointError(
            "The two models stand on different encoders, and one ROM checkpoint has one. Use them as a pair of "
            "checkpoints, or train one encoder for both (python -m training train)."
        )
    if not _same_tokens(retriever, reader):
        raise CheckpointError(
            "The two models write the same text in different tokens; one checkpoint has one tokenizer."
        )
    heads = {
        name: HeadWeights(converted.model.config.heads[name], converted.model.heads[name].state_dict())
        for converted, name in ((retriever, "retrieval"), (reader, "reading"))
    }
    encoder = retriever.model.encoder
    return Converted(
        put_together(encoder.config, encoder.state_dict(), heads, source="both models"),
        reader.tokenizer,
        f"{retriever.kind}; {reader.kind}",
        (*retriever.notes, *reader.notes),
    )


def _same_tokens(one: Converted, other: Converted) -> bool:
    """Compare tokenizers by single texts: readers may write pairs in their own way."""
    probe = "The Nile [flows] north, dÉjà vu: 1898–99."
    first, second = (tokenizer(probe)["input_ids"] for tokenizer in (one.tokenizer, other.tokenizer))
    return bool(first == second) and one.tokenizer.get_vocab() == other.tokenizer.get_vocab()
