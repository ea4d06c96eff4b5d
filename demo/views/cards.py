"""Answers and passages as HTML; every text of documents and users is escaped."""

from html import escape

from demo.core.highlighting import marked_html
from demo.core.results import FoundPassage, Quote
from demo.core.wording import chance, excerpt, further_likelihood, in_ten, likelihood, percent, place_of, title_of
from rom_haystack.answers import NO_ANSWER_FOUND

# Longer quotes are set smaller.
_LONG, _VERY_LONG = 60, 140
_EXCERPT = 320


def best_card(quote: Quote) -> str:
    """Write the best answer: large, then its sentence and where it stands."""
    size = "" if len(quote.text) <= _LONG else " rom-long" if len(quote.text) <= _VERY_LONG else " rom-very-long"
    return (
        f'<div class="rom-best"><h2 class="rom-quote{size}">{escape(quote.text)}</h2>'
        f"{_sentence(quote)}{_source(quote.passage, quote)}{_score(quote)}</div>"
    )


def further_card(quote: Quote) -> str:
    """Write one of several answers of a document."""
    return f'<div class="rom-further">{_sentence(quote)}</div>'


def score_line(quote: Quote) -> str:
    """Write how likely an answer is, and on which page it stands."""
    page = f", page {quote.page}" if quote.page else ""
    likely = further_likelihood(quote.score).capitalize()
    return f'<p class="rom-score">{likely}, score {percent(quote.score)}{page}</p>'


def group_heading(passage: FoundPassage, *, best_is_here: bool) -> str:
    """Write the heading of a document's answers."""
    file = passage.document.meta.get("file_path")
    title = title_of(passage.document)
    beside = f' <span class="rom-file">{escape(str(file))}</span>' if file and file != title else ""
    return f'<h3 class="rom-group">{"Also in " if best_is_here else ""}{escape(title)}{beside}</h3>'


def no_answer_card(passages: int) -> str:
    """Write that there is no answer."""
    if not passages:
        reason = "Not one passage has anything to do with the question’s words. Try others, or other documents."
    else:
        reason = (
            "The passages below come nearest, but none of them seems to answer the question. Other words may find "
            "others."
        )
    return f'<div class="rom-best"><h2 class="rom-none">{escape(NO_ANSWER_FOUND)}</h2><p>{escape(reason)}</p></div>'


def reading_card() -> str:
    """Write that passages are being read, in the space that an answer will take."""
    lines = "".join(f'<div class="rom-line rom-line-{number}"></div>' for number in range(4))
    return f'<div class="rom-best" aria-hidden="true">{lines}</div>'


def passage_card(passage: FoundPassage) -> str:
    """Write the beginning of a passage, and where it stands."""
    shown = excerpt(passage.document.content or "", _EXCERPT)
    return f'<div class="rom-further">{_source(passage, None, "h3")}<p class="rom-sentence">{escape(shown)}</p></div>'


def _sentence(quote: Quote) -> str:
    return f'<p class="rom-sentence">{marked_html(quote.sentence, [(quote.sentence_start, quote.sentence_end)])}</p>'


def _source(passage: FoundPassage, quote: Quote | None, element: str = "p") -> str:
    place = place_of(passage.document, quote.page, quote.start) if quote else place_of(passage.document)
    beside = f' <span class="rom-file">{escape(place)}</span>' if place else ""
    return f'<{element} class="rom-source">{escape(title_of(passage.document))}{beside}</{element}>'


def _score(quote: Quote) -> str:
    share = chance(quote.score)
    return (
        '<p class="rom-score"><span class="rom-meter" aria-hidden="true">'
        f'<span style="width:{round(share * 100)}%"></span></span>'
        f"<span><strong>{percent(share)}</strong> {likelihood(quote.score)}: "
        f"{in_ten(share)} such answers are right</span></p>"
    )
