"""Measure stores on one workload."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.exact import nearest
from benchmarks.measures import drop_from_page_cache
from benchmarks.stores.subjects import load_subject
from benchmarks.stores.summary import Measured, figures_of
from benchmarks.stores.worker import RECALL_AT, Job, run_in_process_of_its_own
from benchmarks.stores.workload import Workload

Run = Callable[[Job], dict[str, Any]]
Report = Callable[[str], None]


def measure(
    workload: Workload,
    subjects: Sequence[str],
    *,
    work: Path,
    rounds: int,
    batch_size: int,
    report: Report,
    run: Run = run_in_process_of_its_own,
) -> dict[str, dict[str, Any]]:
    """Measure stores on a workload.

    Each store is written once. Then, in every round, each store in turn is opened and searched in a fresh process, so
    that a slow spell of the machine hits all of them.

    Args:
        workload: What is written and asked.
        subjects: Names of the stores; those that the workload is too large for are left out.
        work: Folder for the stores, which are removed afterwards.
        rounds: How often each store is opened and searched.
        batch_size: Documents per write.
        report: Takes a line about what is being done.
        run: Runs a job.

    Returns:
        By store, its figures, as `summary.figures_of` describes them.

    Raises:
        ValueError: A store can't be measured.
        JobError: A measuring process failed.
    """
    classes = {name: load_subject(name) for name in subjects}
    classes = {name: c for name, c in classes.items() if c.largest is None or workload.size <= c.largest}
    written, cold, searched = {}, {}, defaultdict(list)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        jobs = {
            name: Job("write", name, str(workload.folder), str(Path(folder, name)), batch_size, subject.query_limit)
            for name, subject in classes.items()
        }
        for name, job in jobs.items():
            report(f"{workload.size:,} documents: writing {name}")
            written[name] = run(job)
            drop_from_page_cache(Path(job.store))
            cold[name] = run(replace(job, action="open"))
        for number in range(rounds):
            for name, job in jobs.items():
                report(f"{workload.size:,} documents: searching {name}, round {number + 1} of {rounds}")
                searched[name].append(run(replace(job, action="search")))
    report(f"{workload.size:,} documents: searching exactly, for comparison")
    truth = nearest(workload.vectors, workload.queries, RECALL_AT)
    return {name: figures_of(Measured(written[name], cold[name], searched[name]), workload, truth) for name in jobs}
