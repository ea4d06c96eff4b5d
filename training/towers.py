"""Two towers: a query encoder of its own beside the passages', as in DPR (Karpukhin et al., 2020, section 3.1).

The query tower starts as a copy of the model, and is trained and saved in checkpoints as a part of it. Losses ask for
it by `query_tower`, which is the model itself where queries and passages share one.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from rom_haystack.modeling import ROMModel

#: Name of the tower in the model, and of its folder in the run folder.
QUERY_MODEL = "query_model"


def add_query_tower(model: ROMModel) -> None:
    """Give a model a query tower that starts where the model does."""
    model.add_module(QUERY_MODEL, copy.deepcopy(model))


def query_tower(model: ROMModel) -> ROMModel:
    """Return what embeds queries: the model's query tower, or the model itself."""
    return cast("ROMModel", getattr(model, QUERY_MODEL, model))


def take_query_tower(model: ROMModel) -> ROMModel | None:
    """Take a model's query tower out of it, so that the rest is an ordinary model again; None where it has none."""
    tower = query_tower(model)
    if tower is model:
        return None
    delattr(model, QUERY_MODEL)
    return tower
