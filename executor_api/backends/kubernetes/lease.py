"""What a replica makes of the Lease it sees. Pure: instants are seconds on this machine's monotonic clock.

Clocks of machines are never compared: another's lease has expired once it has not changed before our own eyes for its
whole term. Two that take it at once are told apart by the API server, which accepts only a change to what is there now.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto
from math import ceil
from typing import Any

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Durations of the election, the same for all replicas. A dead leader is replaced within lease + look + turn."""

    lease_seconds: float = 10.0
    """A lease that was not renewed for that long is free."""
    patience_seconds: float = 7.0
    """A leader that could not renew for that long leads no more; the rest of the lease is for its work to stop."""
    renew_seconds: float = 3.0
    look_seconds: float = 2.0
    """Between looks of a replica that does not lead."""
    retry_seconds: float = 1.0
    """Until a leader that could not renew tries again."""
    turn_seconds: float = 1.5
    """How long a turn, of one or two requests, may take."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The Lease as it last showed."""

    lease: Tree | None  # None: there is none
    changed: float
    """When it first showed its present spec."""
    before: str = ""
    """Who held it when it was deleted: that one may not know yet."""

    @property
    def holder(self) -> str:
        """Who holds it; empty if nobody does."""
        return str((self.lease or {}).get("spec", {}).get("holderIdentity") or "")


class Step(Enum):
    """What to do about a Lease."""

    CREATE = auto()
    TAKE = auto()
    RENEW = auto()
    WAIT = auto()


def observed(before: Seen | None, lease: Tree | None, now: float) -> Seen:
    """Add a look at the Lease to what was known: any change of its spec is a sign of life."""
    if before is None:
        return Seen(lease, now)
    same = (before.lease or {}).get("spec") == (lease or {}).get("spec")
    return Seen(lease, before.changed if same else now, before.holder or before.before if lease is None else "")


def decide(seen: Seen, me: str, now: float, terms: Terms) -> Step:
    """The next step of the replica called ``me``."""
    expired = now >= seen.changed + terms.lease_seconds
    if seen.lease is None:
        return Step.CREATE if expired or seen.before in ("", me) else Step.WAIT
    if seen.holder == me:
        return Step.RENEW
    return Step.TAKE if expired or not seen.holder else Step.WAIT


def next_look(seen: Seen | None, now: float, terms: Terms) -> float:
    """When a replica that does not lead looks again: at the latest when the lease may have expired."""
    regular = now + terms.look_seconds
    if seen is None or not seen.holder:
        return regular
    expiry = seen.changed + terms.lease_seconds
    return min(regular, expiry) if expiry > now else regular


def next_renewal(renewed: float, now: float, terms: Terms) -> float:
    """When a leader, who renewed last at ``renewed``, tries again: never later than it would have to give up."""
    regular = renewed + terms.renew_seconds
    return min(regular if regular > now else now + terms.retry_seconds, renewed + terms.patience_seconds)


def held(lease: Tree | None, name: str, holder: str, at: datetime, terms: Terms) -> Tree:
    """The Lease as ``holder``, who may be nobody, wants it. With its version: a change in between is refused."""
    spec: Tree = (lease or {}).get("spec") or {}
    stamp = at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    changes: Tree = {
        "holderIdentity": holder,
        "leaseDurationSeconds": ceil(terms.lease_seconds),
        "renewTime": stamp,
    }
    if holder and spec.get("holderIdentity") != holder:
        changes["acquireTime"] = stamp
        changes["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + (lease is not None)
    blank = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}}
    return {**blank, **(lease or {}), "spec": {**spec, **changes}}
