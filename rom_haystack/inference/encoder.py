"""The loaded model at work: encode queries, encode passages, read pairs, judge their relevance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from rom_haystack.inference.backends.base import Backend, Head, Outputs, TokenIds
from rom_haystack.inference.batching import length_bucketed_batches
from rom_haystack.inference.coalescing import Coalescer
from rom_haystack.inference.facts import ModelFacts, facts_of
from rom_haystack.inference.reading import Answer, ReadingOptions, ReadWindow, best_answers
from rom_haystack.inference.scores import ScoreCalibration
from rom_haystack.inference.spans import decode_spans
from rom_haystack.inference.stopping import OFF, StoppingRule, chosen_rule
from rom_haystack.inference.token_probabilities import TokenProbabilities, token_probabilities
from rom_haystack.inference.tokenization import Pairs, TextTokenizer
from rom_haystack.modeling.errors import MissingHeadError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rom_haystack.modeling import ROMModel

#: Tokens per call of the backend, padding counted. On CPUs larger calls are hardly faster, and others wait for them.
TOKEN_BUDGET = 4096
_ACCELERATOR_TOKEN_BUDGET = 32_768

#: Token budgets handed over in one go while embedding, after which a progress bar moves.
_BUDGETS_AT_ONCE = 4
#: Texts embedded, and characters of passages read, in one go, which bounds the memory of a long job.
_TEXTS_AT_ONCE = 16_384
_CHARACTERS_AT_ONCE = 2_000_000
#: Passages per stream of the engine that are read before one asks whether more are needed.
_ROUNDS_TO_SETTLE = 2
#: Spans decoded per answer that is wanted, as most overlap with better ones.
_SPANS_PER_ANSWER = 4


class ROMEncoder:
    """One model in memory that embeds queries and passages and reads answers; safe to use from several threads.

    Threads that use it at the same time share the backend's calls, and get what each would get alone.

    Args:
        backend: The engine with the model in it.
        tokenizer: The model's tokenizer.
        facts: The model's facts.
        stopping: By setting, when adaptive reading may stop. None for a model that was not calibrated for it.
        token_budget: Most tokens per call of the backend, padding counted.

    Attributes:
        backend: As given, and so `tokenizer`, `facts` and `stopping`.
        scores: What was measured of the checkpoint's answers; None unless it was loaded with such measurements.
    """

    def __init__(
        self,
        backend: Backend,
        tokenizer: TextTokenizer,
        facts: ModelFacts,
        *,
        stopping: Mapping[str, StoppingRule] | None = None,
        token_budget: int = TOKEN_BUDGET,
    ) -> None:
        self.backend = backend
        self.tokenizer = tokenizer
        self.facts = facts
        self.stopping = dict(stopping or {})
        self.scores: ScoreCalibration | None = None
        self._token_budget = token_budget
        self._coalescer = Coalescer(backend, token_budget=token_budget)

    @classmethod
    def from_model(
        cls, model: ROMModel, tokenizer: PreTrainedTokenizerBase, *, token_budget: int | None = None
    ) -> Self:
        """Run a model in torch.

        Args:
            model: A ROM model, in evaluation mode and on its device.
            tokenizer: Its (fast) tokenizer.
            token_budget: Most tokens per forward pass, padding counted. None for what suits the model's device.

        Raises:
            ValueError: The tokenizer can't tell where tokens stand in the text.
        """
        from rom_haystack.inference.backends.pytorch import TorchBackend  # noqa: PLC0415 (it imports torch)

        if not tokenizer.is_fast:
            raise ValueError("The checkpoint's tokenizer has no fast version, so answers would have no offsets.")
        if token_budget is None:
            token_budget = TOKEN_BUDGET if model.device.type == "cpu" else _ACCELERATOR_TOKEN_BUDGET
        facts = facts_of(model, tokenizer)
        backend = TorchBackend(
            model, pad_token_id=facts.pad_token_id, max_length=facts.max_length, token_budget=token_budget
        )
        return cls(backend, TextTokenizer(tokenizer.backend_tokenizer, facts), facts, token_budget=token_budget)

    @property
    def backend_name(self) -> str:
        """Engine and type of its arithmetic, such as `openvino-bfloat16`."""
        return self.backend.name

    @property
    def max_length(self) -> int:
        """Most tokens of one input, special tokens counted."""
        return self.facts.max_length

    @property
    def embedding_dim(self) -> int:
        """Width of the embeddings."""
        return self.facts.embedding_dim

    @property
    def separator(self) -> str:
        """What stands between title and text in a passage (`title [SEP] text`)."""
        return self.facts.separator

    def encode_queries(self, queries: Sequence[str], *, max_length: int = 64, **options: Any) -> NDArray[np.float32]:
        """Embed queries; see `encode_passages` for the options."""
        return self._embed(queries, max_length, **options)

    def encode_passages(self, passages: Sequence[str], *, max_length: int = 256, **options: Any) -> NDArray[np.float32]:
        """Embed passages, written as text or as title, `separator` and text.

        Args:
            passages: Any texts, the empty one included.
            max_length: Tokens per text; what is longer is cut.
            **options: `batch_size` (most texts per forward pass; None leaves it to the backend), `truncate_dim`
                (keep the first dimensions), `normalize` (scale to unit length; cosine checkpoints always do),
                `progress` (show a progress bar).

        Returns:
            `[len(passages), dim]` in float32.

        Raises:
            TypeError: A passage is not text, or `passages` is a single text.
            MissingHeadError: The model only reads.
            ValueError: A number is out of range; the message names it.
        """
        return self._embed(passages, max_length, **options)

    def read(
        self, queries: Sequence[str], passages: Sequence[str], options: ReadingOptions | None = None
    ) -> list[list[Answer]]:
        """Read answers in query-passage pairs, all pairs in one stream.

        Args:
            queries: One query per pair.
            passages: One passage per pair, of any length; long ones are read in overlapping windows.
            options: How to cut, decode and score. Default: `ReadingOptions()`.

        Returns:
            Per pair, its answers, best first; none where the passage has no tokens.

        Raises:
            ValueError: There are not as many queries as passages, or the model can't read windows of that length.
        """
        options = options or ReadingOptions()
        self._check_pairs(queries, passages, options)
        answers: list[list[Answer]] = []
        for piece in _pieces(passages):
            answers += self._read(queries[piece], passages[piece], options)
        return answers

    def read_in_turn(
        self,
        query: str,
        passages: Sequence[str],
        options: ReadingOptions | None = None,
        *,
        setting: str = OFF,
        group_size: int | None = None,
    ) -> Iterator[list[list[Answer]]]:
        """Read passages in their order, a few at a time, and give the answers of each group as soon as it is read.

        Args:
            query: The query.
            passages: As in `read`.
            options: As in `read`.
            setting: `off` reads all; `cautious` or `fast` stops by that setting of `stopping`, once no unread passage
                can plausibly change the best answer.
            group_size: Passages per group. None for as many as the backend runs at once, and at least 2.

        Returns:
            Group by group, each passage's answers. Groups that are not asked for are not read.

        Raises:
            ValueError: `group_size` is below 1, or the model was not calibrated for the setting, or not with this
                `passage_score_weight`.
        """
        options = options or ReadingOptions()
        rule = chosen_rule(self.stopping, setting, passage_score_weight=options.passage_score_weight)
        size = max(2, self.backend.parallel) if group_size is None else group_size
        if size < 1:
            raise ValueError(f"group_size is {group_size}; it must be at least 1.")
        return self._read_groups(query, passages, options, rule, size)

    def read_until_settled(
        self, query: str, passages: Sequence[str], options: ReadingOptions | None = None, *, setting: str
    ) -> list[list[Answer]]:
        """Read passages in their order until no unread one can plausibly change the best answer.

        Args:
            query: The query.
            passages: As in `read`, best first as they were retrieved.
            options: As in `read`.
            setting: As in `read_in_turn`.

        Returns:
            As `read` returns it; passages that were not read have no answers.

        Raises:
            ValueError: The model was not calibrated for the setting, or not with this `passage_score_weight`.
        """
        if setting == OFF:
            return self.read([query] * len(passages), passages, options)
        # Groups of one round of streams would each wait for their longest passage, which costs what stopping saves.
        size = _ROUNDS_TO_SETTLE * self.backend.parallel
        groups = self.read_in_turn(query, passages, options, setting=setting, group_size=size)
        found = [answers for group in groups for answers in group]
        return found + [[] for _ in passages[len(found) :]]

    def relevance(
        self, queries: Sequence[str], passages: Sequence[str], options: ReadingOptions | None = None
    ) -> list[float]:
        """Judge whether passages answer queries at all, all pairs in one stream.

        Args:
            queries: One query per pair.
            passages: One passage per pair, of any length; of a long one the most relevant window counts.
            options: How to cut; what concerns answers has no effect. Default: `ReadingOptions()`.

        Returns:
            Log-odds per pair; minus infinity where the passage has no tokens.

        Raises:
            MissingHeadError: The model does not read, or its reader came without relevance.
            ValueError: There are not as many queries as passages, or the model can't read windows of that length.
        """
        options = options or ReadingOptions()
        if not self.facts.has_relevance:
            raise MissingHeadError(
                "This model's reader finds answers but does not tell how relevant passages are, as it was made from a "
                "question answering model. Judge passages by another model, such as the bundled one."
            )
        self._check_pairs(queries, passages, options)
        best = [-math.inf] * len(passages)
        for piece in _pieces(passages):
            pairs, outputs = self._run_pairs(queries[piece], passages[piece], options)
            for owner, output in zip(pairs.owners, outputs, strict=True):
                best[piece.start + owner] = max(best[piece.start + owner], float(output["relevance_logits"]))
        return best

    def token_probabilities(
        self, queries: Sequence[str], passages: Sequence[str], options: ReadingOptions | None = None
    ) -> list[TokenProbabilities]:
        """Tell how likely answers begin and end at each token of passages: the numbers that `read` decodes.

        Args:
            queries: One query per pair.
            passages: One passage per pair, of any length.
            options: How to cut; what concerns answers has no effect. Default: `ReadingOptions()`.

        Returns:
            Per pair, probabilities with the tokens' characters, and the passage's relevance.

        Raises:
            ValueError: There are not as many queries as passages, or the model can't read windows of that length.
        """
        options = options or ReadingOptions()
        self._check_pairs(queries, passages, options)
        found: list[TokenProbabilities] = []
        for piece in _pieces(passages):
            pairs, outputs = self._run_pairs(queries[piece], passages[piece], options)
            bounds = np.searchsorted(pairs.owners, np.arange(len(passages[piece]) + 1)).tolist()
            found += [
                token_probabilities(pairs.windows[a:b], outputs[a:b], has_null=self.facts.has_null)
                for a, b in pairwise(bounds)
            ]
        return found

    def check_embeds(self) -> None:
        """Check that the model embeds at all.

        Raises:
            MissingHeadError: It only reads.
        """
        if not self.embedding_dim:
            raise MissingHeadError("This model only reads: it has no head 'retrieval' to embed with.")

    def clip_query(self, query: str, max_length: int) -> str:
        """Cut a query after at most `max_length` tokens."""
        return self.tokenizer.clip_query(query, max_length)

    def _embed(
        self,
        texts: Sequence[str],
        max_length: int,
        *,
        batch_size: int | None = None,
        truncate_dim: int | None = None,
        normalize: bool = False,
        progress: bool = False,
    ) -> NDArray[np.float32]:
        self._check_length(max_length)
        self._check_embedding(batch_size, truncate_dim)
        _check_texts(texts)
        embeddings = np.zeros((len(texts), self.embedding_dim), dtype=np.float32)
        budget = _BUDGETS_AT_ONCE * self._token_budget
        with tqdm(total=len(texts), desc="Embedding", unit="text", disable=not progress) as bar:
            for start in range(0, len(texts), _TEXTS_AT_ONCE):
                tokens = self.tokenizer.singles(texts[start : start + _TEXTS_AT_ONCE], max_length)
                for piece in length_bucketed_batches([len(ids) for ids in tokens], token_budget=budget):
                    outputs = self._coalescer.run([tokens[i] for i in piece], "retrieval", batch_size=batch_size)
                    embeddings[np.array(piece) + start] = [output["embedding"] for output in outputs]
                    bar.update(len(piece))
        embeddings = embeddings[:, :truncate_dim]
        if normalize or (truncate_dim and self.facts.similarity == "cosine"):
            embeddings /= np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
        return embeddings

    def _read_groups(
        self, query: str, passages: Sequence[str], options: ReadingOptions, rule: StoppingRule | None, size: int
    ) -> Iterator[list[list[Answer]]]:
        best = -math.inf
        for start in range(0, len(passages), size):
            group = passages[start : start + size]
            found = self.read([query] * len(group), group, options)
            yield found
            best = max([best, *(answers[0].logit for answers in found if answers)])
            if rule is not None and rule.settled(start + len(group), len(passages), best):
                return

    def _read(self, queries: Sequence[str], passages: Sequence[str], options: ReadingOptions) -> list[list[Answer]]:
        pairs, outputs = self._run_pairs(queries, passages, options)
        spans = decode_spans(
            [output["start_logits"] for output in outputs],
            [output["end_logits"] for output in outputs],
            pairs.windows,
            max_answer_length=options.max_answer_length,
            count=_SPANS_PER_ANSWER * options.answers_per_seq,
        )
        read: list[list[ReadWindow]] = [[] for _ in passages]
        for owner, window, found, output in zip(pairs.owners, pairs.windows, spans, outputs, strict=True):
            read[owner].append(ReadWindow(window, found, float(output["relevance_logits"])))
        return [
            best_answers(passage, windows, options) if windows else []
            for passage, windows in zip(passages, read, strict=True)
        ]

    def _run_pairs(
        self, queries: Sequence[str], passages: Sequence[str], options: ReadingOptions
    ) -> tuple[Pairs, list[Outputs]]:
        """Cut pairs into windows and run them: per window, its outputs."""
        pairs = self.tokenizer.pairs(
            queries,
            passages,
            max_seq_length=options.max_seq_length,
            stride=options.stride,
            max_query_length=options.max_query_length,
        )
        return pairs, self._run(pairs.tokens, "reading", batch_size=options.max_batch_size)

    def _run(self, inputs: Sequence[TokenIds], head: Head, *, batch_size: int | None) -> list[Outputs]:
        """Run the inputs longest first, which is fastest; give the outputs in the inputs' order."""
        order = sorted(range(len(inputs)), key=lambda i: -len(inputs[i]))
        outputs = dict(
            zip(order, self._coalescer.run([inputs[i] for i in order], head, batch_size=batch_size), strict=True)
        )
        return [outputs[i] for i in range(len(inputs))]

    def _check_pairs(self, queries: Sequence[str], passages: Sequence[str], options: ReadingOptions) -> None:
        if len(queries) != len(passages):
            raise ValueError(f"{len(queries)} queries for {len(passages)} passages: pairs need as many of both.")
        self._check_length(options.max_seq_length)

    def _check_length(self, length: int) -> None:
        if not 1 < length <= self.max_length:
            raise ValueError(
                f"A length of {length} tokens was asked for; this checkpoint takes 2 to {self.max_length}."
            )

    def _check_embedding(self, batch_size: int | None, truncate_dim: int | None) -> None:
        self.check_embeds()
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
        if truncate_dim is not None and not 1 <= truncate_dim <= self.embedding_dim:
            raise ValueError(
                f"truncate_dim is {truncate_dim}; this checkpoint's embeddings have 1 to {self.embedding_dim} "
                "dimensions."
            )


def _pieces(passages: Sequence[str]) -> Iterator[slice]:
    """Cut a list of passages where each piece has its fill of characters."""
    start = characters = 0
    for index, passage in enumerate(passages):
        characters += len(passage) + 1
        if characters > _CHARACTERS_AT_ONCE or index == len(passages) - 1:
            yield slice(start, index + 1)
            start, characters = index + 1, 0


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise TypeError("Texts to embed must come as a list, found a single str. Wrap it: [text].")
    wrong = next((type(text) for text in texts if not isinstance(text, str)), None)
    if wrong:
        raise TypeError(f"Texts to embed must be str, found {wrong}.")
