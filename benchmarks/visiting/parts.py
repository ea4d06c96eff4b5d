"""The parts of the measurement, each of which returns its figures in plain values."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.errors import JobError
from benchmarks.measures import latency_figures, timed
from benchmarks.visiting.pdf import write_pdf
from benchmarks.visiting.server import Server, running
from benchmarks.visiting.visitor import Page, visiting
from demo.core.asking import Asker
from demo.core.engine import Engine
from demo.core.shelf import Shelf
from rom_haystack.inference.samples import Question, read_sample
from rom_haystack.library import Library

#: Stands on the start page once documents can be asked.
_READY = "For example"
# How often a server that measures engines is asked meanwhile, and how long that may take.
_PAUSE_S = 0.5
_MEASURED_IN_S = 600


def start_figures(home: Path) -> dict[str, Any]:
    """Start the demo in an empty home, ask at once, and go on asking while it measures engines.

    Args:
        home: Where it is to live, empty so far.

    Raises:
        JobError: It does not start, or a page shows an error.
    """
    questions = read_sample().questions
    with running(home) as server:
        return asyncio.run(_start(server, questions, home))


def user_figures(home: Path, users: int, each: int) -> dict[str, Any]:
    """Let users ask at once, each question after question, in a demo that has measured engines.

    Args:
        home: Where a demo has lived before.
        users: Number of browser sessions.
        each: Questions per user.
    """
    questions = read_sample().questions
    asked = [[questions[(user * each + n) % len(questions)] for n in range(each)] for user in range(users)]
    with running(home) as server:
        pages, seconds = asyncio.run(_ask_at_once(server, asked))
        memory = server.resident_bytes()
    flat = [question for own in asked for question in own]
    return {
        "users": users,
        "questions": len(flat),
        "errors": sum(bool(page.errors) or page.quote_s is None for page in pages),
        "right": _share_right(pages, flat),
        "questions_per_s": len(flat) / seconds,
        "quote": latency_figures([page.quote_s for page in pages if page.quote_s is not None]),
        "whole": latency_figures([page.whole_s for page in pages]),
        "resident_bytes": memory,
    }


def answer_figures(shelf: Path, rounds: int) -> dict[str, Any]:
    """Ask the sample's questions, one after the other, without a server.

    Args:
        shelf: Folder of the demo's collections, the sample indexed.
        rounds: How often each question is asked.
    """
    questions = read_sample().questions
    engine = Engine()
    asker = Asker(Shelf(shelf).get("sample"), engine)
    for question in questions[:5]:
        asker.answer(question.text)
    first, whole, right = [], [], 0
    for question in questions * rounds:
        start = time.perf_counter()
        results = asker.ask(question.text)
        known = next(result for result in results if result.read)
        first.append(time.perf_counter() - start)
        *_, last = known, *results
        whole.append(time.perf_counter() - start)
        right += any(question.answer in quote.text or quote.text in question.answer for quote in last.quotes)
    return {
        "engine": engine.name,
        "first": latency_figures(first),
        "whole": latency_figures(whole),
        "right": right / len(whole),
    }


def indexing_figures(pages: int, words: int) -> dict[str, Any]:
    """Index one PDF file, the model loaded before.

    Args:
        pages: Its pages.
        words: Words on each.
    """
    with tempfile.TemporaryDirectory() as temporary:
        warm, folder = Path(temporary, "warm"), Path(temporary, "documents")
        for place, count in ((warm, 1), (folder, pages)):
            place.mkdir()
            write_pdf(place / "text.pdf", count, words)
        with Library(warm, index=Path(temporary, "warm index")) as library:
            library.update()  # loads the model, which the next library shares
            with Library(folder, index=Path(temporary, "index")) as measured:
                report, seconds = timed(measured.update)
    return {"pages": pages, "words_per_page": words, "passages": report.passages, "seconds": seconds}


async def _start(server: Server, questions: Sequence[Question], home: Path) -> dict[str, Any]:
    async with visiting(server) as visitor:
        let_in = time.perf_counter() - server.started
        page = await visitor.open()
        ready = time.perf_counter() - server.started
        if page.errors or not page.shows(_READY):
            raise JobError(f"The start page is not as expected: {page.errors or page.texts}")
        first = await visitor.open(q=questions[0].text)
        answered = time.perf_counter() - server.started
        meanwhile, number = [], 1
        while not (measured := list(home.glob("rom/exports/*/selection.json"))):
            if time.perf_counter() - server.started > _MEASURED_IN_S:
                raise JobError(f"Engines were not measured in {_MEASURED_IN_S} s.")
            await asyncio.sleep(_PAUSE_S)
            meanwhile.append(await visitor.open(q=questions[number % len(questions)].text))
            number += 1
        measured_after = time.perf_counter() - server.started
    errors = [error for page in (first, *meanwhile) for error in page.errors]
    if errors or not measured:
        raise JobError(f"A page shows an error: {errors}")
    return {
        "let_in_s": let_in,
        "ready_s": ready,
        "first_answer_s": answered,
        "first_question_s": first.whole_s,
        "measured_after_s": measured_after,
        "while_measuring": latency_figures([page.whole_s for page in meanwhile]) if meanwhile else None,
    }


async def _ask_at_once(server: Server, asked: Sequence[Sequence[Question]]) -> tuple[list[Page], float]:
    """Let each session open the start page, then all ask at the same time; return the pages and the seconds it took."""
    begin = asyncio.Event()
    arrived = asyncio.Semaphore(0)

    async def use(questions: Sequence[Question]) -> list[Page]:
        async with visiting(server) as visitor:
            await visitor.open()
            arrived.release()
            await begin.wait()
            return [await visitor.open(q=question.text) for question in questions]

    sessions = [asyncio.create_task(use(questions)) for questions in asked]
    for _ in sessions:
        await arrived.acquire()
    start = time.perf_counter()
    begin.set()
    pages = [page for own in await asyncio.gather(*sessions) for page in own]
    return pages, time.perf_counter() - start


def _share_right(pages: Sequence[Page], questions: Sequence[Question]) -> float:
    right = [page.shows(question.answer) for page, question in zip(pages, questions, strict=True)]
    return sum(right) / len(right)
