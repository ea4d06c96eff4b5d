"""Where documents come from: files, a pasted text, a folder on this machine."""

import streamlit as st

from demo.core.adding import Adding, Updating
from demo.core.collection import Collection
from demo.core.reach import only_this_machine
from demo.core.shelf import MAX_NAME_LENGTH, ShelfError
from demo.core.uploads import LIMITS, Upload, UploadError, pasted
from demo.core.wording import counted, literal
from demo.views import documents_work, frame

# Session state: how many times files were added; a new key empties the widget.
_ROUND = "rounds of files"


def show(target: Collection) -> None:
    """Draw the ways to add documents.

    Args:
        target: Where they go.
    """
    st.header("Add documents", anchor=False)
    # Who could reach this page from elsewhere must not read what lies on this machine.
    local = only_this_machine(st.get_option("server.address"))
    tabs = st.tabs(["Files", "Text", *(["Folder"] if local else [])])
    with tabs[0]:
        _offer_files(target)
    with tabs[1]:
        _offer_text(target)
    if local:
        with tabs[2]:
            _offer_folder()


def _offer_files(target: Collection) -> None:
    st.caption(f"{LIMITS} {_destination(target)}")
    turn = st.session_state.setdefault(_ROUND, 0)
    files = st.file_uploader("Files", accept_multiple_files=True, key=f"files {turn}")
    label = f"Add {counted(len(files), 'file')}" if files else "Add files"
    if st.button(label, type="primary", icon=":material/add:", key="add files"):
        if not files:
            st.error("Choose files first, or drag them here.", icon=":material/error:")
            return
        uploads = [Upload(file.name, file.getvalue()) for file in files]
        st.session_state[_ROUND] += 1
        _add(target, uploads)


def _offer_text(target: Collection) -> None:
    st.caption(f"Becomes a document of its own. {_destination(target)}")
    with st.form("text", border=False, clear_on_submit=True):
        title = st.text_input("Title", max_chars=80, placeholder="The first words, if left empty")
        text = st.text_area("Text", height=180, placeholder="Paste it here")
        if st.form_submit_button("Add text", type="primary", icon=":material/add:"):
            try:
                _add(target, [pasted(title, text)])
            except UploadError as error:
                st.error(f"This {literal(str(error))}.", icon=":material/error:")


def _offer_folder() -> None:
    st.caption("Its files stay where they are and are only read; a collection of its own follows their changes.")
    with st.form("folder", border=False):
        folder = st.text_input("Folder on this machine", placeholder="Such as: ~/Documents/manuals")
        name = st.text_input("Name of the collection", max_chars=MAX_NAME_LENGTH, placeholder="The folder’s name")
        if st.form_submit_button("Add folder", type="primary", icon=":material/add:"):
            try:
                linked = frame.shelf().link(name, folder)
            except ShelfError as error:
                st.error(literal(str(error)), icon=":material/error:")
            else:
                frame.choose(linked)
                documents_work.start(Updating(linked))


def _destination(target: Collection) -> str:
    if target.kind == "session":
        return "Goes to your unsaved documents, which only this browser session sees."
    return f"Goes to “{literal(target.name)}”."


def _add(target: Collection, uploads: list[Upload]) -> None:
    frame.choose(target)
    documents_work.start(Adding(target, uploads))
