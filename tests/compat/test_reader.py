from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest

from rom_haystack.compat import Answer, Document, FARMReader, Span, TransformersReader
from rom_haystack.compat.squad import evaluate
from rom_haystack.modeling import CheckpointError
from rom_haystack.questions import read_squad

QUERY = "Who found radium?"


@pytest.fixture
def documents(dicts):
    return [Document.from_dict(d) for d in dicts]


@pytest.fixture
def make(tiny_checkpoint):
    made = []

    def build(cls=FARMReader, **arguments):
        made.append(cls(str(tiny_checkpoint), use_gpu=False, **arguments))
        return made[-1]

    yield build
    for reader in made:
        reader.close()


class TestPredict:
    def test_shape(self, reader, documents):
        result = reader.predict(QUERY, documents)
        assert list(result) == ["query", "no_ans_gap", "answers"]
        assert result["query"] == QUERY
        assert type(result["no_ans_gap"]) is float
        by_id = {document.id: document for document in documents}
        assert 1 < len(result["answers"]) <= 9  # three documents with at most three answers each
        for answer in result["answers"]:
            assert isinstance(answer, Answer)
            assert answer.type == "extractive"
            assert type(answer.score) is float
            assert 0 < answer.score < 1
            document = by_id[answer.document_ids[0]]
            assert answer.document_id == document.id
            assert answer.meta == document.meta
            assert answer.meta is not document.meta
            (place,), (inside,) = answer.offsets_in_document, answer.offsets_in_context
            assert document.content[place.start : place.end] == answer.answer
            assert answer.context[inside.start : inside.end] == answer.answer
        scores = [answer.score for answer in result["answers"]]
        assert scores == sorted(scores, reverse=True)

    def test_top_k(self, reader, make, documents, alike):
        everything = reader.predict(QUERY, documents)["answers"]
        assert alike(reader.predict(QUERY, documents, top_k=2)["answers"]) == everything[:2]
        assert reader.predict(QUERY, documents, top_k=0)["answers"] == []
        assert len(make(top_k=1).predict(QUERY, documents)["answers"]) == 1
        each = [a.document_id for a in make(top_k_per_candidate=1).predict(QUERY, documents)["answers"]]
        assert len(each) == len(set(each)) == 3
        with pytest.raises(ValueError, match="top_k is -1"):
            reader.predict(QUERY, documents, top_k=-1)

    def test_contexts_are_windows(self, make):
        text = "one two three " * 40
        answers = make(context_window_size=50).predict(QUERY, [Document(text)])["answers"]
        assert all(len(a.context) <= max(50, len(a.answer)) for a in answers)

    def test_raw_scores_are_log_odds(self, make, documents):
        plain = make().predict(QUERY, documents)["answers"]
        raw = make(use_confidence_scores=False).predict(QUERY, documents)["answers"]
        assert [a.answer for a in raw] == [a.answer for a in plain]
        factor = make().reader.calibration_factor
        assert [1 / (1 + math.exp(-factor * a.score)) for a in raw] == pytest.approx([a.score for a in plain])

    def test_no_answer_competes(self, make, documents, alike):
        silent = make().predict(QUERY, documents)
        heard = make(return_no_answer=True).predict(QUERY, documents)
        assert heard["no_ans_gap"] == pytest.approx(silent["no_ans_gap"], abs=1e-5)
        (none,) = [a for a in heard["answers"] if not a.answer]
        assert (none.context, none.document_ids, none.offsets_in_document) == (None, None, [Span(0, 0)])
        assert alike([a for a in heard["answers"] if a.answer]) == silent["answers"][: len(heard["answers"]) - 1]
        assert none.score == pytest.approx(1 - silent["answers"][0].score)

    def test_the_gap_is_the_boost_that_puts_the_no_answer_first(self, make, documents):
        gap = make().predict(QUERY, documents)["no_ans_gap"]
        for more, first in ((0.01, True), (-0.01, False)):
            answers = make(return_no_answer=True, no_ans_boost=gap + more).predict(QUERY, documents)["answers"]
            assert (not answers[0].answer) is first
            assert [a.score for a in answers] == sorted((a.score for a in answers), reverse=True)
        boosted = make(no_ans_boost=gap + 1).predict(QUERY, documents)
        assert boosted["no_ans_gap"] == pytest.approx(-1)
        assert all(a.answer for a in boosted["answers"])

    def test_confidence_threshold(self, make, documents):
        scores = [a.score for a in make().predict(QUERY, documents)["answers"]]
        threshold = (scores[1] + scores[2]) / 2
        kept = make(confidence_threshold=threshold).predict(QUERY, documents)["answers"]
        assert [a.score for a in kept] == pytest.approx(scores[:2])

    def test_without_documents(self, make):
        for documents in ([], [Document("")], [Document("  \n")]):
            assert make().predict(QUERY, documents) == {"query": QUERY, "no_ans_gap": 0.0, "answers": []}
            (none,) = make(return_no_answer=True).predict(QUERY, documents)["answers"]
            assert (none.answer, none.score) == ("", 1.0)

    def test_documents_stay_as_they_are(self, reader, documents, dicts):
        answers = reader.predict(QUERY, documents)["answers"]
        answers[0].meta["name"] = "changed"
        assert [(d.content, d.meta, d.score, d.embedding) for d in documents] == [
            (d["content"], d["meta"], None, None) for d in dicts
        ]

    def test_overlapping_answers_stay_only_where_they_may(self, make):
        texts = [Document("the moon circles the earth and the earth circles the sun")]
        options = {"top_k_per_candidate": 10, "top_k": 50}
        spans = [a.offsets_in_document[0] for a in make(**options).predict(QUERY, texts)["answers"]]
        assert not [1 for a in spans for b in spans if a is not b and a.start < b.end and b.start < a.end]
        assert len(make(duplicate_filtering=-1, **options).predict(QUERY, texts)["answers"]) > len(spans)

    def test_predict_on_texts(self, reader, documents):
        texts = [document.content for document in documents]
        found = reader.predict_on_texts(QUERY, texts, top_k=3)["answers"]
        expected = reader.predict(QUERY, documents, top_k=3)["answers"]
        assert [(a.answer, a.score) for a in found] == [(a.answer, a.score) for a in expected]


class TestPredictBatch:
    def test_a_list_for_each_query(self, reader, documents, alike):
        queries, groups = [QUERY, "Where is Egypt?"], [documents[:2], documents[1:]]
        result = reader.predict_batch(queries, groups, top_k=2)
        assert list(result) == ["queries", "answers", "no_ans_gaps"]
        singles = [reader.predict(query, group, top_k=2) for query, group in zip(queries, groups, strict=True)]
        assert alike(result["answers"]) == [single["answers"] for single in singles]
        assert alike(result["no_ans_gaps"]) == [single["no_ans_gap"] for single in singles]

    def test_one_query_for_several_lists(self, reader, documents, alike):
        result = reader.predict_batch([QUERY], [documents[:1], documents[1:]], top_k=1, batch_size=1)
        assert [len(answers) for answers in result["answers"]] == [1, 1]
        assert alike(result["answers"][1]) == reader.predict(QUERY, documents[1:], top_k=1)["answers"]

    def test_a_single_list_is_asked_document_by_document(self, reader, documents, alike):
        each = [reader.predict(QUERY, [document], top_k=1)["answers"] for document in documents]
        assert alike(reader.predict_batch([QUERY], documents, top_k=1)["answers"]) == each
        two = reader.predict_batch([QUERY, QUERY], documents, top_k=1)
        assert alike(two["answers"][0]) == alike(two["answers"][1]) == alike(each)
        assert len(two["no_ans_gaps"]) == 6

    def test_nothing(self, reader, documents):
        assert reader.predict_batch([QUERY], [])["answers"] == []
        assert reader.predict_batch([QUERY, QUERY], [])["answers"] == []
        assert reader.predict_batch([QUERY, QUERY], [[], []])["answers"] == [[], []]
        with pytest.raises(ValueError, match="2 queries for 3 lists"):
            reader.predict_batch([QUERY, QUERY], [[], documents, []])


def test_transformers_reader(make, documents, alike):
    reader = make(TransformersReader, return_no_answers=True, top_k=3, context_window_size=75)
    farm = make(return_no_answer=True, top_k=3, context_window_size=150)
    assert alike(reader.predict(QUERY, documents)["answers"]) == farm.predict(QUERY, documents)["answers"]


class TestSquad:
    DATA: ClassVar = {
        "data": [
            {
                "title": "Radium",
                "paragraphs": [
                    {
                        "context": "Marie Curie found radium in 1898.",
                        "qas": [
                            {
                                "id": "1",
                                "question": QUERY,
                                "answers": [
                                    {"text": "Marie Curie", "answer_start": 0},
                                    {"text": "Curie", "answer_start": 6},
                                ],
                            },
                            {
                                "id": "2",
                                "question": "Who found gold?",
                                "is_impossible": True,
                                "answers": [],
                                "plausible_answers": [{"text": "Marie Curie", "answer_start": 0}],
                            },
                        ],
                    }
                ],
            }
        ]
    }

    @pytest.fixture
    def file(self, tmp_path):
        (tmp_path / "dev.json").write_text(json.dumps(self.DATA))
        return tmp_path / "dev.json"

    def test_figures(self, file):
        questions = read_squad(file)

        def answer(text, start):
            return Answer(text, offsets_in_document=[Span(start, start + len(text))])

        none = Answer("", offsets_in_document=[Span(0, 0)])
        partial, right, wrong = answer("Marie Curie found", 0), answer("Curie", 6), answer("1898", 28)
        figures = evaluate([*questions, questions[0]], [[partial, right], [wrong, none], [none, wrong]], top_n=2)
        assert figures == pytest.approx(
            {
                "top_n": 2,
                "EM": 0.0,
                "f1": 80 / 3,
                "top_n_accuracy": 200 / 3,
                "EM_text_answer": 0.0,
                "f1_text_answer": 40.0,
                "top_n_accuracy_text_answer": 50.0,
                "top_n_EM_text_answer": 50.0,
                "top_n_f1_text_answer": 50.0,
                "Total_text_answer": 2,
                "EM_no_answer": 0.0,
                "f1_no_answer": 0.0,
                "top_n_accuracy_no_answer": 100.0,
                "Total_no_answer": 1,
            }
        )
        beside = evaluate(questions[:1], [[answer(" found", 11)]], top_n=1)
        assert beside["top_n_accuracy"] == 0.0
        only = evaluate(questions[1:], [[none]], top_n=1)
        assert (only["EM"], only["EM_no_answer"], only["Total_text_answer"]) == (100.0, 100.0, 0)
        assert math.isnan(only["EM_text_answer"])

    def test_eval_on_file_is_what_predict_gives(self, make, file, warnings_of):
        reader = make(return_no_answer=True, top_k=4)
        figures = reader.eval_on_file(str(file.parent), file.name, device="cpu")
        questions = read_squad(file)
        found = [reader.predict(q.query, [Document(q.context)])["answers"] for q in questions]
        assert figures == evaluate(questions, found, top_n=4)
        # The no-answer counts even where predictions leave it out, and can be made to win.
        silent = make(no_ans_boost=1000.0, confidence_threshold=0.9).eval_on_file(file.parent, file.name)
        assert (silent["EM"], silent["EM_no_answer"], silent["f1_text_answer"]) == (50.0, 100.0, 0.0)
        assert [text.partition(" has")[0] for text in warnings_of()] == ["FARMReader.eval_on_file: device='cpu'"]

    @pytest.mark.parametrize("max_seq_len", [None, 100])
    def test_train(self, make, file, monkeypatch, tmp_path, tiny_checkpoint, warnings_of, max_seq_len):
        calls = []

        def train_reader(model, output, **options):
            calls.append((model, output, options))
            return Path(shutil.copytree(tiny_checkpoint, output))

        module = ModuleType("rom_haystack.compat.training")
        module.train_reader = train_reader
        monkeypatch.setitem(sys.modules, module.__name__, module)
        reader = make()
        reader.train(
            data_dir=str(file.parent),
            train_filename=file.name,
            n_epochs=5,
            batch_size=1,
            save_dir=str(tmp_path / "mine"),
            max_seq_len=max_seq_len,
            warmup_proportion=0.3,
            use_gpu=True,
        )
        assert calls == [
            (
                tiny_checkpoint,
                tmp_path / "mine",
                {
                    "data_dir": file.parent,
                    "train_filename": "dev.json",
                    "dev_filename": None,
                    "epochs": 5,
                    "batch_size": 1,
                    "learning_rate": 1e-5,
                    "max_length": max_seq_len or 256,
                    "stride": 112 if max_seq_len is None else 0,
                    "warmup_ratio": 0.3,
                },
            )
        ]
        assert reader.model_name_or_path == str(tmp_path / "mine")
        assert reader.predict(QUERY, [Document("Marie Curie")])["answers"]
        assert [text.partition(" has")[0] for text in warnings_of()] == ["FARMReader.train: use_gpu=True"]


@pytest.mark.parametrize("doc_stride", [53, 70])
def test_doc_stride_is_the_step_from_window_to_window(make, doc_stride):
    reader = make(max_seq_len=100, doc_stride=doc_stride)
    pairs = reader.reader._warm_encoder().tokenizer.pairs(
        ["the " * 13], ["the " * 300], max_seq_length=100, stride=reader.reader.stride, max_query_length=64
    )
    starts = [int(window.offsets[window.may_start][0, 0]) // len("the ") for window in pairs.windows]
    assert starts[:4] == [0, doc_stride, 2 * doc_stride, 3 * doc_stride]


@pytest.mark.parametrize(("length", "step", "shared"), [(256, 128, 112), (256, 200, 40), (128, 128, 0), (256, 1, 187)])
def test_the_tokens_that_windows_share(length, step, shared):
    assert FARMReader("rom-minilm-l6", max_seq_len=length, doc_stride=step).reader.stride == shared


def test_windows_without_step():
    with pytest.raises(ValueError, match="doc_stride is 0"):
        FARMReader("rom-minilm-l6", doc_stride=0)


def test_save_and_load(reader, documents, tmp_path, alike):
    reader.save(tmp_path / "mine")
    loaded = FARMReader.load(tmp_path / "mine", use_gpu=False, top_k=1)
    assert alike(loaded.predict(QUERY, documents)["answers"]) == reader.predict(QUERY, documents, top_k=1)["answers"]
    loaded.close()
    with pytest.raises(CheckpointError, match="missing"):
        FARMReader(str(tmp_path / "missing"), local_files_only=True).save(tmp_path / "copy")


def test_arguments_without_meaning_are_warned_of_once_by_name(warnings_of):
    for _ in range(2):
        FARMReader("rom-minilm-l6", top_k_per_sample=4, num_processes=8, progress_bar=False, duplicate_filtering=3)
        TransformersReader(tokenizer="bert-base-uncased")
    assert [text.partition(" has")[0] for text in warnings_of()] == [
        "FARMReader: top_k_per_sample=4",
        "FARMReader: num_processes=8",
        "FARMReader: progress_bar=False",
        "FARMReader: duplicate_filtering=3",
        "TransformersReader: tokenizer='bert-base-uncased'",
    ]


def test_what_is_asked_for_and_had_needs_no_warning(warnings_of):
    FARMReader("rom-minilm-l6", num_processes=0, duplicate_filtering=-1)
    FARMReader("rom-minilm-l6", num_processes=1, top_k_per_sample=1)
    assert warnings_of() == []
