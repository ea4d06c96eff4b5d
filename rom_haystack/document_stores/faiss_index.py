"""FAISS indexes: which one to take, training, searching with parameters of the moment, files."""

import errno
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import faiss
import numpy as np
from numpy.typing import NDArray

from rom_haystack.document_stores.vectors import VectorFile, chunks, one_thread

#: Documents with an embedding from which on `auto` takes a trained, compressed index instead of an exact one.
AUTO_TRAINED_FROM = 10_000
# What can be set for one search, in whatever part of the index has it.
_IVF_PARAMETERS = ("nprobe", "max_codes")
_HNSW_PARAMETERS = ("efSearch",)
_REFINE_PARAMETERS = ("k_factor",)
_FRACTIONS = ("k_factor",)
SEARCH_PARAMETERS = (*_IVF_PARAMETERS, *_HNSW_PARAMETERS, *_REFINE_PARAMETERS)
# FAISS warns below this number of training vectors per cluster, and gains little above the second.
_TRAINING_MIN, _TRAINING_MAX = 39, 64
_CODEBOOK = 256
if hasattr(os, "register_at_fork"):
    # OpenMP's threads do not follow into a forked process, which would wait for them forever.
    os.register_at_fork(after_in_child=lambda: faiss.omp_set_num_threads(1))


def auto_factory(dim: int, dtype: str, vectors: int) -> str:
    """Choose an index for a number of vectors: exact for few, else inverted lists of compressed vectors.

    The lists double when the vectors grow fourfold. Four-bit product codes of 4 components each are scanned within the
    processor's registers (Quicker ADC, André et al., 2018), so fast that half of the lists are searched: questions
    often lie far from the passages that answer them. As results are scored again from the stored vectors, the codes
    only have to find candidates.
    """
    if vectors < AUTO_TRAINED_FROM:
        return exact_factory(dtype)
    lists = 2 ** round(np.log2(2 * np.sqrt(vectors)))
    return f"IVF{lists},PQ{dim // 4}x4fs" if dim % 4 == 0 and dim >= 32 else f"IVF{lists},SQ8"


def exact_factory(dtype: str) -> str:
    """Name the index that scans vectors as they are stored."""
    return "SQfp16" if dtype == "float16" else "Flat"


def make_index(factory: str, dim: int) -> faiss.Index:
    """Make an empty index for inner products whose vectors have ids.

    Raises:
        ValueError: FAISS knows no such index, or none for inner products.
    """
    try:
        index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(
            f"index is {factory!r}; FAISS can't make it for {dim} dimensions and inner products: {reason}. Use 'auto', "
            "or another factory string such as 'HNSW32,SQ8' or 'IVF1024,SQ8'."
        ) from error
    return index if _takes_ids(index) else faiss.IndexIDMap(index)


def training_size(index: faiss.Index) -> tuple[int, int]:
    """Tell how many vectors an index needs for training, and how many it can make use of; (0, 0) for none."""
    if index.is_trained:
        return 0, 0
    ivf = faiss.try_extract_index_ivf(_inner(index))
    clusters = max(_CODEBOOK, ivf.nlist if ivf is not None else 0)
    return _TRAINING_MIN * clusters, _TRAINING_MAX * clusters


def build(factory: str, vectors: VectorFile, slots: NDArray[np.int64]) -> faiss.Index:
    """Make an index of some slots' vectors, trained on an even sample of them."""
    index = make_index(factory, vectors.dim)
    most = training_size(index)[1]
    if most:
        sample = np.linspace(0, len(slots) - 1, min(most, len(slots))).astype(np.int64)
        index.train(vectors.gather(slots[sample]))
    add(index, vectors, slots)
    return index


def add(index: faiss.Index, vectors: VectorFile, slots: NDArray[np.int64]) -> None:
    """Add slots' vectors to a trained index."""
    for part in chunks(slots, 16_384):
        index.add_with_ids(vectors.gather(part), part)


def search(
    index: faiss.Index, query: NDArray[np.float32], k: int, parameters: Mapping[str, float] | None
) -> NDArray[np.int64]:
    """Find the ids of about the `k` nearest vectors, as the index sees them; fewer where it finds no more."""
    with one_thread():
        _, ids = index.search(query[None], k, params=_typed(index, parameters or {}))
    found: NDArray[np.int64] = ids[0]
    return found if found[-1] >= 0 else found[found >= 0]


def default_parameters(index: faiss.Index) -> dict[str, float]:
    """Choose search parameters with which few neighbours are missed."""
    ivf = faiss.try_extract_index_ivf(_inner(index))
    if ivf is not None:
        return {
            "nprobe": max(16, ivf.nlist // (2 if isinstance(faiss.downcast_index(ivf), faiss.IndexIVFFastScan) else 8))
        }
    return {"efSearch": 128} if isinstance(_inner(index), faiss.IndexHNSW) else {}


def save(index: faiss.Index, path: Path) -> tuple[int, int]:
    """Write an index to a new file, in full or not at all.

    Returns:
        The file's size and CRC-32.

    Raises:
        OSError: It can't be written, as on a full disk.
    """
    partial = path.with_name(f"{path.name}.new")
    try:
        with partial.open("wb", buffering=0) as file:
            writer = _Writer(file)
            try:
                faiss.write_index(index, faiss.PyCallbackIOWriter(writer.write))
            except RuntimeError:  # FAISS's own kind, in the place of what went wrong
                raise writer.error or OSError(errno.EIO, "FAISS could not write the index") from None
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    return writer.size, writer.crc32


def load(path: Path, size: int, crc32: int) -> faiss.Index | None:
    """Read an index; None where the file is missing or is not what was written."""
    try:
        if path.stat().st_size != size or _crc32(path) != crc32:
            return None
        with path.open("rb") as file:
            return faiss.read_index(faiss.PyCallbackIOReader(file.read))
    except (OSError, RuntimeError):
        return None


class _Writer:
    """Writes what FAISS hands over, and remembers what a caller must know."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = 0
        self.crc32 = 0
        self.error: OSError | None = None

    def write(self, data: bytes) -> None:
        try:
            left = memoryview(data)
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self.error = error
            raise
        self.size += len(data)
        self.crc32 = zlib.crc32(data, self.crc32)


def _crc32(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _inner(index: faiss.Index) -> faiss.Index:
    index = faiss.downcast_index(index)
    return faiss.downcast_index(index.index) if isinstance(index, faiss.IndexIDMap) else index


def _takes_ids(index: faiss.Index) -> bool:
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        return _takes_ids(index.index)
    return isinstance(index, faiss.IndexIVF | faiss.IndexIDMap)


def _typed(index: faiss.Index, parameters: Mapping[str, float]) -> Any:
    """Put parameters into the object that each kind of index wants them in."""
    index = _inner(index)
    if isinstance(index, faiss.IndexPreTransform):
        inner = _typed(index.index, parameters)
        return inner and faiss.SearchParametersPreTransform(index_params=inner)
    if isinstance(index, faiss.IndexRefine):
        options = _given(parameters, _REFINE_PARAMETERS)
        inner = _typed(index.base_index, parameters)
        return faiss.IndexRefineSearchParameters(**options, base_index_params=inner) if inner or options else None
    if isinstance(index, faiss.IndexIVF):
        options = _given(parameters, _IVF_PARAMETERS)
        return faiss.SearchParametersIVF(**options) if options else None
    if isinstance(index, faiss.IndexHNSW):
        options = _given(parameters, _HNSW_PARAMETERS)
        return faiss.SearchParametersHNSW(**options) if options else None
    return None


def _given(parameters: Mapping[str, float], names: tuple[str, ...]) -> dict[str, float]:
    return {
        name: parameters[name] if name in _FRACTIONS else int(parameters[name]) for name in names if name in parameters
    }
