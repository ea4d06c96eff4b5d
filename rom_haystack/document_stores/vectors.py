"""The vectors of a store: one flat file, a row per slot."""

import mmap
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from haystack.document_stores.errors import DocumentStoreError
from numpy.typing import NDArray

from rom_haystack.document_stores.database import DamagedStoreError
from rom_haystack.durable import sync_folder

_MAGIC = b"ROMVECT1"
_HEADER = struct.Struct("<8sIIQ16s24x")  # magic, dimension, bytes per component, generation, the store's identity
# Rows that are read together.
_CHUNK = 16_384
#: The length that an embedding may have, where unit vectors are stored.
LONGEST = float(np.finfo(np.float32).max)


class VectorFile:
    """Vectors on disk, memory-mapped for reading.

    Rows are only ever appended; a row that a document has is never written again.

    Args:
        path: The file.
        dim: Components per vector.
        dtype: `float16` or `float32`.
        generation: Number that the file's header must have.
        identity: The store's, 32 hexadecimal digits, which the header must have too.
        create: Make the file, empty, in place of any that is there.
        read_only: Refuse to write.

    Raises:
        DocumentStoreError: The file is missing, is something else's, or its header has other values.
    """

    def __init__(
        self,
        path: Path,
        dim: int,
        dtype: str,
        generation: int,
        identity: str,
        *,
        create: bool = False,
        read_only: bool = False,
    ) -> None:
        self.path = path
        self.dim = dim
        self.dtype = np.dtype(dtype)
        self.row_bytes = dim * self.dtype.itemsize
        header = _HEADER.pack(_MAGIC, dim, self.dtype.itemsize, generation, bytes.fromhex(identity))
        try:
            self._file = path.open("w+b" if create else "rb" if read_only else "r+b", buffering=0)
        except FileNotFoundError:
            raise DamagedStoreError(path, "it is missing") from None
        if create:
            self._file.write(header)
            sync_folder(path.parent)
        elif self._file.read(_HEADER.size) != header:
            self.close()
            raise DamagedStoreError(
                path, f"its header is not that of {dim}-dimensional {self.dtype} vectors of this store"
            )
        self._map: NDArray[np.generic] = np.empty((0, dim), self.dtype)
        self._mapping = threading.Lock()

    @staticmethod
    def identity_of(path: Path) -> str:
        """Read the identity of the store that a file belongs to from its header.

        Raises:
            DocumentStoreError: It has no header.
        """
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
        if len(header) < _HEADER.size or not header.startswith(_MAGIC):
            raise DamagedStoreError(path, "it has no header")
        identity: bytes = _HEADER.unpack(header)[4]
        return identity.hex()

    @staticmethod
    def is_whole(path: Path) -> bool:
        """Tell whether there is a file with its header; a process may have died before it was written."""
        return path.exists() and path.stat().st_size >= _HEADER.size

    def check_size(self, slots: int) -> None:
        """Check that the file has rows for this many slots.

        Raises:
            DocumentStoreError: It was cut off.
        """
        expected = _HEADER.size + slots * self.row_bytes
        size = os.fstat(self._file.fileno()).st_size
        if size < expected:
            raise DamagedStoreError(self.path, f"it has {size:,} bytes where {expected:,} are needed")

    def slots(self) -> int:
        """Count the rows the file has room for."""
        return max(0, os.fstat(self._file.fileno()).st_size - _HEADER.size) // self.row_bytes

    def write(self, first_slot: int, rows: NDArray[np.generic]) -> None:
        """Write rows of consecutive slots, and wait until they are on the disk."""
        data = np.ascontiguousarray(rows, self.dtype).data.cast("B")
        self._file.seek(_HEADER.size + first_slot * self.row_bytes)
        while data:
            data = data[self._file.write(data) :]
        os.fsync(self._file.fileno())

    def reserve(self, slots: int) -> None:
        """Let the file have room for this many slots; rows that were never written take no space on the disk."""
        if self.slots() < slots:
            self._file.truncate(_HEADER.size + slots * self.row_bytes)
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; what was mapped stays readable as long as something refers to it."""
        self._file.close()

    def gather(self, slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read the vectors of some slots.

        Returns:
            Vectors, shape `[len(slots), dim]`.
        """
        return self.raw(slots).astype(np.float32)

    def raw(self, slots: NDArray[np.int64]) -> NDArray[np.generic]:
        """Read the vectors of some slots as they are stored, shape `[len(slots), dim]`."""
        return self._mapped(int(slots.max(initial=-1)) + 1)[slots]

    def best(
        self, slots: NDArray[np.int64], query: NDArray[np.float32], top_k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find those of some slots whose vectors have the largest inner product with a query.

        FAISS scans vectors as they are stored several times faster than NumPy turns them into float32.

        Returns:
            Slots and scores, best first, equals by slot; shape `[min(top_k, len(slots))]`.
        """
        found = [self._best(part, query, top_k) for part in chunks(slots, _CHUNK)]
        best_slots = np.concatenate([part for part, _ in found] or [np.empty(0, np.int64)])
        scores = np.concatenate([part for _, part in found] or [np.empty(0, np.float32)])
        order = np.lexsort((best_slots, -scores))[:top_k]
        return best_slots[order], scores[order]

    def _best(
        self, slots: NDArray[np.int64], query: NDArray[np.float32], top_k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if self.dtype == np.float16:
            scan = faiss.IndexScalarQuantizer(self.dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        else:
            scan = faiss.IndexFlatIP(self.dim)
        scan.add_sa_codes(self.raw(slots).view(np.uint8))
        with one_thread():
            scores, positions = scan.search(query[None], min(top_k, len(slots)))
        return slots[positions[0]], scores[0]

    def _mapped(self, slots: int) -> NDArray[np.generic]:
        if len(self._map) < slots:
            with self._mapping:
                rows = self.slots()
                if rows < slots:
                    raise DamagedStoreError(self.path, f"it has {rows:,} vectors where {slots:,} are needed")
                # By its descriptor: another process that numbered slots anew may have removed the file meanwhile.
                size = _HEADER.size + rows * self.row_bytes
                mapped = mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_READ)
                self._map = np.frombuffer(mapped, self.dtype, offset=_HEADER.size).reshape(rows, self.dim)
        return self._map


@contextmanager
def one_thread() -> Iterator[None]:
    """Let FAISS use the calling thread alone: a search is too short for waking others, and slow if they are busy."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def chunks(slots: NDArray[np.int64], size: int = _CHUNK) -> Iterator[NDArray[np.int64]]:
    """Cut a list of slots into parts."""
    return (slots[start : start + size] for start in range(0, len(slots), size))


def as_matrix(embeddings: list[list[float]], dim: int, ids: list[str]) -> NDArray[np.float32]:
    """Turn embeddings into a matrix.

    Args:
        embeddings: Lists of numbers.
        dim: Numbers that each must have.
        ids: Names of the embeddings, for errors.

    Raises:
        DocumentStoreError: An embedding has another length, or holds something that is no finite number.
    """
    for name, embedding in zip(ids, embeddings, strict=True):
        if not _is_list(embedding):
            raise DocumentStoreError(f"The embedding of {name} is {embedding!r}; it must be a list of {dim} numbers.")
        if len(embedding) != dim:
            raise DocumentStoreError(
                f"The embedding of {name} has {len(embedding)} dimensions; this store has embedding_dim={dim}. Embed "
                "with the model that the store was made for, or make another store."
            )
    try:
        numbers = np.array(embeddings)
        if numbers.dtype.kind not in "fiubO":  # texts that look like numbers, too
            given: Any = embeddings
            strays = (value for embedding in given for value in embedding if not isinstance(value, Real))
            raise TypeError(f"{next(strays, None)!r}")
        with np.errstate(over="ignore"):
            matrix = numbers.astype(np.float32).reshape(len(embeddings), dim)
    except (TypeError, ValueError, OverflowError) as error:
        raise DocumentStoreError(
            f"An embedding among {', '.join(ids[:3])}, … holds something that is no number ({error})."
        ) from error
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        name = ids[int(np.argmin(finite))]
        raise DocumentStoreError(f"The embedding of {name} holds NaN or infinity (or more than float32 can hold).")
    return matrix


def _is_list(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str | bytes)


def storable(
    matrix: NDArray[np.float32], ids: list[str], dtype: str, *, unit: bool
) -> tuple[NDArray[np.generic], list[float]]:
    """Bring vectors into the form in which they are stored.

    Args:
        matrix: Vectors, shape `[n, dim]`.
        ids: Their names, for errors.
        dtype: `float16` or `float32`.
        unit: Store them at length 1, so that inner products are cosines.

    Returns:
        The rows to store, and for each what it must be multiplied by to give the vector back.

    Raises:
        DocumentStoreError: A component is too large for `dtype`, or a vector too long for float32.
    """
    if unit:
        norms = np.linalg.norm(matrix.astype(np.float64), axis=1)
        if (norms > LONGEST).any():
            worst = int(np.argmax(norms))
            raise DocumentStoreError(
                f"The embedding of {ids[worst]} has a length of {norms[worst]:g}, more than float32 can hold "
                f"({LONGEST:g}). Scale it down."
            )
        matrix = (matrix / np.where(norms == 0, 1, norms)[:, None]).astype(np.float32)
    else:
        norms = np.ones(len(matrix))
    limit = np.finfo(dtype).max
    largest = np.abs(matrix).max(axis=1, initial=0)
    if (largest > limit).any():
        worst = int(np.argmax(largest))
        raise DocumentStoreError(
            f"The embedding of {ids[worst]} has a component of {largest[worst]:g}, and {dtype} ends at {limit:g}. "
            "Make the store with vector_dtype='float32'."
        )
    return matrix.astype(dtype), norms.tolist()
