"""Retrieval: bring a query's vector near its passages', among others of the batch or of the whole training set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rom_haystack.metrics import answer_tokens
from training.errors import require
from training.tasks.bank import load_bank
from training.tasks.base import Features, QuestionTask
from training.tasks.contrast import ContrastOptions, contrast, embed, titled, tokenize
from training.tasks.texts import WordIndex, tokens_of
from training.towers import query_tower

if TYPE_CHECKING:
    from pathlib import Path

    from rom_haystack.modeling import ROMModel
    from training.data.dataset import Question
    from training.data.numbered import Numbered

_CONTRASTS = ("bank", "batch")
#: Passages whose tokens are kept for the next batches, about 1 KB each.
_KEPT = 65_536


@dataclass(frozen=True)
class RetrievalTaskOptions(ContrastOptions):
    """Options of `RetrievalTask`.

    Args:
        contrast: `bank` contrasts each query with all passages of the data as the untrained encoder saw them, besides
            the batch's; `batch` with the batch's alone.
        anchor_weight: Weight of the loss that keeps passage vectors where the untrained encoder put them; 0 for none.
        positives: Passages that answer a question which each batch draws for it, at most; the data names further ones
            than the gold passage as `other_positive_ids`.
        hard_negatives: Hard negatives of a question which each batch draws for it, at most, and encodes beside the
            positives; the data names them. In the bank, all take part anyway.
        group_by_article: Make batches of questions about the same article, all questions of a passage together. A batch
            then asks many questions of few passages, each of which is encoded once and is a hard negative of the
            others' questions.
    """

    contrast: str = "bank"
    anchor_weight: float = 5.0
    positives: int = 1
    hard_negatives: int = 0
    group_by_article: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "contrast", self.contrast in _CONTRASTS, f"one of {', '.join(_CONTRASTS)}")
        require(self, "anchor_weight", self.anchor_weight >= 0, "at least 0")
        require(self, "positives", self.positives >= 1, "at least 1")
        require(self, "hard_negatives", self.hard_negatives >= 0, "at least 0")
        one_order = not (self.group_by_article and self.group_by_length)
        require(self, "group_by_article", one_order, "false where 'group_by_length' is true")


class RetrievalTask(QuestionTask):
    """Train the `retrieval` head by contrast.

    In the batch, each query is contrasted with every passage that is drawn for any query (DPR: Karpukhin et al., 2020,
    section 3.2). Each pair of a query and a drawn positive counts as one. A query's other positives, and passages that
    hold one of its answers as the metric of retrieval finds it (case aside), count neither for nor against it: all
    those of the batch and, in the bank, those of the query's articles and among its hard negatives.

    The bank, computed once, holds all passages as the untrained encoder saw them. It is contrasted with, and an anchor
    keeps live passages near their place in it, and general skill with them. Frozen and live vectors never meet in one
    softmax: there, telling the two kinds apart would be an easy way to a low loss.
    """

    Options = RetrievalTaskOptions
    options: RetrievalTaskOptions
    head = "retrieval"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._order, self._row = self.numbered.in_order, self.numbered.number
        self._with_title = np.random.default_rng((self.seed, 2)).random(len(self._order)) < self.options.title_rate
        if self.options.group_by_article:
            self._ranks = ranks_of_gold(self.items, self.numbered)
        self._in_bank = self.options.contrast == "bank"
        self._bank = torch.empty(0)
        self._tokens = lru_cache(_KEPT)(lambda row: answer_tokens(self._order[row].text))

    def prepare(self, model: ROMModel, folder: Path) -> None:
        """Encode the bank of passages, unless a run in this folder already has, or none is needed."""
        if not (self._in_bank or self.options.anchor_weight):
            return
        lengths = np.fromiter((len(passage.text) for passage in self._order), np.int32, len(self._order))
        self._bank = load_bank(folder / "passage_bank.safetensors", model, lengths, self._passage_tokens)

    @classmethod
    def trains_on(cls, question: Question) -> bool:
        """Take questions whose gold passage answers them, even where the answer's text is not known."""
        return not question.unanswerable

    def collate(self, items: Sequence[Question], rng: np.random.Generator) -> Features:
        """Tokenise queries and what is drawn for them, and mark passages that count neither for nor against them."""
        pairs, drawn = [], set[int]()
        for index, question in enumerate(items):
            positives = self._draw(question.positive_ids, self.options.positives, rng)
            pairs += [(index, row) for row in positives]
            drawn.update(positives, self._draw(question.hard_negative_ids, self.options.hard_negatives, rng))
        rows = sorted(drawn)
        place = {row: column for column, row in enumerate(rows)}
        live = WordIndex({row: self._tokens(row) for row in rows})
        neutral = [self._positives(question) | live.holders(question.answers) for question in items]
        in_bank = {"ignored_in_bank": self._ignored_in_bank(items, pairs)} if self._in_bank else {}
        return {
            "queries": tokenize(self.tokenizer, [question.text for question in items], self.options.max_query_length),
            "passages": self._passage_tokens(rows),
            "rows": torch.tensor(rows),
            "asking": torch.tensor([index for index, _ in pairs]),
            "gold": torch.tensor([row for _, row in pairs]),
            "ignored": _ignored(
                [(index, place[gold]) for index, gold in pairs],
                [{place[row] for row in found if row in place} for found in neutral],
                len(rows),
            ),
            **in_bank,
        }

    def loss(self, model: ROMModel, features: Features) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the contrast (with a bank, the mean of both) plus the weighted anchor."""
        queries = embed(query_tower(model), features["queries"], self.options.chunk_size)
        passages = embed(model, features["passages"], self.options.chunk_size)
        queries = queries[features["asking"]]
        rows, gold, ignored = features["rows"], features["gold"], features["ignored"]
        scores = queries @ passages.T / self.options.temperature
        among = torch.searchsorted(rows, gold)
        loss = contrast(scores, ignored, among)
        metrics = {"live_contrast": loss.detach()}
        if self._in_bank:
            scores, ignored, among = (
                queries @ self._bank.T / self.options.temperature,
                features["ignored_in_bank"],
                gold,
            )
            bank_contrast = contrast(scores, ignored, gold)
            metrics["bank_contrast"] = bank_contrast.detach()
            loss = (bank_contrast + loss) / 2
        if self.options.anchor_weight:
            anchor = 1 - functional.cosine_similarity(passages, self._bank[rows]).mean()
            metrics["anchor"] = anchor.detach()
            loss = loss + self.options.anchor_weight * anchor
        hits = scores.masked_fill(ignored, -torch.inf).argmax(-1) == among
        return loss, {**metrics, "recall@1": hits.float().mean()}

    def _make_epoch_batches(self, epoch: int) -> list[np.ndarray]:
        if not self.options.group_by_article:
            return super()._make_epoch_batches(epoch)
        rng = np.random.default_rng((self.seed, 0, epoch))
        return article_batches(*self._ranks, self.options.batch_size, rng)

    def _draw(self, ids: Sequence[str], count: int, rng: np.random.Generator) -> list[int]:
        return [self._row(ids[i]) for i in rng.permutation(len(ids))[:count]]

    def _positives(self, question: Question) -> set[int]:
        return {self._row(passage_id) for passage_id in question.positive_ids}

    def _ignored_in_bank(self, items: Sequence[Question], pairs: Sequence[tuple[int, int]]) -> Tensor:
        neutral = []
        for question in items:
            positives = self._positives(question)
            suspects = {self._row(passage_id) for passage_id in question.hard_negative_ids}
            for title in {self._order[row].title for row in positives}:
                suspects.update(self.numbered.article(title))
            wanted = tokens_of(question.answers)
            neutral.append(positives | {row for row in suspects if any(w in self._tokens(row) for w in wanted)})
        return _ignored(pairs, neutral, len(self._order))

    def _passage_tokens(self, rows: Sequence[int]) -> dict[str, Tensor]:
        passages = [(self._order[row], self._with_title[row]) for row in rows]
        texts = [titled(self.tokenizer, passage) if title else passage.text for passage, title in passages]
        return tokenize(self.tokenizer, texts, self.options.max_passage_length)


def ranks_of_gold(questions: Sequence[Question], passages: Numbered) -> tuple[np.ndarray, np.ndarray]:
    """Return the ranks of the questions' gold passages, of each by title and by id among all of these.

    Titles and ids of gold passages, no others, are in memory for it at once.

    Returns:
        Both `[questions]`; passages without a title share one rank.
    """
    gold = np.fromiter((passages.number(question.passage_id) for question in questions), np.int64, len(questions))
    numbers, of_question = np.unique(gold, return_inverse=True)
    titles, ids = zip(*((p.title, p.id) for p in map(passages.in_order.__getitem__, numbers.tolist())), strict=True)
    return _ranks(titles)[of_question], _ranks(ids)[of_question]


def article_batches(
    articles: np.ndarray, passages: np.ndarray, batch_size: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Shuffle indices of questions into batches, those of an article and of a passage side by side.

    Args:
        articles: `[questions]`, the rank of each one's article, from 0 without gaps.
        passages: `[questions]`, the rank of its gold passage, likewise.
        batch_size: Questions per batch; the last batch may be smaller.
        rng: Source of the shuffle: of the articles, of the passages in them, and of the batches.
    """
    article_place, passage_place = (rng.permutation(int(ranks.max()) + 1) for ranks in (articles, passages))
    order = np.lexsort((passage_place[passages], article_place[articles]))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def _ranks(texts: Sequence[str]) -> np.ndarray:
    ranks = {text: rank for rank, text in enumerate(sorted(set(texts)))}
    return np.array([ranks[text] for text in texts], np.int32)


def _ignored(pairs: Sequence[tuple[int, int]], neutral: Sequence[set[int]], width: int) -> Tensor:
    """Mark `[pairs, width]` what counts neither for nor against a query, out of `neutral` columns by query.

    Args:
        pairs: Query and gold column, which always counts.
        neutral: By query, the columns that answer it.
        width: Number of columns.
    """
    ignored = torch.zeros(len(pairs), width, dtype=torch.bool)
    for pair, (query, gold) in enumerate(pairs):
        ignored[pair, list(neutral[query] - {gold})] = True
    return ignored
