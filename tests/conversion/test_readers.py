"""Question answering models of transformers as readers, and together with a retriever on the same encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from haystack import Document
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import ComponentDevice
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from rom_haystack.components import ROMExtractiveReader, ROMRanker, ROMTextEmbedder
from rom_haystack.inference import ReadingOptions, ROMEncoder
from rom_haystack.modeling import CheckpointError, ROMConfig, ROMModel
from rom_haystack.modeling.conversion.convert import combine, convert
from rom_haystack.modeling.conversion.parts import Converted
from rom_haystack.modeling.conversion.readers import convert_reader
from rom_haystack.modeling.conversion.writing import write_checkpoint
from rom_haystack.modeling.errors import MissingHeadError

CPU = ComponentDevice.from_str("cpu")
PAIR = "Where does it flow?", "The Nile flows north. Its delta lies in Egypt."


def encoder_of(converted) -> ROMEncoder:
    return ROMEncoder.from_model(converted.model, converted.tokenizer)


@pytest.fixture
def reader_folder(family, tmp_path):
    """A question answering model of each family."""
    folder = tmp_path / "reader"
    torch.manual_seed(5)
    AutoModelForQuestionAnswering.from_config(family.config).save_pretrained(folder)
    family.tokenizer.save_pretrained(folder)
    return folder


@torch.inference_mode()
def test_every_family_reads_as_by_transformers(family, reader_folder):
    if family.name == "modernbert":
        with pytest.raises(CheckpointError, match="ModernBertForQuestionAnswering, whose spans do not come from one"):
            convert(reader_folder)
        return
    model = AutoModelForQuestionAnswering.from_pretrained(reader_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(reader_folder)
    own = tokenizer(*PAIR, return_tensors="pt", return_token_type_ids=family.name in ("bert", "electra"))
    expected = model(**own)
    encoder = encoder_of(convert(reader_folder))
    lengths = {"max_seq_length": 64, "stride": 4, "max_query_length": 20}
    pairs = encoder.tokenizer.pairs(*([text] for text in PAIR), **lengths)
    (found,) = encoder.backend.run(pairs.tokens, "reading")
    np.testing.assert_allclose(found["start_logits"], expected.start_logits[0], atol=1e-4)
    np.testing.assert_allclose(found["end_logits"], expected.end_logits[0], atol=1e-4)
    assert found["relevance_logits"] == 0


@torch.inference_mode()
def test_scores_are_those_of_squad_2(squad_reader):
    """By itself the span's score is half of BERT's: start and end logits, less those of the null position."""
    model = AutoModelForQuestionAnswering.from_pretrained(squad_reader).eval()
    tokenizer = AutoTokenizer.from_pretrained(squad_reader)
    own = tokenizer(*PAIR, return_tensors="pt", return_offsets_mapping=True)
    (offsets,) = own.pop("offset_mapping").tolist()
    output = model(**own)
    encoder = encoder_of(convert(squad_reader))
    by_span = {"passage_score_weight": 0.0, "max_seq_length": 100, "stride": 10}
    (answers,) = encoder.read(*([text] for text in PAIR), ReadingOptions(**by_span))
    ids = own.sequence_ids(0)
    for answer in answers[:3]:
        first = next(i for i, (start, _) in enumerate(offsets) if ids[i] == 1 and start == answer.start)
        last = next(i for i, (_, end) in enumerate(offsets) if ids[i] == 1 and end == answer.end)
        score = output.start_logits[0, first] + output.end_logits[0, last]
        null = output.start_logits[0, 0] + output.end_logits[0, 0]
        assert answer.logit == pytest.approx(float(score - null) / 2, abs=1e-4)
    (halved,) = encoder.read(*([text] for text in PAIR), ReadingOptions(**{**by_span, "passage_score_weight": 0.5}))
    assert [answer.text for answer in halved] == [answer.text for answer in answers]


def test_a_head_that_does_more_than_its_layer_shows(squad_reader, monkeypatch):
    wide = AutoModelForQuestionAnswering.from_pretrained(squad_reader)
    monkeypatch.setattr(type(wide), "forward", lambda self, **kwargs: _tripled(self, kwargs))
    with pytest.raises(CheckpointError, match="do not come from one linear layer"):
        convert_reader(squad_reader)


def _tripled(model, inputs):
    output = model.bert(**inputs)
    start, end = (3 * model.qa_outputs(output.last_hidden_state)).unbind(-1)
    return {"start_logits": start, "end_logits": end}


class TestWhatItCanNot:
    """A reader without relevance and without embeddings says so, rather than ranking or advising nonsense."""

    @pytest.mark.parametrize("backend", ["torch", "onnx"])
    def test_order_documents(self, squad_reader, backend):
        ranker = ROMRanker(model=squad_reader, device=CPU, backend=backend)
        with pytest.raises(MissingHeadError, match="does not tell how relevant passages are"):
            ranker.run(PAIR[0], [Document(content=PAIR[1])])
        ranker.close()

    def test_embed(self, squad_reader, caplog):
        embedder = ROMTextEmbedder(model=str(squad_reader), device=CPU)
        with pytest.raises(MissingHeadError, match="only reads: it has no head 'retrieval'"):
            embedder.check_store(InMemoryDocumentStore(embedding_similarity_function="cosine"))
        assert "Create the store with" not in caplog.text
        embedder.close()

    def test_but_it_knows_when_there_is_no_answer(self, squad_reader, caplog):
        reader = ROMExtractiveReader(model=squad_reader, device=CPU)
        reader.warm_up()
        assert "no_answer" not in caplog.text
        reader.close()


class TestCombined:
    @pytest.fixture
    def reader(self, squad_reader):
        return convert(squad_reader)

    @pytest.fixture
    def retriever(self, reader):
        """Another head on the reader's encoder."""
        config = ROMConfig(encoder=reader.model.config.encoder, heads={"retrieval": {"pooling": "cls"}})
        model = ROMModel(config).eval()
        model.encoder.load_state_dict(reader.model.encoder.state_dict())
        return Converted(model, reader.tokenizer, "retriever", ("A note.",))

    def test_one_encoder_does_both(self, reader, retriever, tmp_path):
        both = combine(retriever, reader)
        write_checkpoint(both, tmp_path / "both", sources=["a", "b"])
        encoder = encoder_of(both)
        np.testing.assert_array_equal(encoder.encode_queries(["x"]), encoder_of(retriever).encode_queries(["x"]))
        options = ReadingOptions(max_seq_length=100, stride=10)
        asked = [[text] for text in PAIR]
        assert encoder.read(*asked, options) == encoder_of(reader).read(*asked, options)
        assert both.notes == ("A note.", *reader.notes)
        assert "made from `a` and `b`" in (tmp_path / "both" / "README.md").read_text()

    def test_different_encoders_are_refused(self, reader, dpr_passage):
        with pytest.raises(CheckpointError, match="different encoders, and one ROM checkpoint has one"):
            combine(convert(dpr_passage), reader)

    def test_heads_that_are_not_there(self, reader, retriever):
        with pytest.raises(CheckpointError, match="has no retrieval head to combine"):
            combine(reader, reader)
        with pytest.raises(CheckpointError, match="The retriever has no reading head to combine"):
            combine(retriever, retriever)

    def test_different_tokenizers_are_refused(self, reader, retriever, byte_tokenizer):
        with pytest.raises(CheckpointError, match="one checkpoint has one tokenizer"):
            combine(Converted(retriever.model, byte_tokenizer, "retriever"), reader)


def test_training_starts_from_a_converted_checkpoint(squad_reader, tmp_path):
    reader = convert(squad_reader)
    write_checkpoint(reader, tmp_path / "start", sources=["reader"])
    heads = {"retrieval": {"pooling": "mean"}, "reading": {}}
    model = ROMModel.from_encoder(str(tmp_path / "start"), heads, attn_implementation="eager")
    assert model.encoder.config._attn_implementation == "eager"
    assert set(model.heads) == {"retrieval", "reading"}
    for name in ("span", "relevance"):
        assert torch.equal(
            getattr(model.heads["reading"], name).weight, getattr(reader.model.heads["reading"], name).weight
        )
    assert not any(ROMEncoder.from_model(one, reader.tokenizer).facts.has_relevance for one in (reader.model, model))
    torch.nn.init.ones_(model.heads["reading"].relevance.weight)  # as training may
    assert ROMEncoder.from_model(model, reader.tokenizer).facts.has_relevance
    state = reader.model.encoder.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.encoder.state_dict().items())
    model.save_pretrained(tmp_path / "saved")
    assert ROMModel.from_pretrained(tmp_path / "saved").config.encoder.model_type == "bert"
    other = ROMModel.from_encoder(str(tmp_path / "start"), {"retrieval": {"projection_dim": 8}})
    assert other.retrieval_head.dim == 8
