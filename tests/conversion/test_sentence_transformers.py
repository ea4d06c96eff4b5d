"""To sentence-transformers and back, against the library itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

from rom_haystack.components import ROMDocumentEmbedder, ROMTextEmbedder
from rom_haystack.inference import ROMEncoder
from rom_haystack.inference.facts import facts_of
from rom_haystack.modeling import CheckpointError, ROMConfig, ROMModel, load_checkpoint
from rom_haystack.modeling.conversion.convert import convert
from rom_haystack.modeling.conversion.writing import write_checkpoint, write_sentence_transformers
from training.recipe import Recipe
from training.starting import start_model

from .conftest import PASSAGES, QUERIES, Bomb

HEADS = {
    "mean": {"pooling": "mean"},
    "cls, inner product": {"pooling": "cls", "similarity": "dot"},
    "mean, any length": {"pooling": "mean", "similarity": "unscaled_cosine"},
    "projected": {"pooling": "mean", "projection_dim": 12},
    "all": {"pooling": "cls", "projection_dim": 12, "similarity": "dot"},
}


def encoder_of(model, tokenizer) -> ROMEncoder:
    return ROMEncoder.from_model(model, tokenizer)


def export(model, tokenizer, folder) -> Path:
    limit = facts_of(model, tokenizer).max_length
    write_sentence_transformers(model, tokenizer, folder, source="rom", max_length=limit)
    return folder


def cosines(one, other) -> np.ndarray:
    return (one * other).sum(1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_there_and_back(family, tmp_path, head):
    torch.manual_seed(6)
    model = ROMModel(ROMConfig(encoder=family.config, heads={"retrieval": head, "reading": {}})).eval()
    if "projection_dim" in head:
        torch.nn.init.normal_(model.retrieval_head.projection.bias)
    encoder = encoder_of(model, family.tokenizer)
    folder = export(model, family.tokenizer, tmp_path / "st")
    theirs = SentenceTransformer(str(folder), device="cpu")
    limit = theirs.max_seq_length
    assert limit == encoder.max_length
    for texts, embed in ((QUERIES[:2], encoder.encode_queries), (PASSAGES[:2], encoder.encode_passages)):
        found, expected = theirs.encode(texts), embed(texts, max_length=min(64, limit))
        assert cosines(found, expected).min() >= 0.99999
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert theirs.similarity_fn_name == head.get("similarity", "cosine").removeprefix("unscaled_")
    back = convert(folder)
    assert back.model.config.heads["retrieval"] == {"similarity": "cosine", **head}
    states = [model.encoder.state_dict(), back.model.encoder.state_dict()]
    states += [model.retrieval_head.state_dict(), back.model.retrieval_head.state_dict()]
    for one, other in (states[:2], states[2:]):
        assert one.keys() == other.keys()
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    texts = [*QUERIES, *PASSAGES]
    again = encoder_of(back.model, back.tokenizer).encode_queries(texts, max_length=min(64, limit))
    np.testing.assert_array_equal(again, encoder.encode_queries(texts, max_length=min(64, limit)))


@pytest.fixture
def own_folder(encoder_folder, tmp_path):
    """Build and save a model with the library itself: `own_folder(*modules)`, after the encoder."""

    def make(*modules, **options) -> Path:
        folder = tmp_path / "own"
        transformer = Transformer(str(encoder_folder), max_seq_length=60)
        SentenceTransformer(modules=[transformer, *modules], device="cpu", **options).save(str(folder))
        return folder

    return make


@pytest.mark.parametrize("family", ["bert", "roberta"], indirect=True)
class TestTheirOwn:
    @pytest.mark.parametrize("normalize", [True, False])
    @pytest.mark.parametrize("dense", [True, False])
    @pytest.mark.parametrize("pooling", ["mean", "cls"])
    def test_gives_the_same_embeddings(self, own_folder, pooling, dense, normalize):
        torch.manual_seed(8)
        linear = [Dense(32, 8, bias=False, activation_function=torch.nn.Identity())] if dense else []
        folder = own_folder(Pooling(32, pooling), *linear, *([Normalize()] if normalize else []))
        theirs = SentenceTransformer(str(folder), device="cpu")
        texts = [*QUERIES, *PASSAGES]
        embed = {"model": str(folder), "max_seq_length": 60}
        found = [ROMTextEmbedder(**embed).run(text)["embedding"] for text in texts]
        np.testing.assert_allclose(found, theirs.encode(texts), atol=1e-5)

    def test_prompts_are_prefixes(self, own_folder):
        folder = own_folder(Pooling(32, "mean"), Normalize(), prompts={"query": "query: "})
        assert any("set `prefix='query: '`" in note for note in convert(folder).notes)
        theirs = SentenceTransformer(str(folder), device="cpu").encode(["the Nile"], prompt_name="query")
        ours = ROMTextEmbedder(model=str(folder), prefix="query: ", max_seq_length=60).run("the Nile")["embedding"]
        np.testing.assert_allclose([ours], theirs, atol=1e-5)

    @pytest.mark.parametrize(
        ("options", "normalize", "similarity"),
        [
            ({"similarity_fn_name": "dot"}, False, "dot"),
            ({"similarity_fn_name": "cosine"}, False, "unscaled_cosine"),
            ({}, False, "unscaled_cosine"),
            ({"similarity_fn_name": "dot"}, True, "cosine"),
        ],
    )
    def test_similarity(self, own_folder, options, normalize, similarity):
        folder = own_folder(Pooling(32, "mean"), *([Normalize()] if normalize else []), **options)
        converted = convert(folder)
        assert converted.model.retrieval_head.similarity == similarity
        assert any("differ in length" in note for note in converted.notes) == (similarity == "unscaled_cosine")

    @pytest.mark.parametrize("heads", [None, {"retrieval": {"pooling": "mean", "similarity": "cosine"}}])
    def test_training_goes_on_by_cosine(self, own_folder, tmp_path, heads):
        """Its loss takes inner products, which are far too large of embeddings that keep their length."""
        converted = convert(own_folder(Pooling(32, "mean")))
        write_checkpoint(converted, tmp_path / "start", sources=["own"])
        recipe = Recipe(
            name="r", encoder=str(tmp_path / "start"), data="d", tasks={"retrieval": {}}, steps=1, heads=heads
        )
        model = start_model(recipe)
        assert model.config.heads == {"retrieval": {"pooling": "mean", "similarity": "cosine"}}
        model.eval().save_pretrained(tmp_path / "trained")
        trained = ROMModel.from_pretrained(tmp_path / "trained")
        for one in (model, trained):
            found = encoder_of(one, converted.tokenizer).encode_queries(QUERIES, max_length=60)
            np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)

    def test_one_that_does_not_say_how_it_is_compared(self, own_folder):
        folder = own_folder(Pooling(32, "mean"))
        unsaid = "does not say how they are compared"
        said = any(unsaid in note for note in convert(folder).notes)
        (folder / "config_sentence_transformers.json").unlink()
        assert (said, any(unsaid in note for note in convert(folder).notes)) == (False, True)

    @pytest.mark.parametrize(
        ("modules", "message"),
        [
            ([Pooling(32, "max")], "pools by max; ROM pools by mean or cls"),
            ([Pooling(32, ["mean", "cls"])], "pools by mean, cls"),
            ([Pooling(32, "mean"), Dense(32, 8)], "ends in the activation torch.nn.modules.activation.Tanh"),
            ([Pooling(32, "mean"), Normalize(), Dense(32, 8)], "the modules Transformer, Pooling, Normalize, Dense"),
        ],
        ids=["max", "two", "tanh", "order"],
    )
    def test_without_a_counterpart(self, own_folder, modules, message):
        with pytest.raises(CheckpointError, match=message):
            convert(own_folder(*modules))


@pytest.mark.parametrize("family", ["bert"], indirect=True)
class TestOlderAndDamaged:
    @pytest.fixture
    def folder(self, own_folder) -> Path:
        return own_folder(Pooling(32, "cls"), Dense(32, 8, activation_function=torch.nn.Identity()), Normalize())

    def change(self, path, **changes):
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    def test_the_oldest_form(self, folder):
        """Modules below folders of their own, pooling as flags, a dense layer as a pickle, lower-casing apart."""
        encoder = folder / "0_Transformer"
        encoder.mkdir()
        for path in folder.glob("*.*"):
            if path.is_file() and path.name not in ("modules.json", "config_sentence_transformers.json"):
                path.rename(encoder / path.name)
        modules = json.loads((folder / "modules.json").read_text())
        modules[0]["path"] = "0_Transformer"
        for module in modules:
            module["type"] = f"sentence_transformers.models.{module['type'].rpartition('.')[2]}"
        (folder / "modules.json").write_text(json.dumps(modules))
        flags = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags))
        (encoder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 60, "do_lower_case": True}))
        dense = SentenceTransformer(str(folder), device="cpu")[2]
        (folder / "2_Dense" / "model.safetensors").unlink()
        torch.save(dense.state_dict(), folder / "2_Dense" / "pytorch_model.bin")
        shutil.rmtree(folder / "3_Normalize")
        theirs = SentenceTransformer(str(folder), device="cpu")
        converted = convert(folder)
        found = encoder_of(converted.model, converted.tokenizer).encode_queries(QUERIES, max_length=60)
        np.testing.assert_allclose(found, theirs.encode(QUERIES), rtol=1e-4, atol=1e-5)
        assert any("max_seq_length=60" in note for note in converted.notes)

    def test_lower_casing_apart(self, folder, byte_tokenizer, tmp_path):
        (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))
        cased = tmp_path / "cased"
        byte_tokenizer.save_pretrained(cased)
        tokenizer = convert(folder, tokenizer=cased).tokenizer
        assert tokenizer.tokenize("THE Nile") == tokenizer.tokenize("the nile")
        assert byte_tokenizer.tokenize("THE Nile") != byte_tokenizer.tokenize("the nile")

    def test_nothing_is_run(self, folder, tmp_path):
        (folder / "2_Dense" / "model.safetensors").unlink()
        torch.save({"linear.weight": Bomb(tmp_path / "bang")}, folder / "2_Dense" / "pytorch_model.bin")
        with pytest.raises(CheckpointError, match="nothing pickled is ever run"):
            convert(folder)
        assert not (tmp_path / "bang").exists()

    def test_damaged(self, folder):
        (folder / "2_Dense" / "model.safetensors").write_bytes(b"nonsense")
        with pytest.raises(CheckpointError, match=r"2_Dense.model.safetensors can't be read"):
            convert(folder)
        (folder / "2_Dense" / "model.safetensors").unlink()
        with pytest.raises(CheckpointError, match="2_Dense holds no weights"):
            convert(folder)
        (folder / "1_Pooling" / "config.json").write_text("{")
        with pytest.raises(CheckpointError, match=r"1_Pooling.config.json can't be read"):
            convert(folder)
        (folder / "modules.json").write_text("{")
        with pytest.raises(CheckpointError, match=r"modules.json is damaged"):
            convert(folder)

    def test_places_outside_the_folder(self, folder):
        modules = json.loads((folder / "modules.json").read_text())
        modules[1]["path"] = "../elsewhere"
        (folder / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(CheckpointError, match=r"a place outside its folder: '../elsewhere'"):
            convert(folder)

    def test_no_such_encoder(self, folder):
        self.change(folder / "config.json", model_type="nonsense")
        with pytest.raises(CheckpointError, match="no encoder that transformers knows"):
            convert(folder)


class TestWriting:
    def test_only_into_a_new_or_empty_folder(self, tiny_model, tiny_tokenizer, tmp_path):
        (tmp_path / "empty").mkdir()
        export(tiny_model, tiny_tokenizer, tmp_path / "empty")
        before = sorted((tmp_path / "empty").rglob("*"))
        with pytest.raises(
            CheckpointError, match="empty holds something already; choose a folder that is new or empty"
        ):
            export(tiny_model, tiny_tokenizer, tmp_path / "empty")
        assert sorted((tmp_path / "empty").rglob("*")) == before
        (tmp_path / "file").touch()
        with pytest.raises(CheckpointError, match="holds something already"):
            export(tiny_model, tiny_tokenizer, tmp_path / "file")

    def test_whole_or_not_at_all(self, tiny_model, tmp_path):
        class Broken:
            def save_pretrained(self, folder):
                raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            write_sentence_transformers(tiny_model, Broken(), tmp_path / "st", source="rom", max_length=60)
        assert list(tmp_path.glob("*st*")) == []


@pytest.mark.integration
def test_the_bundled_checkpoint(tmp_path):
    theirs = SentenceTransformer(str(export(*load_checkpoint(), tmp_path / "st")), device="cpu")
    queries = ["Who stayed in lunar orbit?", "When was radium discovered, and by whom?"]
    found = np.array([ROMTextEmbedder().run(query)["embedding"] for query in queries])
    assert cosines(found, theirs.encode(queries)).min() >= 0.99999
    from haystack import Document  # noqa: PLC0415

    documents = [Document(content="It glows in the dark. " * 40, meta={"title": "Radium"}), Document(content="Orbit.")]
    embedder = ROMDocumentEmbedder(meta_fields_to_embed=["title"], progress_bar=False)
    ours = np.array([document.embedding for document in embedder.run(documents)["documents"]])
    texts = [f"Radium [SEP] {documents[0].content}", documents[1].content]
    assert cosines(ours, theirs.encode(texts)).min() >= 0.99999
