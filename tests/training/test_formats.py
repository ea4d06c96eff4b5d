"""SQuAD's and DPR's files: read, written, told apart, converted, and what can't be used named with its place."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data import json_files
from training.data.dataset import DataSet, Passage, Question, text_id
from training.data.dpr import read_dpr, write_dpr
from training.data.formats import read_data, write_data
from training.data.json_files import json_items
from training.data.jsonl import read_jsonl, write_jsonl
from training.data.squad import find_answer, read_squad, write_squad
from training.errors import DataError
from training.negatives import with_keyword_negatives

NILE = "The Nile flows north. John Speke named Lake Victoria in 1858; the lake feeds the Nile."
MOON = "Apollo 11 landed in 1969; Michael Collins stayed in orbit 🌙."
QA = {
    "id": "a1",
    "question": "Who named the lake?",
    "answers": [{"text": "Speke", "answer_start": 27}, {"text": "John Speke", "answer_start": 22}],
    "is_impossible": False,
}
IMPOSSIBLE = {
    "id": "a2",
    "question": "Who drained the lake?",
    "answers": [],
    "plausible_answers": [{"text": "Speke", "answer_start": 27}],
    "is_impossible": True,
}
COLLINS = {"id": "b1", "question": "Who stayed?", "answers": [{"text": "Michael Collins", "answer_start": 26}]}
SQUAD = {
    "version": "v2.0",
    "data": [
        {"title": "Nile", "paragraphs": [{"context": NILE, "qas": [QA, IMPOSSIBLE]}]},
        {"title": "Moon", "paragraphs": [{"context": MOON, "qas": [COLLINS]}]},
    ],
}


def context(text, title="T", **more):
    return {"title": title, "text": text, **more}


ITEM = {
    "dataset": "nq",
    "question": "Who named the lake?",
    "answers": ["John Speke", "Speke"],
    "positive_ctxs": [
        context("The lake has a name.", score=1.0, title_score=1, passage_id="p1"),
        context(NILE, "Nile", psg_id=7),
    ],
    "negative_ctxs": [context(MOON, "Moon", passage_id="p3")],
    "hard_negative_ctxs": [context("Lakes are named by kings.", None, score="12.5", passage_id="p4")],
}


@pytest.fixture
def save(tmp_path):
    """Write a value as JSON, or bytes as they are: `save(value, name)`."""

    def write(value, name="data.json"):
        path = tmp_path / name
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


class TestSquad:
    def test_reads_both_versions(self, save):
        data = read_squad(save(SQUAD))
        nile, moon = text_id(NILE), text_id(MOON)
        assert data.passages == {nile: Passage(nile, "Nile", NILE), moon: Passage(moon, "Moon", MOON)}
        assert data.questions == [
            Question("a1", "Who named the lake?", ("Speke", "John Speke"), nile, (27, 22)),
            Question("a2", "Who drained the lake?", (), nile, unanswerable=True),
            Question("b1", "Who stayed?", ("Michael Collins",), moon, (26,)),
        ]
        assert +data.left_out == {"list of plausible answers": 1}

    def test_equal_paragraphs_are_one_passage(self, save):
        articles = [{"title": title, "paragraphs": [{"context": NILE, "qas": [QA]}]} for title in ("", "A", "B")]
        data = read_squad(save({"data": articles}))
        assert [passage.title for passage in data.passages.values()] == ["A"]
        assert {question.passage_id for question in data.questions} == set(data.passages)
        assert data.left_out["further title of a passage (the first is kept)"] == 1

    def test_offsets_are_kept_where_they_are_right(self, save):
        answers = [
            {"text": "Nile", "answer_start": 80},
            {"text": "Nile", "answer_start": 81},
            {"text": "Nile", "answer_start": 4},
            {"text": "1858", "answer_start": 3},
            {"text": "north"},
            {"text": "orbit", "answer_start": 10**9},
        ]
        paragraph = {"context": NILE, "qas": [{"id": 24526, "question": "?", "answers": answers}]}
        data = read_squad(save({"data": [{"title": "Nile", "paragraphs": [paragraph]}]}))
        (question,) = data.questions
        assert question.id == "24526"  # as annotation tools write them
        assert dict(zip(question.answers, question.starts, strict=True)) == {
            "Nile": 81,
            "1858": None,
            "north": None,
            "orbit": None,
        }
        assert +data.left_out == {"repeated answer of a question": 2, "offset of an answer that stands elsewhere": 3}

    @pytest.mark.parametrize(
        ("path", "value", "message"),
        [
            (["data", 1], 3, "article 2: expected an object, found int"),
            (["data", 1, "title"], 3.5, "article 2: field 'title' must be text, found 3.5"),
            (["data", 1, "paragraphs"], None, "article 2: field 'paragraphs' must be a list, not NoneType"),
            (["data", 0, "paragraphs", 0], "x", "article 1, paragraph 1: expected an object, found str"),
            (
                ["data", 0, "paragraphs", 0, "context"],
                "",
                "article 1, paragraph 1: field 'context' must be non-empty text, found ''",
            ),
            (["data", 0, "paragraphs", 0, "qas"], {}, "article 1, paragraph 1: field 'qas' must be a list, not dict"),
            (["data", 0, "paragraphs", 0, "qas", 1], [], "article 1, paragraph 1, question 2: expected an object"),
            (["data", 0, "paragraphs", 0, "qas", 1, "id"], None, "question 2: field 'id' must be non-empty text"),
            (["data", 0, "paragraphs", 0, "qas", 1, "id"], True, "question 2: field 'id' must be text, found True"),
            (["data", 0, "paragraphs", 0, "qas", 0, "question"], 5, "question 1: field 'question' must be non-empty"),
            (["data", 0, "paragraphs", 0, "qas", 0, "answers"], "x", "question 1: field 'answers' must be a list"),
            (["data", 0, "paragraphs", 0, "qas", 0, "answers", 0], "x", "question 1: field 'text' must be non-empty"),
            (
                ["data", 0, "paragraphs", 0, "qas", 0, "answers", 0, "answer_start"],
                "27",
                "question 1: field 'answer_start' must be a whole number from 0, found '27'",
            ),
            (
                ["data", 0, "paragraphs", 0, "qas", 0, "is_impossible"],
                "no",
                "question 1: field 'is_impossible' must be true or false, found 'no'",
            ),
        ],
    )
    def test_mistakes_are_named_with_their_place(self, save, path, value, message):
        changed = json.loads(json.dumps(SQUAD))
        place = changed
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        file = save(changed)
        with pytest.raises(DataError, match=re.escape(message)) as error:
            read_squad(file)
        assert str(error.value).startswith(f"{file}, article ")

    @pytest.mark.parametrize("value", [{"data": []}, {"data": {"title": "x"}}, {"passages": [1]}, {}])
    def test_other_objects_are_no_squad_file(self, save, value):
        with pytest.raises(DataError, match=r"no articles there. A SQuAD file is an object with a list 'data'"):
            read_data(save(value))

    def test_answers_of_impossible_questions_are_counted(self, save):
        qas = [{**QA, "is_impossible": True}]
        data = read_squad(save({"data": [{"title": "Nile", "paragraphs": [{"context": NILE, "qas": qas}]}]}))
        assert data.questions[0].answers == data.questions[0].starts == ()
        assert data.left_out["answer of an impossible question"] == 2

    def test_round_trip_is_whole(self, save, tmp_path):
        data = read_squad(save(SQUAD))
        assert +write_squad(data, tmp_path / "again.json") == {}
        again = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
        assert again["version"] == "2.0"
        assert read_squad(tmp_path / "again.json") == data
        answerable = json.loads(json.dumps(SQUAD))
        del answerable["data"][0]["paragraphs"][0]["qas"][1]
        write_squad(read_squad(save(answerable)), tmp_path / "first.json")
        first = json.loads((tmp_path / "first.json").read_text(encoding="utf-8"))
        assert first["version"] == "1.1"
        assert set(first["data"][0]["paragraphs"][0]["qas"][0]) == {"id", "question", "answers"}


@pytest.mark.parametrize(
    ("answer", "text", "place"),
    [("cat", "concat cat", 7), ("cat", "concat", 3), ("(a)", "(a)", 0), ("dog", "cat", None), ("a.c", "abc", None)],
)
def test_answers_are_found_as_whole_words_first(answer, text, place):
    assert find_answer(answer, text) == place


class TestDPR:
    def test_reads_passages_and_questions(self, save):
        data = read_dpr(save([ITEM]))
        hard = Passage("p4", "", "Lakes are named by kings.")
        assert list(data.passages.values()) == [
            Passage("p1", "T", "The lake has a name."),
            Passage("7", "Nile", NILE),
            Passage("p3", "Moon", MOON),
            hard,
        ]
        # the gold passage is the first positive with an answer
        assert data.questions == [
            Question("1", "Who named the lake?", ("John Speke", "Speke"), "7", (), False, ("p1",), ("p4",))
        ]
        assert +data.left_out == {
            "field 'dataset' of an item": 1,
            "field 'score' of a passage": 2,
            "field 'title_score' of a passage": 1,
            "link from a question to a plain negative (the passage is kept)": 1,
        }

    def test_passages_merge_by_text_and_keep_texts_apart(self, save):
        items = [
            {"question": "a", "positive_ctxs": [context("one", "", passage_id="1"), context("one", "T")]},
            {
                "question": "b",
                "positive_ctxs": [context("two", passage_id="1")],
                "hard_negative_ctxs": [context("one")],
            },
            {"question": "c", "positive_ctxs": [context("three", passage_id="")], "negative_ctxs": None},
        ]
        data = read_dpr(save(items))
        assert {p.text: (p.id, p.title) for p in data.passages.values()} == {
            "one": ("1", "T"),
            "two": (text_id("two"), "T"),
            "three": (text_id("three"), "T"),
        }
        assert [q.positive_ids for q in data.questions] == [("1",), (text_id("two"),), (text_id("three"),)]
        assert data.questions[1].hard_negative_ids == ("1",)

    def test_a_positive_is_no_hard_negative(self, save):
        data = read_dpr(save([{**ITEM, "hard_negative_ctxs": ITEM["positive_ctxs"]}]))
        assert data.questions[0].hard_negative_ids == ()

    def test_items_without_positives_are_counted(self, save):
        data = read_dpr(save([{**ITEM, "positive_ctxs": []}, ITEM]))
        assert [q.id for q in data.questions] == ["2"]
        assert data.left_out["question without positive passages"] == 1

    @pytest.mark.parametrize("name", ["data.json", "data.json.gz", "data.jsonl", "data.jsonl.gz"])
    def test_forms_of_the_file(self, save, name):
        rows = [{**ITEM, "id": "x"}, {**ITEM, "id": "y"}]
        content = "\n".join(map(json.dumps, rows)) if "jsonl" in name else json.dumps(rows)
        data = read_data(save(content.encode(), name))
        assert [question.id for question in data.questions] == ["x", "y"]
        assert len(data.passages) == 4

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"question": None}, "item 2: field 'question' must be non-empty text, found None"),
            ({"answers": "x"}, "item 2: field 'answers' must be a list, not str"),
            ({"answers": ["x", 3]}, "item 2: field 'answers' must hold non-empty texts, found 3"),
            ({"positive_ctxs": None}, "item 2: field 'positive_ctxs' must be a list, not NoneType"),
            ({"negative_ctxs": {}}, "item 2: field 'negative_ctxs' must be a list, not dict"),
            ({"positive_ctxs": ["x"]}, "item 2, positive_ctxs 1: expected an object, found str"),
            (
                {"hard_negative_ctxs": [context("a"), context("")]},
                "item 2, hard_negative_ctxs 2: field 'text' must be non-empty text, found ''",
            ),
            (
                {"positive_ctxs": [context("a", ["b"])]},
                "item 2, positive_ctxs 1: field 'title' must be text, found ['b']",
            ),
            (
                {"positive_ctxs": [context("a", psg_id=1.5)]},
                "item 2, positive_ctxs 1: field 'psg_id' must be text, found 1.5",
            ),
            ({"id": []}, "item 2: field 'id' must be text, found []"),
        ],
    )
    def test_mistakes_are_named_with_their_place(self, save, changes, message):
        path = save([ITEM, {**ITEM, **changes}])
        with pytest.raises(DataError, match=re.escape(f"{path}, {message}")):
            read_dpr(path)

    def test_other_lists_are_no_dpr_file(self, save):
        with pytest.raises(DataError, match="item 1: expected an object, found int"):
            read_data(save([1, 2]))
        with pytest.raises(DataError, match="item 1: field 'positive_ctxs' must be a list, not NoneType"):
            read_data(save([{"question": "?", "answers": []}]))

    def test_writes_what_it_reads(self, save, tmp_path):
        data = read_dpr(save([ITEM]))
        left_out = write_dpr(data, tmp_path / "again.json", "nq")
        assert +left_out == {"passage that no question names": 1}  # the plain negative
        (item,) = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
        assert item == {
            "id": "1",
            "dataset": "nq",
            "question": "Who named the lake?",
            "answers": ["John Speke", "Speke"],
            "positive_ctxs": [context(NILE, "Nile", passage_id="7"), context("The lake has a name.", passage_id="p1")],
            "negative_ctxs": [],
            "hard_negative_ctxs": [context("Lakes are named by kings.", "", passage_id="p4")],
        }
        assert read_dpr(tmp_path / "again.json").questions == data.questions


class TestStream:
    def test_items_come_before_the_file_is_read_to_its_end(self, save, monkeypatch):
        monkeypatch.setattr(json_files, "_CHUNK", 8)
        items = json_items(save(b'[{"a": 1.5}, {"a": 2}, oops' + b" " * 99_999 + b"\xff"))
        assert [next(items), next(items)] == [(1, {"a": 1.5}), (2, {"a": 2})]
        with pytest.raises(DataError, match=r"item 3: not JSON \(Expecting value at 'oops"):
            next(items)

    @pytest.mark.parametrize("chunk", [1, 2, 3, 5, 8, 64])
    def test_values_are_whole_wherever_the_file_is_cut(self, save, monkeypatch, chunk):
        monkeypatch.setattr(json_files, "_CHUNK", chunk)
        values = [ITEM, 12, -1.5e-3, True, None, 'a\\"b😀\ud800]', [[], {}, "]"], {}, float("inf"), -float("inf")]
        for text in (json.dumps(values), json.dumps(values, indent=2), json.dumps(values, ensure_ascii=True, indent=0)):
            assert list(json_items(save(text.encode()))) == list(enumerate(values, start=1))
        assert list(json_items(save(b" [ ] "))) == []

    @pytest.mark.parametrize("chunk", [3, 1 << 20])
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"[" + json.dumps(ITEM).encode(), r"item 1: not JSON \(Expecting ',' or '\]' at ''"),
            (json.dumps([ITEM, ITEM]).encode()[:-30], "item 2: not JSON"),
            (b'[{"a": 1} {"a": 2}]', r"item 1: not JSON \(Expecting ',' or '\]' at '{"),
            (b"[1, ]", r"item 2: not JSON \(Expecting value at '\]'"),
            (b"[", r"item 1: not JSON \(Expecting value at ''"),
            (b"[] []", r"item 0: not JSON \(Extra data at '\['"),
            (b"[" * 100_000, "item 1: not JSON .*recursion"),
            (b"[" + b"9" * 5000 + b"]", "item 1: not JSON .*digits"),
        ],
    )
    def test_damage_is_named(self, save, monkeypatch, chunk, content, message):
        monkeypatch.setattr(json_files, "_CHUNK", chunk)
        path = save(content)
        with pytest.raises(DataError, match=message) as error:
            list(json_items(path))
        assert str(path) in str(error.value)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b'[{"question": "\xff"}]', "can't be read"),
            (b'{"data": [{"title": nan}]}', r"article 1: not JSON \(Expecting value at 'nan"),
            (b'{"a":' * 100_000, "not JSON .*recursion"),
            (b"", "it begins with ''"),
            (b" \n\t ", "it begins with ''"),
            (b"title,text\n", "neither SQuAD's JSON .* it begins with 't'"),
            (b"\x89PNG\r\n", "can't be read"),
            (b"\x00" * 99, "neither SQuAD's JSON"),
        ],
    )
    def test_what_is_no_data_file(self, save, content, message):
        path = save(content)
        with pytest.raises(DataError, match=message) as error:
            read_data(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)

    def test_lines_are_named(self, save):
        path = save((json.dumps(ITEM) + "\n\n" + "{oops}\n").encode(), "data.jsonl")
        with pytest.raises(DataError, match=re.escape(f"{path}, line 3: not JSON (")):
            read_data(path)
        path = save((json.dumps(ITEM) + "\n\n" + "{}").encode(), "data.jsonl")
        with pytest.raises(DataError, match=re.escape(f"{path}, line 3: field 'question'")):
            read_data(path)

    def test_half_a_gzip(self, save):
        path = save([{**ITEM, "id": str(n), "question": str(n) * 50} for n in range(300)], "data.json.gz")
        path.write_bytes(path.read_bytes()[:600])
        with pytest.raises(DataError, match=re.escape(f"{path}: can't be read")):
            read_data(path)

    def test_byte_order_mark_and_white_space(self, save):
        for value in ([ITEM], SQUAD):
            assert read_data(save(b"\xef\xbb\xbf \r\n" + json.dumps(value).encode())).questions


class TestFormats:
    def test_missing_passages_are_named(self, tmp_path):
        for field in ("other_positive_ids", "hard_negative_ids"):
            question = Question("q", "?", ("a",), "p", **{field: ("r",)})
            write_jsonl(DataSet({"p": Passage("p", "", "a")}, [question]), tmp_path / field)
            with pytest.raises(DataError, match="question 'q' names passage 'r', which is missing"):
                read_data(tmp_path / field)

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


PIECES = ("cat", "Été", "a.b", "🌙", "(x)", '"', "\\", "the\n", "\ud800")
WORDS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6)


@st.composite
def data_sets(draw):
    """Whole data sets as SQuAD can hold them: passages named by their text, answers taken from it."""
    texts = draw(st.lists(WORDS.map(" ".join), min_size=1, max_size=5, unique=True))
    passages = {text_id(text): Passage(text_id(text), draw(st.sampled_from(["", "T", "U"])), text) for text in texts}
    questions = []
    for number in range(draw(st.integers(1, 5))):
        passage = draw(st.sampled_from(list(passages.values())))
        starts = {}
        for _ in range(draw(st.integers(0, 3))):
            start = draw(st.integers(0, len(passage.text) - 1))
            end = draw(st.integers(start + 1, len(passage.text)))
            starts.setdefault(passage.text[start:end], start)
        questions.append(
            Question(
                str(number), draw(WORDS.map("".join)), tuple(starts), passage.id, tuple(starts.values()), not starts
            )
        )
    return DataSet(passages, questions)


@given(data_sets())
def test_round_trips_lose_nothing(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("trip")
    for kind in ("squad", "jsonl", "dpr"):
        left_out = write_data(data, folder / kind, kind, "x")
        again = read_data(folder / kind)
        by_id = {question.id: question for question in again.questions}
        if kind == "dpr":
            answered = [question for question in data.questions if question.answers]
            assert list(by_id) == [question.id for question in answered]
            assert [q.answers for q in again.questions] == [q.answers for q in answered]
            assert left_out["unanswerable question"] == len(data.questions) - len(answered)
            assert left_out["passage that no question names"] == len(data.passages) - len(again.passages)
        else:
            assert left_out == {}
            assert again.passages == data.passages
            assert by_id == {question.id: question for question in data.questions}


class TestKeywordNegatives:
    PASSAGES = (
        "Speke named the great lake in the south.",
        "The great lake feeds the river; nobody knows its name.",
        "Explorers drew the lake on maps after speke had named it.",
        "Cheese is sold in wheels.",
    )

    def data(self, **changes):
        passages = {str(i): Passage(str(i), "", text) for i, text in enumerate(self.PASSAGES)}
        return DataSet(passages, [Question("q", "Who named the great lake?", ("Speke",), "0", **changes)])

    def test_best_passages_without_the_answer(self):
        data = self.data()
        found = with_keyword_negatives(data, 1)
        assert found.questions[0].hard_negative_ids == ("1",)
        assert data.questions[0].hard_negative_ids == ()
        assert +found.left_out == {}
        several = with_keyword_negatives(data, 3)
        assert several.questions[0].hard_negative_ids == ("1", "3")
        assert +several.left_out == {"hard negative, as too few passages lack the answer": 1}

    def test_positives_and_what_is_there_already_are_left(self):
        several = with_keyword_negatives(self.data(other_positive_ids=("1",)), 1)
        assert several.questions[0].hard_negative_ids == ("3",)
        assert with_keyword_negatives(self.data(hard_negative_ids=("2",)), 1).questions[0].hard_negative_ids == ("2",)
        assert with_keyword_negatives(self.data(), 0).questions[0].hard_negative_ids == ()
        unanswerable = DataSet(self.data().passages, [Question("q", "Who?", (), "0", unanswerable=True)])
        assert with_keyword_negatives(unanswerable, 1).questions[0].hard_negative_ids == ()

    def test_texts_and_questions_without_words(self):
        passages = {name: Passage(name, "", text) for name, text in (("a", "the"), ("b", "?!"))}
        data = DataSet(passages, [Question("q", "of the", ("the",), "a")])
        with pytest.raises(DataError, match="No passage holds a word"):
            with_keyword_negatives(data, 2)
        passages["c"] = Passage("c", "", "cheese")
        assert sorted(with_keyword_negatives(data, 2).questions[0].hard_negative_ids) == ["b", "c"]


def test_left_out_counts_do_not_count_in_comparisons():
    assert DataSet({}, [], Counter(a=1)) == DataSet({}, [])
