"""What the service needs from a place where sandboxes live. Everything else a backend does is its own business."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from executor_api.domain.execution import SandboxDetails, Start
from executor_api.domain.outcome import Evidence
from executor_api.domain.plan import Plan
from executor_api.domain.pool import PoolStatus, Share
from executor_api.domain.template import Template
from executor_api.errors import ExecutorError
from executor_runner.protocol.podlog import LogCopy
from executor_runner.protocol.shapes import Report


class SandboxFailedError(ExecutorError):
    """The sandbox will never run this call; the evidence says why. The call did not run and is settled with it."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        super().__init__(evidence.message)


class ConnectionLostError(ExecutorError):
    """The connection to the runner broke or was refused; the sandbox may be well. Resume, or ask for last words."""


class ClaimedError(ExecutorError):
    """The runner has accepted this very call before; resume."""


class NotTakenError(ExecutorError):
    """A sandbox that waited did not take the call and never will: it has another's, or has died. Try another one.

    ``why`` says which to the owner of the call, and names nobody else's.
    """

    def __init__(self, message: str, why: str = "had taken another call, or was retired") -> None:
        self.why = why
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class SandboxTimings:
    """Milliseconds, as far as the backend can tell them apart."""

    waited: float | None = None  # for the pool, before there was one to claim
    create: float | None = None
    schedule: float | None = None
    start: float | None = None


@dataclass(frozen=True, slots=True)
class LastWords:
    """What is left of a sandbox that no longer answers.

    ``report`` comes from its termination message or its log (``source`` tells which), ``log`` holds the output the
    log still has, ``evidence`` is the backend's classification of the end. ``holder`` is the execution whose report it
    left, if that is another one's: a sandbox whose first call was to be ours then never had it.
    """

    evidence: Evidence
    report: Report | None = None
    log: LogCopy | None = None
    source: str = "evidence"  # "status", "log" or "evidence"
    holder: str = ""


@dataclass(frozen=True, slots=True)
class Miss:
    """No waiting sandbox could be had; ``reason`` tells the caller why its call has one made (``cold_reason``)."""

    reason: str


class Sandbox(Protocol):
    """One isolated place for one call; with ``isolation: reuse``, for one call after the other of one tenant."""

    @property
    def details(self) -> SandboxDetails:
        """What is known of it by now."""
        ...

    @property
    def start(self) -> Start:
        """Whether it was waiting or is made for this call."""
        ...

    @property
    def follows(self) -> str:
        """The execution whose call it had before; "" for a sandbox that had none."""
        ...

    @property
    def timings(self) -> SandboxTimings:
        """Phases so far."""
        ...

    async def ready(self) -> None:
        """Wait until the runner can be dialled. Raises `SandboxFailedError` if that can't happen any more."""
        ...

    def dispatch(self, call: bytes) -> AsyncIterator[bytes]:
        """Hand over the call (JSON) and yield the journal from offset 0, cut anywhere.

        The iterator ends when the journal is complete or the connection is closed; the frames tell which. Raises
        `ClaimedError`, `ConnectionLostError` and, only of a sandbox that waited, `NotTakenError`.
        """
        ...

    def resume(self, offset: int) -> AsyncIterator[bytes]:
        """Yield the journal of the call this sandbox already has, from a byte offset.

        Raises `ConnectionLostError`, and `NotTakenError` if the call it has is another one.
        """
        ...

    async def cancel(self) -> None:
        """Ask the runner to end the call; its report still comes through the journal. Raises `ConnectionLostError`."""
        ...

    async def alive(self) -> bool:
        """Whether resuming makes sense: the sandbox is there and has not ended, as far as the backend can see."""
        ...

    async def last_words(self) -> LastWords:
        """Gather what a sandbox that ended left behind. Waits a bounded time for late evidence; never raises."""
        ...

    async def evidence(self) -> Evidence | None:
        """Why somebody outside told this sandbox to end, if the backend can see it (deleted, evicted, preempted)."""
        ...

    async def release(self, *, sound: bool = False, leaky: bool = False) -> None:
        """The outcome is stored: give the sandbox back. Never raises; safe to call twice.

        This deletes it, unless it is for reuse and ``sound``: its call ended with a report, and nothing is odd.
        ``leaky``: memory of its GPUs did not come back, so others should not get those for a while.
        """
        ...


@dataclass(frozen=True, slots=True)
class Claim:
    """Who needs a sandbox, for what, and since when: monotonic seconds, kept by one whose sandbox was another's."""

    execution_id: str
    tenant: str
    plan: Plan
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a backend can serve, in sentences an operator can act on."""

    ready: bool
    problems: tuple[str, ...] = ()  # each says what is wrong and the fix
    notes: tuple[str, ...] = ()  # what it got: isolation level, cluster, dispatch way


class Backend(Protocol):
    """Makes sandboxes."""

    @property
    def name(self) -> str:
        """``local`` or ``kubernetes``."""
        ...

    async def start(self) -> None:
        """Open what is needed. An unreachable place is no error here: `health` says it, and it keeps trying."""
        ...

    async def stop(self) -> None:
        """Close everything; on the local backend this ends every call."""
        ...

    def health(self) -> Health:
        """Current state, from memory."""
        ...

    def use_templates(self, templates: Mapping[str, Template]) -> None:
        """Take these as the ones in force. Raises `ConfigurationError`; then those before stay in use."""
        ...

    def use_share(self, share: Share) -> None:
        """Leave to the other replicas for a moment what becomes ready for them, so that no two claim the same."""
        ...

    async def claim(self, claim: Claim) -> Sandbox | Miss:
        """Reserve a waiting sandbox; wait for one only as the template's miss policy says.

        Between choosing and reserving nothing awaits, so that no two calls of this process get the same. Raises
        `UnavailableError`.
        """
        ...

    def pools(self) -> tuple[PoolStatus, ...]:
        """The state of every pool, by template name, from memory."""
        ...

    def obstacle(self, name: str, execution_id: str) -> str:
        """What keeps an execution's sandbox of this name from starting, from memory; "" if nothing shows.

        Completes the sentence that begins "Its sandbox is".
        """
        ...

    async def create(self, name: str, claim: Claim) -> Sandbox:
        """Start making a sandbox for this execution and return at once.

        ``name`` is unique and was recorded before, so that a crashed service finds the sandbox again. Creating a name
        that exists returns that sandbox. Raises `SandboxFailedError` if the place refuses it, `UnavailableError` if
        it can't be asked now.
        """
        ...

    async def find(self, name: str, execution_id: str) -> Sandbox | None:
        """The sandbox of this name if it still exists, to take up this execution's call in it again.

        Raises `UnavailableError`.
        """
        ...

    async def collect_garbage(self, is_wanted: Callable[[str], Awaitable[bool]]) -> int:
        """Delete sandboxes of this service whose execution id ``is_wanted`` denies; return how many."""
        ...
