"""Configuration of a ROM model: which encoder it stands on and which heads it carries."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig

from rom_haystack.modeling.places import FORMAT_VERSION, MODEL_TYPE

DEFAULT_HEADS: dict[str, dict[str, Any]] = {"retrieval": {"pooling": "mean"}, "reading": {}}


class ROMConfig(PretrainedConfig):
    """Describe one shared encoder and its named heads.

    ROM (Fun, Ravi and Gandhi, 2021, arXiv 2104.10129) uses a single transformer for queries, passages and reading.
    Here the transformer is any Hugging Face encoder, and everything task-specific is a small head with a name.

    Args:
        encoder: Configuration of the encoder, as a `PretrainedConfig` or as its dictionary (which must hold
            `model_type`). Default: a BERT-base configuration.
        heads: Options of each head by head name. Default: mean-pooled `retrieval` and `reading`.
        format_version: Layout version of the checkpoint that this configuration was read from.
    """

    model_type = MODEL_TYPE
    has_no_defaults_at_init = False
    sub_configs = {"encoder": AutoConfig}  # noqa: RUF012 (transformers hands attn_implementation on to these)

    def __init__(
        self,
        encoder: PretrainedConfig | dict[str, Any] | None = None,
        heads: dict[str, dict[str, Any]] | None = None,
        format_version: int = FORMAT_VERSION,
        **kwargs: Any,
    ) -> None:
        if encoder is None:
            encoder = AutoConfig.for_model("bert")
        elif isinstance(encoder, dict):
            options = dict(encoder)
            encoder = AutoConfig.for_model(options.pop("model_type"), **options)
        self.encoder: PretrainedConfig = encoder
        self.heads = {name: dict(options) for name, options in (heads or DEFAULT_HEADS).items()}
        self.format_version = format_version
        super().__init__(**kwargs)

    @property
    def hidden_size(self) -> int:
        """Width of the encoder's last hidden states."""
        return int(self.encoder.hidden_size)
