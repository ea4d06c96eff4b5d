"""Query-passage pairs with answer spans: how they become features of the `reading` head, and its loss."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rom_haystack.inference.tokenization import clip
from training.errors import require
from training.tasks.base import Features, TaskOptions
from training.tasks.texts import occurrences

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rom_haystack.modeling import ROMModel
    from training.data.dataset import Passage

#: At most as many stand around and between a query and a passage.
_SPECIAL_TOKENS = 4
#: Passages that are looked at for one without the answer.
_TRIES = 4


@dataclass(frozen=True)
class PairOptions(TaskOptions):
    """Options of tasks that read pairs.

    Args:
        max_length: Tokens per pair; longer passages are cut into windows and one window is used.
        stride: Tokens that neighbouring windows share.
        max_query_length: Tokens of the query that are kept.
        negative_rate: Share of pairs whose passage is replaced by one without the answer, of the same article; a hard
            negative of the question where the data names some.
        relevance_weight: Weight of the passage-relevance loss beside the span loss.
    """

    max_length: int = 320
    stride: int = 64
    max_query_length: int = 48
    negative_rate: float = 0.2
    relevance_weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        room = self.max_length - self.max_query_length - _SPECIAL_TOKENS
        limit = (
            f"at least 0 and below {room}, the tokens that 'max_length' ({self.max_length}) and 'max_query_length' "
            f"({self.max_query_length}) leave to a passage"
        )
        require(self, "stride", 0 <= self.stride < room, limit)
        require(self, "negative_rate", 0 <= self.negative_rate <= 1, "from 0 to 1")
        require(self, "relevance_weight", self.relevance_weight >= 0, "at least 0")


def pair_features(
    tokenizer: PreTrainedTokenizerBase,
    options: PairOptions,
    queries: Sequence[str],
    texts: Sequence[str],
    answers: Sequence[Sequence[str]],
    rng: np.random.Generator,
) -> Features:
    """Tokenise pairs and mark the answers' tokens, or the null position.

    Args:
        tokenizer: The encoder's tokenizer.
        options: How long pairs may be.
        queries: A query per pair.
        texts: A passage's text per pair; of a long one, a window that holds an answer is taken, else any.
        answers: Per pair the texts that answer the query; where none stands in the passage, the target is the null
            position.
        rng: Draws windows.

    Returns:
        `inputs` of the model; `targets` (`[2, pairs, length]`, where answers start and end), `allowed`
        (`[pairs, length]`, the passage's tokens and the null position) and `relevant` (`[pairs]`, 1 with an answer).
    """
    encoded = tokenizer(
        [clip_to_tokens(tokenizer, query, options.max_query_length) for query in queries],
        list(texts),
        truncation="only_second",
        max_length=options.max_length,
        stride=options.stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    windows: dict[int, list[int]] = defaultdict(list)
    for window, sample in enumerate(encoded["overflow_to_sample_mapping"]):
        windows[sample].append(window)
    chosen, spans = [], []
    for sample, text in enumerate(texts):
        characters = occurrences(answers[sample], text)
        found = [(w, _token_spans(encoded, w, characters)) for w in windows[sample]]
        window, spans_inside = next(((w, s) for w, s in found if s), found[int(rng.integers(len(found)))])
        chosen.append(window)
        spans.append(spans_inside)
    model_inputs = [name for name in tokenizer.model_input_names if name in encoded]
    batch = tokenizer.pad({name: [encoded[name][w] for w in chosen] for name in model_inputs}, return_tensors="pt")
    targets = torch.zeros(2, *batch["input_ids"].shape, dtype=torch.bool)
    for row, row_spans in enumerate(spans):
        for start, end in row_spans or [(0, 0)]:
            targets[0, row, start] = targets[1, row, end] = True
    allowed = torch.zeros(batch["input_ids"].shape, dtype=torch.bool)
    for row, window in enumerate(chosen):
        sequence_ids = encoded.sequence_ids(window)
        allowed[row, : len(sequence_ids)] = torch.tensor([s == 1 for s in sequence_ids])
    allowed[:, 0] = True  # the null position
    relevant = torch.tensor([float(bool(row_spans)) for row_spans in spans])
    return {"inputs": dict(batch), "targets": targets, "allowed": allowed, "relevant": relevant}


def pair_loss(model: ROMModel, features: Features, relevance_weight: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Return span loss plus weighted relevance loss of `pair_features`, and both as metrics.

    Every occurrence of an answer is right: the loss sums their probabilities (marginal likelihood, Clark and Gardner,
    2018, section 3.2).
    """
    outputs = model(**features["inputs"], head="reading")
    span_loss = outputs["start_logits"].new_zeros(())
    for side, target in zip(("start_logits", "end_logits"), features["targets"], strict=True):
        logits = outputs[side].float().masked_fill(~features["allowed"], -torch.inf)
        gold = logits.masked_fill(~target, -torch.inf)
        span_loss = span_loss + (logits.logsumexp(-1) - gold.logsumexp(-1)).mean() / 2
    relevance_loss = functional.binary_cross_entropy_with_logits(
        outputs["relevance_logits"].float(), features["relevant"]
    )
    loss = span_loss + relevance_weight * relevance_loss
    return loss, {"span_loss": span_loss.detach(), "relevance_loss": relevance_loss.detach()}


def text_without(
    answers: Sequence[str], others: Sequence[str], passages: Mapping[str, Passage], rng: np.random.Generator
) -> str | None:
    """Draw the text of a passage that holds none of the answers, out of some ids; None if a few draws find none."""
    for other in rng.permutation(len(others))[:_TRIES]:
        text = passages[others[other]].text
        if not occurrences(answers, text):
            return text
    return None


def clip_to_tokens(tokenizer: PreTrainedTokenizerBase, text: str, limit: int) -> str:
    """Cut a text after at most `limit` tokens, never inside a character."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return clip(text, encoded["offset_mapping"], limit)


def _token_spans(encoded: Any, window: int, characters: list[tuple[int, int]]) -> list[tuple[int, int]]:
    offsets = encoded["offset_mapping"][window]
    sequence_ids = encoded.sequence_ids(window)
    inside = [i for i, s in enumerate(sequence_ids) if s == 1]
    spans = []
    for start, end in characters:
        first = next((i for i in inside if offsets[i][0] <= start < offsets[i][1]), None)
        last = next((i for i in inside if offsets[i][0] < end <= offsets[i][1]), None)
        if first is not None and last is not None:
            spans.append((first, last))
    return spans
