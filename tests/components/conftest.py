"""Fixtures for component tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from haystack import Document
from haystack.utils import ComponentDevice

from rom_haystack.components import ROMDocumentEmbedder, ROMExtractiveReader, ROMRanker, ROMTextEmbedder

CPU = ComponentDevice.from_str("cpu")


@pytest.fixture
def fresh_checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that no other test has loaded."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "fresh"))


@pytest.fixture
def text_embedder(tiny_checkpoint: Path):
    embedder = ROMTextEmbedder(model=str(tiny_checkpoint), device=CPU)
    yield embedder
    embedder.close()


@pytest.fixture
def document_embedder(tiny_checkpoint: Path):
    embedder = ROMDocumentEmbedder(model=str(tiny_checkpoint), device=CPU, progress_bar=False)
    yield embedder
    embedder.close()


@pytest.fixture
def reader(tiny_checkpoint: Path):
    reader = ROMExtractiveReader(model=str(tiny_checkpoint), device=CPU)
    yield reader
    reader.close()


@pytest.fixture
def ranker(tiny_checkpoint: Path):
    ranker = ROMRanker(model=str(tiny_checkpoint), device=CPU)
    yield ranker
    ranker.close()


@pytest.fixture
def documents() -> list[Document]:
    return [
        Document(content="Radium glows in the dark. Marie Curie found it in 1898.", meta={"title": "Radium"}),
        Document(content="Mount Everest stands 8849 metres high.\fIt lies in Nepal.", meta={"page_number": 3}),
        Document(content="The Nile flows north. Its delta lies in Egypt."),
    ]
