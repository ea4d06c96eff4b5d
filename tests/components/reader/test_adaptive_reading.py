"""Reading that stops when no unread passage can plausibly change the answer."""

from __future__ import annotations

import pytest
from haystack import Document

from rom_haystack.components import ROMExtractiveReader
from rom_haystack.inference.stopping import StoppingRule

from .conftest import CPU, QUERY, scores


class TestAdaptiveReading:
    @pytest.fixture
    def adaptive(self, fresh_checkpoint):
        def make(**options):
            reader = ROMExtractiveReader(model=fresh_checkpoint, device=CPU, overlap_threshold=None, **options)
            reader.warm_up()
            reader._encoder.stopping["cautious"] = StoppingRule(1e9, 0.0)  # never stops
            reader._encoder.stopping["fast"] = StoppingRule(-1e9, 0.0)  # stops at once
            readers.append(reader)
            return reader

        readers = []
        yield make
        for reader in readers:
            reader.close()

    @staticmethod
    def read(answers):
        return {answer.document.id for answer in answers if answer.document}

    def test_off_reads_every_document_in_one_stream(self, adaptive, documents):
        answers = adaptive().run(QUERY, documents, top_k=1000)["answers"]
        assert self.read(answers) == {document.id for document in documents}

    def test_reads_in_the_order_given_until_settled(self, adaptive, documents):
        reader = adaptive(adaptive_reading="fast")
        for group in (documents, documents[::-1]):
            answers = reader.run(QUERY, group, top_k=1000)["answers"]
            assert self.read(answers) == {document.id for document in group[:2]}
            alone = reader.run(QUERY, group[:2], top_k=1000)["answers"]
            assert [(a.data, a.score) for a in answers] == [(a.data, a.score) for a in alone]

    def test_in_turn_it_stops_as_at_once(self, adaptive, documents):
        reader = adaptive(adaptive_reading="fast")
        (turn,) = reader.run_in_turn(QUERY, documents, top_k=1000)
        assert turn["read"] == 2
        assert scores(turn["answers"]) == pytest.approx(scores(reader.run(QUERY, documents, top_k=1000)["answers"]))

    def test_what_is_never_settled_is_read_whole(self, adaptive, documents):
        found, expected = (
            {
                (a.document and a.document.id, a.data, a.context): a.score
                for a in reader.run(QUERY, documents)["answers"]
            }
            for reader in (adaptive(adaptive_reading="cautious"), adaptive())
        )
        assert found == pytest.approx(expected, abs=1e-5)

    def test_each_query_of_a_batch_by_itself(self, adaptive, documents):
        reader = adaptive(adaptive_reading="fast")
        first, nothing, second = reader.run_batch(
            [QUERY, "What?", "Where?"], [documents, [], documents[::-1]], top_k=1000
        )["answers"]
        assert self.read(first) == {document.id for document in documents[:2]}
        assert self.read(second) == {document.id for document in documents[1:]}
        assert [a.data for a in nothing] == [None]

    def test_blank_documents_do_not_count(self, adaptive, documents):
        group = [Document(content=" "), *documents]
        answers = adaptive(adaptive_reading="fast").run(QUERY, group, top_k=1000)["answers"]
        assert self.read(answers) == {document.id for document in documents[:2]}

    def test_a_checkpoint_without_measurements(self, reader, documents):
        reader.adaptive_reading = "fast"
        with pytest.raises(ValueError, match=r"adaptive_reading is 'fast'.*python -m training calibrate"):
            reader.run(QUERY, documents)

    def test_another_weight_than_was_measured_with(self, adaptive, documents):
        reader = adaptive(adaptive_reading="fast", passage_score_weight=0.25)
        with pytest.raises(ValueError, match=r"passage_score_weight is 0\.25"):
            reader.run(QUERY, documents)

    def test_round_trip(self, tiny_checkpoint):
        reader = ROMExtractiveReader(model=tiny_checkpoint, adaptive_reading="cautious")
        data = reader.to_dict()
        assert data["init_parameters"]["adaptive_reading"] == "cautious"
        assert ROMExtractiveReader.from_dict(data).adaptive_reading == "cautious"
