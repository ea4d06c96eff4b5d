"""Stores, and what they are filled with."""

import pytest
from haystack import Document
from haystack.document_stores.in_memory import InMemoryDocumentStore

from rom_haystack import ROMIndexer

PARAGRAPHS = ("The heron waits beside the river for its supper.", "The kestrel hovers above the meadow at noon.")


@pytest.fixture
def store():
    return InMemoryDocumentStore(shared=False)


@pytest.fixture
def indexed(store, tiny_checkpoint):
    documents = [
        Document(
            content="Ada Lovelace wrote notes on the Analytical Engine. \U0001f600 She lived in London.", meta={"n": 1}
        ),
        Document(content="Mount Everest is 8,849 metres high.", meta={"n": 2}),
        Document(content="שלום עולם. e\u0301te\u0301 2024.", meta={"n": 3}),
    ]
    ROMIndexer(store, model=str(tiny_checkpoint)).run(documents=documents)
    return store
