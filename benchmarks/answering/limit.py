"""Against the limit: what the encoder's arithmetic needs, what the machine could do, and where the rest goes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class Architecture:
    """The size of a transformer encoder.

    Args:
        layers: Number of layers.
        width: Of hidden states.
        inner_width: Of the feed-forward networks.
    """

    layers: int
    width: int
    inner_width: int

    @classmethod
    def of(cls, checkpoint: Path) -> Self:
        """Read it from a ROM checkpoint's folder.

        Raises:
            ValueError: Its encoder is of a family that names its sizes in other words.
        """
        config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["encoder"]
        names = ("num_hidden_layers", "hidden_size", "intermediate_size")
        if any(name not in config for name in names):
            raise ValueError(f"{checkpoint / 'config.json'} lacks one of {', '.join(names)} of its encoder.")
        return cls(*(int(config[name]) for name in names))

    def flops(self, lengths: Iterable[int]) -> int:
        """Count the floating-point operations for inputs of these lengths in tokens, padding and heads left out.

        Per layer, a multiplication and an addition for each weight of the four projections and the two feed-forward
        ones per token, and two products of attention per pair of tokens.
        """
        per_token = 2 * (4 * self.width**2 + 2 * self.width * self.inner_width)
        return sum(self.layers * (length * per_token + 4 * length**2 * self.width) for length in lengths)


def stage_figures(
    stages: Mapping[str, Any], count: int, architecture: Architecture, peak: Mapping[str, float]
) -> dict[str, Any]:
    """Sum up the stages of several questions, or of several documents that were embedded.

    Args:
        stages: What `Service.stages` returned.
        count: How many questions or documents it was.
        architecture: Of the encoder.
        peak: What `peak_flops` returned.

    Returns:
        `ms` and `share` of each stage per question, adding up to the whole; and per `forward` stage, `inputs` and
        `tokens` per question, `gflops` (10^9 operations per second) and `of_peak`, its ratio to the peak by type.
    """
    seconds: dict[str, float] = {}
    for path, value in stages["seconds"].items():
        seconds[_name(path)] = seconds.get(_name(path), 0.0) + value
    whole = sum(seconds.values())
    figures: dict[str, Any] = {
        name: {"ms": 1000 * value / count, "share": value / whole} for name, value in seconds.items()
    }
    for path, lengths in stages["lengths"].items():
        if lengths:
            pace = architecture.flops(lengths) / seconds[_name(path)]
            figures[_name(path)] |= {
                "inputs": len(lengths) / count,
                "tokens": sum(lengths) / count,
                "gflops": pace / 1e9,
                "of_peak": {name: pace / value for name, value in peak.items()},
            }
    return figures


def _name(path: str) -> str:
    """Name a stage by where it belongs and what it is: `whole/read/decode/forward` is `read_forward`."""
    _, *below = path.split("/")
    if not below:
        return "rest"
    return below[0] if len(below) == 1 else f"{below[0]}_{below[-1]}"
