"""What an answer says: offsets, context, page number."""

from __future__ import annotations

import pytest
from haystack import Document, ExtractedAnswer

from .conftest import QUERY, check_offsets


class TestAnswers:
    @pytest.mark.parametrize("size", [None, 1, 40, 10_000])
    def test_offsets_in_document_and_context(self, reader, documents, size):
        reader.context_window_size = size
        reader.overlap_threshold = None
        answers = reader.run(QUERY, documents)["answers"]
        assert len(answers) == 20
        for answer in answers:
            check_offsets(answer)
            assert type(answer.score) is float
            assert 0.0 <= answer.score <= 1.0
            if answer.data and size is not None:
                assert len(answer.context) <= max(size, len(answer.data))

    def test_the_context_is_the_sentence(self, fake):
        passage = "It was late. Marie Curie found radium. She won."
        fake._encoder.spans = {passage: [(13, 24, 1.0)]}
        answer = fake.run("Who found radium?", [Document(content=passage)])["answers"][0]
        assert (answer.data, answer.context) == ("Marie Curie", "Marie Curie found radium.")
        assert answer.context_offset == ExtractedAnswer.Span(0, 11)

    def test_page_numbers_count_form_feeds(self, fake, caplog):
        passage = "one\ftwo\fthree"
        fake._encoder.spans = {passage: [(0, 3, 3.0), (4, 7, 2.0), (8, 13, 1.0)]}
        answers = fake.run("q", [Document(content=passage, meta={"page_number": 5})], no_answer=False)["answers"]
        assert [a.meta for a in answers] == [{"answer_page_number": n} for n in (5, 6, 7)]
        answers = fake.run("q", [Document(content=passage)], no_answer=False)["answers"]
        assert [a.meta for a in answers] == [{}, {}, {}]
        answers = fake.run("q", [Document(content=passage, meta={"page_number": "5"})], no_answer=False)["answers"]
        assert [a.meta for a in answers] == [{}, {}, {}]
        assert "no int" in caplog.text

    def test_answers_serialize(self, reader, documents):
        for answer in reader.run(QUERY, documents)["answers"]:
            assert ExtractedAnswer.from_dict(answer.to_dict()) == answer
