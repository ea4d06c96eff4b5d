"""Write converted models: as ROM checkpoints, and a ROM checkpoint's retriever for sentence-transformers."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerBase

from rom_haystack.modeling.conversion.parts import Converted
from rom_haystack.modeling.errors import CheckpointError
from rom_haystack.modeling.model import ROMModel

#: Most tokens of a text in sentence-transformers, which has one limit for queries and passages: that of our passages.
_MAX_LENGTH = 256


def write_checkpoint(converted: Converted, folder: Path, *, sources: Sequence[str]) -> None:
    """Write a converted model as a ROM checkpoint, whole or not at all.

    Args:
        converted: The model.
        folder: Must not be there yet, or be empty.
        sources: What it was made from, by name.

    Raises:
        CheckpointError: The folder holds something.
        OSError: The folder can't be written.
    """

    def write(place: Path) -> None:
        converted.model.save_pretrained(place)
        converted.tokenizer.save_pretrained(place)
        (place / "README.md").write_text(_card(converted, sources), encoding="utf-8")

    _write_whole(folder, write)


def write_sentence_transformers(
    model: ROMModel, tokenizer: PreTrainedTokenizerBase, folder: Path, *, source: str, max_length: int
) -> None:
    """Write the retriever in a ROM model as a folder that `SentenceTransformer(folder)` loads.

    Args:
        model: With a retrieval head.
        tokenizer: Its tokenizer.
        folder: Must not be there yet, or be empty.
        source: Name of the ROM checkpoint.
        max_length: Most tokens that the model takes.

    Raises:
        CheckpointError: The folder holds something, or the model has no retrieval head.
        OSError: The folder can't be written.
    """
    head = model.retrieval_head
    width = model.config.hidden_size

    def write(place: Path) -> None:
        model.encoder.save_pretrained(place)
        tokenizer.save_pretrained(place)
        modules = ["Transformer", "Pooling"]
        pooling: dict[str, Any] = {"word_embedding_dimension": width, "include_prompt": True}
        for mode, key in (("cls", "pooling_mode_cls_token"), ("mean", "pooling_mode_mean_tokens")):
            pooling[key] = head.pooling == mode
        _write_json(place / "1_Pooling" / "config.json", pooling)
        if isinstance(head.projection, torch.nn.Linear):
            modules.append("Dense")
            dense: dict[str, Any] = {"in_features": width, "out_features": head.dim, "bias": True}
            dense["activation_function"] = "torch.nn.modules.linear.Identity"
            _write_json(place / "2_Dense" / "config.json", dense)
            state = {f"linear.{name}": tensor.contiguous() for name, tensor in head.projection.state_dict().items()}
            save_file(state, place / "2_Dense" / "model.safetensors")
        if head.similarity == "cosine":
            modules.append("Normalize")
            (place / f"{len(modules) - 1}_Normalize").mkdir()
        paths = ["", *(f"{number}_{name}" for number, name in enumerate(modules) if number)]
        listed = [
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
            for number, (name, path) in enumerate(zip(modules, paths, strict=True))
        ]
        _write_json(place / "modules.json", listed)
        text = {"max_seq_length": min(_MAX_LENGTH, max_length), "do_lower_case": False}
        _write_json(place / "sentence_bert_config.json", text)
        compared_by = "dot" if head.similarity == "dot" else "cosine"
        _write_json(place / "config_sentence_transformers.json", {"similarity_fn_name": compared_by})
        (place / "README.md").write_text(_retriever_card(source, tokenizer.sep_token), encoding="utf-8")

    _write_whole(folder, write)


def _write_whole(folder: Path, write: Callable[[Path], None]) -> None:
    """Write beside a folder first, so that what is there is complete."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} holds something already; choose a folder that is new or empty.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        place.chmod(0o755)  # as other folders: mkdtemp's is its owner's alone
        write(place)
        if folder.is_dir():  # empty; not every system replaces it
            folder.rmdir()
        place.replace(folder)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _card(converted: Converted, sources: Sequence[str]) -> str:
    heads = ", ".join(f"`{name}`" for name in converted.model.heads)
    notes = "".join(f"- {note}\n" for note in converted.notes)
    return (
        "---\nlibrary_name: rom-haystack\n---\n\n"
        f"# ROM checkpoint made from {' and '.join(f'`{source}`' for source in sources)}\n\n"
        f"Converted with `rom convert` from: {converted.kind}. Nothing was trained. Heads: {heads}.\n\n"
        f"{notes}{chr(10) if notes else ''}"
        "The licence is that of the model it was made from.\n"
    )


def _retriever_card(source: str, separator: str | None) -> str:
    return (
        "---\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\n---\n\n"
        f"# Retriever of the ROM checkpoint `{source}`\n\n"
        "Written by `rom convert --to sentence-transformers`. Queries are embedded as they are, passages as text or as "
        f"`title{f' {separator} ' if separator else ' '}text`.\n\n"
        "The licence is that of the checkpoint it was made from.\n"
    )
