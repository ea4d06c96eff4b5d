"""Files of the original DPR training (`*.cp`): a pair of encoders, or a reader.

Such a file holds `model_dict` (the weights), the optimizer's state, and `encoder_params`, which name the BERT that
training began with but not its sizes: those are read off the weights. The tokenizer isn't in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig

from rom_haystack.modeling.conversion.dpr import ENCODER_NOTES, READER_NOTES, reader_head, retrieval_head
from rom_haystack.modeling.conversion.parts import Converted, put_together
from rom_haystack.modeling.conversion.sources import PARTS
from rom_haystack.modeling.conversion.tokenizers import has_tokenizer, load_bert_tokenizer
from rom_haystack.modeling.conversion.weights import load_pickled, tensors_of
from rom_haystack.modeling.errors import CheckpointError

#: Where each encoder's weights stand.
_PREFIXES = {"question": "question_model.", "passage": "ctx_model."}
_HEAD_WIDTH = 64  # of every BERT that DPR was trained from; the weights don't tell
_LAYER = re.compile(r"encoder\.layer\.(\d+)\.")


def convert_original_dpr(path: Path, *, part: str | None = None, tokenizer: Path | None = None) -> Converted:
    """Convert a file, or one encoder in it.

    Args:
        path: The file.
        part: Which of two encoders: `question` or `passage`. None where the file holds a reader, or where both are
            equal.
        tokenizer: Folder of the tokenizer. None for the one beside the file (`tokenizer.json` or `vocab.txt`).

    Raises:
        CheckpointError: The file is damaged, holds something else, or holds pickled objects; `part` is missing or
            there is no such part; there is no tokenizer.
    """
    saved = load_pickled(path)
    if not isinstance(saved, dict):
        raise CheckpointError(f"{path} is no file of DPR's training: it holds a {type(saved).__name__}.")
    state = tensors_of(saved.get("model_dict", saved), path)
    parameters = saved.get("encoder_params")
    parameters = parameters if isinstance(parameters, dict) else {}
    kind = str(parameters.get("encoder_model_type", "hf_bert"))
    if kind != "hf_bert":
        raise CheckpointError(f"{path} holds encoders of the type '{kind}'; only 'hf_bert' can be converted.")
    reader = "qa_outputs.weight" in state
    encoder = _below(state, "encoder.") if reader else _chosen(state, part, path)
    if reader and part is not None:
        raise CheckpointError(f"{path} holds a reader, which has no part '{part}'; leave it out.")
    config = _config(encoder, path)
    heads = reader_head(state) if reader else retrieval_head(encoder)
    weights = {name: tensor for name, tensor in encoder.items() if not name.startswith("encode_proj.")}
    lower_case = parameters.get("do_lower_case")
    return Converted(
        put_together(config, weights, heads, source=str(path)),
        load_bert_tokenizer(
            tokenizer or _tokenizer_beside(path, parameters),
            max_length=config.max_position_embeddings,
            lower_case=None if lower_case is None else bool(lower_case),
            reader=reader,
        ),
        f"original DPR {'reader' if reader else f'{part} encoder' if part else 'encoder'}",
        READER_NOTES if reader else ENCODER_NOTES,
    )


def _chosen(state: Mapping[str, Tensor], part: str | None, path: Path) -> dict[str, Tensor]:
    found = {name: _below(state, prefix) for name, prefix in _PREFIXES.items()}
    if not all(found.values()):
        raise CheckpointError(
            f"{path} holds neither DPR's encoders (question_model.*, ctx_model.*) nor its reader (qa_outputs.*), but "
            f"{', '.join(sorted(state)[:3])}, …"
        )
    if part is not None:
        return found[part]
    one, other = (found[name] for name in PARTS)
    if one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items()):
        return one
    raise CheckpointError(
        f"{path} holds two encoders. Name one: '{path}:question' for questions, '{path}:passage' for documents "
        "(rom convert --part question, --part passage)."
    )


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _config(state: Mapping[str, Tensor], path: Path) -> BertConfig:
    """Read the sizes of a BERT off its weights."""
    sizes: dict[str, Any] = {}
    try:
        sizes["vocab_size"], sizes["hidden_size"] = state["embeddings.word_embeddings.weight"].shape
        sizes["max_position_embeddings"] = state["embeddings.position_embeddings.weight"].shape[0]
        sizes["type_vocab_size"] = state["embeddings.token_type_embeddings.weight"].shape[0]
        sizes["intermediate_size"] = state["encoder.layer.0.intermediate.dense.bias"].shape[0]
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} holds no encoder of BERT's kind ({error}).") from error
    if sizes["hidden_size"] % _HEAD_WIDTH:
        raise CheckpointError(
            f"{path} holds an encoder {sizes['hidden_size']} wide, which is no multiple of {_HEAD_WIDTH}; how many "
            "attention heads it has can't be told."
        )
    sizes["num_attention_heads"] = sizes["hidden_size"] // _HEAD_WIDTH
    sizes["num_hidden_layers"] = 1 + max(int(match[1]) for name in state if (match := _LAYER.match(name)))
    return BertConfig(**sizes)


def _tokenizer_beside(path: Path, parameters: Mapping[str, Any]) -> Path:
    if has_tokenizer(path.parent):
        return path.parent
    base = parameters.get("pretrained_model_cfg")
    raise CheckpointError(
        f"{path} comes without its tokenizer{f' (that of {base})' if isinstance(base, str) else ''}: put its "
        "tokenizer.json or vocab.txt beside the file, or name its folder (rom convert --tokenizer FOLDER)."
    )
