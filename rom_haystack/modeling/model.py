"""ROM itself: one encoder, many heads."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from rom_haystack.modeling.config import ROMConfig
from rom_haystack.modeling.errors import MissingHeadError
from rom_haystack.modeling.heads import RetrievalHead, build_head


class ROMModel(PreTrainedModel):
    """A transformer encoder shared by every task, with one small head per task.

    The same encoder sees three input forms, all built by its tokenizer: a query, a passage (title and text), and a
    query-passage pair. `forward` runs the encoder once and then the head that was asked for.

    Args:
        config: The encoder's configuration and the heads.
    """

    config_class = ROMConfig
    config: ROMConfig
    base_model_prefix = "rom"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True

    def __init__(self, config: ROMConfig) -> None:
        super().__init__(config)
        self.encoder = build_encoder(config.encoder)
        vocab_size, embedding_size = self.get_input_embeddings().weight.shape
        sizes = {"hidden_size": config.hidden_size, "vocab_size": vocab_size, "embedding_size": embedding_size}
        self.heads = nn.ModuleDict({name: build_head(name, opts, **sizes) for name, opts in config.heads.items()})
        parameters = inspect.signature(self.encoder.forward).parameters
        self.uses_token_types = "token_type_ids" in parameters and getattr(config.encoder, "type_vocab_size", 0) > 1
        self.post_init()

    @classmethod
    def from_encoder(
        cls, name_or_path: str, heads: dict[str, dict[str, Any]] | None = None, *, seed: int = 0, **kwargs: Any
    ) -> ROMModel:
        """Start a ROM model from any pretrained Hugging Face encoder, with fresh heads.

        From a ROM checkpoint, the encoder and those of its heads that are wanted and have the same shape come along.

        Args:
            name_or_path: Folder or hub id of the encoder, or of a ROM checkpoint.
            heads: As in `ROMConfig`.
            seed: Seed of the heads' initial weights.
            **kwargs: Passed to `AutoModel.from_pretrained` and `AutoConfig.from_pretrained` (`revision`, `token`, …).
        """
        encoder_config = AutoConfig.from_pretrained(name_or_path, **kwargs)
        options = {"dtype": torch.float32, "use_safetensors": True, **kwargs}
        start = None
        if isinstance(encoder_config, ROMConfig):
            start = cls.from_pretrained(name_or_path, **options)
            encoder_config = copy.deepcopy(start.encoder.config)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = cls(ROMConfig(encoder=encoder_config, heads=heads))
        if start is not None:
            model.encoder, model.config.encoder = start.encoder, start.encoder.config
            model._take_heads(start)
        else:
            model.encoder = AutoModel.from_pretrained(
                name_or_path, config=encoder_config, **without_pooler(encoder_config), **options
            )
        return model

    def _take_heads(self, other: ROMModel) -> None:
        """Take over the weights of another model's heads, where names and shapes are the same."""
        for name, head in self.heads.items():
            state = other.heads[name].state_dict() if name in other.heads else {}
            shapes = {key: tensor.shape for key, tensor in state.items()}
            if shapes == {key: tensor.shape for key, tensor in head.state_dict().items()}:
                head.load_state_dict(state)

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the encoder's word embedding table."""
        embeddings: nn.Embedding = self.encoder.get_input_embeddings()
        return embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the encoder's word embedding table."""
        self.encoder.set_input_embeddings(value)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=getattr(self.config.encoder, "initializer_range", 0.02))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        else:
            super()._init_weights(module)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        head: str = "retrieval",
        **head_inputs: Tensor,
    ) -> dict[str, Tensor]:
        """Encode a batch and apply one head.

        Args:
            input_ids: `[batch, length]` token ids.
            attention_mask: `[batch, length]`, 1 for real tokens, 0 for padding.
            token_type_ids: `[batch, length]` segment ids; ignored by encoders without segments.
            head: Name of the head.
            **head_inputs: What the head takes besides, such as `sought` of `masked_lm`.

        Returns:
            The head's named outputs.

        Raises:
            MissingHeadError: The model has no head of that name.
        """
        if head not in self.heads:
            raise MissingHeadError(f"This model has no head '{head}', only: {', '.join(self.heads)}.")
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.uses_token_types and token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        hidden_states = self.encoder(**inputs).last_hidden_state
        embeddings = self.get_input_embeddings().weight
        outputs: dict[str, Tensor] = self.heads[head](hidden_states, attention_mask, embeddings, **head_inputs)
        return outputs

    @property
    def retrieval_head(self) -> RetrievalHead:
        """The head that makes embeddings.

        Raises:
            MissingHeadError: The model has none.
        """
        head = dict(self.heads).get("retrieval")
        if not isinstance(head, RetrievalHead):
            raise MissingHeadError(f"This model has no head 'retrieval', only: {', '.join(self.heads)}.")
        return head

    def parameter_counts(self) -> dict[str, int]:
        """Count parameters: `shared` encoder, `heads`, their `total`, and what `three separate encoders` would hold.

        DPR's shape (query encoder, passage encoder, reader) keeps three encoders beside the same heads.
        """
        shared = sum(p.numel() for p in self.encoder.parameters())
        heads = sum(p.numel() for p in self.heads.parameters())
        return {
            "shared": shared,
            "heads": heads,
            "total": shared + heads,
            "three separate encoders": 3 * shared + heads,
        }


def build_encoder(config: PretrainedConfig) -> PreTrainedModel:
    """Create an encoder with random weights, without BERT's pooler, which no head uses."""
    encoder: PreTrainedModel = AutoModel.from_config(config, **without_pooler(config))
    return encoder


def without_pooler(config: PretrainedConfig) -> dict[str, bool]:
    """Return the options that leave BERT's pooler out of an encoder."""
    model_class: Any = MODEL_MAPPING[type(config)]
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(model_class).parameters else {}


AutoConfig.register(ROMConfig.model_type, ROMConfig)
AutoModel.register(ROMConfig, ROMModel)
