"""ROMModel over every family of encoders."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModel

from rom_haystack.modeling import HEADS, CheckpointError, Head, ROMConfig, ROMModel, register_head
from rom_haystack.modeling.model import build_encoder

HEAD_SETS = {
    "mean": {"retrieval": {"pooling": "mean"}, "reading": {}},
    "cls and projection": {"retrieval": {"pooling": "cls", "projection_dim": 12}, "masked_lm": {}},
    "dot": {"retrieval": {"similarity": "dot"}, "reading": {}, "masked_lm": {}},
}


def build(config, heads=None, seed=5):
    torch.manual_seed(seed)
    return ROMModel(ROMConfig(encoder=copy.deepcopy(config), heads=heads)).eval()


def tokens(tokenizer, *texts, pair=None, **options):
    return tokenizer(list(texts), pair and [pair] * len(texts), padding=True, return_tensors="pt", **options)


def run(model, batch, head):
    with torch.inference_mode():
        return model(**batch, head=head)


@pytest.mark.parametrize("heads", HEAD_SETS.values(), ids=HEAD_SETS)
def test_saved_and_loaded_model_has_the_same_bits(family, heads, tmp_path):
    model = build(family.config, heads)
    model.save_pretrained(tmp_path)
    loaded = ROMModel.from_pretrained(tmp_path).eval()
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors"}
    expected = {**model.config.encoder.to_dict(), "dtype": "float32"}
    assert loaded.config.encoder.to_dict() == expected
    assert loaded.config.heads == heads
    weights = loaded.state_dict()
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    batch = tokens(family.tokenizer, "Who flew to the moon?", "Comets", pair="Three people flew in 1969.")
    for head in heads:  # on some CPUs the last bits of products depend on where weights lie in memory
        torch.testing.assert_close(run(loaded, batch, head), run(model, batch, head), atol=1e-6, rtol=1e-5)


def test_heads_have_the_shapes_they_promise(family):
    model = build(
        family.config, {"retrieval": {"pooling": "cls", "projection_dim": 12}, "reading": {}, "masked_lm": {}}
    )
    batch = tokens(family.tokenizer, "Who flew?", "Comets", pair="Three people flew.")
    rows, length = batch["input_ids"].shape
    assert run(model, batch, "retrieval")["embedding"].shape == (rows, 12)
    reading = run(model, batch, "reading")
    assert {name: tuple(t.shape) for name, t in reading.items()} == {
        "start_logits": (rows, length),
        "end_logits": (rows, length),
        "relevance_logits": (rows,),
    }
    assert run(model, batch, "masked_lm")["token_logits"].shape == (rows, length, len(family.tokenizer))


def test_mean_and_cls_pooling_equal_their_definition(family):
    batch = tokens(family.tokenizer, "Who flew to the moon?", "Comets")
    mean = build(family.config, {"retrieval": {"pooling": "mean", "similarity": "dot"}})
    cls = build(family.config, {"retrieval": {"pooling": "cls", "similarity": "dot"}})
    with torch.inference_mode():
        hidden = mean.encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    by_hand = [hidden[row, : int(batch["attention_mask"][row].sum())].mean(0) for row in range(2)]
    batch.pop("token_type_ids", None)
    torch.testing.assert_close(run(mean, batch, "retrieval")["embedding"], torch.stack(by_hand))
    torch.testing.assert_close(run(cls, batch, "retrieval")["embedding"], hidden[:, 0])


def test_only_cosine_embeddings_have_unit_length(family):
    batch = tokens(family.tokenizer, "Who flew to the moon?", "Comets")
    cosine = run(build(family.config, {"retrieval": {}}), batch, "retrieval")["embedding"]
    torch.testing.assert_close(cosine.norm(dim=-1), torch.ones(2))
    for similarity in ("dot", "unscaled_cosine"):
        heads = {"retrieval": {"similarity": similarity}}
        unscaled = run(build(family.config, heads), batch, "retrieval")["embedding"]
        assert (unscaled.norm(dim=-1) - 1).abs().min() > 0.05
        torch.testing.assert_close(cosine, nn.functional.normalize(unscaled, dim=-1))


def test_padding_changes_nothing(family):
    model = build(family.config, HEAD_SETS["dot"])
    texts = ["Comets", "Who flew to the moon in that summer, and who stayed in orbit around it?"]
    together = tokens(family.tokenizer, *texts)
    for row, text in enumerate(texts):
        alone = tokens(family.tokenizer, text)
        length = alone["input_ids"].shape[1]
        for head in model.heads:
            for name, value in run(model, alone, head).items():
                batched = run(model, together, head)[name][row]
                batched = batched[:length] if name.endswith(("start_logits", "end_logits", "token_logits")) else batched
                torch.testing.assert_close(batched, value[0], atol=1e-5, rtol=1e-5)


def test_token_types_count_where_the_encoder_has_them(family):
    model = build(family.config)
    batch = dict(tokens(family.tokenizer, "Who flew?", pair="Three people flew."))
    ones, zeros = torch.ones_like(batch["input_ids"]), torch.zeros_like(batch["input_ids"])
    segmented = run(model, {**batch, "token_type_ids": ones}, "reading")["start_logits"]
    plain = run(model, {**batch, "token_type_ids": zeros}, "reading")["start_logits"]
    assert model.uses_token_types == (family.name in {"bert", "electra"})
    assert torch.equal(segmented, plain) == (not model.uses_token_types)


def test_auto_classes_know_rom(tiny_checkpoint):
    assert isinstance(AutoConfig.from_pretrained(tiny_checkpoint), ROMConfig)
    assert isinstance(AutoModel.from_pretrained(tiny_checkpoint), ROMModel)


def test_from_encoder_copies_the_encoder_exactly(family, encoder_folder):
    model = ROMModel.from_encoder(str(encoder_folder), {"retrieval": {}, "reading": {}, "masked_lm": {}})
    original = load_file(encoder_folder / "model.safetensors")
    copied = model.encoder.state_dict()
    pooler = {name for name in original if name.startswith("pooler.")}
    assert set(copied) - set(original) <= {name for name in copied if name.endswith("position_ids")}
    assert set(original) - set(copied) == pooler
    assert all(torch.equal(original[name], copied[name]) for name in copied if name in original)
    assert model.dtype == torch.float32


def test_heads_are_reproducible_by_seed(family, encoder_folder):
    heads = {"retrieval": {"projection_dim": 8}, "reading": {}, "masked_lm": {}}

    def weights(seed):
        return ROMModel.from_encoder(str(encoder_folder), heads, seed=seed).heads.state_dict()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["reading.span.weight"], other["reading.span.weight"])


def test_from_encoder_leaves_the_callers_random_state_alone(tiny_checkpoint, tmp_path):
    AutoModel.from_pretrained(tiny_checkpoint).encoder.save_pretrained(tmp_path)
    torch.manual_seed(4)
    state = torch.random.get_rng_state()
    ROMModel.from_encoder(str(tmp_path), seed=9)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_parameter_counts_equal_counts_by_hand(tiny_model):
    vocabulary, width, inner = tiny_model.config.encoder.vocab_size, 64, 128
    embeddings = (vocabulary + 512 + 2) * width + 2 * width
    attention = 4 * (width * width + width)
    layer = attention + (width * inner + inner) + (inner * width + width) + 4 * width
    shared, heads = embeddings + 2 * layer, (2 * width + 2) + (width + 1)
    assert tiny_model.parameter_counts() == {
        "shared": shared,
        "heads": heads,
        "total": shared + heads,
        "three separate encoders": 3 * shared + heads,
    }


def test_tied_head_adds_no_second_embedding_table(family):
    model = build(family.config, {"masked_lm": {}})
    table = model.get_input_embeddings().weight
    width, hidden = table.shape[1], model.config.hidden_size
    assert model.parameter_counts()["heads"] == hidden * width + width + 2 * width + len(family.tokenizer)
    batch = tokens(family.tokenizer, "Comets")
    before = run(model, batch, "masked_lm")["token_logits"]
    with torch.no_grad():
        table[-1] += 1.0
    after = run(model, batch, "masked_lm")["token_logits"]
    assert not torch.equal(before[..., -1], after[..., -1])
    assert torch.equal(before[..., :-1], after[..., :-1])


def test_electra_has_embeddings_of_their_own_width(family):
    assert (build(family.config).get_input_embeddings().weight.shape[1] != 32) == (family.name == "electra")


def test_encoders_are_built_without_pooler(family):
    assert not any(name.startswith("pooler") for name, _ in build_encoder(family.config).named_parameters())


def test_embeddings_can_be_replaced(tiny_model):
    model = copy.deepcopy(tiny_model)
    table = nn.Embedding(10, 64)
    model.set_input_embeddings(table)
    assert model.encoder.get_input_embeddings() is table


def test_unknown_head_in_forward(tiny_model):
    ids = torch.tensor([[2, 3]])
    with pytest.raises(KeyError, match="no head 'summary', only: retrieval, reading"):
        tiny_model(input_ids=ids, attention_mask=torch.ones_like(ids), head="summary")


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({"summary": {}}, "Unknown head 'summary'. Known heads: masked_lm, reading, retrieval"),
        ({"retrieval": {"poling": "cls"}}, r"Head 'retrieval' does not take the options \{'poling': 'cls'\}"),
        ({"retrieval": {"pooling": "max"}}, "Unknown pooling 'max'.*'mean' or 'cls'"),
        ({"reading": {"null": "last"}}, "Unknown null 'last'.*'first' or 'none'"),
        ({"retrieval": {"similarity": "l2"}}, "Unknown similarity 'l2'.*'cosine', 'dot' or"),
    ],
)
def test_heads_that_do_not_exist(family, heads, message):
    with pytest.raises(CheckpointError, match=message):
        build(family.config, heads)


def test_a_head_of_ones_own_needs_no_change_of_the_model(family, tmp_path, monkeypatch):
    monkeypatch.setattr("rom_haystack.modeling.heads.HEADS", HEADS)  # restored afterwards, whatever happens
    monkeypatch.setitem(HEADS, "length", Head)

    @register_head("length")
    class LengthHead(Head):
        def __init__(self, *, scale: float = 1.0, **sizes):
            super().__init__(**sizes)
            self.factor = nn.Parameter(torch.tensor(scale))

        def forward(self, hidden_states, attention_mask, word_embeddings):
            return {"length": attention_mask.sum(-1) * self.factor}

    build(family.config, {"length": {"scale": 2.0}}).save_pretrained(tmp_path)
    model = ROMModel.from_pretrained(tmp_path).eval()
    batch = tokens(family.tokenizer, "Comets", "Who flew to the moon?")
    assert torch.equal(run(model, batch, "length")["length"], batch["attention_mask"].sum(-1) * 2.0)


def test_a_head_without_forward_can_not_be_built():
    class Empty(Head):
        pass

    with pytest.raises(TypeError, match=r"abstract class Empty .* forward"):
        Empty(hidden_size=1, embedding_size=1, vocab_size=1)


class TestConfig:
    def test_default_is_mean_retrieval_and_reading_over_bert(self):
        config = ROMConfig()
        assert config.encoder.model_type == "bert"
        assert config.heads == {"retrieval": {"pooling": "mean"}, "reading": {}}

    def test_round_trip(self, family, tmp_path):
        config = ROMConfig(encoder=family.config, heads={"retrieval": {"projection_dim": 4}})
        config.save_pretrained(tmp_path)
        loaded = ROMConfig.from_pretrained(tmp_path)
        assert loaded.to_dict() == config.to_dict()
        assert type(loaded.encoder) is type(family.config)
        assert loaded.hidden_size == 32

    def test_configs_do_not_share_their_heads(self):
        ROMConfig().heads["retrieval"]["pooling"] = "cls"
        assert ROMConfig().heads["retrieval"]["pooling"] == "mean"
