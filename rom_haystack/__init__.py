"""Question answering over your own documents with one shared encoder, as Haystack components.

Importing this package is cheap: torch and Haystack are imported when a name is first used. It also
lets Haystack load pipelines that name our classes; a server that loads YAML without importing us sets
`HAYSTACK_DESERIALIZATION_ALLOWLIST=rom_haystack`.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rom_haystack.components import (
        ROMDocumentEmbedder,
        ROMExtractiveReader,
        ROMRanker,
        ROMRetriever,
        ROMTextEmbedder,
    )
    from rom_haystack.components.evaluators import (
        AnswerExactMatchEvaluator,
        AnswerF1Evaluator,
        AnswerRecallEvaluator,
        CalibrationEvaluator,
        NoAnswerEvaluator,
    )
    from rom_haystack.document_stores import (
        SQLiteFAISSBM25Retriever,
        SQLiteFAISSDocumentStore,
        SQLiteFAISSEmbeddingRetriever,
    )
    from rom_haystack.hybrid import ROMHybridRetriever
    from rom_haystack.modeling import ROMConfig, ROMModel
    from rom_haystack.pipelines import ROMExtractiveQA, ROMIndexer
    from rom_haystack.store_similarity import StoreSimilarity, check_store_similarity

__all__ = [
    "AnswerExactMatchEvaluator",
    "AnswerF1Evaluator",
    "AnswerRecallEvaluator",
    "CalibrationEvaluator",
    "NoAnswerEvaluator",
    "ROMConfig",
    "ROMDocumentEmbedder",
    "ROMExtractiveQA",
    "ROMExtractiveReader",
    "ROMHybridRetriever",
    "ROMIndexer",
    "ROMModel",
    "ROMRanker",
    "ROMRetriever",
    "ROMTextEmbedder",
    "SQLiteFAISSBM25Retriever",
    "SQLiteFAISSDocumentStore",
    "SQLiteFAISSEmbeddingRetriever",
    "StoreSimilarity",
    "__version__",
    "check_store_similarity",
]

_HOMES = {
    "AnswerExactMatchEvaluator": "rom_haystack.components.evaluators",
    "AnswerF1Evaluator": "rom_haystack.components.evaluators",
    "AnswerRecallEvaluator": "rom_haystack.components.evaluators",
    "CalibrationEvaluator": "rom_haystack.components.evaluators",
    "NoAnswerEvaluator": "rom_haystack.components.evaluators",
    "ROMConfig": "rom_haystack.modeling",
    "ROMDocumentEmbedder": "rom_haystack.components",
    "ROMExtractiveQA": "rom_haystack.pipelines",
    "ROMExtractiveReader": "rom_haystack.components",
    "ROMHybridRetriever": "rom_haystack.hybrid",
    "ROMIndexer": "rom_haystack.pipelines",
    "ROMModel": "rom_haystack.modeling",
    "ROMRanker": "rom_haystack.components",
    "ROMRetriever": "rom_haystack.components",
    "ROMTextEmbedder": "rom_haystack.components",
    "SQLiteFAISSBM25Retriever": "rom_haystack.document_stores",
    "SQLiteFAISSDocumentStore": "rom_haystack.document_stores",
    "SQLiteFAISSEmbeddingRetriever": "rom_haystack.document_stores",
    "StoreSimilarity": "rom_haystack.store_similarity",
    "check_store_similarity": "rom_haystack.store_similarity",
}

try:
    __version__ = version("rom-haystack")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    """Import a public name from its home when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'rom_haystack' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _allow_deserialization() -> None:
    """Let Haystack load pipelines that name our classes; it trusts no package that was merely imported.

    Where Haystack is imported already, its own function does it. Else the environment variable that Haystack reads at
    each load does, so that Haystack need not be imported here; processes started from this one inherit it.
    """
    serialization = sys.modules.get("haystack.core.serialization_security")
    if serialization is not None:
        serialization.allow_deserialization_module("rom_haystack")
        return
    allowed = [name.strip() for name in os.environ.get("HAYSTACK_DESERIALIZATION_ALLOWLIST", "").split(",")]
    if "rom_haystack" not in allowed:
        os.environ["HAYSTACK_DESERIALIZATION_ALLOWLIST"] = ",".join([*filter(None, allowed), "rom_haystack"])


_allow_deserialization()
