"""Finds out by trying whether network policies hold a sandbox: it is to reach nothing, and we only its runner."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from importlib.resources import files
from urllib.parse import urlsplit

from executor_api.backends.base import Claim, ClaimedError, ConnectionLostError, NotTakenError, SandboxFailedError
from executor_api.backends.kubernetes import rehearsal
from executor_api.backends.kubernetes.enforcement import Door, Entrance, Found, Verdict, judge, read_found, unknown
from executor_api.backends.kubernetes.job_factory import single_use
from executor_api.backends.kubernetes.probe_code import knock
from executor_api.backends.kubernetes.sandbox import KubernetesSandbox
from executor_api.backends.kubernetes.snapshot import PodSnapshot
from executor_api.domain.plan import Plan
from executor_api.domain.report import BadReportError, read_report
from executor_api.domain.runner_call import runner_call
from executor_api.domain.template import Template
from executor_api.errors import ConfigurationError, UnavailableError
from executor_runner.protocol import PORT
from executor_runner.protocol.frames import FrameDecoder, FrameKind, ProtocolError, encode_json
from executor_runner.protocol.shapes import Report

ATTEMPT_SECONDS = 2.5
"""How long a connection may take to come about; the second attempt of TCP itself is after one."""
SETTLE_SECONDS = 5.0
"""How long the network may take to apply policies to a new pod."""
ENTRANCE = PORT + 1
"""The port of a sandbox that we must not reach: any but its runner's."""
_ENTER_SECONDS, _ENTER_PAUSE_SECONDS = 0.3, 0.1
"""Together well below the time that the sandbox listens, so that several attempts fall into it."""
_CALL_SECONDS = 20.0
_REQUEST = b"GET /healthz HTTP/1.0\r\n\r\n"
_TEMPLATE = "network-probe"
"""Name of the template that is tried: of none whose sandboxes have a way out."""


@dataclass(frozen=True, slots=True)
class Places:
    """What sandboxes must not reach. ``port``: where this service serves; 0: not known. ``api``: URL, or ""."""

    namespace: str
    port: int = 0
    api: str = ""


def probe_template(template: Template) -> Template:
    """The same, but for ways out that only sandboxes of its name have."""
    return template.model_copy(update={"name": _TEMPLATE})


def probe_claim(template: Template) -> Claim:
    """For a sandbox that `examine` can be given."""
    return Claim(rehearsal.EXECUTION, "", single_use(probe_template(template)))


async def probe(making: Awaitable[KubernetesSandbox], template: Template, places: Places) -> Verdict:
    """Try it in a sandbox that is being made, for the template's `probe_claim`, and is removed again."""
    try:
        sandbox = await making
        try:
            async with asyncio.timeout(rehearsal.PATIENCE_SECONDS):
                await sandbox.ready()
                await sandbox.answers()
            return await examine(sandbox, template, places)
        finally:
            await rehearsal.removed(sandbox.details.name, sandbox.release())
    except (SandboxFailedError, ConnectionLostError, UnavailableError, ConfigurationError) as error:
        return unknown(f"no sandbox could be had to try it ({error}); it is tried again")
    except TimeoutError:
        return unknown("the sandbox to try it takes long to start; it is tried again")


async def examine(sandbox: KubernetesSandbox, template: Template, places: Places) -> Verdict:
    """Try it in a sandbox that can be dialled, and takes no call after this."""
    try:
        async with asyncio.timeout(_CALL_SECONDS), AsyncExitStack() as stack:
            doors = await _doors(stack, sandbox.pod, places)
            if not doors:
                return judge((), (), Found([], [], []), places.namespace)
            entrances = _entrances(doors, sandbox.pod)
            async with _dialled(entrances):
                found = await _looked(sandbox, template, doors, entrances)
            return judge(doors, entrances, found, places.namespace)
    except (ConnectionLostError, ClaimedError, NotTakenError, ProtocolError, BadReportError) as error:
        return unknown(f"the sandbox to try it has not answered ({error}); look at its image, or try again")
    except TimeoutError:
        return unknown(f"the sandbox to try it has not answered within {_CALL_SECONDS:g} s; try again")


async def _doors(stack: AsyncExitStack, pod: PodSnapshot | None, places: Places) -> list[Door]:
    """Ours, one for each address of the pod that we reach; and the API server's, where it has the same for all."""
    found = []
    for ip in pod.ips if pod is not None else ():
        with suppress(OSError):
            found.append(await _own_door(stack, ip, places.port))
    api = urlsplit(places.api)
    if api.hostname:
        door = Door("the API server", api.hostname, api.port or 443)
        with suppress(OSError):
            await _greets(door)
            found.append(door)
    return found


async def _own_door(stack: AsyncExitStack, ip: str, port: int) -> Door:
    """Ours as the pod at this address would reach it. Raises ``OSError`` if we can't reach the pod, or ourselves."""
    async with asyncio.timeout(ATTEMPT_SECONDS):
        _, line = await asyncio.open_connection(ip, PORT)
    stack.enter_context(closing(line))  # the sandbox sees its far end as long as this lasts
    address, own_port = line.get_extra_info("sockname")[:2]
    if port:
        door = Door("this service", address, port, "HTTP/1.", (address, own_port), ip)
        with suppress(OSError):
            await _greets(door)
            return door
    word = secrets.token_hex(16)
    served = await _serve(stack, address, word)
    door = Door("this service", address, served, word, (address, own_port), ip)
    await _greets(door)
    return door


async def _serve(stack: AsyncExitStack, address: str, word: str) -> int:
    """Answer with the word at a port of this address."""
    lines: set[asyncio.StreamWriter] = set()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.add(writer)
        with closing(writer), suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await reader.readuntil(_REQUEST)
            writer.write(word.encode())
        lines.discard(writer)

    server = await asyncio.start_server(greet, address, 0)

    def close() -> None:
        server.close()
        for line in lines:
            line.close()

    stack.callback(close)
    port: int = server.sockets[0].getsockname()[1]
    return port


def _entrances(doors: Iterable[Door], pod: PodSnapshot | None) -> list[Entrance]:
    """One at each address where we reach the sandbox; none on its own node, which policies never keep from it."""
    if pod is None or _is_ours(pod.node_ip):
        return []
    return [Entrance(door.sandbox, ENTRANCE, secrets.token_hex(16)) for door in doors if door.sandbox]


def _is_ours(address: str) -> bool:
    """Whether this machine has the address, as far as we see it: a pod sees its own. "" is anybody's."""
    with suppress(OSError), socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as line:
        line.bind((address, 0))
        return True
    return False


@asynccontextmanager
async def _dialled(entrances: Iterable[Entrance]) -> AsyncIterator[None]:
    """Meanwhile, try them again and again."""
    began = time.monotonic()
    dialling = [asyncio.create_task(_dial(entrance, began)) for entrance in entrances]
    try:
        yield
    finally:
        for task in dialling:
            task.cancel()
        await asyncio.gather(*dialling, return_exceptions=True)
        for entrance in entrances:
            entrance.seconds = time.monotonic() - began


async def _dial(entrance: Entrance, began: float) -> None:
    def attempt() -> tuple[float, str]:
        start = time.monotonic() - began
        return start, knock(entrance.address, entrance.port, entrance.greeting, _ENTER_SECONDS)

    while True:  # in a thread: an event loop that comes late would take for silence what was an answer
        entrance.attempts.append(await asyncio.to_thread(attempt))
        await asyncio.sleep(_ENTER_PAUSE_SECONDS)


async def _greets(door: Door) -> None:
    """See that it is there. Raises ``OSError``."""
    async with asyncio.timeout(ATTEMPT_SECONDS):  # whose TimeoutError is an OSError
        reader, writer = await asyncio.open_connection(door.address, door.port)
        with closing(writer):
            if door.greeting:
                writer.write(_REQUEST)
                if door.greeting.encode() not in await reader.read(len(door.greeting)):
                    raise ConnectionError(f"{door} is somebody else")


async def _looked(
    sandbox: KubernetesSandbox, template: Template, doors: list[Door], entrances: list[Entrance]
) -> Found:
    """What the sandbox finds, by a call as any other. Raises what a call raises, and `BadReportError`."""
    call = encode_json(runner_call(_plan(probe_template(template), doors, entrances), rehearsal.EXECUTION, ""))
    decoder = FrameDecoder()
    async with aclosing(sandbox.dispatch(call)) as source:
        async for data in source:
            for frame in decoder.feed(data):
                if frame.kind is FrameKind.REPORT:
                    return _value(read_report(frame.payload, rehearsal.EXECUTION))
    raise ConnectionLostError("its connection ended before it had answered")


def _plan(template: Template, doors: list[Door], entrances: list[Entrance]) -> Plan:
    code = (files(__package__) / "probe_code.py").read_text(encoding="utf-8")
    knocked, opened = ([[it.address, it.port, it.greeting] for it in places] for places in (doors, entrances))
    return single_use(
        template,
        code=code,
        function="look",
        args=[knocked, opened, PORT, ATTEMPT_SECONDS, SETTLE_SECONDS],
        timeout_seconds=min(_CALL_SECONDS, template.max_timeout_seconds),
    )


def _value(report: Report) -> Found:
    text = report.get("value_json")
    if text is None:
        raise BadReportError(f"its code failed: {report.get('exception') or report['message'] or 'no value'}")
    try:
        return read_found(text)
    except ValueError as error:
        raise BadReportError(str(error)) from None
