"""A model that tests of the demo's core and of its pages share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, BertModel, PretrainedConfig, PreTrainedTokenizerFast


@pytest.fixture(scope="session")
def plain_config(tiny_tokenizer: PreTrainedTokenizerFast) -> PretrainedConfig:
    """Configuration of a 1-layer BERT for the tiny tokenizer."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    return AutoConfig.for_model("bert", vocab_size=len(tiny_tokenizer), initializer_range=0.2, **sizes)


@pytest.fixture(scope="session")
def sentence_transformer(
    tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast, plain_config: PretrainedConfig
) -> Path:
    """A folder as sentence-transformers writes it, an encoder and mean pooling: it finds passages and can't read."""
    folder = tmp_path_factory.mktemp("models") / "plain"
    torch.manual_seed(5)
    BertModel(plain_config, add_pooling_layer=False).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (kind, path) in enumerate((("Transformer", ""), ("Pooling", "1_Pooling")))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder
