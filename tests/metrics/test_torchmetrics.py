"""EM, F1 and the calibration error are torchmetrics', on random input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_calibration_error
from torchmetrics.functional.text import squad

from rom_haystack.metrics import calibration_error, equal_width_bins, exact_match, f1, normalize_answer

WORDS = [
    "the",
    "a",
    "An",
    "red",
    "Fox",
    "fox.",
    "U.S.",
    "1,000",
    "Zoë",
    "Zoe\u0308",
    "l’an",
    "東京",
    "-",
    "theatre",
    "don't",
]
PHRASES = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join) | st.text(max_size=12)
#: 2.0 drops gold answers of which nothing is left, torchmetrics keeps them.
GOLDS = st.lists(PHRASES.filter(normalize_answer), min_size=1, max_size=4) | st.just([""])


@settings(max_examples=60)
@given(st.lists(st.tuples(PHRASES, GOLDS), min_size=1, max_size=8))
def test_exact_match_and_f1(pairs):
    predictions = [{"prediction_text": text, "id": str(i)} for i, (text, _) in enumerate(pairs)]
    targets = [
        {"answers": {"answer_start": [0] * len(golds), "text": golds}, "id": str(i)}
        for i, (_, golds) in enumerate(pairs)
    ]
    expected = squad(predictions, targets)
    assert 100 * np.mean([exact_match(*pair) for pair in pairs]) == pytest.approx(float(expected["exact_match"]))
    assert 100 * np.mean([f1(*pair) for pair in pairs]) == pytest.approx(float(expected["f1"]), abs=1e-3)


@pytest.mark.parametrize(("count", "bins"), [(1, 10), (50, 1), (200, 15), (3000, 10)])
def test_calibration_error(count, bins):
    rng = np.random.default_rng(count)
    probabilities = rng.beta(0.5, 0.7, size=count).astype(np.float32)
    outcomes = rng.random(count) < probabilities**2
    expected = binary_calibration_error(torch.tensor(probabilities), torch.tensor(outcomes), n_bins=bins, norm="l1")
    found = calibration_error(equal_width_bins(probabilities, outcomes, bins))
    assert found == pytest.approx(float(expected), abs=1e-5)
