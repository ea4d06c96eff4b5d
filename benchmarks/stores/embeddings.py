"""Embeddings of real texts by the bundled checkpoint, cached as they take minutes to make."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from haystack import Document
from numpy.typing import NDArray
from tqdm import tqdm

from rom_haystack.components.document_embedder import ROMDocumentEmbedder
from rom_haystack.components.text_embedder import ROMTextEmbedder
from rom_haystack.modeling import DEFAULT_CHECKPOINT, resolve_checkpoint

Kind = Literal["passages", "questions"]

_CHUNK = 2048


def embed(name: str, texts: Sequence[str], kind: Kind, cache: Path) -> NDArray[np.float32]:
    """Embed texts, or read their embeddings from the cache.

    Args:
        name: What the texts are, for the name of the cached file. The name also holds a digest of texts and weights,
            so that a file never stands for others.
        texts: Texts without titles.
        kind: Whether `ROMDocumentEmbedder` or `ROMTextEmbedder` embeds them, both with their defaults.
        cache: Folder of the cached files, made where it is missing.

    Returns:
        `[len(texts), dim]`; rounded to float16, as they are cached.
    """
    file = cache / f"{name.replace('/', '-')}-{_digest(texts)}.npy"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        vectors = _embed_passages(texts) if kind == "passages" else _embed_questions(texts)
        partial = file.with_suffix(".partial.npy")
        np.save(partial, vectors.astype(np.float16))
        partial.rename(file)
    return np.asarray(np.load(file), dtype=np.float32)


def _embed_passages(texts: Sequence[str]) -> NDArray[np.float32]:
    embedder = ROMDocumentEmbedder(progress_bar=False)
    by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    rows: list[NDArray[np.float32]] = []
    for start in tqdm(range(0, len(texts), _CHUNK), desc="Embedding passages", disable=None):
        chunk = [Document(id=str(row), content=texts[row]) for row in by_length[start : start + _CHUNK]]
        rows.append(np.array([document.embedding for document in embedder.run(chunk)["documents"]], dtype=np.float32))
    embedder.close()
    return np.concatenate(rows)[np.argsort(by_length)]


def _embed_questions(texts: Sequence[str]) -> NDArray[np.float32]:
    embedder = ROMTextEmbedder(progress_bar=False)
    vectors = [embedder.run(text)["embedding"] for text in tqdm(texts, desc="Embedding questions", disable=None)]
    embedder.close()
    return np.array(vectors, dtype=np.float32)


def _digest(texts: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for weights in sorted(resolve_checkpoint(DEFAULT_CHECKPOINT).glob("*.safetensors")):
        digest.update(weights.read_bytes())
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:12]
