"""Answer quality on gold passages, by scheme and number of split layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from benchmarks.precomputed.split import Split, SplitModel
from rom_haystack.inference import ReadingOptions, ROMEncoder
from rom_haystack.metrics import exact_match, f1
from rom_haystack.modeling import ROMModel
from training.data.dataset import Passage, Question
from training.data.jsonl import read_passages, read_questions

#: What is changed besides the attention, from nothing to all that retrieval's own passage states would need.
SCHEMES = {
    "as in the pair": Split(),
    "position 16": Split(first_position=16),
    "position 0": Split(first_position=0),
    "position 16, own [CLS]": Split(first_position=16, own_cls=True),
    "position 16, segment 0": Split(first_position=16, segment=0),
    "retrieval's form": Split(first_position=0, own_cls=True, segment=0),
    "retrieval's form, title": Split(first_position=0, own_cls=True, segment=0, with_title=True),
    "position 16, int8": Split(first_position=16, stored_as="int8"),
    "position 16, one-way": Split(first_position=16, one_way=True),
}

#: The scheme that costs the least of those that stored states can have.
BEST_SCHEME = "position 16"

RECALL_CUTOFFS = (1, 5, 20)


@dataclass(frozen=True)
class Sample:
    """Questions, each with its gold passage, and the collection that the passages are from."""

    questions: Sequence[Question]
    gold: Sequence[Passage]
    collection: Sequence[Passage]


def draw(data: Path, count: int, seed: int) -> Sample:
    """Draw answerable questions of a set, in file order.

    Raises:
        DataError: The set can't be read.
        ValueError: It has fewer questions.
    """
    passages = read_passages(data)
    questions = [q for q in read_questions(data) if q.answers and q.passage_id in passages]
    if count > len(questions):
        raise ValueError(f"{count} questions were asked for; {data} has {len(questions)} with answers.")
    rows = sorted(np.random.default_rng(seed).choice(len(questions), count, replace=False).tolist())
    drawn = [questions[row] for row in rows]
    return Sample(drawn, [passages[q.passage_id] for q in drawn], list(passages.values()))


def reading_quality(
    model: ROMModel, tokenizer: PreTrainedTokenizerBase, split: Split | None, sample: Sample
) -> dict[str, float]:
    """Read each question's gold passage and score the best answer.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        split: How to read; None for the model's own reading.
        sample: What to read.

    Returns:
        `EM` and `F1` in percent.
    """
    encoder = ROMEncoder.from_model(SplitModel(model, tokenizer, split) if split else model, tokenizer)
    texts = [
        f"{passage.title}{encoder.separator}{passage.text}" if split and split.with_title else passage.text
        for passage in sample.gold
    ]
    queries = [question.text for question in sample.questions]
    found = encoder.read(queries, texts, ReadingOptions(answers_per_seq=1))
    scored = [
        (answers[0].text if answers else "", q.answers) for answers, q in zip(found, sample.questions, strict=True)
    ]
    return {
        "EM": _percent([exact_match(text, gold) for text, gold in scored]),
        "F1": _percent([f1(text, gold) for text, gold in scored]),
    }


def at_layers(scheme: str, layers: int) -> Split:
    """Return a scheme's split at a number of layers."""
    return replace(SCHEMES[scheme], layers=layers)


def retrieval_recall(model: ROMModel, tokenizer: PreTrainedTokenizerBase, sample: Sample) -> dict[str, float]:
    """Rank the collection for the questions; return how often (in percent) the gold passage is among the first."""
    encoder = ROMEncoder.from_model(model, tokenizer)
    passages = encoder.encode_passages([passage.text for passage in sample.collection])
    queries = encoder.encode_queries([question.text for question in sample.questions])
    row = {passage.id: index for index, passage in enumerate(sample.collection)}
    scores = queries @ passages.T
    own = scores[np.arange(len(queries)), [row[passage.id] for passage in sample.gold]]
    rank = (scores > own[:, None]).sum(1)
    return {f"recall@{k}": _percent((rank < k).tolist()) for k in RECALL_CUTOFFS}


def _percent(values: Sequence[float]) -> float:
    return round(100 * float(np.mean(values)), 2)
