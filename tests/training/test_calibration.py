"""Fitting stopping rules, judging them, and the command that keeps them beside a checkpoint."""

from __future__ import annotations

import json
import math
import shlex
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from typer.testing import CliRunner

from rom_haystack.inference import EncoderSpec, ReadingOptions
from rom_haystack.inference.scores import ScoreCalibration, load_scores
from rom_haystack.inference.stopping import StoppingRule, load_stopping
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
from training.scores import check_scores, fit_scores, judge, kinds
from training.stopping import (
    ReadPassages,
    agreement,
    agreement_interval,
    allowed_errors,
    binomial_cdf,
    check,
    critical_levels,
    fit_rule,
    passages_read,
)
from training.unanswerable import Judged

# Few values, so that ties occur; no answer at all among them.
VALUE = st.sampled_from([-np.inf, -2.5, -0.5, 0.0, 0.29, 1.0, 2.2, 3.0, 5.3])
LOGITS = st.integers(1, 6).flatmap(
    lambda total: arrays.arrays(np.float64, st.tuples(st.integers(1, 40), st.just(total)), elements=VALUE)
)
RULES = st.builds(StoppingRule, level=st.floats(-3, 6), slope=st.floats(0, 2))


def exact_answer(logits):
    """The passage of the best answer, None for "no answer"."""
    best = int(np.argmax(logits))
    return best if logits[best] >= 0 else None


def by_hand(logits, rule, group_size):
    """One question, passage by passage, as the encoder reads it."""
    read = 0
    while read < len(logits):
        read = min(read + group_size, len(logits))
        if rule.settled(read, len(logits), logits[:read].max()):
            break
    return read


class TestStopping:
    @given(LOGITS, RULES, st.integers(1, 3))
    def test_reads_what_the_rule_asks_for(self, logits, rule, group_size):
        expected = [by_hand(row, rule, group_size) for row in logits]
        assert passages_read(logits, rule, group_size).tolist() == expected

    @given(LOGITS, RULES)
    def test_agrees_where_the_best_answer_is_the_same(self, logits, rule):
        read = passages_read(logits, rule)
        expected = [exact_answer(row[:count]) == exact_answer(row) for row, count in zip(logits, read, strict=True)]
        assert agreement(logits, read).tolist() == expected

    @given(LOGITS, RULES)
    def test_asking_less_often_agrees_no_less(self, logits, rule):
        every, in_twos = (agreement(logits, passages_read(logits, rule, size)) for size in (1, 2))
        assert (in_twos >= every).all()

    @given(LOGITS, st.floats(0, 2), st.floats(1e-6, 3))
    def test_critical_level_parts_wrong_from_right(self, logits, slope, margin):
        for row, level in zip(logits, critical_levels(logits, slope), strict=True):
            if math.isinf(level):
                rules = [(StoppingRule(-1e6, slope), True)]
            else:
                rules = [(StoppingRule(level + margin, slope), True), (StoppingRule(level - margin, slope), False)]
            for rule, right in rules:
                assert agreement(row[None], passages_read(row[None], rule)).tolist() == [right]


class TestFit:
    @given(LOGITS.filter(lambda logits: len(logits) > 4), st.floats(0.3, 0.95), st.floats(0.05, 0.5))
    def test_keeps_its_promise_on_what_it_was_fitted_on(self, logits, promise, confidence):
        try:
            rule = fit_rule(logits, promise, confidence=confidence)
        except DataError:
            assert promise ** len(logits) > 1 - confidence
            return
        agreed = agreement(logits, passages_read(logits, rule))
        assert np.sum(~agreed) <= allowed_errors(len(logits), promise, confidence)
        if confidence >= 0.5:
            assert agreed.mean() >= promise - 1 / len(logits)
        assert rule.level >= 0

    def test_finds_the_rule_that_reads_least(self):
        rng = np.random.default_rng(3)
        logits = rng.normal(size=(400, 8)) + np.where(np.arange(8) == rng.geometric(0.4, size=(400, 1)) - 1, 4, 0)
        found = passages_read(logits, fit_rule(logits, 0.9)).mean()
        allowed = allowed_errors(400, 0.9)
        for level in np.arange(0, 7, 0.25):
            for slope in np.arange(0, 2.5, 0.25):
                read = passages_read(logits, StoppingRule(level, slope))
                assert read.mean() >= found - 0.05 or np.sum(~agreement(logits, read)) > allowed
        assert 1 < found < 7

    def test_a_higher_promise_reads_more(self):
        rng = np.random.default_rng(4)
        logits = rng.normal(size=(1000, 6)) * 3
        read = [passages_read(logits, fit_rule(logits, promise)).mean() for promise in (0.6, 0.8, 0.9, 0.97, 0.995)]
        assert read == sorted(set(read))

    def test_is_kept_on_other_questions_of_the_same_kind(self):
        rng = np.random.default_rng(5)
        logits = rng.normal(size=(20_000, 6)) * 3
        rule = fit_rule(logits[:2000], 0.9)
        assert agreement(logits[2000:], passages_read(logits[2000:], rule)).mean() >= 0.9

    def test_where_the_first_passage_is_always_best_only_that_is_read(self):
        logits = np.tile([5.0, 4.0, 3.0], (100, 1))
        assert passages_read(logits, fit_rule(logits, 0.95)).tolist() == [1] * 100

    def test_answers_worse_than_none_settle_nothing(self):
        logits = np.tile([-3.0, -4.0, -5.0], (100, 1))
        assert fit_rule(logits, 0.95).level > 0

    def test_keeps_the_weight(self):
        assert fit_rule(np.ones((100, 2)), 0.9, passage_score_weight=0.25).passage_score_weight == 0.25


class TestConfidence:
    # "Rule of three": without errors, 95% confidence takes ln(0.05) / ln(promise) questions.
    @pytest.mark.parametrize(("promise", "needed"), [(0.995, 598), (0.97, 99), (0.9, 29)])
    def test_fewest_questions(self, promise, needed):
        assert allowed_errors(needed, promise) == 0
        with pytest.raises(DataError, match=rf"{needed - 1} questions can't show.*at least {needed}\."):
            allowed_errors(needed - 1, promise)

    def test_errors_of_many_questions(self):
        # Binomial tables: with 100 questions and 10% errors, P(X <= 4) is 0.0237 and P(X <= 5) 0.0576.
        assert binomial_cdf(100, 0.1)[[4, 5]] == pytest.approx([0.0237, 0.0576], abs=5e-5)
        assert allowed_errors(100, 0.9) == 4

    # Published Clopper-Pearson intervals of 0, 1 and 10 events in 100, 100 and 100.
    @pytest.mark.parametrize(
        ("errors", "low", "high"), [(0, 0.0, 0.0362), (1, 0.0003, 0.0545), (10, 0.0490, 0.1762), (100, 0.9638, 1.0)]
    )
    def test_interval(self, errors, low, high):
        assert agreement_interval(errors, 100) == pytest.approx((1 - high, 1 - low), abs=5e-5)

    def test_large_counts_do_not_underflow(self):
        assert binomial_cdf(100_000, 0.03)[3000] == pytest.approx(0.5, abs=0.01)


class TestCheck:
    FOUND = ReadPassages(
        logits=np.array([[3.0, 1.0, 5.0], [4.0, 2.0, 1.0], [1.0, -1.0, 2.0], [-2.0, -3.0, -1.0]]),
        em=np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [np.nan] * 3]),
        f1=np.array([[0.5, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.6], [np.nan] * 3]),
    )

    def test_counts_what_was_read_and_lost(self):
        # The first question stops on the wrong answer, the second on the right one; the others read on.
        row = check(self.FOUND, StoppingRule(3.0, 0.0))
        assert row["question count"] == 4
        assert row["passages"] == 3
        assert row["agreement"] == {"mean": 75.0, "low": 19.41, "high": 99.37}
        assert row["passages read"] == 2.0
        assert row["passages read in twos"] == 2.5
        assert row["EM change"] == pytest.approx(-100 / 3, abs=0.01)
        assert row["F1 change"] == pytest.approx(-50 / 3, abs=0.01)

    def test_without_stopping_nothing_changes(self):
        row = check(self.FOUND, StoppingRule(100.0, 0.0))
        assert (row["agreement"]["mean"], row["passages read"], row["EM change"], row["F1 change"]) == (100, 3, 0, 0)

    def test_unknown_answers_have_no_change(self):
        unknown = np.full((4, 3), np.nan)
        row = check(ReadPassages(self.FOUND.logits, unknown, unknown), StoppingRule(3.0, 0.0))
        assert row["EM change"] is None
        assert row["F1 change"] is None

    def test_fewer_passages_are_the_first(self):
        assert self.FOUND.top(2).logits.tolist() == self.FOUND.logits[:, :2].tolist()
        assert check(self.FOUND.top(2), StoppingRule(3.0, 0.0))["passages"] == 2


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


SETS = {"questions_in": "mini", "checks_in": ["mini"], "passages_in": ["mini"], "passage_count": 2}


def checks_of(result, setting):
    return [row for row in result["stopping"]["measured"]["checks"] if row["setting"] == setting]


def load_checkpointed(checkpoint, folder):
    """Load the tiny checkpoint with the calibration of a folder beside it."""
    beside = shutil.copytree(checkpoint, folder / "beside")
    shutil.copy(folder / "calibration.json", beside)
    return EncoderSpec(str(beside), backend="torch", dtype="float32").load()


def judged_of(answerable, logits, f1):
    return Judged(np.array(answerable), np.array(logits), np.round(f1), np.array(f1))


class TestScores:
    def test_the_factor_fits_the_best_answers(self):
        rng = np.random.default_rng(3)
        best = rng.normal(1, 5, size=4000)
        right = (rng.random(4000) < 1 / (1 + np.exp(-0.4 * best))).astype(float)
        judged = judged_of([True] * 4000, best, right)
        scores = fit_scores(judged, 0.25)
        assert scores.calibration_factor == pytest.approx(0.4, rel=0.1)
        assert (scores.no_answer_logit, scores.passage_score_weight) == (0.0, 0.25)
        row = check_scores(judged, scores)
        assert row["calibration error"] < 3 < row["calibration error by default"]
        assert (row["question count"], row["answerable"], row["unanswerable"]) == (4000, 4000, 0)
        assert row["SQuAD 2.0 F1"] is row["no-answer AUROC"] is None

    def test_scores_count_from_the_threshold(self):
        rng = np.random.default_rng(4)
        best = rng.normal(3, 5, size=8000)
        answerable = rng.random(8000) < 1 / (1 + np.exp(-0.4 * (best - 3)))
        judged = judged_of(answerable, best, answerable.astype(float))
        scores = fit_scores(judged, 0.5)
        assert scores.no_answer_logit == pytest.approx(3, abs=0.7)
        assert scores.calibration_factor == pytest.approx(0.4, rel=0.1)
        assert check_scores(judged, scores)["calibration error"] < 4

    def test_the_best_answer_of_the_retrieved_passages_is_judged(self):
        found = ReadPassages(
            logits=np.array([[-np.inf, -np.inf], [1.0, 2.0], [3.0, 0.0]]),
            em=np.array([[0.0, 0.0], [1.0, 0.0], [np.nan, np.nan]]),
            f1=np.array([[0.0, 0.0], [1.0, 0.5], [np.nan, np.nan]]),
        )
        questions = [Question(str(i), "?", gold, "p") for i, gold in enumerate([("a",), ("b",), ()])]
        judged = judge(found, questions)
        assert judged.answerable.tolist() == [True, True, False]
        assert judged.logits.tolist() == [-np.inf, 2.0, 3.0]
        assert judged.em.tolist() == [0, 0, 0]
        assert judged.f1.tolist() == [0, 0.5, 0]
        assert check_scores(judged, ScoreCalibration(1.0, 0.0))["question count"] == 2  # without text, no answer

    def test_the_threshold_serves_squad2(self):
        judged = judged_of([True, True, False, False], [5.0, 2.12345, 2.0, -1.0], [1.0, 1.0, 0.0, 0.0])
        scores = fit_scores(judged, 0.5)
        assert scores.no_answer_logit == 2.123
        row = check_scores(judged, scores)
        assert (row["SQuAD 2.0 F1"], row["SQuAD 2.0 F1 by default"], row["no-answer AUROC"]) == (100, 75, 100)

    def test_a_threshold_is_a_number_even_where_all_is_answered(self):
        everything = judged_of([True, False], [-np.inf, -4.0], [1.0, 1.0])
        assert fit_scores(everything, 0.5).no_answer_logit == -4.0

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
        assert 0 <= checked["calibration error"] <= 100
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
            (lambda a: [*a[:3], "nowhere", *a[4:]], "Is the --data folder right?"),
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
