"""Queries and documents to quoted answers."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from haystack import Document, ExtractedAnswer, component, logging
from haystack.tracing.tracer import tracer
from haystack.utils import ComponentDevice, Secret

from rom_haystack.components._documents import is_readable, readable_ones, warn_of_textless
from rom_haystack.components._encoder_user import HUB_TOKEN, BackendName, EncoderUser
from rom_haystack.components._queries import check_groups, check_query, check_top_k
from rom_haystack.components._quotes import quote, rank, with_no_answer
from rom_haystack.inference import Answer, ReadingOptions, ROMEncoder
from rom_haystack.modeling import DEFAULT_CHECKPOINT

logger = logging.getLogger(__name__)

#: Whether, and how soon, reading stops once no further document can plausibly change the best answer.
AdaptiveReading = Literal["off", "cautious", "fast"]


class _Scoring(NamedTuple):
    """How log-odds become scores, and from where on they speak for an answer."""

    factor: float
    no_answer_logit: float = 0.0


class _Selection(NamedTuple):
    """Which answers are wanted, as `run` names it."""

    top_k: int
    score_threshold: float | None
    no_answer: bool


@component
class ROMExtractiveReader(EncoderUser):
    """Find answers to a query in documents, as quotes with their places.

    Takes the place of `TransformersExtractiveReader` by class name alone. Every answer's score is on one scale: the
    probability that the span answers the query, from its log-odds against the null position and its passage's
    relevance. So scores compare across documents, and with the no-answer candidate, whose score is 1 minus the best
    answer's.

    ```python
    from haystack import Document
    from rom_haystack import ROMExtractiveReader

    reader = ROMExtractiveReader(top_k=3)
    documents = [Document(content="Radium was discovered by Marie and Pierre Curie in 1898.")]
    answers = reader.run("Who discovered radium?", documents)["answers"]
    ```

    Args:
        model: Bundled name, folder or hub id of a ROM checkpoint. A DPR reader or a model for question answering
            becomes one, once, in the user's cache. DPR's reader knows no null position and so no no-answer: set
            `no_answer=False` (else a warning says so), and `passage_score_weight=1.0` to rank as DPR does.
        device: Where the model runs; None picks the machine's default when the model is loaded.
        token: Access token for a private hub id.
        top_k: Most answers, the no-answer counted (the stock reader returns one more).
        score_threshold: Drop answers with a lower score, the no-answer too.
        max_seq_length: Tokens per window, query included; longer documents are read in several windows.
        stride: Tokens that neighbouring windows share.
        max_batch_size: Most windows per forward pass; None leaves it to the encoder's token budget.
        answers_per_seq: Most answers per document. None for 20.
        no_answer: Add the candidate "there is no answer here", with `data` and `document` None.
        calibration_factor: Multiplies an answer's log-odds before they become a probability. The stock reader's 0.1
            tempers raw logits; ours are log-odds against the null position, and the default fits the bundled
            checkpoint on retrieved passages (`python -m training evaluate` prints the best factor). None takes what was
            measured for the checkpoint (`python -m training calibrate`): its factor, and the log-odds below which its
            answers come after the no-answer, from which scores then count; where nothing was measured, None is the
            default.
        overlap_threshold: Of two answers of one document, the lower is dropped if they share more than this fraction
            of either; None keeps both.
        model_kwargs: Options for loading the model, such as `{"dtype": "bfloat16"}`; types are as in `ROMTextEmbedder`,
            and options other than the type are for torch. A `device_map` that names one device takes the place of
            `device`.
        max_answer_length: Tokens of the longest answer.
        max_query_length: Tokens of the query that are kept.
        passage_score_weight: Weight of the passage's relevance against the span's own score, from 0 to 1.
        context_window_size: Most characters of an answer's `context`, the answer counted, in whole words, as in
            Haystack 1.x. None for the sentence around the answer.
        tokenizer_kwargs: Options for loading the tokenizer.
        backend: Inference engine: `torch`, `onnx` or `openvino`. `auto` picks the fastest one that is installed and
            faithful on this machine, measured once; where it can't, and on GPUs, that is torch. `ROM_BACKEND` in the
            environment says what `auto` means.
        revision: Branch, tag or commit of a hub id.
        local_files_only: Never ask the hub.
        adaptive_reading: `off` reads all documents. `cautious` and `fast` read them in the order given, best retrieved
            first, and stop once no unread one can plausibly change the best answer; then only the documents that were
            read have answers. How plausible was measured for the checkpoint, with its default `passage_score_weight`
            (`python -m training calibrate`).

    Raises:
        ValueError: A value is out of range; the message names it.
    """

    def __init__(
        self,
        model: Path | str = DEFAULT_CHECKPOINT,
        device: ComponentDevice | None = None,
        token: Secret | None = HUB_TOKEN,
        top_k: int = 20,
        score_threshold: float | None = None,
        max_seq_length: int = 384,
        stride: int = 128,
        max_batch_size: int | None = None,
        answers_per_seq: int | None = None,
        no_answer: bool = True,
        calibration_factor: float | None = 0.15,
        overlap_threshold: float | None = 0.01,
        model_kwargs: dict[str, Any] | None = None,
        *,
        max_answer_length: int = 30,
        max_query_length: int = 64,
        passage_score_weight: float = 0.5,
        context_window_size: int | None = None,
        tokenizer_kwargs: dict[str, Any] | None = None,
        backend: BackendName = "auto",
        revision: str | None = None,
        local_files_only: bool = False,
        adaptive_reading: AdaptiveReading = "off",
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
        self.top_k = top_k
        self.score_threshold = score_threshold
        self.max_seq_length = max_seq_length
        self.stride = stride
        self.max_batch_size = max_batch_size
        self.answers_per_seq = answers_per_seq
        self.no_answer = no_answer
        self.calibration_factor = calibration_factor
        self.overlap_threshold = overlap_threshold
        self.max_answer_length = max_answer_length
        self.max_query_length = max_query_length
        self.passage_score_weight = passage_score_weight
        self.context_window_size = context_window_size
        self.adaptive_reading = adaptive_reading
        check_top_k(top_k)
        self._reading_options()  # bad values fail here, not at the first question
        if context_window_size is not None and context_window_size < 1:
            raise ValueError(f"context_window_size is {context_window_size}; it must be at least 1, or None.")
        if adaptive_reading not in get_args(AdaptiveReading):
            settings = ", ".join(get_args(AdaptiveReading))
            raise ValueError(f"adaptive_reading is '{adaptive_reading}'; choose one of {settings}.")

    @component.output_types(answers=list[ExtractedAnswer])
    def run(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
        max_seq_length: int | None = None,
        stride: int | None = None,
        max_batch_size: int | None = None,
        answers_per_seq: int | None = None,
        no_answer: bool | None = None,
        overlap_threshold: float | None = None,
    ) -> dict[str, Any]:
        """Find answers to one query.

        Args:
            query: The question.
            documents: Where to look, best retrieved first. Those without text are skipped, repeated ones read once.
            top_k: Here and below, None for the value given at construction; 0 is 0.
            score_threshold: See the class.
            max_seq_length: See the class.
            stride: See the class.
            max_batch_size: See the class.
            answers_per_seq: See the class.
            no_answer: See the class.
            overlap_threshold: See the class.

        Returns:
            `answers`, best first, at most `top_k`. Of each, `document.content` from `document_offset.start` to
            `document_offset.end` is `data`, and so is `context` from `context_offset.start` to `context_offset.end`.
            `meta["answer_page_number"]` is there where the document's meta has a `page_number`.

        Raises:
            ValueError: The query is blank, a value is out of range, or the checkpoint has no measurements for
                `adaptive_reading`.
        """
        nested = self.run_batch(
            [query],
            [documents],
            top_k=top_k,
            score_threshold=score_threshold,
            max_seq_length=max_seq_length,
            stride=stride,
            max_batch_size=max_batch_size,
            answers_per_seq=answers_per_seq,
            no_answer=no_answer,
            overlap_threshold=overlap_threshold,
        )
        return {"answers": nested["answers"][0]}

    @component.output_types(answers=list[ExtractedAnswer])
    async def run_async(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
        max_seq_length: int | None = None,
        stride: int | None = None,
        max_batch_size: int | None = None,
        answers_per_seq: int | None = None,
        no_answer: bool | None = None,
        overlap_threshold: float | None = None,
    ) -> dict[str, Any]:
        """Do what `run` does, in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(
            self.run,
            query,
            documents,
            top_k,
            score_threshold,
            max_seq_length,
            stride,
            max_batch_size,
            answers_per_seq,
            no_answer,
            overlap_threshold,
        )

    def run_batch(
        self,
        queries: list[str],
        documents: list[list[Document]],
        *,
        top_k: int | None = None,
        score_threshold: float | None = None,
        no_answer: bool | None = None,
        **reading: Any,
    ) -> dict[str, list[list[ExtractedAnswer]]]:
        """Find answers to several queries, each in documents of its own, all read in one stream.

        With adaptive reading, one query after the other.

        Args:
            queries: The questions.
            documents: One list of documents per query.
            top_k: As in `run`.
            score_threshold: As in `run`.
            no_answer: As in `run`.
            **reading: `max_seq_length`, `stride`, `max_batch_size`, `answers_per_seq` and `overlap_threshold`, as in
                `run`.

        Returns:
            `answers`: one list per query, as in `run`.

        Raises:
            ValueError: A query is blank, a value is out of range, there are not as many queries as lists, or the
                checkpoint has no measurements for `adaptive_reading`.
        """
        check_groups(queries, documents)
        selection = self._selection(top_k, score_threshold, no_answer=no_answer)
        options = self._reading_options(**reading)
        if selection.top_k == 0:
            return {"answers": [[] for _ in queries]}
        readable = [readable_ones(group) for group in documents]
        warn_of_textless(document for group in documents for document in group if not is_readable(document))
        scoring = self._scoring(options) if any(readable) else _Scoring(options.calibration_factor)
        options = replace(options, calibration_factor=scoring.factor)
        found = self._read(queries, readable, options)
        nested = [
            self._quotes(query, group, answers, selection, scoring)
            for query, group, answers in zip(queries, readable, found, strict=True)
        ]
        return {"answers": nested}

    def run_in_turn(
        self,
        query: str,
        documents: list[Document],
        *,
        top_k: int | None = None,
        score_threshold: float | None = None,
        no_answer: bool | None = None,
        group_size: int | None = None,
        **reading: Any,
    ) -> Iterator[dict[str, Any]]:
        """Find answers to one query, and give those that are known after each group of documents.

        Args:
            query: As in `run`.
            documents: As in `run`.
            top_k: As in `run`.
            score_threshold: As in `run`.
            no_answer: As in `run`.
            group_size: Documents per group. None for as many as the engine reads at once, and at least 2.
            **reading: As in `run_batch`.

        Returns:
            After each group: `answers` so far, as in `run`, and `read`, how many documents were read by then; at least
            once, the last `answers` being those of `run`. Groups that are not asked for are not read.

        Raises:
            ValueError: As from `run`, or `group_size` is below 1.
        """
        check_query(query)
        selection = self._selection(top_k, score_threshold, no_answer=no_answer)
        options = self._reading_options(**reading)
        readable = readable_ones(documents)
        warn_of_textless(document for document in documents if not is_readable(document))
        if not readable or selection.top_k == 0:
            nothing = self._quotes(query, [], [], selection, _Scoring(options.calibration_factor))
            return iter([{"answers": nothing, "read": 0}])
        scoring = self._scoring(options)
        groups = self._warm_encoder().read_in_turn(
            query,
            [document.content or "" for document in readable],
            replace(options, calibration_factor=scoring.factor),
            setting=self.adaptive_reading,
            group_size=group_size,
        )
        return self._growing(query, readable, groups, selection, scoring)

    def _growing(
        self,
        query: str,
        documents: list[Document],
        groups: Iterator[list[list[Answer]]],
        selection: _Selection,
        scoring: _Scoring,
    ) -> Iterator[dict[str, Any]]:
        found: list[list[Answer]] = []
        for group in groups:
            found += group
            quotes = self._quotes(query, documents[: len(found)], found, selection, scoring)
            yield {"answers": quotes, "read": len(found)}

    def _selection(self, top_k: int | None, score_threshold: float | None, *, no_answer: bool | None) -> _Selection:
        top_k = self.top_k if top_k is None else top_k
        check_top_k(top_k)
        return _Selection(
            top_k,
            self.score_threshold if score_threshold is None else score_threshold,
            self.no_answer if no_answer is None else no_answer,
        )

    def _quotes(
        self,
        query: str,
        documents: list[Document],
        found: list[list[Answer]],
        selection: _Selection,
        scoring: _Scoring,
    ) -> list[ExtractedAnswer]:
        """Choose from what was read in the documents."""
        ranked = rank(documents, found, scoring.factor, scoring.no_answer_logit)
        if selection.no_answer:
            ranked = with_no_answer(ranked, scoring.factor, scoring.no_answer_logit)
        least = selection.score_threshold
        kept = [(answer, document) for answer, document in ranked if least is None or answer.score >= least]
        return [quote(query, *answer, self.context_window_size) for answer in kept[: selection.top_k]]

    def _warm_encoder(self) -> ROMEncoder:
        cold = self._encoder is None
        encoder = EncoderUser._warm_encoder(self)  # noqa: SLF001 (our own; not super(), as in __init__)
        if cold and self.no_answer and not encoder.facts.has_null:
            logger.warning(
                "The reader of '{model}' can't tell that there is no answer, so the score of its no-answer means "
                "nothing beside those of answers. Set no_answer=False.",
                model=self.model,
            )
        return encoder

    def _reading_options(self, **given: Any) -> ReadingOptions:
        """Merge a run's values over the component's; None is "not given" in both."""
        names = ("max_seq_length", "stride", "max_batch_size", "answers_per_seq")
        values = {name: getattr(self, name) for name in names} | {n: v for n, v in given.items() if v is not None}
        return ReadingOptions(
            **{
                "overlap_threshold": self.overlap_threshold,
                "max_answer_length": self.max_answer_length,
                "max_query_length": self.max_query_length,
                "passage_score_weight": self.passage_score_weight,
                **({} if self.calibration_factor is None else {"calibration_factor": self.calibration_factor}),
                **{name: value for name, value in values.items() if value is not None},
            }
        )

    def _read(
        self, queries: Sequence[str], documents: Sequence[list[Document]], options: ReadingOptions
    ) -> list[list[list[Answer]]]:
        """Read each query's documents; per query and document, its answers."""
        texts = [[document.content or "" for document in group] for group in documents]
        pairs = [(query, text) for query, group in zip(queries, texts, strict=True) for text in group]
        if not pairs:
            return [[] for _ in queries]
        encoder = self._warm_encoder()
        tags = {"rom_haystack.model": self.model, "rom_haystack.pairs": len(pairs)}
        with tracer.trace("rom_haystack.read", tags, tracer.current_span()):
            if self.adaptive_reading != "off":
                return [
                    encoder.read_until_settled(query, group, options, setting=self.adaptive_reading)
                    for query, group in zip(queries, texts, strict=True)
                ]
            answers = iter(encoder.read([query for query, _ in pairs], [text for _, text in pairs], options))
        return [[next(answers) for _ in group] for group in texts]

    def _scoring(self, options: ReadingOptions) -> _Scoring:
        """Return how answers are scored: as given, or as it was measured for the checkpoint where that is wanted."""
        scores = self._warm_encoder().scores if self.calibration_factor is None else None
        if scores is None:
            return _Scoring(options.calibration_factor)
        if scores.passage_score_weight != options.passage_score_weight:
            raise ValueError(
                f"passage_score_weight is {options.passage_score_weight}, but how this checkpoint's answers are scored "
                f"was measured with {scores.passage_score_weight}. Use that weight, or give a calibration_factor."
            )
        return _Scoring(scores.calibration_factor, scores.no_answer_logit)
