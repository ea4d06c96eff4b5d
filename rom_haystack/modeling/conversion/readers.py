"""Extractive readers of transformers: any `…ForQuestionAnswering` whose spans come from one linear layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForQuestionAnswering

from rom_haystack.modeling.conversion.parts import Converted, HeadWeights, put_together
from rom_haystack.modeling.conversion.tokenizers import load_tokenizer
from rom_haystack.modeling.conversion.weights import load_pretrained
from rom_haystack.modeling.errors import CheckpointError
from rom_haystack.modeling.model import ROMModel

_TOLERANCE = 1e-3
_PROBE = 16  # tokens

NOTES = (
    "The reader had no passage relevance: it is 0 for every passage, so answers rank by their spans alone.",
    "`ROMRanker` can't order documents by it, and says so.",
    "`passage_score_weight=0.0` gives the reader's own log-odds against the null position; the default halves them.",
    "They compare across passages only if the reader was trained with unanswerable questions (SQuAD 2.0).",
)


def convert_reader(folder: Path, *, tokenizer: Path | None = None) -> Converted:
    """Convert a reader's folder.

    Args:
        folder: As `save_pretrained` wrote it.
        tokenizer: Folder of the tokenizer if it isn't there too.

    Raises:
        CheckpointError: The folder is damaged, or the model finds spans in another way.
    """
    source = load_pretrained(AutoModelForQuestionAnswering, folder)
    span = getattr(source, "qa_outputs", None)
    width = getattr(source.config, "hidden_size", None)
    if not isinstance(span, nn.Linear) or (span.in_features, span.out_features) != (width, 2) or span.bias is None:
        raise _other_head(folder, type(source).__name__)
    weights = {f"span.{name}": tensor for name, tensor in span.state_dict().items()}
    weights |= {"relevance.weight": torch.zeros(1, span.in_features), "relevance.bias": torch.zeros(1)}
    heads = {"reading": HeadWeights({}, weights)}
    model = put_together(source.config, source.base_model.state_dict(), heads, source=str(folder))
    if not _agree(source, model):
        raise _other_head(folder, type(source).__name__)
    return Converted(model, load_tokenizer(tokenizer or folder), f"extractive reader ({type(source).__name__})", NOTES)


def _other_head(folder: Path, name: str) -> CheckpointError:
    return CheckpointError(
        f"{folder} holds a {name}, whose spans do not come from one linear layer upon its last hidden states, as "
        "those of ROM's reading head do; it can't be converted."
    )


@torch.inference_mode()
def _agree(source: Any, model: ROMModel) -> bool:
    """Compare the logits of both on made-up tokens: a head may do more than its layer shows."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.get_input_embeddings().num_embeddings, (2, _PROBE), generator=generator)
    inputs: dict[str, Tensor] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.uses_token_types:
        inputs["token_type_ids"] = (torch.arange(_PROBE) > _PROBE // 2).long().expand(ids.shape)
    found, expected = model(**inputs, head="reading"), source(**inputs)
    return all(torch.allclose(found[name], expected[name], atol=_TOLERANCE) for name in ("start_logits", "end_logits"))
