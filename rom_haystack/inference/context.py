"""The text around an answer: its sentence, or a window of whole words."""

from __future__ import annotations

import re

#: Most characters of context on either side of the answer.
MAX_CONTEXT = 400

#: A line this long or longer was probably broken by a text width, not by its author.
_WRAPPED_LINE = 60

#: Initials (J. Smith, the U.S. Army) and abbreviations: after them, a full stop is rarely the end of a sentence.
_ABBREVIATION = re.compile(
    r"""\b(?: [^\W\d_] | (?:[^\W\d_]{1,2}\.)+[^\W\d_]
    | mr | mrs | ms | dr | prof | st | sr | jr | rev | hon | gen | col | sgt | capt | lt
    | no | nos | vol | pp | fig | figs | eq | ch | sec | art | al | cf | vs | ca | approx | est
    | inc | ltd | co | corp | dept | univ | jan | feb | mar | apr | jun | jul | aug | sept? | oct | nov | dec )$""",
    re.IGNORECASE | re.VERBOSE,
)

_CLOSING = "\"'”’»)\\]}」』）】〉》"
_BREAK = re.compile(
    rf"(?P<stop>[.!?…]+[{_CLOSING}]*(?=\s|$))"  # needs white space after it: not 3.14, not example.org
    rf"|(?P<mark>[。！？｡．؟۔।॥։።។။]+[{_CLOSING}]*)"
    r"|(?P<line>\r\n|[\n\r\v\f\x85\u2028\u2029])"
)


def sentence_around(text: str, start: int, end: int) -> tuple[int, int]:
    """Find the sentence, or sentences, in which a span stands.

    Sentences end at terminators (of many scripts) and at line ends, except after common abbreviations and initials,
    before a lower-case letter, and where a line was merely wrapped. At most `MAX_CONTEXT` characters are kept on
    either side, so the work does not grow with the text.

    Args:
        text: The whole text.
        start: First character of the span.
        end: Character after its last.

    Returns:
        Start and end of the context in `text`, without outer white space; the span lies inside.

    Raises:
        ValueError: The span is not inside the text.
    """
    _check_span(text, start, end)
    first, last = max(0, start - MAX_CONTEXT), min(len(text), end + MAX_CONTEXT)
    # One character more, so that what follows a terminator right before the span is seen.
    before = [m.end() for m in _BREAK.finditer(text, first, min(len(text), start + 1)) if _ends_sentence(text, m)]
    left = max((position for position in before if position <= start), default=_whole_word_start(text, first, start))
    after = (m for m in _BREAK.finditer(text, max(start, end - 1), last) if m.end() >= end)
    right = next((m.end() for m in after if _ends_sentence(text, m)), _whole_word_end(text, end, last))
    return _trim(text, left, right, start, end)


def window_around(text: str, start: int, end: int, size: int) -> tuple[int, int]:
    """Find a window of at most `size` characters with a span in its middle, cut at whole words.

    Near an end of the text the window reaches further to the other side.

    Args:
        text: The whole text.
        start: First character of the span.
        end: Character after its last.
        size: Most characters of the window, the span counted; a longer span is its own window.

    Returns:
        Start and end of the window in `text`, without outer white space; the span lies inside.

    Raises:
        ValueError: The span is not inside the text.
    """
    _check_span(text, start, end)
    room = max(0, size - (end - start))
    left = max(0, min(start - room // 2, len(text) - (end - start) - room))
    right = min(len(text), left + (end - start) + room)
    return _trim(text, _whole_word_start(text, left, start), _whole_word_end(text, end, right), start, end)


def _check_span(text: str, start: int, end: int) -> None:
    if not 0 <= start <= end <= len(text):
        raise ValueError(f"The span {start}:{end} is not inside a text of {len(text)} characters.")


def _ends_sentence(text: str, found: re.Match[str]) -> bool:
    if found["mark"]:
        return True
    if found["line"]:
        return not _is_wrapped(text, found)
    following = text[found.end() : found.end() + 4].lstrip(" \t")[:1]
    if following.islower():
        return False
    # Of what may stand here, only a single full stop is ambiguous.
    return found["stop"] != "." or not _ABBREVIATION.search(text, max(0, found.start() - 20), found.start())


def _is_wrapped(text: str, line_end: re.Match[str]) -> bool:
    """Tell a line broken by a text width from one that ends by intent."""
    if line_end[0] not in ("\n", "\r\n", "\r"):
        return False
    following = text[line_end.end() : line_end.end() + 1]
    long_line = not re.search(r"[\n\r]", text[max(0, line_end.start() - _WRAPPED_LINE) : line_end.start()])
    goes_on = following.isalnum() or following in tuple("([\"'“‘«")
    return following.islower() or (long_line and line_end.start() >= _WRAPPED_LINE and goes_on)


def _whole_word_start(text: str, left: int, start: int) -> int:
    """Move a cut to the next word's begin, unless the span's own word would be cut off or there is no space."""
    if left == 0 or text[left - 1].isspace():
        return left
    space = next((i for i in range(left, start) if text[i].isspace()), None)
    return left if space is None else space + 1


def _whole_word_end(text: str, end: int, right: int) -> int:
    if right == len(text) or text[right].isspace():
        return right
    return next((i for i in range(right - 1, end - 1, -1) if text[i].isspace()), right)


def _trim(text: str, left: int, right: int, start: int, end: int) -> tuple[int, int]:
    while left < start and text[left].isspace():
        left += 1
    while right > end and text[right - 1].isspace():
        right -= 1
    return left, right
