"""Documents without text, nothing to read, odd texts; inputs stay as they are."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from haystack import Document, ExtractedAnswer

from .conftest import QUERY, check_offsets


class TestInputs:
    def test_documents_without_text_are_skipped_with_one_warning(self, reader, documents, caplog):
        blank = [
            Document(content=None, id="none"),
            Document(content="", id="empty"),
            Document(content=" \n", id="space"),
        ]
        with_blank = reader.run(QUERY, [*blank, *documents])
        assert with_blank == reader.run(QUERY, documents)
        (record,) = caplog.records
        assert all(name in record.getMessage() for name in ("none", "empty", "space"))

    @pytest.mark.parametrize("group", [[], [Document(content=None)]])
    def test_nothing_readable(self, reader, group):
        assert reader.run(QUERY, group) == {"answers": [ExtractedAnswer(query=QUERY, score=1.0)]}
        assert reader.run(QUERY, group, no_answer=False) == {"answers": []}
        assert reader.run(QUERY, group, top_k=0) == {"answers": []}
        assert reader._encoder is None  # nothing to read, nothing loaded

    def test_inputs_stay_as_they_are(self, reader, documents):
        with_embeddings = [replace(document, embedding=[0.5] * 4) for document in documents]
        before = copy.deepcopy(with_embeddings)
        answers = reader.run(QUERY, with_embeddings)["answers"]
        assert with_embeddings == before
        assert all(a.document.embedding is None for a in answers if a.document)
        assert {a.document.id for a in answers if a.document} <= {d.id for d in documents}

    @pytest.mark.parametrize(
        "content",
        [
            "\x00\x01\x02 control \x7f characters",
            "👩‍🔬 found ☢️ in 1898 👩🏽‍🚀",
            "e\u0301le\u0300ve a\u0308 n\u0303 ẹ̀ text",
            "مدينة القاهرة هي عاصمة مصر",
            "\u200f\u202eשלום עולם\u202c",
            "word " * 3000,
            "x" * 5000,
        ],
    )
    def test_odd_texts_keep_the_offset_law(self, reader, content):
        for answer in reader.run("q " * 300, [Document(content=content)])["answers"]:
            check_offsets(answer)
