"""Hard negatives: passages that look as if they answered a question, and do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rom_haystack.inference import ROMEncoder
from rom_haystack.metrics import answer_tokens, has_answer
from training.data.dataset import DataSet, Question
from training.data.numbered import in_order
from training.errors import DataError
from training.rankers import BM25Ranker, DenseRanker, best_rows

#: What ranks candidates.
Source = Literal["both", "model", "bm25"]
#: For some questions, the row numbers of passages that look as if they answered them, the likeliest first.
Candidates = Callable[[Sequence[Question]], Sequence[Iterable[int]]]

_QUESTIONS_AT_ONCE = 128
#: How much further down a ranking than needed is looked, as the best passages are those with answers.
_MORE = 50


def with_keyword_negatives(data: DataSet, count: int) -> DataSet:
    """Give questions without hard negatives the passages of the set that BM25 ranks best for them.

    Passages that answer the question, or hold one of its answers as whole tokens, case aside, are passed over.

    Args:
        data: The set.
        count: Hard negatives per question; a question gets fewer where its best passages hold answers.

    Raises:
        DataError: There is no word in the passages.
    """
    wanting = [i for i, q in enumerate(data.questions) if not q.hard_negative_ids and not q.unanswerable]
    if count < 1 or not wanting:
        return data
    ranker = _keyword_ranker(data, "--hard-negatives 0 does without")
    depth = min(count + _MORE, len(data.passages))
    return _with_negatives(
        data, wanting, count, lambda some: ranker.rank([q.text for q in some], depth).tolist(), "lack the answer"
    )


def with_mined_negatives(
    data: DataSet, encoder: ROMEncoder, count: int, *, source: Source = "both", most: float = 0.95
) -> DataSet:
    """Give every question the passages of the set that a model, or BM25, takes for answers most, and wrongly.

    Training on what the current model confuses is ANCE's (Xiong et al., 2021, section 4.1), BM25's best DPR's
    (Karpukhin et al., 2020, section 3.2). Such passages often do answer the question, and nobody has marked them. So
    these are passed over: passages that answer the question, or hold one of its answers as whole tokens, case aside;
    and those that the model scores nearly as high as the gold passage (NV-Retriever: de Souza P. Moreira et al., 2024,
    section 3, "TopK-PercPos"), whoever ranked them.

    Args:
        data: The set. Hard negatives that it names already are replaced; titles are not searched.
        encoder: The model.
        count: Hard negatives per question; a question gets fewer where too few candidates are left.
        source: Who ranks candidates; of `both` in turn.
        most: Share of the gold passage's score that a hard negative's stays below, from 0 to 1. Similarities below 0
            keep the same distance: of -0.4 and 0.95, below -0.42.

    Raises:
        DataError: There is no word in the passages, or no question that they answer.
        MissingHeadError: The model only reads.
    """
    asked = [i for i, question in enumerate(data.questions) if not question.unanswerable]
    if not asked:
        raise DataError("No question there is answered by a passage, so there is nothing to mine hard negatives for.")
    candidates = _Mining(data, encoder, min(count + _MORE, len(data.passages)), source, most)
    mined = _with_negatives(data, asked, count, candidates, "lack the answer and score low enough")
    replaced = sum(len(data.questions[i].hard_negative_ids) for i in asked)
    mined.left_out["hard negative that the source names"] += replaced
    return mined


class _Mining:
    """Candidates of `with_mined_negatives`."""

    def __init__(self, data: DataSet, encoder: ROMEncoder, depth: int, source: Source, most: float) -> None:
        self._rows = {passage_id: row for row, passage_id in enumerate(data.passages)}
        self._depth, self._most = depth, most
        self._keywords = None if source == "model" else _keyword_ranker(data, "--by model does without BM25")
        self._dense = DenseRanker(encoder, [passage.text for passage in in_order(data.passages)])
        self._by_model = source != "bm25"

    def __call__(self, questions: Sequence[Question]) -> list[list[int]]:
        texts = [question.text for question in questions]
        scores = self._dense.scores(texts)
        rankings = [best_rows(scores, self._depth)] if self._by_model else []
        if self._keywords is not None:
            rankings.append(self._keywords.rank(texts, self._depth))
        in_turn = np.stack(rankings, axis=-1).reshape(len(questions), -1)
        gold = scores[np.arange(len(questions)), [self._rows[question.passage_id] for question in questions]]
        limits = gold - (1 - self._most) * np.abs(gold)
        return [_below(limit, rows, own) for limit, rows, own in zip(limits, in_turn, scores, strict=True)]


def _below(limit: float, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> list[int]:
    """Keep candidates that score below a limit, each once."""
    return [int(row) for row in dict.fromkeys(rows.tolist()) if scores[row] < limit]


def _with_negatives(
    data: DataSet, indices: Sequence[int], count: int, candidates: Candidates, condition: str
) -> DataSet:
    """Give some questions of a set their first candidates without an answer, as their only hard negatives.

    Where they are fewer than `count`, that is counted as too few passages that meet the condition.
    """
    left_out: Counter[str] = Counter(data.left_out)
    passages, questions = list(in_order(data.passages)), list(data.questions)
    tokens = [answer_tokens(passage.text) for passage in passages]
    with tqdm(total=len(indices), desc="Hard negatives", unit="question", disable=None) as bar:
        for start in range(0, len(indices), _QUESTIONS_AT_ONCE):
            some = indices[start : start + _QUESTIONS_AT_ONCE]
            for index, rows in zip(some, candidates([questions[i] for i in some]), strict=True):
                question = questions[index]
                found = (
                    passages[row].id
                    for row in rows
                    if passages[row].id not in question.positive_ids and not has_answer(tokens[row], question.answers)
                )
                negatives = tuple(islice(found, count))
                questions[index] = replace(question, hard_negative_ids=negatives)
                left_out[f"hard negative, as too few passages {condition}"] += count - len(negatives)
            bar.update(len(some))
    return DataSet(data.passages, questions, left_out)


def _keyword_ranker(data: DataSet, remedy: str) -> BM25Ranker:
    try:
        return BM25Ranker([passage.text for passage in in_order(data.passages)])
    except ValueError as error:  # an empty vocabulary
        raise DataError(
            f"No passage holds a word that BM25 could search, so it finds no hard negatives; {remedy}."
        ) from error
