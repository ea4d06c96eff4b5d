"""Retrieval: bring a query's vector near its passage's, among all passages of the training set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from rom_haystack.inference.facts import title_separator
from training.errors import DataError
from training.tasks.base import Features, Task, TaskOptions
from training.tasks.reading import occurrences

if TYPE_CHECKING:
    from pathlib import Path

    from rom_haystack.modeling import ROMModel
    from training.data.dataset import Passage, Question


@dataclass(frozen=True)
class RetrievalTaskOptions(TaskOptions):
    """Options of `RetrievalTask`.

    Args:
        max_query_length: Tokens per query.
        max_passage_length: Tokens per passage.
        temperature: Divisor of the similarities in the softmax.
        anchor_weight: Weight of the loss that keeps passage vectors where the untrained encoder put them.
        title_rate: Share of passages that are encoded with their title in front.
    """

    batch_size: int = 16
    max_query_length: int = 48
    max_passage_length: int = 256
    temperature: float = 0.05
    anchor_weight: float = 5.0
    title_rate: float = 0.5


class RetrievalTask(Task):
    """Train the `retrieval` head by contrast against every training passage.

    A bank, computed once, holds all passages as the untrained encoder saw them. Each query is contrasted with the whole
    bank (all hard negatives of its article among them) and with the live passages of its batch; an anchor keeps live
    passages near their place in the bank, and general skill with them. Frozen and live vectors never meet in one
    softmax: there, telling the two kinds apart would be an easy way to a low loss. Of several positives each batch
    draws one. The others, and passages of the query's article or among its hard negatives that contain its answer,
    count neither for nor against it.
    """

    Options = RetrievalTaskOptions
    options: RetrievalTaskOptions

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._order = list(self.passages.values())
        self._row = {passage.id: row for row, passage in enumerate(self._order)}
        self._with_title = np.random.default_rng((self.seed, 2)).random(len(self._order)) < self.options.title_rate
        self._article: dict[str, list[int]] = defaultdict(list)
        for row, passage in enumerate(self._order):
            self._article[passage.title].append(row)
        self._bank = torch.empty(0)

    def prepare(self, model: ROMModel, folder: Path) -> None:
        """Encode the bank of passages, unless a run in this folder already has."""
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

    def collate(self, questions: Sequence[Question], rng: np.random.Generator) -> Features:
        """Tokenise queries and one positive of each, and mark passages that count neither for nor against them."""
        positives = [[self._row[passage_id] for passage_id in question.positive_ids] for question in questions]
        gold = [rows[int(rng.integers(len(rows)))] for rows in positives]
        rows = sorted(set(gold))
        ignored = torch.zeros(len(questions), len(self._order), dtype=torch.bool)
        for index, question in enumerate(questions):
            suspects = {self._row[passage_id] for passage_id in question.hard_negative_ids}
            for row in positives[index]:
                suspects.update(self._article[self._order[row].title])
            ignored[index, positives[index]] = True
            for row in suspects:
                if occurrences(question.answers, self._order[row].text):
                    ignored[index, row] = True
            ignored[index, gold[index]] = False
        queries = [question.text for question in questions]
        return {
            "queries": self._tokens(queries, self.options.max_query_length),
            "passages": self._passage_tokens(rows),
            "rows": torch.tensor(rows),
            "gold": torch.tensor(gold),
            "ignored": ignored,
        }

    def loss(self, model: ROMModel, features: Features) -> tuple[Tensor, dict[str, float]]:
        """Return the mean of both contrasts plus the weighted anchor."""
        queries = model(**features["queries"], head="retrieval")["embedding"].float()
        passages = model(**features["passages"], head="retrieval")["embedding"].float()
        rows, gold, ignored = features["rows"], features["gold"], features["ignored"]
        bank_scores = (queries @ self._bank.T / self.options.temperature).masked_fill(ignored, -torch.inf)
        live_scores = queries @ passages.T / self.options.temperature
        live_scores = live_scores.masked_fill(ignored[:, rows], -torch.inf)
        bank_contrast = functional.cross_entropy(bank_scores, gold)
        live_contrast = functional.cross_entropy(live_scores, torch.searchsorted(rows, gold))
        anchor = 1 - functional.cosine_similarity(passages, self._bank[rows]).mean()
        loss = (bank_contrast + live_contrast) / 2 + self.options.anchor_weight * anchor
        hits = (bank_scores.argmax(-1) == gold).float().mean()
        return loss, {
            "bank_contrast": bank_contrast.item(),
            "live_contrast": live_contrast.item(),
            "anchor": anchor.item(),
            "recall@1": hits.item(),
        }

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
                bank[rows] = model(**inputs, head="retrieval")["embedding"].float().cpu()
        model.train(was_training)
        return bank

    def _passage_tokens(self, rows: Sequence[int]) -> dict[str, Tensor]:
        texts = [self._passage_text(self._order[row], bool(self._with_title[row])) for row in rows]
        return self._tokens(texts, self.options.max_passage_length)

    def _passage_text(self, passage: Passage, with_title: bool) -> str:
        separator = title_separator(self.tokenizer)
        return f"{passage.title}{separator}{passage.text}" if with_title and passage.title else passage.text

    def _tokens(self, texts: list[str], max_length: int) -> dict[str, Tensor]:
        return dict(self.tokenizer(texts, truncation=True, max_length=max_length, padding=True, return_tensors="pt"))
