"""Models of sentence-transformers: an encoder, mean or first-token pooling, a linear projection, unit length.

Read and written by their files alone, so sentence-transformers need not be installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from rom_haystack.modeling.conversion.parts import Converted, HeadWeights, put_together
from rom_haystack.modeling.conversion.sources import read_json
from rom_haystack.modeling.conversion.tokenizers import load_tokenizer
from rom_haystack.modeling.conversion.weights import load_pretrained, load_tensors
from rom_haystack.modeling.errors import CheckpointError
from rom_haystack.modeling.model import without_pooler

#: What may follow what; the projection and the unit length may be absent.
_ORDER = ("Transformer", "Pooling", "Dense", "Normalize")
_POOLINGS = ("mean", "cls")
#: Ways of pooling as versions before 5.4 name them.
_LEGACY_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def convert_sentence_transformers(folder: Path, *, tokenizer: Path | None = None) -> Converted:
    """Convert a folder with `modules.json`.

    A model that ends in unit length gets similarity `cosine`. Others keep their length: one that says that it is
    compared by inner product gets `dot`, any other `unscaled_cosine`, as cosine is sentence-transformers' default.

    Args:
        folder: As `SentenceTransformer.save` wrote it.
        tokenizer: Folder of the tokenizer if it isn't there too.

    Raises:
        CheckpointError: The folder is damaged, or holds modules that ROM's retrieval head has no counterpart of.
    """
    modules = _modules(folder)
    encoder_folder = modules["Transformer"]
    options: dict[str, Any] = {"pooling": _pooling(modules["Pooling"])}
    weights = {}
    if dense := modules.get("Dense"):
        weights = _projection(dense)
        options["projection_dim"] = weights["projection.weight"].shape[0]
    settings = _settings(folder / "config_sentence_transformers.json")
    if "Normalize" in modules:
        options["similarity"] = "cosine"
    else:
        inner_product = settings.get("similarity_fn_name") in ("dot", "dot_product")
        options["similarity"] = "dot" if inner_product else "unscaled_cosine"
    try:
        config = AutoConfig.from_pretrained(encoder_folder, local_files_only=True, trust_remote_code=False)
        pooler = without_pooler(config)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{encoder_folder} holds no encoder that transformers knows ({error}).") from error
    encoder = load_pretrained(AutoModel, encoder_folder, config=config, **pooler)
    text = _settings(encoder_folder / "sentence_bert_config.json")
    heads = {"retrieval": HeadWeights(options, weights)}
    return Converted(
        put_together(config, encoder.state_dict(), heads, source=str(folder)),
        load_tokenizer(tokenizer or encoder_folder, lower_case=bool(text.get("do_lower_case"))),
        "sentence-transformers model",
        tuple(_notes(settings, text, similarity=options["similarity"])),
    )


def _modules(folder: Path) -> dict[str, Path]:
    """Return the folder of each module by its kind."""
    listed = read_json(folder / "modules.json")
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise CheckpointError(f"{folder / 'modules.json'} is damaged: it lists no modules.")
    kinds = [str(entry.get("type", "")).rpartition(".")[2] for entry in listed]
    if kinds not in ([*_ORDER[:2], *rest] for rest in ([], ["Dense"], ["Normalize"], ["Dense", "Normalize"])):
        raise CheckpointError(
            f"{folder} is made of the modules {', '.join(kinds)}. Only Transformer, Pooling and, if need be, one Dense "
            "and Normalize, in this order, have a counterpart in ROM."
        )
    places = {}
    for kind, entry in zip(kinds, listed, strict=True):
        place = (folder / str(entry.get("path", ""))).resolve()
        if not place.is_relative_to(folder.resolve()):
            raise CheckpointError(f"{folder / 'modules.json'} names a place outside its folder: '{entry['path']}'.")
        places[kind] = place
    return places


def _pooling(folder: Path) -> str:
    settings = _settings(folder / "config.json")
    found = settings.get("pooling_mode")
    if found is None:
        found = [name for key, name in _LEGACY_POOLINGS.items() if settings.get(key)]
    names = [found] if isinstance(found, str) else list(found)
    if len(names) != 1 or names[0] not in _POOLINGS:
        raise CheckpointError(f"{folder} pools by {', '.join(map(str, names)) or 'nothing'}; ROM pools by mean or cls.")
    return str(names[0])


def _projection(folder: Path) -> dict[str, torch.Tensor]:
    activation = str(_settings(folder / "config.json").get("activation_function", "torch.nn.modules.activation.Tanh"))
    if activation.rpartition(".")[2] != "Identity":
        raise CheckpointError(f"{folder} ends in the activation {activation}; ROM's projection is linear (Identity).")
    tensors = load_tensors(folder)
    if "linear.weight" not in tensors:
        raise CheckpointError(f"{folder} holds no weights of a linear layer, but {', '.join(sorted(tensors))}.")
    weight = tensors["linear.weight"].float()
    bias = tensors.get("linear.bias", torch.zeros(weight.shape[0])).float()
    return {"projection.weight": weight, "projection.bias": bias}


def _settings(path: Path) -> dict[str, Any]:
    """Read a file of settings, which may be missing."""
    found = read_json(path)
    if (found is None and path.exists()) or not isinstance(found, dict | None):
        raise CheckpointError(f"{path} can't be read; is it damaged?")
    return found or {}


def _notes(settings: dict[str, Any], text: dict[str, Any], *, similarity: str) -> Iterator[str]:
    prompts = {name: prompt for name, prompt in (settings.get("prompts") or {}).items() if prompt}
    for name, prompt in prompts.items():
        yield f'Its prompt "{name}" is no part of the checkpoint: set `prefix={prompt!r}`.'
    if length := text.get("max_seq_length"):
        yield f"It cut texts after {length} tokens: set `max_seq_length={length}` to embed long texts as it did."
    if similarity == "unscaled_cosine":
        yield "Its embeddings differ in length: set the document store to cosine, or `normalize_embeddings=True`."
        if not settings.get("similarity_fn_name"):
            yield (
                "It does not say how they are compared. If it was trained for inner product, set the document store to "
                'that, and "similarity" in config.json to "dot".'
            )
