"""The page `Ask`: a question, the best answer with its quote in its sentence, and where it stands."""

import streamlit as st

from demo.core import examples
from demo.core.asking import Asker, AskingError
from demo.core.collection import Collection
from demo.core.results import Result, Settings
from demo.core.wording import counted, duration, literal, too_long
from demo.views import frame, links, settings
from demo.views.answers import BestAnswer, show_rest
from demo.views.messages import say_error
from rom_haystack.folders import LibraryError
from rom_haystack.modeling import CheckpointError

# Widget keys, and session state: results of this session by what was asked, and the turn of example questions.
_QUESTION = "question"
_RESULTS = "results"
_TURN = "turn of examples"

_KEPT = 30
_EXAMPLES = 5  # and one without an answer


def show() -> None:
    """Draw the page."""
    link = links.arrived()
    if link is not None:
        st.session_state[_QUESTION] = link.get("q", "")
        settings.follow(link)
    st.title("Ask your documents", anchor=False)
    question = _question()
    with st.container(key="ask-where", horizontal=True, vertical_alignment="bottom"):
        with st.container(width=280):
            collection = frame.choose_collection()
        chosen = settings.choose_settings()
    mistake = too_long(question)
    said = {"q": "" if mistake else question, "collection": links.id_in_link(collection)}
    links.write({**said, **settings.in_link(chosen)})
    if mistake:
        say_error(mistake)
        return
    if not frame.indexed(collection):
        return
    if question:
        _answer(collection, question, chosen)
    else:
        _invite(collection)


def _question() -> str:
    with st.form("ask", border=False), st.container(horizontal=True, vertical_alignment="bottom", key="ask-form"):
        question = st.text_input(
            "Question",
            key=_QUESTION,
            type="search",
            placeholder="Ask in your own words",
            persist_state="session",
        )
        st.form_submit_button("Ask", type="primary")
    return question.strip()


def _answer(collection: Collection, question: str, chosen: Settings) -> None:
    known: dict[tuple[str, str, str, Settings], Result] = st.session_state.setdefault(_RESULTS, {})
    asked = (collection.id, collection.version, question, chosen)
    status = st.empty()
    best = BestAnswer()
    result = known.get(asked)
    if result is None:
        status.caption("Looking for passages …")
        try:
            for result in Asker(collection, frame.engine()).ask(question, chosen):
                status.caption(_progress(result))
                best.preview(result)
        except (AskingError, LibraryError, CheckpointError) as error:
            best.remove()
            with status:
                say_error(error)
            return
        if result is None:
            return
        known[asked] = result
        while len(known) > _KEPT:
            known.pop(next(iter(known)))
    status.caption(_summary(result))
    best.show(result, collection)
    show_rest(result, collection)
    # Charts take long to import, and the page is to be there soon.
    from demo.views import inside  # noqa: PLC0415

    inside.show(result, collection, frame.engine())


def _progress(result: Result) -> str:
    if not result.read:
        return f"Found {counted(len(result.passages), 'passage')}, reading …"
    return f"Read {result.read} of {counted(len(result.passages), 'passage')} …"


def _summary(result: Result) -> str:
    """Say how the answer came about: what was read, how fast, by which engine."""
    read, found = result.read, len(result.passages)
    passages = counted(found, "passage") if read == found else f"{read} of {counted(found, 'passage')}"
    parts = [f"{passages} read in {duration(sum(result.seconds.values()))}", literal(result.engine)]
    if frame.engine().preparing:
        parts.append("looking for a faster engine on this machine")
    return " · ".join(parts)


def _invite(collection: Collection) -> None:
    """Draw what stands here before the first question: examples on the sample, or how to begin."""
    files = collection.files()
    readable = [file for file in files if file.problem is None]
    if not readable:
        st.info(
            f"There are no documents in “{literal(collection.name)}” yet. Add some on the page Documents, or choose "
            "others above.",
            icon=":material/folder_open:",
        )
        return
    passages = sum(file.passages for file in readable)
    st.caption(
        f"{counted(len(readable), 'document')}, {counted(passages, 'passage')}. Answers are quotes from them, word for "
        "word. Nothing leaves this machine."
    )
    if collection.kind == "sample":
        _examples()


def _examples() -> None:
    st.header("For example", anchor=False)
    turn = st.session_state.setdefault(_TURN, 0)
    with st.container(key="examples"):
        for question in [*examples.choice(turn, _EXAMPLES), examples.UNANSWERABLE]:
            st.button(literal(question), key=f"example {question}", on_click=_ask, args=(question,), width="stretch")
    st.button("Other examples", icon=":material/refresh:", type="tertiary", on_click=_turn)


def _ask(question: str) -> None:
    st.session_state[_QUESTION] = question


def _turn() -> None:
    st.session_state[_TURN] += 1
