"""Engines against the reference: what is measured, and what counts as faithful."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rom_haystack.inference import fidelity as measuring
from rom_haystack.inference.fidelity import Fidelity, compare
from rom_haystack.inference.reading import Answer
from rom_haystack.inference.samples import Question, Sample, read_sample

SAMPLE = read_sample(part=slice(0, 3))
PERFECT = Fidelity(1.0, 1.0, 1.0, 1.0, 0.9, 0.95, 0.9, 0.95, 100.0, 100.0)


class Engine:
    """The tiny encoder, with changes to what it says."""

    def __init__(
        self, encoder, *, embeddings=lambda vectors: vectors, answers=lambda found: found, called=lambda: None
    ):
        self.max_length = encoder.max_length
        self.tokenizer = encoder.tokenizer
        self._encoder, self._embeddings, self._answers, self._called = encoder, embeddings, answers, called

    def encode_passages(self, texts, **options):
        self._called()
        return self._embeddings(self._encoder.encode_passages(texts, **options))

    def encode_queries(self, texts, **options):
        return self._embeddings(self._encoder.encode_queries(texts, **options))

    def read(self, queries, passages, options):
        self._called()
        return self._answers(self._encoder.read(queries, passages, options))


def fidelity_of(encoder, sample=SAMPLE, **changes):
    return compare(encoder, {"engine": Engine(encoder, **changes)}, sample)["engine"]


def test_the_same_engine_is_faithful(tiny_encoder):
    found = fidelity_of(tiny_encoder)
    assert found.cosine_mean == pytest.approx(1)
    assert found.cosine_min == pytest.approx(1)
    assert (found.top_overlap, found.span_agreement, found.exact_match_change, found.f1_change) == (1, 1, 0, 0)
    assert found.faithful


def test_other_embeddings(tiny_encoder):
    generator = np.random.default_rng(3)
    found = fidelity_of(tiny_encoder, embeddings=lambda vectors: vectors + 0.2 * generator.normal(size=vectors.shape))
    assert 0 < found.cosine_min < found.cosine_mean < 0.9
    assert found.top_overlap < 1
    assert found.span_agreement == 1
    assert not found.faithful


def test_length_of_embeddings_does_not_matter(tiny_encoder):
    assert fidelity_of(tiny_encoder, embeddings=lambda vectors: 3 * vectors).faithful


def test_an_engine_without_numbers_is_not_faithful(tiny_encoder):
    assert not fidelity_of(tiny_encoder, embeddings=lambda vectors: np.full_like(vectors, np.nan)).faithful


def test_span_agreement_counts_pairs(tiny_encoder):
    def moved(found):
        """Move the best answer of the first of the five passages of each question."""
        return [[replace(found[0][0], end=found[0][0].end + 1)], *found[1:]]

    found = fidelity_of(tiny_encoder, answers=moved)
    assert found.span_agreement == pytest.approx(0.8)
    assert not found.faithful


def test_no_answer_on_both_sides_agrees(tiny_encoder):
    silent = Engine(tiny_encoder, answers=lambda found: [[] for _ in found])
    found = compare(silent, {"engine": silent}, SAMPLE)["engine"]
    assert (found.span_agreement, found.f1) == (1, 0)


def test_scores_come_from_the_best_of_all_passages(tiny_encoder):
    sample = Sample(("It is red.", "It is dark blue."), (Question("Which?", "dark blue", 1), Question("?", "blue", 1)))
    answers = {"It is red.": Answer(6, 9, "red", 1.0, 0.6), "It is dark blue.": Answer(6, 15, "dark blue", 2.0, 0.7)}

    class Fixed(Engine):
        def read(self, queries, passages, options):
            return [[answers[passage]] for passage in passages]

    class Worse(Engine):
        def read(self, queries, passages, options):
            return [[replace(answers[passage], logit=-answers[passage].logit)] for passage in passages]

    found = compare(Fixed(tiny_encoder), {"worse": Worse(tiny_encoder)}, sample)["worse"]
    assert (found.reference_exact_match, found.reference_f1) == (0.5, pytest.approx((1 + 2 / 3) / 2))
    assert (found.exact_match, found.f1) == (0, 0)
    assert found.exact_match_change == -0.5
    assert found.f1_change == pytest.approx(-5 / 6)


def test_passages_per_question(tiny_encoder):
    counts = []
    engine = Engine(tiny_encoder, answers=lambda found: counts.append(len(found)) or found)
    compare(engine, {}, SAMPLE, passages_per_question=3)
    assert counts == [3] * len(SAMPLE.questions)


def test_a_model_of_few_tokens_is_measured_too(tiny_encoder):
    short = Engine(tiny_encoder)
    short.max_length = 40
    assert compare(short, {"engine": short}, SAMPLE)["engine"].span_agreement == 1


class TestPace:
    @pytest.fixture
    def clock(self, monkeypatch):
        """A clock that only stands forward when told."""
        now = [0.0]
        monkeypatch.setattr(measuring.time, "perf_counter", lambda: now[0])

        def passes(seconds):
            now[0] += seconds

        return passes

    def test_engines_work_in_turn_on_the_same_pieces(self, tiny_encoder, clock):
        order = []
        engines = {name: Engine(tiny_encoder, called=lambda name=name: order.append(name)) for name in "ab"}
        with pytest.raises(ZeroDivisionError):  # the clock stands still
            compare(Engine(tiny_encoder, called=lambda: order.append("r")), engines, SAMPLE)
        rounds = ["".join(order[i : i + 3]) for i in range(0, len(order), 3)]
        assert rounds[:3] == ["rab", "rab", "abr"]
        assert all(sorted(turn) == ["a", "b", "r"] for turn in rounds)

    def test_what_happens_once_does_not_count(self, tiny_encoder, clock):
        pieces = [1000.0]

        def quick():
            clock(pieces.pop() if pieces else 1)

        found = compare(
            Engine(tiny_encoder, called=lambda: clock(4)), {"engine": Engine(tiny_encoder, called=quick)}, SAMPLE
        )["engine"]
        assert found.speedup == pytest.approx(4, rel=0.1)
        assert found.tokens_per_second == pytest.approx(found.speedup * found.reference_tokens_per_second)


@pytest.mark.parametrize(
    ("changes", "faithful"),
    [
        ({}, True),
        ({"cosine_mean": 0.999, "span_agreement": 0.98}, True),
        ({"cosine_mean": 0.9989}, False),
        ({"span_agreement": 0.979}, False),
        ({"cosine_min": 0.9, "top_overlap": 0.8, "f1": 0.9}, True),
    ],
)
def test_limits(changes, faithful):
    assert replace(PERFECT, **changes).faithful is faithful
