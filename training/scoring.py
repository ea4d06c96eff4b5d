"""Score what was retrieved and read, question by question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rom_haystack.inference import Answer, ReadingOptions, ROMEncoder
from rom_haystack.metrics import answer_rank, answer_tokens, exact_match, f1, has_answer
from rom_haystack.metrics import calibration_factor as best_factor
from training.data.dataset import Passage, Question
from training.samples import Scores

CUTOFFS = (1, 5, 20, 100)
_BEST_ONLY = ReadingOptions(answers_per_seq=1)


def recall_scores(questions: Sequence[Question], passages: Sequence[Passage], ranking: NDArray[np.int64]) -> Scores:
    """Score answer recall: whether one of the first k passages holds an answer (Karpukhin et al., 2020, sec. 5.1)."""
    tokens = [answer_tokens(passage.text) for passage in passages]
    first_hits = np.full(len(questions), np.inf)
    for row, question in enumerate(questions):
        rank = answer_rank((tokens[p] for p in ranking[row]), question.answers)
        first_hits[row] = np.inf if rank is None else rank
    recall = {f"recall@{k}": (first_hits < k).astype(float) for k in CUTOFFS if k <= ranking.shape[1]}
    return recall | {"MRR": 1 / (1 + first_hits)}


def best_answer_per_question(
    encoder: ROMEncoder, read: Sequence[tuple[Question, Sequence[str]]], options: ReadingOptions = _BEST_ONLY
) -> list[Answer | None]:
    """Read each question's passages and take the best answer, never "no answer"; None where there is no text."""
    return best_of_first(answers_by_text(encoder, read, options))


def answers_by_text(
    encoder: ROMEncoder, read: Sequence[tuple[Question, Sequence[str]]], options: ReadingOptions = _BEST_ONLY
) -> list[list[list[Answer]]]:
    """Read each question's passages: for each question and passage its answers, never "no answer"."""
    pairs = [(question.text, text) for question, texts in read for text in texts]
    found = iter(encoder.read([query for query, _ in pairs], [text for _, text in pairs], options))
    return [[next(found) for _ in texts] for _, texts in read]


def best_of_first(found: Sequence[Sequence[Sequence[Answer]]], count: int | None = None) -> list[Answer | None]:
    """Take each question's best answer in its first passages (`count`; None for all); None where there is no text."""
    candidates = ([answer for answers in by_text[:count] for answer in answers] for by_text in found)
    return [max(answers, key=lambda answer: answer.logit, default=None) for answers in candidates]


def read_gold(
    encoder: ROMEncoder, questions: Sequence[Question], passages: Mapping[str, Passage]
) -> list[Answer | None]:
    """Read each question's own passage, and take the best answer."""
    return best_answer_per_question(encoder, [(q, [passages[q.passage_id].text]) for q in questions])


def without_answer(
    questions: Sequence[Question], passages: Sequence[Passage], ranking: NDArray[np.int64]
) -> list[tuple[Question, list[str]]]:
    """Give each question the best ranked passage that lacks its answers; questions without one are left out."""
    found = []
    for question, rows in zip(questions, ranking, strict=True):
        texts = (passages[row].text for row in rows if passages[row].id not in question.positive_ids)
        text = next((text for text in texts if not has_answer(answer_tokens(text), question.answers)), None)
        if text is not None:
            found.append((question, [text]))
    return found


def answer_scores(questions: Sequence[Question], answers: Sequence[Answer | None]) -> Scores:
    """Score one answer per question by EM and F1."""
    predictions = [answer.text if answer else "" for answer in answers]
    pairs = list(zip(predictions, (question.answers for question in questions), strict=True))
    return {
        "EM": np.array([exact_match(prediction, gold) for prediction, gold in pairs]),
        "F1": np.array([f1(prediction, gold) for prediction, gold in pairs]),
    }


def calibration_factor(answers: Sequence[Answer | None], quality: NDArray[np.float64]) -> float:
    """Find the factor of the answers' log-odds under which their scores predict their quality (F1) best."""
    logits = np.array([answer.logit if answer else 0.0 for answer in answers])
    return round(best_factor(logits, quality), 3)
