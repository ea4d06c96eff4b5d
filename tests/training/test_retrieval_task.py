"""Retrieval against the bank: what counts for and against a query, and losses equal to their definition."""

from __future__ import annotations

import copy
import math
from itertools import chain

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from training.data.dataset import Passage, Question
from training.errors import DataError
from training.tasks import ReadingTask, RetrievalTask


def text_of(tokenizer, ids):
    """Tokens as text without spaces, in lower case: how the tiny tokenizer sees a text."""
    return "".join(piece.removeprefix("##") for piece in tokenizer.convert_ids_to_tokens(ids))


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
        ignored = task.collate(task.items, np.random.default_rng(0))["ignored_in_bank"]
        ids = list(task.passages)
        by_question = {q.id: [ids[i] for i in row.nonzero()[:, 0]] for q, row in zip(task.items, ignored, strict=True)}
        assert by_question.pop("q2") == ["p0"]  # Lake Victoria stands in p0, too
        assert not any(by_question.values())

    def test_passages_of_the_batch_with_the_answer_are_ignored(self, tiny_tokenizer):
        """Those of other articles, too, and by the metric's rule: `speke` is the answer `Speke`."""
        texts = {
            "gold": ("Nile", "Speke named the lake."),
            "article": ("Nile", "SPEKE came in 1858."),
            "elsewhere": ("Moon", "A mountain of the Moon is named after speke."),
            "far": ("Sea", "Ships carry grain, Spekes and salt."),
        }
        passages = {name: Passage(name, title, text) for name, (title, text) in texts.items()}
        questions = [Question("q", "Who named it?", ("Speke",), "gold")]
        questions += [Question(name, "What?", ("nothing",), name) for name in list(texts)[1:]]
        for contrast in ("bank", "batch"):
            task = RetrievalTask(RetrievalTask.Options(contrast=contrast), questions, passages, tiny_tokenizer, 1)
            features = task.collate(questions, np.random.default_rng(0))
            assert features["ignored"].nonzero().tolist() == [[0, 1], [0, 2]]
            if contrast == "bank":  # where all passages take part, only those of the article are looked at
                assert features["ignored_in_bank"].nonzero().tolist() == [[0, 1]]

    def test_batches_by_article_ask_many_questions_of_few_passages(self, tiny_tokenizer):
        passages = {
            f"{title}{i}": Passage(f"{title}{i}", title, f"Passage {i} of {title}.")
            for title in ("Nile", "Moon", "Sea")
            for i in range(4)
        }
        questions = [Question(f"{p}-{i}", "What?", ("of",), p) for i in range(3) for p in passages]
        options = RetrievalTask.Options(group_by_article=True, batch_size=6)
        task = RetrievalTask(options, questions, passages, tiny_tokenizer, 1)
        epochs = [[task.ids(number) for number in range(start, start + 6)] for start in (0, 6)]
        for batches in epochs:
            assert sorted(chain(*batches)) == sorted(question.id for question in questions)
            for batch in batches:
                assert len({name.split("-")[0] for name in batch}) == 2  # passages, with all their questions
                assert len({name.rstrip("0123-") for name in batch}) == 1  # of one article
        assert epochs[0] != epochs[1]
        again = RetrievalTask(options, questions, passages, tiny_tokenizer, 1)
        assert [again.ids(number) for number in reversed(range(12))][::-1] == list(chain(*epochs))

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
            ignored = {names[row] for row in features["ignored_in_bank"][0].nonzero()[:, 0]}
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

    def test_reading_takes_none_that_holds_an_answer_in_other_case(self, tiny_tokenizer):
        texts = {"gold": "Speke named the lake.", "false": "It was SPEKE who named the lake."}
        passages = {name: Passage(name, "", text) for name, text in texts.items()}
        question = Question("q", "Who named the lake?", ("Speke",), "gold", hard_negative_ids=("false",))
        task = ReadingTask(ReadingTask.Options(negative_rate=1.0), [question], passages, tiny_tokenizer, 1)
        assert task._passage_text(question, np.random.default_rng(0)) == texts["gold"]
