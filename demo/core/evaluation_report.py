"""What an evaluation found: figures, curves, and files to take away."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from demo.core.evaluating import DEPTH, Outcome, Run
from rom_haystack.metrics import Figure, ReliabilityBin, calibration_error, equal_mass_bins, figure
from rom_haystack.questions import ANSWER_SEPARATOR

#: Names of figures, as they are shown and saved.
EXACT_MATCH = "Exact match"
F1 = "F1"
RECALL = "Answer recall@{}"
NO_ANSWER = "No answer, rightly"
ANSWERED = "Answered, where there is an answer"
QUOTE_EXACT_MATCH = "Exact match of the best quote"
QUOTE_F1 = "F1 of the best quote"

_RECALLS = (1, 5, 20)
_SEED = 13
_BINS = 10
#: Answers per bin of the reliability curve, as far as they go round; fewer say little.
_PER_BIN = 10
# Spreadsheets take a cell that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class F1Band:
    """Questions whose answers have an F1 in a range.

    Attributes:
        name: The range, in percent.
        count: How many.
    """

    name: str
    count: int


@dataclass(frozen=True)
class Summary:
    """What is shown of a run; the intervals in it take a second or two to find.

    Attributes:
        figures: By name, in percent with their intervals.
        recall: For 1, 2, … passages, how often one of them holds a gold answer. Empty where none were looked for.
        reliability: Best quotes by score, and how right they are, by F1.
        calibration_error: Mean gap between the two, from 0 to 1.
        f1_bands: Answers by F1, lowest first.
    """

    figures: dict[str, Figure]
    recall: tuple[Figure, ...]
    reliability: tuple[ReliabilityBin, ...]
    calibration_error: float
    f1_bands: tuple[F1Band, ...]


def summarise(run: Run) -> Summary:
    """Sum up a run."""
    scores = [outcome.score for outcome in run.outcomes]
    bins = max(1, min(_BINS, len(scores) // _PER_BIN))
    reliability = equal_mass_bins(scores, [outcome.f1 if outcome.answerable else 0.0 for outcome in run.outcomes], bins)
    recall = _recall(run)
    return Summary(
        figures=_figures(run, recall),
        recall=recall,
        reliability=tuple(reliability),
        calibration_error=calibration_error(reliability),
        f1_bands=tuple(_f1_bands(run.outcomes)),
    )


def as_csv(run: Run) -> bytes:
    """Write a run as a table with a row per question; UTF-8 with a byte order mark, which spreadsheets ask for."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(_row(run.outcomes[0])), lineterminator="\r\n", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows({name: harmless(value) for name, value in _row(outcome).items()} for outcome in run.outcomes)
    return text.getvalue().encode("utf-8-sig")


def as_json(run: Run, summary: Summary) -> bytes:
    """Write a run as JSON: how it was made, its figures and all questions."""
    whole = {
        "questions": run.questions,
        "questions in file": run.in_file,
        "asked": len(run.outcomes),
        "place": run.place,
        "documents": run.documents,
        "settings": asdict(run.settings),
        "engine": run.engine,
        "seconds": round(run.seconds, 3),
        "figures": {name: asdict(value) for name, value in summary.figures.items()},
        "calibration error": summary.calibration_error,
        "outcomes": [{**_row(outcome), "answers": outcome.question.answers} for outcome in run.outcomes],
    }
    return json.dumps(whole, indent=1, ensure_ascii=False).encode()


def harmless(value: Any) -> Any:
    """Keep a spreadsheet from taking a text for a formula: an apostrophe before it makes it a text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _figures(run: Run, recall: Sequence[Figure]) -> dict[str, Figure]:
    outcomes = run.outcomes
    answerable = [outcome for outcome in outcomes if outcome.answerable]
    unanswerable = [outcome for outcome in outcomes if not outcome.answerable]
    found = {
        EXACT_MATCH: _mean(outcomes, lambda outcome: outcome.final_exact_match),
        F1: _mean(outcomes, lambda outcome: outcome.final_f1),
    }
    found |= {RECALL.format(k): recall[k - 1] for k in _RECALLS if recall}
    if answerable:
        found |= {
            QUOTE_EXACT_MATCH: _mean(answerable, lambda outcome: outcome.exact_match),
            QUOTE_F1: _mean(answerable, lambda outcome: outcome.f1),
            ANSWERED: _mean(answerable, lambda outcome: float(outcome.answered)),
        }
    if unanswerable:
        found[NO_ANSWER] = _mean(unanswerable, lambda outcome: float(not outcome.answered))
    return found


def _recall(run: Run) -> tuple[Figure, ...]:
    answerable = [outcome for outcome in run.outcomes if outcome.answerable]
    if run.place == "paragraphs" or not answerable:
        return ()
    ranks = [outcome.rank or DEPTH + 1 for outcome in answerable]
    return tuple(figure([float(rank <= k) for rank in ranks], _SEED) for k in range(1, DEPTH + 1))


def _mean(outcomes: Sequence[Outcome], of: Callable[[Outcome], float]) -> Figure:
    return figure([of(outcome) for outcome in outcomes], _SEED)


def _f1_bands(outcomes: Sequence[Outcome]) -> list[F1Band]:
    """Count none right, then fifths, then all right."""
    values = [outcome.final_f1 for outcome in outcomes]
    inner = [value for value in values if 0 < value < 1]
    counts = [0] * 5
    for value in inner:
        counts[min(int(value * 5), 4)] += 1
    bands = [F1Band(f"{20 * i}–{20 * (i + 1)}", count) for i, count in enumerate(counts)]
    return [F1Band("0", values.count(0.0)), *bands, F1Band("100", values.count(1.0))]


def _row(outcome: Outcome) -> dict[str, Any]:
    return {
        "question": outcome.question.query,
        "answer": ANSWER_SEPARATOR.join(outcome.question.answers),
        "prediction": outcome.prediction,
        "exact match": outcome.final_exact_match,
        "F1": round(outcome.final_f1, 4),
        "best quote": outcome.quote,
        "score": round(outcome.score, 4),
        "exact match of the best quote": outcome.exact_match if outcome.answerable else "",
        "F1 of the best quote": round(outcome.f1, 4) if outcome.answerable else "",
        "rank of the first passage with an answer": "" if outcome.rank is None else outcome.rank,
        "title": outcome.title,
        "file": outcome.file_path,
        "page": "" if outcome.page is None else outcome.page,
        "sentence": outcome.sentence,
    }
