"""The interface of inference engines: token ids in, outputs of one head out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Head = Literal["retrieval", "reading"]

#: What a head says of one input, in float32 and without padding. `retrieval`: `embedding` (`[dim]`). `reading`:
#: `start_logits` and `end_logits` (`[length]`) and `relevance_logits` (`[]`).
Outputs = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class TokenIds:
    """One input as the model takes it, special tokens included: a query, a passage or a pair.

    Attributes:
        input_ids: `[length]`, without padding.
        token_type_ids: `[length]` segment ids; zeros where the encoder has no segments.
    """

    input_ids: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.input_ids)


class Backend(ABC):
    """An inference engine with a model in it; safe to use from several threads.

    Outputs of an input do not depend on what else is in the call: on CPUs every input is padded by its own length
    only, to `padded_length`.

    Attributes:
        name: Engine and type of its arithmetic, such as `openvino-bfloat16`.
        parallel: Inputs that it runs at once, each on threads of its own.
    """

    name: str
    parallel: int = 1

    @abstractmethod
    def run(self, inputs: Sequence[TokenIds], head: Head, *, batch_size: int | None = None) -> list[Outputs]:
        """Run the encoder and one head.

        Args:
            inputs: Any number of inputs of any lengths; longest first is fastest.
            head: Which head to apply.
            batch_size: Most inputs per forward pass, for engines that batch; None leaves it to the engine.

        Returns:
            One `Outputs` per input, in their order.
        """
