"""Metrics of question answering in the field's standard form, on plain texts and numbers."""

from rom_haystack.metrics.answers import exact_match, f1, normalize_answer
from rom_haystack.metrics.bootstrap import Figure, figure
from rom_haystack.metrics.calibration import (
    ReliabilityBin,
    calibration_error,
    calibration_factor,
    equal_mass_bins,
    equal_width_bins,
    log_loss,
    log_odds,
)
from rom_haystack.metrics.no_answer import (
    BestThreshold,
    average_precision,
    best_threshold,
    roc_auc,
    withhold_above,
)
from rom_haystack.metrics.retrieval import answer_rank, answer_tokens, has_answer

__all__ = [
    "BestThreshold",
    "Figure",
    "ReliabilityBin",
    "answer_rank",
    "answer_tokens",
    "average_precision",
    "best_threshold",
    "calibration_error",
    "calibration_factor",
    "equal_mass_bins",
    "equal_width_bins",
    "exact_match",
    "f1",
    "figure",
    "has_answer",
    "log_loss",
    "log_odds",
    "normalize_answer",
    "roc_auc",
    "withhold_above",
]
