"""Questions with answers, read from the forms in which people have them."""

from __future__ import annotations

import gzip
import json

import pytest

from rom_haystack.inference.samples import SAMPLE_QUESTIONS, read_sample
from rom_haystack.questions import Question, parse_questions, read_questions, read_squad

EXPECTED = [("Who stayed in orbit?", ("Collins", "Michael Collins")), ("Wann? 🚀", ("1969",))]
ROWS = [
    {"question": "Who stayed in orbit?", "answers": [{"text": "Collins", "start": 3}, {"text": "Michael Collins"}]},
    {"question": "Unanswerable?", "answers": []},
    {"question": "Impossible?", "answers": ["Armstrong"], "is_impossible": True},
    {"question": "Wann? 🚀", "answers": ["1969", "1969", " "]},
]
SQUAD = {"version": "1.1", "data": [{"title": "Moon", "paragraphs": [{"context": "…", "qas": ROWS}]}]}


@pytest.mark.parametrize(
    "text",
    ["\n\n".join(map(json.dumps, ROWS)) + "\n", json.dumps(ROWS, indent=1), json.dumps(SQUAD)],
    ids=["lines", "list", "squad"],
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_every_form_is_read(tmp_path, text, packed, encoding):
    file = tmp_path / "questions"
    data = text.encode(encoding)
    file.write_bytes(gzip.compress(data) if packed else data)
    assert read_questions(file) == EXPECTED


def test_a_single_line_is_a_question(tmp_path):
    file = tmp_path / "one.jsonl"
    file.write_text(json.dumps(ROWS[0]))
    assert read_questions(file) == EXPECTED[:1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no question with an answer"),
        (b"[]", "no question with an answer"),
        (json.dumps(ROWS[1]).encode(), "no question with an answer"),
        (b'{"question": "Who?"\n', r"line 1: not an object .* \(Expecting"),
        (b'{"question": "Who?", "answers": ["a"]}\nnothing', "line 2: not an object"),
        (b'[{"question": "Who?", "answers": "a"}]', "question 1: not an object"),
        (b'[{"question": "Who?", "answers": [1]}]', "question 1: not an object"),
        (b'{"data": [{"title": "none"}]}', "question 1: not an object"),
        (b"3", "question 1: not an object"),
        (b"[" * 10**6, "line 1: not an object .*recursion"),
        (b"\xff\xfe\x00", "not a text file in UTF-8"),
        (gzip.compress(b"[]", mtime=0)[:12], "damaged"),
        (gzip.compress(b"[]", mtime=0)[:10] + b"\xff" * 9, "damaged"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, data, message):
    file = tmp_path / "odd.json"
    file.write_bytes(data)
    with pytest.raises(ValueError, match=rf"odd\.json.*{message}"):
        read_questions(file)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_questions(tmp_path / "none")


class TestTable:
    @pytest.mark.parametrize("name", ["q.csv", "q.TSV", "q.tab", "q.csv.gz"])
    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
    def test_every_kind_is_read(self, name, delimiter, encoding):
        lines = [
            ["Question", "note", '"answer"', "Answer 2"],
            ["Who stayed?", "easy", "Collins|Michael Collins", "Mike"],
            ['"Wann? ""Hm\n, so;""\t"', "", "", " 1969 | 1969"],
            [],
            ["Où?", "café", "", ""],
        ]
        data = "\r\n".join(delimiter.join(line) for line in lines).encode(encoding)
        assert parse_questions(gzip.compress(data) if name.endswith(".gz") else data, name) == [
            Question("Who stayed?", "", ("Collins", "Michael Collins", "Mike"), ()),
            Question('Wann? "Hm\n, so;"', "", ("1969",), ()),
            Question("Où?", "", (), ()),
        ]

    def test_the_last_answers_may_be_left_out(self):
        asked = parse_questions(b"answers,question,answers\na,One?,b\nc,Two?\n", "q.csv")
        assert [question.answers for question in asked] == [("a", "b"), ("c",)]

    def test_questions_without_answers_are_not_read_where_answers_are_wanted(self, tmp_path):
        (tmp_path / "q.csv").write_text("question,answer\nOne?,\nTwo?,2\n")
        assert read_questions(tmp_path / "q.csv") == [("Two?", ("2",))]

    def test_the_bundled_questions_are_such_a_table(self):
        asked = read_questions(SAMPLE_QUESTIONS)
        assert [(query, answers[0]) for query, answers in asked] == [
            (q.text, q.answer) for q in read_sample().questions
        ]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "line 1: the first line must name .* found nothing"),
            ("\nWho?,me\n", "line 2: the first line must name .* found 'who\\?', 'me'"),
            ("question,reply\nWho?,me\n", "line 1: the first line must name the columns 'question' and 'answer'"),
            ("question,answer\n", "no question there"),
            ("question,answer\nWho?,me, myself\n", "line 2: 3 cells under 2 columns. .* with a comma"),
            ("question;answer\n\n\nWho?\n", "line 4: 1 cells under 2 columns. .* with a semicolon"),
            ('question,answer\n"One\n?",1\n ,me\n', "line 4, column 'question': no question"),
            ('question,answer\nOne?,1\n"Who?,me\nTwo?,2\n', "line 3: a cell that can't be read .*unexpected end"),
            ("question,answer\nWho?," + "x" * 200_000, "line 2: a cell that can't be read .*limit"),
            ("\0\1\2\3" * 9, "binary"),
        ],
    )
    def test_mistakes_are_named_with_their_place(self, text, message):
        with pytest.raises(ValueError, match=rf"q\.csv.*{message}"):
            parse_questions(text.encode(), "q.csv")


def test_halves_of_characters_are_replaced():
    rows = [{"question": "Who \ud800?", "answers": ["\udc00"]}]
    data = json.dumps({"data": [{"paragraphs": [{"context": "\ud800", "qas": rows}]}]}).encode()
    assert parse_questions(data, "q.json") == [Question("Who \ufffd?", "\ufffd", ("\ufffd",), ())]


class TestSquad:
    CONTEXT = "Marie Curie found radium in 1898."
    ROWS = (
        {
            "id": "1",
            "question": "Who found radium?",
            "answers": [{"text": "Marie Curie", "answer_start": 0}, {"text": "Curie", "answer_start": 6}],
        },
        {"question": "Who found gold?", "is_impossible": True, "answers": [{"text": "1898", "answer_start": 28}]},
        {"question": "Who found silver?"},
    )

    @staticmethod
    def of(rows, context=CONTEXT) -> bytes:
        return json.dumps({"data": [{"paragraphs": [{"context": context, "qas": rows}]}]}).encode()

    @pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "byte order mark"])
    def test_questions_come_with_paragraphs_and_places(self, tmp_path, mark, packed):
        data = mark + self.of(self.ROWS)
        (tmp_path / "dev.json").write_bytes(gzip.compress(data) if packed else data)
        assert read_squad(tmp_path / "dev.json") == [
            Question("Who found radium?", self.CONTEXT, ("Marie Curie", "Curie"), ((0, 11), (6, 11))),
            Question("Who found gold?", self.CONTEXT, (), ()),
            Question("Who found silver?", self.CONTEXT, (), ()),
        ]

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "not JSON"),
            (b"[" * 10**6, "not JSON"),
            (b"[]", "question 1: no question of SQuAD's form"),
            (b"{}", "question 1: no question of SQuAD's form"),
            (b'{"data": [{}]}', "question 1: no question of SQuAD's form"),
            (b'{"data": [{"paragraphs": 3}]}', "question 1: no question of SQuAD's form"),
            (b'{"data": []}', "no question there"),
            (of(ROWS, context=None), "question 1: no question of SQuAD's form"),
            (of([*ROWS, "Who?"]), "question 4: not an object"),
            (of([{"question": "Who?", "answers": ["1898"]}]), "question 1: an answer without"),
            (of([{"question": "Who?", "answers": [{"text": "1", "answer_start": None}]}]), "1: an answer without"),
            (b"\xff\xfe\x00", "not a text file in UTF-8"),
        ],
    )
    def test_other_files_are_refused_by_name(self, tmp_path, data, message):
        (tmp_path / "dev.json").write_bytes(data)
        with pytest.raises(ValueError, match=rf"dev\.json.*{message}"):
            read_squad(tmp_path / "dev.json")
