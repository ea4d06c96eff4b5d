"""The page `Documents`: what can be asked, and how more is added."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import streamlit as st

from demo.core.adding import Updating
from demo.core.collection import Collection, FileInfo
from demo.core.shelf import MAX_NAME_LENGTH, ShelfError
from demo.core.wording import counted, literal
from demo.views import documents_work, frame, links, sources
from rom_haystack.folders import LibraryError

# Session state, while it is asked whether to delete: the collection's id, and names of documents or None for all of it.
_DELETING = "deleting from documents"
_STYLE = Path(__file__).with_name("documents.css")


def show() -> None:
    """Draw the page."""
    st.html(_STYLE)
    st.title("Documents", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom", key="documents-where"):
        with st.container(width=280):
            collection = frame.choose_collection()
        _offer_new()
    links.write({"collection": "" if collection.kind == "sample" else collection.id})
    st.caption(_about(collection))
    target = collection if collection.changeable else frame.drafts()
    if not documents_work.show_progress():
        documents_work.show_outcome(collection)
        sources.show(target)
    if documents_work.runs_on(collection) or not frame.indexed(collection):
        return
    _show_documents(collection)


def _about(collection: Collection) -> str:
    match collection.kind:
        case "sample":
            return "Articles that come with the demo. They can be asked, not changed."
        case "own":
            return "Kept on this machine until you delete them."
        case "linked":
            return f"The files of the folder {literal(str(collection.folder))}, which is only read."
        case "session":
            return "Only this browser session sees these, and they are gone when it ends, unless you keep them."


def _offer_new() -> None:
    with st.popover("New collection", icon=":material/create_new_folder:"), st.form("new collection", border=False):
        name = st.text_input("Name", max_chars=MAX_NAME_LENGTH, placeholder="Such as: Manuals")
        if st.form_submit_button("Create", type="primary"):
            try:
                frame.choose(frame.shelf().create(name))
            except ShelfError as error:
                st.error(literal(str(error)), icon=":material/error:")
            else:
                documents_work.clear()
                st.rerun()


def _show_documents(collection: Collection) -> None:
    files = collection.files()
    st.header(f"In “{literal(collection.name)}”", anchor=False)
    if not files:
        st.caption(_nothing(collection))
        chosen = []
    else:
        st.caption(_totals(files))
        chosen = _table(collection, files)
    with st.container(horizontal=True):
        if collection.changeable and files:
            label = counted(len(chosen), "document") if chosen else "documents"
            hint = "Choose documents by the boxes at the left of the table." if not chosen else None
            if st.button(f"Delete {label} …", icon=":material/delete:", disabled=not chosen, help=hint):
                _ask_to_delete(collection, chosen)
        if files or collection.kind == "linked":
            changed = collection.kind == "linked"
            if st.button("Look for changes" if changed else "Re-index", icon=":material/refresh:"):
                documents_work.start(Updating(collection))
        if collection.kind in ("own", "linked") and st.button("Delete collection …", icon=":material/folder_delete:"):
            _ask_to_delete(collection, None)
    _ask_if_sure(collection, len(files))
    if collection.kind == "session" and files:
        _offer_keeping(collection)


def _nothing(collection: Collection) -> str:
    if collection.kind == "linked":
        return "There is no file here that can be read."
    return "Nothing yet. Add documents above, and ask them on the page Ask."


def _totals(files: list[FileInfo]) -> str:
    pages = sum(file.pages or 0 for file in files)
    unread = sum(file.problem is not None for file in files)
    parts = [
        counted(len(files), "document"),
        counted(pages, "PDF page") if pages else "",
        counted(sum(file.passages for file in files), "passage"),
        f"{unread} not read" if unread else "",
    ]
    return ", ".join(filter(None, parts))


def _table(collection: Collection, files: list[FileInfo]) -> list[str]:
    """Draw the table of documents.

    Returns:
        The names of those that are chosen in it.
    """
    rows: list[dict[str, object]] = [
        {"Document": file.name, "Pages": file.pages, "Passages": file.passages, "Size": file.size} for file in files
    ]
    if any(file.problem for file in files):
        rows = [{**row, "Problem": file.problem or ""} for row, file in zip(rows, files, strict=True)]
    if not any(file.pages for file in files):
        for row in rows:
            del row["Pages"]
    columns = {
        "Pages": st.column_config.NumberColumn(width=70),
        "Passages": st.column_config.NumberColumn(width=90),
        "Size": st.column_config.NumberColumn(format="bytes", width=80),
    }
    if not collection.changeable:
        st.dataframe(rows, hide_index=True, column_config=columns, placeholder="–")
        return []
    # A choice is one of rows, so it ends where the rows change.
    key = f"documents {collection.id} {collection.version}"
    event = st.dataframe(
        rows,
        hide_index=True,
        column_config=columns,
        placeholder="–",
        on_select="rerun",
        selection_mode="multi-row",
        key=key,
    )
    return [files[row].name for row in event["selection"]["rows"] if row < len(files)]


def _ask_to_delete(collection: Collection, names: Sequence[str] | None) -> None:
    """Let the page ask whether to delete some documents, or with None the whole collection."""
    st.session_state[_DELETING] = (collection.id, names)


def _stop_asking() -> None:
    st.session_state.pop(_DELETING, None)


def _ask_if_sure(collection: Collection, files: int) -> None:
    """Draw the question that was asked for, until it is answered."""
    asked, names = st.session_state.get(_DELETING, (None, None))
    if asked != collection.id:
        _stop_asking()
        return
    if names is None:
        title, draw = "Delete this collection?", partial(_confirm_deletion, collection, files)
    else:
        title, draw = "Delete documents?", partial(_confirm_removal, collection, names)
    st.dialog(title, on_dismiss=_stop_asking)(draw)()


def _confirm_removal(collection: Collection, names: Sequence[str]) -> None:
    st.write(f"From “{literal(collection.name)}”:")
    st.text("\n".join(names[:10]) + (f"\nand {len(names) - 10} more" if len(names) > 10 else ""))
    st.write("This can’t be undone. Your original files stay as they are.")
    _delete_if_sure(lambda: collection.remove(names))


def _confirm_deletion(collection: Collection, files: int) -> None:
    holds = counted(files, "document")
    if collection.kind == "linked":
        st.write(f"“{literal(collection.name)}” and its index go. The folder with its {holds} stays as it is.")
    else:
        st.write(f"“{literal(collection.name)}” goes with its {holds}. This can’t be undone.")
    _delete_if_sure(lambda: frame.shelf().delete(collection.id))


def _delete_if_sure(delete: Callable[[], None]) -> None:
    """Draw the two ways out of a dialog, and go the one that is chosen."""
    with st.container(horizontal=True):
        sure = st.button("Delete", type="primary")
        if st.button("Cancel"):
            _stop_asking()
            st.rerun()
    if sure:
        try:
            with st.spinner("Deleting …"):
                delete()
        except (ValueError, OSError) as error:
            st.error(literal(str(error)), icon=":material/error:")
            return
        _stop_asking()
        documents_work.clear()
        st.rerun()


def _offer_keeping(collection: Collection) -> None:
    st.header("Keep these documents", anchor=False)
    st.caption("As a collection on this machine, which every browser session here can ask.")
    with st.form("keep", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input("Name of the new collection", max_chars=MAX_NAME_LENGTH, placeholder="Such as: Manuals")
        keep = st.form_submit_button("Keep")
    if keep:
        try:
            with st.spinner("Keeping …"):
                kept = frame.shelf().keep(collection, name)
        except (ShelfError, LibraryError) as error:
            st.error(literal(str(error)), icon=":material/error:")
            return
        documents_work.clear()
        frame.choose(kept)
        st.rerun()
