"""Pipelines as YAML: ours in the stock parts' places, and in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from haystack import Document, Pipeline
from haystack.components.retrievers import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import ComponentDevice
from haystack_integrations.components.embedders.sentence_transformers import (
    SentenceTransformersDocumentEmbedder,
    SentenceTransformersTextEmbedder,
)
from haystack_integrations.components.readers.transformers import TransformersExtractiveReader

import rom_haystack
from rom_haystack.components import ROMDocumentEmbedder, ROMExtractiveReader, ROMRetriever, ROMTextEmbedder

ROOT = Path(__file__).parent.parent.parent
CPU = ComponentDevice.from_str("cpu")
QUERY = "Which river flows north?"
SWAPS = {
    SentenceTransformersTextEmbedder: ROMTextEmbedder,
    SentenceTransformersDocumentEmbedder: ROMDocumentEmbedder,
    TransformersExtractiveReader: ROMExtractiveReader,
}


def python(code: str, **environment: str) -> str:
    """Run code in a new process, offline; return what it printed."""
    inherited = {n: v for n, v in os.environ.items() if n != "HAYSTACK_DESERIALIZATION_ALLOWLIST"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def qualified(cls: type) -> str:
    return f"{cls.__module__}.{cls.__name__}"


def test_stock_parts_are_swapped_by_class_name_alone(tiny_checkpoint, documents):
    model = str(tiny_checkpoint)
    pipeline = Pipeline()
    pipeline.add_component(
        "documents", SentenceTransformersDocumentEmbedder(model=model, device=CPU, progress_bar=False)
    )
    pipeline.add_component("text", SentenceTransformersTextEmbedder(model=model, device=CPU, progress_bar=False))
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(InMemoryDocumentStore(), top_k=2))
    pipeline.add_component("reader", TransformersExtractiveReader(model=model, device=CPU, top_k=3))
    pipeline.connect("text.embedding", "retriever.query_embedding")
    pipeline.connect("retriever.documents", "reader.documents")
    text = pipeline.dumps()
    for stock, ours in SWAPS.items():
        assert text.count(qualified(stock)) == 1
        text = text.replace(qualified(stock), qualified(ours))

    swapped = Pipeline.loads(text)
    for name, ours in zip(("text", "documents", "reader"), SWAPS.values(), strict=True):
        assert isinstance(swapped.get_component(name), ours)
    embedded = swapped.get_component("documents").run(documents)["documents"]
    swapped.get_component("retriever").document_store.write_documents(embedded)
    inputs = {"text": {"text": QUERY}, "reader": {"query": QUERY}, "documents": {"documents": []}}
    answers = swapped.run(inputs)["reader"]["answers"]
    assert len(answers) == 3
    assert any(answer.data for answer in answers)
    swapped.close()


@pytest.fixture
def saved(tiny_checkpoint, tmp_path) -> Path:
    """A pipeline file that names the embedder, the retriever and the reader."""
    model = str(tiny_checkpoint)
    pipeline = Pipeline()
    retriever = ROMRetriever(
        retriever=InMemoryEmbeddingRetriever(InMemoryDocumentStore()), text_embedder=ROMTextEmbedder(model=model)
    )
    pipeline.add_component("documents", ROMDocumentEmbedder(model=model, device=CPU))
    pipeline.add_component("retriever", retriever)
    pipeline.add_component("reader", ROMExtractiveReader(model=model, device=CPU, top_k=3))
    pipeline.connect("retriever.documents", "reader.documents")
    path = tmp_path / "pipeline.yaml"
    path.write_text(pipeline.dumps(), encoding="utf-8")
    return path


RUN = f"""
import json
from pathlib import Path
pipeline = Pipeline.loads(Path(PATH).read_text(encoding="utf-8"))
assert pipeline.dumps() == Path(PATH).read_text(encoding="utf-8")
answers = pipeline.get_component("reader").run({QUERY!r}, [Document(content="The Nile flows north.")])["answers"]
print(json.dumps([[a.data, a.score] for a in answers]))
"""


@pytest.mark.parametrize(
    ("imports", "environment"),
    [
        ("import rom_haystack\nfrom haystack import Document, Pipeline", {}),
        ("from haystack import Document, Pipeline\nimport rom_haystack", {}),
        ("from haystack import Document, Pipeline", {"HAYSTACK_DESERIALIZATION_ALLOWLIST": "other, rom_haystack"}),
    ],
    ids=["ours first", "Haystack first", "never imported, allowed by the environment"],
)
def test_round_trip_in_a_new_process(saved, reader, imports, environment):
    printed = python(f"{imports}\nPATH = {str(saved)!r}\n{RUN}", **environment)
    here = reader.run(QUERY, [Document(content="The Nile flows north.")], top_k=3)["answers"]
    there = json.loads(printed.strip().splitlines()[-1])
    assert [data for data, _ in there] == [a.data for a in here]
    assert [score for _, score in there] == pytest.approx([a.score for a in here], abs=1e-5)


def test_importing_the_package_imports_neither_torch_nor_haystack():
    code = """
import sys, rom_haystack
print(sorted({"torch", "haystack", "transformers", "numpy"} & set(sys.modules)))
"""
    assert python(code).strip() == "[]"


def test_the_environment_keeps_what_it_allowed():
    code = """
import os, importlib, rom_haystack
importlib.reload(rom_haystack)
print(os.environ["HAYSTACK_DESERIALIZATION_ALLOWLIST"])
"""
    assert python(code).strip() == "rom_haystack"
    assert python(code, HAYSTACK_DESERIALIZATION_ALLOWLIST="mine.*, ").strip() == "mine.*,rom_haystack"


def test_public_names():
    assert rom_haystack.ROMTextEmbedder is ROMTextEmbedder
    assert rom_haystack.ROMModel.__module__ == "rom_haystack.modeling.model"
    assert set(rom_haystack.__all__) <= set(dir(rom_haystack))
    assert isinstance(rom_haystack.__version__, str)
    with pytest.raises(AttributeError, match="ROMNothing"):
        rom_haystack.ROMNothing  # noqa: B018
