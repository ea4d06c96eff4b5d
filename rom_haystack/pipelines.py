"""Ready super-components: files to passages, files to a document store, a question to quoted answers."""

from typing import TYPE_CHECKING, Any, Literal, get_args

from haystack import Document, Pipeline, component, logging, super_component
from haystack.components.joiners import DocumentJoiner
from haystack.components.retrievers.types import EmbeddingRetriever, TextRetriever
from haystack.components.routers import FileTypeRouter
from haystack.core.component import Component
from haystack.document_stores.types import DocumentStore
from haystack.utils import ComponentDevice

from rom_haystack.components import ROMDocumentEmbedder, ROMExtractiveReader, ROMRetriever, ROMTextEmbedder
from rom_haystack.components._encoder_user import BackendName
from rom_haystack.components._inner import check_inputs, retrieve_batch, searches_by_embedding, without_embedding
from rom_haystack.components._queries import check_queries, check_top_k
from rom_haystack.components._writer import EmbeddedDocumentWriter
from rom_haystack.components.extractive_reader import AdaptiveReading
from rom_haystack.files import DOCX, HTML, MARKDOWN, TEXT, SourceReader
from rom_haystack.hybrid import ROMHybridRetriever
from rom_haystack.modeling import DEFAULT_CHECKPOINT
from rom_haystack.passages import PassageSplitter
from rom_haystack.searches import retrievers_of

if TYPE_CHECKING:
    from pathlib import Path

    from haystack.dataclasses import ByteStream

logger = logging.getLogger(__name__)

Retrieval = Literal["hybrid", "dense", "keyword"]
_ONE_OF_TWO = (
    "Give either document_store (a SQLiteFAISSDocumentStore or an InMemoryDocumentStore) or retriever, one of the two."
)
_OTHER_STORES = (
    "give retriever, such as its …EmbeddingRetriever(document_store) or a ROMHybridRetriever, instead of the store."
)


@component
class EmbeddingRemover:
    """Copy documents without their embeddings, which some retrievers leave in and pipelines copy at each step."""

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """Copy documents without their embeddings.

        Args:
            documents: Any documents.

        Returns:
            `documents`, in the order given.
        """
        return {"documents": [without_embedding(document) for document in documents]}


@super_component
class ROMFileConverter:
    """Convert files (txt, md, html, pdf, docx) to passages: read, convert, split.

    Passages have the meta fields `title` (first Markdown heading, HTML title, else the file's name), `file_path`,
    `mime_type`, `source_id`, `split_id`, `split_idx_start` and, where the file has pages, `page_number`.

    Inputs: `sources` (paths or byte streams) with `meta` (one dictionary for all, or a list of one each), and
    `documents`, which are split if they are too long and else stay as they are.
    Outputs: `documents` (the passages), and `skipped`: by name, the reason why a source could not be read. The rest
    goes on without it.

    ```python
    from rom_haystack.pipelines import ROMFileConverter

    passages = ROMFileConverter().run(sources=["README.md"])["documents"]
    ```

    Args:
        split_length: Most words per passage.
        split_overlap: Words that neighbouring passages share.

    Raises:
        ValueError: A length is out of range.
    """

    def __init__(self, split_length: int = 120, split_overlap: int = 0) -> None:
        self.split_length = split_length
        self.split_overlap = split_overlap
        converters = file_converters()
        pipeline = Pipeline()
        pipeline.add_component("reader", SourceReader())
        pipeline.add_component("router", FileTypeRouter(mime_types=list(converters)))
        pipeline.add_component("joiner", DocumentJoiner(sort_by_score=False))
        pipeline.add_component("splitter", PassageSplitter(split_length=split_length, split_overlap=split_overlap))
        pipeline.connect("reader.streams", "router.sources")
        for mime_type, (name, converter) in converters.items():
            pipeline.add_component(name, converter)
            pipeline.connect(f"router.{mime_type}", f"{name}.sources")
            pipeline.connect(f"{name}.documents", "joiner.documents")
        pipeline.connect("reader.documents", "joiner.documents")
        pipeline.connect("joiner.documents", "splitter.documents")
        pipeline.connect("reader.streams", "splitter.streams")
        pipeline.connect("reader.skipped", "splitter.skipped")
        self.pipeline = pipeline
        self.input_mapping = {
            "sources": ["reader.sources"],
            "meta": ["reader.meta"],
            "documents": ["reader.documents"],
        }
        self.output_mapping = {"splitter.documents": "documents", "splitter.skipped": "skipped"}

    if TYPE_CHECKING:

        def run(  # noqa: D102 (the decorator makes the real one)
            self,
            *,
            sources: list[str | Path | ByteStream] | None = None,
            meta: dict[str, Any] | list[dict[str, Any]] | None = None,
            documents: list[Document] | None = None,
        ) -> dict[str, Any]: ...


@super_component
class ROMIndexer:
    """Index files and documents: read, convert, split, embed, write.

    Passages that the store has already are overwritten, so indexing the same twice changes nothing.

    ```python
    from haystack.document_stores.in_memory import InMemoryDocumentStore
    from rom_haystack import ROMIndexer

    store = InMemoryDocumentStore()
    written = ROMIndexer(store).run(sources=["README.md"])["documents_written"]
    ```

    Inputs and `skipped` are those of `ROMFileConverter`; `documents_written` counts passages.

    Args:
        document_store: Where the passages go. The first run warns if its metric does not fit the checkpoint, see
            `check_store_similarity`.
        model: Bundled name, folder or hub id of a ROM checkpoint.
        device: Where the model runs; None picks the machine's default.
        split_length: Most words per passage.
        split_overlap: Words that neighbouring passages share; see `PassageSplitter` for why the default is none.
        batch_size: Most passages per forward pass.
        max_seq_length: Tokens per passage, title counted; what is longer is cut for embedding (never for reading).
            None for 256.
        progress_bar: Show a progress bar while embedding.
        backend: Inference engine, `auto` for the fastest faithful one; see `ROMDocumentEmbedder`.

    Raises:
        ValueError: A length is out of range.
    """

    def __init__(
        self,
        document_store: DocumentStore,
        model: str = DEFAULT_CHECKPOINT,
        device: ComponentDevice | None = None,
        split_length: int = 120,
        split_overlap: int = 0,
        batch_size: int = 32,
        max_seq_length: int | None = None,
        progress_bar: bool = False,
        backend: BackendName = "auto",
    ) -> None:
        self.document_store = document_store
        self.model = model
        self.device = device
        self.split_length = split_length
        self.split_overlap = split_overlap
        self.batch_size = batch_size
        self.max_seq_length = max_seq_length
        self.progress_bar = progress_bar
        self.backend = backend
        pipeline = Pipeline()
        pipeline.add_component("converter", ROMFileConverter(split_length=split_length, split_overlap=split_overlap))
        embedder = ROMDocumentEmbedder(
            model=model,
            device=device,
            batch_size=batch_size,
            max_seq_length=max_seq_length,
            progress_bar=progress_bar,
            meta_fields_to_embed=["title"],
            backend=backend,
        )
        pipeline.add_component("embedder", embedder)
        pipeline.add_component("writer", EmbeddedDocumentWriter(document_store, embedder))
        pipeline.connect("converter.documents", "embedder.documents")
        pipeline.connect("embedder.documents", "writer.documents")
        self.pipeline = pipeline
        self.input_mapping = {name: [f"converter.{name}"] for name in ("sources", "meta", "documents")}
        self.output_mapping = {"writer.documents_written": "documents_written", "converter.skipped": "skipped"}

    if TYPE_CHECKING:

        def run(  # noqa: D102 (the decorator makes the real one)
            self,
            *,
            sources: list[str | Path | ByteStream] | None = None,
            meta: dict[str, Any] | list[dict[str, Any]] | None = None,
            documents: list[Document] | None = None,
        ) -> dict[str, Any]: ...


@super_component
class ROMExtractiveQA:
    """Answer questions with quotes from the documents of a store: retrieve, then read, with one shared model.

    Takes the place of Haystack 1.x's `ExtractiveQAPipeline`.

    ```python
    from haystack.document_stores.in_memory import InMemoryDocumentStore
    from rom_haystack import ROMExtractiveQA, ROMIndexer

    store = InMemoryDocumentStore()
    ROMIndexer(store).run(sources=["README.md"])
    answers = ROMExtractiveQA(store).run(query="What is ROM?")["answers"]
    ```

    Inputs: `query`; `filters` (Haystack filters on the documents), `top_k` (most answers) and `top_k_retriever` (most
    documents to read), for one run. Outputs: `answers`, best first, as from `ROMExtractiveReader`, and `documents`,
    those that were retrieved, best first. `run_batch` takes several queries at once.

    Args:
        document_store: A `SQLiteFAISSDocumentStore` or an `InMemoryDocumentStore`. For others give `retriever`.
        retriever: An embedding retriever of any store, such as `QdrantEmbeddingRetriever(document_store)`, or any other
            retriever, such as a `ROMHybridRetriever` over it, whose run takes `query`, `filters` and `top_k`. One that
            embeds queries itself has a `model` of its own: give both the same.
        model: Bundled name, folder or hub id of the ROM checkpoint that embedded the documents.
        device: Where the model runs; None picks the machine's default.
        top_k_retriever: Most documents to read; None for 10. A `retriever` brings its own `top_k` instead.
        top_k_reader: Most answers, the no-answer candidate counted.
        no_answer: Let "there is no answer here" (`data` is None) compete with the answers.
        score_threshold: Drop answers with a lower score.
        passage_score_weight: Weight of a passage's relevance against the span's own score, from 0 to 1.
        adaptive_reading: `off` reads all documents that were retrieved; `cautious` and `fast` stop once no further one
            can plausibly change the best answer; see `ROMExtractiveReader`.
        backend: Inference engine, `auto` for the fastest faithful one; see `ROMExtractiveReader`.
        retrieval: How to search the `document_store`: `hybrid` (by keywords and by meaning, see `ROMHybridRetriever`),
            `dense` (by meaning) or `keyword` (BM25). None for `hybrid`; a `retriever` settles it otherwise. For fitted
            weights, give `retriever=ROMHybridRetriever(document_store, weights=…)`.

    Raises:
        ValueError: Not exactly one of `document_store` and `retriever` is given, the store needs a `retriever`, the
            retriever lacks an input or needs others, or a value is out of range.
    """

    def __init__(
        self,
        document_store: DocumentStore | None = None,
        *,
        retriever: EmbeddingRetriever | TextRetriever | None = None,
        model: str = DEFAULT_CHECKPOINT,
        device: ComponentDevice | None = None,
        top_k_retriever: int | None = None,
        top_k_reader: int = 5,
        no_answer: bool = True,
        score_threshold: float | None = None,
        passage_score_weight: float = 0.5,
        adaptive_reading: AdaptiveReading = "off",
        backend: BackendName = "auto",
        retrieval: Retrieval | None = None,
    ) -> None:
        self.document_store = document_store
        self.retriever = retriever
        self.model = model
        self.device = device
        self.top_k_retriever = top_k_retriever
        self.top_k_reader = top_k_reader
        self.no_answer = no_answer
        self.score_threshold = score_threshold
        self.passage_score_weight = passage_score_weight
        self.adaptive_reading = adaptive_reading
        self.backend = backend
        # What holds is saved, not None, so that a pipeline file keeps its meaning.
        self.retrieval: Retrieval | None = "hybrid" if retrieval is None and retriever is None else retrieval
        pipeline = Pipeline()
        embedder = ROMTextEmbedder(model=model, device=device, progress_bar=False, backend=backend)
        if retriever is None:
            found_by: Any = _retriever_of(document_store, self.retrieval, top_k_retriever, embedder)
        else:
            found_by = _as_given(retriever, document_store, retrieval, top_k_retriever, embedder)
        pipeline.add_component("retriever", found_by)
        pipeline.add_component("remover", EmbeddingRemover())
        pipeline.add_component(
            "reader",
            ROMExtractiveReader(
                model=model,
                device=device,
                top_k=top_k_reader,
                no_answer=no_answer,
                score_threshold=score_threshold,
                passage_score_weight=passage_score_weight,
                adaptive_reading=adaptive_reading,
                backend=backend,
            ),
        )
        pipeline.connect("retriever.documents", "remover.documents")
        pipeline.connect("remover.documents", "reader.documents")
        self.pipeline = pipeline
        self.input_mapping = {
            "query": ["retriever.query", "reader.query"],
            "filters": ["retriever.filters"],
            "top_k": ["reader.top_k"],
            "top_k_retriever": ["retriever.top_k"],
        }
        self.output_mapping = {"reader.answers": "answers", "remover.documents": "documents"}

    def run_batch(
        self,
        queries: list[str],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        top_k_retriever: int | None = None,
    ) -> dict[str, Any]:
        """Answer several queries: their embeddings in one stream, then all their documents in one stream.

        Args:
            queries: The questions.
            filters: Haystack filters on the documents, for every query.
            top_k: Most answers per query; None for `top_k_reader`.
            top_k_retriever: Most documents to read per query; None for the value given at construction.

        Returns:
            `answers` and `documents`: one list per query, each as `run` gives it.

        Raises:
            TypeError: `queries` is a single text.
            ValueError: A query is blank, or a number is negative.
        """
        check_queries(queries)
        check_top_k(top_k_retriever)
        reader: Any = self.pipeline.get_component("reader")
        found = retrieve_batch(self.pipeline.get_component("retriever"), queries, filters, top_k_retriever)
        documents = [[without_embedding(document) for document in group] for group in found]
        return {**reader.run_batch(queries, documents, top_k=top_k), "documents": documents}

    if TYPE_CHECKING:

        def run(  # noqa: D102 (the decorator makes the real one)
            self,
            *,
            query: str,
            filters: dict[str, Any] | None = None,
            top_k: int | None = None,
            top_k_retriever: int | None = None,
        ) -> dict[str, Any]: ...


def file_converters() -> dict[str, tuple[str, Component]]:
    """Make Haystack's converters, named, by the MIME type they take. PDF comes as text; libraries are imported here."""
    from haystack.components.converters import (  # noqa: PLC0415 (slow to import, and answering needs none of them)
        DOCXToDocument,
        HTMLToDocument,
        MarkdownToDocument,
        TextFileToDocument,
    )

    return {
        TEXT: ("text", TextFileToDocument(store_full_path=True)),
        MARKDOWN: ("markdown", MarkdownToDocument(store_full_path=True, progress_bar=False)),
        HTML: ("html", HTMLToDocument(store_full_path=True, extraction_kwargs={"favor_recall": True})),
        DOCX: ("docx", DOCXToDocument(store_full_path=True)),
    }


def _retriever_of(
    store: DocumentStore | None, retrieval: Retrieval | None, top_k: int | None, embedder: ROMTextEmbedder
) -> Any:
    """Make what searches a store for a text query."""
    if store is None:
        raise ValueError(_ONE_OF_TWO)
    if retrieval not in get_args(Retrieval):
        raise ValueError(f"Unknown retrieval '{retrieval}'; choose one of {', '.join(get_args(Retrieval))}.")
    top_k = 10 if top_k is None else top_k
    if top_k < 1:
        raise ValueError(f"top_k_retriever is {top_k}; it must be at least 1.")
    keyword, by_embedding = retrievers_of(store, top_k, _OTHER_STORES)
    if retrieval == "keyword":
        return keyword
    dense = ROMRetriever(retriever=by_embedding, text_embedder=embedder)
    if retrieval == "dense":
        return dense
    return ROMHybridRetriever(keyword_retriever=keyword, dense_retriever=dense, top_k=top_k)


def _as_given(
    retriever: EmbeddingRetriever | TextRetriever,
    store: DocumentStore | None,
    retrieval: Retrieval | None,
    top_k: int | None,
    embedder: ROMTextEmbedder,
) -> Any:
    """Check a retriever that was given, and let it take a text query."""
    if store is not None:
        raise ValueError(_ONE_OF_TWO)
    for name, value, setting in (("top_k_retriever", top_k, "top_k"), ("retrieval", retrieval, "how it searches")):
        if value is not None:
            raise ValueError(f"{name} is {value}, but a retriever is given: set {setting} on the retriever itself.")
    check_inputs(retriever, "retriever", ("query_embedding", "query"))
    if searches_by_embedding(retriever):
        return ROMRetriever(retriever=retriever, text_embedder=embedder)
    other = _embedding_model(retriever)
    # Two models that were both named are meant; beside a default one, the other was likely forgotten.
    if other not in (None, embedder.model) and DEFAULT_CHECKPOINT in (other, embedder.model):
        logger.warning(
            "ROMExtractiveQA reads with '{model}', but its retriever embeds queries with '{other}'. Give both the same "
            "model, unless the documents were embedded with '{other}' and two models are meant.",
            model=embedder.model,
            other=other,
        )
    return retriever


def _embedding_model(retriever: Any) -> str | None:
    """Name the ROM checkpoint by which a retriever embeds queries; None where it has none."""
    if isinstance(retriever, ROMHybridRetriever):
        dense = retriever.dense_retriever
        return retriever.model if dense is None or searches_by_embedding(dense) else _embedding_model(dense)
    text_embedder = getattr(retriever, "text_embedder", None)
    return text_embedder.model if isinstance(text_embedder, ROMTextEmbedder) else None
