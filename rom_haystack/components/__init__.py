"""ROM as Haystack components: thin adapters over `rom_haystack.inference`."""

from haystack.core.serialization import allow_deserialization_module

from rom_haystack.components.document_embedder import ROMDocumentEmbedder
from rom_haystack.components.extractive_reader import ROMExtractiveReader
from rom_haystack.components.ranker import ROMRanker
from rom_haystack.components.retriever import ROMRetriever
from rom_haystack.components.text_embedder import ROMTextEmbedder

allow_deserialization_module("rom_haystack")

__all__ = ["ROMDocumentEmbedder", "ROMExtractiveReader", "ROMRanker", "ROMRetriever", "ROMTextEmbedder"]
