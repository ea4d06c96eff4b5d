"""Whether a document store compares embeddings as a checkpoint needs it. Stores are known by name; none is imported."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from haystack import logging

from rom_haystack.inference.converted import find_checkpoint
from rom_haystack.modeling import DEFAULT_CHECKPOINT, CheckpointError

logger = logging.getLogger(__name__)

Metric = Literal["cosine", "inner_product", "l2"]
_METRICS: dict[Metric | None, str] = {
    "cosine": "cosine",
    "inner_product": "inner product",
    "l2": "L2 distance",
    None: "a metric of its own",
}


@dataclass(frozen=True)
class StoreSimilarity:
    """How a document store compares embeddings, and whether that fits a checkpoint.

    Attributes:
        store: The store's class.
        setting: Its setting, as it is written in code.
        metric: What the setting means; None for a metric that fits no checkpoint, such as Hamming distance.
        order_fits: Whether documents come in the order of the checkpoint's own similarity.
        scores_fit: Whether scores are made of that similarity, rather than of a distance.
        dimension_fits: Whether embeddings are as wide as the store's; True where it doesn't say.
        message: What is wrong and where to set it right; empty where everything fits.
    """

    store: str
    setting: str
    metric: Metric | None
    order_fits: bool
    scores_fit: bool
    dimension_fits: bool
    message: str

    @property
    def fits(self) -> bool:
        """Whether order, scores and dimension fit."""
        return self.order_fits and self.scores_fit and self.dimension_fits


@dataclass(frozen=True)
class Embeddings:
    """What a store must know of the embeddings it gets.

    Attributes:
        model: The checkpoint, as its user names it.
        similarity: The checkpoint's, as its retrieval head has it; `cosine` for all that are of unit length.
        dimension: Their width; None where it is not known.
    """

    model: str
    similarity: str
    dimension: int | None


def check_store_similarity(
    document_store: object,
    model: str = DEFAULT_CHECKPOINT,
    *,
    revision: str | None = None,
    truncate_dim: int | None = None,
    normalize_embeddings: bool = False,
) -> StoreSimilarity | None:
    """Warn if a document store's metric or dimension does not fit a checkpoint.

    A checkpoint with `dot` similarity needs inner product. One with `cosine` similarity, the default, makes embeddings
    of unit length: cosine and inner product are one and the same there, and L2 distance gives the same order, but other
    scores. Only attributes of the store and the checkpoint's config.json are looked at: no database and no hub is
    asked. (So of a Chroma collection that is there already, the metric is known after its first use.) No checkpoint is
    loaded, but a model of another kind is converted first, once, as the components do.

    ```python
    from haystack.document_stores.in_memory import InMemoryDocumentStore
    from rom_haystack import check_store_similarity

    found = check_store_similarity(InMemoryDocumentStore())
    assert found.fits
    ```

    Args:
        document_store: A document store, or an embedding retriever of one, whose own settings then count too.
        model: Bundled name, folder or hub id of the checkpoint that embeds; a hub id must be in the cache.
        revision: Branch, tag or commit of a hub id.
        truncate_dim: As the embedders have it.
        normalize_embeddings: As the embedders have it.

    Returns:
        What was found, or None where nothing is known about such stores.

    Raises:
        CheckpointError: The checkpoint can't be found on this machine, or its config.json names no embeddings.
    """
    folder = find_checkpoint(model, revision=revision, local_files_only=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    head = _nested(config, "heads", "retrieval")
    if not isinstance(head, Mapping):
        raise CheckpointError(f"{folder / 'config.json'} names no retrieval head, so '{model}' makes no embeddings.")
    width = _nested(config, "encoder", "hidden_size") or _nested(config, "encoder", "dim")
    dimension = truncate_dim or head.get("projection_dim") or width
    similarity = "cosine" if normalize_embeddings else head.get("similarity", "cosine")
    return warn_of_misfit(document_store, Embeddings(model, similarity, dimension))


def warn_of_misfit(document_store: object, embeddings: Embeddings) -> StoreSimilarity | None:
    """Do what `check_store_similarity` does, for embeddings that are known already. Never fails."""
    known = _look_at(document_store)
    if known is None:
        logger.debug(
            "Nothing is known about how {store} compares embeddings; '{model}' needs {metric}.",
            store=type(document_store).__name__,
            model=embeddings.model,
            metric=_named(_wanted(embeddings)),
        )
        return None
    found = _compare(known, embeddings)
    if found.message:
        logger.warning("{warning}", warning=found.message)  # "message" is taken in log records
    return found


def score_to_similarity(retriever: object) -> Callable[[float], float] | None:
    """Return what makes a retriever's scores similarities, where higher is better; None where they are already.

    Some stores return distances as scores, so that whatever sorts by score turns the ranking round. `ROMRetriever`
    makes similarities of them itself: don't ask for it.
    """
    known = _look_at(retriever)
    return None if known is None else known.reading.to_similarity


def is_settled(thing: object) -> bool:
    """Tell whether a store's, or a retriever's, metric is known now, rather than when the store is first used."""
    known = _look_at(thing)
    return known is None or known.reading.settled


class _Reading(NamedTuple):
    """What one store is set to.

    Attributes:
        value: The setting's value.
        dimension: Width of the store's embeddings; None where it doesn't say.
        to_similarity: What makes a score a similarity, where the store returns distances.
        rescaled: Whether the store makes cosine scores of L2 distances between embeddings of unit length.
        settled: Whether the value is the one that holds, rather than one that what was written earlier may overrule.
    """

    value: object
    dimension: object = None
    to_similarity: Callable[[float], float] | None = None
    rescaled: bool = False
    settled: bool = True


@dataclass(frozen=True)
class _Kind:
    """One kind of store.

    Attributes:
        setting: How the metric is set, with `{}` for its value.
        metrics: What the values mean; in their order, the first one that fits is recommended.
        read: Reads the settings of a store and, where it is given, of a retriever.
        dimension: Name of the parameter that sets the dimension.
        remedy: Where another value does not help, what does.
    """

    setting: str
    metrics: dict[object, Metric]
    read: Callable[[Any, Any], _Reading]
    dimension: str = "embedding_dim"
    remedy: str = ""


class _Known(NamedTuple):
    name: str
    kind: _Kind
    reading: _Reading
    metric: Metric | None


def _negative(distance: float) -> float:
    return -distance


def _one_minus(distance: float) -> float:
    return 1.0 - distance


def _read_in_memory(store: Any, _retriever: Any) -> _Reading:
    return _Reading(store.embedding_similarity_function)


def _read_sqlite_faiss(store: Any, _retriever: Any) -> _Reading:
    return _Reading(store.similarity, store.embedding_dim)


def _read_faiss(store: Any, _retriever: Any) -> _Reading:
    # Its factory strings name no metric, so L2 holds; an index file from elsewhere can bring another: FAISS counts
    # inner product as 0, L2 as 1. Scores are 1 / (1 + distance) for "Flat", else the distances themselves.
    if getattr(store.index, "metric_type", 1) == 0:
        return _Reading("INNER_PRODUCT", store.embedding_dim)
    return _Reading("L2", store.embedding_dim, None if store.index_string == "Flat" else _negative)


def _read_qdrant(store: Any, _retriever: Any) -> _Reading:
    return _Reading(store.similarity, store.embedding_dim, _negative if store.similarity == "l2" else None)


def _read_chroma(store: Any, _retriever: Any) -> _Reading:
    # A collection keeps the metric it was made with, and the metadata count more than the parameter.
    collection = getattr(store, "_collection", None)
    space = None if collection is None else _nested(collection.configuration, "hnsw", "space")
    space = space or _nested(store._metadata, "hnsw:space") or store._distance_function  # noqa: SLF001 (no public name)
    return _Reading(space, None, _negative if space == "l2" else _one_minus, settled=collection is not None)


def _read_pgvector(store: Any, retriever: Any) -> _Reading:
    function = getattr(retriever, "vector_function", None) or store.vector_function
    by_vector = retriever is None or hasattr(retriever, "vector_function")  # keywords have scores of their own
    distances = function == "l2_distance" and by_vector
    return _Reading(function, store.embedding_dimension, _negative if distances else None)


def _read_milvus(store: Any, _retriever: Any) -> _Reading:
    # The search parameters are read from the index that is there; a new one is made with L2 by default. Scores are
    # scaled from 0 to 1 only where `index_params` are there: they are given, or their default made the index.
    indexed, searched = (_nested(params, "metric_type") for params in (store.index_params, store.search_params))
    metric = searched or indexed or "L2"
    if metric != "L2":
        return _Reading(metric)
    rescaled = indexed == "L2" or searched is None
    return _Reading(metric, None, None if rescaled else _negative, rescaled)


def _read_opensearch(store: Any, _retriever: Any) -> _Reading:
    field = _nested(store._mappings, "properties", "embedding") or {}  # noqa: SLF001 (no public name)
    space = _nested(field, "method", "space_type") or _nested(field, "space_type") or "l2"
    return _Reading(space, _nested(field, "dimension"))


def _read_elasticsearch(store: Any, _retriever: Any) -> _Reading:
    mapping = store._custom_mapping or store._default_mappings  # noqa: SLF001 (no public name)
    field = _nested(mapping, "properties", "embedding")
    return _Reading(_nested(field, "similarity") or "cosine", _nested(field, "dims"))


def _read_weaviate(store: Any, _retriever: Any) -> _Reading:
    settings = store._collection_settings  # noqa: SLF001 (no public name)
    return _Reading(_nested(settings, "vectorIndexConfig", "distance") or "cosine")


_KINDS: dict[str, _Kind] = {
    "InMemoryDocumentStore": _Kind(
        'embedding_similarity_function="{}"', {"dot_product": "inner_product", "cosine": "cosine"}, _read_in_memory
    ),
    "SQLiteFAISSDocumentStore": _Kind(
        'similarity="{}"', {"cosine": "cosine", "dot_product": "inner_product"}, _read_sqlite_faiss
    ),
    "FAISSDocumentStore": _Kind(
        "METRIC_{}",
        {"L2": "l2", "INNER_PRODUCT": "inner_product"},
        _read_faiss,
        remedy="It has no other metric: use a store that has, such as SQLiteFAISSDocumentStore",
    ),
    "QdrantDocumentStore": _Kind(
        'similarity="{}"', {"cosine": "cosine", "dot_product": "inner_product", "l2": "l2"}, _read_qdrant
    ),
    "ChromaDocumentStore": _Kind(
        'distance_function="{}"', {"cosine": "cosine", "ip": "inner_product", "l2": "l2"}, _read_chroma
    ),
    "PgvectorDocumentStore": _Kind(
        'vector_function="{}"',
        {"cosine_similarity": "cosine", "inner_product": "inner_product", "l2_distance": "l2"},
        _read_pgvector,
        dimension="embedding_dimension",
    ),
    "MilvusDocumentStore": _Kind(
        'index_params={{"metric_type": "{}", …}}',
        {"COSINE": "cosine", "IP": "inner_product", "L2": "l2"},
        _read_milvus,
    ),
    "OpenSearchDocumentStore": _Kind(
        'method={{"space_type": "{}", …}}',
        {"innerproduct": "inner_product", "cosinesimil": "cosine", "l2": "l2"},
        _read_opensearch,
    ),
    "ElasticsearchDocumentStore": _Kind(
        'embedding_similarity_function="{}"',
        # Its "dot_product" refuses embeddings that are not of unit length, so it is a cosine.
        {"cosine": "cosine", "dot_product": "cosine", "max_inner_product": "inner_product", "l2_norm": "l2"},
        _read_elasticsearch,
        dimension='custom_mapping["properties"]["embedding"]["dims"]',
    ),
    "WeaviateDocumentStore": _Kind(
        'collection_settings={{"vectorIndexConfig": {{"distance": "{}"}}}}',
        {"cosine": "cosine", "dot": "inner_product", "l2-squared": "l2"},
        _read_weaviate,
    ),
}


def _look_at(thing: object) -> _Known | None:
    """Read the settings of a store, or of a retriever (or one within it) and its store; None if they are not known."""
    try:
        thing = getattr(thing, "retriever", thing)  # of a stock `TextEmbeddingRetriever`
        stores = (getattr(thing, name, None) for name in ("document_store", "_document_store"))
        store = next((store for store in stores if store is not None), thing)
        name = next((base.__name__ for base in type(store).__mro__ if base.__name__ in _KINDS), None)
        if name is None:
            return None
        kind = _KINDS[name]
        reading = kind.read(store, None if store is thing else thing)
        return _Known(name, kind, reading, kind.metrics.get(reading.value))
    except Exception as error:  # noqa: BLE001 (a check of settings must stop no search, whatever a store is like)
        logger.debug("The settings of {thing} can't be read: {error}", thing=type(thing).__name__, error=error)
        return None


def _compare(known: _Known, embeddings: Embeddings) -> StoreSimilarity:
    name, kind, reading, metric = known
    dimension_fits = None in (reading.dimension, embeddings.dimension) or reading.dimension == embeddings.dimension
    wanted = _wanted(embeddings)
    order_fits = scores_fit = metric in wanted
    if embeddings.similarity == "cosine":
        order_fits = metric is not None
        scores_fit |= metric == "l2" and reading.rescaled
    setting = kind.setting.format(reading.value)
    parts = []
    if not scores_fit:
        what = f"{name} compares embeddings by {_METRICS[metric]} ({setting})"
        if order_fits:
            why = (
                f"'{embeddings.model}' makes embeddings of unit length: the order is right, but scores are made of "
                "distances, not of cosines"
            )
        else:
            reason = "" if embeddings.similarity == "cosine" else ", as its embeddings differ in length"
            why = f"'{embeddings.model}' needs {_named(wanted)}{reason}: the order is wrong"
        right = [kind.setting.format(value) for value, means in kind.metrics.items() if means in wanted]
        remedy = kind.remedy or f"Create the store with {right[0]}"
        parts.append(f"{what}, but {why}. {remedy}, and index again.")
    if not dimension_fits:
        parts.append(
            f"{name} takes embeddings of {reading.dimension} dimensions, but those of '{embeddings.model}' have "
            f"{embeddings.dimension}. Create the store with {kind.dimension}={embeddings.dimension}, and index again."
        )
    return StoreSimilarity(name, setting, metric, order_fits, scores_fit, dimension_fits, " ".join(parts))


def _wanted(embeddings: Embeddings) -> tuple[Metric, ...]:
    """Return the metrics that give the right scores."""
    if embeddings.similarity == "cosine":
        return "cosine", "inner_product"
    return ("inner_product",) if embeddings.similarity == "dot" else ("cosine",)


def _named(metrics: tuple[Metric, ...]) -> str:
    return " or ".join(_METRICS[metric] for metric in metrics)


def _nested(data: object, *names: str) -> Any:
    """Follow names into nested dictionaries; None where there is nothing."""
    for name in names:
        data = data.get(name) if isinstance(data, Mapping) else None
    return data
