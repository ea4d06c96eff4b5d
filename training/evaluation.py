"""Evaluate retrieval, reading and both together, beside BM25 and the untuned base."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import bm25s
import numpy as np
import Stemmer
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer

from rom_haystack.inference import Answer, ReadingOptions, ROMEncoder
from rom_haystack.metrics import Figure, answer_rank, answer_tokens, exact_match, f1, figure, has_answer
from rom_haystack.metrics import calibration_factor as best_factor
from rom_haystack.modeling import CheckpointError, ROMModel, load_checkpoint
from training.data.dataset import Passage, Question
from training.data.jsonl import read_passages, read_questions
from training.unanswerable import (
    Judged,
    auroc,
    cross_fitted_error,
    expected_error,
    no_answer_threshold,
    squad2,
)

CUTOFFS = (1, 5, 20, 100)

#: Metric values of single questions, by metric name.
Scores = dict[str, NDArray[np.float64]]


class Ranker(Protocol):
    """Anything that ranks the collection's passages for queries."""

    def rank(self, queries: Sequence[str], count: int) -> NDArray[np.int64]:
        """Return `[len(queries), count]` row numbers of passages, best first."""
        ...


class DenseRanker:
    """Exact search by inner product over the passages' embeddings."""

    def __init__(self, encoder: ROMEncoder, texts: Sequence[str], *, progress: bool = True) -> None:
        self.encoder = encoder
        length = min(256, encoder.max_length)
        self.embeddings = encoder.encode_passages(texts, max_length=length, progress=progress)

    def rank(self, queries: Sequence[str], count: int) -> NDArray[np.int64]:
        """Rank by inner product of the embeddings."""
        length = min(64, self.encoder.max_length)
        scores = self.encoder.encode_queries(queries, max_length=length) @ self.embeddings.T
        best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        return np.take_along_axis(best, order, axis=1).astype(np.int64)


class BM25Ranker:
    """BM25 (k1 1.5, b 0.75) over stemmed words without English stop words."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.stemmer = Stemmer.Stemmer("english")
        self.index = bm25s.BM25(k1=1.5, b=0.75)
        self.index.index(self._tokens(texts), show_progress=False)

    def rank(self, queries: Sequence[str], count: int) -> NDArray[np.int64]:
        """Rank by BM25 score."""
        rows, _ = self.index.retrieve(self._tokens(queries), k=count, show_progress=False)
        return np.asarray(rows, dtype=np.int64)

    def _tokens(self, texts: Sequence[str]) -> Any:
        return bm25s.tokenize(list(texts), stopwords="en", stemmer=self.stemmer, show_progress=False)


def evaluate(
    model: Path,
    data: Path,
    *,
    base: str | None = None,
    questions_in: str = "squad/dev",
    passages_in: Sequence[str] = ("squad/train", "squad/dev"),
    unanswerable_in: str | None = None,
    limit: int | None = None,
    end_to_end_limit: int = 1000,
    passage_count: int = 10,
    dtype: str = "float32",
    seed: int = 13,
) -> dict[str, Any]:
    """Evaluate a checkpoint.

    Args:
        model: Checkpoint folder or name.
        data: Root folder of the data.
        base: Folder or hub id of the untuned encoder to compare with; None leaves it out.
        questions_in: Set of the questions, below `data`.
        passages_in: Sets whose passages, without titles, make the collection.
        unanswerable_in: Set of questions that their passages do not answer, for SQuAD 2.0's figures beside the others;
            None for those of `questions_in`. Without any, these figures are left out.
        limit: Number of questions, drawn by `seed`; None for all. At most as many are unanswerable.
        end_to_end_limit: Number of questions for the end-to-end figures, which read `passage_count` passages each.
        passage_count: Passages read per question end to end.
        dtype: Type of the weights (`float32`, `bfloat16`).
        seed: Seed of the draws and of the bootstrap.

    Returns:
        `systems`: by system, its `Figure`s by metric; beside the `settings` that led to them, among which
        `calibration factor` is what fits this model's end-to-end answers best; `calibration error` is the expected
        error of their scores as they are, `calibration error fitted` with such factors (in percent, of F1), and
        `no-answer threshold` the lowest log-odds that SQuAD 2.0's best F1 answers with (None without the figure).
    """
    encoder = ROMEncoder.from_model(*load_checkpoint(model, dtype=getattr(torch, dtype), device=_device()))
    untuned = load_base(base, dtype) if base is not None else None
    rng = np.random.default_rng(seed)
    gold = read_passages(data / questions_in)
    collection = {p.text: p for name in passages_in for p in read_passages(data / name).values()}
    passages = list(collection.values())
    questions = [q for q in read_questions(data / questions_in) if q.answers and q.passage_id in gold]
    if limit is not None and limit < len(questions):
        questions = [questions[i] for i in sorted(rng.choice(len(questions), limit, replace=False))]
    impossible, impossible_gold = _unanswerable(data / (unanswerable_in or questions_in), limit, seed)
    sample = sorted(rng.choice(len(questions), min(end_to_end_limit, len(questions)), replace=False).tolist())
    texts = [passage.text for passage in passages]
    rankers: dict[str, Callable[[], Ranker]] = {"rom": lambda: DenseRanker(encoder, texts)}
    if untuned is not None:
        rankers["untuned base"] = lambda: DenseRanker(untuned, texts)
    rankers["bm25"] = lambda: BM25Ranker(texts)
    results: dict[str, Scores] = {}
    for name, build in rankers.items():
        ranking = build().rank([question.text for question in questions], min(max(CUTOFFS), len(passages)))
        results[name] = recall_scores(questions, passages, ranking)
        read = [(questions[i], [texts[row] for row in ranking[i, :passage_count]]) for i in sample]
        answers = best_answer_per_question(encoder, read)
        results[name] |= prefixed("end-to-end ", answer_scores([question for question, _ in read], answers))
        if name == "rom":
            about = [gold[q.passage_id].title or q.passage_id for q, _ in read]
            trust = _trust(answers, results[name]["end-to-end F1"], about)
            misses = without_answer([questions[i] for i in sample], passages, ranking[sample])
    answers = _read_gold(encoder, questions, gold)
    results["rom"] |= prefixed("reading ", answer_scores(questions, answers))
    judged = Judged.of([*questions, *impossible], [*answers, *_read_gold(encoder, impossible, impossible_gold)])
    missed = Judged.of(
        [replace(question, answers=()) for question, _ in misses], best_answer_per_question(encoder, misses)
    )
    figures = {
        name: {metric: figure(values, seed) for metric, values in scores.items()} for name, scores in results.items()
    }
    statistics = squad2(judged)
    figures["rom"] |= {name: statistic_figure(statistic, [judged], seed) for name, statistic in statistics.items()}
    if len(missed):
        asked = judged.take(np.array(sample))
        figures["rom"]["no-answer AUROC, retrieved"] = statistic_figure(auroc, [asked, missed], seed)
    return {
        "settings": {
            "model": str(model),
            "base": base,
            "questions": questions_in,
            "question count": len(questions),
            "end-to-end question count": len(sample),
            "passages": list(passages_in),
            "passage count": len(passages),
            "passages read end to end": passage_count,
            "unanswerable question count": len(impossible),
            "no-answer threshold": round(no_answer_threshold(judged), 3) if statistics else None,
            **trust,
            "dtype": dtype,
            "seed": seed,
        },
        "systems": figures,
    }


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
    encoder: ROMEncoder,
    read: Sequence[tuple[Question, Sequence[str]]],
    options: ReadingOptions = ReadingOptions(answers_per_seq=1),  # noqa: B008 (it can't be changed)
) -> list[Answer | None]:
    """Read each question's passages and take the best answer, never "no answer"; None where there is no text."""
    pairs = [(question.text, text) for question, texts in read for text in texts]
    found = iter(encoder.read([query for query, _ in pairs], [text for _, text in pairs], options))
    answers = ([answer for _ in texts for answer in next(found)] for _, texts in read)
    return [max(candidates, key=lambda answer: answer.logit, default=None) for candidates in answers]


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


def statistic_figure(
    statistic: Callable[[Judged], float | None], groups: Sequence[Judged], seed: int, resamples: int = 200
) -> Figure:
    """Summarise a statistic of questions, with a percentile bootstrap over each group's questions.

    Args:
        statistic: From 0 to 1; None where the questions do not have it, as a resample may happen not to.
        groups: The questions.
        seed: Seed of the bootstrap.
        resamples: Number of resamples.
    """
    rng = np.random.default_rng(seed)
    whole = statistic(Judged.joined(groups))
    drawn = (
        statistic(Judged.joined([group.take(rng.integers(len(group), size=len(group))) for group in groups]))
        for _ in range(resamples)
    )
    values = [value for value in drawn if value is not None] or [np.nan]
    low, high = np.percentile(values, [2.5, 97.5])
    return Figure(*(round(100 * float(value), 2) for value in (np.nan if whole is None else whole, low, high)))


def load_base(name_or_path: str, dtype: str) -> ROMEncoder:
    """Load a plain encoder as a retriever: mean pooling, unit length, no training.

    Raises:
        CheckpointError: It can't be loaded.
    """
    try:
        model = ROMModel.from_encoder(name_or_path, {"retrieval": {"pooling": "mean"}})
    except (OSError, ValueError) as error:
        raise CheckpointError(f"The base encoder '{name_or_path}' can't be loaded: {error}") from error
    model.to(device=_device(), dtype=getattr(torch, dtype))
    return ROMEncoder.from_model(model.eval(), AutoTokenizer.from_pretrained(name_or_path))


def markdown_table(systems: Mapping[str, Mapping[str, Figure]]) -> str:
    """Lay out the figures with a row per metric and a column per system."""
    metrics = list(dict.fromkeys(metric for figures in systems.values() for metric in figures))
    lines = [f"| | {' | '.join(systems)} |", f"|---|{'---|' * len(systems)}"]
    for metric in metrics:
        cells = (str(figures[metric]) if metric in figures else "–" for figures in systems.values())
        lines.append(f"| {metric} | {' | '.join(cells)} |")
    return "\n".join(lines)


def prefixed(prefix: str, scores: Scores) -> Scores:
    """Put a prefix before every metric's name."""
    return {prefix + metric: values for metric, values in scores.items()}


def _unanswerable(folder: Path, limit: int | None, seed: int) -> tuple[list[Question], dict[str, Passage]]:
    """Read a set's questions that their passages do not answer, at most `limit`, and the passages."""
    passages = read_passages(folder)
    questions = [q for q in read_questions(folder) if q.unanswerable and q.passage_id in passages]
    if limit is not None and limit < len(questions):
        drawn = np.random.default_rng((seed, 1)).choice(len(questions), limit, replace=False)
        questions = [questions[i] for i in sorted(drawn)]
    return questions, passages


def _read_gold(
    encoder: ROMEncoder, questions: Sequence[Question], passages: Mapping[str, Passage]
) -> list[Answer | None]:
    """Read each question's own passage, and take the best answer."""
    return best_answer_per_question(encoder, [(q, [passages[q.passage_id].text]) for q in questions])


def _trust(answers: Sequence[Answer | None], quality: NDArray[np.float64], articles: Sequence[str]) -> dict[str, float]:
    """Say how far the scores of answers can be trusted; see `evaluate`."""
    logits = np.array([answer.logit if answer else -np.inf for answer in answers])
    return {
        "calibration factor": calibration_factor(answers, quality),
        "calibration error": round(100 * expected_error(logits, quality, ReadingOptions().calibration_factor), 2),
        "calibration error fitted": round(100 * cross_fitted_error(logits, quality, articles), 2),
    }


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
