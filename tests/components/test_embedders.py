from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from haystack import Document, Pipeline, tracing
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.tracing.tracer import NullTracer
from haystack.utils import ComponentDevice

from rom_haystack.components import ROMDocumentEmbedder, ROMTextEmbedder

CPU = ComponentDevice.from_str("cpu")
EMBEDDERS = [ROMTextEmbedder, ROMDocumentEmbedder]


def embed(embedder, text):
    """Embed one text with either embedder."""
    if isinstance(embedder, ROMTextEmbedder):
        return embedder.run(text)["embedding"]
    return embedder.run([Document(content=text)])["documents"][0].embedding


@pytest.fixture
def make(tiny_checkpoint):
    made = []

    def build(cls, **options):
        made.append(cls(model=str(tiny_checkpoint), device=CPU, **options))
        return made[-1]

    yield build
    for embedder in made:
        embedder.close()


class TestTextEmbedder:
    def test_embeds_as_the_encoder_does_in_python_floats(self, text_embedder, tiny_encoder):
        embedding = text_embedder.run("Who found radium?")["embedding"]
        assert all(type(value) is float for value in embedding)
        np.testing.assert_allclose(embedding, tiny_encoder.encode_queries(["Who found radium?"])[0], atol=1e-6)

    @pytest.mark.parametrize("wrong", [None, 3, ["a"], Document(content="a")])
    def test_other_than_text_is_a_type_error_with_a_remedy(self, text_embedder, wrong):
        with pytest.raises(TypeError, match="ROMDocumentEmbedder"):
            text_embedder.run(wrong)

    def test_run_batch_equals_single_runs(self, text_embedder):
        texts = ["a river", "", "what is the longest river of them all?", "é\u0301 👩‍🔬 שלום"]
        batch = text_embedder.run_batch(texts)["embeddings"]
        np.testing.assert_allclose(batch, [text_embedder.run(t)["embedding"] for t in texts], atol=1e-5)
        assert text_embedder.run_batch([]) == {"embeddings": []}

    async def test_run_async_equals_run(self, text_embedder):
        assert await text_embedder.run_async("a river") == text_embedder.run("a river")

    def test_prefix_and_suffix(self, make):
        plain, dressed = make(ROMTextEmbedder), make(ROMTextEmbedder, prefix="query: ", suffix=" now")
        assert dressed.run("river")["embedding"] == plain.run("query: river now")["embedding"]

    def test_eight_threads_agree(self, fresh_checkpoint):
        embedder = ROMTextEmbedder(model=str(fresh_checkpoint), device=CPU)
        texts = [f"question {i} about rivers" for i in range(8)]
        with ThreadPoolExecutor(8) as pool:  # the first call loads the model, in all threads at once
            found = list(pool.map(lambda text: embedder.run(text)["embedding"], texts * 4))
        assert found == [embedder.run(text)["embedding"] for text in texts] * 4
        embedder.close()


class TestDocumentEmbedder:
    def test_inputs_stay_as_they_are(self, document_embedder, documents):
        before = copy.deepcopy(documents)
        embedded = document_embedder.run(documents)["documents"]
        assert documents == before
        assert [d.id for d in embedded] == [d.id for d in documents]
        assert all(type(value) is float for d in embedded for value in d.embedding)

    def test_meta_comes_before_the_separator_token(self, make, tiny_encoder, documents):
        embedder = make(ROMDocumentEmbedder, meta_fields_to_embed=["title", "missing"], progress_bar=False)
        texts = [f"Radium [SEP] {documents[0].content}", documents[1].content, documents[2].content]
        found = [d.embedding for d in embedder.run(documents)["documents"]]
        np.testing.assert_allclose(found, tiny_encoder.encode_passages(texts), atol=1e-5)
        assert tiny_encoder.separator == " [SEP] "

    def test_given_separator_and_affixes(self, make, tiny_encoder):
        embedder = make(
            ROMDocumentEmbedder, meta_fields_to_embed=["a", "b"], embedding_separator=" | ", prefix="p: ", suffix=" s"
        )
        found = embedder.run([Document(content="text", meta={"a": 0, "b": None})])["documents"][0].embedding
        np.testing.assert_allclose(found, tiny_encoder.encode_passages(["p: 0 | text s"])[0], atol=1e-5)

    @pytest.mark.parametrize("content", [None, "", "  "])
    def test_without_content_the_meta_is_embedded(self, make, tiny_encoder, content):
        embedder = make(ROMDocumentEmbedder, meta_fields_to_embed=["title"])
        found = embedder.run([Document(content=content, meta={"title": "Radium"}), Document(content=content)])
        expected = tiny_encoder.encode_passages(["Radium", ""])
        np.testing.assert_allclose([d.embedding for d in found["documents"]], expected, atol=1e-5)

    @pytest.mark.parametrize("wrong", ["text", ["text"], None, [Document(content="a"), "b"]])
    def test_other_than_documents_is_a_type_error_with_a_remedy(self, document_embedder, wrong):
        with pytest.raises(TypeError, match="ROMTextEmbedder"):
            document_embedder.run(wrong)

    def test_no_documents(self, tiny_checkpoint):
        embedder = ROMDocumentEmbedder(model=str(tiny_checkpoint), device=CPU)
        assert embedder.run([]) == {"documents": []}
        assert embedder._encoder is None  # nothing to embed, nothing loaded

    async def test_run_async_equals_run(self, document_embedder, documents):
        assert await document_embedder.run_async(documents) == document_embedder.run(documents)

    def test_the_in_memory_store_takes_the_embeddings(self, document_embedder, documents):
        store = InMemoryDocumentStore()
        pipeline = Pipeline()
        pipeline.add_component("embedder", document_embedder)
        pipeline.add_component("writer", DocumentWriter(store))
        pipeline.connect("embedder.documents", "writer.documents")
        assert pipeline.run({"embedder": {"documents": documents}})["writer"] == {"documents_written": 3}
        query = store.filter_documents()[0].embedding
        assert store.embedding_retrieval(query, top_k=1)[0].embedding is None


@pytest.mark.parametrize("cls", EMBEDDERS)
class TestParameters:
    def test_int8_and_uint8_with_ranges(self, make, cls):
        plain = np.array(embed(make(cls), "a river"))
        ranges = [[-1.0] * 64, [1.0] * 64]
        for precision, offset in (("uint8", 0), ("int8", 128)):
            quantized = embed(make(cls, precision=precision, quantization_ranges=ranges), "a river")
            assert all(type(value) is float for value in quantized)
            np.testing.assert_allclose(np.array(quantized) + offset, np.floor((plain + 1) / (2 / 255)), atol=1)

    def test_binary_packs_the_signs(self, make, cls):
        signs = np.packbits(np.array(embed(make(cls), "a river")) > 0)
        assert embed(make(cls, precision="ubinary"), "a river") == signs.astype(float).tolist()
        assert embed(make(cls, precision="binary"), "a river") == (signs.astype(float) - 128).tolist()

    def test_ranges_of_another_width_are_refused(self, make, cls):
        embedder = make(cls, precision="int8", quantization_ranges=[[0.0], [1.0]])
        with pytest.raises(ValueError, match=r"\(2, 64\)"):
            embed(embedder, "a river")

    def test_truncate_dim_keeps_unit_length(self, make, cls):
        full, cut = (embed(make(cls, truncate_dim=dim), "a river") for dim in (None, 16))
        first = np.array(full)[:16]
        np.testing.assert_allclose(cut, first / np.linalg.norm(first), atol=1e-6)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"precision": "int4"}, "int4"),
            ({"batch_size": 0}, "batch_size is 0"),
            ({"truncate_dim": 0}, "truncate_dim is 0"),
            ({"max_seq_length": 0}, "max_seq_length is 0"),
            ({"backend": "jax"}, "choose auto, torch, onnx, openvino"),
            ({"backend": "onnx", "model_kwargs": {"dtype": "bfloat16"}}, "choose float32, int8"),
            ({"backend": "openvino", "model_kwargs": {"attn_implementation": "eager"}}, "attn_implementation"),
            ({"backend": "openvino", "model_kwargs": {"device_map": "cuda:1"}}, "not on 'cuda:1'"),
            ({"model_kwargs": {"dtype": "float8"}}, "float8"),
            ({"model_kwargs": {"quantization_config": object()}}, "plain values"),
            ({"trust_remote_code": True}, "trust_remote_code"),
            ({"model_kwargs": {"trust_remote_code": True}}, "trust_remote_code"),
            ({"tokenizer_kwargs": {"trust_remote_code": True}}, "trust_remote_code"),
            ({"model_kwargs": {"use_safetensors": False}}, "safetensors"),
        ],
    )
    def test_bad_values_fail_at_construction(self, make, cls, options, message):
        with pytest.raises(ValueError, match=message):
            make(cls, **options)

    def test_one_warning_names_what_has_no_effect(self, make, cls, caplog):
        make(cls, config_kwargs={"a": 1}, encode_kwargs={"prompt_name": "q"})
        assert len(caplog.records) == 1
        assert "config_kwargs" in caplog.text
        assert "encode_kwargs" in caplog.text

    def test_nothing_to_warn_of_by_default(self, make, cls, caplog):
        make(cls, config_kwargs={}, encode_kwargs={})
        assert not caplog.records

    @pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
    @pytest.mark.parametrize("dtype", ["bfloat16", "torch.bfloat16", torch.bfloat16])
    def test_dtype(self, make, cls, key, dtype):
        embedder = make(cls, model_kwargs={key: dtype})
        embed(embedder, "a river")
        assert embedder._encoder.backend.model.dtype == torch.bfloat16

    def test_to_dict_leaves_model_kwargs_alone(self, make, cls):
        embedder = make(cls, model_kwargs={"dtype": torch.bfloat16})
        data = embedder.to_dict()
        assert data["init_parameters"]["model_kwargs"] == {"dtype": "torch.bfloat16"}
        assert embedder.model_kwargs == {"dtype": torch.bfloat16}
        before = copy.deepcopy(data)
        loaded = cls.from_dict(data)
        assert data == before
        assert loaded.model_kwargs == {"dtype": torch.bfloat16}
        assert loaded.to_dict() == data

    def test_light_init_and_the_requested_device_in_to_dict(self, cls, fresh_checkpoint):
        embedder = cls(model=str(fresh_checkpoint))
        assert embedder._encoder is None
        embed(embedder, "a river")
        assert embedder.to_dict()["init_parameters"]["device"] is None
        embedder.close()

    def test_length_is_the_components_own(self, make, cls):
        long = "rivers flow to the sea and back again " * 20
        short, whole = make(cls, max_seq_length=8), make(cls, tokenizer_kwargs={"model_max_length": 128})
        alone = embed(short, long)
        other = embed(whole, long)
        assert short._encoder is whole._encoder
        assert embed(short, long) == alone != other
        assert embed(short, "rivers flow to the sea and then somewhere else") == alone  # cut to the same six tokens
        with pytest.raises(ValueError, match="513"):
            embed(make(cls, max_seq_length=513), long)

    def test_copies_start_cold(self, make, cls):
        embedder = make(cls)
        expected = embed(embedder, "a river")
        for twin in (copy.copy(embedder), copy.deepcopy(embedder)):
            assert twin._encoder is None
            assert embed(twin, "a river") == expected
            twin.close()

    def test_a_span_stands_around_the_work(self, make, cls):
        spans = []

        class Recorder(NullTracer):
            def trace(self, operation_name, tags=None, parent_span=None):
                spans.append((operation_name, tags, parent_span))
                return super().trace(operation_name, tags, parent_span)

        tracing.enable_tracing(Recorder())
        try:
            embed(make(cls), "a river")
        finally:
            tracing.disable_tracing()
        (span,) = spans
        assert span[0].startswith("rom_haystack.encode_")
        assert span[1]["rom_haystack.texts"] == 1
        assert span[2] is not None


def test_int8_without_ranges_fails_for_a_text_and_warns_for_documents(make, caplog):
    with pytest.raises(ValueError, match="quantization_ranges"):
        make(ROMTextEmbedder, precision="int8")
    embedder = make(ROMDocumentEmbedder, precision="int8", progress_bar=False)
    assert "quantization_ranges" in caplog.text
    found = embedder.run([Document(content="a"), Document(content="b")])["documents"]
    assert {min(x, y) for x, y in zip(*(d.embedding for d in found), strict=True)} == {-128.0}
