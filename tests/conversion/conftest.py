"""Tiny random models of other libraries, written by these libraries themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    DPRConfig,
    DPRContextEncoder,
    DPRQuestionEncoder,
    DPRReader,
)

#: Two heads of 64, as files of the original DPR don't tell how many there are.
SIZES = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
QUERIES = ["Where does the Nile flow?", "who found radium", "", "x " * 100]
PASSAGES = ["Nile [SEP] The Nile flows north. Its delta lies in Egypt.", "Marie Curie found radium.", ""]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("ROM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory, tiny_tokenizer) -> Path:
    """Folder with the `vocab.txt` of the tiny tokenizer and nothing else."""
    folder = tmp_path_factory.mktemp("vocabulary")
    pieces = sorted(tiny_tokenizer.get_vocab().items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("\n".join(piece for piece, _ in pieces), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def dpr_folder(tmp_path_factory, vocabulary, tiny_tokenizer):
    """Write one of the three DPR models, with `vocab.txt`: `dpr_folder(model_class, **options)`."""

    def make(model_class, seed=0, **options) -> Path:
        folder = tmp_path_factory.mktemp(model_class.__name__)
        torch.manual_seed(seed)
        config = DPRConfig(vocab_size=len(tiny_tokenizer), **SIZES, **options)
        model_class(config).save_pretrained(folder)
        (folder / "vocab.txt").write_bytes((vocabulary / "vocab.txt").read_bytes())
        return folder

    return make


@pytest.fixture(scope="session")
def dpr_question(dpr_folder) -> Path:
    return dpr_folder(DPRQuestionEncoder, seed=1)


@pytest.fixture(scope="session")
def dpr_passage(dpr_folder) -> Path:
    return dpr_folder(DPRContextEncoder, seed=2)


@pytest.fixture(scope="session")
def dpr_reader(dpr_folder) -> Path:
    return dpr_folder(DPRReader, seed=3)


@pytest.fixture(scope="session")
def squad_reader(tmp_path_factory, tiny_tokenizer) -> Path:
    """A BERT for question answering."""
    folder = tmp_path_factory.mktemp("squad-reader")
    torch.manual_seed(4)
    BertForQuestionAnswering(BertConfig(vocab_size=len(tiny_tokenizer), **SIZES)).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


class Bomb:
    """A pickle that makes a file when it is run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")
