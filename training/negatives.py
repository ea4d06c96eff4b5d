"""Hard negatives: passages that look as if they answered a question, and do not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice

from rom_haystack.metrics import answer_tokens, has_answer
from training.data.dataset import DataSet
from training.errors import DataError
from training.rankers import BM25Ranker

_QUESTIONS_AT_ONCE = 512
#: How much further down the ranking than needed is looked, as the best passages are those with answers.
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
    left_out: Counter[str] = Counter(data.left_out)
    wanting = [i for i, q in enumerate(data.questions) if not q.hard_negative_ids and not q.unanswerable]
    if count < 1 or not wanting:
        return data
    passages = list(data.passages.values())
    tokens = [answer_tokens(passage.text) for passage in passages]
    try:
        ranker = BM25Ranker([passage.text for passage in passages])
    except ValueError as error:  # an empty vocabulary
        raise DataError(
            "No passage holds a word that BM25 could search, so it finds no hard negatives; --hard-negatives 0 does "
            "without."
        ) from error
    questions = list(data.questions)
    for start in range(0, len(wanting), _QUESTIONS_AT_ONCE):
        indices = wanting[start : start + _QUESTIONS_AT_ONCE]
        ranking = ranker.rank([questions[i].text for i in indices], min(count + _MORE, len(passages)))
        for index, rows in zip(indices, ranking, strict=True):
            question = questions[index]
            found = (
                passages[row].id
                for row in rows
                if passages[row].id not in question.positive_ids and not has_answer(tokens[row], question.answers)
            )
            negatives = tuple(islice(found, count))
            questions[index] = replace(question, hard_negative_ids=negatives)
            left_out["hard negative, as too few passages lack the answer"] += count - len(negatives)
    return DataSet(data.passages, questions, left_out)
