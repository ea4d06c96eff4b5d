"""Whether retrieved passages hold an answer, by DPR's rule (Karpukhin et al., 2020, section 5.1).

Texts are compared as tokens of their canonical decomposition (NFD), case aside. A token is a run of letters, digits
and marks, or any other single character that is neither space nor control, format or unassigned character. So "Zoe"
stands not in "Zoë came", and a soft hyphen parts a word.

Two things differ from DPR's code. An answer without a token counts for nothing; DPR finds it everywhere. And what a
letter is, is up to the Unicode tables of this Python, which may be younger or older than those of another library.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence


class _Parts(dict[int, str]):
    """What `str.translate` makes of a character, looked up when it first comes: itself, a token of its own, a gap."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kind = unicodedata.category(character)[0]
        part = character if kind in "LNM" else f" {character} "
        self[code] = " " if kind in "ZC" else part
        return self[code]


_PARTS = _Parts()


def answer_tokens(text: str) -> str:
    """Write a text as lower-cased tokens with a space on both sides of each, ready for `has_answer`'s comparison."""
    # Parted first, lowered after: a Greek sigma is lowered by its place in the token.
    return f" {' '.join(unicodedata.normalize('NFD', text).translate(_PARTS).lower().split())} "


def has_answer(tokens: str, answers: Sequence[str]) -> bool:
    """Tell whether any answer stands in a passage as whole tokens.

    Args:
        tokens: The passage's `answer_tokens`, made once for many questions.
        answers: Answers as plain text; those without a token count for nothing.
    """
    return answer_rank([tokens], answers) is not None


def answer_rank(passages: Iterable[str], answers: Sequence[str]) -> int | None:
    """Find the first passage that holds an answer.

    Args:
        passages: The passages' `answer_tokens`, best ranked first; taken only as far as needed.
        answers: Answers as plain text; those without a token count for nothing.

    Returns:
        The passage's index; None where no passage holds an answer.
    """
    wanted = [tokens for answer in answers if not (tokens := answer_tokens(answer)).isspace()]
    hits = (index for index, passage in enumerate(passages) if any(tokens in passage for tokens in wanted))
    return next(hits, None)
