"""1.x's FAISS document store on `SQLiteFAISSDocumentStore`."""

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, unquote

import haystack
from haystack.document_stores.errors import DocumentStoreError

from rom_haystack.compat.arguments import Unused, warn_of_unused, warn_once
from rom_haystack.compat.replacing import replacing
from rom_haystack.compat.stores import DocumentStore
from rom_haystack.document_stores import SQLiteFAISSDocumentStore
from rom_haystack.document_stores.filters import Condition, to_sql
from rom_haystack.document_stores.migration import copy_documents
from rom_haystack.document_stores.settings import DATABASE, prepare_folder, strangers
from rom_haystack.document_stores.synchronous import release

_SQLITE = "sqlite://"
#: Where 1.x's database lay by default.
_DEFAULT_FILE = "faiss_document_store.db"
_DEFAULT_URL = f"{_SQLITE}/{_DEFAULT_FILE}"
_UNREADABLE = "Its documents can't be read from it: write them anew, and call update_embeddings."
#: URLs of databases that vanish with their store.
_PASSING = (_DEFAULT_URL, _SQLITE, f"{_SQLITE}/", f"{_SQLITE}/:memory:")
_DATABASE_SUFFIXES = (".db", ".sqlite", ".sqlite3")
#: Components per embedding of an index whose first documents come without: the bundled checkpoint's.
_LIKELY_DIM = 384
_UNUSED = {
    "faiss_index": Unused(None, "Write documents that have embeddings, or call update_embeddings."),
    "embedding_field": Unused("embedding", "Embeddings are in the documents' attribute `embedding`."),
    "isolation_level": Unused(None, "Every write is one transaction, every search sees one moment."),
    "ef_construction": Unused(80, "FAISS's own value is used."),
    "validate_index_sync": Unused(default=True, instead="Documents and embeddings are written together."),
}
#: Parameters that `save` keeps.
_SAVED = (
    "sql_url",
    "embedding_dim",
    "faiss_index_factory_str",
    "return_embedding",
    "index",
    "similarity",
    "progress_bar",
    "duplicate_documents",
    "n_links",
    "ef_search",
)


class FAISSDocumentStore(DocumentStore):
    """1.x's `FAISSDocumentStore`, over a `SQLiteFAISSDocumentStore` per index.

    Where documents lie: `sql_url="sqlite:///path/to/name.db"` means the folder `path/to/name`, which holds documents
    and embeddings, on the disk with every write. The default, as the in-memory URLs `sqlite://` and
    `sqlite:///:memory:`, means a temporary folder that goes with the store, so that nothing is left behind in the
    working folder; `save` keeps what is in it, as in 1.x only `save` kept embeddings.

    ```python
    from rom_haystack.compat import DensePassageRetriever, FAISSDocumentStore

    document_store = FAISSDocumentStore(faiss_index_factory_str="Flat")
    document_store.write_documents([{"content": "The Nile flows north.", "meta": {"name": "The Nile"}}])
    document_store.update_embeddings(DensePassageRetriever(document_store))
    document_store.save("my-index.faiss")
    document_store = FAISSDocumentStore.load("my-index.faiss")
    ```

    Args:
        sql_url: Where the documents lie, see above.
        vector_dim: The older name of `embedding_dim`.
        embedding_dim: Components per embedding. None, where 1.x had 768, for those of the first embeddings.
        faiss_index_factory_str: What FAISS's factory makes, such as `Flat` or `IVF4096,Flat`, trained when there are
            enough embeddings; `HNSW` for HNSW with `n_links` links; or `auto`, which grows with the collection.
        faiss_index: Without effect; so are `embedding_field`, `isolation_level`, `ef_construction` and
            `validate_index_sync`.
        return_embedding: Give documents their embeddings where a call does not say.
        index: The index that is meant where a call names none.
        similarity: `dot_product` or `cosine`.
        embedding_field: Without effect.
        progress_bar: Show one while embeddings are updated.
        duplicate_documents: What to do with ids that are there already: `skip`, `overwrite` or `fail`.
        faiss_index_path: What `save` was given; everything else is as it was then.
        faiss_config_path: What `save` was given.
        isolation_level: Without effect.
        n_links: Links per embedding, for `HNSW`.
        ef_search: How hard to search, for `HNSW`.
        ef_construction: Without effect.
        validate_index_sync: Without effect.

    Raises:
        ValueError: A value is out of range, what `save` wrote is not there, or `sql_url` names a file of Haystack 1.x.
    """

    _folder: Path | None

    def __init__(
        self,
        sql_url: str = _DEFAULT_URL,
        vector_dim: int | None = None,
        embedding_dim: int | None = None,
        faiss_index_factory_str: str = "Flat",
        faiss_index: Any = None,
        return_embedding: bool = False,
        index: str = "document",
        similarity: str = "dot_product",
        embedding_field: str = "embedding",
        progress_bar: bool = True,
        duplicate_documents: str = "overwrite",
        faiss_index_path: str | Path | None = None,
        faiss_config_path: str | Path | None = None,
        isolation_level: str | None = None,
        n_links: int = 64,
        ef_search: int = 20,
        ef_construction: int = 80,
        validate_index_sync: bool = True,
    ) -> None:
        if faiss_index_path is not None:
            FAISSDocumentStore.__init__(self, **_saved_parameters(Path(faiss_index_path), faiss_config_path))
            self._folder = Path(faiss_index_path).expanduser().absolute()
            return
        warn_of_unused(type(self).__name__, _UNUSED, locals())
        super().__init__(
            index=index,
            embedding_dim=embedding_dim if vector_dim is None else vector_dim,
            similarity=similarity,
            return_embedding=return_embedding,
            duplicate_documents=duplicate_documents,
            progress_bar=progress_bar,
        )
        self.sql_url = sql_url
        self.faiss_index_factory_str = faiss_index_factory_str
        self.n_links = n_links
        self.ef_search = ef_search
        self._folder = folder_of(sql_url)
        self._backends: dict[str, SQLiteFAISSDocumentStore] = {}
        self._make(Path("unused"), self.embedding_dim or _LIKELY_DIM)  # bad values fail here; no file is touched

    def save(self, index_path: str | Path, config_path: str | Path | None = None) -> None:
        """Copy the whole store, every index of it, to a folder, and its parameters to a JSON file.

        Args:
            index_path: The folder, such as `my-index.faiss`. What was saved there before is replaced.
            config_path: The file; None for `index_path` with the ending `.json`.

        Raises:
            DocumentStoreError: The folder holds something else, or its store is open in this process.
            ValueError: The file is another one than of parameters.
        """
        target = Path(index_path).expanduser().resolve()
        config = _config_path(target, config_path)
        if config.exists():
            _read_parameters(config)
        if self._folder is None or target != self._folder.resolve():
            self._copy_to(target)
        parameters = {name: getattr(self, name) for name in _SAVED}
        config.write_text(json.dumps(parameters, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, index_path: str | Path, config_path: str | Path | None = None) -> Self:
        """Open what `save` wrote. Further writes go there.

        Args:
            index_path: What `save` was given.
            config_path: What `save` was given.

        Raises:
            ValueError: It is not there, or is a file of Haystack 1.x.
        """
        return cls(faiss_index_path=index_path, faiss_config_path=config_path)

    def train_index(self, documents: Any = None, embeddings: Any = None, index: str | None = None) -> None:
        """Do nothing but warn: an index is trained by itself when there are enough embeddings."""
        del documents, embeddings, index
        warn_once(
            type(self).__name__, "train_index", "train_index()", "An index is trained by itself; leave the call out."
        )

    def delete_index(self, index: str) -> None:
        """Delete an index with all that is in it."""
        backend = self._backend(index)
        if backend is None:
            return
        self._close(index)
        shutil.rmtree(backend.path)

    def close(self) -> None:
        """Close the files; later use opens them again."""
        for backend in self._backends.values():
            backend.close()

    # Where an index lies: a folder named after it and after its embeddings' length, such as "document.384"

    def _place(self) -> Path:
        """Return the store's folder, which need not be there yet."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="rom-haystack-faiss-"))
            weakref.finalize(self, _remove, self._folder, os.getpid())
        return self._folder

    def _backend(self, index: str) -> SQLiteFAISSDocumentStore | None:
        if index not in self._backends:
            found = [] if self._folder is None else _folders(self._folder).get(index, [])
            if not found:
                return None
            self._backends[index] = self._make(*max(found, key=lambda pair: pair[0].stat().st_mtime_ns))
        return self._backends[index]

    def _backend_for(self, index: str, dim: int | None, *, renew: bool = False) -> SQLiteFAISSDocumentStore:
        if dim is not None and self.embedding_dim is not None and dim != self.embedding_dim:
            raise ValueError(
                f"The embeddings have {dim} components, the store was made with embedding_dim={self.embedding_dim}. "
                "Leave embedding_dim out, or give the retriever's."
            )
        backend = self._backend(index)
        if backend is None:
            dim = dim or self.embedding_dim or _LIKELY_DIM
            backend = self._backends[index] = self._make(self._place() / _folder_name(index, dim), dim)
        elif dim not in (None, backend.embedding_dim):
            embedded = self._count(index, None, embedded=True)
            if embedded and not renew:
                raise ValueError(
                    f"The embeddings have {dim} components, {embedded} documents of the index {index!r} have some of "
                    f"{backend.embedding_dim}. Embed all of them anew: update_embeddings(retriever) without filters."
                )
            backend = self._move(index, backend, dim)
        return backend

    def _move(self, index: str, old: SQLiteFAISSDocumentStore, dim: int) -> SQLiteFAISSDocumentStore:
        """Move an index's documents, without embeddings, into a store for embeddings of another length."""
        place = self._place() / _folder_name(index, dim)
        prepare_folder(place, read_only=False)  # refuses a folder with files of someone else
        with replacing(place) as half:
            with self._make(half, dim) as new:
                for batch in old.iter_documents(return_embedding=False):
                    new.write_documents(batch)
            self._close(index)
        shutil.rmtree(old.path)
        backend = self._backends[index] = self._make(place, dim)
        return backend

    def _make(self, path: Path, dim: int) -> SQLiteFAISSDocumentStore:
        hnsw = self.faiss_index_factory_str == "HNSW"
        return SQLiteFAISSDocumentStore(
            path,
            embedding_dim=dim,
            index=f"HNSW{self.n_links}" if hnsw else self.faiss_index_factory_str,
            similarity="cosine" if self.similarity == "cosine" else "dot_product",
            vector_dtype="float32",
            search_parameters={"efSearch": self.ef_search} if hnsw else None,
        )

    def _close(self, index: str) -> None:
        self._backends.pop(index).close()

    def _copy_to(self, target: Path) -> None:
        _check_replaceable(target)
        with replacing(target) as half:
            for index in _folders(self._place()):
                source = self._backend(index)
                if source is not None:
                    with self._make(half / _folder_name(index, source.embedding_dim), source.embedding_dim) as copy:
                        copy_documents(source, copy)

    # What the base class asks for

    def _read(
        self, index: str, filters: dict[str, Any] | None, *, embedding: bool, only_without: bool, batch_size: int
    ) -> Iterator[list[haystack.Document]]:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
        backend = self._backend(index)
        if backend is None:
            return iter(())
        condition = _condition(filters, embedded=False if only_without else None)
        return backend.collection.iterate(condition, return_embedding=embedding, batch_size=batch_size)

    def _count(self, index: str, filters: dict[str, Any] | None, *, embedded: bool | None) -> int:
        backend = self._backend(index)
        return 0 if backend is None else backend.collection.count(_condition(filters, embedded=embedded))


def folder_of(sql_url: str) -> Path | None:
    """Find the folder that 1.x's database URL means; None for one that goes with the store.

    Raises:
        ValueError: It is the URL of another kind of database, or of a file that Haystack 1.x wrote.
    """
    url = sql_url.partition("?")[0]
    if url in _PASSING:
        if url == _DEFAULT_URL and Path(_DEFAULT_FILE).is_file():
            warn_once("FAISSDocumentStore", "sql_url", f"The database {_DEFAULT_FILE}", _UNREADABLE)
        return None
    if not url.startswith(f"{_SQLITE}/"):
        raise ValueError(
            f"sql_url is {sql_url!r}; this store keeps its documents in files: give 'sqlite:///path/to/name.db', which "
            "means the folder path/to/name. For a database server take that database's store for Haystack 3."
        )
    path = Path(url.removeprefix(f"{_SQLITE}/")).expanduser()
    if path.is_file():
        raise ValueError(
            f"sql_url is {sql_url!r}, and {path} is a file, such as Haystack 1.x's database. {_UNREADABLE} For that, "
            "name another path, or move the file away."
        )
    return (path.with_suffix("") if path.suffix in _DATABASE_SUFFIXES else path).absolute()


def _folder_name(index: str, dim: int) -> str:
    return f"{quote(index, safe=' ')}.{dim}"


def _folders(store: Path) -> dict[str, list[tuple[Path, int]]]:
    """Find the folders of a store, with the embeddings' lengths, by index."""
    found: dict[str, list[tuple[Path, int]]] = {}
    for path in sorted(store.glob("*.*")):
        name, _, dim = path.name.rpartition(".")
        if dim.isdecimal() and (path / DATABASE).is_file():
            found.setdefault(unquote(name), []).append((path, int(dim)))
    return found


def _condition(filters: dict[str, Any] | None, *, embedded: bool | None) -> Condition:
    condition = to_sql(filters)
    if embedded is None:
        return condition
    state = "NOT NULL" if embedded else "NULL"
    return Condition(f"({condition.sql}) AND norm IS {state}", condition.parameters)


def _check_replaceable(target: Path) -> None:
    """Check that a folder may be replaced: that it holds nothing but a store, which nobody has open."""
    if not target.exists():
        return
    ours = {path for folders in _folders(target).values() for path, _ in folders} if target.is_dir() else set()
    if not target.is_dir() or set(target.iterdir()) - ours or any(map(strangers, ours)):
        raise DocumentStoreError(f"{target} is there already, and is no saved store. Choose another path.")
    for path in ours:
        release(path)


def _config_path(index_path: Path, config_path: str | Path | None) -> Path:
    return index_path.with_suffix(".json") if config_path is None else Path(config_path).expanduser()


def _saved_parameters(index_path: Path, config_path: str | Path | None) -> dict[str, Any]:
    folder = index_path.expanduser()
    if folder.is_file():
        raise ValueError(f"{index_path} is a file, such as Haystack 1.x saved. {_UNREADABLE} Then save that store.")
    parameters = _read_parameters(_config_path(folder, config_path))
    if not folder.is_dir():
        raise ValueError(f"There is no saved store in {index_path}. Give the path that save was given.")
    return parameters


def _read_parameters(config: Path) -> dict[str, Any]:
    """Read a file of parameters, as this store or Haystack 1.x wrote it.

    Raises:
        ValueError: It can't be read, or is another file.
    """
    try:
        parameters = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"The parameters of the saved store can't be read from {config}: {error}.") from error
    if not isinstance(parameters, dict) or not parameters.keys() & set(_SAVED):
        raise ValueError(f"{config} is there and holds no parameters of a saved store. Name another file.")
    return {name: parameters[name] for name in _SAVED if name in parameters}


def _remove(folder: Path, process: int) -> None:
    """Remove a temporary store, unless this is a process forked from the one that made it."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
