"""Readers that teach: one of another tokenizer, one of another kind."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForQuestionAnswering

from rom_haystack.modeling import ROMConfig, ROMModel

ROBERTA = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def roberta_config(tokenizer):
    return AutoConfig.for_model(
        "roberta",
        vocab_size=len(tokenizer),
        max_position_embeddings=130,
        type_vocab_size=1,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.3,
        **ROBERTA,
    )


@pytest.fixture(scope="session")
def byte_teacher(tmp_path_factory, byte_tokenizer):
    """Folder of a ROM checkpoint whose tokens are bytes."""
    folder = tmp_path_factory.mktemp("teachers") / "bytes"
    torch.manual_seed(11)
    ROMModel(ROMConfig(encoder=roberta_config(byte_tokenizer))).save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def qa_model(tmp_path_factory, byte_tokenizer):
    """Folder of a question answering model as transformers has them."""
    folder = tmp_path_factory.mktemp("teachers") / "qa"
    torch.manual_seed(12)
    AutoModelForQuestionAnswering.from_config(roberta_config(byte_tokenizer)).save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)
    return folder
