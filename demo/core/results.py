"""How a question is asked, and what comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from haystack import Document

from rom_haystack.components.extractive_reader import AdaptiveReading
from rom_haystack.modeling import DEFAULT_CHECKPOINT
from rom_haystack.pipelines import Retrieval

#: Steps of answering, in their order, as in `Result.seconds`.
Stage = Literal["embed", "keyword search", "dense search", "fuse", "read"]


@dataclass(frozen=True)
class Settings:
    """How to answer a question.

    Args:
        retrieval: How passages are found: `hybrid`, `dense` or `keyword`.
        passages: Most passages to read.
        top_k: Most answers.
        reading: `off` reads all passages (exact); `cautious` and `fast` stop once no further one can plausibly change
            the best answer.
        model: Bundled name or folder of the checkpoint that finds passages.
        reader: Bundled name or folder of the checkpoint that reads answers. The same as `model` but where that can't
            read.
    """

    retrieval: Retrieval = "hybrid"
    passages: int = 10
    top_k: int = 5
    reading: AdaptiveReading = "off"
    model: str = DEFAULT_CHECKPOINT
    reader: str = DEFAULT_CHECKPOINT


@dataclass(frozen=True)
class FoundPassage:
    """A passage that was retrieved.

    Attributes:
        document: The passage, without embedding; its meta has `title`, `file_path`, `source_id`, `split_idx_start` and,
            where there are pages, `page_number`.
        score: By which it was ranked.
        keyword_rank: Its place in the keyword search, from 1; None where that did not find it, or was not asked.
        dense_rank: The same in the dense search.
    """

    document: Document
    score: float
    keyword_rank: int | None
    dense_rank: int | None


@dataclass(frozen=True)
class Quote:
    """An answer, word for word from a passage.

    Attributes:
        text: `passage.document.content[start:end]`.
        score: Probability that it answers the question, from 0 to 1.
        start: First character in the passage.
        end: Character after the last.
        sentence: The sentence around it, from the passage.
        sentence_start: First character of the quote in the sentence.
        sentence_end: Character after the last.
        page: Its page; None where the document has none.
        passage: Where it stands.
    """

    text: str
    score: float
    start: int
    end: int
    sentence: str
    sentence_start: int
    sentence_end: int
    page: int | None
    passage: FoundPassage


@dataclass(frozen=True)
class Result:
    """What is known of a question's answers, so far or in the end.

    Attributes:
        question: The question.
        settings: How it was asked.
        quotes: Best first, at most `settings.top_k`. Empty where "no answer" is likelier than the best one.
        doubtful: Where there are no `quotes`, those that "no answer" outdid, best first.
        no_answer_score: Probability that no passage answers the question.
        passages: All that were retrieved, best first.
        read: How many of `passages` were read so far.
        finished: Whether this is the last word.
        seconds: Time that each stage took so far.
        engine: What the model runs on, such as `openvino-bfloat16`.
    """

    question: str
    settings: Settings
    quotes: tuple[Quote, ...]
    doubtful: tuple[Quote, ...]
    no_answer_score: float
    passages: tuple[FoundPassage, ...]
    read: int
    finished: bool
    seconds: Mapping[Stage, float]
    engine: str
