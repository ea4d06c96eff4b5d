"""A reader whose passages have known answers, and what tests compare of answers."""

from __future__ import annotations

import pytest
from haystack import Document
from haystack.utils import ComponentDevice

from rom_haystack.inference import Answer
from rom_haystack.inference.reading import sigmoid

CPU = ComponentDevice.from_str("cpu")
QUERY = "Who found radium?"
PASSAGES = [Document(content="Radium glows."), Document(content="Marie Curie found it.")]


class FakeEncoder:
    """Answers with given (start, end, logit) per passage and remembers the options."""

    def __init__(self, spans):
        self.spans = spans
        self.options = None
        self.pairs = []

    def read(self, queries, passages, options):
        self.options = options
        self.pairs += zip(queries, passages, strict=True)
        return [
            [
                Answer(start, end, passage[start:end], logit, sigmoid(options.calibration_factor * logit))
                for start, end, logit in self.spans.get(passage, [])
            ]
            for passage in passages
        ]


@pytest.fixture
def fake(reader):
    """The reader over two passages with known answers, whose scores are the sigmoids of the log-odds as they are."""
    reader.calibration_factor = 1.0
    reader._encoder = FakeEncoder(
        {
            "Radium glows.": [(0, 6, 2.0), (7, 12, -1.0)],
            "Marie Curie found it.": [(0, 11, 3.0), (12, 17, 0.5)],
        }
    )
    return reader


def data(result):
    """The texts of the answers, None for the no-answer."""
    return [answer.data for answer in result["answers"]]


def scores(answers):
    """The score of each answer, by document, text and place."""
    return {
        (a.document and a.document.id, a.data, a.document_offset and a.document_offset.start): a.score for a in answers
    }


def check_offsets(answer):
    """Assert that an answer is what stands at its offsets, in its document and in its context."""
    if answer.data is None:
        return
    start, end = answer.document_offset.start, answer.document_offset.end
    assert answer.document.content[start:end] == answer.data
    assert answer.context[answer.context_offset.start : answer.context_offset.end] == answer.data
    assert answer.context in answer.document.content
