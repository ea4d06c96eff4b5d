"""Ranking as a reader finds answers: the model itself, or another."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from transformers.tokenization_utils_base import BatchEncoding

from rom_haystack.inference import ReadingOptions, ROMEncoder
from rom_haystack.modeling import ROMConfig, ROMModel, load_checkpoint
from training.data.dataset import DataSet, Question
from training.data.formats import read_data
from training.errors import RecipeError
from training.tasks import ReaderDistillationTask
from training.tasks.pairs import encode_pairs, passage_positions, window_inputs, windows_of
from training.tasks.reader_distillation import answer_log_odds
from training.towers import add_query_tower, query_tower
from training.trainer import train

SHORT = {"max_length": 48, "stride": 12, "max_query_length": 12}


def rng():
    return np.random.default_rng(0)


class TestReaderDistillation:
    @pytest.fixture
    def make(self, make_task, tiny_model, tmp_path):
        def make(model=tiny_model, **options):
            task = make_task(ReaderDistillationTask, **{**SHORT, **options})
            task.load_teacher(model)
            return task

        return make

    def test_scores_are_those_of_the_best_span_and_relevance(self, make, tiny_model, tiny_tokenizer):
        task = make()
        queries = [question.text for question in task.items]
        texts = [task.passages[question.passage_id].text for question in task.items]
        encoded: BatchEncoding = encode_pairs(tiny_tokenizer, task.options, queries, texts)
        windows, allowed = window_inputs(tiny_tokenizer, encoded, range(len(encoded["input_ids"])))
        with torch.no_grad():
            scores = answer_log_odds(tiny_model, windows, allowed).tolist()
            outputs = {name: logits.tolist() for name, logits in tiny_model(**windows, head="reading").items()}
        for row, score in enumerate(scores):
            start, end = outputs["start_logits"][row], outputs["end_logits"][row]
            inside = passage_positions(encoded, row)
            best = max(start[i] + end[j] for i in inside for j in inside if i <= j < i + 30)
            span = (best - start[0] - end[0]) / 2
            assert score == pytest.approx((span + outputs["relevance_logits"][row]) / 2, abs=1e-4)
        options = ReadingOptions(max_seq_length=48, stride=12, max_query_length=12, answers_per_seq=1)
        read = ROMEncoder.from_model(tiny_model, tiny_tokenizer).read(queries, texts, options)
        best = [max(scores[window] for window in found) for found in windows_of(encoded)]
        # the reader's answers are whole words, so it may find less
        assert all(found[0].logit <= most + 1e-3 for found, most in zip(read, best, strict=True))
        assert any(found[0].logit == pytest.approx(most, abs=1e-3) for found, most in zip(read, best, strict=True))

    def test_candidates_are_gold_and_hard_negatives_or_the_article(self, make, tiny_tokenizer):
        task = make(candidates=3)
        names = {q.id: set(task._draw(q, rng())) for q in task.items}
        assert names["q0"] == {"p0", "p1", "p2"}  # the article has three passages
        assert names["q5"] == {"p3", "p4", "p5"}
        question = Question("q", "Who?", ("Speke",), "p0", hard_negative_ids=("p5", "p6", "p4"))
        drawn = {tuple(task._draw(question, np.random.default_rng(seed))) for seed in range(20)}
        assert {d[0] for d in drawn} == {"p0"}
        assert {frozenset(d[1:]) for d in drawn} == {frozenset(c) for c in (("p5", "p6"), ("p5", "p4"), ("p6", "p4"))}

    def test_questions_without_candidates_are_left_out(self, data_root):
        data = read_data(data_root / "mini")
        names = {question.id for question in ReaderDistillationTask.items_of(data)}
        assert names == {f"q{i}" for i in range(10)}  # q10's article has one passage, q11 is unanswerable
        lone = Question("q10", "?", (), "p6", hard_negative_ids=("p0",))
        assert ReaderDistillationTask.items_of(DataSet(data.passages, [lone])) == [lone]

    @pytest.mark.parametrize("own", [True, False], ids=["itself", "teacher"])
    def test_loss_equals_its_definition(self, make, tiny_model, byte_teacher, own):
        task = make(teacher=None if own else str(byte_teacher), temperature=0.2, teacher_temperature=3.0)
        questions = [task.items[i] for i in (0, 5, 9)]
        features = task.collate(questions, rng())
        with torch.no_grad():
            loss, _ = task.loss(tiny_model, features)
            reader, tokenizer = (tiny_model, task.tokenizer) if own else load_checkpoint(byte_teacher)
            expected = 0.0
            for question in questions:
                names = task._draw(question, np.random.default_rng(0))  # all others of the article
                assert len(names) == 3
                texts = [task.passages[name].text for name in names]
                scores = []
                for text in texts:
                    encoded = encode_pairs(tokenizer, task.options, [question.text], [text])
                    windows = window_inputs(tokenizer, encoded, range(len(encoded["input_ids"])))
                    scores.append(answer_log_odds(reader, *windows).max())
                target = (torch.stack(scores).double() / 3).softmax(-1)
                encoder = ROMEncoder.from_model(tiny_model, task.tokenizer)
                query = encoder.encode_queries([question.text], max_length=12)[0]
                student = torch.tensor(encoder.encode_passages(texts) @ query / 0.2).double().log_softmax(-1)
                expected += (target * (target.log() - student)).sum().item() / 3
        assert expected > 0.001
        assert loss.item() == pytest.approx(expected, rel=0.01)

    def test_no_gradient_reaches_the_reader(self, make, tiny_model):
        model = copy.deepcopy(tiny_model).train()
        task = make(model)
        loss, _ = task.loss(model, task.collate(task.items[:4], rng()))
        loss.backward()
        assert model.training
        assert model.encoder.get_input_embeddings().weight.grad.abs().sum() > 0
        assert all(parameter.grad is None for parameter in model.heads["reading"].parameters())

    def test_the_query_tower_embeds_queries(self, make, tiny_model, byte_teacher):
        model = copy.deepcopy(tiny_model)
        add_query_tower(model)
        task = make(model, teacher=str(byte_teacher))
        task.loss(model, task.collate(task.items[:4], rng()))[0].backward()
        for tower in (model, query_tower(model)):
            assert tower.encoder.get_input_embeddings().weight.grad.abs().sum() > 0

    def test_a_reader_without_relevance_scores_by_spans(self, make, qa_model, tiny_model):
        task = make(teacher=str(qa_model))
        features = task.collate(task.items[:3], rng())
        assert not task.teacher.heads["reading"].has_relevance
        assert task.loss(tiny_model, features)[0] > 0

    def test_in_a_run_of_stages(self, tiny_checkpoint, make_recipe, data_root, tmp_path):
        tasks = {"reading": SHORT, "reader_distillation": {**SHORT, "batch_size": 4, "candidates": 3}}
        recipe = make_recipe(tiny_checkpoint, tasks=tasks, schedule="sequential", steps=4)
        train(recipe, data_root, tmp_path / "run")
        lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        assert "reader_distillation/divergence" in set().union(*map(json.loads, lines))

    def test_models_that_do_not_read_need_a_teacher(self, make, tiny_model, byte_teacher):
        retriever = ROMModel(ROMConfig(encoder=tiny_model.config.encoder, heads={"retrieval": {}}))
        with pytest.raises(RecipeError, match=r"needs a reader.*'tasks\.reader_distillation\.teacher'"):
            make(retriever)
        assert make(retriever, teacher=str(byte_teacher))

    def test_teachers_of_short_pairs_are_refused(self, make, byte_teacher):
        with pytest.raises(RecipeError, match=r"max_length' is 200; the reader takes at most 128 tokens"):
            make(teacher=str(byte_teacher), max_length=200)
