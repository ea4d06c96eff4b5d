"""Masked language modelling: find the tokens that were hidden in a passage."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.errors import require
from training.tasks.base import Features, PassageTask, TaskOptions, require_mask_token

if TYPE_CHECKING:
    from rom_haystack.modeling import ROMModel
    from training.data.dataset import Passage

#: Of the chosen tokens, how many are replaced by the mask, and how many by any token; the others stay (Devlin et al.,
#: 2019, section 3.1).
_MASKED, _RANDOM = 0.8, 0.1
#: Label of a token that is not to be found, which torch's cross-entropy passes over.
_NO_LABEL = -100


@dataclass(frozen=True)
class MaskedLMOptions(TaskOptions):
    """Options of `MaskedLMTask`.

    Args:
        max_length: Tokens per passage; of a longer passage one piece is drawn.
        mask_rate: Share of a passage's tokens that are to be found, one at least.
        whole_words: Choose all tokens of a word or none.
    """

    batch_size: int = 16
    max_length: int = 128
    mask_rate: float = 0.15
    whole_words: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "max_length", self.max_length >= 4, "at least 4")
        require(self, "mask_rate", 0 < self.mask_rate < 1, "above 0 and below 1")


class MaskedLMTask(PassageTask):
    """Train the `masked_lm` head as BERT was (Devlin et al., 2019, section 3.1), by whole words if wanted.

    Of the chosen tokens 80% are masked, 10% replaced by any other token, and 10% stay as they are.
    """

    Options = MaskedLMOptions
    options: MaskedLMOptions
    head = "masked_lm"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._mask = self.tokenizer.convert_tokens_to_ids(require_mask_token("masked_lm", self.tokenizer))
        self._ordinary = np.setdiff1d(np.arange(len(self.tokenizer)), self.tokenizer.all_special_ids)

    def collate(self, items: Sequence[Passage], rng: np.random.Generator) -> Features:
        """Tokenise passages and hide some of their tokens; `labels` (`[passages, length]`) holds what they were."""
        encoded = self.tokenizer(
            [passage.text for passage in items],
            truncation=True,
            max_length=self.options.max_length,
            return_overflowing_tokens=True,
        )
        pieces: dict[int, list[int]] = defaultdict(list)
        for piece, sample in enumerate(encoded["overflow_to_sample_mapping"]):
            pieces[sample].append(piece)
        drawn = [pieces[sample][int(rng.integers(len(pieces[sample])))] for sample in range(len(items))]
        model_inputs = [name for name in self.tokenizer.model_input_names if name in encoded]
        batch = self.tokenizer.pad(
            {name: [encoded[name][piece] for piece in drawn] for name in model_inputs}, return_tensors="pt"
        )
        ids = batch["input_ids"].numpy()
        labels = np.full_like(ids, _NO_LABEL)
        for row, piece in enumerate(drawn):
            chosen = self._choose(encoded.word_ids(piece), rng)
            labels[row, chosen] = ids[row, chosen]
            ids[row, chosen] = self._hidden(ids[row, chosen], rng)
        return {"inputs": {**batch, "input_ids": torch.from_numpy(ids)}, "labels": torch.from_numpy(labels)}

    def loss(self, model: ROMModel, features: Features) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean cross-entropy of the chosen tokens."""
        sought = features["labels"] != _NO_LABEL
        logits = model(**features["inputs"], head=self.head, sought=sought)["token_logits"].float()
        labels = features["labels"][sought]
        loss = functional.cross_entropy(logits, labels, reduction="sum") / max(len(labels), 1)
        accuracy = (logits.argmax(-1) == labels).float().sum() / max(len(labels), 1)
        return loss, {"token_loss": loss.detach(), "accuracy": accuracy}

    def _choose(self, words: Sequence[int | None], rng: np.random.Generator) -> list[int]:
        """Choose positions by drawing words, or tokens, until their share is reached; special tokens have no word."""
        units: dict[int, list[int]] = defaultdict(list)
        for position, word in enumerate(words):
            if word is not None:
                units[word if self.options.whole_words else position].append(position)
        wanted = max(1, round(self.options.mask_rate * sum(map(len, units.values()))))
        order, chosen = list(units.values()), list[int]()
        for unit in rng.permutation(len(order)):
            if len(chosen) >= wanted:
                break
            chosen += order[unit]
        return chosen

    def _hidden(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        fate, others = rng.random(len(ids)), rng.choice(self._ordinary, size=len(ids))
        return np.where(fate < _MASKED, self._mask, np.where(fate < _MASKED + _RANDOM, others, ids))
