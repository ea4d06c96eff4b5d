"""Pointing at what a larger reader points at, aligned where its tokens are others."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from transformers import AutoModelForQuestionAnswering

from rom_haystack.modeling import load_checkpoint
from training.data.dataset import Passage, Question
from training.errors import RecipeError
from training.tasks import SpanDistillationTask, span_distillation
from training.tasks.pairs import passage_positions
from training.tasks.span_distillation import align, moved
from training.tasks.teachers import asked, load_reader
from training.trainer import train

SHORT = {"max_length": 48, "stride": 12, "max_query_length": 12}


def rng():
    return np.random.default_rng(0)


class TestAlignment:
    TEXT = "In 1858 John Speke reached Lake Victoria – the “queen’s lake” of Zürich’s  maps; 27.3% smaller."

    @pytest.mark.parametrize("answer", ["1858", "John Speke", "Lake Victoria", "queen’s lake", "Zürich", "27.3%"])
    @pytest.mark.parametrize("swapped", [False, True])
    def test_tokens_of_an_answer_stand_for_those_of_the_same_answer(
        self, tiny_tokenizer, byte_tokenizer, answer, swapped
    ):
        """The teacher's first and last token of an answer lead to a span that quotes it."""
        one, other = (byte_tokenizer, tiny_tokenizer) if swapped else (tiny_tokenizer, byte_tokenizer)
        text = f"Before this window. {self.TEXT}"
        shift = text.index(self.TEXT)
        student = one(["Who?"], [text], return_offsets_mapping=True)
        teacher = other(["Who?"], [self.TEXT], return_offsets_mapping=True)
        starts, ends = align(student, 0, teacher, 0, text, shift).tolist()
        first = self.TEXT.index(answer)
        offsets = [teacher["offset_mapping"][0][i] for i in passage_positions(teacher, 0)]
        start = starts[next(i for i, (a, b) in enumerate(offsets) if a <= first < b)]
        end = ends[max(i for i, (a, b) in enumerate(offsets) if a < first + len(answer) <= b)]
        spans = student["offset_mapping"][0]
        quoted = text[spans[start][0] : spans[end][1]]
        assert answer in quoted
        assert len(quoted.strip()) <= len(answer) + 1  # a byte token may hold one more character

    def test_the_same_tokenizer_leaves_all_in_place(self, tiny_tokenizer):
        pairs = tiny_tokenizer(["Who?"], [self.TEXT], return_offsets_mapping=True)
        positions = passage_positions(pairs, 0)
        assert align(pairs, 0, pairs, 0, self.TEXT, 0).tolist() == [positions, positions]

    def test_probabilities_that_meet_add_up(self):
        target = moved(torch.tensor([[0.1, 0.2, 0.3, 0.4]]), torch.tensor([[0, 2, 2, 1]]), 5)
        torch.testing.assert_close(target, torch.tensor([[0.1, 0.4, 0.5, 0.0, 0.0]]))


class TestSpanDistillation:
    @pytest.fixture
    def make(self, make_task, tiny_model, tmp_path, byte_teacher):
        def make(teacher=byte_teacher, **options):
            task = make_task(SpanDistillationTask, teacher=str(teacher), **{**SHORT, "negative_rate": 0.0, **options})
            task.load_teacher(tiny_model)
            return task

        return make

    def test_both_read_the_same_window(self, make, tiny_tokenizer, byte_tokenizer):
        task = make()
        for question in task.items:
            features = task.collate([question], rng())
            texts = []
            for tokenizer, inputs, allowed in (
                (tiny_tokenizer, features["inputs"], features["allowed"]),
                (byte_tokenizer, features["teacher_inputs"], features["teacher_allowed"]),
            ):
                ids = inputs["input_ids"][0][allowed[0]][1:]
                decoded = tokenizer.decode(ids).lower().replace("[unk]", "").replace("##", "")
                texts.append("".join(character for character in decoded if character.isalnum()))
            assert len(texts[0]) > 20
            assert texts[0] == texts[1]

    def test_loss_equals_its_definition(self, make, tiny_model, byte_teacher):
        task = make(temperature=2.0)
        features = task.collate(task.items[:3], rng())
        teacher, _ = load_checkpoint(byte_teacher)
        with torch.no_grad():
            taught = teacher(**features["teacher_inputs"], head="reading")
            read = tiny_model(**features["inputs"], head="reading")
            loss, metrics = task.loss(tiny_model, features)
        expected = 0.0
        for side, name in enumerate(("start_logits", "end_logits")):
            for row in range(3):
                inside = features["teacher_allowed"][row]
                weights = (taught[name][row][inside].double() / 2).softmax(-1)
                target = {}
                for place, weight in zip(features["aligned"][side, row][inside].tolist(), weights, strict=True):
                    target[place] = target.get(place, 0.0) + weight.item()
                allowed = features["allowed"][row].nonzero()[:, 0].tolist()
                student = dict(zip(allowed, (read[name][row][allowed].double() / 2).softmax(-1).tolist(), strict=True))
                expected += sum(p * np.log(p / student[place]) for place, p in target.items()) * 4 / 6
        assert expected > 0.1
        assert loss.item() == pytest.approx(expected, rel=1e-4)
        assert metrics.keys() == {"divergence", "agreement"}

    def test_student_comes_to_point_where_the_teacher_points(self, make, tiny_model):
        task, model = make(batch_size=11), copy.deepcopy(tiny_model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
        measured = []
        for step in range(40):
            loss, metrics = task.loss(model, task.batch(step))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            measured.append(metrics)
        assert measured[-1]["divergence"] < 0.5 * measured[0]["divergence"]
        assert measured[-1]["agreement"] > measured[0]["agreement"]

    def test_relevance(self, make, tiny_model, byte_teacher):
        task = make(relevance_weight=0.5)
        features = task.collate(task.items[:3], rng())
        with torch.no_grad():
            loss, metrics = task.loss(tiny_model, features)
            taught = load_checkpoint(byte_teacher)[0](**features["teacher_inputs"], head="reading")["relevance_logits"]
            read = tiny_model(**features["inputs"], head="reading")["relevance_logits"]
        p, q = taught.sigmoid(), read.sigmoid()
        expected = -(p * q.log() + (1 - p) * (1 - q).log()).mean().item()
        assert metrics["relevance_loss"].item() == pytest.approx(expected, rel=1e-4)
        assert loss.item() == pytest.approx(metrics["divergence"].item() + 0.5 * expected, rel=1e-4)

    def test_in_chunks(self, make, tiny_model):
        """The loss of the whole batch, of which neither student nor teacher sees more than a chunk at once."""
        whole, parts = make(batch_size=5, relevance_weight=0.5), make(batch_size=5, relevance_weight=0.5, chunk_size=2)
        features, model, seen = whole.batch(0), copy.deepcopy(tiny_model), []
        loss, metrics = whole.loss(model, features)
        for encoder in (model.encoder, parts.teacher.encoder):
            encoder.register_forward_pre_hook(lambda *given: seen.append(len(given[2]["input_ids"])), with_kwargs=True)
        in_chunks, metrics_in_chunks = parts.loss(model, features)
        assert seen == [2, 2, 1, 2, 2, 1]
        torch.testing.assert_close(in_chunks, loss)
        torch.testing.assert_close(metrics_in_chunks, metrics)

    def test_question_answering_models_teach(self, make, qa_model, tiny_model):
        task = make(qa_model)
        features = task.collate(task.items[:3], rng())
        converted = AutoModelForQuestionAnswering.from_pretrained(qa_model).eval()
        with torch.no_grad(), asked(task.teacher) as teacher:
            expected = converted(**features["teacher_inputs"]).start_logits
            found = teacher(**features["teacher_inputs"], head="reading")["start_logits"]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        assert task.loss(tiny_model, features)[0].isfinite()
        with pytest.raises(RecipeError, match=r"'tasks\.span_distillation\.relevance_weight' is 0\.5, but teacher"):
            make(qa_model, relevance_weight=0.5)

    def test_a_passage_of_blanks(self, make, tiny_tokenizer, tiny_model, tmp_path, byte_teacher):
        options = SpanDistillationTask.Options(teacher=str(byte_teacher), **SHORT)
        passages = {"a": Passage("a", "", " "), "b": Passage("b", "", "Speke named it.")}
        questions = [Question(name, "Who named it?", ("Speke",), name) for name in passages]
        task = SpanDistillationTask(options, questions, passages, tiny_tokenizer, 1)
        task.load_teacher(tiny_model)
        assert task.loss(tiny_model, task.collate(questions, rng()))[0].isfinite()

    def test_in_a_run_beside_reading(self, byte_teacher, tiny_checkpoint, make_recipe, data_root, tmp_path):
        tasks = {"reading": SHORT, "span_distillation": {**SHORT, "teacher": str(byte_teacher)}}
        model, _ = load_checkpoint(train(make_recipe(tiny_checkpoint, tasks=tasks), data_root, tmp_path / "run"))
        assert "reading" in model.heads
        assert "span_distillation/divergence" in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8")

    def test_the_teacher_computes_in_the_recipes_precision(
        self, byte_teacher, tiny_checkpoint, make_recipe, data_root, tmp_path, monkeypatch
    ):
        seen = []

        def watched(*given):
            teacher, tokenizer = load_reader(*given)
            first = teacher.encoder.encoder.layer[0].attention.self.query
            first.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
            return teacher, tokenizer

        monkeypatch.setattr(span_distillation, "load_reader", watched)
        tasks = {"span_distillation": {**SHORT, "teacher": str(byte_teacher)}}
        for bf16 in (True, False):
            train(make_recipe(tiny_checkpoint, tasks=tasks, bf16=bf16), data_root, tmp_path / str(bf16))
        assert seen == [torch.bfloat16] * 2 + [torch.float32] * 2

    def test_a_teacher_that_is_not_there_leaves_the_folder_free(
        self, byte_teacher, tiny_checkpoint, make_recipe, data_root, tmp_path
    ):
        """It is missed before the bank of passages is made."""
        tasks = {"retrieval": {}, "span_distillation": {**SHORT, "teacher": str(tmp_path / "none")}}
        with pytest.raises(RecipeError, match=r"span_distillation\.teacher' is '.*none', which can't be loaded"):
            train(make_recipe(tiny_checkpoint, tasks=tasks), data_root, tmp_path / "run")
        assert not list((tmp_path / "run").iterdir())
        tasks["span_distillation"]["teacher"] = str(byte_teacher)
        assert train(make_recipe(tiny_checkpoint, tasks=tasks), data_root, tmp_path / "run")
