"""Move documents between stores: any Haystack store, and the files of Haystack's `FAISSDocumentStore`."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

import faiss
import numpy as np
from haystack import Document, logging
from haystack.document_stores.errors import DocumentStoreError
from haystack.document_stores.types import DocumentStore, DuplicatePolicy
from numpy.typing import NDArray

from rom_haystack.document_stores.sqlite_faiss import SQLiteFAISSDocumentStore

logger = logging.getLogger(__name__)

#: Characters to read at a time.
_CHUNK = 1 << 20
#: How `FAISSDocumentStore` begins its JSON file.
_OPENING = re.compile(r'\s*\{\s*"documents"\s*:\s*\[')
#: What stands before a document, or the end of their list.
_BEFORE = re.compile(r"[\s,]*(\])?")
#: Some of the fields that every document in that file has.
_FIELDS = {"id", "content", "embedding"}
#: Embeddings whose lengths differ by a smaller share than this rank alike by L2 distance and by dot product.
_SAME_LENGTH = 0.01


def copy_documents(
    source: DocumentStore,
    target: DocumentStore,
    batch_size: int = 1000,
    policy: DuplicatePolicy = DuplicatePolicy.FAIL,
) -> int:
    """Copy every document, with its embedding, from one store to another.

    A `SQLiteFAISSDocumentStore` is read batch by batch; any other source hands out all its documents at once. Batches
    written before an error stay: go on with `DuplicatePolicy.SKIP`.

    ```python
    from haystack.document_stores.in_memory import InMemoryDocumentStore
    from rom_haystack import SQLiteFAISSDocumentStore
    from rom_haystack.document_stores.migration import copy_documents

    source = InMemoryDocumentStore()
    copied = copy_documents(source, SQLiteFAISSDocumentStore("my-store", embedding_dim=384))
    ```

    Args:
        source: Where the documents are.
        target: Where they go. It must be of the embeddings' dimension.
        batch_size: Documents per write.
        policy: What to do with a document whose id the target has already.

    Returns:
        How many documents were written.

    Raises:
        ValueError: The source is set to return documents without embeddings, it is the target itself, or the batch
            size is less than 1.
        DuplicateDocumentError: The target has such a document, and the policy is `FAIL`.
    """
    _check_batch_size(batch_size)
    if _same_store(source, target):
        raise ValueError("Source and target are the same store; copy into a store of another path.")
    if isinstance(source, SQLiteFAISSDocumentStore):
        return _write(target, source.iter_documents(batch_size=batch_size), policy)
    if getattr(source, "return_embedding", None) is False:
        raise ValueError(
            f"This {type(source).__name__} returns documents without their embeddings, which would be lost in the "
            "copy: open it with return_embedding=True."
        )
    return _write(target, _batches(source.filter_documents(), batch_size), policy)


def import_faiss_store(
    index_path: str | Path,
    target: DocumentStore,
    batch_size: int = 1000,
    policy: DuplicatePolicy = DuplicatePolicy.FAIL,
) -> int:
    """Read the documents that Haystack's `FAISSDocumentStore` saved into another store, without that package.

    Its JSON file keeps the documents with their embeddings in full, so the `.faiss` file beside it is not needed. The
    file is read piece by piece, however large it is. Batches written before an error stay: go on with
    `DuplicatePolicy.SKIP`.

    Args:
        index_path: The path that `FAISSDocumentStore.save` was given.
        target: Where the documents go. It must be of the embeddings' dimension.
        batch_size: Documents per write.
        policy: What to do with a document whose id the target has already.

    Returns:
        How many documents were written.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The batch size is less than 1.
        DocumentStoreError: The file is damaged or of another kind.
        DuplicateDocumentError: The target has such a document, and the policy is `FAIL`.
    """
    _check_batch_size(batch_size)
    path = Path(index_path).with_suffix(".json")
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file {path}. Give the path that FAISSDocumentStore.save was given; it puts .json and .faiss "
            "in place of the path's own suffix."
        )
    return _write(target, _batches(_saved_documents(path), batch_size), policy)


def export_faiss_store(store: SQLiteFAISSDocumentStore, index_path: str | Path) -> int:
    """Write the files of Haystack's `FAISSDocumentStore`, as its `save` does, so that it opens them.

    `FAISSDocumentStore(index_path, embedding_dim=…)` then holds the same documents. It ranks by L2 distance. For a
    store with cosine similarity unit vectors go into the index, so that the ranking stays the same; a ranking by dot
    product can only be kept where all embeddings have the same length, and a warning says if they have not.

    Documents are written one by one, but FAISS's index is made in memory: 4 · `embedding_dim` bytes per document.
    Embeddings have the precision in which the store keeps them.

    Args:
        store: The store to export.
        index_path: Where to: `.json` and `.faiss` take the place of its suffix. Missing folders are made.

    Returns:
        How many documents were written.

    Raises:
        FileExistsError: One of the two files is there already.
    """
    path = Path(index_path)
    for file in (path.with_suffix(".json"), path.with_suffix(".faiss")):
        if file.exists():
            raise FileExistsError(f"{file} exists. Move it away, or export to a path with another stem.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
        written = _Export(store, Path(folder, path.name)).run()
        # The index comes last: FAISSDocumentStore takes a path without one for that of a new store.
        for suffix in (".json", ".faiss"):
            Path(folder, path.name).with_suffix(suffix).replace(path.with_suffix(suffix))
    return written


class _Export:
    """One export: the index and the ids of its vectors grow while the documents are written."""

    def __init__(self, store: SQLiteFAISSDocumentStore, path: Path) -> None:
        self.store = store
        self.path = path
        self.index = faiss.IndexIDMap(faiss.IndexFlatL2(store.embedding_dim))
        self.ids: list[str] = []  # of the documents with an embedding; a vector's id in FAISS is its place here
        self.lengths = (np.inf, 0.0)  # of the shortest and the longest embedding

    def run(self) -> int:
        with self.path.with_suffix(".json").open("w", encoding="utf-8") as file:
            file.write('{"documents": [')
            written = self._write_documents(file)
            file.write('], "id_map": ')
            json.dump(dict(enumerate(self.ids)), file)
            file.write(', "inverse_id_map": ')
            json.dump({id_: number for number, id_ in enumerate(self.ids)}, file)
            file.write(f', "next_id": {len(self.ids)}}}')
        faiss.write_index(self.index, str(self.path.with_suffix(".faiss")))
        self._warn_of_lengths()
        return written

    def _write_documents(self, file: TextIO) -> int:
        written = 0
        for batch in self.store.iter_documents():
            for document in batch:
                file.write((", " if written else "") + _json(document))
                written += 1
            self._add([document for document in batch if document.embedding is not None])
        return written

    def _add(self, documents: list[Document]) -> None:
        if not documents:
            return
        vectors = np.array([document.embedding for document in documents], dtype=np.float32)
        lengths = np.linalg.norm(vectors, axis=1)
        self.lengths = (min(self.lengths[0], float(lengths.min())), max(self.lengths[1], float(lengths.max())))
        if self.store.similarity == "cosine":
            vectors = _unit(vectors, lengths)
        first = len(self.ids)
        self.ids += [document.id for document in documents]
        self.index.add_with_ids(vectors, np.arange(first, len(self.ids), dtype=np.int64))

    def _warn_of_lengths(self) -> None:
        shortest, longest = self.lengths
        if self.store.similarity == "dot_product" and longest - shortest > _SAME_LENGTH * longest:
            logger.warning(
                "Embeddings are {shortest} to {longest} long: FAISSDocumentStore, which knows only L2 distance, will "
                "rank them otherwise than by dot product.",
                shortest=shortest,
                longest=longest,
            )


def _json(document: Document) -> str:
    # Without the embedding, each number of which to_dict would copy: that takes longer than all the rest.
    return json.dumps({**replace(document, embedding=None).to_dict(), "embedding": document.embedding})


def _unit(vectors: NDArray[np.float32], lengths: NDArray[np.float32]) -> NDArray[np.float32]:
    tiny = np.finfo(np.float32).tiny  # for a vector of zeros
    return (vectors / np.maximum(lengths, tiny)[:, None]).astype(np.float32)


def _same_store(source: DocumentStore, target: DocumentStore) -> bool:
    if isinstance(source, SQLiteFAISSDocumentStore) and isinstance(target, SQLiteFAISSDocumentStore):
        return _folder(source) == _folder(target)
    return source is target


def _folder(store: SQLiteFAISSDocumentStore) -> Path:
    return Path(store.path).expanduser().resolve()


def _write(target: DocumentStore, batches: Iterable[list[Document]], policy: DuplicatePolicy) -> int:
    return sum(target.write_documents(batch, policy=policy) for batch in batches)


def _batches(documents: Iterable[Document], size: int) -> Iterator[list[Document]]:
    remaining = iter(documents)
    while batch := list(islice(remaining, size)):
        yield batch


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")


def _saved_documents(path: Path) -> Iterator[Document]:
    """Read documents one by one from the JSON file of a `FAISSDocumentStore`."""
    with path.open(encoding="utf-8") as file:
        number = 0
        try:
            for number, data in enumerate(_listed(file), 1):
                if not isinstance(data, dict) or not data.keys() >= _FIELDS:
                    raise DocumentStoreError(
                        f"{path} is no file of a FAISSDocumentStore: document {number} lacks fields."
                    )
                yield Document.from_dict(data)
        except (ValueError, TypeError, KeyError) as error:
            raise DocumentStoreError(
                f"{path} is damaged after document {number}, or no file of a FAISSDocumentStore ({error}). "
                "Save it again with FAISSDocumentStore.save, or restore it from a copy."
            ) from error


def _listed(file: TextIO) -> Iterator[Any]:
    """Decode the items of the list that the file begins with, holding no more than one of them and a chunk."""
    decoder = json.JSONDecoder()
    text = file.read(_CHUNK)
    opening = _OPENING.match(text)
    if opening is None:
        raise ValueError("it does not begin with a list of documents")
    position = opening.end()
    while True:
        before = _BEFORE.match(text, position)
        if before is None or before[1]:
            return
        try:
            item, position = decoder.raw_decode(text, before.end())
        except json.JSONDecodeError:
            # Cut off by the end of the chunk, as a rule. Reading as much again keeps a long item's cost linear.
            more = file.read(max(_CHUNK, len(text) - position))
            if not more:
                raise
            text, position = text[position:] + more, 0
        else:
            yield item
