"""What comes of a question: the best answer, further ones by document, or the nearest passages."""

import streamlit as st

from demo.core.collection import Collection
from demo.core.grouping import by_document, document_key
from demo.core.results import FoundPassage, Quote, Result
from demo.core.wording import counted
from demo.views import cards
from demo.views.judging import judge
from demo.views.reader import open_reader

# Most of the nearest passages that are shown where there is no answer.
_NEAREST = 5


class BestAnswer:
    """The place of the best answer, in which it appears while passages are read."""

    def __init__(self) -> None:
        self._place = st.empty()
        with self._place.container(key="best-answer", border=True):
            self._body = st.empty()
            self._actions = st.empty()
        self._body.html(cards.reading_card())
        self._actions.html('<div class="rom-actions-to-come"></div>')

    def remove(self) -> None:
        """Show nothing."""
        self._place.empty()

    def preview(self, result: Result) -> None:
        """Show what is known so far."""
        if result.quotes:
            self._body.html(cards.best_card(result.quotes[0]))

    def show(self, result: Result, collection: Collection) -> None:
        """Show the last word, and what can be done with it."""
        if result.quotes:
            self._body.html(cards.best_card(result.quotes[0]))
        else:
            self._body.html(cards.no_answer_card(len(result.passages)))
        with self._actions.container(key="best-actions"):
            if result.quotes:
                _actions(result, collection, result.quotes[0].passage, result.quotes[0])
            elif result.passages:
                _judge_no_answer(result)


def show_rest(result: Result, collection: Collection) -> None:
    """Draw what stands below the best answer."""
    if result.quotes:
        _show_further(result, collection)
        return
    if result.doubtful:
        with st.expander(counted(len(result.doubtful), "doubtful quote"), icon=":material/question_mark:"):
            _show_groups(list(result.doubtful), result, collection)
    if result.passages:
        st.header("Nearest passages", anchor=False)
    for passage in result.passages[:_NEAREST]:
        with st.container(gap="xsmall"):
            st.html(cards.passage_card(passage))
            _actions(result, collection, passage, None)


def _show_further(result: Result, collection: Collection) -> None:
    further = list(result.quotes[1:])
    if further:
        st.header("Further answers", anchor=False)
        _show_groups(further, result, collection)


def _show_groups(quotes: list[Quote], result: Result, collection: Collection) -> None:
    best = document_key(result.quotes[0].passage) if result.quotes else None
    for group in by_document(quotes):
        passage = group[0].passage
        st.html(cards.group_heading(passage, best_is_here=document_key(passage) == best))
        for quote in group:
            with st.container(gap="xsmall"):
                st.html(cards.further_card(quote))
                _actions(result, collection, quote.passage, quote, scored=True)


@st.fragment
def _actions(
    result: Result, collection: Collection, passage: FoundPassage, quote: Quote | None, *, scored: bool = False
) -> None:
    """Draw what can be done with an answer or a passage, after how likely it is where that is not said above."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if quote is not None and scored:
            st.html(cards.score_line(quote), width="content")
        key = f"open-{passage.document.id}-{quote.start if quote else ''}-{quote.end if quote else ''}"
        if st.button("Open document", key=key, icon=":material/menu_book:", type="tertiary"):
            open_reader(collection, result.settings.model, passage, quote, [*result.quotes, *result.doubtful])
        if quote is not None:
            judge(result, passage, quote, asked=not scored)


@st.fragment
def _judge_no_answer(result: Result) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        judge(result, result.passages[0], None, asked=True)
