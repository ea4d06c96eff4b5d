"""The page `Compare`: one question, answered in two ways, side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import streamlit as st

from demo.core.asking import Asker, AskingError
from demo.core.checkpoints import UNTUNED_BASE, Checkpoint, MissingCheckpointError, checkpoint
from demo.core.collection import Collection
from demo.core.comparing import PASSAGES, PRESETS, Comparison, Preset, Side, compare
from demo.core.examples import sample_questions
from demo.core.inside import stage_times
from demo.core.reach import only_this_machine
from demo.core.results import Result
from demo.core.wording import counted, duration, literal, too_long
from demo.views import comparison_cards, frame, links
from demo.views.inside_charts import times_chart
from demo.views.messages import say_error
from demo.views.settings import READINGS, RETRIEVALS
from rom_haystack.modeling import bundled_checkpoints

_STYLE = Path(__file__).with_name("compare.css")
_SIDES = ("A", "B")
# Session state: what was asked last, why a preset is worth a look, what is wrong with a link, and the last comparison.
_ASKED = "compare.asked"
_WHY = "compare.why"
_WRONG = "compare.wrong"
_KEPT = "compare.kept"
_QUESTION = "compare.question"

Asked = tuple[str, Side, Side]
# What came of it, with the checkpoints as they were found then; they may be gone by now.
Compared = tuple[Comparison, Sequence[Checkpoint]]


def show() -> None:
    """Draw the page."""
    link = links.arrived()
    if link is not None:
        _follow(link)
    st.title("Compare two ways of answering", anchor=False)
    with st.container(width=280):
        collection = frame.choose_collection()
    _presets(collection)
    if wrong := st.session_state.get(_WRONG):
        st.warning(literal(wrong), icon=":material/link_off:")
    _form()
    if mistake := too_long(st.session_state.get(_QUESTION, "").strip()):
        say_error(mistake)
    asked: Asked | None = st.session_state.get(_ASKED)
    _write_link(collection, asked)
    if asked is None:
        return
    if why := st.session_state.get(_WHY):
        st.caption(why)
    compared = _compared(collection, asked)
    if compared is not None:
        _show(*compared, asked)


def _follow(link: Mapping[str, str]) -> None:
    """Take question and sides from a link, and ask; folders are opened only if the user says so."""
    st.session_state[_QUESTION] = link.get("q", "")
    wrong = None
    try:
        sides = [Side.parse(link[name]) if name in link else Side() for name in ("left", "right")]
    except ValueError as error:
        wrong = str(error)
        sides = [Side(), Side()]
    if not all(side.by_name for side in sides):
        wrong = "The link names a folder of this machine as a checkpoint. Press Compare if that is what you want."
    for name, side in zip(_SIDES, sides, strict=True):
        _fill(name, side)
    if wrong is None:
        _ask()
    else:
        st.session_state[_ASKED] = None
        st.session_state[_WRONG] = wrong


def _write_link(collection: Collection, asked: Asked | None) -> None:
    said = {"collection": links.id_in_link(collection)}
    if asked is not None:
        question, left, right = asked
        said |= {"q": question, "left": str(left), "right": str(right)}
    links.write(said)


def _presets(collection: Collection) -> None:
    with st.container(horizontal=True):
        for preset in PRESETS:
            st.button(preset.name, key=f"compare.{preset.name}", on_click=_take, args=(preset, collection))


def _take(preset: Preset, collection: Collection) -> None:
    """Fill in a preset, and ask; on the sample corpus there is a question for those who have none yet."""
    for name, side in zip(_SIDES, (preset.left, preset.right), strict=True):
        _fill(name, side)
    if collection.kind == "sample" and not st.session_state.get(_QUESTION, "").strip():
        st.session_state[_QUESTION] = sample_questions()[0]
    _ask()
    st.session_state[_WHY] = preset.why


def _ask() -> None:
    question = st.session_state.get(_QUESTION, "").strip()
    st.session_state[_ASKED] = (question, *map(_chosen, _SIDES)) if question and not too_long(question) else None
    st.session_state[_WHY] = st.session_state[_WRONG] = None


def _form() -> None:
    for name in _SIDES:
        if _key(name, "retrieval") not in st.session_state:
            _fill(name, Side())
    with st.form("compare", border=False):
        st.text_input(
            "Question",
            key=_QUESTION,
            placeholder="Ask both sides",
            persist_state="session",
        )
        for name, column in zip(_SIDES, st.columns(2, gap="medium"), strict=True):
            with column, st.container(border=True):
                _side(name)
        st.form_submit_button("Compare", type="primary", on_click=_ask)


def _side(name: str) -> None:
    """Draw the settings of a side."""
    st.header(name, anchor=False)
    st.selectbox(
        f"Find passages by ({name})",
        list(RETRIEVALS),
        format_func=RETRIEVALS.__getitem__,
        key=_key(name, "retrieval"),
        persist_state="session",
    )
    with st.container(horizontal=True):
        st.selectbox(
            f"Reading ({name})",
            list(READINGS),
            format_func=READINGS.__getitem__,
            key=_key(name, "reading"),
            persist_state="session",
        )
        st.selectbox(f"Passages ({name})", PASSAGES, key=_key(name, "passages"), persist_state="session")
    known = dict.fromkeys([*_offered(), st.session_state[_key(name, "model")]])
    st.selectbox(
        f"Checkpoint ({name})",
        list(known),
        key=_key(name, "model"),
        accept_new_options=True,
        persist_state="session",
        help="A bundled name, the path of a folder, or a hub id that is in this machine's cache.",
    )


def _offered() -> list[str]:
    return [*bundled_checkpoints(), UNTUNED_BASE]


def _fill(name: str, side: Side) -> None:
    for field, value in vars(side).items():
        st.session_state[_key(name, field)] = value


def _chosen(name: str) -> Side:
    return Side(**{field: st.session_state[_key(name, field)] for field in vars(Side())})


def _key(name: str, field: str) -> str:
    return f"compare.{name}.{field}"


def _compared(collection: Collection, asked: Asked) -> Compared | None:
    """Ask both sides, unless that is what was asked last; where it can't be done, say why."""
    key = (asked, collection.id, collection.version, frame.engine().name)
    kept = st.session_state.get(_KEPT)
    if kept is not None and kept[0] == key:
        compared: Compared = kept[1]
        return compared
    question, *sides = asked
    found = [one for name, side in zip(_SIDES, sides, strict=True) if (one := _found(name, side)) is not None]
    if len(found) < len(sides) or not all(frame.indexed(collection, one.finds) for one in found):
        return None
    settings = [side.settings(one) for side, one in zip(sides, found, strict=True)]
    try:
        with st.spinner("Asking both sides …"):
            compared = compare(Asker(collection, frame.engine()), question, *settings), found
    except AskingError as error:
        say_error(error)
        return None
    # Indexing has changed the version.
    st.session_state[_KEPT] = ((asked, collection.id, collection.version, frame.engine().name), compared)
    return compared


def _found(name: str, side: Side) -> Checkpoint | None:
    if side.model not in _offered() and not only_this_machine(st.get_option("server.address")):
        st.warning(
            f"{name}: Other checkpoints of the machine that the demo runs on can be named only where no other machine "
            "can reach the demo, and this one can be reached. Choose one of the list.",
            icon=":material/lock:",
        )
        return None
    try:
        with st.spinner("Looking for the checkpoint …"):
            return checkpoint(side.model)
    except MissingCheckpointError as error:
        st.warning(f"{name}: {literal(str(error))}", icon=":material/download:")
        return None


def _show(compared: Comparison, checkpoints: Sequence[Checkpoint], asked: Asked) -> None:
    st.html(_STYLE)
    st.header(compared.verdict, anchor=False)
    passages = max(len(compared.left.passages), len(compared.right.passages))
    st.caption(
        f"{len(compared.passages_of_both)} of {counted(passages, 'passage')} were found by both. Each side was asked "
        "twice; the times are those of the second, when nothing had to be loaded any more."
    )
    results = (compared.left, compared.right)
    drawn = zip(_SIDES, asked[1:], checkpoints, results, st.columns(2, gap="medium"), strict=True)
    for name, side, found, result, column in drawn:
        with column:
            _show_side(name, side, found.note, result, compared)


def _show_side(name: str, side: Side, note: str, result: Result, compared: Comparison) -> None:
    other = _SIDES[1 - _SIDES.index(name)]
    st.subheader(name, anchor=False)
    st.text(f"{RETRIEVALS[side.retrieval]} · {READINGS[side.reading].lower()} reading · {side.model}")
    st.caption(
        f"**{duration(sum(result.seconds.values()))}** · {result.read} of {counted(len(result.passages), 'passage')} "
        f"read · {literal(result.engine)}"
    )
    if note:
        st.caption(literal(note))
    st.html(comparison_cards.answers(result, compared.ranks_on_the_other_side(result), other))
    with st.expander("Passages and times", key=f"compare.more.{name}"):
        st.html(comparison_cards.passages(result, compared.passages_of_both, other))
        st.altair_chart(times_chart(stage_times(result)), width="stretch", key=f"compare.times.{name}")
