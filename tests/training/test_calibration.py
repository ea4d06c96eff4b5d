"""What is measured for a checkpoint on retrieved passages, and the command that keeps it beside the checkpoint."""

from __future__ import annotations

import json
import shlex
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from rom_haystack.inference import EncoderSpec, ReadingOptions
from rom_haystack.inference.scores import load_scores
from rom_haystack.inference.stopping import load_stopping
from training.__main__ import app
from training.calibration import (
    RetrieveAndRead,
    calibrate,
    checks_table,
    draw,
    first_half,
    reciprocal_rank_fusion,
    scores_table,
)
from training.data.dataset import Passage, Question
from training.data.jsonl import read_passages, read_questions
from training.errors import DataError
from training.scores import fit_scores, kinds

SETS = {"questions_in": "mini", "checks_in": ["mini"], "passages_in": ["mini"], "passage_count": 2}


def checks_of(result, setting):
    return [row for row in result["stopping"]["measured"]["checks"] if row["setting"] == setting]


def load_checkpointed(checkpoint, folder):
    """Load the tiny checkpoint with the calibration of a folder beside it."""
    beside = shutil.copytree(checkpoint, folder / "beside")
    shutil.copy(folder / "calibration.json", beside)
    return EncoderSpec(str(beside), backend="torch", dtype="float32").load()


class TestData:
    def test_fusion_adds_reciprocal_ranks(self):
        # 3 is second in both; 1 and 5 are first in one of them.
        assert reciprocal_rank_fusion([[1, 3, 4], [5, 3, 2]]) == [3, 1, 5, 4, 2]

    @given(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=60), st.integers(0, 5))
    def test_halves_share_no_title(self, titles, seed):
        fits = first_half(titles, np.random.default_rng(seed))
        first, second = ({t for t, fit in zip(titles, fits, strict=True) if fit is half} for half in (True, False))
        assert not first & second
        assert 2 * fits.sum() <= len(titles)

    def test_draws_in_order_by_seed(self):
        questions = [Question(str(i), "?", (), "p") for i in range(50)]
        drawn = [[q.id for q in draw(questions, 10, np.random.default_rng(seed))] for seed in (1, 1, 2)]
        assert drawn[0] == drawn[1] != drawn[2]
        assert drawn[0] == sorted(drawn[0], key=int)
        assert draw(questions, None, np.random.default_rng(1)) == questions

    def test_reads_the_best_answer_of_each_retrieved_passage(self, tiny_encoder, data_root):
        passages = list(read_passages(data_root / "mini").values())
        questions = read_questions(data_root / "mini")[:3]
        options = ReadingOptions(answers_per_seq=1)
        work = RetrieveAndRead(tiny_encoder, passages, options)
        for order in ("dense", "bm25", "hybrid"):
            found = work.read(questions, order, 4)
            ranking = work.rank([question.text for question in questions], order, 4)
            for i, question in enumerate(questions):
                texts = [passages[row].text for row in ranking[i]]
                answers = tiny_encoder.read([question.text] * 4, texts, options)
                assert found.logits[i] == pytest.approx([answer[0].logit for answer in answers], abs=1e-4)

    def test_passages_without_text_have_no_answer(self, tiny_encoder):
        work = RetrieveAndRead(
            tiny_encoder, [Passage("a", "", "Papyrus grows."), Passage("b", "", " ")], ReadingOptions(answers_per_seq=1)
        )
        found = work.read([Question("q", "What grows?", ("papyrus",), "a")], "dense", 2)
        assert sorted(np.isinf(found.logits[0]).tolist()) == [False, True]
        assert found.em[0][np.isinf(found.logits[0])].tolist() == [0.0]


class TestScores:
    def test_the_threshold_is_fitted_on_lists_of_passages(self, tiny_checkpoint, data_root, monkeypatch):
        file = data_root / "mini" / "questions.jsonl"
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        none = [
            {**row, "id": f"no-{row['id']}", "question": f"Not: {row['question']}", "answers": [], "unanswerable": True}
            for row in rows
        ]
        file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *none]), encoding="utf-8")
        seen = []
        monkeypatch.setattr(
            "training.calibration.fit_scores", lambda judged, w: seen.append(judged) or fit_scores(judged, w)
        )
        spec = EncoderSpec(str(tiny_checkpoint), backend="torch", dtype="float32")
        sets = {**SETS, "checks_in": [], "passage_count": 7, "promises": TestCalibrate.PROMISES}
        measured = calibrate(spec, data_root, **sets)["scores"]["measured"]
        texts = [passage.text for passage in read_passages(data_root / "mini").values()]
        encoder, best = spec.load(), []
        for row in [*rows, *none]:
            answers = encoder.read([row["question"]] * 7, texts, ReadingOptions(answers_per_seq=1))
            best.append(max(answer[0].logit for answer in answers))
        assert all(np.isclose(logit, best, atol=1e-4).any() for logit in seen[0].logits)
        assert measured["passages per question"] == 7
        assert (measured["fitted on answerable"], measured["fitted on unanswerable"]) == tuple(kinds(seen[0]).values())
        assert measured["fitted on answerable"] + measured["answerable"] == 11
        assert measured["fitted on unanswerable"] + measured["unanswerable"] == 13

    def test_takes_questions_with_answers(self, tiny_checkpoint, data_root):
        file = data_root / "mini" / "questions.jsonl"
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        file.write_text("".join(json.dumps({**row, "answers": [], "unanswerable": False}) + "\n" for row in rows))
        spec = EncoderSpec(str(tiny_checkpoint), backend="torch", dtype="float32")
        with pytest.raises(DataError, match="too few questions with a known answer"):
            calibrate(spec, data_root, **{**SETS, "promises": TestCalibrate.PROMISES})

    @pytest.mark.parametrize("title", ["Nile", ""])
    def test_takes_two_articles(self, tiny_checkpoint, data_root, title):
        """Passages without a title are articles of their own."""
        file = data_root / "mini" / "passages.jsonl"
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        file.write_text("".join(json.dumps({**row, "title": title}) + "\n" for row in rows), encoding="utf-8")
        spec = EncoderSpec(str(tiny_checkpoint), backend="torch", dtype="float32")
        sets = {**SETS, "checks_in": [], "promises": {"cautious": 0.4, "fast": 0.3}}
        if title:
            with pytest.raises(DataError, match="all questions are about 'Nile'; it takes two articles"):
                calibrate(spec, data_root, **sets)
        else:
            assert calibrate(spec, data_root, **sets)["stopping"]["measured"]["fitting questions"] > 0


class TestCalibrate:
    PROMISES = {"cautious": 0.6, "fast": 0.5}  # noqa: RUF012

    def test_measures_rules_that_load(self, tiny_checkpoint, data_root, tmp_path):
        result = calibrate(
            EncoderSpec(str(tiny_checkpoint), backend="torch", dtype="float32"),
            data_root,
            promises=self.PROMISES,
            **SETS,
        )
        (tmp_path / "calibration.json").write_text(json.dumps(result), encoding="utf-8")
        rules = load_stopping(tmp_path)
        assert sorted(rules) == ["cautious", "fast"]
        measured = result["stopping"]["measured"]
        assert measured["backend"] == "torch-float32"
        assert measured["promises"] == {"cautious": 60, "fast": 50}
        assert measured["passages in the collection"] == 7
        scores = load_scores(tmp_path)
        assert scores.passage_score_weight == 0.5
        assert load_checkpointed(tiny_checkpoint, tmp_path).scores == scores
        checked = result["scores"]["measured"]
        assert checked["unanswerable"] in (0, 1)  # the one such question is about one of the halves
        assert checked["question count"] + checked["unanswerable"] >= checks_of(result, "fast")[0]["question count"]
        assert 0 <= checked["calibration error"]["low"] <= checked["calibration error"]["mean"] <= 100
        assert f"| calibration_factor | {scores.calibration_factor} |" in scores_table(result)
        checks = [row for row in measured["checks"] if row["setting"] == "fast"]
        assert [(row["order"], row["passages"]) for row in checks[:4]] == [
            ("dense", 2),
            ("dense", 4),
            ("bm25", 4),
            ("hybrid", 4),
        ]
        assert checks[0]["question count"] + measured["fitting questions"] == 12
        assert len(checks_table(result).splitlines()) == 2 + len(measured["checks"])

    def test_the_set_that_fits_is_checked_by_its_other_half_alone(self, tiny_checkpoint, data_root):
        """Where it is named for the further checks, too."""
        spec = EncoderSpec(str(tiny_checkpoint), backend="torch", dtype="float32")
        named, left_out = (
            calibrate(spec, data_root, promises=self.PROMISES, **{**SETS, "checks_in": checks})
            for checks in (["mini"], [])
        )
        assert checks_of(named, "fast") == checks_of(left_out, "fast")
        measured = named["stopping"]["measured"]
        for row in measured["checks"]:
            assert row["question count"] + measured["fitting questions"] == 12

    def test_same_seed_same_figures(self, tiny_checkpoint, data_root):
        runs = [
            calibrate(
                EncoderSpec(str(tiny_checkpoint), backend="torch", dtype="float32"),
                data_root,
                promises=self.PROMISES,
                **SETS,
            )
            for _ in range(2)
        ]
        assert runs[0] == runs[1]

    def test_too_few_questions_are_found_before_reading(self, tiny_checkpoint, data_root, monkeypatch):
        monkeypatch.setattr("training.calibration.RetrieveAndRead", None)
        with pytest.raises(DataError, match=r"questions can't show an agreement of 99\.5%"):
            calibrate(EncoderSpec(str(tiny_checkpoint), backend="torch", dtype="float32"), data_root, **SETS)

    def test_questions_about_other_passages(self, tiny_checkpoint, data_root):
        shutil.copytree(data_root / "mini", data_root / "other")
        (data_root / "other" / "passages.jsonl").write_text(json.dumps({"id": "x", "text": "Elsewhere."}) + "\n")
        with pytest.raises(DataError, match="none of the passages"):
            calibrate(
                EncoderSpec(str(tiny_checkpoint), backend="torch", dtype="float32"),
                data_root,
                **{**SETS, "passages_in": ["other"]},
            )


class TestCommand:
    @pytest.fixture
    def arguments(self, tiny_checkpoint, data_root, tmp_path):
        """Arguments of a run that works: the same questions many times, so that the promises can be shown."""
        file = data_root / "mini" / "questions.jsonl"
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        many = [{**row, "id": f"{row['id']}-{i}"} for i in range(160) for row in rows]
        file.write_text("".join(json.dumps(row) + "\n" for row in many), encoding="utf-8")
        model = shutil.copytree(tiny_checkpoint, tmp_path / "model")
        sets = ["--questions", "mini", "--check", "mini", "--collection", "mini"]
        return ["calibrate", str(model), "--data", str(data_root), *sets, "--passages", "2", "--backend", "torch"]

    def test_writes_beside_the_checkpoint_and_says_how_to_repeat_it(self, arguments, tmp_path, data_root):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        file = tmp_path / "model" / "calibration.json"
        assert str(file) in result.output.replace("\n", "")
        assert "hybrid" in result.output
        first = file.read_bytes()
        command = json.loads(first)["stopping"]["measured"]["command"]
        words = shlex.split(command.replace("DATA", str(data_root)))
        assert words[:3] == ["python", "-m", "training"]
        file.unlink()
        assert CliRunner().invoke(app, words[3:]).exit_code == 0
        assert file.read_bytes() == first

    def test_output_elsewhere(self, arguments, tmp_path):
        result = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "calibration.json")])
        assert result.exit_code == 0, result.output
        assert sorted(load_stopping(tmp_path)) == ["cautious", "fast"]
        assert not (tmp_path / "model" / "calibration.json").exists()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda a: [*a[:1], "no/such-model", *a[2:]], "no/such-model"),
            (lambda a: [*a[:3], "nowhere", *a[4:]], "mini: no such file or folder"),
            (lambda a: [*a, "--limit", "20"], "questions can't show an agreement of 99.5%"),
            (lambda a: [*a, "--output", "nowhere/calibration.json"], "nowhere is no folder"),
            (lambda a: [*a, "--dtype", "int8"], "Unknown dtype 'int8'"),
        ],
        ids=["model", "data", "limit", "output", "dtype"],
    )
    def test_mistakes_end_with_code_2_and_a_message(self, arguments, change, message):
        result = CliRunner().invoke(app, change(arguments))
        assert result.exit_code == 2
        assert isinstance(result.exception, SystemExit)
        assert message in " ".join(result.output.replace("│", " ").split())
