"""Contrast in the batch, and in chunks: the same gradients in less memory."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoConfig

from rom_haystack.modeling import ROMConfig, ROMModel
from training.data.dataset import Passage, Question
from training.starting import set_dropout
from training.tasks import InverseClozeTask, RetrievalTask
from training.tasks.contrast import contrast, embed, tokenize

TEXTS = [f"{word} flows north, and {word} is long. " * (i + 1) for i, word in enumerate(("Nile", "Rhine", "Ob", "Po"))]


@pytest.fixture
def model(tiny_model):
    """A copy of the tiny model that trains, in float64, so that gradients can be compared closely."""
    return set_dropout_of(copy.deepcopy(tiny_model).train().double(), 0.0)


def set_dropout_of(model, probability):
    set_dropout(model, probability)
    return model


def in_double(model, monkeypatch):
    """Let `embed` leave float64 as it is; the retrieval head's cosine goes through float32."""
    single = torch.Tensor.float
    monkeypatch.setattr(torch.Tensor, "float", lambda t: t if t.dtype is torch.float64 else single(t))
    return model


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def chunks_of(tokens, size):
    """The chunks that `embed` makes of `TEXTS`, each longer than the one before, and their rows."""
    for stop in range(len(TEXTS), 0, -size):
        rows = list(range(stop - 1, max(stop - size, 0) - 1, -1))
        length = int(tokens["attention_mask"][rows].sum(-1).max())
        yield rows, {name: tensor[rows, :length] for name, tensor in tokens.items()}


def backward(model, task, features):
    model.zero_grad()
    loss, metrics = task.loss(model, features)
    (2.5 * loss).backward()
    return loss.item(), {name: value.item() for name, value in metrics.items()}, gradients(model)


def assert_same(one, other, **tolerance):
    assert one.keys() == other.keys()
    assert any(gradient.abs().max() > 1e-3 for gradient in one.values())
    for name, gradient in one.items():
        torch.testing.assert_close(gradient, other[name], **tolerance)


class TestChunks:
    @pytest.mark.parametrize("chunk_size", [1, 2, 3, 5, 11, 100])
    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            (RetrievalTask, {"contrast": "batch", "anchor_weight": 0.0}),
            (RetrievalTask, {"contrast": "bank"}),
            (InverseClozeTask, {}),
        ],
        ids=["batch", "bank and anchor", "inverse cloze"],
    )
    def test_loss_and_gradients_are_those_of_the_whole_batch(
        self, make_task, model, tmp_path, monkeypatch, kind, options, chunk_size
    ):
        made = {"temperature": 0.2, "max_passage_length": 40, "batch_size": 11, **options}
        whole, parts = make_task(kind, **made), make_task(kind, **made, chunk_size=chunk_size)
        for task in (whole, parts):
            task.prepare(model, tmp_path)
        if kind is RetrievalTask:
            for task in (whole, parts):
                task._bank = task._bank.double()
        in_double(model, monkeypatch)
        features = whole.batch(0)
        loss, metrics, expected = backward(model, whole, features)
        in_chunks, metrics_in_chunks, found = backward(model, parts, features)
        assert in_chunks == pytest.approx(loss, rel=1e-12)
        assert metrics_in_chunks == pytest.approx(metrics, rel=1e-12)
        assert_same(expected, found, atol=1e-12, rtol=1e-9)

    def test_dropout_is_the_same_when_a_chunk_is_encoded_again(self, tiny_tokenizer, model, monkeypatch):
        """The reference encodes the same chunks once, keeping everything; only then do random numbers agree."""
        set_dropout_of(in_double(model, monkeypatch), 0.3)
        tokens = tokenize(tiny_tokenizer, TEXTS, 64)
        target = torch.linspace(-1, 1, 64, dtype=torch.float64)

        def run(encode):
            torch.manual_seed(5)
            model.zero_grad()
            embeddings = encode()
            (embeddings @ target).square().sum().backward()
            return embeddings.detach(), gradients(model), torch.rand(1)

        def once():
            embedded = [model(**chunk, head="retrieval")["embedding"] for _, chunk in chunks_of(tokens, 2)]
            return torch.cat(embedded).flip(0)

        vectors, expected, after = run(once)
        again, found, after_chunks = run(lambda: embed(model, tokens, 2))
        assert torch.equal(again, vectors)
        assert_same(expected, found, atol=1e-12, rtol=1e-9)
        assert torch.equal(after, after_chunks)  # and the random numbers go on as if nothing had been repeated
        set_dropout_of(model, 0.0)
        assert not torch.allclose(run(once)[0], vectors)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_under_autocast(self, tiny_tokenizer, tiny_model, dtype):
        """The reference encodes the same chunks once: bfloat16 rounds a text in another batch otherwise."""
        model = set_dropout_of(copy.deepcopy(tiny_model).train(), 0.0)
        tokens = tokenize(tiny_tokenizer, TEXTS, 64)

        def run(encode):
            model.zero_grad()
            with torch.autocast("cpu", dtype, enabled=dtype is torch.bfloat16):
                embeddings = encode()
            assert embeddings.dtype is torch.float32
            (embeddings @ embeddings.T).square().sum().backward()
            return gradients(model)

        def once():
            embedded = [model(**chunk, head="retrieval")["embedding"].float() for _, chunk in chunks_of(tokens, 2)]
            return torch.cat(embedded).flip(0)

        found = run(lambda: embed(model, tokens, 2))
        assert_same(run(once), found, atol=1e-6, rtol=1e-5)
        if dtype is torch.float32:
            assert_same(run(lambda: embed(model, tokens)), found, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("padding_side", ["right", "left"])
    def test_chunks_are_as_long_as_their_longest_text(self, tiny_tokenizer, tiny_model, padding_side):
        tokenizer = copy.deepcopy(tiny_tokenizer)
        tokenizer.padding_side = padding_side
        shapes, model = [], copy.deepcopy(tiny_model)
        model.encoder.embeddings.register_forward_hook(lambda _module, _inputs, output: shapes.append(output.shape[:2]))
        texts = [TEXTS[i] for i in (2, 0, 3, 1)]
        with torch.no_grad():
            embeddings = embed(model, tokenize(tokenizer, texts, 64), 2)
        lengths = sorted(
            (len(tokenizer(text, truncation=True, max_length=64)["input_ids"]) for text in texts), reverse=True
        )
        assert len(set(lengths)) > 2
        assert shapes == [(2, lengths[0]), (2, lengths[2])]
        if padding_side == "right":
            with torch.no_grad():
                torch.testing.assert_close(
                    embeddings, embed(model, tokenize(tokenizer, texts, 64)), atol=1e-5, rtol=1e-5
                )

    def test_the_first_pass_keeps_no_activations(self, tiny_tokenizer, model):
        weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

        def kept(texts, chunk_size):
            sizes = []

            def keep(tensor):
                if tensor.untyped_storage().data_ptr() not in weights:
                    sizes.append(tensor.nbytes)
                return tensor

            with saved_tensors_hooks(keep, lambda tensor: tensor):
                embed(model, tokenize(tiny_tokenizer, texts, 32), chunk_size)
            return sum(sizes)

        assert kept(TEXTS * 8, None) > 7 * kept(TEXTS, None)
        assert kept(TEXTS * 8, 4) < kept(TEXTS, None) / 50

    def test_the_second_pass_keeps_those_of_one_chunk(self, tiny_tokenizer, model):
        """No chunk is encoded again before the gradient is through the one before."""
        events = []

        def encoded(_module, _inputs, output):
            events.append(f"encode {len(output)}")
            if output.requires_grad:
                output.register_hook(lambda gradient: events.append(f"gradient {len(gradient)}"))

        model.encoder.embeddings.register_forward_hook(encoded)
        tokens = tokenize(tiny_tokenizer, [*TEXTS, "One", "Two"], 32)
        embeddings = embed(model, tokens, 4)
        assert events == ["encode 4", "encode 2"]
        events.clear()
        embeddings.square().sum().backward()
        assert events == ["encode 2", "gradient 2", "encode 4", "gradient 4"]

    def test_without_gradients(self, tiny_tokenizer, tiny_model):
        tokens = tokenize(tiny_tokenizer, TEXTS, 64)
        with torch.no_grad():
            torch.testing.assert_close(embed(tiny_model, tokens, 3), embed(tiny_model, tokens), atol=1e-5, rtol=1e-5)


PASSAGES = {
    "gold": ("Nile", "Speke named the lake."),
    "other": ("Nile", "The lake was named by Speke in 1858."),
    "hard": ("Moon", "The lake has no name there."),
    "false": ("Sea", "It was Speke who named the lake."),
    "moon": ("Moon", "Galileo drew the mountains, as Speke did."),
    "far": ("Sea", "Ships carry grain."),
}
QUESTIONS = [
    Question("q0", "Who named the lake?", ("Speke",), "gold", (), False, ("other",), ("hard", "false")),
    Question("q1", "Who drew the mountains?", ("Galileo",), "moon"),
    Question("q2", "What do ships carry?", ("grain",), "far", (), False, (), ("hard",)),
    Question("q3", "Who drew them first?", (), "moon"),
]


class TestInTheBatch:
    """Questions of a small collection, contrasted with what the batch draws for them."""

    def task(self, tokenizer, **changes):
        passages = {name: Passage(name, title, text) for name, (title, text) in PASSAGES.items()}
        options = RetrievalTask.Options(contrast="batch", anchor_weight=0.0, temperature=0.2, **changes)
        return RetrievalTask(options, QUESTIONS, passages, tokenizer, 1)

    def names(self, task, features):
        """By pair its question and gold passage, and what is ignored for it."""
        names = [list(task.passages)[row] for row in features["rows"]]
        gold = [list(task.passages)[row] for row in features["gold"]]
        ignored = [{names[column] for column in row.nonzero()[:, 0]} for row in features["ignored"]]
        return names, list(zip(features["asking"].tolist(), gold, ignored, strict=True))

    def test_a_pair_for_each_question_by_default(self, tiny_tokenizer):
        task, drawn = self.task(tiny_tokenizer), set()
        for seed in range(10):
            names, pairs = self.names(task, task.collate(task.items, np.random.default_rng(seed)))
            drawn.add(pairs[0][1])
            assert set(names) == {pairs[0][1], "moon", "far"}
            # two questions of one passage share its row; `moon` holds the first question's answer
            assert pairs == [(0, pairs[0][1], {"moon"}), (1, "moon", set()), (2, "far", set()), (3, "moon", set())]
        assert drawn == {"gold", "other"}

    def test_several_positives_and_hard_negatives(self, tiny_tokenizer):
        task = self.task(tiny_tokenizer, positives=2, hard_negatives=2)
        names, pairs = self.names(task, task.collate(task.items, np.random.default_rng(0)))
        assert names == ["gold", "other", "hard", "false", "moon", "far"]
        assert sorted(pairs[:2]) == [(0, "gold", {"other", "false", "moon"}), (0, "other", {"gold", "false", "moon"})]
        assert pairs[2:] == [(1, "moon", set()), (2, "far", set()), (3, "moon", set())]

    def test_a_hard_negative_is_drawn_anew_in_each_batch(self, tiny_tokenizer):
        task, seen = self.task(tiny_tokenizer, hard_negatives=1), set()
        for seed in range(10):
            names, _ = self.names(task, task.collate(task.items[:1], np.random.default_rng(seed)))
            seen.update(set(names) & {"hard", "false"})
            assert len(names) == 2
        assert seen == {"hard", "false"}

    def test_loss_equals_its_definition(self, tiny_tokenizer, tiny_model, tmp_path):
        task = self.task(tiny_tokenizer, positives=2, hard_negatives=2, title_rate=0.0)
        task.prepare(tiny_model, tmp_path)
        assert not any(tmp_path.iterdir())  # no bank is made
        features = task.collate(task.items, np.random.default_rng(0))
        with torch.no_grad():
            loss, metrics = task.loss(tiny_model, features)
            queries, passages = (
                tiny_model(**tokenize(tiny_tokenizer, texts, 64), head="retrieval")["embedding"].numpy().astype(float)
                for texts in ([q.text for q in task.items], [text for _, text in PASSAGES.values()])
            )
        _, pairs = self.names(task, features)
        expected, hits = [], []
        for question, gold, ignored in pairs:
            scores = dict(zip(PASSAGES, np.exp(queries[question] @ passages.T / 0.2), strict=True))
            candidates = {name: score for name, score in scores.items() if name not in ignored}
            expected.append(-math.log(scores[gold] / sum(candidates.values())))
            hits.append(max(candidates, key=candidates.get) == gold)
        assert len(pairs) == 5
        assert loss.item() == pytest.approx(np.mean(expected), rel=1e-4)
        assert metrics == pytest.approx({"live_contrast": np.mean(expected), "recall@1": np.mean(hits)}, rel=1e-4)

    def test_an_anchor_makes_the_bank(self, make_task, tiny_model, tmp_path):
        options = {"contrast": "batch", "title_rate": 0.0}
        plain, held = make_task(RetrievalTask, anchor_weight=0.0, **options), make_task(RetrievalTask, **options)
        held.prepare(tiny_model, tmp_path)
        moved = copy.deepcopy(tiny_model)
        with torch.no_grad():
            for parameter in moved.encoder.encoder.parameters():
                parameter.mul_(1.1)
            loss, metrics = held.loss(moved, held.batch(0))
            without, _ = plain.loss(moved, plain.batch(0))
        assert metrics["anchor"] > 1e-3
        assert loss.item() == pytest.approx(without.item() + 5 * metrics["anchor"].item(), rel=1e-4)

    def test_chunks_and_batches_of_a_thousand(self, tiny_tokenizer):
        """A batch may hold every question; the model of the test is smaller than any, so that it is fast."""
        passages = {str(i): Passage(str(i), "", f"number {i} of many") for i in range(1024)}
        questions = [Question(str(i), f"which is {i}?", (f"number {i}",), str(i)) for i in range(1024)]
        options = RetrievalTask.Options(
            contrast="batch", anchor_weight=0.0, batch_size=1024, chunk_size=256, max_passage_length=8
        )
        task = RetrievalTask(options, questions, passages, tiny_tokenizer, 1)
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        encoder = AutoConfig.for_model("bert", vocab_size=len(tiny_tokenizer), **sizes)
        torch.manual_seed(0)
        model = set_dropout_of(ROMModel(ROMConfig(encoder=encoder)).train(), 0.0)
        features = task.batch(0)
        loss, _ = task.loss(model, features)
        loss.backward()
        with torch.no_grad():
            queries, texts = (embed(model, features[kind]).double() for kind in ("queries", "passages"))
        scores = queries @ texts.T / 0.05
        assert scores.shape == (1024, 1024)
        scores[features["ignored"]] = -math.inf
        gold = scores[range(1024), [features["rows"].tolist().index(row) for row in features["gold"]]]
        assert loss.item() == pytest.approx((scores.logsumexp(-1) - gold).mean().item(), rel=1e-5)
        assert model.encoder.embeddings.word_embeddings.weight.grad.abs().sum() > 0

    def test_a_large_batch_holds_as_many_passages_as_chance_gives(self, tiny_tokenizer):
        """Five questions a passage, as in SQuAD; those of a passage are equally long, and yet part."""
        passages = {str(i): Passage(str(i), "", "x" * i) for i in range(4000)}
        questions = [Question(f"{i} {k}", "which?", (), str(i)) for i in range(4000) for k in range(5)]
        expected = 4000 * (1 - (1 - 1000 / 20000) ** 5)  # about 905 of 1000

        def distinct(**changes):
            options = RetrievalTask.Options(batch_size=1000, **changes)
            task = RetrievalTask(options, questions, passages, tiny_tokenizer, 1)
            return np.mean([len({name.split()[0] for name in task.ids(number)}) for number in range(5)])

        assert distinct(contrast="batch") == pytest.approx(expected, rel=0.02)
        assert distinct(contrast="bank") == pytest.approx(expected, rel=0.02)
        assert distinct(group_by_length=True) < 300


def test_contrast_ignores_what_it_is_told_to():
    scores = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], requires_grad=True)
    ignored = torch.tensor([[False, False, True], [False, True, True]])
    loss = contrast(scores, ignored, torch.tensor([1, 0]))
    assert loss.item() == pytest.approx((math.log(1 + math.exp(-1)) + 0) / 2)
    loss.backward()
    assert torch.isfinite(scores.grad).all()
    assert scores.grad[ignored].abs().max() == 0
