"""From a question to answers, step by step, with times and ranks: what `ROMExtractiveQA` does, seen from inside."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from haystack import Document, ExtractedAnswer
from haystack.document_stores.errors import DocumentStoreError

from demo.core.engine import Engine
from demo.core.results import FoundPassage, Quote, Result, Settings, Stage
from rom_haystack.answers import answer_fields, quotes
from rom_haystack.components._inner import without_embedding
from rom_haystack.components._queries import check_query
from rom_haystack.document_stores import SQLiteFAISSBM25Retriever, SQLiteFAISSEmbeddingRetriever
from rom_haystack.hybrid import CANDIDATES, fuse_documents

if TYPE_CHECKING:
    from demo.core.shelf import Collection


#: How a question is asked where nothing else is said.
DEFAULTS = Settings()


class AskingError(ValueError):
    """A question can't be asked, or not so; the message is for the user."""


@dataclass
class _Found:
    """What the searches found, best first.

    Attributes:
        documents: The passages to read.
        keyword_ranks: By id, from 1, what the keyword search found.
        dense_ranks: The same of the dense search.
    """

    documents: Sequence[Document]
    keyword_ranks: Mapping[str, int]
    dense_ranks: Mapping[str, int]


class _Stopwatch:
    """Add up the time that stages take."""

    def __init__(self) -> None:
        self.seconds: dict[Stage, float] = {}

    @contextmanager
    def of(self, stage: Stage) -> Iterator[None]:
        """Count the time of a block as the stage's."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


class Asker:
    """Ask a collection; safe to use from several threads.

    Args:
        collection: What to ask; it must be indexed.
        engine: The models.
    """

    def __init__(self, collection: "Collection", engine: Engine) -> None:
        self.collection = collection
        self.engine = engine

    def ask(self, question: str, settings: Settings = DEFAULTS) -> Iterator[Result]:
        """Answer a question, and tell what is known as soon as it is.

        Args:
            question: The question.
            settings: How to answer.

        Returns:
            Once the passages are found, after each group of passages that was read, and in the end: at least two
            results, of which the last is `finished`.

        Raises:
            AskingError: The question is blank, or it can't be asked so; the message says why.
        """
        with _explained():
            check_query(question)
            watch = _Stopwatch()
            found = self._search(question, settings, watch)
            passages = _passages(found)
            known = _before_reading(question, settings, passages, watch, self.engine.name)
            yield known
            reader = self.engine.reader(settings.reader, settings.reading)
            with watch.of("read"):
                turns = reader.run_in_turn(question, list(found.documents), top_k=settings.top_k + 1)
                turn = next(turns, None)
            while turn is not None:
                known = _with_answers(known, turn["answers"], turn["read"], dict(watch.seconds))
                yield known
                with watch.of("read"):
                    turn = next(turns, None)
            self.engine.prepare()  # by now the first answer is there
            yield replace(known, finished=True)

    def answer(self, question: str, settings: Settings = DEFAULTS) -> Result:
        """Answer a question; as `ask`, but only its last result."""
        *_, last = self.ask(question, settings)
        return last

    def _search(self, question: str, settings: Settings, watch: _Stopwatch) -> _Found:
        store = self.collection.library(settings.model).store
        depth = max(CANDIDATES, settings.passages) if settings.retrieval == "hybrid" else settings.passages
        keyword: list[Document] = []
        dense: list[Document] = []
        if settings.retrieval != "dense":
            with watch.of("keyword search"):
                keyword = SQLiteFAISSBM25Retriever(store).run(question, top_k=depth)["documents"]
        if settings.retrieval != "keyword":
            with watch.of("embed"):
                embedding = self.engine.embedder(settings.model).run(question)["embedding"]
            with watch.of("dense search"):
                dense = SQLiteFAISSEmbeddingRetriever(store).run(embedding, top_k=depth)["documents"]
        documents = keyword or dense
        if settings.retrieval == "hybrid":
            with watch.of("fuse"):
                documents = fuse_documents(keyword, dense, "z_score", None)
        return _Found(documents[: settings.passages], _ranks(keyword), _ranks(dense))


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what is wrong with a question or its settings into an error for the user."""
    try:
        yield
    except (ValueError, ImportError, DocumentStoreError) as error:
        # Of a KeyError, which MissingHeadError is, too, str would be in quotation marks.
        raise AskingError(str(error.args[0] if error.args else error)) from error


def _ranks(documents: Iterable[Document]) -> dict[str, int]:
    return {document.id: rank for rank, document in enumerate(documents, start=1)}


def _passages(found: _Found) -> tuple[FoundPassage, ...]:
    return tuple(
        FoundPassage(
            without_embedding(document),
            document.score or 0.0,
            found.keyword_ranks.get(document.id),
            found.dense_ranks.get(document.id),
        )
        for document in found.documents
    )


def _before_reading(
    question: str, settings: Settings, passages: tuple[FoundPassage, ...], watch: _Stopwatch, engine: str
) -> Result:
    return Result(
        question=question,
        settings=settings,
        quotes=(),
        doubtful=(),
        no_answer_score=1.0,
        passages=passages,
        read=0,
        finished=False,
        seconds=dict(watch.seconds),
        engine=engine,
    )


def _with_answers(result: Result, answers: list[ExtractedAnswer], read: int, seconds: Mapping[Stage, float]) -> Result:
    """Put what the reader found so far into a result."""
    passages = {passage.document.id: passage for passage in result.passages}
    most = result.settings.top_k
    sure = quotes(answers, most)
    unsure = [] if sure else [answer for answer in answers if answer.data is not None][:most]
    best = max((answer.score for answer in answers if answer.data is not None), default=0.0)
    return replace(
        result,
        quotes=tuple(_quote(answer, passages) for answer in sure),
        doubtful=tuple(_quote(answer, passages) for answer in unsure),
        no_answer_score=1 - best,
        read=read,
        seconds=seconds,
    )


def _quote(answer: ExtractedAnswer, passages: Mapping[str, FoundPassage]) -> Quote:
    fields = answer_fields(answer)
    place = fields["document"]
    return Quote(
        text=fields["answer"],
        score=fields["score"],
        start=fields["start"],
        end=fields["end"],
        sentence=fields["sentence"],
        sentence_start=fields["sentence_start"],
        sentence_end=fields["sentence_end"],
        page=place["page"],
        passage=passages[place["id"]],
    )
