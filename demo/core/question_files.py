"""Files of questions with answers, as they are uploaded."""

import random
from dataclasses import dataclass
from functools import cached_property

from rom_haystack.inference.samples import SAMPLE_QUESTIONS
from rom_haystack.questions import Question, parse_questions

#: Name endings of the files that are read.
FILE_TYPES = ("csv", "tsv", "json", "jsonl")
#: Most bytes of a file. SQuAD 2.0's development set has 4.4 MB.
MAX_BYTES = 20 * 2**20
#: Most questions asked in one evaluation; of larger files, some are drawn.
MAX_ASKED = 5_000
#: Most characters of a question, and of a paragraph that comes with questions.
MAX_QUESTION, MAX_PARAGRAPH = 1_000, 100_000

_GZIP = b"\x1f\x8b"
_SEED = 13


class QuestionFileError(ValueError):
    """A file of questions can't be used; the message says why and what to do."""


@dataclass(frozen=True)
class QuestionSet:
    """Questions with answers.

    Attributes:
        name: Their file's name.
        questions: At least one. Those without answers are unanswerable.
    """

    name: str
    questions: tuple[Question, ...]

    @cached_property
    def unanswerable(self) -> int:
        """How many have no answer."""
        return sum(not question.answers for question in self.questions)

    @cached_property
    def on_paragraphs(self) -> bool:
        """Whether each comes with the paragraph that it is on."""
        return all(question.context for question in self.questions)

    def draw(self, count: int) -> tuple[Question, ...]:
        """Draw questions, the same ones every time, in the file's order; all of them where there are no more."""
        if count >= len(self.questions):
            return self.questions
        chosen = random.Random(_SEED).sample(range(len(self.questions)), count)  # noqa: S311 (no secret)
        return tuple(self.questions[index] for index in sorted(chosen))


def read_question_set(name: str, data: bytes) -> QuestionSet:
    """Read an uploaded file.

    Args:
        name: Its name.
        data: Its content.

    Raises:
        QuestionFileError: It is too large, of no form that is read, or has a mistake.
    """
    if len(data) > MAX_BYTES:
        raise QuestionFileError(
            f"{name} has {len(data) / 2**20:.1f} MB; the limit is {MAX_BYTES / 2**20:.0f} MB. Split it, or leave out "
            "questions."
        )
    if data.startswith(_GZIP):
        raise QuestionFileError(f"{name} is packed by gzip. Unpack it first.")
    try:
        questions = parse_questions(data, name)
    except ValueError as error:
        raise QuestionFileError(str(error)) from error
    for number, question in enumerate(questions, start=1):
        for what, text, most in (
            ("question", question.query, MAX_QUESTION),
            ("paragraph", question.context, MAX_PARAGRAPH),
        ):
            if len(text) > most:
                raise QuestionFileError(
                    f"{name}, question {number}: the {what} has {len(text):,} characters; the limit is {most:,}. "
                    "Shorten it, or leave it out."
                )
    return QuestionSet(name, tuple(questions))


def sample_question_set() -> QuestionSet:
    """The questions that are bundled with the sample articles."""
    return read_question_set("Questions on the sample articles.tsv", SAMPLE_QUESTIONS.read_bytes())
