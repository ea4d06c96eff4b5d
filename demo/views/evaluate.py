"""The page `Evaluate`: many questions whose answers are known."""

import streamlit as st

from demo.core import evaluating
from demo.core.collection import Collection
from demo.core.engine import Engine
from demo.core.evaluating import Place, Run
from demo.core.evaluation_report import Summary, summarise
from demo.core.jobs import Job, Report
from demo.core.question_files import (
    FILE_TYPES,
    MAX_ASKED,
    MAX_BYTES,
    QuestionFileError,
    QuestionSet,
    read_question_set,
    sample_question_set,
)
from demo.core.results import Settings
from demo.core.visits import while_visited
from demo.core.wording import counted, literal
from demo.views import evaluate_results, frame, links, settings
from demo.views.messages import say_error
from demo.views.visitor import visits

Evaluation = tuple[Run, Summary]

# Session state: the questions, why they can't be read, and the evaluation that runs or ran last.
_SET, _PROBLEM, _JOB = "evaluate.set", "evaluate.problem", "evaluate.job"
# Widget keys.
_FILE, _COUNT, _PLACE = "evaluate.file", "evaluate.count", "evaluate.place"

_USUAL = 500
_STEP = 100
_TICK = 0.5
_PLACES: dict[Place, str] = {"documents": "All documents", "paragraphs": "Each question's own paragraph"}
_LIMITS = (
    f"CSV or TSV, SQuAD's JSON, or JSON lines. A file may have {MAX_BYTES // 2**20} MB; up to {MAX_ASKED:,} questions "
    "are asked at a time. Nothing leaves this machine."
)
_EXAMPLE = """question,answer,answer 2
Which Apollo 11 astronaut stayed in orbit?,Michael Collins,Collins
Which river feeds the Aral Sea?,,"""


def show() -> None:
    """Draw the page."""
    link = links.arrived()
    if link is not None:
        settings.follow(link)
    st.title("Evaluate", anchor=False)
    st.caption("Ask many questions whose answers you know, and see how often the answers are right.")
    _choose_questions()
    asked: QuestionSet | None = st.session_state.get(_SET)
    job: Job[Evaluation] | None = st.session_state.get(_JOB)
    if asked is None:
        _explain_files()
    else:
        _choose_how(asked, running=job is not None and job.state == "running")
    job = st.session_state.get(_JOB)
    if job is not None:
        _show_job(job)


def _choose_questions() -> None:
    st.header("Questions", anchor=False)
    st.file_uploader(
        "Questions with their answers",
        type=FILE_TYPES,
        key=_FILE,
        on_change=_read_upload,
        max_upload_size=MAX_BYTES // 2**20,
    )
    st.caption(_LIMITS)
    if problem := st.session_state.get(_PROBLEM):
        say_error(problem)


def _explain_files() -> None:
    """Draw what stands here before there are questions."""
    sample = sample_question_set()
    st.button(
        f"Try the {len(sample.questions)} questions on the sample articles",
        icon=":material/play_arrow:",
        on_click=_take_sample,
    )
    with st.expander("What such a file looks like", icon=":material/description:"):
        st.markdown(
            "The first line names the columns `question` and `answer`; other columns are left alone. Several right "
            "answers stand in several columns (`answer`, `answer 2`, …) or in one, with `|` between them. Where the "
            "documents have no answer, leave it empty."
        )
        st.code(_EXAMPLE, language=None, wrap_lines=True)
        st.markdown(
            "JSON lines have a `question` and a list of `answers` each. A SQuAD file may be evaluated on all "
            "documents, or each question on the paragraph that it comes with."
        )


def _choose_how(asked: QuestionSet, *, running: bool) -> None:
    total = len(asked.questions)
    unanswerable = f", {asked.unanswerable:,} of them without an answer" if asked.unanswerable else ""
    st.markdown(f"**{counted(total, 'question')}**{unanswerable}, from {literal(asked.name)}")
    with st.container(key="evaluate-where", horizontal=True, vertical_alignment="bottom"):
        with st.container(width=280):
            collection = frame.choose_collection()
        chosen = settings.choose_settings()
        count = _choose_count(total)
    place: Place = "documents"
    if asked.on_paragraphs:
        place = st.segmented_control(
            "Look for answers in",
            list(_PLACES),
            format_func=_PLACES.__getitem__,
            key=_PLACE,
            required=True,
            default="paragraphs",
        )
    links.write({"collection": links.id_in_link(collection), **settings.in_link(chosen)})
    if place == "documents" and not frame.indexed(collection):
        return
    st.button(
        f"Ask {counted(count, 'question')}",
        type="primary",
        disabled=running,
        on_click=_start,
        args=(asked, count, place, collection, frame.engine(), chosen),
    )


def _choose_count(total: int) -> int:
    """Let people choose how many questions are asked, where there are many."""
    if total <= _USUAL:
        return total
    most = min(total, MAX_ASKED)
    count = st.number_input(
        "Questions to ask",
        min_value=1,
        max_value=most,
        value=_USUAL,
        step=_STEP,
        key=f"{_COUNT}.{total}",  # another file has other limits
        help=f"If fewer than all {total:,}, they are drawn by lot, the same ones every time.",
        width=200,
    )
    return count or _USUAL


def _read_upload() -> None:
    uploaded = st.session_state[_FILE]
    st.session_state.pop(_PROBLEM, None)
    if uploaded is None:
        return
    try:
        st.session_state[_SET] = read_question_set(uploaded.name, uploaded.getvalue())
    except QuestionFileError as error:
        st.session_state.pop(_SET, None)
        st.session_state[_PROBLEM] = str(error)


def _take_sample() -> None:
    st.session_state.pop(_PROBLEM, None)
    st.session_state[_SET] = sample_question_set()


def _start(
    asked: QuestionSet, count: int, place: Place, collection: Collection, engine: Engine, chosen: Settings
) -> None:
    visited = visits()

    def work(report: Report) -> Evaluation:
        run = evaluating.run(asked, count, place, collection, engine, chosen, while_visited(report, visited))
        return run, summarise(run)

    st.session_state[_JOB] = Job(work, "Evaluating")


def _show_job(job: Job[Evaluation]) -> None:
    if job.state == "running":
        _show_progress()
    elif job.state == "cancelled":
        st.info("The evaluation was cancelled.", icon=":material/cancel:")
    elif job.outcome is None:
        st.error(f"The evaluation failed. {literal(str(job.error))}", icon=":material/error:")
    else:
        evaluate_results.show(*job.outcome)


@st.fragment(run_every=_TICK)
def _show_progress() -> None:
    """Draw how far the evaluation is, until it has ended."""
    job: Job[Evaluation] = st.session_state[_JOB]
    if job.state != "running":
        st.rerun()
    now = job.progress
    share = now.done / now.total if now.total else 0.0
    asked = f"Asked {now.done:,} of {counted(now.total, 'question')}" if now.total else "Starting"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(min(share, 1.0), text=now.label.capitalize() or asked)
        st.button("Cancel", icon=":material/close:", on_click=job.cancel)
