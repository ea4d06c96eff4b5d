"""Work on documents in the background: how far it is, a way to end it, and what came of it."""

import html
from collections.abc import Callable, Sequence
from typing import NoReturn

import streamlit as st

from demo.core.adding import Removed, Removing, Work, Works
from demo.core.collection import Collection
from demo.core.uploads import Added
from demo.core.wording import counted, literal
from demo.views import ask
from rom_haystack.library import UpdateReport

# Session state: the last work on each collection that this session has started or seen, until its outcome is put away.
_SEEN = "work on documents"
_TICK = 0.5  # seconds
_WORDS = {"waiting": "waiting", "reading": "reading", "done": "read"}
_AT_ONCE = 8


@st.cache_resource(show_spinner=False)
def works() -> Works:
    """The work of all sessions."""
    return Works()


def start(collection: Collection, make: Callable[[], Work]) -> NoReturn:
    """Start work on a collection and show it; where other work on it goes on already, show that.

    Args:
        collection: The collection.
        make: Starts the work.
    """
    _seen()[collection.id] = works().begin(collection, make)
    st.rerun()


def clear() -> None:
    """Put away the outcomes of work that has ended."""
    ended = [identifier for identifier, work in _seen().items() if work.job.state != "running"]
    for identifier in ended:
        del _seen()[identifier]


def runs_on(collection: Collection) -> bool:
    """Tell whether work on a collection goes on, whoever has started it."""
    work = works().running_on(collection)
    if work is not None:
        _seen()[collection.id] = work
    return work is not None


def show_progress(collection: Collection) -> bool:
    """Draw how far the work on a collection is, until it ends; the rest of the page is not drawn anew meanwhile.

    Returns:
        Whether there is any.
    """
    if not runs_on(collection):
        return False
    _progress(_seen()[collection.id])
    return True


def show_outcome(collection: Collection) -> None:
    """Draw what came of the last work on a collection, where this session has seen it go on."""
    work = _seen().get(collection.id)
    if work is None:
        return
    job = work.job
    if job.state == "cancelled":
        kept = "Nothing was deleted" if isinstance(work, Removing) else "What was read by then stays"
        st.info(f"Cancelled. {kept}.", icon=":material/cancel:")
    elif job.state == "failed":
        st.error(_reason(job.error), icon=":material/error:")
    elif isinstance(job.outcome, Added):
        _show_added(job.outcome, collection)
    elif isinstance(job.outcome, UpdateReport):
        _show_updated(job.outcome)
    elif isinstance(job.outcome, Removed):
        _say(st.success, f"{counted(len(job.outcome.names), 'document')} deleted", [], icon=":material/check_circle:")


def _seen() -> dict[str, Work]:
    seen: dict[str, Work] = st.session_state.setdefault(_SEEN, {})
    return seen


@st.fragment(run_every=_TICK)
def _progress(work: Work) -> None:
    if work.job.state != "running":
        st.rerun()
    now = work.job.progress
    st.header("Deleting documents" if isinstance(work, Removing) else "Reading documents", anchor=False)
    share = min(now.done / now.total, 1.0) if now.total else 0.0
    counts = f"{now.done} of {counted(now.total, 'file')}" if now.total else "Starting"
    st.progress(share, text=f"{counts}: {literal(now.label)}" if now.label else f"{counts} …")
    if steps := work.steps():
        st.html(
            '<ul class="rom-steps" aria-label="Files" tabindex="0">'
            + "".join(
                f'<li><span class="rom-step rom-step-{step}">{_WORDS[step]}</span><span>{html.escape(name)}</span></li>'
                for name, step in steps
            )
            + "</ul>"
        )
    if st.button("Cancel", icon=":material/close:"):
        work.job.cancel()


def _reason(error: Exception | None) -> str:
    if isinstance(error, ValueError | OSError):  # made for people
        return literal(str(error))
    return f"Something went wrong ({literal(type(error).__name__)}: {literal(str(error))}). Try “Re-index”."


def _show_added(added: Added, collection: Collection) -> None:
    try:
        pages = {file.name: file.pages for file in collection.files()}
    except ValueError:  # the documents are gone, which the page says below
        pages = {}
    for names, what in ((added.added, "added"), (added.replaced, "replaced")):
        if names:
            lines = [(name, f"({counted(pages[name] or 0, 'page')})" if pages.get(name) else "") for name in names]
            _say(st.success, f"{counted(len(names), 'document')} {what}", lines, icon=":material/check_circle:")
    _show_failed(added.failed, "could not be added")
    if added.added or added.replaced:
        _link_to_ask(collection)


def _link_to_ask(collection: Collection) -> None:
    st.page_link(
        st.Page(ask.show, url_path="ask", default=True),
        label="Ask these documents",
        icon=":material/search:",
        query_params={"collection": collection.id},
    )


def _show_updated(report: UpdateReport) -> None:
    changes = [
        f"{len(names)} {what}"
        for names, what in ((report.added, "new"), (report.replaced, "changed"), (report.removed, "gone"))
        if names
    ]
    if report.repaired and report.repaired.problems:
        changes.append("damage was mended")
    state = f"Up to date: {', '.join(changes)}" if changes else "Up to date: nothing had changed"
    _say(st.success, state, [], icon=":material/check_circle:")
    _show_failed(report.skipped, "can’t be read")


def _show_failed(failed: Sequence[tuple[str, str]], what: str) -> None:
    if failed:
        _say(st.warning, f"{counted(len(failed), 'file')} {what}", failed, icon=":material/warning:")


def _say(alert: Callable[..., object], title: str, lines: Sequence[tuple[str, str]], icon: str) -> None:
    """Draw a message about files: each by its name with a remark, the first ones at once."""
    listed = [f"- **{literal(name)}** {literal(remark)}" for name, remark in lines]
    more = f"\n- and {len(listed) - _AT_ONCE} more" if len(listed) > _AT_ONCE else ""
    alert("\n".join([f"**{title}**\n", *listed[:_AT_ONCE]]) + more, icon=icon)
    if more:
        with st.expander(f"All {len(listed)}"):
            st.markdown("\n".join(listed))
