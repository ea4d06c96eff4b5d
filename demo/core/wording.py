"""Words for people: how sure an answer is, where it stands, and text that Markdown shows as it is."""

import re
from pathlib import PurePath

from haystack import Document

from demo.core.headings import section_at

_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")
# What Streamlit makes an icon or an emoji of even where it is escaped, unless something stands after the colon.
_ICON = re.compile(r":(?=\S)")
_WORD_JOINER = "\u2060"

# Least scores, by `python -m benchmarks.likelihoods`: of the best answers to 1,000 questions of SQuAD dev, 93, 76, 51
# and 15% are right (F1 of 0.5 or more) from one word to the next.
_LIKELIHOODS = ((0.725, "very likely"), (0.675, "likely"), (0.55, "unsure"))
# Of the second to fifth answers to the same questions, 29% are right from here on, and 10% below.
_POSSIBLE = 0.675


def likelihood(score: float) -> str:
    """Say in words how likely an answer is right.

    Args:
        score: Its probability, from 0 to 1.
    """
    return next((word for least, word in _LIKELIHOODS if score >= least), "unlikely")


def further_likelihood(score: float) -> str:
    """Say in words how likely an answer is right that another one outdid.

    Its score is the probability that it answers the question if no other does.

    Args:
        score: Its score, from 0 to 1.
    """
    return "possible" if score >= _POSSIBLE else "unlikely"


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
