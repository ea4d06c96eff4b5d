"""Concurrent callers share the calls of one backend, so that no one waits for another's whole job.

There is no thread, timer or waiting for company here. The first caller leads: it runs the backend for whoever waits,
itself included, until its own inputs are done, and then the next caller leads. A caller that finds no one else runs the
backend as it would without this.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from rom_haystack.inference.backends.base import Backend, Head, Outputs, TokenIds
from rom_haystack.inference.backends.graph import check_process
from rom_haystack.inference.batching import padded_length


@dataclass(eq=False)
class _Request:
    """What one caller wants.

    Attributes:
        inputs: Everything it wants run; taken in this order.
        form: Head and batch size; only requests of one form share a call.
        woken: Notified when the request is settled, or when its caller may lead.
        outputs: Outputs of the first inputs, as far as they were run.
        error: What went wrong in a call with some of its inputs.
    """

    inputs: Sequence[TokenIds]
    form: tuple[Head, int | None]
    woken: threading.Condition
    outputs: list[Outputs] = field(default_factory=list)
    error: Exception | None = None

    @property
    def settled(self) -> bool:
        return self.error is not None or len(self.outputs) == len(self.inputs)


#: What goes into one backend call: inputs with the requests they belong to, those of one request in their order.
_Share = list[tuple[_Request, TokenIds]]


class Coalescer:
    """A backend for many threads at once: each call takes inputs of all waiting callers in turn.

    A call holds at most `token_budget` tokens, so a small request waits for one running call and is in the next,
    however many inputs a long job has left. Callers whose requests cannot share a call (another head or batch size)
    come in turn too.

    Args:
        backend: What runs the inputs.
        token_budget: Most tokens per call, padding counted; a longer input gets a call of its own.

    Raises:
        ValueError: `token_budget` is below 1.
    """

    def __init__(self, backend: Backend, *, token_budget: int) -> None:
        if token_budget < 1:
            raise ValueError(f"token_budget is {token_budget}; it must be at least 1.")
        self._backend = backend
        self._token_budget = token_budget
        self._lock = threading.Lock()
        self._leader: _Request | None = None
        self._waiting: list[_Request] = []  # least recently served first
        self._process = os.getpid()

    def run(self, inputs: Sequence[TokenIds], head: Head, *, batch_size: int | None = None) -> list[Outputs]:
        """Run the encoder and one head; see `Backend.run`, whose errors reach every caller with inputs in the call.

        Raises:
            RuntimeError: The process was forked since the encoder was loaded.
        """
        if not len(inputs):
            return []
        check_process(self._process)  # the lock and the leader of another process may never be free again
        request = _Request(inputs, (head, batch_size), threading.Condition(self._lock))
        try:
            with self._lock:
                self._waiting.append(request)
            while self._leads(request):
                self._run_share()
        finally:  # an interrupted caller, too, leaves the others one who leads
            self._leave(request)
        if request.error is not None:
            raise request.error
        return request.outputs

    def _leads(self, request: _Request) -> bool:
        """Wait until a request is settled (False) or its caller is the leader (True)."""
        with self._lock:
            while not request.settled and self._leader not in (None, request):
                request.woken.wait()
            if request.settled:
                return False
            self._leader = request
            return True

    def _run_share(self) -> None:
        """Run one call. Requests change only once it is over, so that an interrupted one leaves no trace."""
        with self._lock:
            share = self._next_share()
        try:
            outputs = self._run_backend(share)
        except Exception as error:  # noqa: BLE001 (raised in every caller it concerns)
            with self._lock:
                for request, _ in share:
                    request.error = error
                self._requeue({request for request, _ in share})
        else:
            with self._lock:
                for (request, _), output in zip(share, outputs, strict=True):
                    request.outputs.append(output)
                self._requeue({request for request, _ in share})

    def _run_backend(self, share: _Share) -> list[Outputs]:
        longest_first = sorted(range(len(share)), key=lambda position: -len(share[position][1]))
        head, batch_size = share[0][0].form
        results = self._backend.run([share[position][1] for position in longest_first], head, batch_size=batch_size)
        by_position = dict(zip(longest_first, results, strict=True))
        return [by_position[position] for position in range(len(share))]

    def _next_share(self) -> _Share:
        """Choose the inputs of the next call: one of each waiting request of the first one's form, and round again."""
        form = self._waiting[0].form
        turns = deque((request, len(request.outputs)) for request in self._waiting if request.form == form)
        share: _Share = []
        tokens = 0
        while turns:
            request, position = turns.popleft()
            length = padded_length(len(request.inputs[position]), self._token_budget)
            if share and tokens + length > self._token_budget:
                continue  # no more of this request, but perhaps of others
            share.append((request, request.inputs[position]))
            tokens += length
            if position + 1 < len(request.inputs):
                turns.append((request, position + 1))
        return share

    def _requeue(self, served: set[_Request]) -> None:
        """Move those just served behind those who waited."""
        self._waiting = sorted(self._waiting, key=lambda request: request in served)
        self._drop_settled()

    def _drop_settled(self) -> None:
        for request in self._waiting:
            if request.settled:
                request.woken.notify()
        self._waiting = [request for request in self._waiting if not request.settled]

    def _leave(self, request: _Request) -> None:
        """Forget a request; if no one leads now, wake a caller who will."""
        with self._lock:
            self._waiting = [other for other in self._waiting if other is not request]
            self._drop_settled()  # some are left where delivery was interrupted
            if self._leader is request:
                self._leader = None
            if self._leader is None and self._waiting:
                self._waiting[0].woken.notify()
