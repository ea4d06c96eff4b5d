"""Models and runs of the training that tests of the demo's core and of its pages share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoConfig, BertModel, PretrainedConfig, PreTrainedTokenizerFast
from typer.testing import CliRunner

from demo.core.feedback import FeedbackFile
from training.__main__ import app

PASSAGES = [
    ("Nile", "The Nile flows north, and John Speke reached its lake in 1858.", "Who reached the lake?", "John Speke"),
    ("Moon", "Apollo 11 landed on the Moon in 1969, and Collins stayed in orbit.", "Who stayed?", "Collins"),
    ("Sea", "Boats carry grain and salt from one quiet harbour to the next.", "What do boats carry?", "grain"),
]


@pytest.fixture(scope="session")
def feedback(tmp_path_factory: pytest.TempPathFactory) -> FeedbackFile:
    """Three right answers."""
    file = FeedbackFile(tmp_path_factory.mktemp("training") / "feedback.json")
    for title, text, question, answer in PASSAGES:
        file.add(question, text, title, answer, text.index(answer), right=True)
    return file


@pytest.fixture(scope="session")
def train(feedback: FeedbackFile, tiny_checkpoint: Path) -> Callable[..., Path]:
    """Train the tiny model on it by the command line: `train("name", *options, learning_rate=…)`."""
    root = feedback.path.parent

    def train(name: str, *options: str, **changes: Any) -> Path:
        recipe = {"name": name, "encoder": str(tiny_checkpoint), "data": "feedback.json", "steps": 40, "bf16": False}
        tasks = {"reading": {"batch_size": 2, "max_length": 64, "stride": 8}, "retrieval": {"batch_size": 2}}
        (root / f"{name}.yaml").write_text(yaml.safe_dump({**recipe, "tasks": tasks, **changes}))
        arguments = ["train", root / f"{name}.yaml", "--data", root, "--output", root / "runs" / name, *options]
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == 0, result.output
        return root / "runs" / name

    return train


@pytest.fixture(scope="session")
def finished(train: Callable[..., Path]) -> Path:
    """A run that reached its end."""
    return train("finished")


@pytest.fixture(scope="session")
def interrupted(train: Callable[..., Path]) -> Path:
    """A run that is going on, for all that its folder tells."""
    return train("interrupted", "--stop-after", "25", learning_rate=0.001)


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
