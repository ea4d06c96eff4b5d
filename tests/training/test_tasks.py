"""Tasks: batches as pure functions, targets that mean the answer, losses equal to their definition."""

from __future__ import annotations

import copy
import math
from itertools import chain

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from rom_haystack.modeling import ROMConfig, ROMModel
from training.data.dataset import Passage, Question
from training.errors import DataError
from training.tasks import TASKS, ReadingTask, RetrievalTask
from training.tasks.pairs import clip_to_tokens
from training.tasks.texts import occurrences
from training.trainer import set_dropout

WINDOWED = {"max_length": 48, "stride": 12, "max_query_length": 12}
#: By task, options for small batches of which a tiny model learns fast.
SMALL = {
    "reading": {**WINDOWED, "negative_rate": 0.0},
    "retrieval": {"max_passage_length": 32, "anchor_weight": 0.5},
    "masked_lm": {"max_length": 16, "mask_rate": 0.3},
    "inverse_cloze": {"max_passage_length": 32},
    "recurring_spans": {**WINDOWED, "negative_rate": 0.0},
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


@pytest.mark.parametrize("kind", TASKS.values(), ids=TASKS)
class TestBatches:
    def test_are_a_function_of_seed_and_number(self, make_task, kind):
        task = make_task(kind, batch_size=4)
        forwards = [task.batch(number) for number in range(7)]
        other = make_task(kind, batch_size=4)
        backwards = {number: other.batch(number) for number in reversed(range(7))}
        assert all(same(features, backwards[number]) for number, features in enumerate(forwards))

    def test_change_with_the_seed(self, make_task, kind):
        one, other = make_task(kind, seed=1, batch_size=4), make_task(kind, seed=2, batch_size=4)
        assert any(not same(one.batch(number), other.batch(number)) for number in range(3))

    def test_show_every_question_once_per_epoch_in_new_order(self, make_task, kind, monkeypatch):
        task, seen = make_task(kind, batch_size=4), []
        monkeypatch.setattr(task, "collate", lambda items, rng: seen.append([item.id for item in items]))
        for number in range(6):
            task.batch(number)
        epochs = [list(chain(*seen[:3])), list(chain(*seen[3:]))]
        assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(item.id for item in task.items)
        assert epochs[0] != epochs[1]

    def test_draw_anew_in_each_epoch(self, make_task, kind, monkeypatch):
        task, draws = make_task(kind, batch_size=4), []
        monkeypatch.setattr(task, "collate", lambda items, rng: draws.append(float(rng.random())))
        for number in range(6):
            task.batch(number)
        assert len(set(draws)) == 6

    def test_training_on_them_lowers_the_loss(self, make_task, model, tmp_path, kind):
        name = next(name for name, task in TASKS.items() if task is kind)
        task = make_task(kind, batch_size=11, **SMALL[name])
        task.prepare(model, tmp_path)
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
        losses = []
        for step in range(30):
            loss, _ = task.loss(model, task.batch(step))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.7 * losses[0]


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


class TestRetrievalTask:
    def test_gold_rows_are_the_questions_passages(self, make_task):
        task = make_task(RetrievalTask)
        features = task.collate(task.items, np.random.default_rng(0))
        ids = list(task.passages)
        assert [ids[row] for row in features["gold"]] == [q.passage_id for q in task.items]
        assert [ids[row] for row in features["rows"]] == ["p0", "p1", "p2", "p3", "p4", "p5", "p6"]
        assert len(features["passages"]["input_ids"]) == len(features["rows"])
        few = task.collate([task.items[8], task.items[0], task.items[1]], np.random.default_rng(0))
        assert [ids[row] for row in few["rows"]] == ["p0", "p4"]

    def test_other_passages_of_the_article_with_the_answer_are_ignored(self, make_task):
        task = make_task(RetrievalTask)
        ignored = task.collate(task.items, np.random.default_rng(0))["ignored"]
        ids = list(task.passages)
        by_question = {q.id: [ids[i] for i in row.nonzero()[:, 0]] for q, row in zip(task.items, ignored, strict=True)}
        assert by_question.pop("q2") == ["p0"]  # Lake Victoria stands in p0, too
        assert not any(by_question.values())

    def test_titles_stand_before_a_fixed_share_of_passages(self, make_task, tiny_tokenizer):
        for rate, titled in ((0.0, 0), (1.0, 6)):
            task = make_task(RetrievalTask, title_rate=rate)
            ids = task.collate(task.items, np.random.default_rng(0))["passages"]["input_ids"]
            assert (
                sum(text_of(tiny_tokenizer, row).startswith(("[CLS]nile[SEP]", "[CLS]moon[SEP]")) for row in ids)
                == titled
            )

    def test_bank_holds_the_untrained_passages_and_survives_a_restart(self, make_task, tiny_model, tmp_path):
        folder, task = tmp_path / "run", make_task(RetrievalTask)
        folder.mkdir()
        task.prepare(tiny_model, folder)
        bank = load_file(folder / "passage_bank.safetensors")["embeddings"]
        inputs = task.collate(task.items, np.random.default_rng(0))["passages"]
        with torch.no_grad():
            expected = tiny_model(**inputs, head="retrieval")["embedding"]
        torch.testing.assert_close(bank, expected, atol=0.05, rtol=0)  # the bank is made in bfloat16
        assert [path.name for path in folder.iterdir()] == ["passage_bank.safetensors"]
        trained = copy.deepcopy(tiny_model)
        with torch.no_grad():
            for parameter in trained.encoder.encoder.parameters():
                parameter.add_(torch.randn_like(parameter))
        resumed = make_task(RetrievalTask)
        resumed.prepare(trained, folder)
        assert torch.equal(resumed._bank, bank)
        (folder / "passage_bank.safetensors").unlink()
        resumed.prepare(trained, folder)
        assert not torch.allclose(resumed._bank, bank, atol=0.05)

    def test_bank_of_another_run_is_refused(self, make_task, tiny_model, tmp_path):
        save_file({"embeddings": torch.zeros(3, 64)}, tmp_path / "passage_bank.safetensors")
        with pytest.raises(DataError, match=r"shape \(3, 64\); this recipe and data need \(7, 64\)"):
            make_task(RetrievalTask).prepare(tiny_model, tmp_path)

    @pytest.mark.parametrize("training", [True, False])
    def test_bank_is_made_without_dropout_and_leaves_the_mode(self, make_task, tiny_model, tmp_path, training):
        model = copy.deepcopy(tiny_model).train(training)
        tasks = [make_task(RetrievalTask) for _ in range(2)]
        for number, task in enumerate(tasks):
            (tmp_path / str(number)).mkdir()
            task.prepare(model, tmp_path / str(number))
        assert torch.equal(tasks[0]._bank, tasks[1]._bank)
        assert model.training is training

    def test_loss_equals_its_definition(self, make_task, tiny_model, tmp_path):
        task = make_task(RetrievalTask, temperature=0.2, anchor_weight=3.0)
        task.prepare(tiny_model, tmp_path)
        moved = copy.deepcopy(tiny_model)
        with torch.no_grad():
            for parameter in moved.encoder.encoder.parameters():
                parameter.mul_(1.1)
        questions = [task.items[i] for i in (2, 0, 7, 3)]
        features = task.collate(questions, np.random.default_rng(0))
        with torch.no_grad():
            queries = moved(**features["queries"], head="retrieval")["embedding"].numpy().astype(float)
            live = moved(**features["passages"], head="retrieval")["embedding"].numpy().astype(float)
            loss, metrics = task.loss(moved, features)
        bank, ids = task._bank.numpy().astype(float), list(task.passages)
        rows = [ids.index(name) for name in ("p0", "p1", "p2", "p4")]
        ignored = {(0, ids.index("p0"))}  # holds the answer of the first question
        bank_contrast = live_contrast = 0.0
        for index, question in enumerate(questions):
            gold = ids.index(question.passage_id)
            frozen = {
                row: math.exp(queries[index] @ bank[row] / 0.2) for row in range(7) if (index, row) not in ignored
            }
            batch = {
                row: math.exp(queries[index] @ live[place] / 0.2)
                for place, row in enumerate(rows)
                if (index, row) not in ignored
            }
            bank_contrast -= math.log(frozen[gold] / sum(frozen.values())) / 4
            live_contrast -= math.log(batch[gold] / sum(batch.values())) / 4
        cosines = [
            live[place] @ bank[row] / np.linalg.norm(live[place]) / np.linalg.norm(bank[row])
            for place, row in enumerate(rows)
        ]
        anchor = 1 - np.mean(cosines)
        assert anchor > 1e-3
        assert metrics["bank_contrast"] == pytest.approx(bank_contrast, rel=1e-4)
        assert metrics["live_contrast"] == pytest.approx(live_contrast, rel=1e-4)
        assert metrics["anchor"] == pytest.approx(anchor, rel=1e-3)
        assert loss.item() == pytest.approx((bank_contrast + live_contrast) / 2 + 3.0 * anchor, rel=1e-4)
        best = [
            max((r for r in range(7) if (i, r) not in ignored), key=lambda r, i=i: queries[i] @ bank[r])
            for i in range(4)
        ]
        hits = np.mean([b == ids.index(q.passage_id) for b, q in zip(best, questions, strict=True)])
        assert metrics["recall@1"] == pytest.approx(hits)


class TestSeveralPassagesOfAQuestion:
    """Further positives and hard negatives, as DPR files name them."""

    def task(self, tokenizer, kind=RetrievalTask, **changes):
        texts = {
            "gold": ("Nile", "Speke named the lake."),
            "other": ("Nile", "The lake was named by Speke in 1858."),
            "elsewhere": ("Moon", "The lake bears the name of a queen."),
            "hard": ("Moon", "The lake has no name there."),
            "false": ("Sea", "It was Speke who named the lake."),
            "far": ("Sea", "Speke is another man here."),
        }
        passages = {name: Passage(name, title, text) for name, (title, text) in texts.items()}
        question = Question(
            "q", "Who named the lake?", ("Speke",), "gold", (), False, ("other", "elsewhere"), ("hard", "false")
        )
        return kind(kind.Options(**changes), [question], passages, tokenizer, 1)

    def test_each_batch_draws_a_positive_and_ignores_the_others(self, tiny_tokenizer):
        task = self.task(tiny_tokenizer)
        names, drawn = list(task.passages), set()
        for seed in range(20):
            features = task.collate(task.items, np.random.default_rng(seed))
            gold = names[features["gold"]]
            drawn.add(gold)
            assert [names[row] for row in features["rows"]] == [gold]
            # the false negative is ignored as it holds the answer; `far`, which nobody links to the question, is not
            ignored = {names[row] for row in features["ignored"][0].nonzero()[:, 0]}
            assert ignored == {"gold", "other", "elsewhere", "false"} - {gold}
        assert drawn == {"gold", "other", "elsewhere"}

    def test_hard_negatives_count_against_the_question(self, tiny_tokenizer, tiny_model, tmp_path):
        task = self.task(tiny_tokenizer, temperature=0.2)
        task.prepare(tiny_model, tmp_path)
        features = task.collate(task.items, np.random.default_rng(0))
        with torch.no_grad():
            query = tiny_model(**features["queries"], head="retrieval")["embedding"][0]
            _, metrics = task.loss(tiny_model, features)
        scores = dict(zip(task.passages, (task._bank @ query / 0.2).tolist(), strict=True))
        gold = list(task.passages)[features["gold"]]
        contrasted = [math.exp(scores[name]) for name in (gold, "hard", "far")]
        assert metrics["bank_contrast"] == pytest.approx(-math.log(contrasted[0] / sum(contrasted)), rel=1e-4)

    def test_reading_takes_its_negatives_from_them(self, tiny_tokenizer):
        task = self.task(tiny_tokenizer, ReadingTask, negative_rate=1.0)
        texts = {task._passage_text(task.items[0], np.random.default_rng(seed)) for seed in range(10)}
        assert texts == {"The lake has no name there."}


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
