"""What the numbers and names of a recipe may be, its tasks and schedule aside."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from training.attention import ATTENTIONS
from training.errors import RecipeError

if TYPE_CHECKING:
    from training.recipe import Recipe

#: Smallest values of whole numbers.
_LEAST = {
    "epochs": 1,
    "checkpoint_every": 1,
    "warmup_steps": 0,
    "gradient_accumulation": 1,
    "log_every": 1,
    "evaluate_every": 1,
    "development_questions": 1,
    "patience": 1,
    "workers": 0,
}

#: Metrics of development data by the head that they need. All are means from 0 to 1, the higher the better.
METRICS = {"EM": "reading", "F1": "reading", "recall@1": "retrieval", "recall@5": "retrieval", "recall@20": "retrieval"}


def check_limits(recipe: Recipe) -> None:
    """Check a recipe's numbers and names, all of the right type.

    Raises:
        RecipeError: One is out of range; the message names key, value and limit.
    """
    for key, least in _LEAST.items():
        value = getattr(recipe, key)
        if value is not None and value < least:
            raise RecipeError(f"Recipe key '{key}' is {value}; it must be at least {least}.")
    for key, fits, limit in (
        ("learning_rate", recipe.learning_rate > 0, "above 0"),
        ("layer_decay", 0 < recipe.layer_decay <= 1, "above 0 and at most 1"),
        ("max_grad_norm", recipe.max_grad_norm >= 0, "at least 0. 0 clips nothing"),
    ):
        if not fits:
            raise RecipeError(f"Recipe key '{key}' is {getattr(recipe, key)}; it must be {limit}.")
    for key, most in (("seed", 4_294_967_295), ("warmup_ratio", 1), ("dropout", 0.99), ("weight_decay", 1e6)):
        value = getattr(recipe, key)
        if not 0 <= value <= most:
            raise RecipeError(f"Recipe key '{key}' is {value}; it must be from 0 to {most}.")
    _check_choices(recipe)
    if recipe.patience is not None and recipe.development is None:
        raise RecipeError(
            f"Recipe key 'patience' is {recipe.patience}, but there is nothing to watch; name 'development' data, or "
            "leave 'patience' out."
        )
    if recipe.tensorboard and not any(map(importlib.util.find_spec, ("tensorboard", "tensorboardX"))):
        raise RecipeError(
            "Recipe key 'tensorboard' is true, but TensorBoard is not installed. `pip install tensorboard`, or leave "
            "the key out; metrics.jsonl and the learning curves need nothing of it."
        )


def _check_choices(recipe: Recipe) -> None:
    for key, choices in (("metric", METRICS), ("attention", (None, *ATTENTIONS))):
        value = getattr(recipe, key)
        if value not in choices:
            raise RecipeError(f"Recipe key '{key}' is '{value}'; choose from {', '.join(filter(None, choices))}.")
