"""What both embedders share: parameters, precision and the way to plain floats."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from haystack import logging
from haystack.tracing.tracer import tracer
from haystack.utils import ComponentDevice, Secret
from numpy.typing import NDArray

from rom_haystack.components._encoder_user import (
    HUB_TOKEN,
    BackendName,
    EncoderUser,
    refuse_remote_code,
    warn_of_unused,
)
from rom_haystack.modeling import DEFAULT_CHECKPOINT
from rom_haystack.store_similarity import Embeddings, is_settled, warn_of_misfit

logger = logging.getLogger(__name__)

Precision = Literal["float32", "int8", "uint8", "binary", "ubinary"]
_PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")


class Embedder(EncoderUser):
    """Base of the embedders: every parameter, and the work itself. `ROMTextEmbedder` describes the parameters."""

    _default_length: ClassVar[int]
    _ranges_required: ClassVar[bool]

    def __init__(
        self,
        *,
        model: str = DEFAULT_CHECKPOINT,
        device: ComponentDevice | None = None,
        token: Secret | None = HUB_TOKEN,
        prefix: str = "",
        suffix: str = "",
        batch_size: int = 32,
        progress_bar: bool = True,
        normalize_embeddings: bool = False,
        trust_remote_code: bool = False,
        local_files_only: bool = False,
        truncate_dim: int | None = None,
        model_kwargs: dict[str, Any] | None = None,
        tokenizer_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        precision: Precision = "float32",
        encode_kwargs: dict[str, Any] | None = None,
        backend: BackendName = "auto",
        revision: str | None = None,
        quantization_ranges: list[list[float]] | None = None,
        max_seq_length: int | None = None,
    ) -> None:
        super().__init__(
            model=model,
            device=device,
            token=token,
            revision=revision,
            local_files_only=local_files_only,
            model_kwargs=model_kwargs,
            tokenizer_kwargs=tokenizer_kwargs,
            backend=backend,
        )
        self.prefix = prefix
        self.suffix = suffix
        self.batch_size = batch_size
        self.progress_bar = progress_bar
        self.normalize_embeddings = normalize_embeddings
        self.trust_remote_code = trust_remote_code
        self.truncate_dim = truncate_dim
        self.config_kwargs = config_kwargs
        self.precision = precision
        self.encode_kwargs = encode_kwargs
        self.quantization_ranges = quantization_ranges
        self.max_seq_length = max_seq_length
        refuse_remote_code(trust_remote_code)
        self._check_values()
        warn_of_unused(self, config_kwargs=config_kwargs, encode_kwargs=encode_kwargs)

    def check_store(self, store: object) -> bool:
        """Warn if a document store, or a retriever's, does not fit the embeddings; loads the encoder.

        What `check_store_similarity` says of a checkpoint is said here of the embeddings as this component makes them.

        Returns:
            Whether that could be told, or can't be at all; False where the store must be used first.

        Raises:
            MissingHeadError: The model only reads.
        """
        if self.precision != "float32":  # embeddings of other types have metrics of their own
            return True
        if not is_settled(store):
            return False
        encoder = self._warm_encoder()
        encoder.check_embeds()
        similarity = "cosine" if self.normalize_embeddings else encoder.facts.similarity
        warn_of_misfit(store, Embeddings(self.model, similarity, self.truncate_dim or encoder.embedding_dim))
        return True

    def _check_values(self) -> None:
        if self.precision not in _PRECISIONS:
            raise ValueError(f"Unknown precision '{self.precision}'; choose one of {', '.join(_PRECISIONS)}.")
        for name in ("batch_size", "truncate_dim", "max_seq_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        if self.precision in ("int8", "uint8") and self.quantization_ranges is None:
            need = f"Precision '{self.precision}' needs quantization_ranges from a representative sample of embeddings"
            if self._ranges_required:
                raise ValueError(f"{need}: a single embedding has no range of its own.")
            logger.warning("{need}; without them each batch is scaled by itself.", need=need)

    def _embed(self, texts: Sequence[str], kind: Literal["queries", "passages"]) -> list[list[float]]:
        """Embed texts as they are, without prefix and suffix, into plain floats."""
        if not texts:
            return []
        encoder = self._warm_encoder()
        encode = encoder.encode_queries if kind == "queries" else encoder.encode_passages
        tags = {"rom_haystack.model": self.model, "rom_haystack.texts": len(texts)}
        with tracer.trace(f"rom_haystack.encode_{kind}", tags, tracer.current_span()):
            embeddings = encode(
                texts,
                max_length=self._length(encoder.max_length),
                batch_size=self.batch_size,
                truncate_dim=self.truncate_dim,
                normalize=self.normalize_embeddings,
                progress=self.progress_bar and len(texts) > 1,
            )
        plain: list[list[float]] = self._quantize(embeddings).astype(float).tolist()
        return plain

    def _length(self, limit: int) -> int:
        asked = (self.tokenizer_kwargs or {}).get("model_max_length")
        asked = self.max_seq_length if self.max_seq_length is not None else asked
        return min(self._default_length, limit) if asked is None else int(asked)

    def _quantize(self, embeddings: NDArray[np.float32]) -> NDArray[Any]:
        if self.precision == "float32":
            return embeddings
        from sentence_transformers import quantize_embeddings  # noqa: PLC0415 (seconds to import, seldom used)

        ranges = None
        if self.precision in ("int8", "uint8") and self.quantization_ranges is not None:
            ranges = np.asarray(self.quantization_ranges, dtype=np.float32)
            if ranges.shape != (2, embeddings.shape[1]):
                raise ValueError(
                    f"quantization_ranges have shape {ranges.shape}; these embeddings need (2, {embeddings.shape[1]})."
                )
        return np.asarray(quantize_embeddings(embeddings, precision=self.precision, ranges=ranges))
