"""Make what the systems need before anything is measured: passages, questions, models, document stores."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from haystack import Document
from numpy.typing import NDArray

from benchmarks.answering.document_stores import write_store
from benchmarks.answering.systems import Family, Place, StoreKind, System
from benchmarks.embeddings import digest_of, embed, embed_by_sentence_transformers
from benchmarks.passages import QUALITY_COLLECTION, passages_of, shuffled_questions
from rom_haystack.modeling import resolve_checkpoint
from training.data.dataset import Passage, Question

Report = Callable[[str], None]


@dataclass(frozen=True)
class Sources:
    """What a run is made of.

    Args:
        data: Folder of the data sets.
        base: Folder of the plain encoder that ROM was trained from, as sentence-transformers reads it.
        model: Bundled name or folder of the ROM checkpoint.
        cache: Folder of the passages' embeddings.
        work: Folder for models and stores, which are found again there.
        dpr_sizes: Values of `BertConfig` other than BERT-base's, for DPR's shape.
    """

    data: Path
    base: Path
    model: str
    cache: Path
    work: Path
    dpr_sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Texts:
    """Passages and the questions to them.

    Args:
        passages: The collection, by id, in the order of the data.
        questions: Questions that have an answer in it, in an order drawn by chance.
    """

    passages: dict[str, Passage]
    questions: list[Question]


def load_texts(data: Path, limit: int | None, seed: int) -> Texts:
    """Read the passages of SQuAD and the questions of its development set.

    Args:
        data: Folder of the data sets.
        limit: Passages to keep, the first of each; None for all. Questions go with their passage.
        seed: Seed of the questions' order.

    Raises:
        DataError: A data set is missing or damaged.
        ValueError: The limit leaves no question.
    """
    by_set = passages_of(data, QUALITY_COLLECTION)
    # The development set's passages come first, so that a limit leaves questions.
    passages = {passage.id: passage for name in reversed(QUALITY_COLLECTION) for passage in by_set[name]}
    kept = dict(list(passages.items())[:limit])
    questions = [question for question in shuffled_questions(data, seed) if question.passage_id in kept]
    if not questions:
        raise ValueError(f"Among {len(kept)} passages there is none that a question is about; take more passages.")
    return Texts(kept, questions)


class Preparation:
    """Make models and stores in the work folder, each once, and say where they are.

    Args:
        sources: What they are made of.
        passages: What the stores hold.
        seed: Seed of random weights and vectors.
        report: Takes a line about what is being done.
    """

    def __init__(self, sources: Sources, passages: Sequence[Passage], seed: int, report: Report) -> None:
        self._sources = sources
        self._passages = passages
        self._seed = seed
        self._report = report

    def place(self, system: System) -> Place:
        """Make what a system needs, where it is not there yet, and say where it is."""
        sources = self._sources
        vectors = self.vectors(system.family)
        store = self._store(system.store, system.family, vectors)
        dim = vectors.shape[1]
        if system.family == "rom":
            return Place(str(store), dim, sources.model, sources.model, sources.model)
        if system.family == "stock":
            reader = self._once(f"reader-{digest_of(resolve_checkpoint(sources.model))}", self._write_reader)
            return Place(str(store), dim, str(sources.base), str(reader), str(sources.base))
        sizes = "-".join(f"{name}={value}" for name, value in sources.dpr_sizes.items())
        encoders = self._once(f"dpr-{self._seed}-{digest_of(sources.base)}{sizes}", self._write_dpr)
        return Place(str(store), dim, str(encoders / "query"), str(encoders / "reader"), str(encoders / "passage"))

    def vectors(self, family: Family) -> NDArray[np.float32]:
        """Return the passages' embeddings of a family of systems, `[passages, dim]`; DPR's are random."""
        texts = [passage.text for passage in self._passages]
        if family == "rom":
            return embed("squad", texts, "passages", self._sources.cache, self._sources.model)
        if family == "stock":
            return embed_by_sentence_transformers("squad-base", texts, self._sources.cache, self._sources.base)
        dim = self._sources.dpr_sizes.get("hidden_size", 768)
        vectors = np.random.default_rng(self._seed).standard_normal((len(texts), dim), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def _store(self, kind: StoreKind, family: Family, vectors: NDArray[np.float32]) -> Path:
        def write(folder: Path) -> None:
            documents = [
                Document(id=passage.id, content=passage.text, embedding=vector.tolist())
                for passage, vector in zip(self._passages, vectors, strict=True)
            ]
            write_store(kind, folder, documents, vectors.shape[1])

        digest = hashlib.sha256(vectors.tobytes())
        for passage in self._passages:
            digest.update(passage.id.encode())
        return self._once(f"{family}-{kind}-{digest.hexdigest()[:12]}", write)

    def _write_reader(self, folder: Path) -> None:
        from benchmarks.answering.peers import write_stock_reader  # noqa: PLC0415 (torch takes seconds to import)

        write_stock_reader(self._sources.model, folder)

    def _write_dpr(self, folder: Path) -> None:
        from benchmarks.answering.peers import write_dpr_encoders  # noqa: PLC0415

        write_dpr_encoders(self._sources.base, folder, seed=self._seed, **self._sources.dpr_sizes)

    def _once(self, name: str, write: Callable[[Path], None]) -> Path:
        """Have a folder written, unless an earlier call has; a half-written one is not taken for whole."""
        folder = self._sources.work / name
        if not folder.exists():
            self._report(f"preparing {name}")
            partial = folder.with_name(f"{name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            write(partial)
            partial.rename(folder)
        return folder
