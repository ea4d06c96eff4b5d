"""The reader over the tiny model: no-answer, memory, batches, threads, pipelines."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest
from haystack import Document, Pipeline

from rom_haystack.components import ROMExtractiveReader

from .conftest import CPU, PASSAGES, QUERY


class TestModel:
    def test_segments_reach_the_model(self, reader, documents):
        reader.warm_up()
        seen = []
        hook = reader._encoder.backend.model.encoder.register_forward_pre_hook(
            lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True
        )
        try:
            reader.run(QUERY, documents)
        finally:
            hook.remove()
        for inputs in seen:
            segments = inputs["token_type_ids"][inputs["attention_mask"] == 1]
            assert set(segments.tolist()) == {0, 1}
        assert seen

    def test_answers_are_no_longer_than_asked(self, reader, documents, tiny_tokenizer):
        reader.max_answer_length = 3
        reader.overlap_threshold = None
        found = [a.data for a in reader.run(QUERY, documents)["answers"] if a.data]
        assert found
        assert max(len(tiny_tokenizer.tokenize(answer)) for answer in found) == 3

    def test_the_null_position_decides_on_no_answer(self, reader, documents, monkeypatch):
        reader.warm_up()
        backend = reader._encoder.backend
        run = backend.run

        def favour_null(inputs, head, **options):
            outputs = run(inputs, head, **options)
            for output in outputs:
                output["start_logits"][0] += 100
                output["end_logits"][0] += 100
            return outputs

        monkeypatch.setattr(backend, "run", favour_null)
        reader.calibration_factor = 1.0
        answers = reader.run(QUERY, documents)["answers"]
        assert answers[0].data is None
        assert answers[0].score == pytest.approx(1.0, abs=1e-6)
        assert all(a.score < 1e-6 for a in answers[1:])

    def test_a_score_does_not_depend_on_the_other_documents(self, reader, documents):
        def scores(group):
            answers = reader.run(QUERY, group, top_k=100)["answers"]
            return {
                a.document_offset.start: a.score for a in answers if a.document and a.document.id == documents[0].id
            }

        together, alone = scores(documents), scores(documents[:1])
        assert together == pytest.approx(alone, abs=1e-5)
        assert alone

    def test_memory_does_not_grow_with_the_square_of_the_window(self, reader):
        long = Document(content="The river Nile flows north to its delta. " * 800)
        reader.run(QUERY, PASSAGES)
        tracemalloc.start()
        try:
            reader.run(QUERY, [long])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        windows = 800 * 10 // 256
        assert peak < windows * 384 * 384 * 4  # what one L×L matrix per window would take

    async def test_run_async_equals_run(self, reader, documents):
        assert await reader.run_async(QUERY, documents, top_k=4) == reader.run(QUERY, documents, top_k=4)

    def test_run_batch_equals_single_runs(self, reader, documents):
        queries, groups = [QUERY, "Where is the delta?", "What?"], [documents, documents[1:], []]
        batch = reader.run_batch(queries, groups, top_k=3)["answers"]
        single = [reader.run(q, g, top_k=3)["answers"] for q, g in zip(queries, groups, strict=True)]
        for one, other in zip(batch, single, strict=True):
            assert [(a.data, a.query) for a in one] == [(a.data, a.query) for a in other]
            assert [a.score for a in one] == pytest.approx([a.score for a in other], abs=1e-5)

    def test_run_batch_reads_all_pairs_in_one_stream(self, fake, monkeypatch):
        calls = []
        read = fake._encoder.read
        monkeypatch.setattr(fake._encoder, "read", lambda *args: calls.append(len(args[0])) or read(*args))
        fake.run_batch(["a", "b"], [PASSAGES, PASSAGES[:1]])
        assert calls == [3]
        with pytest.raises(ValueError, match="2 queries for 1 lists"):
            fake.run_batch(["a", "b"], [PASSAGES])

    def test_eight_threads_agree(self, fresh_checkpoint, documents):
        reader = ROMExtractiveReader(model=fresh_checkpoint, device=CPU)
        queries = [f"What of {word}?" for word in ("radium", "Everest", "the Nile", "Egypt")]

        def scores(query):
            answers = reader.run(query, documents)["answers"]
            return {(a.query, a.data, a.document and a.document.id): a.score for a in answers}

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(scores, queries * 4))
        for query, got in zip(queries * 4, found, strict=True):
            assert got == pytest.approx(scores(query), abs=1e-5)
        reader.close()

    async def test_in_a_pipeline_sync_and_async(self, reader, documents):
        pipeline = Pipeline()
        pipeline.add_component("reader", reader)
        inputs = {"reader": {"query": QUERY, "documents": documents, "top_k": 2}}
        found = pipeline.run(inputs)["reader"]["answers"]
        assert len(found) == 2
        assert (await pipeline.run_async(inputs))["reader"]["answers"] == found
