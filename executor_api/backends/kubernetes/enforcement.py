"""Whether the cluster's network enforces network policies, from what a sandbox could reach. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import msgspec

from executor_api.backends.kubernetes.probe_code import OPEN, SHUT, STRANGE
from executor_api.domain.finding import Finding, fail, ok, warn


class Enforced(Enum):
    """What is known of it."""

    YES = auto()
    NO = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Verdict:
    """With a sentence that says why and, unless all is well, what to do."""

    enforced: Enforced
    text: str


@dataclass(frozen=True, slots=True)
class Door:
    """Something that a sandbox must not reach, though it is there.

    ``greeting``: the text by which it shows; "": to be connected is enough. ``caller``: our end of a connection to the
    sandbox's runner, which proves that there is a way between the two; None: no way is known, as to the API server.
    """

    what: str
    address: str
    port: int
    greeting: str = ""
    caller: tuple[str, int] | None = None

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.what} ({host}:{self.port})"


class Seen(msgspec.Struct, frozen=True):
    """One door as a sandbox saw it: what came of the last attempt, and for how long it had stood open before."""

    outcome: str
    open_seconds: float


class Found(msgspec.Struct, frozen=True):
    """What `probe_code.look` found: the doors in their order, and the far ends of connections to the runner."""

    doors: list[Seen]
    callers: list[tuple[str, int]]


_decode = msgspec.json.Decoder(Found).decode


def read_found(text: str) -> Found:
    """Read what a sandbox answered. Raises ``ValueError``."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"its answer can't be read: {error}") from None


def unknown(why: str) -> Verdict:
    """``why`` says what to do about it."""
    return Verdict(Enforced.UNKNOWN, f"whether network policies are enforced can't be told: {why}")


def judge(doors: Sequence[Door], found: Found, namespace: str) -> Verdict:
    """Judge what was found at these doors.

    One that stands open is proof. One that is shut is none, but for our own: there we see both that it is there and
    that a way leads to it. Even that must be shut in a way that tells of a network, not of the sandbox's own trouble.
    """
    if len(found.doors) != len(doors):
        return unknown("the sandbox that was to try it answers something else; see that its image has our runner")
    seen = list(zip(doors, found.doors, strict=True))
    reached = [door for door, item in seen if item.outcome == OPEN]
    if reached:
        return Verdict(Enforced.NO, _not_enforced(reached, namespace))
    doubt = _doubt([(door, item.outcome) for door, item in seen if door.caller is not None], found.callers)
    if doubt:
        return unknown(doubt)
    return Verdict(Enforced.YES, _enforced([(door, item.open_seconds) for door, item in seen if item.outcome in SHUT]))


def _doubt(own: Sequence[tuple[Door, str]], callers: Sequence[tuple[str, int]]) -> str:
    """Why our own doors, with how it went there, prove nothing; "" if they do."""
    if not own:
        return "this service can't connect to sandboxes itself; run `executor-api doctor` in the cluster to know"
    if any(outcome == STRANGE for _, outcome in own):
        return (
            "something else answers sandboxes in this service's place, a service mesh for example; leave them out of it"
        )
    if any(door.caller not in callers for door, _ in own):
        return "sandboxes see this service at another address than its own; run `executor-api doctor` in the cluster"
    failed = [f"{door}: {outcome}" for door, outcome in own if outcome not in SHUT]
    return f"a sandbox could not try to connect ({', '.join(failed)}); look at its network" if failed else ""


def finding(verdict: Verdict, *, required: bool) -> Finding:
    """For `executor-api doctor`."""
    check = "network enforcement"
    if verdict.enforced is Enforced.YES:
        return ok(check, verdict.text)
    return (fail if required else warn)(check, verdict.text)


def _not_enforced(reached: Sequence[Door], namespace: str) -> str:
    what = " and ".join(map(str, reached))
    return (
        f"network policies do not hold sandboxes: one could connect to {what}; have a default-deny policy in namespace "
        f"{namespace}, as the chart makes it, and a network plugin that enforces policies"
    )


def _enforced(shut: Sequence[tuple[Door, float]]) -> str:
    what, late = " and ".join(str(door) for door, _ in shut), max(seconds for _, seconds in shut)
    text = f"network policies are enforced: a sandbox could not connect to {what}"
    if not late:
        return text
    return (
        f"{text}, once it was {late:.1f} s old: the network needs that long, so let sandboxes wait before they get a "
        "call (`--pool`)"
    )
