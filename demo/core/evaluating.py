"""Asking many questions whose answers are known, and comparing what comes of it."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from haystack import Document, ExtractedAnswer

from demo.core.collection import Collection
from demo.core.engine import Engine
from demo.core.jobs import Report
from demo.core.question_files import QuestionSet
from demo.core.results import Settings
from rom_haystack.components import ROMRetriever
from rom_haystack.components._inner import retrieve_batch
from rom_haystack.document_stores import SQLiteFAISSBM25Retriever, SQLiteFAISSEmbeddingRetriever
from rom_haystack.hybrid import ROMHybridRetriever
from rom_haystack.metrics import answer_rank, answer_tokens, exact_match, f1
from rom_haystack.questions import Question

#: Where answers are looked for: in a collection, or in each question's own paragraph.
Place = Literal["documents", "paragraphs"]
#: How many of the passages found are searched for a gold answer.
DEPTH = 20

# Questions answered in one stream, after which progress is reported.
_AT_ONCE = 8
# Evaluations take all there is of the machine, so one runs at a time.
_TURN = threading.Lock()


@dataclass(frozen=True)
class Outcome:
    """What came of a question.

    Attributes:
        question: The question, with its gold answers.
        quote: The best quote; empty where there is no passage.
        score: Probability that the quote is right.
        answered: Whether the quote is the answer; otherwise "no answer" is likelier.
        exact_match: Whether the quote is a gold answer, by SQuAD's rules.
        f1: Words that the quote shares with the nearest gold answer, by SQuAD's rules.
        rank: From 1, the first passage found that holds a gold answer; None where none does, or none were looked for.
        title: Title of the quote's document.
        file_path: Its file.
        page: The page that the quote stands on; None where there are no pages.
        sentence: The sentence around the quote.
        span: Where the quote stands in it: first character, and the one after the last.
    """

    question: Question
    quote: str
    score: float
    answered: bool
    exact_match: float
    f1: float
    rank: int | None
    title: str
    file_path: str
    page: int | None
    sentence: str
    span: tuple[int, int]

    @property
    def answerable(self) -> bool:
        """Whether the question has an answer."""
        return bool(self.question.answers)

    @property
    def prediction(self) -> str:
        """The answer that is given; empty for "no answer"."""
        return self.quote if self.answered else ""

    @property
    def final_exact_match(self) -> float:
        """Exact match of `prediction`: "no answer" is right where there is none."""
        return self.exact_match if self.answered else float(not self.answerable)

    @property
    def final_f1(self) -> float:
        """F1 of `prediction`."""
        return self.f1 if self.answered else float(not self.answerable)


@dataclass(frozen=True)
class Run:
    """Questions that were asked.

    Attributes:
        questions: Name of their file.
        in_file: How many it has.
        place: Where answers were looked for.
        collection_id: The collection that was asked; None for the questions' own paragraphs.
        documents: Its name; empty where there is none.
        settings: How they were asked.
        engine: What the model ran on.
        seconds: How long it took.
        outcomes: One per question that was asked.
    """

    questions: str
    in_file: int
    place: Place
    collection_id: str | None
    documents: str
    settings: Settings
    engine: str
    seconds: float
    outcomes: tuple[Outcome, ...]


def run(
    asked: QuestionSet,
    count: int,
    place: Place,
    collection: Collection,
    engine: Engine,
    settings: Settings,
    report: Report,
) -> Run:
    """Ask questions; waits for its turn.

    Args:
        asked: The questions.
        count: How many of them to ask.
        place: Where to look for answers.
        collection: The documents, which must be indexed; for paragraphs they are not looked at.
        engine: The models.
        settings: How to ask.
        report: Told of every few questions; raises to end the work.
    """
    questions = asked.draw(count)
    _wait_for_turn(len(questions), report)
    try:
        start = time.perf_counter()
        reader = engine.reader(settings.reader, settings.reading)
        search = _retriever(collection, engine, settings) if place == "documents" else None
        outcomes: list[Outcome] = []
        for first in range(0, len(questions), _AT_ONCE):
            report(first, len(questions), "")
            group = questions[first : first + _AT_ONCE]
            queries = [question.query for question in group]
            found = [[Document(content=question.context)] for question in group]
            if search is not None:
                found = retrieve_batch(search, queries, None, None)
            read = [documents[: settings.passages] for documents in found]
            answers = reader.run_batch(queries, read, top_k=2, no_answer=True)["answers"]
            ranks = [_rank(one, documents) if search else None for one, documents in zip(group, found, strict=True)]
            outcomes += map(_outcome, group, answers, ranks)
        report(len(outcomes), len(questions), "")
    finally:
        _TURN.release()
    return Run(
        questions=asked.name,
        in_file=len(asked.questions),
        place=place,
        collection_id=collection.id if search else None,
        documents=collection.name if search else "",
        settings=settings,
        engine=engine.name,
        seconds=time.perf_counter() - start,
        outcomes=tuple(outcomes),
    )


def _wait_for_turn(count: int, report: Report) -> None:
    while not _TURN.acquire(timeout=0.2):
        report(0, count, "waiting for another evaluation to end")


def _retriever(collection: Collection, engine: Engine, settings: Settings) -> Any:
    """Make what finds passages, of which there are enough to look for gold answers."""
    store = collection.library(settings.model).store
    depth = max(DEPTH, settings.passages)
    keyword = SQLiteFAISSBM25Retriever(store, top_k=depth)
    if settings.retrieval == "keyword":
        return keyword
    by_embedding = SQLiteFAISSEmbeddingRetriever(store, top_k=depth)
    dense = ROMRetriever(retriever=by_embedding, text_embedder=engine.embedder(settings.model))
    if settings.retrieval == "dense":
        return dense
    return ROMHybridRetriever(keyword_retriever=keyword, dense_retriever=dense, top_k=depth)


def _rank(question: Question, documents: Sequence[Document]) -> int | None:
    tokens = (answer_tokens(document.content or "") for document in documents[:DEPTH])
    rank = answer_rank(tokens, question.answers)
    return None if rank is None else rank + 1


def _outcome(question: Question, answers: Sequence[ExtractedAnswer], rank: int | None) -> Outcome:
    best = next((answer for answer in answers if answer.data is not None), None)
    quote = best.data or "" if best else ""
    meta = best.document.meta if best and best.document else {}
    return Outcome(
        question=question,
        quote=quote,
        score=best.score if best else 0.0,
        answered=best is not None and answers[0] is best,
        exact_match=exact_match(quote, question.answers),
        f1=f1(quote, question.answers),
        rank=rank,
        title=str(meta.get("title") or ""),
        file_path=str(meta.get("file_path") or ""),
        page=best.meta.get("answer_page_number") if best else None,
        sentence=best.context or "" if best else "",
        span=(best.context_offset.start, best.context_offset.end) if best and best.context_offset else (0, 0),
    )
