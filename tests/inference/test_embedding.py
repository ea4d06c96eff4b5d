"""ROMEncoder embeds queries and passages, with a tiny random model."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from rom_haystack.inference import ReadingOptions, ROMEncoder
from rom_haystack.inference import encoder as encoder_module

from .conftest import TEXTS, encoder_of


class TestEmbedding:
    def test_batched_equals_single_in_order(self, family):
        encoder = encoder_of(family)
        together = encoder.encode_passages(TEXTS, max_length=encoder.max_length)
        alone = np.concatenate([encoder.encode_passages([text], max_length=encoder.max_length) for text in TEXTS])
        assert together.dtype == np.float32
        assert together.shape == (len(TEXTS), 32)
        np.testing.assert_allclose(together, alone, atol=1e-5)
        assert len(np.unique(together.round(4), axis=0)) == len(TEXTS)

    @pytest.mark.parametrize("batch_size", [1, 2, 100])
    def test_batch_size_changes_nothing(self, tiny_encoder, batch_size):
        expected = tiny_encoder.encode_passages(TEXTS)
        np.testing.assert_allclose(tiny_encoder.encode_passages(TEXTS, batch_size=batch_size), expected, atol=1e-5)

    def test_token_budget_changes_nothing(self, tiny_encoder, tiny_model, tiny_tokenizer):
        frugal = ROMEncoder.from_model(tiny_model, tiny_tokenizer, token_budget=1)
        np.testing.assert_allclose(frugal.encode_passages(TEXTS), tiny_encoder.encode_passages(TEXTS), atol=1e-5)

    def test_queries_and_passages_share_one_space(self, tiny_encoder):
        query = tiny_encoder.encode_queries(["Comets are small."])
        np.testing.assert_allclose(query, tiny_encoder.encode_passages(["Comets are small."]), atol=1e-6)

    def test_longest_text_fits_the_positions(self, family):
        encoder = encoder_of(family)
        assert encoder.max_length == 64
        long = "word " * 200
        assert np.isfinite(encoder.encode_passages([long], max_length=64)).all()
        assert len(encoder.tokenizer.singles([long], 64)[0]) == 64
        options = ReadingOptions(max_seq_length=64, stride=8, max_query_length=8)
        assert encoder.read(["which word"], [long], options)[0]

    @pytest.mark.parametrize("length", [65, 1, 0, -3])
    def test_length_out_of_bounds(self, family, length):
        encoder = encoder_of(family)
        message = f"A length of {length} tokens was asked for; this checkpoint takes 2 to 64"
        with pytest.raises(ValueError, match=message):
            encoder.encode_passages(["a"], max_length=length)
        with pytest.raises(ValueError, match=message):
            encoder.encode_queries(["a"], max_length=length)

    def test_reading_longer_than_the_positions(self, family):
        with pytest.raises(ValueError, match="384 tokens was asked for; this checkpoint takes 2 to 64"):
            encoder_of(family).read(["a"], ["b"])

    def test_text_is_cut_at_max_length(self, tiny_encoder, tiny_tokenizer):
        start = "The Nile flows north"
        room = len(tiny_tokenizer(start)["input_ids"])
        whole, cut = (tiny_encoder.encode_passages([f"{start} and on and on"], max_length=n) for n in (256, room))
        np.testing.assert_allclose(cut, tiny_encoder.encode_passages([start]), atol=1e-6)
        assert not np.allclose(whole, cut, atol=1e-3)

    def test_truncated_embeddings_have_unit_length_again(self, tiny_encoder):
        whole = tiny_encoder.encode_passages(TEXTS)
        short = tiny_encoder.encode_passages(TEXTS, truncate_dim=10)
        assert short.shape == (len(TEXTS), 10)
        expected = whole[:, :10] / np.linalg.norm(whole[:, :10], axis=1, keepdims=True)
        np.testing.assert_allclose(short, expected, atol=1e-6)

    @pytest.mark.parametrize("dim", [0, -1, 65])
    def test_truncate_dim_out_of_bounds(self, tiny_encoder, dim):
        with pytest.raises(ValueError, match=f"truncate_dim is {dim}; .* have 1 to 64 dimensions"):
            tiny_encoder.encode_queries(["a"], truncate_dim=dim)

    def test_normalize_scales_dot_product_embeddings(self, family):
        encoder = encoder_of(family, {"retrieval": {"similarity": "dot", "projection_dim": 12}})
        raw, short, scaled = (
            encoder.encode_passages(TEXTS, max_length=64, **options)
            for options in ({}, {"truncate_dim": 5}, {"normalize": True})
        )
        assert encoder.embedding_dim == 12
        assert np.abs(np.linalg.norm(raw, axis=1) - 1).min() > 1e-3
        np.testing.assert_array_equal(short, raw[:, :5])
        np.testing.assert_allclose(scaled, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-6)

    def test_no_texts(self, tiny_encoder):
        assert tiny_encoder.encode_queries([]).shape == (0, 64)
        assert tiny_encoder.encode_passages([], truncate_dim=7, normalize=True).shape == (0, 7)

    @pytest.mark.parametrize(("value", "name"), [(None, "NoneType"), (3, "int"), (b"a", "bytes"), (["a"], "list")])
    def test_what_is_no_text(self, tiny_encoder, value, name):
        class Text(str):
            __slots__ = ()

        with pytest.raises(TypeError, match=f"must be str, found <class '{name}'>"):
            tiny_encoder.encode_passages([Text("fine"), "fine", value])

    @pytest.mark.parametrize("size", [0, -1])
    def test_batch_size_out_of_bounds(self, tiny_encoder, size):
        with pytest.raises(ValueError, match=f"batch_size is {size}; it must be at least 1"):
            tiny_encoder.encode_passages(["a"], batch_size=size)

    def test_longest_first_over_the_whole_job(self, fake_encoder):
        encoder = fake_encoder(token_budget=32)
        encoder.encode_passages(TEXTS * 3)
        lengths = [len(tokens) for tokens in chain.from_iterable(encoder.backend.calls)]
        assert lengths == sorted(lengths, reverse=True)
        assert len(lengths) == 3 * len(TEXTS)

    def test_progress_bar_moves_while_the_job_runs(self, fake_encoder, monkeypatch):
        seen = []

        class Bar(encoder_module.tqdm):
            def update(self, n=1):
                super().update(n)
                seen.append((self.n, sum(map(len, encoder.backend.calls))))

        monkeypatch.setattr(encoder_module, "tqdm", Bar)
        encoder = fake_encoder(token_budget=32)
        encoder.encode_passages(TEXTS * 3, progress=True)
        assert len(seen) > 3
        assert all(shown == done for shown, done in seen)
        assert seen[-1][0] == 3 * len(TEXTS)

    def test_progress_bar_counts_texts(self, tiny_encoder, capsys):
        tiny_encoder.encode_passages(TEXTS, progress=True)
        assert f"{len(TEXTS)}/{len(TEXTS)}" in capsys.readouterr().err
        tiny_encoder.encode_passages(TEXTS)
        assert capsys.readouterr().err == ""

    def test_separator_is_the_tokenizers(self, tiny_encoder, byte_encoder):
        assert tiny_encoder.separator == " [SEP] "
        assert byte_encoder.separator == " </s> "

    def test_says_what_it_is(self, tiny_encoder):
        assert tiny_encoder.backend_name == tiny_encoder.backend.name == "torch-float32"
        assert (tiny_encoder.embedding_dim, tiny_encoder.max_length) == (64, 512)

    def test_slow_tokenizers_are_refused(self, tiny_model):
        class Slow:
            is_fast = False

        with pytest.raises(ValueError, match="no fast version"):
            ROMEncoder.from_model(tiny_model, Slow())
