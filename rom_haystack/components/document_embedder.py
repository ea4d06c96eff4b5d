"""Documents to documents with embeddings."""

import asyncio
from dataclasses import replace
from typing import Any, ClassVar

from haystack import Document, component
from haystack.utils import ComponentDevice, Secret

from rom_haystack.components._documents import text_with_meta
from rom_haystack.components._embedder import Embedder, Precision
from rom_haystack.components._encoder_user import HUB_TOKEN, BackendName
from rom_haystack.modeling import DEFAULT_CHECKPOINT


@component
class ROMDocumentEmbedder(Embedder):
    """Embed documents with ROM's shared encoder, as passages.

    Takes the place of `SentenceTransformersDocumentEmbedder` by class name alone. One default differs:
    `embedding_separator` is None, the encoder's own separator token, because ROM was trained on `title [SEP] text`;
    name the title's field in `meta_fields_to_embed` to use it.

    ```python
    from haystack import Document
    from rom_haystack import ROMDocumentEmbedder

    embedder = ROMDocumentEmbedder(meta_fields_to_embed=["title"])
    documents = embedder.run([Document(content="It glows.", meta={"title": "Radium"})])["documents"]
    ```

    Args:
        model: See `ROMTextEmbedder` for this and every parameter that is not described here.
        device: See `ROMTextEmbedder`.
        token: See `ROMTextEmbedder`.
        prefix: See `ROMTextEmbedder`.
        suffix: See `ROMTextEmbedder`.
        batch_size: See `ROMTextEmbedder`.
        progress_bar: See `ROMTextEmbedder`.
        normalize_embeddings: See `ROMTextEmbedder`.
        meta_fields_to_embed: Names of meta fields whose values are put before the content; missing and blank ones are
            left out.
        embedding_separator: What stands between meta values and content; None for the encoder's separator token.
        trust_remote_code: See `ROMTextEmbedder`.
        local_files_only: See `ROMTextEmbedder`.
        truncate_dim: See `ROMTextEmbedder`.
        model_kwargs: See `ROMTextEmbedder`.
        tokenizer_kwargs: See `ROMTextEmbedder`.
        config_kwargs: See `ROMTextEmbedder`.
        precision: See `ROMTextEmbedder`.
        encode_kwargs: See `ROMTextEmbedder`.
        backend: See `ROMTextEmbedder`.
        revision: See `ROMTextEmbedder`.
        quantization_ranges: See `ROMTextEmbedder`; without them `int8` and `uint8` scale each batch by itself.
        max_seq_length: Tokens per document, meta fields counted; what is longer is cut. None for 256, or what the model
            takes if less.

    Raises:
        ValueError: A value is out of range; the message names it.
    """

    _default_length: ClassVar[int] = 256
    _ranges_required: ClassVar[bool] = False

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
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str | None = None,
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
        # Not super(): the decorator builds the class anew, and super() would still mean the old one.
        Embedder.__init__(
            self,
            model=model,
            device=device,
            token=token,
            prefix=prefix,
            suffix=suffix,
            batch_size=batch_size,
            progress_bar=progress_bar,
            normalize_embeddings=normalize_embeddings,
            trust_remote_code=trust_remote_code,
            local_files_only=local_files_only,
            truncate_dim=truncate_dim,
            model_kwargs=model_kwargs,
            tokenizer_kwargs=tokenizer_kwargs,
            config_kwargs=config_kwargs,
            precision=precision,
            encode_kwargs=encode_kwargs,
            backend=backend,
            revision=revision,
            quantization_ranges=quantization_ranges,
            max_seq_length=max_seq_length,
        )
        self.meta_fields_to_embed = meta_fields_to_embed or []
        self.embedding_separator = embedding_separator

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """Embed documents.

        Args:
            documents: Documents of any content; those without are embedded by their meta fields alone.

        Returns:
            `documents`: copies with `embedding` set, in the same order.

        Raises:
            TypeError: `documents` is not a list of Documents.
        """
        if not isinstance(documents, list) or not all(isinstance(document, Document) for document in documents):
            raise TypeError("ROMDocumentEmbedder takes a list of Documents. Embed a str with ROMTextEmbedder.")
        if not documents:
            return {"documents": []}
        separator = self.embedding_separator
        separator = self._warm_encoder().separator if separator is None else separator
        embeddings = self._embed([self._text(document, separator) for document in documents], "passages")
        return {
            "documents": [replace(document, embedding=e) for document, e in zip(documents, embeddings, strict=True)]
        }

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, list[Document]]:
        """Do what `run` does, in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.run, documents)

    def _text(self, document: Document, separator: str) -> str:
        return self.prefix + text_with_meta(document, self.meta_fields_to_embed, separator) + self.suffix
