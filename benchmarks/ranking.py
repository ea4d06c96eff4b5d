"""What ranking by reading gives: `python -m benchmarks.ranking run | check`; see benchmarks/README.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from haystack import Document

from benchmarks.command import add_check, console, mistakes_explained, work_folder, write_results
from benchmarks.embeddings import embed
from benchmarks.environment import environment
from benchmarks.passages import QUALITY_COLLECTION, QUESTIONS, answerable_questions, passages_of
from benchmarks.stores.quality import CUTOFFS, first_hits, recall_figures, searches
from rom_haystack import ROMRanker
from rom_haystack.inference import EncoderSpec
from rom_haystack.modeling import DEFAULT_CHECKPOINT
from training.data.dataset import Question

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Measure what ROMRanker makes of retrieval.")

#: Score from which a document counts as relevant.
THRESHOLD = 0.9
EXPECTATIONS = Path(__file__).with_suffix(".yaml")


@app.command()
def run(
    output: Annotated[Path, typer.Option(help="JSON file for the results.")],
    data: Annotated[Path, typer.Option(help="Data folder, with squad/train and squad/dev.")],
    cache: Annotated[Path, typer.Option(help="Folder for the passages' embeddings.")],
    work: Annotated[Path | None, typer.Option(help="Folder for the store; default: temporary.")] = None,
    model: Annotated[str, typer.Option(help="Bundled name or folder of the ROM checkpoint.")] = DEFAULT_CHECKPOINT,
    questions: Annotated[int, typer.Option(min=1, help="Questions of SQuAD dev.")] = 500,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.")] = 13,
) -> None:
    """Search for answers by meaning, by keywords and by both, and rank what was found."""
    with mistakes_explained(), work_folder(work) as folder:
        by_set = passages_of(data, QUALITY_COLLECTION)
        passages = [passage for found in by_set.values() for passage in found]
        asked = answerable_questions(data, questions, seed)
        vectors = np.concatenate(
            [embed(name, [p.text for p in found], "passages", cache, model) for name, found in by_set.items()]
        )
        queries = embed(QUESTIONS, [question.text for question in asked], "questions", cache, model)
        engine = EncoderSpec(model).resolved()
        settings = {"model": model, "engine": f"{engine.backend}-{engine.dtype}", "questions": len(asked), "seed": seed}
        results: dict[str, Any] = {"environment": environment(), "settings": settings, "passages": len(passages)}
        found = list(searches(folder / "store", passages, vectors, asked, queries))
        console.print(f"{len(found):,} questions: ranking")
        ranker = ROMRanker(model=model)
        results |= ranking_figures(found, asked, ranker)
        ranker.close()
        write_results(results, output)


add_check(app, EXPECTATIONS)


def ranking_figures(
    found: Sequence[Mapping[str, list[Document]]], questions: Sequence[Question], ranker: ROMRanker
) -> dict[str, dict[str, dict[str, float]]]:
    """Compare the orders in which documents were found with the ranker's.

    Args:
        found: Per question, by way of searching, the documents, best first; the first 20 are ranked.
        questions: The questions.
        ranker: What judges them, each once, as no score depends on what else was found.

    Returns:
        By way of searching: for both orders, `retrieved` and `ranked`, the figures of `recall_figures` and the mean
        reciprocal rank of the first passage with an answer, `mrr`, in percent; and of the documents with a score of at
        least `THRESHOLD`, under `threshold`, how many there are per question, `documents`, and `recall`.
    """
    firsts = [{way: documents[: max(CUTOFFS)] for way, documents in searched.items()} for searched in found]
    unions = [list({d.id: d for documents in ways.values() for d in documents}.values()) for ways in firsts]
    asked = [question.text for question in questions]
    ranked = ranker.run_batch(asked, unions, top_k=max(map(len, unions)))["documents"]
    figures = {}
    for way in firsts[0]:
        retrieved = [ways[way] for ways in firsts]
        ids = [{document.id for document in documents} for documents in retrieved]
        ordered = [[d for d in group if d.id in wanted] for group, wanted in zip(ranked, ids, strict=True)]
        kept = [[d for d in group if (d.score or 0) >= THRESHOLD] for group in ordered]
        figures[way] = {
            "retrieved": _figures(retrieved, questions),
            "ranked": _figures(ordered, questions),
            "threshold": {
                "documents": float(np.mean([len(group) for group in kept])),
                "recall": _figures(kept, questions)[f"recall_at_{max(CUTOFFS)}"],
            },
        }
    return figures


def _figures(found: Sequence[list[Document]], questions: Sequence[Question]) -> dict[str, float]:
    hits = first_hits([[document.content or "" for document in group] for group in found], questions)
    return {**recall_figures(hits), "mrr": 100 * float(np.mean(1 / hits))}


if __name__ == "__main__":
    app()
