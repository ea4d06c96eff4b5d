"""Embeddings of real texts, cached as they take minutes to make."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from haystack import Document
from numpy.typing import NDArray
from tqdm import tqdm

from rom_haystack.modeling import DEFAULT_CHECKPOINT, resolve_checkpoint

Kind = Literal["passages", "questions"]

_CHUNK = 2048


def embed(
    name: str, texts: Sequence[str], kind: Kind, cache: Path, model: str = DEFAULT_CHECKPOINT
) -> NDArray[np.float32]:
    """Embed texts by ROM in torch and float32, the reference, or read their embeddings from the cache.

    Args:
        name: What the texts are, for the name of the cached file. The name also holds a digest of texts and weights,
            so that a file never stands for others.
        texts: Texts without titles.
        kind: Whether `ROMDocumentEmbedder` or `ROMTextEmbedder` embeds them, both with their defaults.
        cache: Folder of the cached files, made where it is missing.
        model: Bundled name or folder of the checkpoint.

    Returns:
        `[len(texts), dim]`; rounded to float16, as they are cached.
    """
    embedding = {"passages": _embed_passages, "questions": _embed_questions}[kind]
    return _cached(name, texts, cache, resolve_checkpoint(model), lambda texts: embedding(texts, model))


def embed_by_sentence_transformers(name: str, texts: Sequence[str], cache: Path, model: Path) -> NDArray[np.float32]:
    """Embed passages by `SentenceTransformersDocumentEmbedder`; see `embed`."""
    return _cached(name, texts, cache, model, lambda texts: _embed_by_sentence_transformers(texts, model))


def _cached(
    name: str,
    texts: Sequence[str],
    cache: Path,
    weights: Path,
    make: Callable[[Sequence[str]], NDArray[np.float32]],
) -> NDArray[np.float32]:
    file = cache / f"{name.replace('/', '-')}-{digest_of(weights, texts)}.npy"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial.npy")
        np.save(partial, make(texts).astype(np.float16))
        partial.rename(file)
    return np.asarray(np.load(file), dtype=np.float32)


def _embed_passages(texts: Sequence[str], model: str) -> NDArray[np.float32]:
    from rom_haystack.components.document_embedder import ROMDocumentEmbedder  # noqa: PLC0415 (only to embed anew)

    embedder = ROMDocumentEmbedder(model=model, backend="torch", progress_bar=False)
    vectors = _by_length(texts, lambda documents: embedder.run(documents)["documents"])
    embedder.close()
    return vectors


def _embed_questions(texts: Sequence[str], model: str) -> NDArray[np.float32]:
    from rom_haystack.components.text_embedder import ROMTextEmbedder  # noqa: PLC0415 (only to embed anew)

    embedder = ROMTextEmbedder(model=model, backend="torch", progress_bar=False)
    vectors = [embedder.run(text)["embedding"] for text in tqdm(texts, desc="Embedding questions", disable=None)]
    embedder.close()
    return np.array(vectors, dtype=np.float32)


def _embed_by_sentence_transformers(texts: Sequence[str], model: Path) -> NDArray[np.float32]:
    from haystack_integrations.components.embedders.sentence_transformers import (  # noqa: PLC0415 (slow to import)
        SentenceTransformersDocumentEmbedder,
    )

    embedder = SentenceTransformersDocumentEmbedder(model=str(model), progress_bar=False, local_files_only=True)
    embedder.warm_up()
    return _by_length(texts, lambda documents: embedder.run(documents)["documents"])


def _by_length(texts: Sequence[str], embed: Callable[[list[Document]], list[Document]]) -> NDArray[np.float32]:
    """Embed texts in chunks of similar length, and put the embeddings into the texts' order."""
    by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    rows: list[NDArray[np.float32]] = []
    for start in tqdm(range(0, len(texts), _CHUNK), desc="Embedding passages", disable=None):
        chunk = [Document(id=str(row), content=texts[row]) for row in by_length[start : start + _CHUNK]]
        rows.append(np.array([document.embedding for document in embed(chunk)], dtype=np.float32))
    return np.concatenate(rows)[np.argsort(by_length)]


def digest_of(weights: Path, texts: Sequence[str] = ()) -> str:
    """Digest the weights in a folder, and texts, in 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for file in sorted(weights.glob("*.safetensors")):
        digest.update(file.read_bytes())
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:12]
