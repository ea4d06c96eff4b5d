"""Reader distillation: rank passages as a reader finds answers in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rom_haystack.inference.facts import facts_of
from training.data.numbered import numbered, those
from training.errors import RecipeError, require
from training.tasks.base import Features, QuestionTask
from training.tasks.contrast import embed, tokenize
from training.tasks.pairs import WindowOptions, encode_pairs, window_inputs
from training.tasks.teachers import asked, divergence, load_reader
from training.towers import query_tower

if TYPE_CHECKING:
    from rom_haystack.modeling import ROMModel
    from training.data.dataset import DataSet, Question

#: Tokens of the longest answer, and weight of relevance against the span, as in reading (`ReadingOptions`).
_LONGEST_ANSWER = 30
_RELEVANCE = 0.5
#: Log-odds of a passage without a token.
_NOTHING = -1e4


@dataclass(frozen=True)
class ReaderDistillationOptions(WindowOptions):
    """Options of `ReaderDistillationTask`: those of windows, which the reader reads, and these.

    Args:
        candidates: Passages per question, at most: the gold one and others.
        max_passage_length: Tokens per passage, as the retriever sees it.
        temperature: Divisor of the retriever's similarities.
        teacher: Bundled name, folder or hub id of a ROM checkpoint or question answering model that reads; None for the
            model itself, as it reads at the moment.
        teacher_temperature: Divisor of the teacher's log-odds. The higher, the more even the targets.
    """

    batch_size: int = 8
    candidates: int = 8
    max_passage_length: int = 256
    temperature: float = 0.05
    teacher: str | None = None
    teacher_temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "candidates", self.candidates >= 2, "at least 2")
        require(self, "max_passage_length", self.max_passage_length >= 4, "at least 4")
        require(self, "temperature", self.temperature > 0, "above 0")
        require(self, "teacher", self.teacher is None or bool(self.teacher), "a reader's name, or left out")
        require(self, "teacher_temperature", self.teacher_temperature > 0, "above 0")


class ReaderDistillationTask(QuestionTask):
    """Train the `retrieval` head towards a reader's scores of a question's candidates.

    The reader's scores, through a softmax over the candidates, are what the retriever's similarities should be: the
    loss is the mean Kullback-Leibler divergence (Izacard and Grave, 2021, section 3; of an extractive reader, as here,
    Yang and Seo, 2020, RDR). No gradient reaches the reader. A passage's score is its best answer's log-odds, of span
    and relevance, in its best window.

    Candidates are the gold passage and hard negatives of the question, drawn anew each time; where the data names none,
    other passages of its article. A reader that has not learnt to read teaches noise: name a teacher, or let this task
    come in a later stage of `sequential` or `annealed`.
    """

    Options = ReaderDistillationOptions
    options: ReaderDistillationOptions
    head = "retrieval"
    nothing_found = "no question there has hard negatives, or other passages of its article"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._teacher_tokenizer = self.tokenizer

    @classmethod
    def items_of(cls, data: DataSet) -> Sequence[Question]:
        """Return the questions with candidates beside the gold passage."""
        passages = numbered(data.passages)

        def has_candidates(question: Question) -> bool:
            if question.unanswerable or question.hard_negative_ids:
                return not question.unanswerable
            return len(passages.article(data.passages[question.passage_id].title)) > 1

        return those(data.questions, has_candidates)

    def load_teacher(self, model: ROMModel) -> None:
        """Load the teacher, if it is not the model itself.

        Raises:
            RecipeError: It can't be loaded or does not read, or takes shorter pairs; or no teacher is named, and the
                model does not read.
        """
        key = "tasks.reader_distillation"
        if self.options.teacher is not None:
            self.teacher, self._teacher_tokenizer = load_reader(self.options.teacher, f"{key}.teacher", model.device)
        elif "reading" not in model.config.heads:
            raise RecipeError(f"Recipe key '{key}' needs a reader, and this model has none; name a '{key}.teacher'.")
        longest = facts_of(self.teacher or model, self._teacher_tokenizer).max_length
        if self.options.max_length > longest:
            found = self.options.max_length
            raise RecipeError(f"Recipe key '{key}.max_length' is {found}; the reader takes at most {longest} tokens.")

    def collate(self, items: Sequence[Question], rng: np.random.Generator) -> Features:
        """Draw candidates; tokenise queries and passages for the retriever, and their pairs for the reader.

        Returns:
            `queries` and `passages` (each passage once), `candidates` (`[queries, passages]`), and the reader's
            `windows` with what is `allowed` in them and which candidate each belongs to (`pairs`, counted row by row).
        """
        drawn = [self._draw(question, rng) for question in items]
        names = list(dict.fromkeys(name for candidates in drawn for name in candidates))
        candidates = torch.tensor([[name in some for name in names] for some in drawn])
        pairs = candidates.nonzero().tolist()
        queries, texts = [question.text for question in items], [self.passages[name].text for name in names]
        encoded = encode_pairs(
            self._teacher_tokenizer, self.options, [queries[i] for i, _ in pairs], [texts[j] for _, j in pairs]
        )
        windows, allowed = window_inputs(self._teacher_tokenizer, encoded, range(len(encoded["input_ids"])))
        return {
            "queries": tokenize(self.tokenizer, queries, self.options.max_query_length),
            "passages": tokenize(self.tokenizer, texts, self.options.max_passage_length),
            "candidates": candidates,
            "windows": windows,
            "allowed": allowed,
            "pairs": torch.tensor(encoded["overflow_to_sample_mapping"]),
        }

    def loss(self, model: ROMModel, features: Features) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the divergence of the retriever's choice among candidates from the reader's."""
        candidates = features["candidates"]
        with asked(self.teacher or model) as reader:
            scores = answer_log_odds(reader, features["windows"], features["allowed"])
        best = scores.new_full((int(candidates.sum()),), _NOTHING)
        best = best.scatter_reduce(0, features["pairs"], scores, "amax")
        wanted = torch.full(candidates.shape, -torch.inf, device=scores.device).masked_scatter(candidates, best)
        target = torch.softmax(wanted / self.options.teacher_temperature, -1)
        queries, passages = embed(query_tower(model), features["queries"]), embed(model, features["passages"])
        similarities = queries @ passages.T / self.options.temperature
        loss = divergence(target, similarities, candidates)
        same = similarities.masked_fill(~candidates, -torch.inf).argmax(-1) == target.argmax(-1)
        return loss, {"divergence": loss.detach(), "agreement": same.float().mean()}

    def _draw(self, question: Question, rng: np.random.Generator) -> list[str]:
        others: Sequence[str] = question.hard_negative_ids
        if not others:
            gold = self.numbered.number(question.passage_id)
            article = self.numbered.article(self.passages[question.passage_id].title)
            others = self.numbered.ids([number for number in article if number != gold])
        drawn = rng.permutation(len(others))[: self.options.candidates - 1]
        return [question.passage_id, *(others[i] for i in drawn)]


def answer_log_odds(model: ROMModel, windows: dict[str, Tensor], allowed: Tensor) -> Tensor:
    """Score windows as reading scores their best answers: the mean of span and relevance, each in log-odds.

    Args:
        model: Its `reading` head is asked. Of one that knows no relevance, the span alone counts.
        windows: Inputs of the model.
        allowed: `[windows, length]`, the passage's tokens and the null position.

    Returns:
        `[windows]`, in float32; minus infinity where a window has no token of the passage.
    """
    outputs = model(**windows, head="reading")
    start, end = outputs["start_logits"].float(), outputs["end_logits"].float()
    nothing = start[:, 0] + end[:, 0]
    inside = allowed.clone()
    inside[:, 0] = False
    start, end = (logits.masked_fill(~inside, -torch.inf) for logits in (start, end))
    length = start.shape[1]
    spans = [
        (start[:, : length - more] + end[:, more:]).amax(-1) for more in range(min(_LONGEST_ANSWER, length))
    ]  # of one token, of two, …
    span: Tensor = (torch.stack(spans).amax(0) - nothing) / 2
    if not getattr(model.heads["reading"], "has_relevance", True):
        return span
    relevance: Tensor = outputs["relevance_logits"].float()
    return (1 - _RELEVANCE) * span + _RELEVANCE * relevance
