"""The measuring process: `python -m benchmarks.answering.worker`, fed and read by `process.Worker`.

It imports nothing but the standard library before the first request, so that imports count as part of a cold start
and find the cores that they may use.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, TextIO

from benchmarks.answering.systems import Job, Place, System

if TYPE_CHECKING:
    from benchmarks.answering.service import Service


def main() -> None:
    """Read the job, then do what is asked until there is nothing more to read."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no reply
    description = json.loads(sys.stdin.readline())
    job = Job(**{**description, "system": System(**description["system"]), "place": Place(**description["place"])})
    if job.cores is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.cores])
    service: Service | None = None
    replied, used = time.perf_counter(), time.process_time()
    for line in sys.stdin:
        idle = {"idle_s": time.perf_counter() - replied, "idle_cpu_s": time.process_time() - used}
        if service is None:
            service = _service(job)
        _reply(replies, _result(service, **json.loads(line)) | idle)
        replied, used = time.perf_counter(), time.process_time()


def _service(job: Job) -> Service:
    from benchmarks.answering.service import Service  # noqa: PLC0415 (see above)

    return Service(job)


def _result(service: Service, action: str, **arguments: Any) -> dict[str, Any]:
    try:
        result: dict[str, Any] = getattr(service, action)(**arguments)
    except Exception:  # noqa: BLE001 (whatever it is, the parent reports it and ends the run)
        return {"error": traceback.format_exc()[-4000:]}
    return result


def _reply(replies: TextIO, result: dict[str, Any]) -> None:
    replies.write(json.dumps(result) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
