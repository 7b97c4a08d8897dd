"""Whether the cluster's network enforces network policies, from what a sandbox could reach. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import pairwise

import msgspec

from executor_api.backends.kubernetes.probe_code import OPEN, SHUT, STRANGE
from executor_api.domain.finding import Finding, fail, ok, warn
from executor_runner.protocol import PORT


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
    ``sandbox``: the address where the runner is reached so.
    """

    what: str
    address: str
    port: int
    greeting: str = ""
    caller: tuple[str, int] | None = None
    sandbox: str = ""

    def __str__(self) -> str:
        return f"{self.what} ({_joined(self.address, self.port)})"


@dataclass(slots=True)
class Entrance:
    """A port at which a sandbox listens while it tries its doors, and at which nobody must reach it.

    ``attempts``: each of ours to do so, from before it listened until it did no more: when it began, in seconds since
    the first could, and what came of it. ``seconds``: how long they went on.
    """

    address: str
    port: int
    greeting: str
    attempts: list[tuple[float, str]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def open_seconds(self) -> float:
        """When it was last seen to be open."""
        return max((began for began, outcome in self.attempts if outcome == OPEN), default=0.0)

    def outcome(self, listened: float) -> str:
        """`OPEN`, "" for shut, or what else came of it, where the sandbox listened for so many seconds on end.

        An attempt from outside that time is refused whatever the network does. An open one shows that it had begun,
        and it can't have been over before so many seconds had passed. Without one, it only is certain to be there
        if it is longer than the longest time between two attempts.
        """
        opened = [began for began, outcome in self.attempts if outcome == OPEN]
        if opened:
            later = [outcome for began, outcome in self.attempts if opened[-1] < began < listened]
            return "" if later and all(item in SHUT for item in later) else OPEN
        odd = [outcome for _, outcome in self.attempts if outcome not in SHUT]
        if odd:
            return odd[-1]
        starts = [0.0, *(began for began, _ in self.attempts), self.seconds]
        longest = max(after - before for before, after in pairwise(starts))
        return "" if longest < listened else "not tried while the sandbox listened there"

    def __str__(self) -> str:
        return f"a port of it ({_joined(self.address, self.port)})"


class Seen(msgspec.Struct, frozen=True):
    """One door as a sandbox saw it: what came of the last attempt, and for how long it had stood open before."""

    outcome: str
    open_seconds: float


class Found(msgspec.Struct, frozen=True):
    """What `probe_code.look` found. ``callers``: far ends of connections to the runner."""

    doors: list[Seen]
    callers: list[tuple[str, int]]
    listened: list[float]


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


def judge(doors: Sequence[Door], entrances: Sequence[Entrance], found: Found, namespace: str) -> Verdict:
    """Judge what was found at these doors of others and entrances of the sandbox.

    One that stands open is proof. A door that is shut is none, but for our own: there we see both that it is there and
    that a way leads to it. Even that must be shut in a way that tells of a network, not of the sandbox's own trouble.
    So must the entrances; that a way leads to the sandbox shows at our own doors, too.
    """
    if (len(found.doors), len(found.listened)) != (len(doors), len(entrances)):
        return unknown("the sandbox that was to try it answers something else; see that its image has our runner")
    seen = list(zip(doors, found.doors, strict=True))
    entered = [
        (entrance, entrance.outcome(seconds)) for entrance, seconds in zip(entrances, found.listened, strict=True)
    ]
    reached = [door for door, item in seen if item.outcome == OPEN]
    open_entrances = [entrance for entrance, outcome in entered if outcome == OPEN]
    if reached or open_entrances:
        return Verdict(Enforced.NO, _not_enforced(reached, open_entrances, namespace))
    doubt = _doubt([(door, item.outcome) for door, item in seen if door.caller is not None], found.callers)
    doubt = doubt or _doubt_of_entrances(entered)
    if doubt:
        return unknown(doubt)
    shut = [(door, item.open_seconds) for door, item in seen if item.outcome in SHUT]
    return Verdict(Enforced.YES, _enforced(shut, entrances))


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


def _doubt_of_entrances(entered: Sequence[tuple[Entrance, str]]) -> str:
    if not entered:
        return (
            "they keep sandboxes from connecting to this service, but whether they keep others from sandboxes does not "
            "show from a sandbox's own node; run `executor-api doctor` in the cluster to know"
        )
    failed = [f"{entrance}: {outcome}" for entrance, outcome in entered if outcome]
    return f"who may connect to a sandbox could not be tried ({', '.join(failed)}); try again" if failed else ""


def finding(verdict: Verdict, *, required: bool) -> Finding:
    """For `executor-api doctor`."""
    check = "network enforcement"
    if verdict.enforced is Enforced.YES:
        return ok(check, verdict.text)
    return (fail if required else warn)(check, verdict.text)


def _not_enforced(reached: Sequence[Door], entrances: Sequence[Entrance], namespace: str) -> str:
    what = [f"one could connect to {_listed(reached)}"] if reached else []
    if entrances:
        what.append(f"this service could connect to {_listed(entrances)}, where only its port {PORT} is to be reached")
    return (
        f"network policies do not hold sandboxes: {', and '.join(what)}; have a default-deny policy in namespace "
        f"{namespace}, as the chart makes it, and a network plugin that enforces policies"
    )


def _enforced(shut: Sequence[tuple[Door, float]], entrances: Sequence[Entrance]) -> str:
    late = max(*(seconds for _, seconds in shut), *(entrance.open_seconds for entrance in entrances))
    text = (
        f"network policies are enforced: a sandbox could not connect to {_listed([door for door, _ in shut])}, "
        f"nor this service to {_listed(entrances)}"
    )
    if not late:
        return text
    return (
        f"{text}, once it was {late:.1f} s old: the network needs that long, so let sandboxes wait before they get a "
        "call (`--pool`)"
    )


def _listed(items: Sequence[Door | Entrance]) -> str:
    return " and ".join(map(str, items))


def _joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
