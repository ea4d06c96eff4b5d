"""Tasks: batches as pure functions, targets that mean the answer, losses equal to their definition."""

from __future__ import annotations

import copy
import math
from itertools import chain

import numpy as np
import pytest
import torch

from rom_haystack.modeling import ROMConfig, ROMModel
from training.data.dataset import DataSet, Passage, Question
from training.starting import set_dropout
from training.tasks import TASKS, ReadingTask, RetrievalTask
from training.tasks.pairs import clip_to_tokens, text_without
from training.tasks.texts import answer_places, occurrences

WINDOWED = {"max_length": 48, "stride": 12, "max_query_length": 12}
#: By task, options for small batches of which a tiny model learns fast.
SMALL = {
    "reading": {**WINDOWED, "negative_rate": 0.0},
    "retrieval": {"max_passage_length": 32, "anchor_weight": 0.5},
    "masked_lm": {"max_length": 16, "mask_rate": 0.3},
    "inverse_cloze": {"max_passage_length": 32},
    "recurring_spans": {**WINDOWED, "negative_rate": 0.0},
    "anchor": {"max_length": 32},
    "reader_distillation": {**WINDOWED, "max_passage_length": 32, "teacher_temperature": 0.2},
    "span_distillation": {**WINDOWED, "negative_rate": 0.0},
}


def flatten(features, prefix=""):
    for name, value in features.items():
        yield from flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]


def same(one, other):
    one, other = dict(flatten(one)), dict(flatten(other))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def text_of(tokenizer, ids):
    """Tokens as text without spaces, in lower case: how the tiny tokenizer sees a text."""
    return "".join(piece.removeprefix("##") for piece in tokenizer.convert_ids_to_tokens(ids))


def seen(tokenizer, text):
    return text_of(tokenizer, tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.fixture
def model(tiny_model):
    """The tiny model with a head for every task, without dropout."""
    torch.manual_seed(2)
    heads = {**tiny_model.config.heads, "masked_lm": {}}
    made = ROMModel(ROMConfig(encoder=copy.deepcopy(tiny_model.config.encoder), heads=heads)).train()
    made.encoder.load_state_dict(tiny_model.encoder.state_dict())
    set_dropout(made, 0.0)
    return made


@pytest.fixture
def prepared(make_task, model, tmp_path, tiny_checkpoint):
    """Make a task as `make_task` does, ready to train; what learns from a teacher learns from the tiny model."""

    def make(kind, **options):
        if hasattr(kind.Options, "teacher"):
            options["teacher"] = str(tiny_checkpoint)
        task = make_task(kind, **options)
        task.load_teacher(model)
        task.prepare(model, tmp_path)
        return task

    return make


@pytest.mark.parametrize("kind", TASKS.values(), ids=TASKS)
class TestBatches:
    def test_are_a_function_of_seed_and_number(self, prepared, kind):
        task = prepared(kind, batch_size=4)
        forwards = [task.batch(number) for number in range(7)]
        other = prepared(kind, batch_size=4)
        backwards = {number: other.batch(number) for number in reversed(range(7))}
        assert all(same(features, backwards[number]) for number, features in enumerate(forwards))

    def test_change_with_the_seed(self, prepared, kind):
        one, other = prepared(kind, seed=1, batch_size=4), prepared(kind, seed=2, batch_size=4)
        assert any(not same(one.batch(number), other.batch(number)) for number in range(3))

    def test_show_every_question_once_per_epoch_in_new_order(self, prepared, kind, monkeypatch):
        task, seen = prepared(kind, batch_size=4), []
        monkeypatch.setattr(task, "collate", lambda items, rng: seen.append([item.id for item in items]))
        for number in range(6):
            task.batch(number)
        epochs = [list(chain(*seen[:3])), list(chain(*seen[3:]))]
        assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(item.id for item in task.items)
        assert epochs[0] != epochs[1]

    def test_draw_anew_in_each_epoch(self, prepared, kind, monkeypatch):
        task, draws = prepared(kind, batch_size=4), []
        monkeypatch.setattr(task, "collate", lambda items, rng: draws.append(float(rng.random())))
        for number in range(6):
            task.batch(number)
        assert len(set(draws)) == 6

    def test_training_on_them_lowers_the_loss(self, prepared, model, kind):
        name = next(name for name, task in TASKS.items() if task is kind)
        task = prepared(kind, batch_size=11, **SMALL[name])
        if name == "anchor":  # it has nothing to lower where nothing has moved
            with torch.no_grad():
                model.encoder.get_input_embeddings().weight.mul_(-1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
        losses = []
        for step in range(30):
            loss, _ = task.loss(model, task.batch(step))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert np.mean(losses[-5:]) < 0.8 * losses[0]  # of several batches, as masks are drawn anew


class TestReadingTask:
    @pytest.mark.parametrize("options", [{}, WINDOWED], ids=["whole", "windows"])
    def test_targets_are_the_answer(self, make_task, tiny_tokenizer, options):
        task = make_task(ReadingTask, negative_rate=0.0, **options)
        for question in task.items:
            features = task.collate([question], np.random.default_rng(0))
            ids, (starts, ends) = features["inputs"]["input_ids"][0], features["targets"][:, 0]
            assert features["relevant"].tolist() == [1.0]
            spans = {
                text_of(tiny_tokenizer, ids[start : end + 1])
                for start in starts.nonzero()[:, 0]
                for end in ends.nonzero()[:, 0]
                if start <= end
            }
            assert spans >= {seen(tiny_tokenizer, answer) for answer in question.answers}
            for start in starts.nonzero()[:, 0]:
                assert any(
                    text_of(tiny_tokenizer, ids[start:]).startswith(seen(tiny_tokenizer, a)) for a in question.answers
                )
            for end in ends.nonzero()[:, 0]:
                assert any(
                    text_of(tiny_tokenizer, ids[: end + 1]).endswith(seen(tiny_tokenizer, a)) for a in question.answers
                )

    def test_an_answer_that_is_no_whole_word_is_a_target(self, tiny_tokenizer):
        text = "The sixth of sixty ships sank."
        passages = {"p": Passage("p", "Sea", text)}
        for starts, places in [((13,), 1), ((), 2), ((3,), 2)]:
            question = Question("q", "How many?", ("six",), "p", starts)
            task = ReadingTask(ReadingTask.Options(), [question], passages, tiny_tokenizer, 1)
            features = task.collate([question], np.random.default_rng(0))
            ids = features["inputs"]["input_ids"][0].tolist()
            bounds = zip(*(side.nonzero()[:, 0].tolist() for side in features["targets"][:, 0]), strict=True)
            assert [text_of(tiny_tokenizer, ids[start : end + 1])[:3] for start, end in bounds] == ["six"] * places
            assert features["relevant"].tolist() == [1.0]

    def test_questions_without_their_answer_in_the_gold_passage_are_left_out_and_counted(self, caplog):
        passages = {"p": Passage("p", "Sea", "The sixth ship sank.")}
        questions = [Question(answer, "?", (answer,), "p") for answer in ("sixth", "six", "seven")]
        questions.append(Question("none", "?", (), "p", unanswerable=True))
        with caplog.at_level("INFO", "training"):
            items = ReadingTask.items_of(DataSet(passages, questions))
        assert [question.id for question in items] == ["sixth", "six", "none"]
        assert "left out 1 x question whose answer is not in its gold passage" in caplog.text

    def test_every_occurrence_is_a_target(self, make_task):
        task = make_task(ReadingTask, negative_rate=0.0)
        features = task.collate(task.items[:1], np.random.default_rng(0))  # 1858, twice in its passage
        assert features["targets"].sum(-1).tolist() == [[2], [2]]

    def test_long_passages_give_the_window_with_the_answer(self, make_task, tiny_tokenizer):
        task = make_task(ReadingTask, negative_rate=0.0, **WINDOWED)
        question = next(q for q in task.items if q.passage_id == "p5")
        features = task.collate([question], np.random.default_rng(0))
        assert features["inputs"]["input_ids"].shape[1] <= 48
        assert seen(tiny_tokenizer, "lighthouse of Pharos") in text_of(
            tiny_tokenizer, features["inputs"]["input_ids"][0]
        )

    def test_negatives_hold_no_answer_and_point_at_the_null_position(self, make_task, tiny_tokenizer):
        task = make_task(ReadingTask, negative_rate=1.0, max_length=512)
        for seed in range(5):
            for question in task.items:
                features = task.collate([question], np.random.default_rng(seed))
                text = text_of(tiny_tokenizer, features["inputs"]["input_ids"][0])
                if task.passages[question.passage_id].title == "":  # an article of one passage has no negatives
                    assert features["relevant"].tolist() == [1.0]
                    continue
                passage = text.split("[SEP]")[1]
                assert not any(seen(tiny_tokenizer, answer) in passage for answer in question.answers)
                gold = seen(tiny_tokenizer, task.passages[question.passage_id].text)
                assert passage != gold
                article = {p.id: seen(tiny_tokenizer, p.text) for p in task.passages.values()}
                title = task.passages[question.passage_id].title
                assert any(passage == article[p.id] for p in task.passages.values() if p.title == title)
                assert features["relevant"].tolist() == [0.0]
                assert features["targets"].nonzero()[:, 2].tolist() == [0, 0]

    def test_untitled_passages_are_no_article(self, tiny_tokenizer):
        passages = {str(i): Passage(str(i), "", f"Ship {i} sank.") for i in range(5)}
        question = Question("q", "Which?", ("Ship 1",), "1")
        reading = ReadingTask(ReadingTask.Options(negative_rate=1.0), [question], passages, tiny_tokenizer, 1)
        assert reading._passage_text(question, np.random.default_rng(0)) == "Ship 1 sank."
        alike = passages | {"again": Passage("again", "", "Ship 1 sank again.")}
        retrieval = RetrievalTask(RetrievalTask.Options(), [question], alike, tiny_tokenizer, 1)
        assert not retrieval.collate([question], np.random.default_rng(0))["ignored_in_bank"].any()

    def test_few_passages_are_drawn_of_a_large_article(self):
        passages = {str(i): Passage(str(i), "Sea", f"Ship {i}") for i in range(1000)}

        class Counted(list):
            looked_at = 0

            def __getitem__(self, index):
                self.looked_at += 1
                return super().__getitem__(index)

        names, drawn = Counted(passages), set()
        for seed in range(50):
            drawn.add(text_without(["harbour"], names, passages, np.random.default_rng(seed)))
        assert len(drawn) > 40
        assert names.looked_at == 50
        assert text_without(["ship"], names, passages, np.random.default_rng(0)) is None
        assert names.looked_at == 54
        assert text_without(["ship"], [], passages, np.random.default_rng(0)) is None
        draws = np.random.default_rng(0)
        text_without(["harbour"], names, passages, draws)
        few = np.random.default_rng(0)
        few.choice(1000, 4, replace=False)
        assert draws.random() == few.random()  # no permutation of the article

    def test_share_of_negatives(self, make_task):
        task = make_task(ReadingTask, negative_rate=0.3)
        questions = [q for q in task.items if q.passage_id != "p6"] * 60
        rng = np.random.default_rng(3)
        golds = [task._passage_text(q, rng) == task.passages[q.passage_id].text for q in questions]
        assert 1 - sum(golds) / len(golds) == pytest.approx(0.3, abs=0.06)

    def test_answers_are_allowed_in_the_passage_and_at_the_null_position(self, make_task, tiny_tokenizer):
        task = make_task(ReadingTask, **WINDOWED)
        features = task.collate(task.items, np.random.default_rng(0))
        inputs = features["inputs"]
        expected = (inputs["token_type_ids"] == 1) & (inputs["input_ids"] != tiny_tokenizer.sep_token_id)
        expected &= inputs["attention_mask"] == 1
        expected[:, 0] = True
        assert torch.equal(features["allowed"], expected)
        assert not (features["targets"] & ~features["allowed"]).any()
        assert features["targets"].any(-1).all()

    def test_long_questions_are_clipped(self, make_task, tiny_tokenizer):
        assert clip_to_tokens(tiny_tokenizer, "who who", 5) == "who who"
        assert clip_to_tokens(tiny_tokenizer, "the " * 9, 3) == "the the the"

    def test_loss_equals_its_definition(self, make_task, tiny_model):
        task = make_task(ReadingTask, relevance_weight=0.7)
        features = task.collate(task.items, np.random.default_rng(0))
        with torch.no_grad():
            outputs = tiny_model(**features["inputs"], head="reading")
            loss, metrics = task.loss(tiny_model, features)
        span, relevance, rows = 0.0, 0.0, len(task.items)
        for side, name in enumerate(("start_logits", "end_logits")):
            for row in range(rows):
                weights = [math.exp(x) for x in outputs[name][row].tolist()]
                allowed, target = features["allowed"][row].tolist(), features["targets"][side, row].tolist()
                right = sum(w for w, t in zip(weights, target, strict=True) if t)
                span -= math.log(right / sum(w for w, a in zip(weights, allowed, strict=True) if a)) / (2 * rows)
        for logit, relevant in zip(outputs["relevance_logits"].tolist(), features["relevant"].tolist(), strict=True):
            probability = 1 / (1 + math.exp(-logit))
            relevance -= math.log(probability if relevant else 1 - probability) / rows
        assert metrics == pytest.approx({"span_loss": span, "relevance_loss": relevance}, rel=1e-4)
        assert loss.item() == pytest.approx(span + 0.7 * relevance, rel=1e-4)


@pytest.mark.parametrize(
    ("answers", "text", "expected"),
    [
        (["cat"], "cat, catalogue; concat cat", [(0, 3), (23, 26)]),
        (["12%"], "12% or 112% or 12%x", [(0, 3)]),
        (["(a)"], "(a)", [(0, 3)]),
        (["a", "a b"], "a b", [(0, 1), (0, 3)]),
        ([], "a", []),
        (["Cat"], "cat", []),
    ],
)
def test_occurrences_are_whole_words(answers, text, expected):
    assert occurrences(answers, text) == expected


@pytest.mark.parametrize(
    ("answers", "starts", "expected"),
    [
        (("six",), (), [(0, 3), (8, 11)]),  # anywhere
        (("six",), (8,), [(8, 11)]),  # where it is said to stand
        (("six",), (1,), [(0, 3), (8, 11)]),  # where it does not
        (("ships",), (3,), [(14, 19)]),
        (("six", "sixty"), (0, None), [(8, 13)]),  # a whole word goes first
        (("Six",), (), []),
        ((), (), []),
    ],
)
def test_places_of_answers(answers, starts, expected):
    assert answer_places(Question("q", "?", answers, "p", starts), "sixth - sixty ships") == expected


def test_tasks_choose_their_questions():
    answered = Question("a", "?", ("x",), "p")
    impossible = Question("b", "?", (), "p", unanswerable=True)
    unknown = Question("c", "?", (), "p")
    assert [ReadingTask.trains_on(q) for q in (answered, impossible, unknown)] == [True, True, False]
    assert [RetrievalTask.trains_on(q) for q in (answered, impossible, unknown)] == [True, False, True]


def test_unanswerable_questions_point_at_the_null_position(make_task):
    task = make_task(ReadingTask, negative_rate=0.0)
    features = task.collate([Question("b", "Who?", (), "p2", unanswerable=True)], np.random.default_rng(0))
    assert features["relevant"].tolist() == [0.0]
    assert features["targets"].nonzero()[:, 2].tolist() == [0, 0]
