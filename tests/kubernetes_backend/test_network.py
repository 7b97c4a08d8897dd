"""Whether the network holds a sandbox: what is tried in it, how that is judged, and how the service says so."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from executor_api.backends.kubernetes.enforcement import (
    Door,
    Enforced,
    Entrance,
    Found,
    Seen,
    Verdict,
    judge,
    read_found,
    unknown,
)
from executor_api.backends.kubernetes.network_watch import NetworkWatch
from executor_api.backends.kubernetes.probe_code import LISTEN_SECONDS, OPEN, STRANGE, knock, look
from kubernetes_backend.world import World, until

CALLER = ("10.0.0.5", 40000)
OURS = Door("this service", "10.0.0.5", 8000, "HTTP/1.", CALLER)
OURS_6 = Door("this service", "fd00::5", 8000, "HTTP/1.", CALLER)
API = Door("the API server", "fd00::1", 443)
LATE = "ETIMEDOUT"


def _found(*outcomes: tuple[str, float], callers: tuple[tuple[str, int], ...] = (CALLER,)) -> Found:
    return Found([Seen(what, late) for what, late in outcomes], list(callers), [1.0])


def _entrance(*attempts: tuple[float, str], seconds: float = 2.0) -> Entrance:
    return Entrance("10.0.0.9", 8091, "word", list(attempts), seconds)


def _silent(address: str = "10.0.0.9") -> Entrance:
    return Entrance(address, 8091, "word", [(0.5 * count, LATE) for count in range(4)], 2.0)


@pytest.mark.parametrize(
    ("doors", "found", "enforced", "part"),
    [
        ([OURS], _found((LATE, 0)), Enforced.YES, "could not connect to this service (10.0.0.5:8000)"),
        ([OURS], _found(("ECONNREFUSED", 0)), Enforced.YES, "could not connect"),
        ([OURS], _found((LATE, 0.75)), Enforced.YES, "once it was 0.8 s old"),
        ([OURS], _found((OPEN, 5)), Enforced.NO, "default-deny policy in namespace n"),
        ([OURS], _found((OPEN, 5), callers=()), Enforced.NO, "this service"),
        ([OURS, API], _found((LATE, 0), (OPEN, 5)), Enforced.NO, "connect to the API server ([fd00::1]:443)"),
        ([OURS, API], _found((LATE, 0), (LATE, 0)), Enforced.YES, "and the API server"),
        ([OURS, API], _found((LATE, 0), ("gaierror: no DNS", 0)), Enforced.YES, "this service (10.0.0.5:8000)"),
        ([OURS, API], _found((STRANGE, 0), (LATE, 0)), Enforced.UNKNOWN, "service mesh"),
        ([OURS, API], _found((STRANGE, 0), ("gaierror: no DNS", 0)), Enforced.UNKNOWN, "service mesh"),
        ([OURS, API], _found((LATE, 0), (LATE, 0), callers=()), Enforced.UNKNOWN, "another address"),
        ([OURS, API], _found(("EMFILE", 0), ("ENETUNREACH", 0)), Enforced.UNKNOWN, "(10.0.0.5:8000): EMFILE)"),
        ([OURS, OURS_6], _found((LATE, 0), ("ENETUNREACH", 0)), Enforced.UNKNOWN, "[fd00::5]:8000): ENETUNREACH)"),
        ([API], _found((LATE, 0)), Enforced.UNKNOWN, "can't connect to sandboxes itself"),
        ([API], _found((OPEN, 0)), Enforced.NO, "the API server"),
        ([], _found(), Enforced.UNKNOWN, "can't connect to sandboxes itself"),
        ([OURS], _found((STRANGE, 0)), Enforced.UNKNOWN, "service mesh"),
        ([OURS], _found((LATE, 0), callers=(("192.0.2.1", 40000),)), Enforced.UNKNOWN, "another address"),
        ([OURS], _found(), Enforced.UNKNOWN, "something else"),
    ],
)
def test_judgement(doors: list[Door], found: Found, enforced: Enforced, part: str) -> None:
    """A door that stands open is proof; a shut one only if it is ours, a way leads to it, and the network shut it."""
    verdict = judge(doors, [_silent()], found, "n")
    assert (verdict.enforced, part in verdict.text) == (enforced, True), verdict


REFUSED = "ECONNREFUSED"
ENTERED = [
    ([(0, REFUSED), (0.5, REFUSED), (1, REFUSED), (1.5, REFUSED)], 1.0, "enforced"),
    ([(0, REFUSED), (0.5, LATE), (1, LATE), (1.5, LATE)], 1.0, "enforced"),
    ([(0, REFUSED), (0.9, LATE)], 1.0, "can't be told"),
    ([], 1.0, "can't be told"),
    ([(0, REFUSED), (0.5, REFUSED), (1, REFUSED), (1.5, REFUSED)], 0.0, "can't be told"),
    ([(0, REFUSED), (0.5, "ENETUNREACH"), (1, REFUSED), (1.5, REFUSED)], 1.0, "can't be told"),
    ([(0, REFUSED), (0.5, STRANGE), (1, REFUSED), (1.5, REFUSED)], 1.0, "can't be told"),
    ([(0, REFUSED), (0.5, OPEN), (1, OPEN), (1.5, OPEN)], 1.0, "do not hold"),
    ([(0, REFUSED), (0.5, OPEN), (1, OPEN), (1.5, REFUSED)], 1.0, "do not hold"),
    ([(0, REFUSED), (0.5, OPEN), (1, OPEN), (1.5, REFUSED)], 1.6, "enforced"),
    ([(0, REFUSED), (0.5, OPEN), (1, STRANGE), (1.5, REFUSED)], 1.6, "do not hold"),
    ([(0, REFUSED), (0.5, OPEN), (1, LATE), (1.5, OPEN)], 1.6, "do not hold"),
]


@pytest.mark.parametrize(("attempts", "listened", "part"), ENTERED)
def test_judgement_of_who_gets_in(attempts: list[tuple[float, str]], listened: float, part: str) -> None:
    """A port that answers is proof; one that does not only if it must have been tried while the sandbox listened."""
    verdict = judge([OURS], [_entrance(*attempts)], Found([Seen(LATE, 0)], [CALLER], [listened]), "n")
    assert part in verdict.text, verdict


def test_judgement_of_both_directions() -> None:
    """Either way that is open is named; a way in can't be told from the sandbox's own node, nor by halves."""
    open_port = _entrance((0, OPEN))
    late = Found([Seen(LATE, 0)], [CALLER], [1.0])
    verdict = judge([OURS], [open_port], Found([Seen(OPEN, 5)], [CALLER], [1.0]), "n")
    assert "one could connect to this service (10.0.0.5:8000), and this service could connect to a port" in verdict.text
    verdict = judge([OURS], [open_port], late, "n")
    assert (verdict.enforced, "hold sandboxes: this service could connect to" in verdict.text) == (Enforced.NO, True)
    verdict = judge([OURS], [], Found([Seen(LATE, 0)], [CALLER], []), "n")
    assert (verdict.enforced, "does not show from a sandbox's own node" in verdict.text) == (Enforced.UNKNOWN, True)
    verdict = judge([OURS], [_silent(), _silent("fd00::9")], Found([Seen(LATE, 0)], [CALLER], [1.0, 0.0]), "n")
    assert (verdict.enforced, "([fd00::9]:8091): not tried" in verdict.text) == (Enforced.UNKNOWN, True)
    verdict = judge([OURS], [_silent(), _silent()], late, "n")
    assert (verdict.enforced, "something else" in verdict.text) == (Enforced.UNKNOWN, True)


ODD_ANSWERS = (
    *("", "no JSON", "null", "1", "[" * 100_000, '{"doors": []}', '{"doors": [1], "callers": [], "listened": []}'),
    '{"doors": [], "callers": [["10.0.0.5", Infinity]], "listened": []}',
    '{"doors": [], "callers": [["10.0.0.5", 1e400]], "listened": []}',
    '{"doors": [{"outcome": "x", "open_seconds": NaN}], "callers": [], "listened": []}',
)


@pytest.mark.parametrize("text", ODD_ANSWERS, ids=range(len(ODD_ANSWERS)))
def test_odd_answers(text: str) -> None:
    """Whatever a sandbox answers, it is read or refused by the one error that callers expect."""
    with pytest.raises(ValueError, match="can't be read"):
        read_found(text)


async def test_an_odd_answer_stops_nothing(world: World) -> None:
    """The service goes on beside it, and says that it can't tell."""
    world.answer = '{"doors": [], "callers": [["10.0.0.5", Infinity]]}'
    backend = await world.started()
    assert any("its answer can't be read" in note for note in backend.health().notes)
    assert backend.health().ready


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        with socket.create_server((request.param, 0), family=family) as found:
            yield found
    except OSError as error:
        pytest.skip(f"no listener at {request.param}: {error}")


def test_what_is_tried_in_a_sandbox(listener: socket.socket) -> None:
    """Over either IP family: an open door, one that somebody else answers, a shut one, and who is connected to us."""
    address, port = listener.getsockname()[:2]
    with ExitStack() as stack:
        caller = stack.enter_context(socket.create_connection((address, port)))
        stack.enter_context(listener.accept()[0])
        with socket.create_server((address, 0), family=listener.family) as closed:
            nobody = closed.getsockname()[1]
        doors = [(address, port, ""), (address, port, "our greeting"), (address, nobody, "")]
        found = look(doors, [], port, 0.3, 0.3)
        assert caller.getsockname()[:2] in found["callers"]
    opened, strange, shut = found["doors"]
    assert (opened["outcome"], strange["outcome"]) == (OPEN, STRANGE)
    assert opened["open_seconds"] > 0, "it was tried again"
    assert shut["outcome"] == "ECONNREFUSED"


def test_how_an_attempt_fails() -> None:
    """Silence is told from a name that leads nowhere, which says nothing of what the network allows."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address, port = full.getsockname()
        with socket.create_connection((address, port)):
            found = look([(address, port, ""), ("no-such-host.invalid", 1, "")], [], 1, 0.2, 0)
    late, nameless = (door["outcome"] for door in found["doors"])
    assert (late, nameless.partition(":")[0]) == ("ETIMEDOUT", "gaierror")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_how_a_sandbox_listens(address: str) -> None:
    """For most of a second; as long as somebody comes, but for its patience at most; and not without the address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.create_server((address, 0), family=family) as free:
            port = free.getsockname()[1]
    except OSError as error:
        pytest.skip(f"no listener at {address}: {error}")
    nobody = ("127.0.0.1", 1, "")
    with ThreadPoolExecutor() as pool:
        looking = pool.submit(look, [nobody], [(address, port, "word")], 1, 0.3, 2.0)
        outcomes = {knock(address, port, "word", 0.3)}
        while not looking.done():
            outcomes.add(knock(address, port, "word", 0.3))
    (welcomed,) = looking.result()["listened"]
    assert OPEN in outcomes
    assert welcomed >= 2.0
    assert look([nobody], [("192.0.2.1", port, "word")], 1, 0.3, 2.0)["listened"] == [0.0]
    (alone,) = look([nobody], [(address, port, "word")], 1, 0.3, 30.0)["listened"]
    assert LISTEN_SECONDS <= alone < 30.0


async def test_an_enforcing_network_is_noted(world: World) -> None:
    """A service finds out by itself, says so, and leaves no sandbox behind."""
    backend = await world.started()
    await until(lambda: any("network policies are enforced: " in note for note in backend.health().notes))
    await until(lambda: not world.api.objects.all("jobs"))
    assert backend.health().ready


async def test_a_network_that_enforces_nothing_is_noted(world: World) -> None:
    """Calls run all the same, unless the operator wants it otherwise."""
    world.walled = False
    backend = await world.started()
    await until(lambda: any("network policies do not hold sandboxes" in note for note in backend.health().notes))
    assert backend.health().ready


async def test_a_network_that_lets_others_in_is_noted(world: World) -> None:
    """That a sandbox gets nowhere is not enough where others get to it."""
    world.entered = True
    backend = await world.started()
    await until(lambda: any("this service could connect to a port" in note for note in backend.health().notes))
    assert backend.health().ready


async def test_from_the_own_node_it_stays_unknown(world: World) -> None:
    """There nothing keeps the service from sandboxes, whatever the policies say."""
    world.entered, world.node_ip = True, "127.0.0.1"
    backend = await world.started()
    await until(lambda: any("does not show from a sandbox's own node" in note for note in backend.health().notes))
    assert backend.health().ready


async def test_enforcement_can_be_required(world: World) -> None:
    """The service is not ready before it has seen its network enforce policies, and says what it waits for."""
    world.walled = False
    backend = world.backend(require_network_policy=True)
    await backend.start()
    await until(lambda: any("is being tried" in text for text in backend.health().problems))
    await until(lambda: any("do not hold sandboxes" in text for text in backend.health().problems))
    assert not backend.health().ready
    await backend.stop()
    world.walled = True
    again = world.backend(require_network_policy=True)
    await again.start()
    await until(lambda: again.health().ready)
    assert any("network policies are enforced: " in note for note in again.health().notes)


async def test_a_runner_that_boots_late_is_waited_for(world: World) -> None:
    """A container runs before its runner listens: that it refuses a connection then says nothing of the network."""
    world.boot_seconds = 0.5
    backend = await world.started()
    assert any("network policies are enforced: " in note for note in backend.health().notes)


async def test_a_service_that_stops_meanwhile_leaves_no_sandbox(world: World) -> None:
    """What was made to try the network goes with the service, whatever its runner does."""
    world.tells = False
    backend = world.backend()
    await backend.start()
    await until(lambda: any(runner.tried for runner in world.runners.values()))
    assert any(job.startswith("probe-") for job in world.jobs())
    await backend.stop()
    assert world.jobs() == []


async def test_a_service_that_stops_while_it_makes_a_sandbox_leaves_none(world: World) -> None:
    """It goes though its maker had not been told that it was there."""
    world.api.late_for = "probe-"
    backend = world.backend()
    await backend.start()
    await until(lambda: any(job.startswith("probe-") for job in world.jobs()))
    await backend.stop()
    assert world.jobs() == []


async def test_without_a_way_to_sandboxes_it_stays_unknown(world: World) -> None:
    """A service that reaches runners through the API server only can't tell, and calls run."""
    world.pod_ip = await world.stranger()
    backend = await world.started()
    await until(lambda: any("can't be told" in note for note in backend.health().notes))
    assert backend.health().ready


class Trials:
    """Trials with given results, a minute from one to the next, and what the watch says before each."""

    def __init__(self, *results: Verdict, minutes: float = 1) -> None:
        self.said: list[tuple[str, bool]] = []
        self.watch = NetworkWatch(self._try, required=True, clock=lambda: self._now)
        self._now, self._step = 0.0, minutes * 60
        self._results = list(results)
        self._over = asyncio.Event()

    async def _try(self) -> Verdict:
        self._now += self._step
        self.said.append((self.watch.note, bool(self.watch.problem)))
        if not self._results:
            self._over.set()
            await asyncio.Event().wait()
        return self._results.pop(0)

    async def all(self) -> None:
        """Make them."""
        self.watch.cleared.set()
        running = asyncio.create_task(self.watch.run())
        await self._over.wait()
        running.cancel()


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executor_api.backends.kubernetes.network_watch.SURE_SECONDS", 0.0)
    monkeypatch.setattr("executor_api.backends.kubernetes.network_watch.REQUIRED_SECONDS", (0.0, 0.0))


YES, NO, BUSY = Verdict(Enforced.YES, "enforced"), Verdict(Enforced.NO, "not enforced"), unknown("busy")


@pytest.mark.usefixtures("_hurried")
async def test_what_is_known_holds_until_the_opposite_is() -> None:
    """A trial that could not be made takes nothing back; one that shows the opposite does."""
    trials = Trials(BUSY, YES, BUSY, NO, BUSY)
    await trials.all()
    assert trials.said == [
        ("", True),
        (BUSY.text, True),
        ("enforced (tried 1 min ago)", False),
        ("enforced (tried 2 min ago)", False),
        ("not enforced (tried 1 min ago)", True),
        ("not enforced (tried 2 min ago)", True),
    ]


@pytest.mark.usefixtures("_hurried")
async def test_what_was_good_long_ago_is_not_known() -> None:
    """That policies were enforced holds for two hours; what is found after that is said at once."""
    trials = Trials(YES, BUSY, BUSY, BUSY, YES, minutes=50)
    await trials.all()
    stale = "whether network policies are enforced can't be told: they last were 150 min ago, and no trial"
    assert [(note[: len(stale)], problem) for note, problem in trials.said[1:]] == [
        ("enforced (tried 50 min ago)", False),
        ("enforced (tried 100 min ago)", False),
        (stale, True),
        (BUSY.text, True),
        ("enforced (tried 50 min ago)", False),
    ]
