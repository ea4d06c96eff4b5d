"""Ours take every argument of the stock parts, with the same defaults."""

from __future__ import annotations

import inspect

import pytest
from haystack.components.retrievers import TextEmbeddingRetriever
from haystack_integrations.components.embedders.sentence_transformers import (
    SentenceTransformersDocumentEmbedder,
    SentenceTransformersTextEmbedder,
)
from haystack_integrations.components.readers.transformers import TransformersExtractiveReader

from rom_haystack.components import ROMDocumentEmbedder, ROMExtractiveReader, ROMRetriever, ROMTextEmbedder

OUR_MODEL = "the model is ours"
FASTEST = "the machine's fastest faithful engine, not torch"
PAIRS = [
    (ROMTextEmbedder, SentenceTransformersTextEmbedder, {"model": OUR_MODEL, "backend": FASTEST}),
    (
        ROMDocumentEmbedder,
        SentenceTransformersDocumentEmbedder,
        {
            "model": OUR_MODEL,
            "backend": FASTEST,
            "embedding_separator": "None is the separator token that ROM was trained with",
        },
    ),
    (
        ROMExtractiveReader,
        TransformersExtractiveReader,
        {"model": OUR_MODEL, "calibration_factor": "fitted to our log-odds; theirs are raw logits"},
    ),
    (ROMRetriever, TextEmbeddingRetriever, {"text_embedder": "theirs has none to default to"}),
]


@pytest.mark.parametrize(("ours", "stock", "differing"), PAIRS)
def test_init_takes_every_stock_parameter(ours, stock, differing):
    mine, theirs = (inspect.signature(cls.__init__).parameters for cls in (ours, stock))
    assert set(theirs) <= set(mine)
    different = {name for name in theirs if mine[name].default != theirs[name].default}
    assert different == set(differing)
    assert all(mine[name].kind == theirs[name].kind for name in theirs)


@pytest.mark.parametrize(("ours", "stock", "differing"), PAIRS)
def test_run_has_the_same_parameters_and_sockets(ours, stock, differing):
    mine, theirs = (inspect.signature(cls.run).parameters for cls in (ours, stock))
    assert {n: p.default for n, p in mine.items()} == {n: p.default for n, p in theirs.items()}
    assert list(mine) == list(theirs)
    assert inspect.signature(ours.run) == inspect.signature(ours.run_async)


def test_sockets_have_the_stock_names_and_types(tiny_checkpoint):
    for ours, stock, _ in PAIRS[:3]:
        mine, theirs = ours(model=str(tiny_checkpoint)), stock(model=str(tiny_checkpoint))
        for kind in ("__haystack_input__", "__haystack_output__"):
            sockets = [{n: s.type for n, s in getattr(part, kind)._sockets_dict.items()} for part in (mine, theirs)]
            assert sockets[0] == sockets[1]


@pytest.mark.parametrize("ours", [ROMTextEmbedder, ROMDocumentEmbedder, ROMExtractiveReader, ROMRetriever])
def test_no_telemetry(ours):
    assert not hasattr(ours, "_get_telemetry_data")
