"""The reader view: a whole document beside the page, scrolled to the quote."""

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from demo.core.collection import Collection
from demo.core.documents import full_text
from demo.core.reading import paragraphs, spans_in
from demo.core.results import FoundPassage, Quote
from demo.core.wording import literal, place_of, title_of
from demo.views.messages import say_error
from rom_haystack.folders import LibraryError

_HERE = Path(__file__).parent
_text = st.components.v2.component(
    "rom_reader",
    html='<div class="bar"></div><div class="text" tabindex="0" role="document"></div>',
    css=(_HERE / "reader.css").read_text(encoding="utf-8"),
    js=(_HERE / "reader.js").read_text(encoding="utf-8"),
)


def open_reader(
    collection: Collection, model: str, passage: FoundPassage, quote: Quote | None, others: Sequence[Quote]
) -> None:
    """Open a document.

    Args:
        collection: Where it is.
        model: The checkpoint that found it.
        passage: The passage to show.
        quote: The quote in it to scroll to; None for the passage itself.
        others: Further answers, marked too where they stand in the same document.
    """

    def draw() -> None:
        try:
            full = full_text(collection.library(model).store, passage.document)
        except LibraryError as error:
            say_error(error)
            return
        place = place_of(passage.document, quote.page, quote.start) if quote else place_of(passage.document)
        if place:
            st.caption(literal(place))
        spans = spans_in(full, passage, quote, others)
        label = f"Text of {full.title or full.file_path}"
        _text(
            key="reader",
            data={"pieces": paragraphs(full, spans), "marks": len(spans), "passage": quote is None, "label": label},
        )

    st.dialog(literal(title_of(passage.document)), width="medium", position="right")(draw)()
