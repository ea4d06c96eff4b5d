import asyncio
import os
import subprocess
import sys

import docx
import pytest
from fpdf import FPDF
from haystack import Document, Pipeline, SuperComponent
from haystack.components.retrievers import (
    InMemoryBM25Retriever,
    InMemoryEmbeddingRetriever,
    TextEmbeddingRetriever,
)
from haystack.core.serialization import component_from_dict, component_to_dict
from haystack.dataclasses import ByteStream
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import ComponentDevice

from rom_haystack import (
    ROMExtractiveQA,
    ROMHybridRetriever,
    ROMIndexer,
    ROMRanker,
    ROMRetriever,
    ROMTextEmbedder,
    SQLiteFAISSDocumentStore,
)
from rom_haystack.pipelines import ROMFileConverter

PARAGRAPHS = ("The heron waits beside the river for its supper.", "The kestrel hovers above the meadow at noon.")


@pytest.fixture
def five_files(tmp_path):
    """One file of each kind, all with the same two paragraphs; in the PDF file each has a page of its own."""
    (tmp_path / "plain_text.txt").write_text("\n\n".join(PARAGRAPHS))
    (tmp_path / "notes.md").write_text("# Birds of *prey*\n\n" + "\n\n".join(PARAGRAPHS))
    paragraphs = "".join(f"<p>{paragraph}</p>" for paragraph in PARAGRAPHS)
    (tmp_path / "site.html").write_text(
        f"<html><head><title>Bird &amp; co</title></head><body>{paragraphs}</body></html>"
    )
    pdf = FPDF()
    pdf.set_font("Helvetica")
    for paragraph in PARAGRAPHS:
        pdf.add_page()
        pdf.multi_cell(0, text=paragraph)
    pdf.output(str(tmp_path / "field-guide.pdf"))
    word = docx.Document()
    for paragraph in PARAGRAPHS:
        word.add_paragraph(paragraph)
    word.save(str(tmp_path / "letter.docx"))
    return sorted(tmp_path.iterdir())


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


def test_five_formats_with_titles_and_pages(five_files):
    result = ROMFileConverter(split_length=9).run(sources=five_files)

    assert result["skipped"] == {}
    found = {}
    for passage in result["documents"]:
        name = passage.meta["file_path"].rpartition("/")[2]
        place = (passage.meta["title"], passage.meta.get("page_number"), " ".join(passage.content.split()))
        found.setdefault(name, []).append(place)
    first, second = PARAGRAPHS
    assert found == {
        "field-guide.pdf": [("field guide", 1, first), ("field guide", 2, second)],
        "letter.docx": [("letter", None, first), ("letter", None, second)],
        "notes.md": [("Birds of prey", None, text) for text in ("Birds of prey", first, second)],
        "plain_text.txt": [("plain text", None, first), ("plain text", None, second)],
        "site.html": [("Bird & co", None, first), ("Bird & co", None, second)],
    }


def test_html_keeps_its_declared_encoding():
    page = "<html><head><meta charset='windows-1252'></head><body><p>Zürich liegt am See, naïve Café.</p></body></html>"
    source = ByteStream(page.encode("cp1252"), mime_type="text/html")
    assert ROMFileConverter().run(sources=[source])["documents"][0].content == "Zürich liegt am See, naïve Café."


def test_a_scanned_pdf_is_reported(tmp_path):
    pdf = FPDF()
    pdf.add_page()
    pdf.output(str(tmp_path / "scan.pdf"))
    result = ROMFileConverter().run(sources=[tmp_path / "scan.pdf"])
    assert result["documents"] == []
    assert "OCR" in result["skipped"][str(tmp_path / "scan.pdf")]


def test_indexer_takes_files_and_documents_and_overwrites(store, tiny_checkpoint, tmp_path):
    (tmp_path / "a.txt").write_text("Text of a file.")
    (tmp_path / "b.txt").write_bytes(b"\0\1\2")
    indexer = ROMIndexer(store, model=str(tiny_checkpoint))
    inputs = {
        "sources": [tmp_path / "a.txt", tmp_path / "b.txt"],
        "meta": [{"year": 2024}, {}],
        "documents": [Document(content="A document.", meta={"title": "Given"})],
    }

    result = indexer.run(**inputs)
    again = indexer.run(**inputs)

    assert result["documents_written"] == again["documents_written"] == 2
    assert list(result["skipped"]) == [str(tmp_path / "b.txt")]
    found = {document.content: document for document in store.filter_documents()}
    assert set(found) == {"Text of a file.", "A document."}
    assert found["Text of a file."].meta["year"] == 2024
    assert all(len(document.embedding) == 64 for document in found.values())
    assert all("_source" not in document.meta for document in found.values())


def test_indexer_embeds_the_title(store, tiny_checkpoint):
    indexer = ROMIndexer(store, model=str(tiny_checkpoint))
    indexer.run(documents=[Document(content="same", meta={"title": title}) for title in ("Rivers", "Mountains")])
    one, two = store.filter_documents()
    assert one.embedding != two.embedding


def test_answers_obey_the_offset_law(indexed, tiny_checkpoint):
    qa = ROMExtractiveQA(indexed, model=str(tiny_checkpoint))
    result = qa.run(query="How high is Mount Everest?", top_k=20)
    quotes = [answer for answer in result["answers"] if answer.data is not None]
    assert {answer.document.meta["n"] for answer in quotes} == {1, 2, 3}
    for answer in quotes:
        assert answer.document.content[answer.document_offset.start : answer.document_offset.end] == answer.data
        assert answer.context[answer.context_offset.start : answer.context_offset.end] == answer.data
    assert len(result["documents"]) == 3


def test_answering_obeys_filters_and_numbers(indexed, tiny_checkpoint):
    qa = ROMExtractiveQA(indexed, model=str(tiny_checkpoint), top_k_retriever=2, top_k_reader=4)
    assert len(qa.run(query="Who?")["documents"]) == 2
    assert len(qa.run(query="Who?")["answers"]) == 4
    result = qa.run(query="Who?", filters={"field": "meta.n", "operator": "==", "value": 2}, top_k=3)
    assert [document.meta["n"] for document in result["documents"]] == [2]
    assert len(result["answers"]) == 3
    assert len(qa.run(query="Who?", top_k_retriever=1)["documents"]) == 1
    with pytest.raises(Exception, match="query is empty"):
        qa.run(query=" ")


def test_an_empty_store_has_no_answer(store, tiny_checkpoint):
    result = ROMExtractiveQA(store, model=str(tiny_checkpoint)).run(query="Who?")
    assert result["documents"] == []
    assert [answer.data for answer in result["answers"]] == [None]


def test_runs_async(indexed, tiny_checkpoint):
    qa = ROMExtractiveQA(indexed, model=str(tiny_checkpoint))
    result = asyncio.run(qa.run_async(query="Who?"))
    assert [a.data for a in result["answers"]] == [a.data for a in qa.run(query="Who?")["answers"]]


def test_a_batch_of_queries_is_answered_like_single_ones(indexed, tiny_checkpoint):
    qa = ROMExtractiveQA(indexed, model=str(tiny_checkpoint))
    queries = ["How high is Mount Everest?", "Who wrote notes?", "Who?"]
    filters = {"field": "meta.n", "operator": "<", "value": 3}
    for options in ({}, {"filters": filters, "top_k": 3, "top_k_retriever": 1}, {"top_k": 0}):
        batch = qa.run_batch(queries, **options)
        assert set(batch) == {"answers", "documents"}
        for query, answers, documents in zip(queries, batch["answers"], batch["documents"], strict=True):
            alone = qa.run(query=query, **options)
            assert [d.id for d in documents] == [d.id for d in alone["documents"]]
            assert [(a.query, a.data) for a in answers] == [(query, a.data) for a in alone["answers"]]
            assert [a.score for a in answers] == pytest.approx([a.score for a in alone["answers"]], abs=1e-4)


def test_a_batch_reads_all_documents_in_one_stream(indexed, tiny_checkpoint, monkeypatch):
    qa = ROMExtractiveQA(indexed, model=str(tiny_checkpoint))
    qa.warm_up()
    backend = qa.pipeline.get_component("reader")._encoder.backend
    calls, run = [], backend.run
    monkeypatch.setattr(
        backend,
        "run",
        lambda inputs, head, **options: calls.append((head, len(inputs))) or run(inputs, head, **options),
    )
    qa.run_batch(["Who?", "Where?"])
    assert calls == [("retrieval", 2), ("reading", 6)]


def test_bad_batches(indexed, tiny_checkpoint):
    qa = ROMExtractiveQA(indexed, model=str(tiny_checkpoint))
    assert qa.run_batch([]) == {"answers": [], "documents": []}
    with pytest.raises(TypeError, match="found a single str"):
        qa.run_batch("Who?")
    with pytest.raises(ValueError, match="query is empty"):
        qa.run_batch(["Who?", " "])
    with pytest.raises(ValueError, match="top_k is -1"):
        qa.run_batch(["Who?"], top_k_retriever=-1)


def test_engine_and_adaptive_reading_reach_the_components(store, tiny_checkpoint):
    model = str(tiny_checkpoint)
    qa = ROMExtractiveQA(store, model=model, adaptive_reading="fast", backend="torch")
    indexer = ROMIndexer(store, model=model, backend="torch")
    reader, retriever = (qa.pipeline.get_component(name) for name in ("reader", "retriever"))
    assert reader.adaptive_reading == "fast"
    embedders = [retriever.dense_retriever.text_embedder, indexer.pipeline.get_component("embedder")]
    assert [part.backend for part in (reader, *embedders)] == ["torch"] * 3
    assert ROMExtractiveQA(store, model=model).pipeline.get_component("reader").backend == "auto"
    for part, wrong in [(ROMExtractiveQA, "backend"), (ROMExtractiveQA, "adaptive_reading"), (ROMIndexer, "backend")]:
        with pytest.raises(ValueError, match="swift"):
            part(store, model=model, **{wrong: "swift"})


def test_the_embedded_store_is_filled_and_asked(indexed, tiny_checkpoint, tmp_path):
    model = str(tiny_checkpoint)
    sentences = ["The sea is deep.", "Bees dance for their sisters.", "Ibis and heron wade."]
    with SQLiteFAISSDocumentStore(tmp_path / "store", embedding_dim=64) as store:
        documents = [Document(content=text, meta={"n": n}) for n, text in enumerate(sentences)]
        indexer, qa = ROMIndexer(store, model=model), ROMExtractiveQA(store, model=model, top_k_retriever=2)
        for _ in range(2):
            assert indexer.run(documents=documents)["documents_written"] == 3
        assert store.count_documents() == 3

        result = qa.run(query=sentences[1])
        assert result["documents"][0].content == sentences[1]
        assert len(result["documents"]) == 2
        for answer in result["answers"]:
            assert answer.data is None or answer.data in answer.document.content
        last = {"field": "meta.n", "operator": "==", "value": 2}
        assert [d.content for d in qa.run(query="Who?", filters=last)["documents"]] == [sentences[2]]

        in_memory = InMemoryDocumentStore(embedding_similarity_function="cosine", shared=False)
        ROMIndexer(in_memory, model=model).run(documents=documents)
        options = {"model": model, "top_k_retriever": 2, "retrieval": "dense"}
        expected = ROMExtractiveQA(in_memory, **options).run(query="Who dances?")
        found = asyncio.run(ROMExtractiveQA(store, **options).run_async(query="Who dances?"))
        assert [d.id for d in found["documents"]] == [d.id for d in expected["documents"]]
        assert [a.data for a in found["answers"]] == [a.data for a in expected["answers"]]
        assert [a.score for a in found["answers"]] == pytest.approx([a.score for a in expected["answers"]], abs=1e-3)


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


def test_the_embedded_store_checks_the_number_of_documents(tiny_checkpoint, tmp_path):
    with (
        SQLiteFAISSDocumentStore(tmp_path / "store", embedding_dim=64) as store,
        pytest.raises(ValueError, match="top_k_retriever is 0"),
    ):
        ROMExtractiveQA(store, model=str(tiny_checkpoint), top_k_retriever=0)


def test_any_embedding_retriever_will_do(indexed, tiny_checkpoint):
    retriever = InMemoryEmbeddingRetriever(indexed, top_k=1)
    assert len(ROMExtractiveQA(retriever=retriever, model=str(tiny_checkpoint)).run(query="Who?")["documents"]) == 1


@pytest.mark.parametrize("kind", ["SQLiteFAISSDocumentStore", "InMemoryDocumentStore"])
def test_a_store_is_searched_by_keywords_by_meaning_and_by_both(kind, tiny_checkpoint, tmp_path):
    model = str(tiny_checkpoint)
    store = InMemoryDocumentStore(shared=False)
    if kind == "SQLiteFAISSDocumentStore":
        store = SQLiteFAISSDocumentStore(tmp_path / "store", embedding_dim=64)
    texts = [*PARAGRAPHS, "Part XK-4711 fits.", "The sea is deep.", "Ibis wade."]
    ROMIndexer(store, model=model).run(documents=[Document(content=text) for text in texts])
    query = "Where is part XK-4711?"
    ways = {way: ROMExtractiveQA(store, model=model, retrieval=way) for way in (None, "hybrid", "dense", "keyword")}
    found = {way: qa.run(query=query) for way, qa in ways.items()}
    contents = {way: [document.content for document in result["documents"]] for way, result in found.items()}
    assert contents[None] == contents["hybrid"]
    assert contents["hybrid"][0] == contents["keyword"][0] == texts[2]
    assert sorted(contents["hybrid"]) == sorted(contents["dense"]) == sorted(texts)
    assert len(contents["keyword"]) < len(texts)
    for way, qa in ways.items():
        assert qa.run(query=query, top_k_retriever=1)["documents"][0].content == contents[way][0]
        batch = qa.run_batch([query, "Ibis"], top_k_retriever=2)
        assert [d.content for d in batch["documents"][0]] == contents[way][:2]
        assert component_from_dict(ROMExtractiveQA, component_to_dict(qa, "qa"), "qa").retrieval == (way or "hybrid")
    assert asyncio.run(ways["hybrid"].run_async(query=query))["documents"] == found["hybrid"]["documents"]


def test_more_documents_than_candidates_are_read_on_request(store, tiny_checkpoint):
    model = str(tiny_checkpoint)
    ROMIndexer(store, model=model).run(documents=[Document(content=f"Note {number}.") for number in range(60)])
    qa = ROMExtractiveQA(store, model=model, top_k_retriever=55)
    assert len(qa.run(query="Which note?")["documents"]) == 55
    assert len(qa.run(query="Which note?", top_k_retriever=60)["documents"]) == 60


def test_retrievers_that_take_a_query_will_do(indexed, tiny_checkpoint):
    model = str(tiny_checkpoint)
    for retriever in (
        InMemoryBM25Retriever(indexed, top_k=1),
        ROMHybridRetriever(indexed, model=model, top_k=1, weights=[1, 0]),  # a random encoder knows nothing of it
    ):
        qa = ROMExtractiveQA(retriever=retriever, model=model)
        found = qa.run(query="How high is Mount Everest?")["documents"]
        assert [document.meta["n"] for document in found] == [2]
        batch = qa.run_batch(["How high is Mount Everest?"])["documents"]
        assert [document.id for document in batch[0]] == [document.id for document in found]


def test_pipelines_saved_before_there_was_a_choice_load(indexed, tiny_checkpoint):
    data = component_to_dict(ROMExtractiveQA(indexed, model=str(tiny_checkpoint)), "qa")
    del data["init_parameters"]["retrieval"]
    assert component_from_dict(ROMExtractiveQA, data, "qa").retrieval == "hybrid"
    given = component_to_dict(ROMExtractiveQA(retriever=InMemoryBM25Retriever(indexed)), "qa")
    assert given["init_parameters"]["retrieval"] is None
    assert component_from_dict(ROMExtractiveQA, given, "qa").retrieval is None


def test_documents_are_read_without_embeddings(indexed, tiny_checkpoint):
    model = str(tiny_checkpoint)
    query = "How high is Mount Everest?"
    for qa in (
        ROMExtractiveQA(indexed, model=model, retrieval="keyword"),
        ROMExtractiveQA(retriever=InMemoryBM25Retriever(indexed), model=model),
    ):
        found = qa.run(query=query)
        batch = {name: groups[0] for name, groups in qa.run_batch([query]).items()}
        for result in (found, asyncio.run(qa.run_async(query=query)), batch):
            read = [answer.document for answer in result["answers"] if answer.document is not None]
            assert read
            assert all(document.embedding is None for document in (*read, *result["documents"]))
    assert all(document.embedding for document in indexed.filter_documents())


def test_a_ranker_between_retriever_and_reader(indexed, tiny_checkpoint):
    model = str(tiny_checkpoint)
    pipeline = Pipeline()
    pipeline.add_component("search", ROMHybridRetriever(indexed, model=model))
    pipeline.add_component("ranker", ROMRanker(model=model))
    pipeline.connect("search.documents", "ranker.documents")
    inputs = {"query": ["search.query", "ranker.query"], "filters": ["search.filters"], "top_k": ["ranker.top_k"]}
    qa = ROMExtractiveQA(retriever=SuperComponent(pipeline, inputs, {"ranker.documents": "documents"}), model=model)
    query = "How high is Mount Everest?"
    expected = pipeline.run({"search": {"query": query}, "ranker": {"query": query, "top_k": 2}})["ranker"]["documents"]
    assert [d.id for d in qa.run(query=query, top_k_retriever=2)["documents"]] == [d.id for d in expected]
    assert [d.id for d in qa.run_batch([query], top_k_retriever=2)["documents"][0]] == [d.id for d in expected]


def test_another_model_in_the_retriever_is_told(indexed, tiny_checkpoint, caplog):
    model = str(tiny_checkpoint)

    def warned(retriever, **options):
        caplog.clear()
        ROMExtractiveQA(retriever=retriever(), **options)
        return "its retriever embeds queries with" in caplog.text

    inner, keyword = InMemoryEmbeddingRetriever(indexed), InMemoryBM25Retriever(indexed)
    default, ours = ROMTextEmbedder(), ROMTextEmbedder(model=model)
    for forgotten in (
        lambda: ROMHybridRetriever(indexed),
        lambda: ROMHybridRetriever(keyword_retriever=keyword, dense_retriever=inner),
        lambda: ROMRetriever(retriever=inner, text_embedder=default),
        lambda: TextEmbeddingRetriever(retriever=inner, text_embedder=default),
        lambda: ROMHybridRetriever(keyword_retriever=keyword, dense_retriever=ROMRetriever(retriever=inner)),
    ):
        assert warned(forgotten, model=model)
        assert not warned(forgotten)
    assert warned(lambda: ROMHybridRetriever(indexed, model=model))
    assert not warned(lambda: ROMHybridRetriever(indexed, model=model), model=model)
    assert not warned(lambda: ROMHybridRetriever(indexed, model=model), model="a reader of its own")
    assert not warned(lambda: ROMRetriever(retriever=inner, text_embedder=ours), model=model)
    assert not warned(lambda: InMemoryEmbeddingRetriever(indexed), model=model)
    assert not warned(lambda: InMemoryBM25Retriever(indexed), model=model)


def test_wrong_stores_and_retrievers_are_refused(store):
    class OtherStore:
        pass

    class NoSearch:
        def run(self, text: str):
            return {"documents": []}

    with pytest.raises(ValueError, match="one of the two"):
        ROMExtractiveQA()
    with pytest.raises(ValueError, match="one of the two"):
        ROMExtractiveQA(store, retriever=InMemoryEmbeddingRetriever(store))
    with pytest.raises(ValueError, match="OtherStore is searched through retrievers of its own: give retriever, such"):
        ROMExtractiveQA(OtherStore())
    with pytest.raises(ValueError, match="NoSearch, given as retriever, can't be asked: its run takes no query_emb"):
        ROMExtractiveQA(retriever=NoSearch())
    with pytest.raises(ValueError, match="retrieval is dense, but a retriever is given"):
        ROMExtractiveQA(retriever=InMemoryEmbeddingRetriever(store), retrieval="dense")
    with pytest.raises(ValueError, match="Unknown retrieval 'sparse'"):
        ROMExtractiveQA(store, retrieval="sparse")
    with pytest.raises(ValueError, match="set top_k on the retriever"):
        ROMExtractiveQA(retriever=InMemoryEmbeddingRetriever(store), top_k_retriever=3)
    with pytest.raises(ValueError, match="top_k_retriever is 0"):
        ROMExtractiveQA(store, top_k_retriever=0)


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
