"""The benchmark of hybrid retrieval: `python -m benchmarks.hybrid run | check`; see benchmarks/README.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from haystack import Document
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.command import (
    add_check,
    console,
    mistakes_explained,
    resumed,
    work_folder,
    write_results,
)
from benchmarks.embeddings import embed
from benchmarks.environment import environment
from benchmarks.measures import latency_figures, timed
from benchmarks.passages import passages_of
from rom_haystack.document_stores import SQLiteFAISSDocumentStore
from rom_haystack.fusion import FUSIONS, Found, Fusion, first_rank, fit_weights, fuse
from rom_haystack.hybrid import CANDIDATES
from rom_haystack.metrics import answer_tokens, exact_match, f1, figure, has_answer
from rom_haystack.pipelines import Retrieval, ROMExtractiveQA
from training.data.dataset import Passage, Question
from training.data.jsonl import read_questions

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Measure hybrid retrieval.")

EXPECTATIONS = Path(__file__).with_suffix(".yaml")
CUTOFFS = (1, 5, 20)
#: Sets whose questions are asked, and the sets whose passages are searched for each.
COLLECTIONS: Mapping[str, tuple[str, ...]] = {
    "squad/dev": ("squad/train", "squad/dev"),
    "nq/train": ("nq/train", "squad/train", "squad/dev"),
    "fairytaleqa/dev": ("fairytaleqa/train", "fairytaleqa/dev"),
    "medquad/pairs": ("medquad/pairs",),
}
FITTED_ON = "squad/train"

_WAYS: tuple[Retrieval, ...] = ("keyword", "dense", "hybrid")
_UNTIMED = 10


@app.command()
def run(
    output: Annotated[Path, typer.Option(help="JSON file for the results.")],
    data: Annotated[Path, typer.Option(help="Data folder, as training reads it.")],
    cache: Annotated[Path, typer.Option(help="Folder for the embeddings.")],
    sets: Annotated[str, typer.Option(help="Sets to ask, joined by commas.")] = ",".join(COLLECTIONS),
    limit: Annotated[int | None, typer.Option(min=1, help="Questions of each set; default: all.")] = None,
    fit_limit: Annotated[int, typer.Option(min=1, help="Training questions that weights are fitted to.")] = 2000,
    end_to_end: Annotated[int, typer.Option(min=0, help="SQuAD questions to answer, too.")] = 500,
    work: Annotated[
        Path | None, typer.Option(help="Folder for the stores, which are kept; default: temporary.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of draws and bootstrap.")] = 13,
) -> None:
    """Measure keyword, dense and hybrid retrieval; what an earlier run with the same settings measured is kept."""
    settings = {"limit": limit, "fit_limit": fit_limit, "end_to_end": end_to_end, "seed": seed}
    with mistakes_explained(), work_folder(work) as folder:
        results = resumed(output, {"environment": environment(), "settings": settings, "sets": {}})
        for name in sets.split(","):
            if name not in COLLECTIONS:
                raise ValueError(f"There is no set '{name}' here; choose of {', '.join(COLLECTIONS)}.")
            console.print(f"{name}: preparing")
            collection = Collection(folder, data, cache, COLLECTIONS[name])
            with collection.store:
                if name == "squad/dev":
                    results["fit"] = _fit(collection, drawn_questions(data, FITTED_ON, fit_limit, seed))
                questions = drawn_questions(data, name, limit, seed)
                results["sets"][name] = _retrieval(collection, name, questions, seed)
                if name == "squad/dev" and end_to_end:
                    results["end_to_end"] = _answers(collection, drawn_questions(data, name, end_to_end, seed), seed)
            write_results(results, output)


add_check(app, EXPECTATIONS)


class Collection:
    """Passages in a store, with what they hold.

    Args:
        work: Folder of the stores; one that an earlier run wrote is taken.
        data: Data folder.
        cache: Folder of the embeddings.
        names: The sets whose passages make it, without titles.

    Attributes:
        store: The store; a passage's id is a document's.
    """

    def __init__(self, work: Path, data: Path, cache: Path, names: Sequence[str]) -> None:
        by_set = passages_of(data, names)
        self.cache = cache
        self.passages: dict[str, Passage] = {p.id: p for found in by_set.values() for p in found}
        self.tokens = {id_: answer_tokens(passage.text) for id_, passage in self.passages.items()}
        vectors = [embed(name, [p.text for p in found], "passages", cache) for name, found in by_set.items()]
        place = work / "-".join(names).replace("/", "_")
        self.store = SQLiteFAISSDocumentStore(place, embedding_dim=vectors[0].shape[1])
        if self.store.count_documents() != len(self.passages):
            documents = (
                Document(id=id_, content=passage.text, embedding=vector.tolist())
                for (id_, passage), vector in zip(self.passages.items(), np.concatenate(vectors), strict=True)
            )
            self.store.write_documents(list(documents))
            self.store.optimize()

    def search(self, name: str, questions: Sequence[Question]) -> list[tuple[Found, Found, set[str]]]:
        """Search for questions: what keyword and dense search found, and what of it is right."""
        texts = [question.text for question in questions]
        found: list[tuple[Found, Found, set[str]]] = []
        for question, vector in zip(
            tqdm(questions, desc=name), embed(name, texts, "questions", self.cache), strict=True
        ):
            keyword = self.store.bm25_retrieval(question.text, top_k=CANDIDATES)
            dense = self.store.embedding_retrieval(vector.tolist(), top_k=CANDIDATES)
            right = {d.id for d in (*keyword, *dense) if self.answers(question, d.id)}
            found.append(([(d.id, d.score) for d in keyword], [(d.id, d.score) for d in dense], right))
        return found

    def answers(self, question: Question, passage: str) -> bool:
        """Tell whether a passage answers a question; where no text is known that does, only its own passage does."""
        if not question.answers:
            return passage == question.passage_id
        return has_answer(self.tokens[passage], question.answers)


def drawn_questions(data: Path, name: str, limit: int | None, seed: int) -> list[Question]:
    """Draw questions of a set, in file order: those with answers, or all where none has any.

    Raises:
        DataError: The set is missing or damaged.
    """
    questions = read_questions(data / name)
    questions = [question for question in questions if question.answers] or questions
    if limit is None or len(questions) <= limit:
        return questions
    drawn = np.random.default_rng(seed).choice(len(questions), limit, replace=False)
    return [questions[i] for i in sorted(drawn.tolist())]


def _fit(collection: Collection, questions: Sequence[Question]) -> dict[str, Any]:
    examples = collection.search(FITTED_ON, questions)
    fits = {mode: fit_weights(examples, [mode]) for mode in FUSIONS}
    return {
        "questions": len(questions),
        **{mode: {"weights": fit.weights, "mrr": round(100 * fit.fused.mrr, 2)} for mode, fit in fits.items()},
    }


def _retrieval(collection: Collection, name: str, questions: Sequence[Question], seed: int) -> dict[str, Any]:
    """Measure answer recall of each search, of their fusions with default weights, and the paired differences."""
    found = collection.search(name, questions)
    rights = [right for _, _, right in found]

    def fused(mode: Fusion) -> list[list[str]]:
        return [list(fuse([keyword, dense], mode)) for keyword, dense, _ in found]

    rankings = {
        "keyword": [[id_ for id_, _ in keyword] for keyword, _, _ in found],
        "dense": [[id_ for id_, _ in dense] for _, dense, _ in found],
        "hybrid": fused("z_score"),
        "min_max": fused("min_max"),
        "reciprocal_rank_fusion": fused("reciprocal_rank_fusion"),
    }
    hits = {}
    for system, ranked in rankings.items():
        first = np.array([first_rank(ids, right) for ids, right in zip(ranked, rights, strict=True)])
        hits[system] = {f"recall_at_{k}": (first <= k) * 1.0 for k in CUTOFFS}
    return {
        "passages": len(collection.passages),
        "questions": len(questions),
        **{system: {k: _interval(v, seed) for k, v in values.items()} for system, values in hits.items()},
        "gain_over": {
            other: {k: _interval(v - hits[other][k], seed) for k, v in hits["hybrid"].items()}
            for other in ("keyword", "dense", "min_max", "reciprocal_rank_fusion")
        },
    }


def _answers(collection: Collection, questions: Sequence[Question], seed: int) -> dict[str, Any]:
    """Answer questions from ten passages by each way of retrieval, in turn; the first ten questions are not timed."""
    systems = {way: ROMExtractiveQA(collection.store, retrieval=way, no_answer=False) for way in _WAYS}
    values: dict[str, dict[str, list[float]]] = {
        way: {"em": [], "f1": [], "retrieving": [], "all": []} for way in _WAYS
    }
    for question in tqdm(questions, desc="answering"):
        for way, qa in systems.items():
            _, seconds = timed(partial(qa.pipeline.get_component("retriever").run, query=question.text))
            result, total = timed(partial(qa.run, query=question.text, top_k=1))
            best = result["answers"][0].data if result["answers"] else ""
            values[way]["em"].append(exact_match(best, question.answers))
            values[way]["f1"].append(f1(best, question.answers))
            values[way]["retrieving"].append(seconds)
            values[way]["all"].append(total)
    return {
        "questions": len(questions),
        **{
            way: {
                "em": _interval(np.array(found["em"]), seed),
                "f1": _interval(np.array(found["f1"]), seed),
                "retrieving": latency_figures(found["retrieving"][_UNTIMED:] or found["retrieving"]),
                "all": latency_figures(found["all"][_UNTIMED:] or found["all"]),
            }
            for way, found in values.items()
        },
    }


def _interval(values: NDArray[np.floating[Any]], seed: int) -> dict[str, float]:
    return asdict(figure(values.astype(np.float64), seed))


if __name__ == "__main__":
    app()
