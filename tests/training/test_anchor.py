"""The anchor to the untrained model: its definition, its bank, and that it holds what training moves."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from rom_haystack.inference import ROMEncoder
from rom_haystack.modeling import load_checkpoint
from training.data.dataset import Passage
from training.errors import RecipeError
from training.tasks import AnchorTask
from training.tasks.anchor import similarity_divergence
from training.trainer import train


def moved(model, by=1.3):
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.encoder.encoder.parameters():
            parameter.mul_(by)
    return other


def features_of(task):
    return task.collate(task.items, np.random.default_rng(0))


class TestLoss:
    def test_equals_its_definition(self, make_task, tiny_model, tmp_path):
        options = {"cosine_weight": 2.0, "similarity_weight": 3.0, "temperature": 0.1}
        task = make_task(AnchorTask, **options)
        task.prepare(tiny_model, tmp_path)
        model, features = moved(tiny_model), features_of(task)
        with torch.no_grad():
            live = model(**features["inputs"], head="retrieval")["embedding"].double().numpy()
            loss, metrics = task.loss(model, features)
        before = task._bank[features["rows"]].double().numpy()
        cosines = (live * before).sum(1) / np.linalg.norm(live, axis=1) / np.linalg.norm(before, axis=1)
        divergence = 0.0
        for row in range(len(live)):
            others = [other for other in range(len(live)) if other != row]
            now, then = (np.exp(v[others] @ v[row] / 0.1) for v in (live, before))
            now, then = now / now.sum(), then / then.sum()
            divergence += (then * np.log(then / now)).sum() / len(live)
        assert divergence > 0.01
        assert metrics["drift"].item() == pytest.approx(1 - cosines.mean(), rel=1e-3)
        assert metrics["divergence"].item() == pytest.approx(divergence, rel=1e-3)
        assert loss.item() == pytest.approx(2 * metrics["drift"].item() + 3 * metrics["divergence"].item(), rel=1e-4)

    def test_untrained_model_has_none(self, make_task, tiny_model, tmp_path):
        task = make_task(AnchorTask)
        task.prepare(tiny_model, tmp_path)
        _, metrics = task.loss(tiny_model, features_of(task))
        assert metrics["drift"].item() == pytest.approx(0, abs=1e-3)  # the bank is made in bfloat16
        assert metrics["divergence"].item() == pytest.approx(0, abs=1e-2)

    def test_a_turned_space_keeps_its_similarities(self):
        torch.manual_seed(0)
        vectors = torch.nn.functional.normalize(torch.randn(5, 8), dim=-1)
        turn, _ = torch.linalg.qr(torch.randn(8, 8))
        assert similarity_divergence(vectors @ turn, vectors, 0.05).item() == pytest.approx(0, abs=1e-4)
        assert similarity_divergence(vectors.flip(0), vectors, 0.05).item() > 0.1

    @pytest.mark.parametrize("count", [1, 2])
    def test_too_few_texts_to_compare(self, make_task, tiny_model, tmp_path, count):
        task = make_task(AnchorTask)
        task.prepare(tiny_model, tmp_path)
        model = moved(tiny_model)
        loss, metrics = task.loss(model, task.collate(task.items[:count], np.random.default_rng(0)))
        assert metrics["divergence"] == 0
        loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.encoder.encoder.parameters())

    def test_in_chunks(self, make_task, tiny_model, tmp_path):
        gradients = []
        for chunk_size in (None, 2):
            task, model = make_task(AnchorTask, chunk_size=chunk_size), moved(tiny_model)
            task.prepare(tiny_model, tmp_path)
            task.loss(model, features_of(task))[0].backward()
            gradients.append(model.encoder.get_input_embeddings().weight.grad)
        torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


class TestTexts:
    def texts(self, tiny_tokenizer, **options):
        passages = [Passage(str(i), "Nile", f"The river {i} flows. Boats carry salt. It is long.") for i in range(40)]
        options = AnchorTask.Options(**options)
        task = AnchorTask(options, passages, {}, tiny_tokenizer, 1)
        return [task._text(row) for row in range(len(passages))]

    def test_sentences(self, tiny_tokenizer):
        texts = self.texts(tiny_tokenizer, sentence_rate=1.0)
        assert {"Boats carry salt.", "It is long."} < {text.strip() for text in texts}
        assert not any("flows. Boats" in text for text in texts)

    def test_titles(self, tiny_tokenizer):
        assert all(t.startswith("Nile") for t in self.texts(tiny_tokenizer, sentence_rate=0.0, title_rate=1.0))
        assert not any("Nile" in t for t in self.texts(tiny_tokenizer, sentence_rate=0.0, title_rate=0.0))

    def test_a_mixture_that_is_the_runs(self, tiny_tokenizer):
        texts = self.texts(tiny_tokenizer)
        assert texts == self.texts(tiny_tokenizer)
        assert 3 < sum("flows. Boats" not in text for text in texts) < 20
        assert 8 < sum(text.startswith("Nile") for text in texts) < 25


class TestRuns:
    def drift(self, tiny_checkpoint, make_recipe, data_root, folder, **tasks):
        reading = {"batch_size": 4, "max_length": 48, "stride": 8, "max_query_length": 12}
        recipe = make_recipe(tiny_checkpoint, tasks={"reading": reading, **tasks}, steps=8)
        model = train(recipe, data_root, folder)
        texts = (data_root / "texts" / "notes.txt").read_text(encoding="utf-8").split("\n\n")
        after, before = (
            ROMEncoder.from_model(*load_checkpoint(m)).encode_passages(texts) for m in (model, tiny_checkpoint)
        )
        return 1 - float((after * before).sum(1).mean())

    def test_holds_other_texts_while_reading_is_trained(self, tiny_checkpoint, make_recipe, data_root, tmp_path):
        free = self.drift(tiny_checkpoint, make_recipe, data_root, tmp_path / "free")
        anchor = {"data": "texts", "weight": 20.0, "batch_size": 8}
        held = self.drift(tiny_checkpoint, make_recipe, data_root, tmp_path / "held", anchor=anchor)
        assert free > 0.001
        assert held < 0.5 * free
        lines = (tmp_path / "held" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        assert {"anchor/drift", "anchor/divergence"} <= set().union(*map(json.loads, lines))

    def test_a_resumed_run_is_anchored_to_where_it_began(self, tiny_checkpoint, make_recipe, data_root, tmp_path):
        tasks = {"reading": {"batch_size": 4, "max_length": 48, "stride": 8, "max_query_length": 12}}
        tasks["anchor"] = {"data": "texts", "batch_size": 4}
        recipe = make_recipe(tiny_checkpoint, tasks=tasks, steps=4, checkpoint_every=2)
        whole = train(recipe, data_root, tmp_path / "whole")
        assert train(recipe, data_root, tmp_path / "halves", stop_after=2) is None
        halves = train(recipe, data_root, tmp_path / "halves")
        for one, other in zip(*(load_checkpoint(m)[0].parameters() for m in (whole, halves)), strict=True):
            assert torch.equal(one, other)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"max_length": 2}, r"'tasks\.anchor\.max_length' is 2; it must be at least 4"),
            ({"title_rate": 1.5}, r"'tasks\.anchor\.title_rate' is 1\.5; it must be from 0 to 1"),
            ({"sentence_rate": -1}, r"'tasks\.anchor\.sentence_rate' is -1"),
            ({"cosine_weight": -1}, r"'tasks\.anchor\.cosine_weight' is -1"),
            ({"similarity_weight": -1}, r"'tasks\.anchor\.similarity_weight' is -1"),
            ({"similarity_weight": 0, "cosine_weight": 0}, "it must be above 0 without the other"),
            ({"temperature": 0}, r"'tasks\.anchor\.temperature' is 0"),
            ({"chunk_size": 0}, r"'tasks\.anchor\.chunk_size' is 0"),
            ({"batch_size": 2}, "it must be at least 3, or 'similarity_weight' 0"),
        ],
    )
    def test_limits(self, make_recipe, options, message):
        with pytest.raises(RecipeError, match=message):
            make_recipe("encoder", tasks={"anchor": options})
