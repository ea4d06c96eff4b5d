"""Names of Haystack 1.x on today's parts: a script for DPR runs when its import lines are changed.

```python
from rom_haystack.compat import DensePassageRetriever, ExtractiveQAPipeline, FAISSDocumentStore, FARMReader
from rom_haystack.compat import clean_wiki_text, convert_files_to_docs, print_answers
```

Constructor arguments, methods, filters and return shapes are those of Haystack 1.26. Arguments that have no meaning now
are taken, and warned of once.
"""

from rom_haystack.compat.bm25_retriever import BM25Retriever
from rom_haystack.compat.dense_retriever import DensePassageRetriever
from rom_haystack.compat.documents import Answer, Document, Span
from rom_haystack.compat.faiss_store import FAISSDocumentStore
from rom_haystack.compat.farm_reader import FARMReader
from rom_haystack.compat.filters import convert_filters
from rom_haystack.compat.memory_store import InMemoryDocumentStore
from rom_haystack.compat.pipelines import ExtractiveQAPipeline
from rom_haystack.compat.transformers_reader import TransformersReader
from rom_haystack.compat.utils import clean_wiki_text, convert_files_to_docs, print_answers

__all__ = [
    "Answer",
    "BM25Retriever",
    "DensePassageRetriever",
    "Document",
    "ExtractiveQAPipeline",
    "FAISSDocumentStore",
    "FARMReader",
    "InMemoryDocumentStore",
    "Span",
    "TransformersReader",
    "clean_wiki_text",
    "convert_files_to_docs",
    "convert_filters",
    "print_answers",
]
