"""Keyword and dense search, fused."""

from __future__ import annotations

import asyncio

import pytest
from haystack import Document, Pipeline, SuperComponent, component
from haystack.components.retrievers import (
    InMemoryBM25Retriever,
    InMemoryEmbeddingRetriever,
    TextEmbeddingRetriever,
)
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import ComponentDevice

from rom_haystack import (
    ROMHybridRetriever,
    ROMIndexer,
    ROMRanker,
    ROMRetriever,
    ROMTextEmbedder,
    SQLiteFAISSBM25Retriever,
    SQLiteFAISSDocumentStore,
    SQLiteFAISSEmbeddingRetriever,
)
from rom_haystack.fusion import FUSIONS, fuse

TEXTS = (
    "The heron waits beside the river for its supper.",
    "The kestrel hovers above the meadow at noon.",
    "A river bends around the old town.",
    "Part number XK-4711 fits the heron series.",
    "Bees dance to tell their sisters where the flowers are.",
    "Snow falls on mountain passes all winter.",
)
DOCUMENTS = [Document(content=text, meta={"wild": n % 2 == 0}) for n, text in enumerate(TEXTS)]
QUERY = "Which heron waits by the river?"
WILD = {"field": "meta.wild", "operator": "==", "value": True}


@pytest.fixture(scope="module")
def store(tiny_checkpoint, tmp_path_factory):
    with SQLiteFAISSDocumentStore(tmp_path_factory.mktemp("hybrid") / "store", embedding_dim=64) as store:
        ROMIndexer(store, model=str(tiny_checkpoint)).run(documents=DOCUMENTS)
        yield store


@pytest.fixture
def in_memory(tiny_checkpoint):
    """The same documents in Haystack's store."""
    other = InMemoryDocumentStore(embedding_similarity_function="cosine", shared=False)
    ROMIndexer(other, model=str(tiny_checkpoint)).run(documents=DOCUMENTS)
    return other


@pytest.fixture
def make(store, tiny_checkpoint):
    """Makes a hybrid retriever of the tiny model over the store."""

    def make(**options):
        return ROMHybridRetriever(store, model=str(tiny_checkpoint), **options)

    return make


@pytest.fixture
def searches(store, tiny_checkpoint):
    """What each of the two searches finds alone, keyword first."""

    def search(query=QUERY, filters=None, top_k=50):
        keyword = SQLiteFAISSBM25Retriever(store, top_k=top_k)
        dense = ROMRetriever(
            retriever=SQLiteFAISSEmbeddingRetriever(store, top_k=top_k),
            text_embedder=ROMTextEmbedder(model=str(tiny_checkpoint), progress_bar=False),
        )
        return [retriever.run(query, filters=filters)["documents"] for retriever in (keyword, dense)]

    return search


def ids(documents):
    return [document.id for document in documents]


def scores(documents):
    return {document.id: document.score for document in documents}


def test_scores_are_fused_by_default(make, searches):
    found = make().run(query=QUERY)["documents"]
    keyword, dense = searches()
    assert 0 < len(keyword) < len(dense) == len(TEXTS)
    expected = fuse([list(scores(keyword).items()), list(scores(dense).items())], "z_score")
    assert scores(found) == pytest.approx(expected)
    assert ids(found) == list(expected)
    assert all(type(document.score) is float and document.embedding is None for document in found)


def test_ranks_are_fused_on_request(make, searches):
    found = make(join_mode="reciprocal_rank_fusion").run(query=QUERY)["documents"]
    keyword, dense = searches()
    expected = dict.fromkeys(ids(dense), 0.0)
    for documents in (keyword, dense):
        for rank, document in enumerate(documents):
            expected[document.id] += 0.5 * 61 / (61 + rank)
    assert scores(found) == pytest.approx(expected)
    best_first = sorted(expected.values(), reverse=True)  # of equals, either may come first
    assert [expected[name] for name in ids(found)] == pytest.approx(best_first)


@pytest.mark.parametrize("join_mode", FUSIONS)
@pytest.mark.parametrize("slow", ["bm25_retrieval_async", "embedding_retrieval_async"])
async def test_weights_stay_with_their_search_whichever_ends_first(make, searches, store, monkeypatch, join_mode, slow):
    fast = {"bm25_retrieval_async": "embedding_retrieval_async"}.get(slow, "bm25_retrieval_async")
    first, second, ended = getattr(store, fast), getattr(store, slow), asyncio.Event()

    async def end_first(*arguments, **options):
        found = await first(*arguments, **options)
        ended.set()
        return found

    async def end_last(*arguments, **options):
        await ended.wait()
        return await second(*arguments, **options)

    keyword, dense = searches()
    monkeypatch.setattr(store, fast, end_first)
    monkeypatch.setattr(store, slow, end_last)
    by_keyword = await make(join_mode=join_mode, weights=[1, 0]).run_async(query=QUERY, top_k=len(keyword))
    ended.clear()
    by_meaning = await make(join_mode=join_mode, weights=[0, 1]).run_async(query=QUERY)
    assert ids(by_keyword["documents"]) == ids(keyword)
    assert ids(by_meaning["documents"]) == ids(dense)


async def test_async_and_sync_find_the_same(make):
    retriever = make(weights=[0.3, 0.7])
    assert await retriever.run_async(query=QUERY) == retriever.run(query=QUERY)


def test_keywords_find_what_a_random_encoder_does_not_know(make):
    assert make(weights=[1, 0]).run(query="XK-4711", top_k=1)["documents"][0].content == TEXTS[3]


def test_filters_hold_for_both_searches(make, searches):
    found = make().run(query=QUERY, filters=WILD)["documents"]
    assert sorted(ids(found)) == sorted(ids(searches(filters=WILD)[1]))
    assert all(document.meta["wild"] for document in found)


def test_numbers_of_documents(make, searches):
    retriever = make(top_k=2)
    everything = make().run(query=QUERY)["documents"]
    assert ids(retriever.run(query=QUERY)["documents"]) == ids(everything[:2])
    assert ids(retriever.run(query=QUERY, top_k=4)["documents"]) == ids(everything[:4])
    assert retriever.run(query=QUERY, top_k=0)["documents"] == []
    assert ids(make(top_k=1, candidates=1).run(query=QUERY, top_k=6)["documents"]) == ids(everything)
    assert retriever.run(query=QUERY, candidates=0)["documents"] == []
    keyword, dense = searches(top_k=1)
    assert set(ids(retriever.run(query=QUERY, candidates=1)["documents"])) == set(ids(keyword + dense))


def test_a_query_without_known_words_is_answered_by_meaning(make, searches):
    assert ids(make().run(query="zzz ?!")["documents"]) == ids(searches("zzz ?!")[1])


def test_wrong_values_are_named(make, tiny_checkpoint):
    for weights in ([1.0], [0.5, -0.5], [0, 0], [float("nan"), 1], [float("inf"), 1], [1, 1, 1], []):
        with pytest.raises(ValueError, match="weights are"):
            make(weights=weights)
    with pytest.raises(ValueError, match="join_mode 'concatenate'"):
        make(join_mode="concatenate")
    saved = make().to_dict()
    saved["init_parameters"]["join_mode"] = "merge"  # of a development version
    with pytest.raises(ValueError, match="Unknown join_mode 'merge'; choose one of z_score"):
        ROMHybridRetriever.from_dict(saved)
    with pytest.raises(ValueError, match="candidates is 5, less than top_k, which is 6"):
        make(top_k=6, candidates=5)
    with pytest.raises(ValueError, match="top_k is 0"):
        make(top_k=0)
    with pytest.raises(ValueError, match="query is empty"):
        make().run(query=" ")
    with pytest.raises(ValueError, match="top_k is -1"):
        make().run(query=QUERY, top_k=-1)
    with pytest.raises(ValueError, match="candidates is -1"):
        make().run(query=QUERY, candidates=-1)
    with pytest.raises(TypeError, match="found a single str"):
        make().run_batch(QUERY)


def test_wrong_retrievers_are_refused(in_memory):
    class NoSearch:
        def run(self, text: str, top_k: int | None = None):
            return {"documents": []}

    keyword, dense = InMemoryBM25Retriever(in_memory), InMemoryEmbeddingRetriever(in_memory)
    for given in (
        {},
        {"keyword_retriever": keyword},
        {"dense_retriever": dense},
        {"document_store": in_memory, "dense_retriever": dense},
        {"document_store": in_memory, "keyword_retriever": keyword, "dense_retriever": dense},
    ):
        with pytest.raises(ValueError, match=r"either document_store .* or both keyword_retriever and dense_retriever"):
            ROMHybridRetriever(**given)
    with pytest.raises(
        ValueError, match="NoSearch is searched through retrievers of its own: give keyword_retriever and"
    ):
        ROMHybridRetriever(NoSearch())
    with pytest.raises(ValueError, match=r"InMemoryEmbeddingRetriever, given as keyword_retriever, .* takes no query"):
        ROMHybridRetriever(keyword_retriever=dense, dense_retriever=dense)
    with pytest.raises(ValueError, match="takes no query_embedding or query, no filters"):
        ROMHybridRetriever(keyword_retriever=keyword, dense_retriever=NoSearch())


def test_the_in_memory_store_is_searched_by_name(in_memory, tiny_checkpoint):
    hybrid = ROMHybridRetriever(in_memory, model=str(tiny_checkpoint))
    retrievers = {
        "keyword_retriever": InMemoryBM25Retriever(in_memory),
        "dense_retriever": InMemoryEmbeddingRetriever(in_memory),
    }
    by_retrievers = ROMHybridRetriever(**retrievers, model=str(tiny_checkpoint))
    found = hybrid.run(QUERY)
    assert len(found["documents"]) == len(TEXTS)
    assert found["documents"][0].content == TEXTS[0]
    assert found == by_retrievers.run(QUERY)
    assert all(document.embedding is None for document in found["documents"])


@pytest.mark.parametrize("kind", ["retrievers of two stores", "a text retriever"])
async def test_any_two_retrievers_are_fused_and_kept_in_a_file(kind, store, in_memory, tiny_checkpoint):
    model = str(tiny_checkpoint)
    dense = InMemoryEmbeddingRetriever(in_memory, top_k=1)
    if kind == "a text retriever":
        dense = ROMRetriever(retriever=dense, text_embedder=ROMTextEmbedder(model=model, progress_bar=False))
    keyword = SQLiteFAISSBM25Retriever(store, top_k=1)
    hybrid = ROMHybridRetriever(keyword_retriever=keyword, dense_retriever=dense, model=model, weights=[0.62, 0.38])
    found = hybrid.run(query=QUERY, filters=WILD)
    assert len(found["documents"]) == 3  # candidates, not the retrievers' own top_k
    assert await hybrid.run_async(query=QUERY, filters=WILD) == found
    pipeline = Pipeline()
    pipeline.add_component("hybrid", hybrid)
    text = pipeline.dumps()
    loaded = Pipeline.loads(text)
    assert loaded.dumps() == text
    again = loaded.get_component("hybrid")
    assert (type(again.dense_retriever), again.weights) == (type(dense), [0.62, 0.38])
    again.warm_up()


def test_several_queries_at_once(make):
    hybrid, queries = make(top_k=3), [QUERY, "zzz ?!", "Where do bees dance?"]
    for options in ({}, {"top_k": 1, "filters": WILD}, {"top_k": 0}, {"candidates": 1}):
        expected = [hybrid.run(query, **options)["documents"] for query in queries]
        found = hybrid.run_batch(queries, **options)["documents"]
        assert [ids(documents) for documents in found] == [ids(documents) for documents in expected]
        for documents, alone in zip(found, expected, strict=True):
            assert scores(documents) == pytest.approx(scores(alone), abs=1e-4)
    assert hybrid.run_batch([]) == {"documents": []}


def test_a_file_of_the_first_release_still_loads(store, tiny_checkpoint):
    hybrid = ROMHybridRetriever(store, model=str(tiny_checkpoint), join_mode="reciprocal_rank_fusion")
    data = hybrid.to_dict()
    for name in ("keyword_retriever", "dense_retriever", "backend"):
        del data["init_parameters"][name]
    assert set(data["init_parameters"]) == {
        "document_store", "model", "device", "top_k", "candidates", "join_mode", "weights"
    }  # fmt: skip
    assert ROMHybridRetriever.from_dict(data).run(QUERY) == hybrid.run(QUERY)


def test_fitting_gives_plain_numbers_and_changes_nothing(make):
    hybrid = make(top_k=1)
    before = hybrid.to_dict()
    questions = [("Which part fits the heron series?", ["XK-4711", "nothing"]), ("Who dances?", ["bees"]), ("?", [])]
    fit = hybrid.fit(questions)
    assert hybrid.to_dict() == before
    assert fit.questions == 2
    assert fit.fused.mrr == 1  # keywords find both, a random encoder doesn't
    assert fit.fused.mrr >= fit.alone[1].mrr
    fitted = make(join_mode=fit.join_mode, weights=fit.weights)
    for (question, _), content in zip(questions, (TEXTS[3], TEXTS[4]), strict=False):
        assert fitted.run(question)["documents"][0].content == content
    with pytest.raises(ValueError, match="Unknown join_mode 'rrf'"):
        hybrid.fit(questions, join_modes=["rrf"])
    with pytest.raises(ValueError, match="no questions with answers"):
        hybrid.fit([("Who?", []), ("Where?", [" "])])
    with pytest.raises(ValueError, match="None of the 1 questions"):
        hybrid.fit([("Who?", ["a sentence of no document"])])


def test_round_trip_from_a_pipeline_file(make):
    hybrid = make(
        device=ComponentDevice.from_str("cpu"), top_k=3, candidates=4, join_mode="min_max", weights=[0.25, 0.75]
    )
    pipeline = Pipeline()
    pipeline.add_component("hybrid", hybrid)
    loaded = Pipeline.loads(pipeline.dumps())
    assert loaded.dumps() == pipeline.dumps()
    assert loaded.run({"hybrid": {"query": QUERY}})["hybrid"] == hybrid.run(query=QUERY)


class ChromaDocumentStore:
    """Known by its name, as one that gives distances for scores."""

    _distance_function, _metadata, _collection = "cosine", None, None


DISTANT = [
    Document(id=name, content=name, score=score) for name, score in (("best", 0.1), ("mid", 0.5), ("worst", 0.9))
]


@component
class DistancesByText:
    """Shaped like `ChromaQueryTextRetriever`."""

    def __init__(self):
        self.document_store = ChromaDocumentStore()

    @component.output_types(documents=list[Document])
    def run(self, query: str, filters: dict | None = None, top_k: int | None = None):
        return {"documents": DISTANT[:top_k]}


@component
class DistancesByEmbedding:
    """Shaped like `ChromaEmbeddingRetriever`."""

    def __init__(self):
        self.document_store = ChromaDocumentStore()

    @component.output_types(documents=list[Document])
    def run(self, query_embedding: list[float], filters: dict | None = None, top_k: int | None = None):
        return {"documents": DISTANT[:top_k]}


@pytest.mark.parametrize("join_mode", FUSIONS)
@pytest.mark.parametrize("kind", ["text", "stock", "embedding", "ours"])
async def test_distances_rank_the_near_first(kind, join_mode, tiny_checkpoint):
    embedder = ROMTextEmbedder(model=str(tiny_checkpoint), progress_bar=False)
    dense = {
        "text": DistancesByText,
        "stock": lambda: TextEmbeddingRetriever(retriever=DistancesByEmbedding(), text_embedder=embedder),
        "embedding": DistancesByEmbedding,
        "ours": lambda: ROMRetriever(retriever=DistancesByEmbedding(), text_embedder=embedder),
    }[kind]()
    nothing = InMemoryBM25Retriever(InMemoryDocumentStore(shared=False))
    hybrid = ROMHybridRetriever(
        keyword_retriever=nothing,
        dense_retriever=dense,
        model=str(tiny_checkpoint),
        join_mode=join_mode,
        weights=[0.0, 1.0],
    )
    assert ids(hybrid.run(QUERY)["documents"]) == ["best", "mid", "worst"]
    assert ids((await hybrid.run_async(QUERY))["documents"]) == ["best", "mid", "worst"]
    assert hybrid.fit([(QUERY, ["best"])], join_modes=[join_mode]).alone[1].mrr == 1
    assert [document.score for document in DISTANT] == [0.1, 0.5, 0.9]


def test_super_components_are_asked_by_their_inputs(in_memory, tiny_checkpoint):
    pipeline = Pipeline()
    pipeline.add_component("search", InMemoryBM25Retriever(in_memory))
    pipeline.add_component("ranker", ROMRanker(model=str(tiny_checkpoint)))
    pipeline.connect("search.documents", "ranker.documents")
    inputs = {"query": ["search.query", "ranker.query"], "filters": ["search.filters"], "top_k": ["search.top_k"]}
    ranked = SuperComponent(pipeline, inputs, {"ranker.documents": "documents"})
    dense = InMemoryEmbeddingRetriever(in_memory)
    hybrid = ROMHybridRetriever(keyword_retriever=ranked, dense_retriever=dense, model=str(tiny_checkpoint))
    assert len(hybrid.run(QUERY)["documents"]) == len(TEXTS)
    by_keyword = ROMHybridRetriever(
        keyword_retriever=ranked, dense_retriever=dense, model=str(tiny_checkpoint), weights=[1, 0]
    )
    expected = ranked.run(query=QUERY, filters=WILD, top_k=50)["documents"]
    assert ids(by_keyword.run(QUERY, filters=WILD)["documents"]) == ids(expected)
    with pytest.raises(ValueError, match=r"SuperComponent, given as keyword_retriever, .* takes no filters, no top_k"):
        ROMHybridRetriever(
            keyword_retriever=SuperComponent(pipeline, {"query": inputs["query"]}, {"ranker.documents": "documents"}),
            dense_retriever=dense,
        )


def test_retrievers_that_need_more_than_a_query_are_refused(in_memory):
    @component
    class HybridSearch:  # as Weaviate's
        @component.output_types(documents=list[Document])
        def run(self, query: str, query_embedding: list[float], filters: dict | None = None, top_k: int | None = None):
            return {"documents": []}

    @component
    class EitherWay:
        @component.output_types(documents=list[Document])
        def run(
            self,
            query: str,
            query_embedding: list[float] | None = None,
            filters: dict | None = None,
            top_k: int | None = None,
        ):
            return {"documents": [Document(content=f"{query}: {query_embedding}")]}

    keyword, dense = InMemoryBM25Retriever(in_memory), InMemoryEmbeddingRetriever(in_memory)
    for given, needed in (
        ({"keyword_retriever": keyword, "dense_retriever": HybridSearch()}, "dense_retriever, .* needs query, too"),
        ({"keyword_retriever": HybridSearch(), "dense_retriever": dense}, "keyword_retriever, .* needs query_emb"),
    ):
        with pytest.raises(ValueError, match=needed):
            ROMHybridRetriever(**given)
    by_text = ROMHybridRetriever(keyword_retriever=keyword, dense_retriever=EitherWay(), weights=[0, 1])
    assert [document.content for document in by_text.run("Who?")["documents"]] == ["Who?: None"]


def test_more_than_fifty_documents(store, tiny_checkpoint):
    asked = []

    @component
    class Counting:
        @component.output_types(documents=list[Document])
        def run(self, query: str, filters: dict | None = None, top_k: int | None = None):
            asked.append(top_k)
            return {"documents": []}

    def hybrid(**options):
        return ROMHybridRetriever(keyword_retriever=Counting(), dense_retriever=Counting(), **options)

    for options, run, depth in (
        ({}, {}, 50),
        ({"top_k": 100}, {}, 100),
        ({}, {"top_k": 100}, 100),
        ({"top_k": 100}, {"top_k": 3}, 50),
        ({"candidates": 20}, {"top_k": 30}, 30),
        ({"candidates": 20}, {"candidates": 5}, 5),
    ):
        asked.clear()
        hybrid(**options).run("Who?", **run)
        assert asked == [depth, depth]


@pytest.mark.integration
async def test_keywords_of_one_store_with_the_vectors_of_qdrant(store, tiny_checkpoint):
    qdrant = pytest.importorskip("haystack_integrations.document_stores.qdrant")
    retrievers = pytest.importorskip("haystack_integrations.components.retrievers.qdrant")
    vectors = qdrant.QdrantDocumentStore(":memory:", embedding_dim=64, similarity="dot_product")
    ROMIndexer(vectors, model=str(tiny_checkpoint)).run(documents=DOCUMENTS)
    hybrid = ROMHybridRetriever(
        keyword_retriever=SQLiteFAISSBM25Retriever(store),
        dense_retriever=retrievers.QdrantEmbeddingRetriever(vectors),
        model=str(tiny_checkpoint),
    )
    expected = ROMHybridRetriever(store, model=str(tiny_checkpoint)).run(QUERY)["documents"]
    found = hybrid.run(QUERY)["documents"]
    assert ids(found) == ids(expected)
    assert scores(found) == pytest.approx(scores(expected), abs=1e-2)
    assert ids(hybrid.run(QUERY, filters=WILD)["documents"]) != ids(found)
