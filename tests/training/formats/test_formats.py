"""Data sets written in each format, and what a format has no place for."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace

import pytest

from training.data.dataset import DataSet, Passage, Question
from training.data.formats import read_data, write_data
from training.data.jsonl import read_jsonl, write_jsonl
from training.errors import DataError

from .conftest import ITEM, SQUAD


class TestFormats:
    def test_missing_passages_are_named(self, tmp_path):
        for field in ("other_positive_ids", "hard_negative_ids"):
            question = Question("q", "?", ("a",), "p", **{field: ("r",)})
            write_jsonl(DataSet({"p": Passage("p", "", "a")}, [question]), tmp_path / field)
            with pytest.raises(DataError, match=r"questions\.jsonl, line 1: question 'q' names passage 'r'"):
                read_data(tmp_path / field)

    @pytest.mark.parametrize("kind", ["squad", "dpr"])
    def test_files_are_gzipped_where_their_name_says_so(self, save, tmp_path, kind):
        data = read_data(save(SQUAD))
        write_data(data, tmp_path / f"{kind}.json.gz", kind)
        write_data(data, tmp_path / f"{kind}.json", kind)
        assert gzip.decompress((tmp_path / f"{kind}.json.gz").read_bytes()) == (tmp_path / f"{kind}.json").read_bytes()

    def test_nothing_is_overwritten_and_halves_are_replaced(self, save, tmp_path):
        data = read_data(save(SQUAD))
        for kind in ("squad", "dpr", "jsonl"):
            output = tmp_path / "deep" / kind
            partial = output.with_name(f"{kind}.partial")
            partial.parent.mkdir(exist_ok=True)
            if kind == "jsonl":
                partial.mkdir()
            else:
                partial.write_text("half")
            write_data(data, output, kind)
            assert read_data(output).questions
            assert not partial.exists()
            with pytest.raises(DataError, match=f"{kind} exists already"):
                write_data(data, output, kind)

    def test_unwritable_places(self, save, tmp_path):
        data = read_data(save(SQUAD))
        with pytest.raises(DataError, match="can't be written"):
            write_data(data, tmp_path / "data.json" / "below" / "a file", "squad")

    def test_what_formats_have_no_place_for_is_counted(self, save, tmp_path):
        dpr = read_data(save([ITEM, {**ITEM, "id": "lost", "answers": ["Burton"]}, {**ITEM, "answers": []}]))
        assert write_data(dpr, tmp_path / "a.json", "squad") == {
            "id of a passage": 4,
            "further positive passage of a question": 1,
            "hard negative of a question": 1,
            "answer that is not in the gold passage": 1,
            "question without an answer in the gold passage": 2,
        }
        squad = read_data(tmp_path / "a.json")
        assert [q.id for q in squad.questions] == ["1"]
        assert squad.questions[0].starts == (22, 27)
        assert {p.text for p in squad.passages.values()} == {p.text for p in dpr.passages.values()}
        squad = read_data(save(SQUAD))
        assert write_data(squad, tmp_path / "b.json", "dpr") == {"unanswerable question": 1, "offset of an answer": 3}

    def test_jsonl_keeps_everything(self, save, tmp_path):
        for number, value in enumerate(([ITEM], SQUAD)):
            data = read_data(save(value))
            assert write_data(data, tmp_path / str(number), "jsonl") == {}
            again = read_data(tmp_path / str(number))
            assert again.passages == data.passages
            assert again.questions == [replace(q, starts=q.starts or (None,) * len(q.answers)) for q in data.questions]

    def test_jsonl_counts_what_it_does_not_know(self, tmp_path):
        (tmp_path / "passages.jsonl").write_text('{"id": "p", "text": "a b", "source": "x", "extra": null}\n')
        row = {"id": "q", "question": "?", "passage_id": "p", "free_answers": ["c"]}
        row["answers"] = [{"text": "a", "start": 0, "inferred": True}, {"text": "a", "start": 0}]
        (tmp_path / "questions.jsonl").write_text(json.dumps(row) + "\n")
        assert +read_jsonl(tmp_path).left_out == {
            "field 'source' of a passage": 1,
            "field 'free_answers' of a question": 1,
            "field 'inferred' of an answer": 1,
            "repeated answer of a question": 1,
        }


def test_left_out_counts_do_not_count_in_comparisons():
    assert DataSet({}, [], Counter(a=1)) == DataSet({}, [])
