"""The audit log: a line for each execution that ended or was to end, and for requests that were refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from executor_api.domain.audit import execution_line
from executor_api.domain.caller import Caller, Origin
from executor_api.domain.execution import Execution
from executor_api.domain.plan import Plan
from executor_api.domain.token_bucket import TokenBucket
from executor_api.service.buckets import Buckets

REFUSALS = TokenBucket(rate=1, burst=20)
"""Lines for refusals of one kind to one tenant, or to those of whom nobody knows whose they are."""
_PATH_CHARACTERS = 128


class Write(Protocol):
    """Writes one line. Must not block, must not raise."""

    def __call__(self, event: str, /, **fields: object) -> None:
        """What happened, and its particulars."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that was not let in, or not served. ``problem`` is the kind; ``caller`` is None if nobody knows it."""

    status: int
    problem: str
    method: str
    path: str
    address: str
    caller: Caller | None


def _nowhere(event: str, /, **fields: object) -> None:
    """Keep no log."""


class Audit:
    """``monotonic`` gives seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.write: Write = _nowhere
        """Where the lines go; whoever runs the service says so."""
        self._buckets = Buckets(monotonic)
        self._left_out: Counter[str] = Counter()

    def ended(self, execution: Execution, plan: Plan | None, *, stored: bool) -> None:
        """An execution has its outcome. ``plan`` is None if its template does not accept it any more.

        Where the store does not have the outcome, whoever settles the execution anew tells of it again.
        """
        line = execution_line(execution, plan.resources if plan is not None else None)
        self.write("execution", **line, stored=stored)

    def cancelled(self, execution: Execution, by: Origin | None) -> None:
        """Somebody wants its end: the first who asked for it."""
        self.write(
            "cancel",
            execution=execution.id,
            tenant=execution.tenant,
            caller=by and by.caller,
            way=by and by.way,
            address=by and by.address,
        )

    def refused(self, refusal: Refusal) -> None:
        """A request was refused. A flood of them is a line a second, which says how many had none since the last."""
        caller = refusal.caller
        like = f"{refusal.problem} {caller.tenant if caller is not None else ''}"
        if self._buckets.take(like, REFUSALS):
            self._left_out[like] += 1
            return
        self.write(
            "refusal",
            status=refusal.status,
            problem=refusal.problem,
            tenant=caller and caller.tenant,
            caller=caller and caller.name,
            way=caller and caller.way,
            address=refusal.address,
            method=refusal.method,
            path=refusal.path[:_PATH_CHARACTERS],
            left_out=self._left_out.pop(like, 0),
        )
