"""The fast path: shared encoders, batching, reading. Knows nothing of Haystack.

Importing this package brings in neither torch nor transformers; loading an encoder does, if its engine is torch.
"""

from rom_haystack.inference.encoder import ROMEncoder
from rom_haystack.inference.reading import Answer, ReadingOptions
from rom_haystack.inference.registry import REGISTRY, EncoderRegistry, EncoderSpec
from rom_haystack.inference.token_probabilities import TokenProbabilities

__all__ = ["REGISTRY", "Answer", "EncoderRegistry", "EncoderSpec", "ROMEncoder", "ReadingOptions", "TokenProbabilities"]
