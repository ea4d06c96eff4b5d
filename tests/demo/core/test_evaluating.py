"""Many questions asked, and what is said of them."""

import csv
import io
import json
import shutil
from dataclasses import replace

import pytest

from demo.core import evaluating
from demo.core.asking import Asker
from demo.core.collection import Collection
from demo.core.engine import Engine
from demo.core.evaluating import Outcome, Run
from demo.core.evaluation_report import as_csv, as_json, harmless, summarise
from demo.core.jobs import Job
from demo.core.mistakes import mistakes
from demo.core.question_files import QuestionSet, sample_question_set
from demo.core.results import Settings
from rom_haystack.inference.samples import SAMPLE_CORPUS, SAMPLE_QUESTIONS
from rom_haystack.questions import Question, parse_questions

TEXTS = {
    "heron.md": "# Heron\n\nThe heron waits beside the river.",
    "owl.txt": "The owl hunts at night.",
    "rivers.txt": "Rivers flow to the sea.",
}
QUESTIONS = (
    Question("Where does the heron wait?", "The heron waits beside the river.", ("beside the river", "river"), ()),
    Question("When does the owl hunt?", "The owl hunts at night.", ("at night",), ()),
    Question("Who built Rome?", "Rivers flow to the sea.", (), ()),
)


def silent(done, total, label):
    """Report to nobody."""


@pytest.fixture
def settings(tiny_checkpoint):
    return Settings(model=str(tiny_checkpoint), reader=str(tiny_checkpoint))


@pytest.fixture
def engine(tiny_checkpoint):
    return Engine(str(tiny_checkpoint))


@pytest.fixture
def birds(tmp_path, tiny_checkpoint):
    folder, home = tmp_path / "birds", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    collection = Collection("birds", "Birds", "linked", folder, home)
    collection.reindex(model=str(tiny_checkpoint))
    yield collection
    collection.close()


def evaluate(birds, engine, settings, *, place="documents", questions=QUESTIONS, count=99, report=silent):
    return evaluating.run(QuestionSet("q.csv", questions), count, place, birds, engine, settings, report)


@pytest.mark.parametrize("retrieval", ["hybrid", "dense", "keyword"])
def test_each_question_is_answered_as_it_is_on_the_page_ask(birds, engine, settings, retrieval):
    settings = replace(settings, retrieval=retrieval, passages=2)
    run = evaluate(birds, engine, settings)
    assert [outcome.question for outcome in run.outcomes] == list(QUESTIONS)
    for outcome in run.outcomes:
        asked = Asker(birds, engine).answer(outcome.question.query, settings)
        (best, *_) = [*asked.quotes, *asked.doubtful] or [None]
        assert outcome.quote == (best.text if best else "")
        assert outcome.answered == bool(asked.quotes)
        assert outcome.score == pytest.approx(1 - asked.no_answer_score, abs=1e-5)
        if best:
            assert (outcome.sentence, outcome.page) == (best.sentence, best.page)
            assert outcome.span == (best.sentence_start, best.sentence_end)
            assert outcome.file_path == best.passage.document.meta["file_path"]


def test_ranks_are_those_of_the_first_passage_with_an_answer(birds, engine, settings):
    run = evaluate(birds, engine, replace(settings, retrieval="keyword"))
    assert [outcome.rank for outcome in run.outcomes] == [1, 1, None]
    deep = evaluate(birds, engine, replace(settings, passages=1))
    assert deep.outcomes[0].rank is not None  # looked for beyond what was read


def test_each_paragraph_is_read_alone(birds, engine, settings):
    run = evaluate(birds, engine, settings, place="paragraphs")
    for outcome in run.outcomes:
        assert outcome.quote
        assert outcome.quote in outcome.question.context
        assert outcome.rank is None
    assert (run.collection_id, run.documents) == (None, "")
    assert "Answer recall@1" not in summarise(run).figures


def test_progress_is_told_and_ends_the_work(birds, engine, settings):
    told = []
    questions = QUESTIONS * 6
    evaluate(birds, engine, settings, questions=questions, report=lambda *now: told.append(now))
    assert [done for done, _, _ in told] == [0, 8, 16, 18]
    assert {total for _, total, _ in told} == {18}
    job = Job(lambda report: evaluate(birds, engine, settings, report=report), "Evaluating")
    job.cancel()
    assert job.wait(30)
    assert job.state == "cancelled"
    assert len(evaluate(birds, engine, settings, count=2).outcomes) == 2  # the turn was given back


def test_evaluations_wait_for_their_turn(birds, engine, settings):
    with evaluating._TURN:
        job = Job(lambda report: evaluate(birds, engine, settings, report=report), "Evaluating")
        while not job.progress.label:
            assert job.state == "running"
        assert "waiting for another evaluation" in job.progress.label
    assert job.wait(60)
    assert len(job.outcome.outcomes) == len(QUESTIONS)


def outcome(quote="Rome", *, answers=("Rome",), score=0.9, answered=True, exact=1.0, f1=1.0, rank=1, **others):
    values = {
        "title": "Italy",
        "file_path": "italy.md",
        "page": 3,
        "sentence": "It is Rome.",
        "span": (6, 10),
        **others,
    }
    return Outcome(Question("Which?", "", answers, ()), quote, score, answered, exact, f1, rank, **values)


def made(*outcomes, place="documents"):
    return Run("q.csv", 9, place, "birds", "Birds", Settings(), "torch-float32", 1.5, outcomes)


class TestSummary:
    RUN = made(
        outcome(),
        outcome("in Rome", exact=0.0, f1=2 / 3, rank=4, score=0.6),
        outcome("Paris", exact=0.0, f1=0.0, rank=None, score=0.3, answered=False),
        outcome("Paris", answers=(), exact=0.0, f1=0.0, rank=None, score=0.2, answered=False),
        outcome("Oslo", answers=(), exact=0.0, f1=0.0, rank=None, score=0.8),
    )

    def test_figures_are_those_worked_out_by_hand(self):
        figures = {name: figure.mean for name, figure in summarise(self.RUN).figures.items()}
        assert figures == {
            "Exact match": 40.0,
            "F1": pytest.approx(100 * (1 + 2 / 3 + 0 + 1 + 0) / 5, abs=0.01),
            "Answer recall@1": pytest.approx(100 / 3, abs=0.01),
            "Answer recall@5": pytest.approx(200 / 3, abs=0.01),
            "Answer recall@20": pytest.approx(200 / 3, abs=0.01),
            "Exact match of the best quote": pytest.approx(100 / 3, abs=0.01),
            "F1 of the best quote": pytest.approx(500 / 9, abs=0.01),
            "Answered, where there is an answer": pytest.approx(200 / 3, abs=0.01),
            "No answer, rightly": 50.0,
        }

    def test_every_question_is_in_a_band_of_f1(self):
        bands = {band.name: band.count for band in summarise(self.RUN).f1_bands}
        assert bands == {"0": 2, "0–20": 0, "20–40": 0, "40–60": 0, "60–80": 1, "80–100": 0, "100": 2}

    def test_recall_grows_with_the_passages(self):
        means = [figure.mean for figure in summarise(self.RUN).recall]
        assert len(means) == 20
        assert means == sorted(means)
        assert means[2] < means[3]

    def test_reliability_is_of_the_best_quotes(self):
        summary = summarise(self.RUN)
        assert [(b.count, b.confidence, b.accuracy) for b in summary.reliability] == [
            (5, pytest.approx(0.56), pytest.approx(1 / 3))
        ]
        assert summary.calibration_error == pytest.approx(0.56 - 1 / 3)
        assert len(summarise(made(*self.RUN.outcomes * 20)).reliability) == 5  # a score's answers stay together

    def test_without_unanswerable_questions_there_are_no_figures_of_them(self):
        figures = summarise(made(outcome(), place="paragraphs")).figures
        assert list(figures) == [
            "Exact match",
            "F1",
            "Exact match of the best quote",
            "F1 of the best quote",
            "Answered, where there is an answer",
        ]

    def test_without_answerable_questions_too(self):
        assert list(summarise(made(outcome(answers=()))).figures) == ["Exact match", "F1", "No answer, rightly"]


class TestMistakes:
    RUN = made(
        outcome(),
        outcome("in Rome", exact=0.0, f1=2 / 3, score=0.6),
        outcome("Paris", exact=0.0, f1=0.0, rank=None, score=0.3, answered=False),
        outcome("Oslo", exact=0.0, f1=0.0, score=0.3, answered=False),
        outcome("Bonn", exact=0.0, f1=0.0, rank=20, score=0.7),
        outcome("Bern", exact=0.0, f1=0.0, rank=2, score=0.8),
        outcome("Kyiv", answers=(), exact=0.0, f1=0.0, rank=None, score=0.8),
        outcome("Riga", answers=(), exact=0.0, f1=0.0, rank=None, score=0.1, answered=False),
    )

    def test_each_has_its_kind_worst_and_surest_first(self):
        quotes = {kind: [one.quote for one in found] for kind, found in mistakes(self.RUN).items()}
        assert quotes == {
            "No passage with the answer": ["Paris"],
            "Not answered": ["Oslo"],
            "Answered, though there is no answer": ["Kyiv"],
            "Wrong words": ["Bern", "Bonn"],
            "Partly right": ["in Rome"],
        }

    def test_on_paragraphs_no_passage_is_missed(self):
        assert next(iter(mistakes(replace(self.RUN, place="paragraphs")))) == "Not answered"

    def test_where_all_is_right_there_are_none(self):
        assert mistakes(made(outcome())) == {}


class TestDownloads:
    RUN = made(
        outcome("=1+1", title="@SUM(A1)", sentence='-2, "so"\nit is', answers=("+3", "Zoë")),
        outcome("Paris", answered=False, page=None, rank=None, exact=0.0, f1=0.0, answers=()),
    )

    def test_no_cell_is_a_formula(self):
        rows = list(csv.DictReader(io.StringIO(as_csv(self.RUN).decode("utf-8-sig"))))
        assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())
        assert rows[0]["best quote"] == "'=1+1"
        assert rows[0]["title"] == "'@SUM(A1)"
        assert rows[0]["sentence"] == '\'-2, "so"\nit is'
        assert (rows[1]["prediction"], rows[1]["best quote"], rows[1]["page"]) == ("", "Paris", "")

    @pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a", "\t=1", "\r=1", "\n=1", "\na", " =1", "\u00a0+1"])
    @pytest.mark.parametrize("wide", [False, True])
    def test_formulas_are_texts(self, text, wide):
        text = text.translate(str.maketrans("=+-@", "＝＋－＠")) if wide else text
        assert harmless(text) == f"'{text}"

    @pytest.mark.parametrize("value", ["1=1", "", " ", " a", -1.5, None])
    def test_others_stay(self, value):
        assert harmless(value) == value

    def test_the_table_can_be_asked_again(self):
        asked = parse_questions(as_csv(made(outcome(answers=("Rome", "Roma")), outcome(answers=()))), "results.csv")
        assert [question.answers for question in asked] == [("Rome", "Roma"), ()]

    def test_json_has_all_and_nothing_is_changed(self):
        summary = summarise(self.RUN)
        whole = json.loads(as_json(self.RUN, summary))
        assert whole["settings"]["retrieval"] == "hybrid"
        assert whole["figures"]["F1"]["mean"] == summary.figures["F1"].mean
        assert whole["outcomes"][0]["best quote"] == "=1+1"
        assert whole["outcomes"][0]["answers"] == ["+3", "Zoë"]


@pytest.mark.integration
def test_the_bundled_checkpoint_answers_questions_on_some_sample_articles(tmp_path):
    for name in ("docs", "home"):
        (tmp_path / name).mkdir()
    with SAMPLE_QUESTIONS.open(encoding="utf-8") as file:
        names = [line.split("\t")[0] for line in file][1:11]
    for name in names:
        shutil.copy(SAMPLE_CORPUS / name, tmp_path / "docs")
    collection = Collection("some", "Some", "linked", tmp_path / "docs", tmp_path / "home")
    collection.reindex()
    questions = (*sample_question_set().questions[:10], Question("Who wrote Winnie-the-Pooh?", "", (), ()))
    figures = summarise(evaluate(collection, Engine(), Settings(), questions=questions)).figures
    assert figures["Answer recall@20"].mean == 100
    assert figures["F1"].mean > 70
    assert figures["No answer, rightly"].mean == 100
    collection.close()
