"""What a side of a comparison says, as HTML; what the other side does not say is marked, in words too."""

from collections.abc import Collection, Sequence
from html import escape

from demo.core.results import Result
from demo.core.wording import excerpt, percent, title_of
from demo.views import cards
from rom_haystack.answers import NO_ANSWER_FOUND

_EXCERPT = 90


def answers(result: Result, ranks: Sequence[int | None], other: str) -> str:
    """Write a side's answers.

    Args:
        result: The side's result.
        ranks: Per answer, its place on the other side; None where it isn't there.
        other: The other side's name.
    """
    if not result.quotes:
        return f'<p class="rom-compared rom-only">{escape(NO_ANSWER_FOUND)}</p>'
    rows = []
    for place, (quote, rank) in enumerate(zip(result.quotes, ranks, strict=True), start=1):
        mark = _mark(f"only here: {other} does not have it") if rank is None else _said(place, rank, other)
        kind = "rom-only" if rank is None else "rom-both"
        page = f"page {quote.page}" if quote.page else ""
        source = escape(" · ".join(filter(None, (title_of(quote.passage.document), page, percent(quote.score)))))
        rows.append(
            f'<li class="rom-compared {kind}"><p class="rom-answer">{escape(quote.text)}</p>'
            f"{cards.further_card(quote)}<p>{source}</p>{mark}</li>"
        )
    return f'<ol class="rom-side">{"".join(rows)}</ol>'


def passages(result: Result, of_both: Collection[str], other: str) -> str:
    """Write a list of the passages that a side found.

    Args:
        result: The side's result.
        of_both: Ids of those that both found.
        other: The other side's name.
    """
    rows = []
    for place, found in enumerate(result.passages, start=1):
        text = escape(excerpt(found.document.content or "", _EXCERPT))
        read = "" if place <= result.read else " (not read)"
        mark = "" if found.document.id in of_both else _mark(f"only here: {other} did not find it")
        rows.append(f"<li><strong>{escape(title_of(found.document))}</strong>{read} {text} {mark}</li>")
    return f'<ol class="rom-found">{"".join(rows)}</ol>'


def _said(place: int, rank: int, other: str) -> str:
    where = "the same place" if rank == place else f"place {rank}"
    return f'<p class="rom-mark">in {other}, too, in {where}</p>'


def _mark(text: str) -> str:
    return f'<span class="rom-mark rom-differs">{escape(text)}</span>'
