"""What precomputed reading saves and costs: operations, time and disk."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from benchmarks.precomputed.quality import BEST_SCHEME, at_layers
from benchmarks.precomputed.split import SplitModel
from benchmarks.precomputed.storage import StateFile, Stored, bytes_per_token
from benchmarks.precomputed.stored import StoredReader
from rom_haystack.modeling import ROMModel

#: Bytes per document of `SQLiteFAISSDocumentStore` at 100,000 documents (docs/document-store.md).
STORE_BYTES = 2120


@dataclass(frozen=True)
class Work:
    """One question to be timed.

    Attributes:
        query: Its tokens.
        rows: Numbers of the passages to read.
        passages: Their tokens.
    """

    query: Sequence[int]
    rows: Sequence[int]
    passages: Sequence[Sequence[int]]


_PRECISIONS: tuple[Stored, ...] = ("float16", "int8")


def operations(config: PretrainedConfig, layers: int, *, query: int, passage: int, passages: int) -> float:
    """Count floating-point operations of the encoder for one query, two per multiplication and addition.

    Args:
        config: The BERT's configuration.
        layers: Number of split layers; 0 for ordinary reading.
        query: Tokens of the query, [CLS] and [SEP] included.
        passage: Tokens of each passage, [SEP] included.
        passages: Number of passages; the split part of the query is computed once for all.
    """

    def layer(tokens: int) -> float:
        width, inner = int(config.hidden_size), int(config.intermediate_size)
        return 2 * tokens * (4 * width**2 + 2 * width * inner) + 4 * tokens**2 * width

    above = int(config.num_hidden_layers) - layers
    return passages * above * layer(query + passage) + layers * layer(query)


def storage(tokens: Sequence[int], hidden_size: int) -> dict[str, Any]:
    """Work out the disk space of stored states.

    Args:
        tokens: Tokens of each passage, [SEP] included.
        hidden_size: Width of a state.

    Returns:
        `tokens` per passage on average; by precision, `bytes_per_passage`, `gb_per_100000` passages and `times_store`,
        the multiple of what the document store takes for all.
    """
    mean = float(np.mean(tokens))
    sizes = {precision: mean * bytes_per_token(hidden_size, precision) for precision in _PRECISIONS}
    return {"tokens": round(mean, 1)} | {
        precision: {
            "bytes_per_passage": round(size),
            "gb_per_100000": round(size * 100_000 / 1e9, 2),
            "times_store": round(size / STORE_BYTES, 1),
        }
        for precision, size in sizes.items()
    }


def passage_tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], limit: int = 320) -> list[list[int]]:
    """Tokenise passages as they stand in pairs, with [SEP] behind."""
    return [ids[1:] for ids in tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"]]


def reading_times(
    model: ROMModel, tokenizer: PreTrainedTokenizerBase, work: Sequence[Work], layers: Sequence[int]
) -> dict[str, Any]:
    """Time reading, each pair alone, with states in memory; all variants in turn for each question.

    Args:
        model: The model, in the type to be timed.
        tokenizer: Its tokenizer.
        work: What to read.
        layers: Numbers of split layers to time.

    Returns:
        Median milliseconds per question: `all layers`, and `upper layers` by number of split layers. `ratio`: by number
        of split layers, the median over questions of all layers' time over upper layers'.
    """
    readers = {n: StoredReader(SplitModel(model, tokenizer, at_layers(BEST_SCHEME, n)).eval()) for n in layers}
    spent: dict[int, list[float]] = defaultdict(list)
    for turn, item in enumerate(work):
        variants: dict[int, Callable[[], Any]] = {0: partial(_read_whole, model, item.query, item.passages)}
        for n, reader in readers.items():
            states = [reader.passage_states(passage) for passage in item.passages]
            variants[n] = partial(reader.read, item.query, states)
        order = [*variants][turn % len(variants) :] + [*variants][: turn % len(variants)]
        for n in order:
            spent[n].append(_milliseconds(variants[n]))
    return {
        "all layers": round(median(spent[0]), 2),
        "upper layers": {str(n): round(median(spent[n]), 2) for n in layers},
        "ratio": {
            str(n): round(median(whole / upper for whole, upper in zip(spent[0], spent[n], strict=True)), 2)
            for n in layers
        },
    }


def loading_times(
    reader: StoredReader, passages: Sequence[Sequence[int]], work: Sequence[Work], folder: Path
) -> dict[str, dict[str, float]]:
    """Time reading states from disk into float32 tensors.

    Args:
        reader: What computes the states.
        passages: Tokens of all passages in the file.
        work: Whose passages are loaded.
        folder: Where the files are written, to be deleted in the end.

    Returns:
        By precision, median milliseconds per question: `warm`, from the page cache, and `cold`, from the disk.
    """
    states = [reader.passage_states(ids).float() for ids in passages]
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        files = {precision: StateFile(Path(place) / precision, states, precision) for precision in _PRECISIONS}
        for precision, file in files.items():
            cold, warm = [], []
            for item in work:
                file.drop_from_cache()
                cold.append(_milliseconds(partial(file.read, item.rows)))
                warm.append(_milliseconds(partial(file.read, item.rows)))
            found[precision] = {"warm": round(median(warm), 2), "cold": round(median(cold), 2)}
    return found


def draw_work(
    queries: Sequence[Sequence[int]], passages: Sequence[Sequence[int]], *, count: int, seed: int
) -> list[Work]:
    """Give each query `count` passages, drawn by `seed`."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(len(passages), count, replace=False).tolist() for _ in queries]
    return [Work(query, numbers, [passages[n] for n in numbers]) for query, numbers in zip(queries, rows, strict=True)]


@torch.inference_mode()
def _read_whole(model: ROMModel, query: Sequence[int], passages: Sequence[Sequence[int]]) -> list[dict[str, Tensor]]:
    read = []
    for passage in passages:
        ids = torch.tensor([[*query, *passage]])
        segments = (torch.arange(ids.shape[1]) >= len(query)).long()[None]
        read.append(model(ids, torch.ones_like(ids), segments, head="reading"))
    return read


def _milliseconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)
