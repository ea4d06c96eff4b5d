"""Lengths in recipes: what has room for a text, and what the encoder takes."""

from __future__ import annotations

import pytest
import torch

from rom_haystack.modeling import ROMConfig, ROMModel
from training.errors import RecipeError
from training.tasks import TASKS
from training.tasks.lengths import check_lengths
from training.trainer import train


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"retrieval": {"max_query_length": 2}}, "retrieval.max_query_length' is 2; it must be at least 3, special"),
        ({"inverse_cloze": {"max_passage_length": 0}}, "inverse_cloze.max_passage_length' is 0; it must be at least 3"),
        ({"reading": {"max_query_length": 0}}, "reading.max_query_length' is 0; it must be at least 1"),
        ({"recurring_spans": {"max_length": 68}}, r"spans.max_length' is 68; it must be at least 69, so that 'max_que"),
        ({"reading": {"max_length": 4, "max_query_length": 12}}, "reading.max_length' is 4; it must be at least 17"),
    ],
)
def test_those_without_room_are_refused(make_recipe, tasks, message):
    with pytest.raises(RecipeError, match=rf"Recipe key 'tasks\..*{message}"):
        make_recipe("encoder", tasks=tasks)


def test_the_longest_input_of_an_encoder_is_the_limit(family):
    """Every family's has 64 tokens here; RoBERTa's and MPNet's positions are counted from the padding."""
    model = ROMModel(ROMConfig(encoder=family.config)).eval()
    ids = torch.full((1, 64), family.tokenizer.mask_token_id)
    assert model(ids, torch.ones_like(ids))["embedding"].isfinite().all()
    retrieval = TASKS["retrieval"].Options(max_passage_length=64)
    reading = TASKS["reading"].Options(max_length=64, max_query_length=12, stride=8)
    check_lengths({"retrieval": retrieval, "reading": reading}, model, family.tokenizer)
    for name, key, options in [
        ("retrieval", "max_passage_length", {"max_passage_length": 65}),
        ("inverse_cloze", "max_query_length", {"max_query_length": 65, "max_passage_length": 8}),
        ("masked_lm", "max_length", {"max_length": 65}),
        ("reading", "max_length", {"max_length": 65, "max_query_length": 12, "stride": 8}),
    ]:
        message = f"'tasks.{name}.{key}' is 65; this recipe's encoder takes at most 64 tokens. Set it to 64 or less"
        with pytest.raises(RecipeError, match=message):
            check_lengths({"retrieval": retrieval, name: TASKS[name].Options(**options)}, model, family.tokenizer)


def test_a_run_ends_before_data_is_read(tiny_checkpoint, make_recipe, tmp_path):
    recipe = make_recipe(tiny_checkpoint, tasks={"retrieval": {"max_query_length": 1000}})
    with pytest.raises(RecipeError, match=r"'tasks\.retrieval\.max_query_length' is 1000; this recipe's encoder takes"):
        train(recipe, tmp_path / "nowhere", tmp_path / "run")
