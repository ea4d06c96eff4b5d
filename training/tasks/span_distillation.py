"""Span distillation: point at what a larger reader, of whatever tokenizer, points at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rom_haystack.inference.facts import facts_of
from training.errors import RecipeError, require
from training.tasks.base import Features
from training.tasks.pairs import PairOptions, encode_pairs, passage_positions, read_pairs, window_inputs, windows_of
from training.tasks.reading import PairTask
from training.tasks.teachers import asked, divergence, load_reader

if TYPE_CHECKING:
    from transformers import BatchEncoding

    from rom_haystack.modeling import ROMModel
    from training.data.dataset import Question


@dataclass(frozen=True)
class SpanDistillationOptions(PairOptions):
    """Options of `SpanDistillationTask`: those of pairs, and these.

    Args:
        teacher: Bundled name, folder or hub id of a ROM checkpoint or question answering model; must be given.
        temperature: Divisor of the teacher's and the student's logits. Above 1 the teacher's second thoughts count
            more; the loss is multiplied by its square, so that gradients keep their size.
        relevance_weight: Weight of the loss of passage relevance, against the teacher's probability that the passage
            answers the query. Leave it at 0 for teachers that came without relevance, as question answering models do.
    """

    teacher: str = ""
    temperature: float = 1.0
    relevance_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "teacher", bool(self.teacher), "a ROM checkpoint or question answering model")
        require(self, "temperature", self.temperature > 0, "above 0")


class SpanDistillationTask(PairTask):
    """Train the `reading` head towards a teacher's start and end distributions (Hinton et al., 2015, section 2).

    Teacher and student read the same window of a passage, each in its own tokens. A teacher's token that starts an
    answer stands for the student's token that holds its first character, one that ends an answer for the one that holds
    its last; the null positions stand for each other. So each of the teacher's two distributions becomes one over the
    student's tokens, and the loss is the mean Kullback-Leibler divergence of the student's from them. The answers in
    the data are not looked at, but to keep them out of negatives: train `reading` beside it to learn from both.

    The teacher reads in every step, anew.
    """

    Options = SpanDistillationOptions
    options: SpanDistillationOptions
    nothing_found = "no question there"

    teacher: ROMModel

    def load_teacher(self, model: ROMModel) -> None:
        """Load the teacher.

        Raises:
            RecipeError: It can't be loaded or does not read, or has no relevance, which the recipe asks for.
        """
        self.teacher, self._teacher_tokenizer = load_reader(
            self.options.teacher, "tasks.span_distillation.teacher", model.device
        )
        facts = facts_of(self.teacher, self._teacher_tokenizer)
        self._teacher_length, self._teacher_has_null = facts.max_length, facts.has_null
        if self.options.relevance_weight and not facts.has_relevance:
            found = self.options.relevance_weight
            raise RecipeError(
                f"Recipe key 'tasks.span_distillation.relevance_weight' is {found}, but teacher "
                f"'{self.options.teacher}' does not tell how relevant passages are; set it to 0, or choose another."
            )

    @classmethod
    def trains_on(cls, question: Question) -> bool:  # noqa: ARG003 (whatever it is)
        """Take every question."""
        return True

    def collate(self, items: Sequence[Question], rng: np.random.Generator) -> Features:
        """Tokenise a window of each pair for student and teacher, and align the teacher's tokens with the student's.

        Returns:
            `inputs` and `allowed` of the student, `teacher_inputs` and `teacher_allowed`, and `aligned`
            (`[2, pairs, teacher's length]`): the student's positions of the teacher's tokens, as starts and as ends.
        """
        texts = [self._passage_text(question, rng) for question in items]
        queries = [question.text for question in items]
        encoded = encode_pairs(self.tokenizer, self.options, queries, texts)
        windows = [found[int(rng.integers(len(found)))] for found in windows_of(encoded)]
        inputs, allowed = window_inputs(self.tokenizer, encoded, windows)
        bounds = [_bounds(encoded, window) for window in windows]
        taught = self._teacher_tokenizer(
            queries,
            [text[start:end] for text, (start, end) in zip(texts, bounds, strict=True)],
            truncation="longest_first",
            max_length=self._teacher_length,
            return_overflowing_tokens=False,
            return_offsets_mapping=True,
        )
        numbers = range(len(items))
        teacher_inputs, teacher_allowed = window_inputs(self._teacher_tokenizer, taught, numbers)
        teacher_allowed[:, 0] = ~teacher_allowed[:, 1:].any(1) | self._teacher_has_null
        aligned = torch.zeros(2, *teacher_allowed.shape, dtype=torch.long)
        for row, (window, text, (start, _)) in enumerate(zip(windows, texts, bounds, strict=True)):
            positions = passage_positions(taught, row)
            aligned[:, row, positions] = align(encoded, window, taught, row, text, start)
        return {
            "inputs": inputs,
            "allowed": allowed,
            "teacher_inputs": teacher_inputs,
            "teacher_allowed": teacher_allowed,
            "aligned": aligned,
        }

    def loss(self, model: ROMModel, features: Features) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the divergence of spans plus the weighted loss of relevance."""
        with asked(self.teacher) as teacher:
            taught = read_pairs(teacher, features["teacher_inputs"], self.options.chunk_size)
        outputs = read_pairs(model, features["inputs"], self.options.chunk_size)
        temperature, allowed = self.options.temperature, features["allowed"]
        loss, agreement = outputs["start_logits"].new_zeros((), dtype=torch.float32), []
        for side, aligned in zip(("start_logits", "end_logits"), features["aligned"], strict=True):
            logits = taught[side].float().masked_fill(~features["teacher_allowed"], -torch.inf)
            target = moved(torch.softmax(logits / temperature, -1), aligned, allowed.shape[1])
            loss = loss + divergence(target, outputs[side] / temperature, allowed) / 2
            choice = outputs[side].masked_fill(~allowed, -torch.inf).argmax(-1)
            agreement.append((choice == target.argmax(-1)).float().mean())
        loss = loss * temperature**2
        metrics = {"divergence": loss.detach(), "agreement": (agreement[0] + agreement[1]) / 2}
        if self.options.relevance_weight:
            relevance = functional.binary_cross_entropy_with_logits(
                outputs["relevance_logits"].float(), taught["relevance_logits"].float().sigmoid()
            )
            metrics["relevance_loss"] = relevance.detach()
            loss = loss + self.options.relevance_weight * relevance
        return loss, metrics


def moved(probabilities: Tensor, positions: Tensor, length: int) -> Tensor:
    """Move a teacher's probabilities to the student's tokens; those that meet add up.

    Args:
        probabilities: `[pairs, teacher's length]`.
        positions: `[pairs, teacher's length]`, where each goes.
        length: The student's.

    Returns:
        `[pairs, length]`.
    """
    target = probabilities.new_zeros(len(probabilities), length)
    return target.scatter_add(1, positions, probabilities)


def align(student: BatchEncoding, window: int, teacher: BatchEncoding, row: int, text: str, shift: int) -> Tensor:
    """Find the student's tokens that hold the first and the last characters of the teacher's tokens.

    White space at the edges of tokens does not count, as some tokenizers add it to words and others do not. Where a
    character is in no token of the student's, starts go to the next one and ends to the one before.

    Args:
        student: The student's pairs.
        window: Number of the window among them.
        teacher: The teacher's pairs, with text from that window only.
        row: Number of the pair among them.
        text: The whole passage's text.
        shift: Where the teacher's text starts in it.

    Returns:
        `[2, tokens]`, for each of the teacher's passage tokens the student's positions of its start and its end.
    """
    inside = np.array(passage_positions(student, window), dtype=np.int64)
    offsets = np.array([student["offset_mapping"][window][i] for i in inside], dtype=np.int64).reshape(-1, 2)
    taught = [teacher["offset_mapping"][row][i] for i in passage_positions(teacher, row)]
    bare = [_without_space(text, start + shift, end + shift) for start, end in taught]
    firsts, lasts = np.array(bare, dtype=np.int64).reshape(-1, 2).T
    starts = np.searchsorted(offsets[:, 1], firsts, side="right")
    ends = np.searchsorted(offsets[:, 0], lasts - 1, side="right") - 1
    return torch.from_numpy(inside[np.clip([starts, ends], 0, len(inside) - 1)])


def _without_space(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the bounds of a token without white space at its edges; of nothing but that, its own."""
    token = text[start:end]
    if not token.strip():
        return start, end
    return start + len(token) - len(token.lstrip()), end - len(token) + len(token.rstrip())


def _bounds(encoded: BatchEncoding, window: int) -> tuple[int, int]:
    """Return where a window's text starts and ends in its passage."""
    offsets = [encoded["offset_mapping"][window][i] for i in passage_positions(encoded, window)]
    return (offsets[0][0], offsets[-1][1]) if offsets else (0, 0)
