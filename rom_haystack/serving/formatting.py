"""Answers as Markdown, for chats: quotes in their sentences, with their sources."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rom_haystack.answers import NO_ANSWER_FOUND, place

#: Most nearest passages that are named where there is no answer.
_NEAREST = 5

# What Markdown, or the mathematics that chats add to it, would take for its own; an underscore within a word it won't.
# The last three make a link of a bare address: https://…, www.…, a@b.c.
_SPECIAL = re.compile(r"[\\`*\[\]<>~$]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=(?i:www))\.|@")
# The same for what would begin a list, a heading or a rule: a number with its dot, or one of these signs.
_AT_START = re.compile(r"^(\d{1,9}(?=[.)](?:\s|$))|(?=[-+#=]))")
_SPACE = re.compile(r"\s+")


def markdown(result: Mapping[str, Any]) -> Iterator[str]:
    """Write a result as Markdown, piece by piece: the best answer, further ones, and their sources last.

    A document's text is shown as it is: its own Markdown, links and images are never rendered.

    Args:
        result: As from `result_fields`.
    """
    if not result["answered"]:
        yield NO_ANSWER_FOUND
        yield from _nearest(result["passages"])
        return
    sources: dict[str, int] = {}
    for rank, answer in enumerate(result["answers"]):
        number = sources.setdefault(place(answer["document"]), len(sources) + 1)
        sentence, start, end = answer["sentence"], answer["sentence_start"], answer["sentence_end"]
        quoted = _marked(sentence[:start], sentence[start:end], sentence[end:])
        heading = f"{_marked('', answer['answer'], '')} ({answer['score']:.0%}) [{number}]"
        if rank == 0:
            yield f"{heading}\n\n> {quoted}\n"
        else:
            first = "\nFurther answers:\n\n" if rank == 1 else ""
            yield f"{first}- {heading}: {quoted}\n"
    yield "\nSources:\n\n"
    yield from (f"- [{number}] {escaped(source)}\n" for source, number in sources.items())


def _nearest(passages: list[Mapping[str, Any]]) -> Iterator[str]:
    places = list(dict.fromkeys(place(passage) for passage in passages))[:_NEAREST]
    if places:
        yield "\n\nNearest passages:\n\n"
    yield from (f"- {escaped(name)}\n" for name in places)


def escaped(text: str) -> str:
    """Write a text, on one line, so that Markdown shows it as it is."""
    return _line(_inline(text).strip())


def _marked(before: str, quote: str, after: str) -> str:
    """Write a sentence with its quote in bold, where Markdown can: not within a word if it ends in punctuation."""
    opens = quote[:1].isalnum() or not before[-1:].isalnum()
    closes = quote[-1:].isalnum() or not after[:1].isalnum()
    if not (quote and quote.strip() == quote and opens and closes):
        return escaped(f"{before}{quote}{after}")
    return _line(f"{_inline(before).lstrip()}**{_inline(quote)}**{_inline(after).rstrip()}")


def _inline(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", _SPACE.sub(" ", text))


def _line(text: str) -> str:
    return _AT_START.sub(r"\1\\", text)
