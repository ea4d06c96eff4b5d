"""How often answers are right that the demo calls likely: `python -m benchmarks.likelihoods run | check`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from benchmarks.command import add_check, mistakes_explained, work_folder, write_results
from benchmarks.environment import environment
from benchmarks.hybrid import Collection, drawn_questions
from demo.core.results import Settings
from demo.core.wording import chance, further_likelihood, likelihood
from rom_haystack.answers import quotes
from rom_haystack.metrics import f1
from rom_haystack.pipelines import ROMExtractiveQA
from training.data.dataset import Question

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Measure what the demo's words for scores mean.")

EXPECTATIONS = Path(__file__).with_suffix(".yaml")
#: The F1 from which an answer counts as right.
RIGHT = 0.5

_SET = "squad/dev"
# Fewest answers of which a share is told: it is then right to within 7 points, two times in three.
_GROUP = 50

#: An answer's score, and whether it is right.
Judged = tuple[float, bool]


@app.command()
def run(
    output: Annotated[Path, typer.Option(help="JSON file for the results.")],
    data: Annotated[Path, typer.Option(help="Data folder, with squad/dev.")],
    cache: Annotated[Path, typer.Option(help="Folder for the passages' embeddings.")],
    work: Annotated[Path | None, typer.Option(help="Folder for the store; default: temporary.")] = None,
    questions: Annotated[int, typer.Option(min=1, help="Questions of SQuAD dev.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 13,
) -> None:
    """Ask as the demo does, and count right answers by their scores, and by the words that it has for them."""
    with mistakes_explained(), work_folder(work) as folder:
        collection = Collection(folder, data, cache, (_SET,))
        asked = drawn_questions(data, _SET, questions, seed)
        with collection.store:
            qa = ROMExtractiveQA(collection.store)
            judged = [_judged(question, qa) for question in tqdm(asked)]
        best = [answers[0] for answers in judged if answers]
        results = {
            "environment": environment(),
            "settings": {"questions": len(asked), "seed": seed},
            "passages": len(collection.passages),
            "best": by_word(best, likelihood),
            "shares": shares(best),
            "shown": {"error": error(best, chance)},
            "further": by_word((answer for answers in judged for answer in answers[1:]), further_likelihood),
        }
        write_results(results, output)


add_check(app, EXPECTATIONS)


def by_word(answers: Iterable[Judged], word_for: Callable[[float], str]) -> dict[str, dict[str, Any]]:
    """Count answers, and what percentage of them is right, by the word for their scores.

    Args:
        answers: Scores, and whether the answers are right.
        word_for: The word for a score.
    """
    words: dict[str, list[bool]] = defaultdict(list)
    for score, right in answers:
        words[word_for(score)].append(right)
    return {
        word: {"answers": len(found), "right": round(100 * sum(found) / len(found), 1)}
        for word, found in sorted(words.items())
    }


def shares(answers: Iterable[Judged]) -> list[dict[str, float]]:
    """Tell which share of answers is right, by score: it never falls as the score rises (isotonic regression).

    Args:
        answers: Scores, and whether the answers are right.

    Returns:
        For groups of answers with like scores, lowest first: their mean score, the percentage that is right, and how
        many they are.
    """
    found: list[list[Judged]] = []
    for group in _groups(answers):
        found.append(group)
        while len(found) > 1 and _right(found[-2]) >= _right(found[-1]):
            last = found.pop()
            found[-1] = found[-1] + last
    return [
        {
            "score": round(sum(score for score, _ in group) / len(group), 3),
            "right": round(100 * _right(group), 1),
            "answers": len(group),
        }
        for group in found
    ]


def error(answers: Iterable[Judged], shown: Callable[[float], float]) -> float:
    """Tell how far the shares that are shown are from those that are right, in points.

    Args:
        answers: Scores, and whether the answers are right.
        shown: The share, from 0 to 1, that is shown for a score.

    Returns:
        The mean over groups of answers with like scores.
    """
    differences = [
        abs(sum(shown(score) for score, _ in group) / len(group) - _right(group)) for group in _groups(answers)
    ]
    return round(100 * sum(differences) / len(differences), 1)


def _groups(answers: Iterable[Judged]) -> list[list[Judged]]:
    """Put answers with like scores together; what is left over joins the last group."""
    ranked = sorted(answers)
    starts = range(0, max(len(ranked) - _GROUP, 0) + 1, _GROUP)
    return [ranked[start : start + _GROUP if start != starts[-1] else None] for start in starts]


def _right(answers: list[Judged]) -> float:
    return sum(right for _, right in answers) / len(answers)


def _judged(question: Question, qa: ROMExtractiveQA) -> list[Judged]:
    top_k = Settings().top_k
    answers = quotes(qa.run(query=question.text, top_k=top_k + 1)["answers"], top_k)
    return [(answer.score, f1(answer.data or "", question.answers) >= RIGHT) for answer in answers]


if __name__ == "__main__":
    app()
