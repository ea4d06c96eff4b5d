"""1.x's pipelines for question answering and search."""

from collections.abc import Mapping
from typing import Any

from rom_haystack.compat.bm25_retriever import BM25Retriever
from rom_haystack.compat.dense_retriever import DensePassageRetriever
from rom_haystack.compat.farm_reader import FARMReader
from rom_haystack.compat.transformers_reader import TransformersReader

#: What a run may set in each node.
_NODES = {
    "Retriever": ("filters", "top_k", "index", "headers", "scale_score", "document_store"),
    "Reader": ("top_k",),
}


class ExtractiveQAPipeline:
    """1.x's `ExtractiveQAPipeline`: documents for a query, then answers in them.

    ```python
    from rom_haystack.compat import DensePassageRetriever, ExtractiveQAPipeline, FARMReader, InMemoryDocumentStore

    document_store = InMemoryDocumentStore()
    document_store.write_documents([{"content": "The Nile flows north.", "meta": {"name": "The Nile"}}])
    retriever = DensePassageRetriever(document_store)
    document_store.update_embeddings(retriever)
    pipe = ExtractiveQAPipeline(FARMReader("rom-minilm-l6"), retriever)
    prediction = pipe.run("Which way does the Nile flow?", params={"Retriever": {"top_k": 10}, "Reader": {"top_k": 5}})
    ```

    Args:
        reader: A reader of `rom_haystack.compat`.
        retriever: A retriever of `rom_haystack.compat`.
    """

    def __init__(
        self, reader: FARMReader | TransformersReader, retriever: DensePassageRetriever | BM25Retriever
    ) -> None:
        self.reader = reader
        self.retriever = retriever

    def run(self, query: str, params: dict[str, Any] | None = None, debug: bool | None = None) -> dict[str, Any]:
        """Answer a query.

        Args:
            query: The question.
            params: Arguments of the nodes, such as `{"Retriever": {"top_k": 10}, "Reader": {"top_k": 5}}`; those that
                stand outside of a node, such as `{"filters": {…}}`, are for every node that has them.
            debug: Add `_debug`: what each node was given and what it gave.

        Returns:
            `query`, `answers` and `documents`, both best first; `no_ans_gap`, where there were documents; `params`,
            `root_node` and `node_id`.

        Raises:
            ValueError: The query is blank, or no node has such a parameter.
        """
        retrieving, reading = _for_nodes(params)
        documents = self.retriever.retrieve(query=query, **retrieving)
        read = self.reader.predict(query=query, documents=documents, **reading) if documents else {"answers": []}
        result = {"documents": documents, **read, **_ends({"query": query}, params)}
        if debug:
            result["_debug"] = {
                "Retriever": {"input": {"query": query, **retrieving}, "output": {"documents": documents}},
                "Reader": {"input": {"query": query, "documents": documents, **reading}, "output": read},
            }
        return result

    def run_batch(
        self, queries: list[str], params: dict[str, Any] | None = None, debug: bool | None = None
    ) -> dict[str, Any]:
        """Answer several queries: their embeddings in one stream, then all their documents in one stream.

        Args:
            queries: The questions.
            params: As in `run`, for every query.
            debug: As in `run`.

        Returns:
            `queries`, `answers`, `documents` and `no_ans_gaps`: one item per query; the others as in `run`.

        Raises:
            TypeError: `queries` is a single text.
            ValueError: A query is blank, or no node has such a parameter.
        """
        retrieving, reading = _for_nodes(params)
        documents = self.retriever.retrieve_batch(queries=queries, **retrieving)
        read = self.reader.predict_batch(queries=queries, documents=documents, **reading)
        result = {"documents": documents, **read, **_ends({"queries": queries}, params)}
        if debug:
            result["_debug"] = {
                "Retriever": {"input": {"queries": queries, **retrieving}, "output": {"documents": documents}},
                "Reader": {"input": {"queries": queries, "documents": documents, **reading}, "output": read},
            }
        return result


def _for_nodes(params: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Sort a run's parameters by node: the retriever's, the reader's.

    Raises:
        ValueError: No node has such a parameter.
    """
    params = params or {}
    common = {name: value for name, value in params.items() if name not in _NODES}
    known = {name for names in _NODES.values() for name in names}
    for name in common:
        if name not in known:
            raise ValueError(
                f"No node takes the parameter {name!r}. Nodes are {' and '.join(_NODES)}; parameters for all of them "
                f"are {', '.join(sorted(known))}."
            )
    sorted_: list[dict[str, Any]] = []
    for node, names in _NODES.items():
        own = params.get(node) or {}
        for name in own:
            if name not in names:
                raise ValueError(f"The {node} takes no parameter {name!r}; it has {', '.join(names)}.")
        sorted_.append({**{name: value for name, value in common.items() if name in names}, **own})
    return sorted_


def _ends(asked: dict[str, Any], params: dict[str, Any] | None) -> dict[str, Any]:
    return {**asked, "params": params or {}, "root_node": "Query", "node_id": "Reader"}
