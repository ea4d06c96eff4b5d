"""Share of questions of which a retrieved document holds an answer."""

import math
from statistics import fmean
from typing import Any, Self

from haystack import Document, component, default_from_dict, default_to_dict, logging

from rom_haystack.components.evaluators._answers import GroundTruth, check_lists, gold_answers
from rom_haystack.metrics import answer_rank, answer_tokens

logger = logging.getLogger(__name__)


@component
class AnswerRecallEvaluator:
    """Look for gold answers in retrieved documents: DPR's top-k retrieval accuracy, or answer recall@k.

    It needs no judged documents: a document counts if its `content` holds any gold answer as whole tokens, case aside.

    ```python
    from haystack import Document
    from rom_haystack import AnswerRecallEvaluator

    documents = [Document(content="The Nile flows north."), Document(content="Radium was found in 1898.")]
    result = AnswerRecallEvaluator(top_k=[1, 2]).run(
        ground_truth_answers=["Nile", ["1898"]], retrieved_documents=[documents, documents]
    )
    print({name: metric["score"] for name, metric in result["metrics"].items()})  # {'recall@1': 0.5, 'recall@2': 1.0}
    ```

    Args:
        top_k: How many documents of a question are searched, or several such numbers; None for all.

    Raises:
        ValueError: There is no number, or one below 1.
    """

    def __init__(self, top_k: int | list[int] | None = None) -> None:
        self.top_k = top_k
        cutoffs = top_k if isinstance(top_k, list) else [1 if top_k is None else top_k]
        if not cutoffs or not all(isinstance(k, int) and not isinstance(k, bool) and k >= 1 for k in cutoffs):
            raise ValueError(f"top_k is {top_k!r}; it must be at least 1, a list of such numbers, or None.")

    def to_dict(self) -> dict[str, Any]:
        """Serialise the component."""
        return default_to_dict(self, top_k=self.top_k)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Build the component from `to_dict`'s output."""
        return default_from_dict(cls, data)

    @component.output_types(score=float, individual_scores=list[float], metrics=dict[str, dict[str, Any]])
    def run(self, ground_truth_answers: GroundTruth, retrieved_documents: list[list[Document]]) -> dict[str, Any]:
        """Search each question's documents for its answers.

        Args:
            ground_truth_answers: By question, the gold answer or a list of alternatives. Questions without an answer
                score 0, and are warned of.
            retrieved_documents: By question, its documents, best first. Those without text hold no answer.

        Returns:
            `individual_scores`, 1.0 or 0.0 per question, and `score`, their mean, with the highest `top_k`. `metrics`
            has these two for every `top_k`, by name (`recall@5`; `recall` for all documents), as
            `EvaluationRunResult` takes them.

        Raises:
            TypeError: An input or an item is of another type; the message names it.
            ValueError: There are no questions, or not as many lists of documents; the message names the numbers.
        """
        check_lists(ground_truth_answers=ground_truth_answers, retrieved_documents=retrieved_documents)
        golds = gold_answers(ground_truth_answers)
        cutoffs = sorted(set(self.top_k)) if isinstance(self.top_k, list) else [self.top_k]
        for number, documents in enumerate(retrieved_documents):
            if not isinstance(documents, list | tuple) or not all(isinstance(d, Document) for d in documents):
                raise TypeError(f"retrieved_documents[{number}] is no list of Documents.")
        self._warn(golds, retrieved_documents, cutoffs[-1])
        ranks = []
        for gold, documents in zip(golds, retrieved_documents, strict=True):
            rank = answer_rank((answer_tokens(d.content or "") for d in documents[: cutoffs[-1]]), gold)
            ranks.append(math.inf if rank is None else rank)
        metrics = {}
        for k in cutoffs:
            scores = [float(rank < (math.inf if k is None else k)) for rank in ranks]
            metrics["recall" if k is None else f"recall@{k}"] = {"score": fmean(scores), "individual_scores": scores}
        return {**list(metrics.values())[-1], "metrics": metrics}

    def _warn(self, golds: list[list[str]], retrieved: list[list[Document]], top_k: int | None) -> None:
        unanswerable = sum(not gold for gold in golds)
        if unanswerable:
            logger.warning(
                "{count} of {total} questions have no answer, so no document can hold it: they score 0. Leave them out "
                "to measure retrieval.",
                count=unanswerable,
                total=len(golds),
            )
        most = max(map(len, retrieved))
        if top_k is not None and most < top_k:
            logger.warning(
                "recall@{top_k} is measured on at most {most} documents per question: no question has more.",
                top_k=top_k,
                most=most,
            )
