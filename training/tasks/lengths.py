"""Whether an encoder takes texts as long as the tasks make them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING

from rom_haystack.inference.facts import facts_of
from training.errors import RecipeError
from training.tasks.base import TaskOptions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rom_haystack.modeling import ROMModel


def check_lengths(options: Mapping[str, TaskOptions], model: ROMModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Compare every option that is a length (`max_…length`) with the longest input of an encoder.

    Args:
        options: Options by task name.
        model: The model whose encoder reads the tasks' texts.
        tokenizer: Its tokenizer.

    Raises:
        RecipeError: A length is above it.
    """
    limit = facts_of(model, tokenizer).max_length
    for name, option in options.items():
        for field in fields(option):
            length = getattr(option, field.name)
            is_length = field.name.startswith("max_") and field.name.endswith("length") and isinstance(length, int)
            if is_length and length > limit:
                raise RecipeError(
                    f"Recipe key 'tasks.{name}.{field.name}' is {length}; this recipe's encoder takes at most {limit} "
                    f"tokens. Set it to {limit} or less, or choose an encoder that takes more."
                )
