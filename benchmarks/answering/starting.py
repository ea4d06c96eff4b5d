"""Cold starts: a fresh process up to its first answer, and what importing and loading take of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from statistics import median
from typing import Any

from benchmarks.answering.process import ROOT, Worker, environment_of_workers
from benchmarks.answering.systems import Job
from benchmarks.errors import JobError
from training.data.dataset import Question

#: Run in a process of its own: the time to import the package, then its components, and to load the model.
_PROBE = """
import json, sys, time
def since(start): return time.perf_counter() - start
start = time.perf_counter()
import rom_haystack
imported, with_torch = since(start), "torch" in sys.modules
start = time.perf_counter()
from rom_haystack import ROMTextEmbedder
components = since(start)
embedder = ROMTextEmbedder(model=sys.argv[1])
start = time.perf_counter()
embedder.warm_up()
print(json.dumps({"import_s": imported, "import_of_torch": with_torch, "components_import_s": components,
                  "model_load_s": since(start)}))
"""


def first_answers(jobs: Mapping[str, Job], question: Question, rounds: int) -> dict[str, dict[str, float]]:
    """Start each system's process several times, in turn, and ask it one question.

    Models and stores are in the page cache, as a server's are that is started again.

    Args:
        jobs: The systems, by name.
        question: The question.
        rounds: How often each is started.

    Returns:
        By system: `first_answer_s`, the median time from the start of the process to its answer; `answer_s`, what the
        answer itself took of it, which is loading, mostly.

    Raises:
        JobError: A system failed.
    """
    taken: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(rounds):
        for name, job in jobs.items():
            start = time.perf_counter()
            with Worker(job) as process:
                reply = process.request("ask", question=question.text)
                taken[name].append((time.perf_counter() - start, reply["seconds"]))
    return {
        name: {"first_answer_s": median(whole for whole, _ in times), "answer_s": median(last for _, last in times)}
        for name, times in taken.items()
    }


def import_and_load(model: str, rounds: int) -> dict[str, Any]:
    """Import `rom_haystack` and load its model, in fresh processes.

    Args:
        model: Bundled name or folder of the checkpoint.
        rounds: How often.

    Returns:
        Medians: `import_s` (of `rom_haystack`), `components_import_s` (of an embedder, and so of Haystack),
        `model_load_s` (the embedder's `warm_up`, and so the import of the engine); and `import_of_torch`, whether the
        first of them imported torch.

    Raises:
        JobError: A process failed.
    """
    probes = [_probe(model) for _ in range(rounds)]
    times = ("import_s", "components_import_s", "model_load_s")
    return {
        "import_of_torch": any(probe["import_of_torch"] for probe in probes),
        **{name: median(probe[name] for probe in probes) for name in times},
    }


def _probe(model: str) -> dict[str, Any]:
    done = subprocess.run(  # noqa: S603 (our own text)
        [sys.executable, "-c", _PROBE, model],
        cwd=ROOT,
        env=environment_of_workers(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise JobError(f"Importing and loading ended with {done.returncode}: {done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
