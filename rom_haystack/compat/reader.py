"""What 1.x's readers share: ROM's reader, and the way from its answers to 1.x's."""

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, cast

from haystack import ExtractedAnswer

from rom_haystack.compat.documents import Answer, Document, Span, as_documents, to_haystack
from rom_haystack.compat.models import checkpoint_of, passage_score_weight
from rom_haystack.components import ROMExtractiveReader
from rom_haystack.components._queries import check_top_k
from rom_haystack.inference.reading import sigmoid

#: More answers than there ever are: they are cut only after the no-answer has its place among them.
_ALL = 1_000_000
#: Probabilities of 0 and 1 have no log-odds.
_LEAST = 1e-12


class Reader:
    """Read with ROM's reader, and give its answers 1.x's shape."""

    reader: ROMExtractiveReader
    top_k: int
    top_k_per_candidate: int
    return_no_answers: bool
    use_confidence_scores: bool = True
    confidence_threshold: float | None = None
    no_ans_boost: float = 0.0
    _weighed: ROMExtractiveReader | None = None

    def predict(self, query: str, documents: Sequence[Document], top_k: int | None = None) -> dict[str, Any]:
        """Find answers to a query in documents.

        Args:
            query: The question.
            documents: Where to look.
            top_k: Most answers; None for the value given at construction.

        Returns:
            `query`; `answers`, best first; `no_ans_gap`: by how much the best answer's raw score (log-odds) exceeds
            that of "there is no answer here". A `no_ans_boost` greater by more than that puts the latter first. It is
            0.0 where there was nothing to read.

        Raises:
            ValueError: The query is blank, or `top_k` is negative.
        """
        (answers,), (gap,) = self._read([query], [documents], top_k)
        return {"query": query, "no_ans_gap": gap, "answers": answers}

    def predict_batch(
        self,
        queries: list[str],
        documents: Sequence[Document] | Sequence[Sequence[Document]],
        top_k: int | None = None,
        batch_size: int | None = None,
    ) -> dict[str, Any]:
        """Find answers to several queries, all read in one stream.

        Args:
            queries: The questions.
            documents: One list per query, or several lists for one query; or a single list, of which each query is
                asked of each document by itself.
            top_k: Most answers to one query in one list, or one document.
            batch_size: Most windows per forward pass; None for the value given at construction.

        Returns:
            `queries`; `answers`: a list per list of documents, or, of a single list, a list per document (for several
            queries, such lists in a list per query); `no_ans_gaps`: as in `predict`, one for each list of answers.

        Raises:
            ValueError: A query is blank, or there are not as many queries as lists.
        """
        groups: Sequence[Any] = documents
        single = not groups or isinstance(groups[0], Document | dict)
        if single:
            pairs = [(query, [document]) for query in queries for document in groups]
        else:
            asked = queries * len(groups) if len(queries) == 1 else queries
            if len(asked) != len(groups):
                raise ValueError(f"{len(queries)} queries for {len(groups)} lists of documents: give as many of both.")
            pairs = list(zip(asked, groups, strict=True))
        answers: list[Any]
        answers, gaps = self._read([query for query, _ in pairs], [group for _, group in pairs], top_k, batch_size)
        if single and len(queries) > 1:
            each = len(groups)
            answers = [answers[start : start + each] for start in range(0, len(answers), each)] if each else []
        return {"queries": queries, "answers": answers, "no_ans_gaps": gaps}

    def predict_on_texts(self, question: str, texts: Sequence[str], top_k: int | None = None) -> dict[str, Any]:
        """Do what `predict` does in plain texts."""
        return self.predict(question, [Document(content=text) for text in texts], top_k)

    def close(self) -> None:
        """Free the model, unless others share it; later use loads it again."""
        self.reader.close()

    def _read(
        self,
        queries: list[str],
        documents: Sequence[Any],
        top_k: int | None,
        batch_size: int | None = None,
    ) -> tuple[list[list[Answer]], list[float]]:
        """Read each query's documents; return, per query, the answers and the gap to the no-answer."""
        check_top_k(top_k)
        top_k = self.top_k if top_k is None else top_k
        ranked = [self._ranked(found) for found in self._found(queries, documents, batch_size)]
        answers = [[a for a in group if a.answer or self.return_no_answers][:top_k] for group, _ in ranked]
        if self.confidence_threshold is not None:
            answers = [[a for a in group if (a.score or 0.0) >= self.confidence_threshold] for group in answers]
        return answers, [gap for _, gap in ranked]

    def _found(
        self, queries: list[str], documents: Sequence[Any], batch_size: int | None = None
    ) -> list[list[ExtractedAnswer]]:
        if self._weighed is not self.reader:
            self.reader.passage_score_weight = passage_score_weight(checkpoint_of(self.reader))
            self._weighed = self.reader
        groups = [[to_haystack(document) for document in as_documents(group)] for group in documents]
        found: list[list[ExtractedAnswer]] = self.reader.run_batch(
            queries, groups, top_k=_ALL, no_answer=False, max_batch_size=batch_size
        )["answers"]
        return found

    def _ranked(self, found: list[ExtractedAnswer]) -> tuple[list[Answer], float]:
        """Give answers 1.x's shape, and the no-answer its place among them; tell its gap to the best, too."""
        raw = [self._raw(answer.score) for answer in found]
        no_answer = self.no_ans_boost - max(raw, default=0.0)
        answers = [self._answer(answer, value) for answer, value in zip(found, raw, strict=True)]
        sure = sigmoid(self._factor * no_answer) if raw else 1.0
        answers.insert(sum(value >= no_answer for value in raw), self._no_answer(no_answer, sure))
        return answers, max(raw) - no_answer if raw else 0.0

    def _answer(self, found: ExtractedAnswer, raw: float) -> Answer:
        document, place, inside = found.document, found.document_offset, found.context_offset
        return Answer(
            answer=found.data or "",
            score=found.score if self.use_confidence_scores else raw,
            context=found.context,
            offsets_in_document=None if place is None else [Span(place.start, place.end)],
            offsets_in_context=None if inside is None else [Span(inside.start, inside.end)],
            document_ids=None if document is None else [document.id],
            meta={} if document is None else deepcopy(document.meta),
        )

    def _no_answer(self, raw: float, probability: float) -> Answer:
        return Answer(
            answer="",
            score=probability if self.use_confidence_scores else raw,
            offsets_in_document=[Span(0, 0)],
            offsets_in_context=[Span(0, 0)],
            meta={},
        )

    def _raw(self, score: float) -> float:
        """Return the log-odds of which a score was made."""
        score = min(max(score, _LEAST), 1 - _LEAST)
        return math.log(score / (1 - score)) / self._factor

    @property
    def _factor(self) -> float:
        return cast("float", self.reader.calibration_factor)  # these readers are made with one
