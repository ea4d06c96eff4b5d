"""What the engines of exported graphs have in common: their inputs, padded, and their outputs, trimmed."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rom_haystack.inference.backends.base import Head, Outputs, TokenIds
from rom_haystack.inference.batching import padded_length
from rom_haystack.inference.facts import ModelFacts
from rom_haystack.modeling.errors import MissingHeadError

#: Names of a head's outputs in a graph, by their names in `Outputs`. Exporters choke on an output named `embedding`.
GRAPH_OUTPUTS: dict[Head, dict[str, str]] = {
    "retrieval": {"embedding": "vector"},
    "reading": {name: name for name in ("start_logits", "end_logits", "relevance_logits")},
}


def graph_inputs(tokens: TokenIds, facts: ModelFacts) -> dict[str, NDArray[np.int64]]:
    """Return a graph's inputs for one text or pair: `[1, padded length]` each.

    Padding follows from the input's own length alone, so that its outputs never depend on what else is run.

    Raises:
        ValueError: The input is longer than the model takes; engines don't check, and would read past their tables.
    """
    length = len(tokens)
    if length > facts.max_length:
        raise ValueError(f"An input has {length} tokens; this model takes up to {facts.max_length}.")
    padded = padded_length(length, facts.max_length)
    inputs = {
        "input_ids": np.full((1, padded), facts.pad_token_id, dtype=np.int64),
        "attention_mask": np.zeros((1, padded), dtype=np.int64),
    }
    inputs["input_ids"][0, :length] = tokens.input_ids
    inputs["attention_mask"][0, :length] = 1
    if facts.uses_token_types:
        inputs["token_type_ids"] = np.zeros((1, padded), dtype=np.int64)
        inputs["token_type_ids"][0, :length] = tokens.token_type_ids
    return inputs


def head_outputs(graph: Mapping[str, NDArray[np.float32]], head: Head, length: int, facts: ModelFacts) -> Outputs:
    """Copy one head's outputs of one input out of what a graph gave, without the padding."""
    if head == "reading":
        return {
            "start_logits": graph["start_logits"][0, :length].copy(),
            "end_logits": graph["end_logits"][0, :length].copy(),
            "relevance_logits": np.array(graph["relevance_logits"][0]),
        }
    embedding = graph["vector"][0].copy()
    if facts.similarity == "cosine":  # low precision leaves the length a little off
        embedding /= max(float(np.linalg.norm(embedding)), 1e-12)
    return {"embedding": embedding}


def check_head(available: set[str], head: Head) -> None:
    """Check that a graph gives a head's outputs.

    Raises:
        MissingHeadError: It does not.
    """
    if not available.issuperset(GRAPH_OUTPUTS[head].values()):
        heads = ", ".join(name for name, outputs in GRAPH_OUTPUTS.items() if available.issuperset(outputs.values()))
        raise MissingHeadError(f"This graph has no head '{head}', only: {heads}.")


def check_process(loaded_in: int) -> None:
    """Check that an engine runs in the process that loaded it: the threads of an engine do not survive a fork.

    Args:
        loaded_in: Id of the process that loaded the engine.

    Raises:
        RuntimeError: This is another process, where the engine would wait for its threads for ever.
    """
    if os.getpid() != loaded_in:
        raise RuntimeError(
            "This encoder was loaded before the process was forked, and its threads stayed behind. Load it in the "
            "worker, or start workers by 'spawn'."
        )
