"""Who leads among replicas, whatever becomes of them, of the API server, and of the clocks of other machines.

Durations are a tenth and less of the real ones; what must never happen is judged by the order of events alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from executor_api.backends.kubernetes.client import ApiClient
from executor_api.backends.kubernetes.credentials import load
from executor_api.backends.kubernetes.leader import Leadership
from executor_api.backends.kubernetes.lease import (
    Seen,
    Step,
    Terms,
    decide,
    held,
    next_look,
    next_renewal,
    observed,
)
from executor_api.backends.kubernetes.metrics import NoMetrics
from kubernetes_backend.fake_apiserver import NAMESPACE, status
from kubernetes_backend.fake_objects import Object
from kubernetes_backend.world import World, until

REAL = Terms()
QUICK = Terms(
    lease_seconds=1.0,
    patience_seconds=0.7,
    renew_seconds=0.2,
    look_seconds=0.1,
    retry_seconds=0.1,
    turn_seconds=0.3,
)
PATIENT = replace(QUICK, lease_seconds=30, patience_seconds=20, turn_seconds=10)
"""For what must not end leadership, on however busy a machine."""
LEASE = "executor-api-svc"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _lease(holder: str, at: datetime = NOON) -> Object:
    return held(None, LEASE, holder, at, REAL)


@pytest.mark.parametrize(
    ("seen", "step"),
    [
        (Seen(None, 100), Step.CREATE),
        (Seen(None, 90.1, before="other"), Step.WAIT),
        (Seen(None, 90, before="other"), Step.CREATE),
        (Seen(None, 90.1, before="me"), Step.CREATE),
        (Seen(_lease(""), 99), Step.TAKE),
        (Seen(_lease("me"), 0), Step.RENEW),
        (Seen(_lease("other"), 90.1), Step.WAIT),
        (Seen(_lease("other"), 90), Step.TAKE),
    ],
    ids=[
        "none",
        "other's deleted",
        "other's deleted long ago",
        "mine deleted",
        "given back",
        "mine",
        "alive",
        "expired",
    ],
)
def test_what_to_do_about_a_lease(seen: Seen, step: Step) -> None:
    """At second 100: make it, take it, renew it, or wait for it to expire."""
    assert decide(seen, "me", 100, REAL) is step


def test_a_renewal_counts_from_when_it_is_seen() -> None:
    """A holder whose clock is an hour off, either way, is alive as long as its Lease changes."""
    seen = observed(None, _lease("other", NOON.replace(hour=13)), 0)
    assert observed(seen, _lease("other", NOON.replace(hour=13)), 9).changed == 0
    assert observed(seen, _lease("other", NOON.replace(hour=11)), 9).changed == 9


def test_another_annotation_is_no_sign_of_life() -> None:
    """What others write on the Lease does not keep a dead leader's alive, and is kept."""
    lease = _lease("other")
    touched = {**lease, "metadata": {**lease["metadata"], "annotations": {"a": "b"}, "resourceVersion": "7"}}
    seen = observed(observed(None, lease, 0), touched, 9)
    assert seen.changed == 0
    taken = held(seen.lease, LEASE, "me", NOON, REAL)
    assert taken["metadata"] == touched["metadata"]
    assert (taken["spec"]["leaseTransitions"], taken["spec"]["holderIdentity"]) == (1, "me")


def test_a_leader_stops_before_others_may_start() -> None:
    """Its last try is over before the lease is, with room for its work to stop; the next leads within 15 s."""
    latest = next_renewal(0, REAL.patience_seconds - 0.1, REAL)
    assert latest == REAL.patience_seconds < REAL.lease_seconds - REAL.turn_seconds
    seen_late = REAL.look_seconds + REAL.turn_seconds
    assert seen_late + REAL.lease_seconds + REAL.turn_seconds <= 15


def test_followers_look_when_the_lease_runs_out() -> None:
    """The look that finds it expired is not put off to the next regular one."""
    seen = Seen(_lease("other"), 0)
    assert next_look(seen, 5, REAL) == 7
    assert next_look(seen, 9.5, REAL) == 10
    assert next_look(seen, 11, REAL) == 13
    assert next_look(None, 0, REAL) == 2


@dataclass
class Replica:
    """One elector and what its work did."""

    leadership: Leadership
    history: list[tuple[str, str]]
    name: str
    fail: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    async def work(self) -> None:
        """Work as long as this replica leads, or until it is told to fail."""
        self.history.append((self.name, "starts"))
        try:
            await self.fail.wait()
            raise RuntimeError("a defect")
        finally:
            self.history.append((self.name, "stops"))

    def start(self) -> None:
        """Take part."""
        self.task = asyncio.create_task(self.leadership.run(self.work))

    async def stop(self) -> None:
        """Leave in order."""
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError, RuntimeError):
                await self.task


class Replicas:
    """Electors against one fake API server."""

    def __init__(self, world: World, client: ApiClient) -> None:
        self.api = world.api
        self.history: list[tuple[str, str]] = []
        self._client = client
        self._made: list[Replica] = []

    def start(self, name: str, terms: Terms = QUICK) -> Replica:
        """Let one more take part."""
        leadership = Leadership(self._client, NAMESPACE, "svc", name, terms)
        replica = Replica(leadership, self.history, name)
        self._made.append(replica)
        replica.start()
        return replica

    @property
    def leaders(self) -> list[str]:
        """Who thinks to lead."""
        return [replica.name for replica in self._made if replica.leadership.leading]

    @property
    def lease(self) -> Object:
        """As it is stored."""
        found = self.api.objects.get("leases", LEASE)
        assert found is not None
        return found

    def check(self) -> None:
        """No two ever worked at once."""
        working = None
        for name, what in self.history:
            assert working == (None if what == "starts" else name), self.history
            working = name if what == "starts" else None

    async def close(self) -> None:
        """End all, and their clients."""
        for replica in self._made:
            await replica.stop()


@pytest.fixture
async def replicas(world: World) -> AsyncIterator[Replicas]:
    credentials = await load(str(world.kubeconfig()), "", {})
    async with ApiClient(credentials, NoMetrics()) as client:
        found = Replicas(world, client)
        try:
            yield found
        finally:
            await found.close()
            found.check()


async def test_one_of_three_leads(replicas: Replicas) -> None:
    """All see who, and only its work runs."""
    made = [replicas.start(name) for name in "abc"]
    await until(lambda: {replica.leadership.holder for replica in made} == set(replicas.leaders) != set())
    assert len(replicas.leaders) == 1
    await until(lambda: replicas.history)


async def test_a_leader_that_stops_hands_over(replicas: Replicas) -> None:
    """The Lease is given back, so that the next one need not wait for its end."""
    first = replicas.start("a", PATIENT)
    await until(lambda: replicas.history)
    await first.stop()
    assert replicas.lease["spec"]["holderIdentity"] == ""
    assert replicas.history == [("a", "starts"), ("a", "stops")]
    second = replicas.start("b")
    await until(lambda: second.leadership.leading)
    assert replicas.lease["spec"]["leaseTransitions"] == 1


async def test_a_killed_leader_is_replaced(replicas: Replicas) -> None:
    """A Lease that nobody renews is taken by exactly one of those who wait; the holder's clock is a year ahead."""
    stamp = "2027-01-01T00:00:00.000000Z"
    spec = {"holderIdentity": "dead", "leaseDurationSeconds": 10, "renewTime": stamp, "acquireTime": stamp}
    await replicas.api.objects.put("leases", {"metadata": {"name": LEASE}, "spec": spec})
    for name in "abc":
        replicas.start(name)
    await until(lambda: replicas.leaders)
    assert replicas.lease["spec"]["holderIdentity"] == replicas.leaders[0]
    assert replicas.lease["spec"]["leaseTransitions"] == 1


async def test_a_leader_whose_requests_hang_stops_in_time(replicas: Replicas) -> None:
    """Its work has ended before another one's begins."""
    replicas.start("a")
    await until(lambda: replicas.history)
    replicas.api.leases.mute.add("a")
    replicas.start("b")
    await until(lambda: ("b", "starts") in replicas.history)
    assert replicas.history[-2:] == [("a", "stops"), ("b", "starts")]


async def test_an_api_server_that_is_away(replicas: Replicas) -> None:
    """Twenty times the renewals' pace: nobody leads meanwhile, and one does afterwards."""
    first, second = replicas.start("a"), replicas.start("b")
    await until(lambda: replicas.history)
    await replicas.api.stop()
    await until(lambda: not replicas.leaders)
    await asyncio.sleep(20 * QUICK.renew_seconds)
    assert not replicas.leaders
    assert replicas.history[-1][1] == "stops"
    await replicas.api.start()
    await until(lambda: first.leadership.leading or second.leadership.leading)


async def test_a_short_outage_costs_nothing(replicas: Replicas) -> None:
    """A renewal that failed is tried again while there is patience."""
    replicas.start("a", PATIENT)
    await until(lambda: replicas.history)
    replicas.api.fail("PUT", "/leases", lambda: status(503, "ServiceUnavailable", "try again"), times=1)
    renewed = replicas.lease["spec"]["renewTime"]
    await until(lambda: replicas.lease["spec"]["renewTime"] != renewed)
    assert replicas.history == [("a", "starts")]


async def test_a_lost_race_is_no_leadership(replicas: Replicas) -> None:
    """Who was second to take a Lease is told so by its version."""
    replicas.api.fail("POST", "/leases", lambda: status(409, "AlreadyExists", "already exists"), times=1000)
    first = replicas.start("a")
    await until(lambda: replicas.api.faults[0].times < 998)
    assert not first.leadership.leading
    replicas.api.faults.clear()
    await until(lambda: first.leadership.leading)


async def test_somebody_else_writes_on_the_lease(replicas: Replicas) -> None:
    """A conflict with a change that leaves the holder alone does not end its leadership."""
    replicas.start("a", PATIENT)
    await until(lambda: replicas.history)
    lease = replicas.lease
    annotated = {**lease, "metadata": {**lease["metadata"], "annotations": {"a": "b"}}}
    await replicas.api.objects.put("leases", annotated)
    renewed = lease["spec"]["renewTime"]
    await until(lambda: replicas.lease["spec"]["renewTime"] != renewed)
    assert replicas.lease["metadata"]["annotations"] == {"a": "b"}
    assert replicas.history == [("a", "starts")]


async def test_a_lease_that_another_took_ends_the_work(replicas: Replicas) -> None:
    """A leader that finds another's name in the Lease stops at once."""
    first = replicas.start("a", PATIENT)
    await until(lambda: replicas.history)
    lease = replicas.lease
    await replicas.api.objects.put("leases", {**lease, "spec": {**lease["spec"], "holderIdentity": "b"}})
    await until(lambda: ("a", "stops") in replicas.history)
    assert first.leadership.holder == "b"


async def test_a_deleted_lease_is_made_again(replicas: Replicas) -> None:
    """Deleting it by hand leaves one leader, the same: others give it time to notice."""
    replicas.start("a", PATIENT)
    await until(lambda: replicas.history)
    second = replicas.start("b", PATIENT)
    await until(lambda: second.leadership.holder == "a")
    await replicas.api.objects.remove("leases", LEASE)
    await until(lambda: replicas.api.objects.get("leases", LEASE))
    await until(lambda: [replicas.lease["spec"]["holderIdentity"]] == replicas.leaders)


@pytest.mark.parametrize("verb", ["get", "create", "update"])
async def test_a_missing_right_is_named(replicas: Replicas, verb: str) -> None:
    """Without a right on Leases a replica does not lead and says which; with it, it does, by itself."""
    if verb == "update":
        await replicas.api.objects.put("leases", {"metadata": {"name": LEASE}, "spec": {}})
    replicas.api.leases.denied = {verb}
    only = replicas.start("a")
    await until(lambda: only.leadership.problem)
    assert not only.leadership.leading
    assert f"{verb} leases.coordination.k8s.io in namespace {NAMESPACE}" in only.leadership.problem
    replicas.api.leases.denied = set()
    await until(lambda: only.leadership.leading)
    assert only.leadership.problem == ""


async def test_a_defect_in_the_work_gives_the_lease_back(replicas: Replicas) -> None:
    """The error comes out to whoever supervises, and another replica may try."""
    first = replicas.start("a")
    await until(lambda: replicas.history)
    first.fail.set()
    assert first.task is not None
    with pytest.raises(RuntimeError, match="a defect"):
        await first.task
    assert replicas.lease["spec"]["holderIdentity"] == ""
