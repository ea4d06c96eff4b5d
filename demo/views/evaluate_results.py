"""What an evaluation found: figures, charts, wrong answers, downloads."""

import html
from functools import partial
from pathlib import Path, PurePath

import streamlit as st

from demo.core.evaluating import Outcome, Run
from demo.core.evaluation_report import (
    ANSWERED,
    EXACT_MATCH,
    F1,
    NO_ANSWER,
    QUOTE_EXACT_MATCH,
    QUOTE_F1,
    RECALL,
    Summary,
    as_csv,
    as_json,
)
from demo.core.highlighting import marked_html
from demo.core.mistakes import INVENTED, NOT_FOUND, OTHER_WORDS, PARTLY, WITHHELD, mistakes
from demo.core.wording import counted, duration, literal, percent
from demo.views import ask, evaluate_charts, settings
from rom_haystack.metrics import Figure

_STYLE = Path(__file__).with_name("evaluate.css")
_MEANINGS = {
    EXACT_MATCH: "The answer that is given, or “no answer”, is right, case, articles and punctuation aside.",
    F1: "Words that the answer shares with the right one; partly right answers count in part.",
    RECALL.format(1): "The first passage found holds a right answer.",
    RECALL.format(5): "One of the first 5 passages found holds a right answer.",
    RECALL.format(20): "One of the first 20 passages found holds a right answer.",
    QUOTE_EXACT_MATCH: "Questions that have an answer; the best quote, even where “no answer” was likelier.",
    QUOTE_F1: "The same by F1. SQuAD 1.1 is scored so.",
    ANSWERED: "Questions that have an answer, and were given one, right or wrong.",
    NO_ANSWER: "Questions that have no answer, and were given none.",
}
_MAIN = (EXACT_MATCH, F1, RECALL.format(1), RECALL.format(5), RECALL.format(20), NO_ANSWER)
_MISTAKES = {
    NOT_FOUND: "None of the first 20 passages found holds a right answer.",
    WITHHELD: "“No answer” was likelier than the best quote.",
    INVENTED: "The question has no answer; a quote was given.",
    OTHER_WORDS: "A passage with a right answer was found, and another quote was given.",
    PARTLY: "The quote shares words with a right answer: it is longer, shorter, or beside it.",
}
_PER_PAGE = 5
_LONGEST_NAME = 60

# Widget keys.
_KIND, _PAGE = "evaluate.kind", "evaluate.page"


def show(run: Run, summary: Summary) -> None:
    """Draw an evaluation.

    Args:
        run: What was asked, and what came of it.
        summary: The run, summed up.
    """
    st.html(_STYLE)
    st.header("Results", anchor=False)
    st.caption(_how(run))
    _show_figures(summary)
    _show_charts(summary)
    _show_mistakes(run)
    _offer_downloads(run, summary)


def _how(run: Run) -> str:
    """Say what was asked, and how."""
    asked = len(run.outcomes)
    drawn = f"{asked:,} of {counted(run.in_file, 'question')}, drawn by lot," if asked < run.in_file else ""
    parts = [f"{drawn or counted(asked, 'question')} from {literal(run.questions)}"]
    if run.place == "documents":
        parts += [literal(run.documents), settings.RETRIEVALS[run.settings.retrieval].lower()]
        parts.append(
            f"{counted(run.settings.passages, 'passage')} read ({settings.READINGS[run.settings.reading].lower()})"
        )
    else:
        parts.append("each on its own paragraph")
    return " · ".join([*parts, duration(run.seconds), literal(run.engine)])


def _show_figures(summary: Summary) -> None:
    main = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{_percent(found)}</dd><dd>{_interval(found)}</dd></div>"
        for name in _MAIN
        if (found := summary.figures.get(name))
    )
    st.html(f"<dl class='rom-metrics'>{main}</dl>")
    st.caption("Below each figure stands its 95% interval.")
    with st.expander("All figures, and what they say", icon=":material/table:"):
        rows = "".join(
            f"<tr><th scope='row'>{html.escape(name)}</th><td>{_percent(found)}</td><td>{_interval(found)}</td>"
            f"<td>{html.escape(_MEANINGS[name])}</td></tr>"
            for name, found in summary.figures.items()
        )
        st.html(
            "<table class='rom-figures'><thead><tr><th scope='col'>Figure</th><th scope='col'>Mean</th>"
            f"<th scope='col'>95% interval</th><th scope='col'>What it says</th></tr></thead><tbody>{rows}</tbody>"
            "</table>"
        )
        st.caption(
            "Intervals by a bootstrap over the questions: so much may differ with other questions of their kind."
        )


def _percent(found: Figure) -> str:
    return "100%" if found.mean == 100 else f"{found.mean:.1f}%"


def _interval(found: Figure) -> str:
    return f"{found.low:.1f}–{found.high:.1f}"


def _show_charts(summary: Summary) -> None:
    if summary.recall:
        st.subheader("Answers found", anchor=False)
        st.caption("How often one of the first passages holds a right answer, with 95% intervals.")
        st.altair_chart(evaluate_charts.recall_chart(summary.recall), alt=evaluate_charts.recall_text(summary.recall))
    left, right = st.columns(2)
    with left:
        st.subheader("Answers by F1", anchor=False)
        st.caption("At 0 they are all wrong, at 100 all right; “no answer” counts as right where there is none.")
        st.altair_chart(evaluate_charts.f1_chart(summary.f1_bands), alt=evaluate_charts.f1_text(summary.f1_bands))
    with right:
        st.subheader("Scores against truth", anchor=False)
        st.caption(_calibration(summary))
        st.altair_chart(
            evaluate_charts.reliability_chart(summary.reliability),
            alt=evaluate_charts.reliability_text(summary.reliability),
        )


def _calibration(summary: Summary) -> str:
    return (
        "On the dashed line, best quotes are as right (F1) as their score says. "
        f"Mean gap: {100 * summary.calibration_error:.1f} points."
    )


def _show_mistakes(run: Run) -> None:
    by_kind = mistakes(run)
    st.header("Answers that are not right", anchor=False)
    if not by_kind:
        st.success("All answers are right, to the word.", icon=":material/check_circle:")
        return
    kind = st.selectbox(
        "Kind of mistake",
        list(by_kind),
        format_func=lambda kind: f"{kind} ({len(by_kind[kind]):,})",
        key=f"{_KIND}.{'.'.join(by_kind)}",  # another evaluation has others
        width=380,
    )
    found = by_kind[kind]
    pages = -(-len(found) // _PER_PAGE)
    st.caption(_MISTAKES[kind])
    turning = f"{_PAGE}.{kind}.{pages}"
    page = st.session_state.get(turning, 1)
    for outcome in found[(page - 1) * _PER_PAGE : page * _PER_PAGE]:
        with st.container(border=True, gap="xsmall"):
            st.html(_mistake(outcome))
            if run.collection_id is not None:
                st.page_link(
                    st.Page(ask.show, url_path="ask", default=True),
                    label="Ask this",
                    icon=":material/search:",
                    query_params={"q": outcome.question.query, **_in_link(run)},
                )
    if pages > 1:
        st.pagination(pages, key=turning)


def _in_link(run: Run) -> dict[str, str]:
    """What a link says of the documents and the settings of a run."""
    said = settings.in_link(run.settings)
    return said if run.collection_id in (None, "sample") else {**said, "collection": run.collection_id}


def _mistake(outcome: Outcome) -> str:
    """Write a wrong answer as HTML: the question, what is right, what was said, and where it stands."""
    right = " · ".join(html.escape(answer) for answer in outcome.question.answers) or "<i>no answer</i>"
    given = html.escape(outcome.prediction) or "<i>no answer</i>"
    score = f"score {percent(outcome.score)}" if outcome.answered else f"best quote’s score {percent(outcome.score)}"
    place = ", ".join(
        part for part in (outcome.title, f"page {outcome.page}" if outcome.page else "", outcome.file_path) if part
    )
    rank = f"; first passage with a right answer: number {outcome.rank}" if outcome.rank else ""
    return (
        f"<div class='rom-mistake'><h3>{html.escape(outcome.question.query)}</h3><dl>"
        f"<dt>Right</dt><dd>{right}</dd><dt>Given</dt><dd>{given} <span class='rom-score'>{score}</span></dd>"
        f"<dt>Passage</dt><dd class='rom-sentence'>{marked_html(outcome.sentence, [outcome.span])}</dd></dl>"
        f"<p class='rom-file'>{html.escape(place)}{rank}</p></div>"
    )


def _offer_downloads(run: Run, summary: Summary) -> None:
    st.header("Take the results with you", anchor=False)
    name = f"{PurePath(run.questions).stem[:_LONGEST_NAME]}-results"
    with st.container(horizontal=True):
        st.download_button(
            "CSV, a row per question",
            partial(as_csv, run),
            f"{name}.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
        st.download_button(
            "JSON, with settings and figures",
            partial(as_json, run, summary),
            f"{name}.json",
            "application/json",
            icon=":material/download:",
            on_click="ignore",
        )
