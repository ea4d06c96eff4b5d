"""Work on documents in the background: how far it is, a way to end it, and what came of it."""

import html
from collections.abc import Callable, Sequence
from typing import NoReturn

import streamlit as st

from demo.core.adding import Adding, Updating
from demo.core.collection import Collection
from demo.core.uploads import Added
from demo.core.wording import counted, literal
from demo.views import ask
from rom_haystack.library import UpdateReport

Work = Adding | Updating

# Session state: the work that goes on, or whose outcome was not put away yet.
_WORK = "work on documents"
_TICK = 0.5  # seconds
_WORDS = {"waiting": "waiting", "reading": "reading", "done": "read"}
_AT_ONCE = 8


def start(work: Work) -> NoReturn:
    """Show work that has just begun, in place of any earlier."""
    st.session_state[_WORK] = work
    st.rerun()


def clear() -> None:
    """Put away the outcome of earlier work."""
    st.session_state.pop(_WORK, None)


def runs_on(collection: Collection) -> bool:
    """Tell whether work on a collection goes on."""
    work = _work()
    return work is not None and work.collection is collection and work.job.state == "running"


def show_progress() -> bool:
    """Draw how far the work is, until it ends; the rest of the page is not drawn anew meanwhile.

    Returns:
        Whether there is any.
    """
    work = _work()
    if work is None or work.job.state != "running":
        return False
    _progress()
    return True


def show_outcome(collection: Collection) -> None:
    """Draw what came of the last work, where it was on this collection."""
    work = _work()
    if work is None or work.collection is not collection:
        return
    job = work.job
    if job.state == "cancelled":
        st.info("Cancelled. What was read by then stays.", icon=":material/cancel:")
    elif job.state == "failed":
        st.error(_reason(job.error), icon=":material/error:")
    elif isinstance(job.outcome, Added):
        _show_added(job.outcome, collection)
    elif isinstance(job.outcome, UpdateReport):
        _show_updated(job.outcome)


def _work() -> Work | None:
    work: Work | None = st.session_state.get(_WORK)
    return work


@st.fragment(run_every=_TICK)
def _progress() -> None:
    work = _work()
    if work is None or work.job.state != "running":
        st.rerun()
    now = work.job.progress
    st.header("Reading documents", anchor=False)
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
    pages = {file.name: file.pages for file in collection.files()}
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
