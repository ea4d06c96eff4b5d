"""One measurement in a process of its own: `python -m benchmarks.stores.worker JOB.json RESULT.json`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import faiss
from haystack import Document

from benchmarks.errors import JobError
from benchmarks.measures import disk_bytes, memory, timed
from benchmarks.stores.subjects import KeywordSearch, Subject, load_subject
from benchmarks.stores.workload import Workload, category_of_query

ROOT = Path(__file__).resolve().parents[2]

TOP_K = 10
RECALL_AT = 20

#: Makes the numerical libraries of a searching process single-threaded.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Job:
    """One measurement.

    Args:
        action: `write` the workload to a store, `open` the store and ask one query, or `search` it.
        subject: Which store.
        workload: The workload's folder.
        store: The store's folder.
        batch_size: Documents per write.
        query_limit: Queries of each kind at most.
    """

    action: Literal["write", "open", "search"]
    subject: str
    workload: str
    store: str
    batch_size: int = 5000
    query_limit: int | None = None


def run_in_process_of_its_own(job: Job) -> dict[str, Any]:
    """Run a job in a fresh process, single-threaded when it searches.

    Raises:
        JobError: The process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder, "job.json"), Path(folder, "result.json")
        question.write_text(json.dumps(asdict(job)), encoding="utf-8")
        done = subprocess.run(  # noqa: S603 (our own module)
            [sys.executable, "-m", "benchmarks.stores.worker", str(question), str(answer)],
            cwd=ROOT,
            env={**os.environ, "HAYSTACK_TELEMETRY_ENABLED": "False", **({} if job.action == "write" else ONE_THREAD)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise JobError(f"{job} ended with {done.returncode}: {done.stderr[-4000:]}")
        result: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        return result


def run_job(job: Job) -> dict[str, Any]:
    """Run a job in this process; see `write`, `open_cold` and `search` for what comes back."""
    return {"write": write, "open": first_query, "search": search}[job.action](job)


def write(job: Job) -> dict[str, Any]:
    """Write the workload and finish the store.

    Returns:
        `write_s` (inside the store's write method), `slowest_batch_s`, `elapsed_s` (making the documents counted, and
        the index built meanwhile), `finish_s`, `disk_bytes` after closing, `memory`.
    """
    workload, folder = Workload(Path(job.workload)), Path(job.store)
    folder.mkdir(parents=True, exist_ok=True)
    subject = load_subject(job.subject)(folder, workload.dim)
    start = time.perf_counter()
    seconds = [timed(partial(subject.write, batch))[1] for batch in workload.batches(job.batch_size)]
    elapsed = time.perf_counter() - start
    finish = timed(subject.finish)[1]
    subject.close()
    return {
        "write_s": sum(seconds),
        "slowest_batch_s": max(seconds),
        "elapsed_s": elapsed,
        "finish_s": finish,
        "disk_bytes": disk_bytes(folder),
        "memory": memory(),
    }


def first_query(job: Job) -> dict[str, Any]:
    """Open the store and ask one query; imports and the workload's queries are there before.

    Returns:
        `opening_s` (constructor), `first_query_s` (some stores open their files then), and `memory` when everything was
        `imported` and when the store was `ready`: opened, and the first query answered.
    """
    return _opened(job, Workload(Path(job.workload)))[1]


def search(job: Job) -> dict[str, Any]:
    """Open the store and ask all queries, one at a time.

    Returns:
        What `first_query` returns; `memory` also after all vector searches (`vectors_searched`) and after all searches
        (`searched`); by kind of search, `seconds` per query and the rows `found`. Kinds: `search` (10 documents),
        `search_20` (20, for recall), `filtered` (10 of one category), and `keywords` (10, by BM25) where the store has
        it.
    """
    workload = Workload(Path(job.workload))
    subject, opened = _opened(job, workload)
    queries = workload.queries[: job.query_limit].tolist()
    questions = workload.questions[: job.query_limit]
    kinds: dict[str, list[Callable[[], list[Document]]]] = {
        "search": [partial(subject.search, query, TOP_K) for query in queries],
        "search_20": [partial(subject.search, query, RECALL_AT) for query in queries],
        "filtered": [partial(subject.search, q, TOP_K, category_of_query(i)) for i, q in enumerate(queries)],
    }
    answers = {kind: [_answer(call) for call in calls] for kind, calls in kinds.items()}
    opened["memory"]["vectors_searched"] = memory()
    if isinstance(subject, KeywordSearch):
        answers["keywords"] = [_answer(partial(subject.search_keywords, question, TOP_K)) for question in questions]
    opened["memory"]["searched"] = memory()
    subject.close()
    return {
        **opened,
        "seconds": {kind: [seconds for _, seconds in results] for kind, results in answers.items()},
        "found": {kind: [rows for rows, _ in results] for kind, results in answers.items()},
    }


def _opened(job: Job, workload: Workload) -> tuple[Subject, dict[str, Any]]:
    """Open the store and ask the last query, which the searches that follow ask last."""
    make = load_subject(job.subject)
    query, folder, dim = workload.queries[-1].tolist(), Path(job.store), workload.dim
    faiss.omp_set_num_threads(1)
    imported = memory()
    subject, opening = timed(partial(make, folder, dim))
    _, first = timed(partial(subject.search, query, TOP_K))
    return subject, {
        "opening_s": opening,
        "first_query_s": first,
        "memory": {"imported": imported, "ready": memory()},
    }


def _answer(call: Callable[[], list[Document]]) -> tuple[list[int], float]:
    """Take the time of a search and keep the row numbers alone: documents would count as the store's memory."""
    documents, seconds = timed(call)
    return [document.meta["row"] for document in documents], seconds


if __name__ == "__main__":
    job_file, result_file = sys.argv[1:]
    result = run_job(Job(**json.loads(Path(job_file).read_text(encoding="utf-8"))))
    Path(result_file).write_text(json.dumps(result), encoding="utf-8")
