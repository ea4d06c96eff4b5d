"""The stages of ROM's work, timed by wrapping its methods."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.answering.stopwatch import Stopwatch
from rom_haystack import ROMExtractiveReader, ROMTextEmbedder, SQLiteFAISSEmbeddingRetriever
from rom_haystack.inference import ROMEncoder
from rom_haystack.inference.backends.base import Backend, TokenIds
from rom_haystack.inference.tokenization import TextTokenizer


def watch_rom(stopwatch: Stopwatch) -> None:
    """Time the stages of every question from now on; engines and components must have been loaded.

    Stages: `embed` (a query), `search`, and `read`; in them `tokenise`, `forward` (the engine, with the lengths of its
    inputs in tokens), and `decode` (spans to quotes, within `read`). What is left of `read` is ranking and describing
    the answers.
    """
    for method in ("run", "run_batch"):
        stopwatch.watch(ROMTextEmbedder, method, "embed")
        stopwatch.watch(ROMExtractiveReader, method, "read")
    stopwatch.watch(SQLiteFAISSEmbeddingRetriever, "run", "search")
    stopwatch.watch(ROMEncoder, "read", "decode")
    for method in ("singles", "pairs"):
        stopwatch.watch(TextTokenizer, method, "tokenise")
    for engine in Backend.__subclasses__():
        stopwatch.watch(engine, "run", "forward", _lengths)


def _lengths(_: Backend, inputs: Sequence[TokenIds], *__: object, **___: object) -> list[int]:
    return [len(tokens) for tokens in inputs]
