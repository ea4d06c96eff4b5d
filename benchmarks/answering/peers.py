"""The peers' models: a reader with ROM's own weights, and three encoders in DPR's shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    BertConfig,
    BertForQuestionAnswering,
    BertModel,
)

from rom_haystack.modeling import load_checkpoint


def write_stock_reader(checkpoint: str, folder: Path) -> None:
    """Write ROM's encoder and span head as a plain question-answering model, in float32.

    So the stock reader reads with the same weights. It leaves out what it has no place for: the relevance head.

    Args:
        checkpoint: Bundled name or folder of a ROM checkpoint.
        folder: Folder to write.
    """
    model, tokenizer = load_checkpoint(checkpoint)
    span: Any = model.heads["reading"].span
    reader = AutoModelForQuestionAnswering.from_config(model.config.encoder, dtype=torch.float32)
    reader.base_model.load_state_dict(model.encoder.state_dict())
    reader.qa_outputs.load_state_dict(span.state_dict())
    reader.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_dpr_encoders(tokenizer: Path, folder: Path, *, seed: int, **sizes: int) -> None:
    """Write a query encoder, a passage encoder and a reader with random weights: good for time and memory only.

    Args:
        tokenizer: Folder of the tokenizer that they share.
        folder: Folder for `query`, `passage` and `reader`.
        seed: Seed of the weights.
        **sizes: Values of `BertConfig` other than BERT-base's.
    """
    shared = AutoTokenizer.from_pretrained(tokenizer)
    config = BertConfig(vocab_size=len(shared), **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name, shape in (("query", BertModel), ("passage", BertModel), ("reader", BertForQuestionAnswering)):
            shape(config).save_pretrained(folder / name)
            shared.save_pretrained(folder / name)
