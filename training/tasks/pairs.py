"""Query-passage pairs with answer spans: how they become features of the `reading` head, and its loss."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rom_haystack.inference.tokenization import clip, splits_word
from rom_haystack.metrics import answer_tokens, has_answer
from training.errors import require
from training.tasks.base import Features, TaskOptions
from training.tasks.chunks import chunks_by_length

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

    from rom_haystack.modeling import ROMModel
    from training.data.dataset import Passage

#: At most as many stand around and between a query and a passage.
_SPECIAL_TOKENS = 4
#: Passages that are looked at for one without the answer.
_TRIES = 4


@dataclass(frozen=True)
class WindowOptions(TaskOptions):
    """Options of tasks that read pairs in windows.

    Args:
        max_length: Tokens per pair; longer passages are cut into windows.
        stride: Tokens that neighbouring windows share.
        max_query_length: Tokens of the query that are kept.
    """

    max_length: int = 320
    stride: int = 64
    max_query_length: int = 48

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "max_query_length", self.max_query_length >= 1, "at least 1")
        least = self.max_query_length + _SPECIAL_TOKENS + 1
        limit = (
            f"at least {least}, so that 'max_query_length' ({self.max_query_length}), {_SPECIAL_TOKENS} special tokens "
            "and a token of the passage have room"
        )
        require(self, "max_length", self.max_length >= least, limit)
        room = self.max_length - self.max_query_length - _SPECIAL_TOKENS
        limit = (
            f"at least 0 and below {room}, the tokens that 'max_length' ({self.max_length}) and 'max_query_length' "
            f"({self.max_query_length}) leave to a passage"
        )
        require(self, "stride", 0 <= self.stride < room, limit)


@dataclass(frozen=True)
class PairOptions(WindowOptions):
    """Options of tasks that learn to read pairs, one window of each.

    Args:
        negative_rate: Share of pairs whose passage is replaced by one without the answer, of the same article; a hard
            negative of the question where the data names some. A pair keeps its passage where a few draws find none,
            and where the passage has no title and so belongs to no article.
        relevance_weight: Weight of the passage-relevance loss beside the span loss.
        chunk_size: Pairs that are encoded at once, those of similar length together, so that little is padded; None for
            all of a batch. On CPUs chunks of 8 or so are faster, on GPUs none.
    """

    negative_rate: float = 0.2
    relevance_weight: float = 0.5
    chunk_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "negative_rate", 0 <= self.negative_rate <= 1, "from 0 to 1")
        require(self, "relevance_weight", self.relevance_weight >= 0, "at least 0")
        require(self, "chunk_size", self.chunk_size is None or self.chunk_size >= 1, "at least 1")


def pair_features(
    tokenizer: PreTrainedTokenizerBase,
    options: PairOptions,
    queries: Sequence[str],
    texts: Sequence[str],
    answers: Sequence[Sequence[tuple[int, int]]],
    rng: np.random.Generator,
) -> Features:
    """Tokenise pairs and mark the answers' tokens, or the null position.

    Args:
        tokenizer: The encoder's tokenizer.
        options: How long pairs may be.
        queries: A query per pair.
        texts: A passage's text per pair; of a long one, a window that holds an answer is taken, else any.
        answers: Per pair where answers stand in the passage's text, as character offsets `(start, end)`; without any,
            the target is the null position.
        rng: Draws windows.

    Returns:
        `inputs` of the model; `targets` (`[2, pairs, length]`, where answers start and end), `allowed`
        (`[pairs, length]`, the passage's tokens and the null position) and `relevant` (`[pairs]`, 1 with an answer).
    """
    encoded = encode_pairs(tokenizer, options, queries, texts)
    windows, spans = [], []
    for found, places in zip(windows_of(encoded), answers, strict=True):
        window, spans_inside = _window_with(encoded, found, places, rng)
        windows.append(window)
        spans.append(spans_inside)
    inputs, allowed = window_inputs(tokenizer, encoded, windows)
    targets = torch.zeros(2, *allowed.shape, dtype=torch.bool)
    for row, row_spans in enumerate(spans):
        for start, end in row_spans or [(0, 0)]:
            targets[0, row, start] = targets[1, row, end] = True
    relevant = torch.tensor([float(bool(row_spans)) for row_spans in spans])
    return {"inputs": inputs, "targets": targets, "allowed": allowed, "relevant": relevant}


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase, options: WindowOptions, queries: Sequence[str], texts: Sequence[str]
) -> BatchEncoding:
    """Tokenise pairs of a query and a passage's text; of a long passage there are several windows."""
    return tokenizer(
        [clip_to_tokens(tokenizer, query, options.max_query_length) for query in queries],
        list(texts),
        truncation="only_second",
        max_length=options.max_length,
        stride=options.stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )


def windows_of(encoded: BatchEncoding) -> list[list[int]]:
    """Return for each pair the numbers of its windows."""
    windows: dict[int, list[int]] = defaultdict(list)
    for window, pair in enumerate(encoded["overflow_to_sample_mapping"]):
        windows[pair].append(window)
    return [windows[pair] for pair in range(len(windows))]


def window_inputs(
    tokenizer: PreTrainedTokenizerBase, encoded: BatchEncoding, windows: Sequence[int]
) -> tuple[dict[str, Tensor], Tensor]:
    """Turn windows into inputs of the model.

    Returns:
        The inputs, and what may start and end answers (`[windows, length]`): the passage's tokens and the null
        position, which is the first.
    """
    model_inputs = [name for name in tokenizer.model_input_names if name in encoded]
    batch = tokenizer.pad({name: [encoded[name][w] for w in windows] for name in model_inputs}, return_tensors="pt")
    allowed = torch.zeros(batch["input_ids"].shape, dtype=torch.bool)
    for row, window in enumerate(windows):
        allowed[row, passage_positions(encoded, window)] = True
    allowed[:, 0] = True
    return dict(batch), allowed


def passage_positions(encoded: BatchEncoding, window: int) -> list[int]:
    """Return where a window's passage tokens stand in it."""
    return [position for position, sequence in enumerate(encoded.sequence_ids(window)) if sequence == 1]


def read_pairs(model: ROMModel, inputs: dict[str, Tensor], chunk_size: int | None) -> dict[str, Tensor]:
    """Return what the reading head says of pairs, computed chunk by chunk; beyond a chunk's length logits are 0."""
    if chunk_size is None:
        read: dict[str, Tensor] = model(**inputs, head="reading")
        return read
    order, parts = [], defaultdict(list)
    for rows, columns, chunk in chunks_by_length(inputs, chunk_size):
        order.append(rows)
        for name, values in model(**chunk, head="reading").items():
            if values.dim() == 2:
                whole = values.new_zeros(len(rows), len(columns))
                whole[:, columns] = values
                parts[name].append(whole)
            else:
                parts[name].append(values)
    back = torch.cat(order).argsort()
    return {name: torch.cat(values)[back] for name, values in parts.items()}


def pair_loss(
    model: ROMModel, features: Features, relevance_weight: float, chunk_size: int | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return span loss plus weighted relevance loss of `pair_features`, and both as metrics.

    Every occurrence of an answer is right: the loss sums their probabilities (marginal likelihood, Clark and Gardner,
    2018, section 3.2).
    """
    outputs = read_pairs(model, features["inputs"], chunk_size)
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
    """Draw the text of a passage that holds none of the answers, out of some ids; None if a few draws find none.

    What holds an answer is decided as the metric of retrieval does, case aside.
    """
    for other in rng.choice(len(others), min(_TRIES, len(others)), replace=False):
        text = passages[others[other]].text
        if not has_answer(answer_tokens(text), answers):
            return text
    return None


def clip_to_tokens(tokenizer: PreTrainedTokenizerBase, text: str, limit: int) -> str:
    """Cut a text after at most `limit` tokens, never inside a character."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return clip(text, encoded["offset_mapping"], limit)


def clip_before(tokenizer: PreTrainedTokenizerBase, text: str, place: int, limit: int) -> str:
    """Cut whole words off a text's front where `place` is not in its first `limit` tokens, to bring it to their middle.

    Args:
        tokenizer: The encoder's tokenizer.
        text: Any text.
        place: Character that has to stay.
        limit: Tokens of the text that will be kept, from its front.

    Returns:
        The text, or its end, in which `place` stands about in the middle of the first `limit` tokens, or further back
        where fewer follow.
    """
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    at = next(i for i, (_, end) in enumerate(offsets) if end > place)
    if at < limit:
        return text
    first = min(at - limit // 2, len(offsets) - limit)
    fronts = (start for start, _ in offsets[first:at] if start <= place and not splits_word(text, start))
    return text[next(fronts, place) :].lstrip()


def _window_with(
    encoded: BatchEncoding, windows: Sequence[int], characters: Sequence[tuple[int, int]], rng: np.random.Generator
) -> tuple[int, list[tuple[int, int]]]:
    """Choose the first window that holds an answer, else any, and return it with the answers' tokens."""
    found = [(window, _token_spans(encoded, window, characters)) for window in windows]
    drawn = found[int(rng.integers(len(found)))]
    return next(((window, spans) for window, spans in found if spans), drawn)


def _token_spans(encoded: BatchEncoding, window: int, characters: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    offsets = encoded["offset_mapping"][window]
    inside = passage_positions(encoded, window)
    spans = []
    for start, end in characters:
        first = next((i for i in inside if offsets[i][0] <= start < offsets[i][1]), None)
        last = next((i for i in inside if offsets[i][0] < end <= offsets[i][1]), None)
        if first is not None and last is not None:
            spans.append((first, last))
    return spans
