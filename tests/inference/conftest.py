"""Encoders that several tests of the inference core use."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig

from rom_haystack.inference import ROMEncoder
from rom_haystack.modeling import ROMConfig, ROMModel


@pytest.fixture(scope="module")
def byte_encoder(byte_tokenizer) -> ROMEncoder:
    """A tiny random encoder whose tokens may be parts of characters."""
    config = AutoConfig.for_model(
        "roberta",
        vocab_size=len(byte_tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=514,
        initializer_range=0.2,
    )
    torch.manual_seed(11)
    return ROMEncoder.from_model(ROMModel(ROMConfig(encoder=config)).eval(), byte_tokenizer)


TEXTS = [
    "Comets are small bodies of ice and dust.",
    "",
    " ".join(f"River {n} flows north through country {n * n}." for n in range(12)),
    "Été à Paris: 25 °C — “très chaud”!",
    "چرا آسمان آبی است؟ هذا نص عربي.",
    "👩‍💻 writes code 👍🏽 in हिन्दी and 日本語",
    "x",
]


def encoder_of(family, heads=None):
    torch.manual_seed(11)
    return ROMEncoder.from_model(ROMModel(ROMConfig(encoder=family.config, heads=heads)).eval(), family.tokenizer)
