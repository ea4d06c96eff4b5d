"""Words for people: how sure an answer is, where it stands, and text that Markdown shows as it is."""

import re
from itertools import pairwise
from pathlib import PurePath

from haystack import Document

from demo.core.headings import section_at

_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")
# What Streamlit makes an icon or an emoji of even where it is escaped, unless something stands after the colon.
_ICON = re.compile(r":(?=\S)")
_WORD_JOINER = "\u2060"

#: Most characters of a question.
LONGEST_QUESTION = 500

# Scores, and which share of the best answers with such a score is right (F1 of 0.5 or more), by `python -m
# benchmarks.likelihoods`, of 1,000 questions of SQuAD dev. All of them have an answer there.
_RIGHT = (
    (0.528, 0.54),
    (0.58, 0.6),
    (0.622, 0.65),
    (0.644, 0.72),
    (0.663, 0.74),
    (0.678, 0.76),
    (0.688, 0.8),
    (0.707, 0.853),
    (0.722, 0.88),
    (0.734, 0.89),
    (0.754, 0.929),
)
# Least scores. Of the same answers 93, 83 and 64% are right from one word to the next; none scored below the last.
_LIKELIHOODS = ((0.74, "very likely"), (0.66, "likely"), (0.5, "unsure"))
# Of the second to fifth answers to the same questions, 36% are right from here on, and 12% below.
_POSSIBLE = 0.675


def chance(score: float) -> float:
    """Return the share of best answers with such a score that were right when it was measured.

    Args:
        score: A best answer's score, from 0 to 1.

    Returns:
        From 0 to 1, rising with the score.
    """
    if score <= _RIGHT[0][0]:
        return _RIGHT[0][1]
    for (low, least), (high, most) in pairwise(_RIGHT):
        if score <= high:
            return least + (most - least) * (score - low) / (high - low)
    return _RIGHT[-1][1]


def in_ten(share: float) -> str:
    """Write a share as so many of ten; nothing is certain, and nothing impossible."""
    return f"about {min(max(round(share * 10), 1), 9)} of 10"


def likelihood(score: float) -> str:
    """Say in words how likely the best answer is right.

    Args:
        score: Its score, from 0 to 1.
    """
    return next((word for least, word in _LIKELIHOODS if score >= least), "unlikely")


def further_likelihood(score: float) -> str:
    """Say in words how likely an answer is right that another one outdid.

    Its score is the probability that it answers the question if no other does.

    Args:
        score: Its score, from 0 to 1.
    """
    return "possible" if score >= _POSSIBLE else "unlikely"


def excerpt(text: str, length: int) -> str:
    """Write the beginning of a text on one line, up to the end of a word where there is more.

    Args:
        text: Any text.
        length: Most characters of it.
    """
    line = " ".join(text.split())
    return line if len(line) <= length else line[:length].rsplit(" ", 1)[0] + " …"


def too_long(question: str) -> str | None:
    """Say that a question is too long; None where it is not."""
    if len(question) <= LONGEST_QUESTION:
        return None
    return f"The question has {len(question):,} characters; the limit is {LONGEST_QUESTION}."


def percent(score: float) -> str:
    """Write a probability in percent; nothing is certain, and nothing impossible."""
    return f"{min(max(round(score * 100), 1), 99)}%"


def title_of(document: Document) -> str:
    """Return a document's title; its file where it has none, or only the file's name without its ending."""
    title, file = document.meta.get("title"), document.meta.get("file_path")
    if file and (not title or title == PurePath(file).stem):
        return str(file)
    return str(title or "Untitled")


def place_of(document: Document, page: int | None = None, at: int | None = None) -> str:
    """Say where a passage stands beside its title: page, or else section, and file.

    Args:
        document: The passage.
        page: The page of what is quoted; None for the one that the passage begins on.
        at: First character of what is quoted; None for the whole passage.
    """
    page = page or document.meta.get("page_number")
    file, title = document.meta.get("file_path"), title_of(document)
    content = document.content or ""
    section = None if page else section_at(content, len(content) if at is None else at)
    parts = [f"page {page}" if page else None, section if section != title else None, file if file != title else None]
    return ", ".join(str(part) for part in parts if part)


def duration(seconds: float) -> str:
    """Write a time as people read it."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def counted(count: int, one: str, many: str | None = None) -> str:
    """Write a number of things."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def literal(text: str) -> str:
    """Write a text so that Streamlit's Markdown, in labels and messages, shows it as it is.

    Args:
        text: Any text, such as a file's name.

    Returns:
        It on one line, with all that Markdown, mathematics, colours, icons and emojis might see in it escaped.
    """
    line = " ".join(text.split())
    return _PUNCTUATION.sub(r"\\\g<0>", _ICON.sub(f":{_WORD_JOINER}", line))
