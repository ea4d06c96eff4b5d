"""The loaded model at work: encode queries, encode passages, read pairs."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from rom_haystack.inference.batching import length_bucketed_batches
from rom_haystack.inference.reading import (
    Answer,
    ReadingOptions,
    Window,
    best_answers,
    decode_spans,
    make_answer,
    splits_word,
)
from rom_haystack.modeling import ROMModel

#: Tokens per forward pass, padding counted. Larger batches are no faster on CPUs and only cost memory.
TOKEN_BUDGET = 8192

Tokens = dict[str, list[int]]

_SURROGATE = re.compile("[\ud800-\udfff]")


class ROMEncoder:
    """One model in memory that embeds queries and passages and reads answers; safe to use from several threads.

    Args:
        model: A ROM model, in evaluation mode and on its device.
        tokenizer: Its (fast) tokenizer.
        token_budget: Most tokens per forward pass, padding counted.

    Raises:
        ValueError: The tokenizer can't tell where tokens stand in the text.
    """

    def __init__(
        self, model: ROMModel, tokenizer: PreTrainedTokenizerBase, *, token_budget: int = TOKEN_BUDGET
    ) -> None:
        if not tokenizer.is_fast:
            raise ValueError("The checkpoint's tokenizer has no fast version, so answers would have no offsets.")
        self.model = model
        self.tokenizer = tokenizer
        self.token_budget = token_budget
        self._tokenizer_lock = threading.Lock()  # fast tokenizers keep truncation settings as shared state
        positions = getattr(model.config.encoder, "max_position_embeddings", None) or tokenizer.model_max_length
        # RoBERTa and MPNet count positions from padding_idx + 1
        offset = (model.config.encoder.pad_token_id or 0) + 1 if _counts_from_padding(model) else 0
        self.max_length = int(positions) - offset

    @property
    def embedding_dim(self) -> int:
        """Width of the embeddings."""
        return self.model.retrieval_head.dim

    @property
    def separator(self) -> str:
        """What stands between title and text in a passage (`title [SEP] text`)."""
        return title_separator(self.tokenizer)

    def encode_queries(self, queries: Sequence[str], *, max_length: int = 64, **options: Any) -> NDArray[np.float32]:
        """Embed queries; see `encode_passages` for the options."""
        return self._embed(queries, max_length, **options)

    def encode_passages(self, passages: Sequence[str], *, max_length: int = 256, **options: Any) -> NDArray[np.float32]:
        """Embed passages, written as text or as title, `separator` and text.

        Args:
            passages: Any texts, the empty one included.
            max_length: Tokens per text; what is longer is cut.
            **options: `batch_size` (most texts per forward pass; None for the token budget alone), `truncate_dim`
                (keep the first dimensions), `normalize` (scale to unit length; cosine checkpoints always do),
                `progress` (show a progress bar).

        Returns:
            `[len(passages), dim]` in float32.

        Raises:
            TypeError: A passage is not text, or `passages` is a single text.
        """
        return self._embed(passages, max_length, **options)

    def read(
        self, queries: Sequence[str], passages: Sequence[str], options: ReadingOptions | None = None
    ) -> list[list[Answer]]:
        """Read answers in query-passage pairs, all pairs in one stream of batches.

        Args:
            queries: One query per pair.
            passages: One passage per pair, of any length; long ones are read in overlapping windows.
            options: How to cut, decode and score. Default: `ReadingOptions()`.

        Returns:
            Per pair, its answers, best first; none where the passage has no tokens.

        Raises:
            ValueError: There are not as many queries as passages.
        """
        options = options or ReadingOptions()
        if len(queries) != len(passages):
            raise ValueError(f"{len(queries)} queries for {len(passages)} passages: pairs need as many of both.")
        tokens, windows, pairs = self._windows(queries, passages, options)
        candidates: list[list[Answer]] = [[] for _ in passages]
        for batch in length_bucketed_batches(
            [len(t["input_ids"]) for t in tokens], token_budget=self.token_budget, batch_size=options.max_batch_size
        ):
            outputs = self._forward([tokens[i] for i in batch], "reading")
            start_logits, end_logits, relevance = (
                outputs[name].float().cpu().numpy() for name in ("start_logits", "end_logits", "relevance_logits")
            )
            for row, index in enumerate(batch):
                spans = decode_spans(
                    start_logits[row],
                    end_logits[row],
                    windows[index],
                    max_answer_length=options.max_answer_length,
                    count=4 * options.answers_per_seq,  # overlap removal drops most of them
                )
                passage = passages[pairs[index]]
                answers = (make_answer(passage, windows[index], s, float(relevance[row]), options) for s in spans)
                candidates[pairs[index]] += [answer for answer in answers if answer is not None]
        return [best_answers(found, options) for found in candidates]

    def clip_query(self, query: str, max_length: int) -> str:
        """Cut a query after at most `max_length` tokens."""
        with self._tokenizer_lock:
            return clip_to_tokens(self.tokenizer, query, max_length)

    def _embed(
        self,
        texts: Sequence[str],
        max_length: int,
        *,
        batch_size: int | None = None,
        truncate_dim: int | None = None,
        normalize: bool = False,
        progress: bool = False,
    ) -> NDArray[np.float32]:
        self._check_length(max_length)
        dim = self.embedding_dim
        if truncate_dim is not None and not 1 <= truncate_dim <= dim:
            raise ValueError(
                f"truncate_dim is {truncate_dim}; this checkpoint's embeddings have 1 to {dim} dimensions."
            )
        if isinstance(texts, str):
            raise TypeError("Texts to embed must come as a list, found a single str. Wrap it: [text].")
        wrong = next((type(text) for text in texts if not isinstance(text, str)), None)
        if wrong:
            raise TypeError(f"Texts to embed must be str, found {wrong}.")
        embeddings = np.zeros((len(texts), dim), dtype=np.float32)
        if not len(texts):
            return embeddings[:, :truncate_dim]
        with self._tokenizer_lock:
            encoded = self.tokenizer(
                [_tokenizable(text) for text in texts], truncation=True, max_length=max_length, verbose=False
            )
        tokens = [{name: encoded[name][i] for name in self._inputs(encoded)} for i in range(len(texts))]
        batches = length_bucketed_batches(
            [len(t["input_ids"]) for t in tokens], token_budget=self.token_budget, batch_size=batch_size
        )
        with tqdm(total=len(texts), desc="Embedding", unit="text", disable=not progress) as bar:
            for batch in batches:
                outputs = self._forward([tokens[i] for i in batch], "retrieval")
                embeddings[batch] = outputs["embedding"].float().cpu().numpy()
                bar.update(len(batch))
        embeddings = embeddings[:, :truncate_dim]
        if normalize or (truncate_dim and self.model.retrieval_head.similarity == "cosine"):
            embeddings /= np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
        return embeddings

    def _windows(
        self, queries: Sequence[str], passages: Sequence[str], options: ReadingOptions
    ) -> tuple[list[Tokens], list[Window], list[int]]:
        self._check_length(options.max_seq_length)
        readable = [i for i, passage in enumerate(passages) if passage.strip()]
        if not readable:
            return [], [], []
        clipped = {query: self.clip_query(_tokenizable(query), options.max_query_length) for query in set(queries)}
        with self._tokenizer_lock:
            encoded = self.tokenizer(
                [clipped[queries[i]] for i in readable],
                [_tokenizable(passages[i]) for i in readable],
                truncation="only_second",
                max_length=options.max_seq_length,
                stride=options.stride,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
                verbose=False,
            )
        names = self._inputs(encoded)
        count = len(encoded["input_ids"])
        tokens = [{name: encoded[name][w] for name in names} for w in range(count)]
        pairs = [readable[i] for i in encoded["overflow_to_sample_mapping"]]
        windows = [_window(encoded.encodings[w], passages[pairs[w]]) for w in range(count)]
        return tokens, windows, pairs

    @torch.inference_mode()
    def _forward(self, batch: list[Tokens], head: str) -> dict[str, Tensor]:
        longest = max(len(tokens["input_ids"]) for tokens in batch)
        padding = {"input_ids": self.tokenizer.pad_token_id or 0}
        inputs = {
            name: torch.tensor([t[name] + [padding.get(name, 0)] * (longest - len(t[name])) for t in batch])
            for name in batch[0]
        }
        outputs: dict[str, Tensor] = self.model(
            **{name: tensor.to(self.model.device) for name, tensor in inputs.items()}, head=head
        )
        return outputs

    def _inputs(self, encoded: Any) -> list[str]:
        wanted = ("input_ids", "attention_mask", "token_type_ids")
        return [name for name in wanted if name in encoded]

    def _check_length(self, length: int) -> None:
        if not 1 < length <= self.max_length:
            raise ValueError(
                f"A length of {length} tokens was asked for; this checkpoint takes 2 to {self.max_length}."
            )


def clip_to_tokens(tokenizer: PreTrainedTokenizerBase, text: str, limit: int) -> str:
    """Cut a text after at most `limit` tokens, never inside a character (byte-level tokens may end there)."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    offsets, kept = encoded["offset_mapping"], limit
    if len(offsets) <= limit:
        return text
    while kept and offsets[kept - 1][1] > offsets[kept][0]:
        kept -= 1
    return text[: offsets[kept - 1][1]] if kept else ""


def title_separator(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return what stands between title and text: the tokenizer's own separator, else a blank."""
    return f" {tokenizer.sep_token} " if tokenizer.sep_token else " "


def _tokenizable(text: str) -> str:
    """Replace lone surrogates, which no tokenizer takes, one for one, so that offsets stay true."""
    return _SURROGATE.sub("\ufffd", text)


def _window(encoding: Any, passage: str) -> Window:
    """Mark the passage's tokens, and among them those that begin and end words."""
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    inside = np.array([sequence == 1 for sequence in encoding.sequence_ids], dtype=np.bool_)
    inside &= offsets[:, 0] < offsets[:, 1]
    may_start, may_end = inside.copy(), inside.copy()
    for token in np.flatnonzero(inside):
        may_start[token] = not splits_word(passage, int(offsets[token, 0]))
        may_end[token] = not splits_word(passage, int(offsets[token, 1]))
    return Window(offsets, may_start, may_end)


def _counts_from_padding(model: ROMModel) -> bool:
    return model.config.encoder.model_type in {"roberta", "xlm-roberta", "camembert", "mpnet"}
