"""Evaluate retrieval, reading and both together, beside BM25, both fused, and the untuned base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rom_haystack.inference import Answer, ROMEncoder
from rom_haystack.modeling import load_checkpoint
from training.beir import ndcg, read_beir
from training.data.dataset import Passage, Question
from training.data.jsonl import read_passages, read_questions
from training.errors import DataError, require
from training.figures import Figures, differences, prefixed, statistic_figure, suffixed
from training.rankers import BM25Ranker, DenseRanker, HybridRanker, Ranker, best_device, load_base
from training.samples import Sample, Samples, Scores, articles_of, count_articles, samples_of
from training.scoring import (
    CUTOFFS,
    answer_scores,
    answers_by_text,
    best_answer_per_question,
    best_of_first,
    calibration_factor,
    read_gold,
    recall_scores,
    without_answer,
)
from training.unanswerable import Judged, auroc, no_answer_threshold, squad2, trust

#: Sets that are taken unless others are named: questions, passages that are searched, and questions without an answer.
ASKED, COLLECTION, UNANSWERABLE = "squad/dev", ["squad/train", "squad/dev"], "squad/dev_unanswerable"
#: Systems that a model may be compared with.
SYSTEMS = ("hybrid", "untuned base", "bm25")
#: Passages that BEIR's measure looks at.
_BEIR_DEPTH = 10


@dataclass(frozen=True)
class EvaluationOptions:
    """What a model is evaluated on; sets are folders below the root folder of the data.

    Args:
        base: Folder or hub id of the untuned encoder to compare with; None leaves it out.
        questions: Set of the questions.
        passages: Sets whose passages, without titles, make the collection.
        further: Sets of which answer recall is measured, too, each over its own passages; such as text that the model
            was not tuned on.
        beir: Folders in BEIR's form, of which nDCG@10 is measured.
        unanswerable: Set of questions that their passages do not answer, for SQuAD 2.0's figures beside the others;
            None for those of `questions`. Without any, these figures are left out.
        limit: Number of questions, of each set but BEIR's, drawn by `seed`; None for all. At most as many are
            unanswerable.
        end_to_end_limit: Number of questions for the end-to-end figures, which read `passage_count` passages each.
        passage_count: Passages read per question end to end.
        further_counts: Other numbers of passages of which end-to-end figures are given, `end-to-end EM@5` for 5.
        systems: What is measured beside the model (`rom`), which reads for all of them: `hybrid`, the model's
            embeddings and BM25 fused; `untuned base`, where there is a base; `bm25`.
        dtype: Type of the weights (`float32`, `bfloat16`, `float16`).
        seed: Seed of the draws and of the bootstrap.
    """

    base: str | None = None
    questions: str = ASKED
    passages: list[str] = field(default_factory=lambda: list(COLLECTION))
    further: list[str] = field(default_factory=list)
    beir: list[str] = field(default_factory=list)
    unanswerable: str | None = None
    limit: int | None = None
    end_to_end_limit: int = 1000
    passage_count: int = 10
    further_counts: list[int] = field(default_factory=list)
    systems: list[str] = field(default_factory=lambda: list(SYSTEMS))
    dtype: str = "float32"
    seed: int = 13

    def __post_init__(self) -> None:
        for key in ("limit", "end_to_end_limit", "passage_count"):
            value = getattr(self, key)
            require(self, key, value is None or value >= 1, "at least 1")
        require(self, "further_counts", all(count >= 1 for count in self.further_counts), "numbers from 1 on")
        require(self, "systems", set(self.systems) <= set(SYSTEMS), f"some of {', '.join(SYSTEMS)}")
        require(self, "dtype", self.dtype in ("float32", "bfloat16", "float16"), "float32, bfloat16 or float16")
        require(self, "passages", bool(self.passages), "at least one set")


@dataclass(frozen=True)
class Models:
    """What does which part of the work: one model all of it, or separate ones, as DPR has them.

    Args:
        reader: Checkpoint that reads.
        passages: Checkpoint that embeds passages; None for `reader`.
        queries: Checkpoint that embeds queries; None for `passages`.
    """

    reader: str | Path
    passages: str | Path | None = None
    queries: str | Path | None = None

    def load(self, dtype: str) -> tuple[list[ROMEncoder], int]:
        """Load reader, passage encoder and query encoder, each checkpoint once; and count their parameters."""
        names = [self.reader, self.passages or self.reader, self.queries or self.passages or self.reader]
        kind = getattr(torch, dtype)
        loaded = {name: load_checkpoint(name, dtype=kind, device=best_device()) for name in dict.fromkeys(names)}
        encoders = {name: ROMEncoder.from_model(*parts) for name, parts in loaded.items()}
        return [encoders[name] for name in names], sum(model.num_parameters() for model, _ in loaded.values())


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        settings: How.
        systems: By system, its figures by metric.
        scores: By system, samples of those metrics that are means over questions.
    """

    settings: dict[str, Any]
    systems: dict[str, Figures]
    scores: dict[str, Samples]

    def report(self) -> dict[str, Any]:
        """Return settings and figures, with `rom`'s `differences` from the others, for JSON."""
        seed, rom = self.settings["seed"], self.scores["rom"]
        others = {
            f"rom - {name}": differences(rom, other, seed) for name, other in self.scores.items() if name != "rom"
        }
        return {"settings": self.settings, "systems": self.systems, "differences": others}


def evaluate(model: str | Path | Models, data: Path, options: EvaluationOptions | None = None) -> Evaluation:
    """Evaluate a model.

    Args:
        model: Checkpoint folder or name, or several of them.
        data: Root folder of the data.
        options: What on; None for the defaults.

    Returns:
        Figures and `settings` that led to them. There, `article count` is of those that the questions are about, which
        the intervals' bootstrap draws (None where no passage has a title, and questions are drawn); further sets have
        their own, BEIR's none. `calibration factor` is what fits this model's end-to-end answers best, and `no-answer
        threshold` the lowest log-odds that SQuAD 2.0's best F1 answers with (None without the figure).

    Raises:
        CheckpointError: A model can't be loaded.
        DataError: A set can't be read, or has no question that can be measured.
    """
    options = options or EvaluationOptions()
    models = model if isinstance(model, Models) else Models(model)
    seed = options.seed
    (reader, *towers), parameters = models.load(options.dtype)
    untuned = load_base(options.base, options.dtype) if options.base is not None else None
    rng = np.random.default_rng(seed)
    gold = read_passages(data / options.questions)
    collection = {p.text: p for name in options.passages for p in read_passages(data / name).values()}
    passages = list(collection.values())
    questions = _drawn(_answerable(data / options.questions, gold), options.limit, rng)
    impossible, impossible_gold = _unanswerable(data / (options.unanswerable or options.questions), options)
    count = min(options.end_to_end_limit, len(questions))
    sample = sorted(rng.choice(len(questions), count, replace=False).tolist())
    asked, golds = [questions[i] for i in sample], _golds(questions, gold)
    articles, asked_golds = articles_of(golds), [golds[i] for i in sample]
    make = partial(_rankers, towers=towers, untuned=untuned, systems=options.systems)
    scores: dict[str, Samples] = {}
    for name, ranker in make([passage.text for passage in passages]).items():
        ranking = ranker.rank([question.text for question in questions], min(max(CUTOFFS), len(passages)))
        answers, read = _end_to_end(reader, asked, passages, ranking[sample], options)
        found = samples_of(recall_scores(questions, passages, ranking), articles)
        scores[name] = found | samples_of(read, articles_of(asked_golds))
        if name == "rom":
            found_answers = Judged.of(asked, answers, articles_of(asked_golds))
            factor = calibration_factor(answers, read["end-to-end F1"])
            misses = without_answer(asked, passages, ranking[sample])
    for name, more in [*_further(make, data, options), *_beir(make, data, options)]:
        scores[name] |= more
    answers = read_gold(reader, questions, gold)
    scores["rom"] |= samples_of(prefixed("reading ", answer_scores(questions, answers)), articles)
    judged = Judged.of(
        [*questions, *impossible],
        [*answers, *read_gold(reader, impossible, impossible_gold)],
        articles_of([*golds, *_golds(impossible, impossible_gold)]),
    )
    missed = Judged.of(
        [replace(question, answers=()) for question, _ in misses],
        best_answer_per_question(reader, misses),
        articles_of(_golds([question for question, _ in misses], gold)),
    )
    figures = {
        name: {metric: sample.figure(seed) for metric, sample in samples.items()} for name, samples in scores.items()
    }
    statistics = squad2(judged)
    for told, of in ((judged, statistics), (found_answers, trust(found_answers))):
        figures["rom"] |= {name: statistic_figure(statistic, [told], seed) for name, statistic in of.items()}
    if len(missed):
        both = [judged.take(np.array(sample)), missed]
        figures["rom"]["no-answer AUROC, retrieved"] = statistic_figure(auroc, both, seed)
    separate = {"passage encoder": models.passages, "query encoder": models.queries}
    settings = {
        "model": str(models.reader),
        **{name: str(folder) for name, folder in separate.items() if folder is not None},
        "parameters": parameters,
        "base": options.base,
        "questions": options.questions,
        "question count": len(questions),
        "article count": count_articles(articles),
        "end-to-end question count": len(sample),
        "passages": list(options.passages),
        "passage count": len(passages),
        "passages read end to end": options.passage_count,
        "further passage counts": list(options.further_counts),
        "further sets": list(options.further),
        "BEIR folders": list(options.beir),
        "limit": options.limit,
        "unanswerable questions": options.unanswerable,
        "unanswerable question count": len(impossible),
        "no-answer threshold": round(no_answer_threshold(judged), 3) if statistics else None,
        "calibration factor": factor,
        "dtype": options.dtype,
        "seed": seed,
    }
    return Evaluation(settings, figures, scores)


def _rankers(
    texts: Sequence[str], towers: Sequence[ROMEncoder], untuned: ROMEncoder | None, systems: Sequence[str]
) -> dict[str, Ranker]:
    """Build the model's ranker over a collection, and those that it is compared with."""
    passage_encoder, query_encoder = towers
    dense = DenseRanker(passage_encoder, texts, query_encoder=query_encoder)
    rankers: dict[str, Ranker] = {"rom": dense}
    keyword = BM25Ranker(texts) if {"hybrid", "bm25"} & set(systems) else None
    if keyword is not None and "hybrid" in systems:
        rankers["hybrid"] = HybridRanker(keyword, dense, len(texts))
    if untuned is not None and "untuned base" in systems:
        rankers["untuned base"] = DenseRanker(untuned, texts)
    if keyword is not None and "bm25" in systems:
        rankers["bm25"] = keyword
    return rankers


def _end_to_end(
    reader: ROMEncoder,
    questions: Sequence[Question],
    passages: Sequence[Passage],
    ranking: NDArray[np.int64],
    options: EvaluationOptions,
) -> tuple[list[Answer | None], Scores]:
    """Read what was retrieved once, and score the best answers of the first so many passages."""
    most = max([options.passage_count, *options.further_counts])
    read = [(q, [passages[row].text for row in rows[:most]]) for q, rows in zip(questions, ranking, strict=True)]
    found = answers_by_text(reader, read)
    answers = best_of_first(found, options.passage_count)
    scores = prefixed("end-to-end ", answer_scores(questions, answers))
    for count in options.further_counts:
        of_count = prefixed("end-to-end ", answer_scores(questions, best_of_first(found, count)))
        scores |= suffixed(of_count, f"@{count}")
    return answers, scores


def _further(
    make: Callable[[Sequence[str]], dict[str, Ranker]], data: Path, options: EvaluationOptions
) -> Iterator[tuple[str, Samples]]:
    """Measure answer recall of further sets over their own passages: by system, samples with the set's name."""
    for folder in options.further:
        known = read_passages(data / folder)
        passages = list(known.values())
        rng = np.random.default_rng((options.seed, 2))
        questions = _drawn(_answerable(data / folder, known), options.limit, rng)
        for name, ranker in make([passage.text for passage in passages]).items():
            ranking = ranker.rank([question.text for question in questions], min(max(CUTOFFS), len(passages)))
            scores = suffixed(recall_scores(questions, passages, ranking), f", {folder}")
            yield name, samples_of(scores, articles_of(_golds(questions, known)))


def _beir(
    make: Callable[[Sequence[str]], dict[str, Ranker]], data: Path, options: EvaluationOptions
) -> Iterator[tuple[str, Samples]]:
    """Measure nDCG@10 of BEIR folders: by system, samples with the folder's name."""
    for folder in options.beir:
        judgments = read_beir(data / folder)
        depth = min(_BEIR_DEPTH + 1, len(judgments.texts))  # one may be the query itself
        for name, ranker in make(judgments.texts).items():
            ranking = ranker.rank(judgments.queries, depth).tolist()
            others = [[r for r in rows if r != own] for rows, own in zip(ranking, judgments.own, strict=True)]
            yield name, {f"nDCG@{_BEIR_DEPTH}, {folder}": Sample(ndcg(others, judgments.grades, _BEIR_DEPTH))}


def _golds(questions: Sequence[Question], passages: Mapping[str, Passage]) -> list[Passage]:
    return [passages[question.passage_id] for question in questions]


def _answerable(folder: Path, passages: Mapping[str, Passage]) -> list[Question]:
    questions = [q for q in read_questions(folder) if q.answers and q.passage_id in passages]
    if not questions:
        raise DataError(f"{folder}: no question there has an answer, so nothing can be measured on it.")
    return questions


def _drawn(questions: list[Question], limit: int | None, rng: np.random.Generator) -> list[Question]:
    if limit is None or limit >= len(questions):
        return questions
    return [questions[i] for i in sorted(rng.choice(len(questions), limit, replace=False))]


def _unanswerable(folder: Path, options: EvaluationOptions) -> tuple[list[Question], dict[str, Passage]]:
    """Read a set's questions that their passages do not answer, and the passages."""
    passages = read_passages(folder)
    questions = [q for q in read_questions(folder) if q.unanswerable and q.passage_id in passages]
    return _drawn(questions, options.limit, np.random.default_rng((options.seed, 1))), passages
