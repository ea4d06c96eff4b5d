"""Queries to embeddings."""

import asyncio
from typing import Any, ClassVar

from haystack import component

from rom_haystack.components._embedder import Embedder


@component
class ROMTextEmbedder(Embedder):
    """Embed a query with ROM's shared encoder.

    Takes the place of `SentenceTransformersTextEmbedder` by class name alone: same parameters, same sockets. A text
    is embedded as a query, cut after `max_seq_length` tokens (64 by default).

    ```python
    from rom_haystack import ROMTextEmbedder

    embedder = ROMTextEmbedder()
    embedding = embedder.run("Who discovered radium?")["embedding"]
    ```

    Args:
        model: Bundled name, folder or hub id of a ROM checkpoint. A DPR or sentence-transformers model becomes one,
            once, in the user's cache; `biencoder.cp:question` and `biencoder.cp:passage` name the encoders in a file of
            the original DPR.
        device: Where the model runs; None picks the machine's default when the model is loaded.
        token: Access token for a private hub id.
        prefix: Put before each text.
        suffix: Put after each text.
        batch_size: Most texts per forward pass; batches may be smaller to stay within the encoder's token budget.
        progress_bar: Show a progress bar where there are several texts.
        normalize_embeddings: Scale embeddings to unit length. Checkpoints with cosine similarity, the default one
            among them, always do.
        trust_remote_code: Must be False; it is here so that pipelines of the stock embedders load.
        local_files_only: Never ask the hub.
        truncate_dim: Keep the first dimensions only.
        model_kwargs: Options for loading the model, such as `{"dtype": "bfloat16"}`; types are `float32`, `bfloat16`
            and `float16` for torch, also `int8` for openvino, `float32` and `int8` for onnx. Options other than the
            type are for torch.
        tokenizer_kwargs: Options for loading the tokenizer. `model_max_length` is this component's `max_seq_length`.
        config_kwargs: Without effect; a warning says so.
        precision: `float32`, or quantised to `int8`, `uint8`, `binary` or `ubinary`. Always plain floats in a list.
        encode_kwargs: Without effect; a warning says so.
        backend: Inference engine: `torch`, `onnx` or `openvino`. `auto` picks the fastest one that is installed and
            faithful on this machine, measured once; where it can't, and on GPUs, that is torch. `ROM_BACKEND` in the
            environment says what `auto` means.
        revision: Branch, tag or commit of a hub id.
        quantization_ranges: For `int8` and `uint8`: the least and the greatest value per dimension, `[2, dim]`,
            from a representative sample of embeddings.
        max_seq_length: Tokens per text; what is longer is cut. None for 64, or what the model takes if less.

    Raises:
        ValueError: A value is out of range; the message names it.
    """

    _default_length: ClassVar[int] = 64
    _ranges_required: ClassVar[bool] = True

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """Embed one text.

        Args:
            text: The query; the empty one has an embedding too.

        Returns:
            `embedding`: `dim` floats.

        Raises:
            TypeError: `text` is not a str.
        """
        return {"embedding": self.run_batch([text])["embeddings"][0]}

    @component.output_types(embedding=list[float])
    async def run_async(self, text: str) -> dict[str, Any]:
        """Do what `run` does, in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.run, text)

    def run_batch(self, texts: list[str]) -> dict[str, Any]:
        """Embed several texts in batches.

        Args:
            texts: The queries.

        Returns:
            `embeddings`: one list of `dim` floats per text.

        Raises:
            TypeError: A text is not a str.
        """
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(
                    f"ROMTextEmbedder takes a str, not {type(text).__name__}. Embed Documents with ROMDocumentEmbedder."
                )
        return {"embeddings": self._embed([self.prefix + text + self.suffix for text in texts], "queries")}
