"""Pipelines of Haystack's stock parts, as YAML: other class names, and everything else as it was.

The pipelines beside this file have the shapes of Haystack's documentation. Each is tried as it is written there and as
the installed stock classes write it, which is with every parameter that they have.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from haystack import Document, ExtractedAnswer, Pipeline
from haystack.components.retrievers import (
    InMemoryBM25Retriever,
    InMemoryEmbeddingRetriever,
    TextEmbeddingRetriever,
)
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack_integrations.components.embedders.sentence_transformers import (
    SentenceTransformersDocumentEmbedder,
    SentenceTransformersTextEmbedder,
)
from haystack_integrations.components.rankers.sentence_transformers import SentenceTransformersSimilarityRanker
from haystack_integrations.components.readers.transformers import TransformersExtractiveReader
from haystack_integrations.components.retrievers.faiss import FAISSEmbeddingRetriever
from haystack_integrations.document_stores.faiss import FAISSDocumentStore

from rom_haystack import (
    ROMDocumentEmbedder,
    ROMExtractiveReader,
    ROMRanker,
    ROMRetriever,
    ROMTextEmbedder,
    SQLiteFAISSBM25Retriever,
    SQLiteFAISSDocumentStore,
    SQLiteFAISSEmbeddingRetriever,
)
from rom_haystack.modeling import CheckpointError

pytestmark = pytest.mark.usefixtures("no_hub")

FOLDER = Path(__file__).parent
DIM = 64  # of the tiny model
QUERY = "Which river flows north?"
TEXTS = {
    "nile": "The Nile flows north. Its delta lies in Egypt, and the river is longer than most others.",
    "radium": "Radium glows in the dark. Marie Curie found it in 1898, together with Pierre Curie.",
    "everest": "Mount Everest stands 8849 metres high. It lies in Nepal, where no river flows that high.",
    "bees": "Bees dance to tell their sisters where the flowers are. They fly in all directions.",
}
#: By pipeline, what it is asked.
QUESTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "dense": {"text_embedder": {"text": QUERY}},
    "faiss": {"text_embedder": {"text": QUERY}},
    "text_retriever": {"retriever": {"query": QUERY}, "reader": {"query": QUERY}},
    "extractive_qa": {"embedder": {"text": QUERY}, "reader": {"query": QUERY}},
    "hybrid": {"text_embedder": {"text": QUERY}, "bm25_retriever": {"query": QUERY}, "ranker": {"query": QUERY}},
    "ranked_qa": {"retriever": {"query": QUERY}, "ranker": {"query": QUERY}, "reader": {"query": QUERY}},
    "rag": {"text_embedder": {"text": QUERY}, "ranker": {"query": QUERY}, "prompt_builder": {"query": QUERY}},
}
PIPELINES = ("indexing", *QUESTIONS)


def qualified(cls: type) -> str:
    return f"{cls.__module__}.{cls.__name__}"


HAYSTACK_2_RANKER = "haystack.components.rankers.transformers_similarity.TransformersSimilarityRanker"
#: Class names that change, and nothing with them.
PARTS = {
    qualified(SentenceTransformersTextEmbedder): qualified(ROMTextEmbedder),
    qualified(SentenceTransformersDocumentEmbedder): qualified(ROMDocumentEmbedder),
    qualified(TextEmbeddingRetriever): qualified(ROMRetriever),
    qualified(TransformersExtractiveReader): qualified(ROMExtractiveReader),
    qualified(SentenceTransformersSimilarityRanker): qualified(ROMRanker),
    HAYSTACK_2_RANKER: qualified(ROMRanker),
}
#: Class names that change together, since retrievers belong to their stores.
STORES = {
    qualified(InMemoryDocumentStore): qualified(SQLiteFAISSDocumentStore),
    qualified(FAISSDocumentStore): qualified(SQLiteFAISSDocumentStore),
    qualified(InMemoryEmbeddingRetriever): qualified(SQLiteFAISSEmbeddingRetriever),
    qualified(FAISSEmbeddingRetriever): qualified(SQLiteFAISSEmbeddingRetriever),
    qualified(InMemoryBM25Retriever): qualified(SQLiteFAISSBM25Retriever),
}
#: Inputs that ours have besides the stock parts'. All are optional.
FURTHER_INPUTS = {
    InMemoryEmbeddingRetriever: {"search_parameters"},
    FAISSEmbeddingRetriever: {"search_parameters", "scale_score", "return_embedding"},  # the in-memory one's too
    SentenceTransformersSimilarityRanker: {"calibration_factor"},  # TransformersSimilarityRanker's
}


def renamed(text: str, names: dict[str, str]) -> str:
    """Change class names on `type:` lines."""
    return re.sub(r"(?<=type: )\S+", lambda match: names.get(match[0], match[0]), text)


def with_our_store(text: str, path: Path) -> str:
    """Change stores and their retrievers; of the parameters only the stores', which are their own."""

    def change(part: dict[str, Any]) -> dict[str, Any]:
        if part["type"] == qualified(SQLiteFAISSDocumentStore):
            return {**part, "init_parameters": {"path": str(path), "embedding_dim": DIM}}
        return part

    return with_parts(renamed(text, STORES), change)


def without_models(text: str) -> str:
    """Leave every model to the class."""

    def change(part: dict[str, Any]) -> dict[str, Any]:
        given = part["init_parameters"].items()
        return {**part, "init_parameters": {name: value for name, value in given if name != "model"}}

    return with_parts(text, change)


def with_parts(text: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> str:
    """Change every component and every store, those inside others too."""

    def walk(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        node = {key: walk(value) for key, value in node.items()}
        return change(node) if {"type", "init_parameters"} <= node.keys() else node

    return yaml.safe_dump(walk(yaml.safe_load(text)), sort_keys=False)


def stores_of(pipeline: Pipeline) -> list[Any]:
    components = [pipeline.get_component(name) for name in pipeline.graph.nodes]
    components += [part.retriever for part in components if hasattr(part, "retriever")]
    return [part.document_store for part in components if hasattr(part, "document_store")]


@pytest.fixture
def stock_yaml(tiny_checkpoint, tmp_path):
    """Read a pipeline's file: every model is the tiny checkpoint, the store the test's own."""

    def read(name: str) -> str:
        text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
        return text.replace("MODEL", str(tiny_checkpoint)).replace("STORE", str(tmp_path))

    yield read
    InMemoryDocumentStore(index=str(tmp_path)).delete_all_documents()


@pytest.fixture
def load() -> Iterator[Any]:
    """Load a pipeline, which is closed after the test."""
    loaded: list[Pipeline] = []

    def build(text: str) -> Pipeline:
        loaded.append(Pipeline.loads(text))
        return loaded[-1]

    yield build
    for pipeline in loaded:
        pipeline.close()
        for store in stores_of(pipeline):
            if isinstance(store, SQLiteFAISSDocumentStore):
                store.close()


@pytest.fixture(params=["as written", "as dumped"])
def texts(request, stock_yaml, load, tmp_path):
    """A pipeline's stock YAML, that with our parts, and that with our parts and our store: `texts(name)`."""

    def make(name: str) -> tuple[str, str, str]:
        text = stock_yaml(name)
        if request.param == "as dumped":
            text = load(text).dumps()
        parts = renamed(text, PARTS)
        return text, parts, with_our_store(parts, tmp_path / "store")

    return make


@pytest.fixture
def embedded(tiny_checkpoint):
    embedder = ROMDocumentEmbedder(model=str(tiny_checkpoint), progress_bar=False)
    documents = [Document(content=text, meta={"file_path": f"{name}.txt"}) for name, text in TEXTS.items()]
    yield embedder.run(documents)["documents"]
    embedder.close()


@pytest.fixture
def filled(load, embedded):
    """Load a pipeline, and write the documents to its stores."""

    def build(text: str) -> Pipeline:
        pipeline = load(text)
        for store in stores_of(pipeline):
            if store.count_documents() == 0:
                store.write_documents(embedded)
        return pipeline

    return build


def connections_of(pipeline: dict[str, Any]) -> list[tuple[str, str]]:
    """Connections without their order, which is none."""
    return sorted((connection["sender"], connection["receiver"]) for connection in pipeline["connections"])


def further_inputs(pipeline: Pipeline, name: str) -> set[str]:
    return FURTHER_INPUTS.get(type(pipeline.get_component(name)), set())


@pytest.mark.parametrize("name", PIPELINES)
def test_only_type_lines_change(texts, name):
    stock, parts, _ = texts(name)
    changed = [(one, other) for one, other in zip(stock.splitlines(), parts.splitlines(), strict=True) if one != other]
    assert all(one.strip().startswith("type: ") and "rom_haystack." in other for one, other in changed)
    assert changed


@pytest.mark.parametrize("name", PIPELINES)
def test_sockets_are_the_stock_ones(load, texts, name):
    stock, *ours = map(load, texts(name))
    for pipeline in ours:
        mine, theirs = (each.inputs(include_components_with_connected_inputs=True) for each in (pipeline, stock))
        assert list(mine) == list(theirs)
        for part, sockets in theirs.items():
            further = {socket: mine[part].pop(socket) for socket in mine[part].keys() - sockets.keys()}
            assert mine[part] == sockets
            assert further.keys() <= further_inputs(stock, part)
            assert all(socket["default_value"] is None for socket in further.values())
        assert pipeline.outputs(include_components_with_connected_outputs=True) == stock.outputs(
            include_components_with_connected_outputs=True
        )


def test_the_further_inputs_are_there(load, texts):
    stock, _, ours = map(load, texts("hybrid"))
    for part in ("embedding_retriever", "ranker"):
        found = ours.inputs()[part].keys() - stock.inputs()[part].keys()
        assert found == further_inputs(stock, part)


def connect(pipeline: Pipeline, sender: str, receiver: str) -> str:
    """Say how it went."""
    try:
        pipeline.connect(sender, receiver)
    except Exception as error:  # noqa: BLE001 (whatever it is, it must be the same)
        return f"{type(error).__name__}: {error}"
    return "connected"


def without(message: str, sockets: set[str]) -> str:
    """Take sockets off the lists that error messages hold."""
    for socket in sockets:
        message = re.sub(rf"\n - {socket}: [^\n]*|, {socket} \(type [^()]*\)", "", message)
    return message


@pytest.mark.parametrize("name", PIPELINES)
def test_every_connection_succeeds_or_fails_as_with_the_stock_parts(load, texts, name):
    unconnected = [yaml.safe_dump({**yaml.safe_load(text), "connections": []}, sort_keys=False) for text in texts(name)]
    stock, *ours = map(load, unconnected)
    inputs = stock.inputs(include_components_with_connected_inputs=True)
    outputs = stock.outputs(include_components_with_connected_outputs=True)
    seen = set()
    for sender, receiver in itertools.product(outputs, inputs):
        for one, other in itertools.product(("", *outputs[sender], "nothing"), ("", *inputs[receiver], "nothing")):
            ends = (f"{sender}.{one}".rstrip("."), f"{receiver}.{other}".rstrip("."))
            expected = connect(stock, *ends)
            seen.add(expected.partition(":")[0])
            for pipeline in ours:
                found = connect(pipeline, *ends)
                assert without(found, further_inputs(stock, receiver)) == expected
    assert seen == {"connected", "PipelineConnectError"}


@pytest.mark.parametrize("name", QUESTIONS)
def test_wrong_inputs_fail_as_with_the_stock_parts(load, texts, name):
    right = QUESTIONS[name]
    part = next(iter(right))
    wrong = [
        {},
        {**right, "nothing": {"query": QUERY}},
        {**right, part: {**right[part], "nothing": 1}},
        *({key: value for key, value in right.items() if key != missing} for missing in right),
    ]
    pipelines = [*map(load, texts(name))]
    for pipeline in pipelines:
        pipeline.validate_input(right)
    for inputs in wrong:
        messages = set()
        for pipeline in pipelines:
            with pytest.raises(ValueError, match=r"nothing|Missing") as raised:
                pipeline.validate_input(inputs)
            messages.add(str(raised.value))
        assert len(messages) == 1


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_swapped_pipelines_answer(filled, texts, name):
    stock, *ours = texts(name)
    outputs = filled(stock).outputs()
    for text in ours:
        result = filled(text).run(QUESTIONS[name])
        assert {part: set(found) for part, found in result.items()} == {part: set(s) for part, s in outputs.items()}
        ((values,),) = (found.values() for found in result.values())
        if name == "rag":
            assert values.endswith(f"Question: {QUERY}")
            assert sum(content in values for content in TEXTS.values()) == 2
            continue
        scores = [value.score for value in values]
        assert scores == sorted(scores, reverse=True)
        assert all(type(score) is float for score in scores)
        if isinstance(values[0], ExtractedAnswer):
            quotes = [answer for answer in values if answer.data]
            assert quotes
            for quote in quotes:
                span = quote.document_offset
                assert quote.document.content[span.start : span.end] == quote.data
        else:
            assert len(values) == 3
            assert {document.content for document in values} <= set(TEXTS.values())


def test_both_stores_find_the_same_by_embedding(filled, texts):
    _, parts, all_ours = texts("dense")
    found = [filled(text).run(QUESTIONS["dense"])["retriever"]["documents"] for text in (parts, all_ours)]
    assert [d.content for d in found[0]] == [d.content for d in found[1]]
    assert [d.score for d in found[0]] == pytest.approx([d.score for d in found[1]], abs=1e-3)


def test_the_ranker_decides_the_order_in_a_pipeline(filled, texts, tiny_checkpoint, embedded):
    for text in texts("hybrid")[1:]:
        ranked = filled(text).run(QUESTIONS["hybrid"])["ranker"]["documents"]
        ranker = ROMRanker(model=str(tiny_checkpoint), top_k=3)
        expected = ranker.run(QUERY, embedded)["documents"]
        assert [d.content for d in ranked] == [d.content for d in expected]
        assert [d.score for d in ranked] == pytest.approx([d.score for d in expected], abs=1e-6)
        ranker.close()


def test_what_the_indexing_pipeline_writes_the_query_pipeline_finds(load, texts, tmp_path):
    files = []
    for name, text in TEXTS.items():
        files.append(tmp_path / f"{name}.txt")
        files[-1].write_text(text, encoding="utf-8")
    for index, query in zip(texts("indexing")[1:], texts("dense")[1:], strict=True):
        indexing = load(index)
        written = indexing.run({"converter": {"sources": [str(file) for file in files]}})["writer"]
        assert written == {"documents_written": 4}
        found = load(query).run(QUESTIONS["dense"])["retriever"]["documents"]
        assert len(found) == 3
        assert {document.content for document in found} <= set(TEXTS.values())


async def test_the_swapped_pipelines_answer_in_async_runs(filled, texts):
    for text in texts("hybrid")[1:]:
        pipeline = filled(text)
        expected = pipeline.run(QUESTIONS["hybrid"])["ranker"]["documents"]
        found = (await pipeline.run_async(QUESTIONS["hybrid"]))["ranker"]["documents"]
        assert [d.content for d in found] == [d.content for d in expected]


def test_the_ranker_of_haystack_2_is_swapped_by_name_alone(filled, stock_yaml, load):
    text = stock_yaml("haystack2_ranker")
    assert HAYSTACK_2_RANKER in text
    pipeline = filled(renamed(text, PARTS))
    assert isinstance(pipeline.get_component("ranker"), ROMRanker)
    ranked = pipeline.run({"retriever": {"query": QUERY}, "ranker": {"query": QUERY, "calibration_factor": 0.5}})
    assert len(ranked["ranker"]["documents"]) == 2


@pytest.mark.parametrize("name", PIPELINES)
def test_what_ours_write_is_loaded_again(load, texts, name):
    for text in texts(name)[1:]:
        pipeline = load(text)
        written, again = pipeline.to_dict(), load(pipeline.dumps()).to_dict()
        assert again["components"] == written["components"]
        assert connections_of(again) == connections_of(written)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_stock_model_that_is_left_in_its_place_is_named(load, texts, tiny_checkpoint, tmp_path, name):
    """Class names are all that changes, but a model of another kind can't be ROM's."""
    other = tmp_path / "cross-encoder"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    text = texts(name)[1].replace(str(tiny_checkpoint), str(other))
    with pytest.raises(CheckpointError, match=r"cross-encoder is no ROM checkpoint: .* the model type 'bert'"):
        load(text).warm_up()


@pytest.mark.integration
def test_where_no_model_is_named_the_bundled_checkpoint_answers(load, stock_yaml):
    pipeline = load(renamed(without_models(stock_yaml("extractive_qa")), PARTS))
    embedder = ROMDocumentEmbedder(progress_bar=False)
    documents = embedder.run([Document(content=text) for text in TEXTS.values()])["documents"]
    embedder.close()
    stores_of(pipeline)[0].write_documents(documents)
    answers = pipeline.run(QUESTIONS["extractive_qa"])["reader"]["answers"]
    assert answers[0].data in ("The Nile", "Nile")
    assert len(answers) == 4
