"""Evaluators of question answering that Haystack lacks, with the outputs that its evaluation tools expect.

All take the gold answers as Haystack's evaluators do, one text per question, or as lists of alternatives. A question
without an answer has the gold answer `""` or `[]`. Predictions are texts, or what a reader gave: its list of answers
for each question, or one `ExtractedAnswer` for each, whose `data` is None where it found no answer. Every evaluator
gives `individual_scores`, one per question, and their mean as `score`, from 0 to 1. docs/evaluation.md shows all of
them at work and has their rules.
"""

from rom_haystack.components.evaluators.answer_exact_match import AnswerExactMatchEvaluator
from rom_haystack.components.evaluators.answer_f1 import AnswerF1Evaluator
from rom_haystack.components.evaluators.answer_recall import AnswerRecallEvaluator
from rom_haystack.components.evaluators.calibration import CalibrationEvaluator
from rom_haystack.components.evaluators.no_answer import NoAnswerEvaluator

__all__ = [
    "AnswerExactMatchEvaluator",
    "AnswerF1Evaluator",
    "AnswerRecallEvaluator",
    "CalibrationEvaluator",
    "NoAnswerEvaluator",
]
