"""Hugging Face's DPR models: `DPRQuestionEncoder`, `DPRContextEncoder` and `DPRReader`.

Embeddings are the last hidden state of the first token, projected where the model has a projection, and compared by
their inner product (Karpukhin et al., 2020). A passage is `title [SEP] text` in one segment, as DPR was trained;
Hugging Face's tokenizer, given a title and a text, puts the text into a second segment that DPR's training never used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import BertConfig, DPRContextEncoder, DPRQuestionEncoder, DPRReader, PretrainedConfig

from rom_haystack.modeling.conversion.parts import Converted, HeadWeights, put_together
from rom_haystack.modeling.conversion.sources import architecture, read_json
from rom_haystack.modeling.conversion.tokenizers import has_tokenizer, load_bert_tokenizer
from rom_haystack.modeling.conversion.weights import load_pretrained
from rom_haystack.modeling.errors import CheckpointError

#: Class in config.json to: the class to load, the name of the part in it, and what it is.
_MODELS: dict[str, tuple[Any, str, str]] = {
    "DPRQuestionEncoder": (DPRQuestionEncoder, "question_encoder", "DPR question encoder"),
    "DPRContextEncoder": (DPRContextEncoder, "ctx_encoder", "DPR passage encoder"),
    "DPRReader": (DPRReader, "span_predictor", "DPR reader"),
}

ENCODER_NOTES = (
    'Embeddings are compared by their inner product (similarity "dot"): set the document store to it.',
    "Passages are read as `title [SEP] text` in one segment; name the title's field in `meta_fields_to_embed`.",
)
READER_NOTES = (
    "The reader knows no null position: spans are scored by their log-probability within the passage.",
    "The reader never says that there is no answer: set `no_answer=False`.",
    "`passage_score_weight=1.0` ranks as DPR does: passages by relevance, spans within them by their own score.",
    "Passages are read without titles.",
)


def convert_dpr(folder: Path, *, tokenizer: Path | None = None) -> Converted:
    """Convert a folder of one of the three models.

    Args:
        folder: As `save_pretrained` wrote it.
        tokenizer: Folder of the tokenizer if it isn't there too.

    Raises:
        CheckpointError: The folder is damaged, or holds something else.
    """
    name = architecture(read_json(folder / "config.json"))
    if name not in _MODELS:
        raise CheckpointError(
            f"{folder} holds a DPR model whose config.json names the architecture '{name}'; known are "
            f"{', '.join(_MODELS)}."
        )
    model_class, part, kind = _MODELS[name]
    loaded = load_pretrained(model_class, folder)
    whole: Any = getattr(loaded, part)
    reader = name == "DPRReader"
    encoder = whole.encoder if reader else whole
    if reader and encoder.projection_dim:
        raise CheckpointError(f"{folder} holds a DPR reader with a projection, which its own class can't run either.")
    heads = reader_head(whole.state_dict()) if reader else retrieval_head(encoder.state_dict())
    config = bert_config(loaded.config)
    if tokenizer is None and not has_tokenizer(folder):
        raise CheckpointError(
            f"{folder} holds no tokenizer (tokenizer.json or vocab.txt). Put it there, or name its folder "
            "(rom convert --tokenizer FOLDER)."
        )
    return Converted(
        put_together(config, encoder.bert_model.state_dict(), heads, source=str(folder)),
        load_bert_tokenizer(tokenizer or folder, max_length=config.max_position_embeddings, reader=reader),
        kind,
        READER_NOTES if reader else ENCODER_NOTES,
    )


def retrieval_head(state: Mapping[str, Tensor]) -> dict[str, HeadWeights]:
    """Return DPR's way to an embedding as a retrieval head; `state` may hold the weights of `encode_proj`."""
    options: dict[str, Any] = {"pooling": "cls", "similarity": "dot"}
    weights = {f"projection.{key}": state[f"encode_proj.{key}"] for key in ("weight", "bias") if _PROJECTION in state}
    if weights:
        options["projection_dim"] = weights["projection.weight"].shape[0]
    return {"retrieval": HeadWeights(options, weights)}


def reader_head(state: Mapping[str, Tensor]) -> dict[str, HeadWeights]:
    """Return the outputs of DPR's reader, `qa_outputs` and `qa_classifier`, as a reading head."""
    names = {"qa_outputs": "span", "qa_classifier": "relevance"}
    weights = {
        f"{ours}.{key}": state[f"{theirs}.{key}"] for theirs, ours in names.items() for key in ("weight", "bias")
    }
    return {"reading": HeadWeights({"null": "none"}, weights)}


def bert_config(config: PretrainedConfig) -> BertConfig:
    """Return the configuration of the BERT in a DPR model."""
    known = BertConfig().to_dict().keys() - {"model_type", "architectures", "transformers_version", "dtype"}
    return BertConfig(**{name: value for name, value in config.to_dict().items() if name in known})


_PROJECTION = "encode_proj.weight"
