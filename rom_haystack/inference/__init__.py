"""The fast path: shared encoders, batching, reading. Knows nothing of Haystack."""

from rom_haystack.inference.encoder import ROMEncoder
from rom_haystack.inference.reading import Answer, ReadingOptions
from rom_haystack.inference.registry import REGISTRY, EncoderRegistry, EncoderSpec

__all__ = ["REGISTRY", "Answer", "EncoderRegistry", "EncoderSpec", "ROMEncoder", "ReadingOptions"]
