"""Two ways of answering side by side: what each is, how both are asked, and in what they differ."""

import re
from dataclasses import dataclass
from typing import get_args

from demo.core.asking import Asker
from demo.core.checkpoints import UNTUNED_BASE, Checkpoint
from demo.core.results import Quote, Result, Settings
from rom_haystack.components.extractive_reader import AdaptiveReading
from rom_haystack.modeling import DEFAULT_CHECKPOINT
from rom_haystack.pipelines import Retrieval

#: Numbers of passages that a side may read.
PASSAGES = (5, 10, 20, 50)

#: A bundled name or a hub id, which nothing but our own cache is looked through for; anything else is a path.
_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


@dataclass(frozen=True)
class Side:
    """One of the two ways, as the user chose it.

    Args:
        retrieval: How passages are found.
        passages: Most passages to read, one of `PASSAGES`.
        reading: Whether, and how soon, reading stops.
        model: Bundled name, folder or hub id of a checkpoint.
    """

    retrieval: Retrieval = "hybrid"
    passages: int = 10
    reading: AdaptiveReading = "off"
    model: str = DEFAULT_CHECKPOINT

    def __str__(self) -> str:
        """Write it as a link has it: `dense,10,off`, with the checkpoint where it is not the bundled one."""
        parts = [self.retrieval, str(self.passages), self.reading]
        return ",".join(parts if self.model == DEFAULT_CHECKPOINT else [*parts, self.model])

    @classmethod
    def parse(cls, text: str) -> "Side":
        """Read what `str` wrote.

        Raises:
            ValueError: It is none of that; the message names what is wrong.
        """
        retrieval, passages, reading, model = (*text.split(",", 3), "", "", "")[:4]
        for value, name, possible in (
            (retrieval, "retrieval", get_args(Retrieval)),
            (passages, "number of passages", tuple(map(str, PASSAGES))),
            (reading, "reading", get_args(AdaptiveReading)),
        ):
            if value not in possible:
                raise ValueError(f"The link asks for the {name} '{value}'; possible are {', '.join(possible)}.")
        return cls(retrieval, int(passages), reading, model or DEFAULT_CHECKPOINT)  # type: ignore[arg-type]  # checked

    @property
    def by_name(self) -> bool:
        """Whether the checkpoint is named, and is no path: a link may have names used, but no folder opened."""
        return bool(_NAME.fullmatch(self.model))

    def settings(self, found: Checkpoint) -> Settings:
        """Return how a question is asked, with the side's checkpoint as it was found."""
        return Settings(
            retrieval=self.retrieval,
            passages=self.passages,
            reading=self.reading,
            model=found.finds,
            reader=found.reads,
        )


@dataclass(frozen=True)
class Preset:
    """Two sides that are worth comparing.

    Attributes:
        name: In words.
        left: The one side.
        right: The other.
        why: What to look at.
    """

    name: str
    left: Side
    right: Side
    why: str


PRESETS = (
    Preset(
        "Exact against fast reading",
        Side(),
        Side(reading="fast"),
        "Fast reading stops once no further passage can plausibly change the best answer. Look at how many passages "
        "each side read, and at the times.",
    ),
    Preset(
        "Hybrid against dense search",
        Side(),
        Side(retrieval="dense"),
        "Hybrid search fuses keywords and meaning, dense search goes by meaning alone. Look at which passages are "
        "found by one side only.",
    ),
    Preset(
        "ROM against its untuned base",
        Side(retrieval="dense"),
        Side(retrieval="dense", model=UNTUNED_BASE),
        "The base finds passages without ROM's training; it can't read, so the same reader reads for both. Look at "
        "whether one shared encoder finds as well as the encoder that it came from.",
    ),
)


@dataclass(frozen=True)
class Comparison:
    """What both sides say to one question.

    Attributes:
        left: The one side's result.
        right: The other's.
    """

    left: Result
    right: Result

    @property
    def verdict(self) -> str:
        """In what the best answers differ, in a sentence."""
        left, right = self.left.quotes[:1], self.right.quotes[:1]
        if not left and not right:
            return "Neither side finds an answer."
        if not left or not right:
            return f"Only {'A' if left else 'B'} finds an answer."
        if _place(left[0]) == _place(right[0]):
            return "Both sides give the same best answer, from the same place."
        if left[0].text.casefold() == right[0].text.casefold():
            return "Both sides give the same best answer, from different places."
        return "The best answers differ."

    @property
    def passages_of_both(self) -> frozenset[str]:
        """Ids of the passages that both sides found."""
        left, right = (frozenset(found.document.id for found in side.passages) for side in (self.left, self.right))
        return left & right

    def ranks_on_the_other_side(self, result: Result) -> tuple[int | None, ...]:
        """Tell of each of a side's answers at which place the other side has it; None where it doesn't.

        Args:
            result: `left` or `right`.
        """
        other = self.right if result is self.left else self.left
        places = {_place(quote): rank for rank, quote in reversed(list(enumerate(other.quotes, start=1)))}
        return tuple(places.get(_place(quote)) for quote in result.quotes)


def compare(asker: Asker, question: str, left: Settings, right: Settings) -> Comparison:
    """Ask both sides, one after the other.

    Each is asked twice, and the second time counts: the first may have to load a model, and what the sides share,
    such as passages in tokens, would be a gift to the later one.

    Args:
        asker: The collection; it must be indexed for both sides' checkpoints.
        question: The question.
        left: How the one side is asked.
        right: How the other is.

    Raises:
        AskingError: A side can't be asked so.
    """
    for settings in (left, right):
        asker.answer(question, settings)
    return Comparison(asker.answer(question, left), asker.answer(question, right))


def _place(quote: Quote) -> tuple[str, int, int]:
    return quote.passage.document.id, quote.start, quote.end
