"""Each task learns from the recipe's data or its own, one set or several."""

from __future__ import annotations

import shutil

import pytest

import training.trainer as trainer_module
from training.errors import DataError
from training.trainer import build_tasks


def test_each_task_may_have_its_own(make_recipe, data_root, tiny_tokenizer, monkeypatch):
    read, paths = trainer_module.read_together, []
    monkeypatch.setattr(trainer_module, "read_together", lambda found, store: (paths.append(found), read(found))[1])
    tasks = {
        "reading": {"data": "mini"},
        "retrieval": {},
        "masked_lm": {"data": "texts"},
        "inverse_cloze": {"data": "texts"},
        "recurring_spans": {"data": ["texts", "mini"]},
    }
    built = build_tasks(make_recipe("encoder", tasks=tasks), data_root, tiny_tokenizer)
    assert {name: len(task.items) for name, task in built.items()} == {
        "reading": 12,
        "retrieval": 11,
        "masked_lm": 11,
        "inverse_cloze": 11,
        "recurring_spans": 12,
    }
    assert built["masked_lm"].passages.keys() != built["retrieval"].passages.keys()
    mini, texts = data_root / "mini", data_root / "texts"
    assert paths == [[mini], [texts], [texts, mini]]  # each is read once


def test_sets_are_used_together(make_recipe, data_root, tiny_tokenizer):
    other = data_root / "other"
    shutil.copytree(data_root / "mini", other)
    recipe = make_recipe("encoder", data=["mini", "other"])
    built = build_tasks(recipe, data_root, tiny_tokenizer)
    assert [(len(task.items), len(task.passages)) for task in built.values()] == [(24, 7), (22, 7)]
    path = other / "passages.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("crocodiles", "hippos"), encoding="utf-8")
    with pytest.raises(DataError, match=f"{other}: passage 'p2' has another text than in the sets before it"):
        build_tasks(recipe, data_root, tiny_tokenizer)


@pytest.mark.parametrize(
    ("task", "text", "message"),
    [
        ("retrieval", "A text. Without questions.", "no question there has an answer"),
        ("inverse_cloze", "One sentence.", "no passage there has two sentences"),
        ("recurring_spans", "No span. Comes again.", "no passage there has a span that stands in two sentences"),
    ],
)
def test_data_that_holds_nothing_for_a_task(make_recipe, data_root, tiny_tokenizer, task, text, message):
    path = data_root / "some.txt"
    path.write_text(text, encoding="utf-8")
    recipe = make_recipe("encoder", tasks={task: {"data": "some.txt"}})
    with pytest.raises(DataError, match=f"{path}: {message}, so task '{task}' has nothing to train on"):
        build_tasks(recipe, data_root, tiny_tokenizer)
