"""Learning rates by layer: lower layers, which know more of language than of the task, move less.

With a decay `d`, the topmost layer of `n` has the recipe's rate times `d`, the one below it times `d²`, the embeddings
times `d` to the power of `n + 1`. Heads, and what stands between layers and heads, have the recipe's rate
(discriminative fine-tuning: Howard and Ruder, 2018, section 3.1; of transformers: ELECTRA, Clark et al., 2020).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from training.errors import RecipeError
from training.towers import query_tower

if TYPE_CHECKING:
    from rom_haystack.modeling import ROMModel


def layer_factors(model: ROMModel, decay: float) -> dict[nn.Parameter, float]:
    """Return for each parameter what its learning rate is multiplied with.

    Args:
        model: Of any encoder that keeps its layers in one list.
        decay: What a layer's rate is of the next higher one's.

    Raises:
        RecipeError: The encoder shares its layers' weights, or keeps them in another way.
    """
    tower = query_tower(model)
    of_tower = {} if tower is model else layer_factors(tower, decay)
    layers = _layers(model)
    depth = {parameter: len(layers) + 1 for parameter in _embeddings(model).parameters()}
    for below, layer in enumerate(layers):
        depth.update(dict.fromkeys(layer.parameters(), len(layers) - below))
    return {parameter: decay ** depth.get(parameter, 0) for parameter in model.parameters()} | of_tower


def split_rates(optimizer: torch.optim.Optimizer, factors: Mapping[nn.Parameter, float]) -> None:
    """Split an optimizer's groups, before its first step, so that each has the learning rate of its parameters.

    Groups of higher rates come first, so that what is logged is the recipe's rate.

    Args:
        optimizer: The optimizer.
        factors: What the rate of each of its parameters is multiplied with.
    """
    groups = list(optimizer.param_groups)
    optimizer.param_groups.clear()
    for factor in sorted(set(factors.values()), reverse=True):
        for group in groups:
            chosen = [parameter for parameter in group["params"] if factors[parameter] == factor]
            if chosen:
                optimizer.add_param_group({**group, "params": chosen, "lr": group["lr"] * factor})


def _layers(model: ROMModel) -> nn.ModuleList:
    count = model.config.encoder.num_hidden_layers
    by_size: dict[int, nn.ModuleList] = defaultdict(nn.ModuleList)
    for module in model.encoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            by_size[sum(parameter.numel() for parameter in module.parameters())] = module
    if not by_size:
        raise RecipeError(
            f"Recipe key 'layer_decay' can't be used with an encoder of type '{model.config.encoder.model_type}', "
            f"which has no list of its {count} layers; set it to 1."
        )
    return by_size[max(by_size)]


def _embeddings(model: ROMModel) -> nn.Module:
    """Return all of an encoder's embeddings where it keeps them together, else those of words."""
    embeddings: nn.Module = getattr(model.encoder, "embeddings", model.get_input_embeddings())
    return embeddings
