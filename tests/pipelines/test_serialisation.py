"""Pipelines saved and loaded."""

import os
import subprocess
import sys

from haystack import Document, Pipeline
from haystack.components.retrievers import InMemoryBM25Retriever
from haystack.core.serialization import component_from_dict, component_to_dict
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import ComponentDevice

from rom_haystack import ROMExtractiveQA, ROMIndexer, SQLiteFAISSDocumentStore
from rom_haystack.pipelines import ROMFileConverter


def test_components_of_a_pipeline_file_share_the_embedded_store(tiny_checkpoint, tmp_path):
    model = str(tiny_checkpoint)
    with SQLiteFAISSDocumentStore(tmp_path / "store", embedding_dim=64) as store:
        pipeline = Pipeline()
        pipeline.add_component("indexer", ROMIndexer(store, model=model))
        pipeline.add_component("qa", ROMExtractiveQA(store, model=model))
        loaded = Pipeline.loads(pipeline.dumps())
        assert loaded.dumps() == pipeline.dumps()
        loaded.get_component("indexer").run(documents=[Document(content="The sea is deep.")])
        assert store.count_documents() == 1
        documents = loaded.get_component("qa").run(query="What is deep?")["documents"]
        assert [document.content for document in documents] == ["The sea is deep."]
        loaded.close()
        assert store.count_documents() == 1


def test_pipelines_saved_before_there_was_a_choice_load(indexed, tiny_checkpoint):
    data = component_to_dict(ROMExtractiveQA(indexed, model=str(tiny_checkpoint)), "qa")
    del data["init_parameters"]["retrieval"]
    assert component_from_dict(ROMExtractiveQA, data, "qa").retrieval == "hybrid"
    given = component_to_dict(ROMExtractiveQA(retriever=InMemoryBM25Retriever(indexed)), "qa")
    assert given["init_parameters"]["retrieval"] is None
    assert component_from_dict(ROMExtractiveQA, given, "qa").retrieval is None


def test_round_trip_in_a_new_process(tiny_checkpoint, tmp_path):
    store = InMemoryDocumentStore()
    device = ComponentDevice.from_str("cpu")
    pipeline = Pipeline()
    pipeline.add_component("indexer", ROMIndexer(store, str(tiny_checkpoint), device, split_length=50, batch_size=3))
    pipeline.add_component("converter", ROMFileConverter(split_overlap=7))
    qa = ROMExtractiveQA(
        store, model=str(tiny_checkpoint), top_k_retriever=4, no_answer=False, adaptive_reading="off", backend="torch"
    )
    pipeline.add_component("qa", qa)
    path = tmp_path / "pipeline.yaml"
    path.write_text(pipeline.dumps())
    script = (
        "import sys, yaml; from pathlib import Path; import rom_haystack; from haystack import Document, Pipeline\n"
        "text = Path(sys.argv[1]).read_text()\n"
        "pipeline = Pipeline.loads(text)\n"
        "assert pipeline.to_dict() == yaml.safe_load(text), pipeline.dumps()\n"
        "pipeline.get_component('indexer').run(documents=[Document(content='The sea is deep.')])\n"
        "answers = pipeline.get_component('qa').run(query='What is deep?')['answers']\n"
        "print(len(answers), all(answer.data in 'The sea is deep.' for answer in answers))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, env=os.environ.copy(), check=False
    )
    assert done.returncode == 0, done.stderr
    count, quoted = done.stdout.split()
    assert int(count) > 0
    assert quoted == "True"
