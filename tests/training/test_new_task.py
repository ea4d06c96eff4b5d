"""A new task is one module and one line of the registry: this is the module, and the model stays as it is."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional

from rom_haystack.modeling import HEADS, Head, load_checkpoint, register_head
from training.errors import RecipeError, require
from training.tasks import TASKS
from training.tasks.base import PassageTask, TaskOptions
from training.tasks.contrast import tokenize
from training.trainer import train


class TitleHead(Head):
    """Tell which of some titles a passage has (`title_logits`: `[batch, titles]`)."""

    def __init__(self, *, titles=4, **sizes):
        super().__init__(**sizes)
        self.titles = nn.Linear(self.hidden_size, titles)

    def forward(self, hidden_states, attention_mask, word_embeddings):
        return {"title_logits": self.titles(hidden_states[:, 0])}


@dataclass(frozen=True)
class TitleOptions(TaskOptions):
    max_length: int = 16

    def __post_init__(self):
        super().__post_init__()
        require(self, "max_length", self.max_length > 2, "above 2")


class TitleTask(PassageTask):
    Options = TitleOptions
    head = "title"
    nothing_found = "no passage there has a title"

    @classmethod
    def trains_on(cls, passage):
        return bool(passage.title)

    def collate(self, items, rng):
        titles = sorted({passage.title for passage in self.items})
        inputs = tokenize(self.tokenizer, [passage.text for passage in items], self.options.max_length)
        return {"inputs": inputs, "titles": torch.tensor([titles.index(passage.title) for passage in items])}

    def loss(self, model, features):
        logits = model(**features["inputs"], head="title")["title_logits"]
        loss = functional.cross_entropy(logits.float(), features["titles"])
        return loss, {"title_loss": loss.item()}


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(TASKS, "title", TitleTask)  # the line in training/tasks/__init__.py
    register_head("title")(TitleHead)
    yield
    HEADS.pop("title")


@pytest.mark.usefixtures("registered")
class TestNewTask:
    @pytest.mark.parametrize("others", [{}, {"reading": {"batch_size": 2}}], ids=["alone", "beside reading"])
    def test_trains_with_its_own_head(self, tiny_checkpoint, make_recipe, data_root, tmp_path, others):
        recipe = make_recipe(tiny_checkpoint, tasks={"title": {"batch_size": 3}, **others}, steps=3)
        model, _ = load_checkpoint(train(recipe, data_root, tmp_path / "run"))
        assert set(model.heads) == {"title", "retrieval", "reading"}
        assert "title/title_loss" in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8")

    def test_its_options_are_checked(self, make_recipe):
        with pytest.raises(RecipeError, match=r"'tasks\.title\.max_length' is 1; it must be above 2"):
            make_recipe("encoder", tasks={"title": {"max_length": 1}})

    def test_a_head_may_have_options(self, tiny_checkpoint, make_recipe, data_root, tmp_path):
        heads = {"title": {"titles": 2}, "retrieval": {}}
        recipe = make_recipe(tiny_checkpoint, tasks={"title": {}}, heads=heads, steps=1)
        model, _ = load_checkpoint(train(recipe, data_root, tmp_path / "run"))
        assert model.heads["title"].titles.out_features == 2


def test_without_its_line_it_is_unknown(make_recipe):
    with pytest.raises(
        RecipeError, match=r"'tasks\.title' is no known task; choose from reading, retrieval, masked_lm"
    ):
        make_recipe("encoder", tasks={"title": {}})
