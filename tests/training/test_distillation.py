"""Learning from readers: of other tokenizers, of other kinds, or from the model's own reading."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForQuestionAnswering
from transformers.tokenization_utils_base import BatchEncoding

from rom_haystack.inference import ReadingOptions, ROMEncoder
from rom_haystack.modeling import ROMConfig, ROMModel, load_checkpoint
from training.data.dataset import DataSet, Passage, Question
from training.data.formats import read_data
from training.errors import RecipeError
from training.tasks import ReaderDistillationTask, SpanDistillationTask
from training.tasks.pairs import encode_pairs, passage_positions, window_inputs, windows_of
from training.tasks.reader_distillation import answer_log_odds
from training.tasks.span_distillation import align, moved
from training.tasks.teachers import asked, divergence, load_reader
from training.trainer import train

SHORT = {"max_length": 48, "stride": 12, "max_query_length": 12}
ROBERTA = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def roberta_config(tokenizer):
    return AutoConfig.for_model(
        "roberta",
        vocab_size=len(tokenizer),
        max_position_embeddings=130,
        type_vocab_size=1,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.3,
        **ROBERTA,
    )


@pytest.fixture(scope="session")
def byte_teacher(tmp_path_factory, byte_tokenizer):
    """Folder of a ROM checkpoint whose tokens are bytes."""
    folder = tmp_path_factory.mktemp("teachers") / "bytes"
    torch.manual_seed(11)
    ROMModel(ROMConfig(encoder=roberta_config(byte_tokenizer))).save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def qa_model(tmp_path_factory, byte_tokenizer):
    """Folder of a question answering model as transformers has them."""
    folder = tmp_path_factory.mktemp("teachers") / "qa"
    torch.manual_seed(12)
    AutoModelForQuestionAnswering.from_config(roberta_config(byte_tokenizer)).save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)
    return folder


def rng():
    return np.random.default_rng(0)


class TestDivergence:
    def test_equals_torchs_where_all_is_allowed(self):
        torch.manual_seed(0)
        target, logits = torch.randn(3, 5).softmax(-1), torch.randn(3, 5)
        expected = torch.nn.functional.kl_div(logits.log_softmax(-1), target, reduction="batchmean")
        torch.testing.assert_close(divergence(target, logits, torch.ones(3, 5, dtype=torch.bool)), expected)

    def test_what_is_not_allowed_takes_no_part(self):
        allowed = torch.tensor([[True, True, False], [True, False, False]])
        target = torch.tensor([[0.25, 0.75, 0.0], [1.0, 0.0, 0.0]])
        logits = torch.tensor([[0.3, -0.2, 9.0], [1.0, 5.0, 5.0]], requires_grad=True)
        loss = divergence(target, logits, allowed)
        student = torch.tensor([0.3, -0.2]).softmax(-1)
        expected = (0.25 * (0.25 / student[0]).log() + 0.75 * (0.75 / student[1]).log()) / 2
        torch.testing.assert_close(loss, expected)
        loss.backward()
        assert torch.isfinite(logits.grad).all()
        assert (logits.grad[~allowed] == 0).all()


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
            task.prepare(tiny_model, tmp_path)
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
        for encoder in (model.encoder, parts._teacher.encoder):
            encoder.register_forward_pre_hook(lambda *given: seen.append(len(given[2]["input_ids"])), with_kwargs=True)
        in_chunks, metrics_in_chunks = parts.loss(model, features)
        assert seen == [2, 2, 1, 2, 2, 1]
        torch.testing.assert_close(in_chunks, loss)
        torch.testing.assert_close(metrics_in_chunks, metrics)

    def test_question_answering_models_teach(self, make, qa_model, tiny_model):
        task = make(qa_model)
        features = task.collate(task.items[:3], rng())
        converted = AutoModelForQuestionAnswering.from_pretrained(qa_model).eval()
        with torch.no_grad(), asked(task._teacher) as teacher:
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
        task.prepare(tiny_model, tmp_path)
        assert task.loss(tiny_model, task.collate(questions, rng()))[0].isfinite()

    def test_in_a_run_beside_reading(self, byte_teacher, tiny_checkpoint, make_recipe, data_root, tmp_path):
        tasks = {"reading": SHORT, "span_distillation": {**SHORT, "teacher": str(byte_teacher)}}
        model, _ = load_checkpoint(train(make_recipe(tiny_checkpoint, tasks=tasks), data_root, tmp_path / "run"))
        assert "reading" in model.heads
        assert "span_distillation/divergence" in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8")


class TestReaderDistillation:
    @pytest.fixture
    def make(self, make_task, tiny_model, tmp_path):
        def make(model=tiny_model, **options):
            task = make_task(ReaderDistillationTask, **{**SHORT, **options})
            task.prepare(model, tmp_path)
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

    def test_a_reader_without_relevance_scores_by_spans(self, make, qa_model, tiny_model):
        task = make(teacher=str(qa_model))
        features = task.collate(task.items[:3], rng())
        assert not task._teacher.heads["reading"].has_relevance
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


class TestTeachers:
    def test_what_can_not_be_loaded_or_does_not_read(self, tiny_model, tiny_tokenizer, tmp_path, no_hub):
        with pytest.raises(RecipeError, match=r"'tasks\.x' is 'no/such', which can't be loaded"):
            load_reader("no/such", "tasks.x", torch.device("cpu"))
        retriever = ROMModel(ROMConfig(encoder=tiny_model.config.encoder, heads={"retrieval": {}}))
        retriever.save_pretrained(tmp_path)
        tiny_tokenizer.save_pretrained(tmp_path)
        with pytest.raises(RecipeError, match="does not read; name a ROM checkpoint with a 'reading' head"):
            load_reader(str(tmp_path), "tasks.x", torch.device("cpu"))

    @pytest.mark.parametrize("training", [True, False])
    def test_are_asked_without_dropout_and_left_as_they_were(self, tiny_model, training):
        model = copy.deepcopy(tiny_model).train(training)
        with asked(model) as reader:
            assert not reader.training
            assert not torch.is_grad_enabled()
        assert model.training is training
        assert torch.is_grad_enabled()

    @pytest.mark.parametrize(
        ("task", "options", "message"),
        [
            ("span_distillation", {}, "'tasks.span_distillation.teacher' is ''; it must be a ROM checkpoint or"),
            ("span_distillation", {"teacher": "x", "temperature": 0}, "temperature' is 0.0; it must be above 0"),
            ("span_distillation", {"teacher": "x", "relevance_weight": -1}, "relevance_weight' is -1"),
            ("span_distillation", {"teacher": "x", "stride": 400}, "stride' is 400"),
            ("reader_distillation", {"candidates": 1}, "candidates' is 1; it must be at least 2"),
            ("reader_distillation", {"temperature": 0}, "temperature' is 0.0"),
            ("reader_distillation", {"teacher": ""}, "teacher' is ''"),
            ("reader_distillation", {"teacher_temperature": -1}, "teacher_temperature' is -1"),
            ("reader_distillation", {"max_passage_length": 3}, "max_passage_length' is 3"),
        ],
    )
    def test_limits(self, make_recipe, task, options, message):
        with pytest.raises(RecipeError) as error:
            make_recipe("encoder", tasks={task: options})
        assert message in str(error.value)
