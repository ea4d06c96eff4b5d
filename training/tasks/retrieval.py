"""Retrieval: bring a query's vector near its passages', among others of the batch or of the whole training set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from training.errors import DataError, require
from training.tasks.base import Features, QuestionTask, by_title
from training.tasks.contrast import ContrastOptions, contrast, embed, titled, tokenize
from training.tasks.texts import WordIndex, occurrences

if TYPE_CHECKING:
    from pathlib import Path

    from rom_haystack.modeling import ROMModel
    from training.data.dataset import Question

_CONTRASTS = ("bank", "batch")


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
    """

    contrast: str = "bank"
    anchor_weight: float = 5.0
    positives: int = 1
    hard_negatives: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "contrast", self.contrast in _CONTRASTS, f"one of {', '.join(_CONTRASTS)}")
        require(self, "anchor_weight", self.anchor_weight >= 0, "at least 0")
        require(self, "positives", self.positives >= 1, "at least 1")
        require(self, "hard_negatives", self.hard_negatives >= 0, "at least 0")


class RetrievalTask(QuestionTask):
    """Train the `retrieval` head by contrast.

    In the batch, each query is contrasted with every passage that is drawn for any query (DPR: Karpukhin et al., 2020,
    section 3.2). Each pair of a query and a drawn positive counts as one. A query's other positives, and passages that
    contain one of its answers, count neither for nor against it: all those of the batch or, where the contrast is with
    the bank, those of the query's articles or among its hard negatives.

    The bank, computed once, holds all passages as the untrained encoder saw them. It is contrasted with, and an anchor
    keeps live passages near their place in it, and general skill with them. Frozen and live vectors never meet in one
    softmax: there, telling the two kinds apart would be an easy way to a low loss.
    """

    Options = RetrievalTaskOptions
    options: RetrievalTaskOptions
    head = "retrieval"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._order = list(self.passages.values())
        self._row = {passage.id: row for row, passage in enumerate(self._order)}
        self._with_title = np.random.default_rng((self.seed, 2)).random(len(self._order)) < self.options.title_rate
        self._article = by_title(self._order)
        self._in_bank = self.options.contrast == "bank"
        self._bank = torch.empty(0)

    def prepare(self, model: ROMModel, folder: Path) -> None:
        """Encode the bank of passages, unless a run in this folder already has, or none is needed."""
        if not (self._in_bank or self.options.anchor_weight):
            return
        path = folder / "passage_bank.safetensors"
        if not path.is_file():
            partial = path.with_suffix(".partial")
            save_file({"embeddings": self._encode_all(model)}, partial)
            partial.rename(path)  # an interrupted run leaves no half bank
        self._bank = load_file(path)["embeddings"].to(model.device)
        expected = (len(self._order), model.retrieval_head.dim)
        if self._bank.shape != expected:
            raise DataError(
                f"{path} holds a bank of shape {tuple(self._bank.shape)}; this recipe and data need {expected}. It "
                "belongs to another run: choose another --output, or delete the file."
            )

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
        columns = range(len(self._order)) if self._in_bank else rows
        place = {row: column for column, row in enumerate(columns)}
        ignored = torch.zeros(len(pairs), len(columns), dtype=torch.bool)
        live = None if self._in_bank else WordIndex({row: self._order[row].text for row in rows})
        neutral = [self._neutral(question, live) for question in items]
        for pair, (index, gold) in enumerate(pairs):
            ignored[pair, [place[row] for row in neutral[index] if row in place and row != gold]] = True
        return {
            "queries": tokenize(self.tokenizer, [question.text for question in items], self.options.max_query_length),
            "passages": self._passage_tokens(rows),
            "rows": torch.tensor(rows),
            "asking": torch.tensor([index for index, _ in pairs]),
            "gold": torch.tensor([row for _, row in pairs]),
            "ignored": ignored,
        }

    def loss(self, model: ROMModel, features: Features) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the contrast (with a bank, the mean of both) plus the weighted anchor."""
        queries, passages = (embed(model, features[kind], self.options.chunk_size) for kind in ("queries", "passages"))
        queries = queries[features["asking"]]
        rows, gold, ignored = features["rows"], features["gold"], features["ignored"]
        scores = queries @ passages.T / self.options.temperature
        among = torch.searchsorted(rows, gold)
        loss = contrast(scores, ignored[:, rows] if self._in_bank else ignored, among)
        metrics = {"live_contrast": loss.detach()}
        if self._in_bank:
            scores, among = queries @ self._bank.T / self.options.temperature, gold
            bank_contrast = contrast(scores, ignored, gold)
            metrics["bank_contrast"] = bank_contrast.detach()
            loss = (bank_contrast + loss) / 2
        if self.options.anchor_weight:
            anchor = 1 - functional.cosine_similarity(passages, self._bank[rows]).mean()
            metrics["anchor"] = anchor.detach()
            loss = loss + self.options.anchor_weight * anchor
        hits = scores.masked_fill(ignored, -torch.inf).argmax(-1) == among
        return loss, {**metrics, "recall@1": hits.float().mean()}

    @torch.no_grad()
    def _encode_all(self, model: ROMModel, batch_size: int = 64) -> Tensor:
        was_training = model.training
        model.eval()
        bank = torch.empty(len(self._order), model.retrieval_head.dim)
        order = np.argsort([len(passage.text) for passage in self._order], kind="stable")
        with torch.autocast(model.device.type, torch.bfloat16):
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size].tolist()
                inputs = {name: tensor.to(model.device) for name, tensor in self._passage_tokens(rows).items()}
                bank[rows] = embed(model, inputs).cpu()
        model.train(was_training)
        return bank

    def _draw(self, ids: Sequence[str], count: int, rng: np.random.Generator) -> list[int]:
        return [self._row[ids[i]] for i in rng.permutation(len(ids))[:count]]

    def _neutral(self, question: Question, live: WordIndex | None) -> set[int]:
        """Return the rows of passages that answer a question: its positives, and what holds an answer.

        That is looked for in the batch's passages, or without them in the question's articles and hard negatives.
        """
        positives = {self._row[passage_id] for passage_id in question.positive_ids}
        if live is not None:
            return positives | live.holders(question.answers)
        suspects = {self._row[passage_id] for passage_id in question.hard_negative_ids}
        for title in {self._order[row].title for row in positives}:
            suspects.update(self._row[passage_id] for passage_id in self._article[title])
        return positives | {row for row in suspects if occurrences(question.answers, self._order[row].text)}

    def _passage_tokens(self, rows: Sequence[int]) -> dict[str, Tensor]:
        passages = [(self._order[row], self._with_title[row]) for row in rows]
        texts = [titled(self.tokenizer, passage) if title else passage.text for passage, title in passages]
        return tokenize(self.tokenizer, texts, self.options.max_passage_length)
