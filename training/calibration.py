"""Measure when reading may stop early and how answers are scored, and keep it beside the checkpoint.

Questions of development data are answered by reading all retrieved passages, several retrievers each giving its own
order. Then a rule is sought that reads as few of them as possible, while its best answer is the one of exact reading
as often as promised. The same answers, together with those to questions without an answer, say from where on an answer
is given and how log-odds become scores. Half of the articles fit rules and scores; everything that is reported was
measured on other questions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from rom_haystack.durable import replace_file
from rom_haystack.inference import Answer, EncoderSpec, ReadingOptions, ROMEncoder
from rom_haystack.metrics import Figure, exact_match, f1
from training.data.dataset import Passage, Question
from training.data.jsonl import read_passages, read_questions
from training.errors import DataError
from training.rankers import BM25Ranker, DenseRanker, Ranker
from training.samples import article, articles_of
from training.scores import check_scores, fit_scores, judge, kinds
from training.stopping import ReadPassages, allowed_errors, check, fit_rules

#: By setting, how often its best answer must be the one of exact reading.
PROMISES = {"cautious": 0.995, "fast": 0.97}

#: The questions that fit the rules and check them, those that only check them, and whose passages are searched.
QUESTIONS = "squad/dev"
CHECKS = ["nq/train", "fairytaleqa/dev", "medquad/pairs", "squad/dev_unanswerable"]
PASSAGES = ["squad/train", "squad/dev", "squad/dev_unanswerable", "nq/train", "fairytaleqa/dev", "medquad/pairs"]

#: Pairs read per call, so that progress shows.
_PAIRS_AT_ONCE = 500

#: Numbers of retrieved passages for which figures are given.
_TOTALS = (5, 10, 20)

#: How passages are retrieved in the checks; the rules are fitted on the first.
_ORDERS = ("dense", "bm25", "hybrid")

#: How many passages each retriever gives to the hybrid, and what it adds to their ranks (as Haystack's joiner does).
_CANDIDATES = 50
_RANK_OFFSET = 61


class RetrieveAndRead:
    """Retrieve passages by several retrievers and read them, each pair once.

    Args:
        encoder: Embeds and reads.
        passages: The collection.
        options: How to read.
    """

    def __init__(self, encoder: ROMEncoder, passages: Sequence[Passage], options: ReadingOptions) -> None:
        self.encoder = encoder
        self.texts = [passage.text for passage in passages]
        self.options = options
        self._rankers: dict[str, Ranker] = {"dense": DenseRanker(encoder, self.texts), "bm25": BM25Ranker(self.texts)}
        self._answers: dict[tuple[str, int], Answer | None] = {}

    def read(self, questions: Sequence[Question], order: str, count: int) -> ReadPassages:
        """Read the first `count` passages of each question, as retriever `order` gives them."""
        ranking = self.rank([question.text for question in questions], order, min(count, len(self.texts)))
        pairs = [(question.text, int(row)) for question, rows in zip(questions, ranking, strict=True) for row in rows]
        self._read(list(dict.fromkeys(pair for pair in pairs if pair not in self._answers)))
        found = [self._answers[pair] for pair in pairs]
        golds = [question.answers for question in questions for _ in ranking[0]]
        return ReadPassages(
            logits=np.array([answer.logit if answer else -np.inf for answer in found]).reshape(ranking.shape),
            em=_scores(exact_match, found, golds).reshape(ranking.shape),
            f1=_scores(f1, found, golds).reshape(ranking.shape),
        )

    def rank(self, queries: Sequence[str], order: str, count: int) -> NDArray[np.int64]:
        """Return `[len(queries), count]` rows of passages, best first."""
        if order != "hybrid":
            return self._rankers[order].rank(queries, count)
        candidates = min(_CANDIDATES, len(self.texts))
        rankings = [ranker.rank(queries, candidates) for ranker in self._rankers.values()]
        return np.array([reciprocal_rank_fusion(rows)[:count] for rows in zip(*rankings, strict=True)], dtype=np.int64)

    def _read(self, pairs: Sequence[tuple[str, int]]) -> None:
        with tqdm(total=len(pairs), desc="Reading", unit="passage") as bar:
            for start in range(0, len(pairs), _PAIRS_AT_ONCE):
                piece = pairs[start : start + _PAIRS_AT_ONCE]
                queries, passages = [query for query, _ in piece], [self.texts[row] for _, row in piece]
                answers = self.encoder.read(queries, passages, self.options)
                self._answers |= {pair: found[0] if found else None for pair, found in zip(piece, answers, strict=True)}
                bar.update(len(piece))


def reciprocal_rank_fusion(rankings: Sequence[Sequence[int] | NDArray[np.int64]]) -> list[int]:
    """Merge rankings by the sum of their reciprocal ranks (Cormack et al., 2009); ties as in the first."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, row in enumerate(ranking):
            scores[int(row)] = scores.get(int(row), 0.0) + 1 / (_RANK_OFFSET + rank)
    return sorted(scores, key=lambda row: -scores[row])


def calibrate(
    spec: EncoderSpec,
    data: Path,
    *,
    questions_in: str = QUESTIONS,
    checks_in: Sequence[str] = CHECKS,
    passages_in: Sequence[str] = PASSAGES,
    limit: int | None = None,
    check_limit: int = 200,
    passage_count: int = 10,
    seed: int = 13,
    promises: Mapping[str, float] = PROMISES,
) -> dict[str, Any]:
    """Measure a checkpoint's stopping rules and how its answers are scored.

    The questions of `questions_in` about half of the articles fit the rules, with passages from dense retrieval. The
    others check them; so do questions of other sets, passages from BM25 and from both retrievers fused, and up to
    twice as many passages. The same half's best answers in these passages, with those to the unanswerable questions of
    all sets about its articles, fit the scores and the threshold of "no answer"; the others check them. Both hold for
    such a mix of questions, whose numbers are given, and for as many passages.

    Args:
        spec: The checkpoint and the engine that runs it.
        data: Root folder of the data.
        questions_in: Set of the questions, below `data`.
        checks_in: Sets of further questions. Of `questions_in`, the held-out half is asked in any case.
        passages_in: Sets whose passages, without titles, make the collection.
        limit: Most questions of `questions_in`, drawn by `seed`; None for all.
        check_limit: Most questions of a set in the further checks, drawn by `seed`.
        passage_count: Passages per question that the promises hold for.
        seed: Seed of the draws and of the halves.
        promises: By setting, how often its best answer must be the one of exact reading.

    Returns:
        What `calibration.json` holds: below `stopping`, the `passage_score_weight`, the `settings` and what was
        `measured`; below `scores`, a `ScoreCalibration`, and, `measured`, what it was fitted on and how it does on
        other questions (`check_scores`).

    Raises:
        CheckpointError: The checkpoint can't be loaded.
        ImportError: The engine is not installed.
        DataError: A set is missing or damaged, all questions are about one article, or there are too few of them to
            show what is promised.
    """
    command = _command(
        spec.model,
        questions=[questions_in],
        check=checks_in,
        collection=passages_in,
        limit=[] if limit is None else [limit],
        check_limit=[check_limit],
        passages=[passage_count],
        backend=[spec.backend],
        dtype=[] if spec.dtype is None else [spec.dtype],
        seed=[seed],
    )
    encoder = spec.load()
    collection = {p.id: p for name in passages_in for p in read_passages(data / name).values()}
    rng = np.random.default_rng(seed)
    questions = draw(_questions(data / questions_in, collection), limit, rng)
    articles = [article(collection[question.passage_id]) for question in questions]
    if len(set(articles)) < 2:
        raise DataError(
            f"{data / questions_in}: all questions are about '{articles[0]}'; it takes two articles (titles of "
            "passages), one to fit and one to check."
        )
    fits = first_half(articles, rng)
    fitting = [question for question, fit in zip(questions, fits, strict=True) if fit]
    held_out = [question for question, fit in zip(questions, fits, strict=True) if not fit]
    for promise in promises.values():
        allowed_errors(len(fitting), promise)  # too few questions are found before hours of reading
    of_both_kinds = _of_both_kinds((fitting, held_out), data, {questions_in, *checks_in}, collection)
    if not all(of_both_kinds):
        raise DataError(f"{data / questions_in}: too few questions with a known answer to measure scores of answers.")
    asked = {questions_in: draw(held_out, check_limit, rng)}
    further = [name for name in checks_in if name != questions_in]  # half of whose questions fit the rules
    asked |= {name: draw(_questions(data / name, collection), check_limit, rng) for name in further}
    work = RetrieveAndRead(encoder, list(collection.values()), ReadingOptions(answers_per_seq=1))
    weight = work.options.passage_score_weight
    fitting_read = work.read(fitting, _ORDERS[0], passage_count)
    rules = fit_rules(fitting_read.logits, promises, passage_score_weight=weight)
    judged = [
        judge(work.read(half, _ORDERS[0], passage_count), half, articles_of([collection[q.passage_id] for q in half]))
        for half in of_both_kinds
    ]
    scores = fit_scores(judged[0], weight)
    held_out_read = work.read(held_out, _ORDERS[0], passage_count)
    checks = [(questions_in, _ORDERS[0], held_out_read)]
    checks += [
        (name, order, work.read(some, order, 2 * passage_count)) for name, some in asked.items() for order in _ORDERS
    ]
    return {
        "stopping": {
            "passage_score_weight": weight,
            "settings": {name: {"level": rule.level, "slope": rule.slope} for name, rule in rules.items()},
            "measured": {
                "command": command,
                "backend": encoder.backend_name,
                "passages in the collection": len(collection),
                "fitting questions": len(fitting),
                "promises": {name: 100 * promise for name, promise in promises.items()},
                "checks": [
                    {"setting": setting, "questions": name, "order": order, **check(read.top(total), rule)}
                    for setting, rule in rules.items()
                    for name, order, read in checks
                    for total in _totals(read)
                ],
            },
        },
        "scores": {
            **asdict(scores),
            "measured": {
                "passages per question": min(passage_count, len(collection)),
                **{f"fitted on {kind}": count for kind, count in kinds(judged[0]).items()},
                **check_scores(judged[1], scores, seed),
            },
        },
    }


def checks_table(calibration: Mapping[str, Any]) -> str:
    """Lay out what was measured as a Markdown table."""
    lines = [
        "| setting | questions | order | passages | agreement | passages read | in twos | EM change | F1 change |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in calibration["stopping"]["measured"]["checks"]:
        cells = (row["setting"], f"{row['question count']} of {row['questions']}", row["order"], row["passages"])
        figures = (row["passages read"], row["passages read in twos"], row["EM change"], row["F1 change"])
        lines.append("| " + " | ".join(str(cell) for cell in (*cells, Figure(**row["agreement"]), *figures)) + " |")
    return "\n".join(lines)


def scores_table(calibration: Mapping[str, Any]) -> str:
    """Lay out what was fitted for scores, and how it does on other questions, as a Markdown table."""
    scores = {name: value for name, value in calibration["scores"].items() if name != "measured"}
    measured = calibration["scores"]["measured"].items()
    figures = {name: Figure(**value) if isinstance(value, dict) else value for name, value in measured}
    rows = {**scores, **figures}
    return "\n".join(["| scores | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def write_calibration(calibration: Mapping[str, Any], path: Path) -> None:
    """Write `calibration.json`, replacing what is there at once."""
    replace_file(path, json.dumps(calibration, indent=2) + "\n")


def first_half(articles: Sequence[str], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Pick articles at random, as long as they have at most half of the items, so that none is in both halves."""
    names, counts = np.unique(articles, return_counts=True)
    chosen, taken = [], 0
    for number in rng.permutation(len(names)):
        if 2 * (taken + counts[number]) <= len(articles):
            chosen.append(names[number])
            taken += counts[number]
    return np.isin(articles, chosen)


def draw(questions: Sequence[Question], limit: int | None, rng: np.random.Generator) -> list[Question]:
    """Draw at most `limit` questions, kept in their order; None for all."""
    if limit is None or len(questions) <= limit:
        return list(questions)
    return [questions[i] for i in sorted(rng.choice(len(questions), limit, replace=False).tolist())]


def _command(model: str, **options: Sequence[object]) -> str:
    """Write the command that measures the same again."""
    words = [f"--{name.replace('_', '-')} {value}" for name, values in options.items() for value in values]
    return " ".join(["python -m training calibrate", model, "--data DATA", *words])


def _scores(
    metric: Callable[[str, Sequence[str]], float], found: Sequence[Answer | None], golds: Sequence[Sequence[str]]
) -> NDArray[np.float64]:
    return np.array(
        [
            metric(answer.text if answer else "", gold) if gold else np.nan
            for answer, gold in zip(found, golds, strict=True)
        ]
    )


def _questions(folder: Path, collection: Mapping[str, Passage]) -> list[Question]:
    """Read the questions whose own passage is in the collection.

    Raises:
        DataError: There are none.
    """
    questions = [question for question in read_questions(folder) if question.passage_id in collection]
    if not questions:
        raise DataError(f"{folder}: the collection has none of the passages of these questions.")
    return questions


def _of_both_kinds(
    halves: Sequence[Sequence[Question]], data: Path, sets: Collection[str], collection: Mapping[str, Passage]
) -> list[list[Question]]:
    """Take from halves the questions with answers, beside the sets' unanswerable ones about the same articles."""
    impossible = [
        question
        for name in sorted(sets)
        for question in read_questions(data / name)
        if question.unanswerable and question.passage_id in collection
    ]
    asked = []
    for half in halves:
        articles = {article(collection[question.passage_id]) for question in half}
        about = [question for question in impossible if article(collection[question.passage_id]) in articles]
        asked.append([question for question in half if question.answers] + about)
    return asked


def _totals(found: ReadPassages) -> list[int]:
    count = found.logits.shape[1]
    return sorted({count, *(total for total in _TOTALS if total < count)})
