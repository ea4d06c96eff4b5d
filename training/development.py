"""Small and fast evaluation on development data while a run goes on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rom_haystack.inference import ReadingOptions, ROMEncoder
from training.data.dataset import Passage, Question
from training.data.formats import read_data
from training.data.numbered import numbered, those
from training.errors import DataError
from training.limits import METRICS
from training.rankers import DenseRanker
from training.samples import Scores
from training.scoring import answer_scores, best_answer_per_question, recall_scores
from training.towers import query_tower

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rom_haystack.modeling import ROMModel

#: What stands before their names in logs.
PREFIX = "development/"

#: Passages that are searched, the gold ones of the sample among them.
_PASSAGES = 500


class Development:
    """Measures how well a model reads gold passages and retrieves, on a sample of questions.

    Reading takes the best answer, never "no answer". Retrieval searches, by inner product, the sample's gold passages
    among others of the set, without titles; recall is answer recall (Karpukhin et al., 2020, section 5.1).

    Args:
        path: Data folder or file.
        limit: Questions in the sample.
        seed: Seed of the sample.
        store: Folder for data that is too large for memory; None keeps it in memory.

    Raises:
        DataError: The data can't be read, or has no question with an answer.
    """

    def __init__(self, path: Path, *, limit: int, seed: int, store: Path | None = None) -> None:
        data = read_data(path, store)
        questions = those(data.questions, lambda question: bool(question.answers))
        if not questions:
            raise DataError(f"{path}: no question there has an answer, so nothing can be measured on it.")
        rng = np.random.default_rng((seed, 3))
        chosen = sorted(rng.choice(len(questions), min(limit, len(questions)), replace=False).tolist())
        self.questions: list[Question] = [questions[i] for i in chosen]
        passages = numbered(data.passages)
        gold = list(dict.fromkeys(passages.number(question.passage_id) for question in self.questions))
        others = np.setdiff1d(np.arange(len(passages.in_order)), gold)
        fill = others[rng.permutation(len(others))[: max(0, _PASSAGES - len(gold))]].tolist()
        self.passages: list[Passage] = [passages.in_order[number] for number in (*gold, *fill)]
        self._gold = [data.passages[question.passage_id].text for question in self.questions]

    def metrics(self, heads: Collection[str]) -> list[str]:
        """Return the names of what is measured of a model with these heads."""
        found = [name for name, head in METRICS.items() if head in heads]
        return [name for name in found if int(name.partition("@")[2] or 0) <= len(self.passages)]

    def measure(self, model: ROMModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
        """Measure a model that is being trained, and leave it as it was.

        Returns:
            By name, `PREFIX` before it, what `metrics` lists: means from 0 to 1, the higher the better.
        """
        was_training = model.training
        encoder = ROMEncoder.from_model(model.eval(), tokenizer)
        scores: Scores = {}
        if "reading" in model.config.heads:
            options = reading_options(encoder.max_length)
            read = [(question, [text]) for question, text in zip(self.questions, self._gold, strict=True)]
            scores |= answer_scores(self.questions, best_answer_per_question(encoder, read, options))
        if "retrieval" in model.config.heads:
            queries = ROMEncoder.from_model(query_tower(model), tokenizer)
            scores |= recall_scores(self.questions, self.passages, self._ranking(encoder, queries))
        model.train(was_training)
        names = self.metrics(model.config.heads)
        return {PREFIX + name: round(float(scores[name].mean()), 4) for name in names}

    def _ranking(self, encoder: ROMEncoder, query_encoder: ROMEncoder) -> np.ndarray:
        texts: Sequence[str] = [passage.text for passage in self.passages]
        ranker = DenseRanker(encoder, texts, progress=False, query_encoder=query_encoder)
        return ranker.rank([question.text for question in self.questions], min(20, len(texts)))


def reading_options(max_length: int) -> ReadingOptions:
    """Return reading's own options, cut down for encoders that take few tokens (`max_length`)."""
    usual = ReadingOptions(answers_per_seq=1)
    if max_length >= usual.max_seq_length:
        return usual
    return ReadingOptions(
        max_seq_length=max_length, stride=max_length // 8, max_query_length=max_length // 4, answers_per_seq=1
    )
