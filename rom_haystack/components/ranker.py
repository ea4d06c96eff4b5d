"""Documents ordered by how well they answer a query."""

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from haystack import Document, component
from haystack.tracing.tracer import tracer
from haystack.utils import ComponentDevice, Secret

from rom_haystack.components._documents import text_with_meta, warn_of_textless
from rom_haystack.components._encoder_user import (
    HUB_TOKEN,
    BackendName,
    EncoderUser,
    refuse_remote_code,
    warn_of_unused,
)
from rom_haystack.components._queries import check_groups, check_top_k
from rom_haystack.inference import ReadingOptions
from rom_haystack.inference.reading import sigmoid
from rom_haystack.modeling import DEFAULT_CHECKPOINT


@component
class ROMRanker(EncoderUser):
    """Order documents by their relevance to a query, as the shared encoder judges it reading both together.

    Takes the place of `SentenceTransformersSimilarityRanker`, and of the `TransformersSimilarityRanker` of Haystack 2,
    by class name alone: it has the parameters of both. Long documents are read in windows, and the most relevant window
    counts, where the stock rankers cut documents off.

    ```python
    from haystack import Document
    from rom_haystack import ROMRanker

    documents = [Document(content="Radium glows."), Document(content="Marie Curie discovered radium in 1898.")]
    ranked = ROMRanker(top_k=1).run("Who discovered radium?", documents)["documents"]
    ```

    Args:
        model: Bundled name, folder or hub id of a ROM checkpoint. One that was made from a model for question answering
            tells no relevance and is refused at the first run.
        device: Where the model runs; None picks the machine's default when the model is loaded.
        token: Access token for a private hub id.
        top_k: Most documents.
        query_prefix: Put before each query.
        document_prefix: Put before each document.
        meta_fields_to_embed: Names of meta fields whose values are put before the content; missing and blank ones are
            left out.
        embedding_separator: What stands between meta values and content.
        scale_score: Turn scores into probabilities. Otherwise they are log-odds. The order is the same. The bundled
            checkpoint learnt from pairs of which four in five had an answer, so among retrieved documents its
            probabilities run high (`python -m benchmarks.ranking` shows what a threshold of 0.9 keeps).
        calibration_factor: Multiplies the log-odds before they become a probability. None only without `scale_score`.
        score_threshold: Drop documents with a lower score, scaled or not.
        model_kwargs: Options for loading the model, such as `{"dtype": "bfloat16"}`; types are as in `ROMTextEmbedder`,
            and options other than the type are for torch. A `device_map` that names one device takes the place of
            `device`.
        tokenizer_kwargs: Options for loading the tokenizer. `model_max_length` is without effect, as no document is cut
            off; a warning says so.
        batch_size: Most windows per forward pass; batches may be smaller to stay within the encoder's token budget.
        query_suffix: Put after each query.
        document_suffix: Put after each document.
        trust_remote_code: Must be False; it is here so that pipelines of the stock rankers load.
        config_kwargs: Without effect; a warning says so.
        backend: Inference engine: `torch`, `onnx` or `openvino`. `auto` picks the fastest one that is installed and
            faithful on this machine, measured once; where it can't, and on GPUs, that is torch. `ROM_BACKEND` in the
            environment says what `auto` means.
        revision: Branch, tag or commit of a hub id.
        local_files_only: Never ask the hub.
        max_seq_length: Tokens per window, query included.
        stride: Tokens that neighbouring windows share.
        max_query_length: Tokens of the query that are kept.

    Raises:
        ValueError: A value is out of range; the message names it.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_CHECKPOINT,
        device: ComponentDevice | None = None,
        token: Secret | None = HUB_TOKEN,
        top_k: int = 10,
        query_prefix: str = "",
        document_prefix: str = "",
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        scale_score: bool = True,
        calibration_factor: float | None = 1.0,
        score_threshold: float | None = None,
        model_kwargs: dict[str, Any] | None = None,
        tokenizer_kwargs: dict[str, Any] | None = None,
        batch_size: int = 16,
        *,
        query_suffix: str = "",
        document_suffix: str = "",
        trust_remote_code: bool = False,
        config_kwargs: dict[str, Any] | None = None,
        backend: BackendName = "auto",
        revision: str | None = None,
        local_files_only: bool = False,
        max_seq_length: int = 384,
        stride: int = 128,
        max_query_length: int = 64,
    ) -> None:
        # Not super(): the decorator builds the class anew, and super() would still mean the old one.
        EncoderUser.__init__(
            self,
            model=model,
            device=device,
            token=token,
            revision=revision,
            local_files_only=local_files_only,
            model_kwargs=model_kwargs,
            tokenizer_kwargs=tokenizer_kwargs,
            backend=backend,
        )
        refuse_remote_code(trust_remote_code)
        self.top_k = top_k
        self.query_prefix = query_prefix
        self.document_prefix = document_prefix
        self.meta_fields_to_embed = meta_fields_to_embed or []
        self.embedding_separator = embedding_separator
        self.scale_score = scale_score
        self.calibration_factor = calibration_factor
        self.score_threshold = score_threshold
        self.batch_size = batch_size
        self.query_suffix = query_suffix
        self.document_suffix = document_suffix
        self.trust_remote_code = trust_remote_code
        self.config_kwargs = config_kwargs
        self.max_seq_length = max_seq_length
        self.stride = stride
        self.max_query_length = max_query_length
        check_top_k(top_k)
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
        _scaling(scale_score=scale_score, factor=calibration_factor)
        self._reading_options()  # bad values fail here, not at the first question
        own_length = (tokenizer_kwargs or {}).get("model_max_length")
        warn_of_unused(self, config_kwargs=config_kwargs, **{"tokenizer_kwargs['model_max_length']": own_length})

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        scale_score: bool | None = None,
        calibration_factor: float | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, list[Document]]:
        """Order documents for one query.

        Args:
            query: The question.
            documents: What to order. Those without text are skipped; of those with the same id the one with the highest
                score is judged.
            top_k: Here and below, None for the value given at construction; 0 is 0.
            scale_score: See the class.
            calibration_factor: See the class.
            score_threshold: See the class.

        Returns:
            `documents`: copies with the new score, best first, at most `top_k`; of equals the earlier first.

        Raises:
            TypeError: The query is no text.
            ValueError: The query is blank, or a value is out of range.
        """
        nested = self.run_batch(
            [query],
            [documents],
            top_k=top_k,
            scale_score=scale_score,
            calibration_factor=calibration_factor,
            score_threshold=score_threshold,
        )
        return {"documents": nested["documents"][0]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        scale_score: bool | None = None,
        calibration_factor: float | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, list[Document]]:
        """Do what `run` does, in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(
            self.run, query, documents, top_k, scale_score, calibration_factor, score_threshold
        )

    def run_batch(
        self,
        queries: list[str],
        documents: list[list[Document]],
        *,
        top_k: int | None = None,
        scale_score: bool | None = None,
        calibration_factor: float | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, list[list[Document]]]:
        """Order documents for several queries, all judged in one stream.

        Args:
            queries: The questions.
            documents: One list of documents per query.
            top_k: As in `run`.
            scale_score: As in `run`.
            calibration_factor: As in `run`.
            score_threshold: As in `run`.

        Returns:
            `documents`: one list per query, as in `run`.

        Raises:
            TypeError: A query is no text.
            ValueError: A query is blank, a value is out of range, or there are not as many queries as lists.
        """
        check_groups(queries, documents)
        top_k = self.top_k if top_k is None else top_k
        check_top_k(top_k)
        scaled = _scaling(
            scale_score=self.scale_score if scale_score is None else scale_score,
            factor=self.calibration_factor if calibration_factor is None else calibration_factor,
        )
        threshold = self.score_threshold if score_threshold is None else score_threshold
        if top_k == 0:
            return {"documents": [[] for _ in queries]}
        readable = [_unique(document for document in group if self._text(document)) for group in documents]
        warn_of_textless(document for group in documents for document in group if not self._text(document))
        nested = []
        for group, relevance in zip(readable, self._judge(queries, readable), strict=True):
            # Ordered by log-odds, which still differ where probabilities have both rounded to 1.
            order = sorted(zip(relevance, group, strict=True), key=lambda pair: -pair[0])
            scored = [(scaled(log_odds), document) for log_odds, document in order]
            kept = [(score, document) for score, document in scored if threshold is None or score >= threshold]
            nested.append([replace(document, score=score) for score, document in kept[:top_k]])
        return {"documents": nested}

    def _judge(self, queries: Sequence[str], documents: Sequence[list[Document]]) -> list[list[float]]:
        """Judge each query's documents; per query and document, its log-odds."""
        asked = [self.query_prefix + query + self.query_suffix for query in queries]
        pairs = [
            (query, self._text(document)) for query, group in zip(asked, documents, strict=True) for document in group
        ]
        if not pairs:
            return [[] for _ in queries]
        encoder = self._warm_encoder()
        tags = {"rom_haystack.model": self.model, "rom_haystack.pairs": len(pairs)}
        with tracer.trace("rom_haystack.rank", tags, tracer.current_span()):
            judged = encoder.relevance(
                [query for query, _ in pairs], [text for _, text in pairs], self._reading_options()
            )
        remaining = iter(judged)
        return [[next(remaining) for _ in group] for group in documents]

    def _text(self, document: Document) -> str:
        """Give what is read of a document; nothing where it has no text."""
        text = text_with_meta(document, self.meta_fields_to_embed, self.embedding_separator)
        return self.document_prefix + text + self.document_suffix if text else ""

    def _reading_options(self) -> ReadingOptions:
        return ReadingOptions(
            max_seq_length=self.max_seq_length,
            stride=self.stride,
            max_query_length=self.max_query_length,
            max_batch_size=self.batch_size,
        )


def _scaling(*, scale_score: bool, factor: float | None) -> Callable[[float], float]:
    """Choose what turns log-odds into scores."""
    if not scale_score:
        return float
    if factor is None or not factor > 0:
        raise ValueError(f"calibration_factor is {factor}; with scale_score=True it must be above 0.")
    return lambda log_odds: sigmoid(factor * log_odds)


def _unique(documents: Iterable[Document]) -> list[Document]:
    """Keep of each id the document with the highest score, where the first of that id stands, as stock rankers do."""
    unique: dict[str, Document] = {}
    for document in documents:
        if document.id not in unique or _score(document) > _score(unique[document.id]):
            unique[document.id] = document
    return list(unique.values())


def _score(document: Document) -> float:
    return -math.inf if document.score is None else document.score
