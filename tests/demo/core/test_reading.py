"""Grouping of answers by document, and the document as the reader view shows it."""

from __future__ import annotations

from haystack import Document

from demo.core.documents import FullText
from demo.core.examples import UNANSWERABLE, choice, sample_questions
from demo.core.grouping import by_document, document_key
from demo.core.headings import heading_spans
from demo.core.reading import paragraphs, spans_in
from demo.core.results import FoundPassage, Quote


def passage(content: str, file: str, start: int = 0) -> FoundPassage:
    meta = {"file_path": file, "source_id": f"id of {file}", "split_idx_start": start}
    return FoundPassage(Document(content=content, meta=meta), 1.0, 1, 1)


def quote(text: str, where: FoundPassage, score: float = 0.5) -> Quote:
    content = where.document.content
    start = content.index(text)
    return Quote(text, score, start, start + len(text), content, start, start + len(text), None, where)


FIRST = passage("Alpha is one.", "a.txt")
SECOND = passage("Beta is two.", "a.txt", 15)
OTHER = passage("Gamma is three.", "b.txt")
TEXT = "Alpha is one.\n\nBeta is two."
FULL = FullText("A", "a.txt", TEXT, {FIRST.document.id: (0, 13), SECOND.document.id: (15, 27)}, [(0, 1), (15, 2)])


def test_answers_are_grouped_by_document_in_the_order_of_the_best():
    quotes = [quote("Beta", SECOND), quote("Gamma", OTHER), quote("one", FIRST)]
    assert by_document(quotes) == [[quotes[0], quotes[2]], [quotes[1]]]
    assert document_key(FIRST) == document_key(SECOND) != document_key(OTHER)


def test_what_is_shown_comes_first_then_the_documents_other_quotes_in_their_order():
    shown, *others = quote("two", SECOND), quote("Beta", SECOND), quote("Gamma", OTHER), quote("one", FIRST)
    spans = spans_in(FULL, SECOND, shown, [shown, *others])
    assert [TEXT[start:end] for start, end in spans] == ["two", "one", "Beta"]


def test_a_passage_can_be_shown_without_a_quote():
    [(start, end)] = spans_in(FULL, SECOND, None, [quote("Gamma", OTHER)])
    assert TEXT[start:end] == "Beta is two."


def test_a_quote_whose_passage_is_gone_is_left_out():
    gone = passage("Alpha was one.", "a.txt", 99)
    [span] = spans_in(FULL, FIRST, quote("one", FIRST), [quote("was", gone)])
    assert TEXT[slice(*span)] == "one"


def test_pages_begin_where_they_do_even_within_a_mark():
    found = paragraphs(FULL, [(9, 19)])
    assert "".join(piece.get("text", "") for piece in found) == TEXT
    assert found == [
        {"page": 1},
        {"text": "Alpha is ", "mark": None, "heading": False},
        {"text": "one.\n\n", "mark": 0, "heading": False},
        {"page": 2},
        {"text": "Beta", "mark": 0, "heading": False},
        {"text": " is two.", "mark": None, "heading": False},
    ]


def test_headings_stand_above_sentences_and_lists_have_none():
    text = "The Moon\nTides\nThe Moon causes tides.\n\nOne\nTwo\nThree\n\nPhases\nNew Moon is dark."
    found = paragraphs(FullText("The Moon", "m.md", text, {}, []), [(4, 8)])
    assert "".join(piece["text"] for piece in found) == text
    assert [(piece["text"], piece["mark"]) for piece in found if piece["heading"]] == [
        ("The ", None),
        ("Moon", 0),
        ("\nTides\n", None),
        ("Phases\n", None),
    ]


def test_of_very_many_headings_those_nearest_to_the_quote_are_set_as_such(monkeypatch):
    monkeypatch.setattr("demo.core.reading._MOST_HEADINGS", 3)
    text = "\n\n".join(f"Part {number}\nIt is a sentence." for number in range(9))
    place = text.index("Part 4")
    found = paragraphs(FullText("Parts", "p.md", text, {}, []), [(place + 7, place + 9)])
    assert "".join(piece["text"] for piece in found) == text
    assert [piece["text"] for piece in found if piece["heading"]] == ["Part 3\n", "Part 4\n", "Part 5\n"]


def test_pieces_are_looked_up_rather_than_compared_with_every_heading(monkeypatch):
    class Heading(tuple):
        asked = 0

        def __getitem__(self, place):
            Heading.asked += 1
            return super().__getitem__(place)

        def __iter__(self):
            Heading.asked += 1
            return super().__iter__()

    text = "\n\n".join(f"Part {number}\nIt is a sentence." for number in range(900))
    headings = [Heading(span) for span in heading_spans(text)]
    monkeypatch.setattr("demo.core.reading.heading_spans", lambda _: headings)
    found = paragraphs(FullText("Parts", "p.md", text, {}, []), [(0, 4)])
    assert len([piece for piece in found if piece["heading"]]) == 901
    assert Heading.asked < 10 * len(headings)


def test_examples_are_those_of_the_sample_each_turn_others_until_all_were_there():
    questions = sample_questions()
    seen = [question for turn in range(11) for question in choice(turn, 5)]
    assert set(seen) == set(questions)
    assert len(set(choice(3, 5))) == 5
    assert UNANSWERABLE not in questions
