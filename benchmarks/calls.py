"""The calls that benchmarks send, and whether their answers are right.

Each call echoes a random word of its own and leaves it in its sandbox. A call that finds another's word there betrays
a sandbox that was used twice or, where calls share one, something that was not wiped.
"""

from __future__ import annotations

import asyncio
import collections
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from wire import Answer, Client

_CODE = """import os
word = seen = "WORD"
for mark in MARKS:
    try:
        with open(mark, "x") as file:
            file.write(word)
    except FileExistsError:
        with open(mark) as file:
            seen = file.read()
print(word, os.uname().nodename, seen, sum(name.isdigit() for name in os.listdir("/proc")))
"""
_LITTER = 'os.posix_spawn("/bin/sleep", ["sleep", "1000"], os.environ, setsid=True)\n'
_SINGLE_USE = '("../mark",)'  # beside the working directory, which is the call's own
_REUSE = '("mark", os.environ["TMPDIR"] + "/mark", os.environ["HOME"] + "/mark")'
WAITED = 20.0
"""Milliseconds in the queue from which on a call did not find a sandbox but waited for one."""
_FINISHED = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Kind:
    """Calls of one kind: requests that differ in their word only. ``litters``: leaves a process behind."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    litters: bool = False

    @property
    def reuses(self) -> bool:
        """Whether its sandboxes serve more than one call."""
        return self.fields.get("isolation") == "reuse"

    def body(self) -> bytes:
        """The request with WORD where the word goes."""
        code = _CODE.replace("MARKS", _REUSE if self.reuses else _SINGLE_USE) + (_LITTER if self.litters else "")
        return json.dumps({**self.fields, "code": code}).encode()


@dataclass(frozen=True)
class Sleepy(Kind):
    """Calls that sleep before they answer."""

    seconds: float = 0.0

    def body(self) -> bytes:
        """The request with WORD where the word goes."""
        request = json.loads(Kind.body(self))
        return json.dumps({**request, "code": f"import time\ntime.sleep({self.seconds})\n{request['code']}"}).encode()


class Verdict(StrEnum):
    """What an answer is worth."""

    RIGHT = "right"
    REJECTED = "rejected"  # 429 that says when to come again
    WRONG = "wrong"  # an answer, but not the call's
    BROKEN = "broken"  # no answer, or none that a service should give


@dataclass(frozen=True, slots=True)
class Reply:
    """One call as it went. Instants of ``time.perf_counter()``; status 0: the connection broke, ``body`` says how."""

    word: str
    intended: float
    sent: float
    finished: float
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Sample:
    """A judged reply."""

    reply: Reply
    reuses: bool
    verdict: Verdict
    problem: str
    answer: Mapping[str, Any]
    processes: int = 0  # seen by the call in its sandbox

    @property
    def wall(self) -> float:
        """Milliseconds from the intended start to the last byte."""
        return (self.reply.finished - self.reply.intended) * 1000

    @property
    def start(self) -> str:
        """warm, cold, reused, or "warm, waited"; empty without an answer."""
        start = self.answer.get("start") or ""
        waited = start == "warm" and self.phases.get("queue", 0.0) > WAITED
        return "warm, waited" if waited else start

    @property
    def sandbox(self) -> str:
        """What tells its sandbox from all others: the pod's uid where there is one."""
        details = self.answer.get("sandbox") or {}
        return details.get("pod_uid") or details.get("name") or ""

    @property
    def phases(self) -> dict[str, float]:
        """Milliseconds by phase, of ``timings_ms`` and of the ``Server-Timing`` header."""
        found = {name: value for name, value in (self.answer.get("timings_ms") or {}).items() if value is not None}
        for entry in self.reply.headers.get("server-timing", "").split(","):
            name, _, duration = entry.partition(";dur=")
            if duration:
                found.setdefault(name.strip(), float(duration))
        return found


class Caller:
    """Sends calls of one kind to one service."""

    def __init__(self, client: Client, kind: Kind, timeout_seconds: float) -> None:
        self._client = client
        self._timeout = timeout_seconds
        self._before, self._after = kind.body().split(b"WORD")

    async def call(self, intended: float | None = None, word: str = "", key: str = "") -> Reply:
        """Run one call to its end. ``intended``: when it should have been sent; ``key``: its idempotency key."""
        word = word or secrets.token_hex(6)
        body = self._before + word.encode() + self._after
        sent = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout):
                first = await self._client.request("POST", "/execute", body, {"Idempotency-Key": key} if key else None)
                last = first if first.status != 202 else await self._follow(first)
        except OSError as error:  # a TimeoutError is one
            now = time.perf_counter()
            return Reply(word, intended or sent, sent, now, 0, {}, repr(error).encode())
        return Reply(word, intended or sent, sent, last.at, first.status, last.headers, last.body)

    async def _follow(self, accepted: Answer) -> Answer:
        """Wait for the end of a call that the service answered before it had ended."""
        while True:
            answer = await self._client.request("GET", accepted.headers["location"], headers={"Prefer": "wait=30"})
            if answer.status != 200 or json.loads(answer.body)["status"] in _FINISHED:
                return answer


def judge(replies: Iterable[Reply], kind: Kind) -> list[Sample]:
    """Tell right from wrong."""
    return [_judge(reply, kind.reuses) for reply in replies]


def used_twice(samples: Iterable[Sample]) -> list[str]:
    """Sandboxes for a single call that more than one answer came from."""
    count = collections.Counter(sample.sandbox for sample in samples if sample.sandbox and not sample.reuses)
    return [sandbox for sandbox, times in count.items() if times > 1]


def _judge(reply: Reply, reuses: bool) -> Sample:  # noqa: FBT001 - a private helper's only flag
    if reply.status == 429 and reply.headers.get("retry-after", "").isdigit():
        return Sample(reply, reuses, Verdict.REJECTED, "", {})
    if reply.status not in (200, 202):
        return Sample(reply, reuses, Verdict.BROKEN, f"{reply.status} {reply.body[:300].decode(errors='replace')}", {})
    answer = json.loads(reply.body)
    problem, processes = _problem(reply.word, answer)
    return Sample(reply, reuses, Verdict.WRONG if problem else Verdict.RIGHT, problem, answer, processes)


def _problem(word: str, answer: Mapping[str, Any]) -> tuple[str, int]:
    """What is wrong with it, if anything, and how many processes the call saw."""
    said = (answer.get("stdout") or "").split()
    if answer.get("status") != "succeeded" or len(said) != 4:
        return f"{answer.get('status')} {answer.get('reason')}: {answer.get('message')} {answer.get('stderr')}", 0
    echo, host, seen, processes = said
    pod = (answer.get("sandbox") or {}).get("pod")
    if echo != word:
        return f"answers {echo}, not {word}", int(processes)
    if seen != word:
        return f"found what {seen} left", int(processes)
    if pod and pod != host:
        return f"ran in {host}, said {pod}", int(processes)
    return "", int(processes)
