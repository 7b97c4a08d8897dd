"""``python -m executor_runner``: PID 1 of a sandbox pod."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from executor_runner import linux
from executor_runner.cgroup import MemoryGroup, memory_group
from executor_runner.journal import Journal
from executor_runner.loop import Loop
from executor_runner.podlog import PodLog
from executor_runner.preload import preload
from executor_runner.protocol import POD_ENV, PORT, PRELOAD_ENV, TERMINATION_LOG, TOKEN_HASH_ENV
from executor_runner.protocol.frames import FrameKind
from executor_runner.rehearsal import rehearse
from executor_runner.runner import Runner
from executor_runner.server import HttpServer
from executor_runner.signals import reset_signals

DELIVERED_SECONDS = 2.0
"""How long a runner whose report was read stays, for the reader to say that it is stored."""
LINGER_SECONDS = 30.0
"""How long a runner stays whose report nobody has read: somebody may still take the journal up again."""
REHEARSAL_SECONDS = 0.1
"""A sandbox that has no call so long after its start is most likely one that waits."""
LOG_SECONDS = 2.0
"""How long the last lines of the log may take."""
_STDOUT = 1
_SHARED_MEMORY = (Path("/dev/shm"), Path("/dev/mqueue"))  # noqa: S108 - only to wipe them
"""A container's own, and beside the workspace all that its image lets a call write to."""


class Pod:
    """Holds the parts together and knows when to leave."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.loop = Loop()
        listener = _listen(int(environ.get("EXECUTOR_PORT", PORT)))
        preload(filter(None, environ.get(PRELOAD_ENV, "").split(",")))
        root, group = Path(environ.get("EXECUTOR_ROOT", "/sandbox")), memory_group()
        scratch = [folder for folder in _SHARED_MEMORY if os.getpid() == 1 and folder.is_dir()]
        self.runner = Runner(self.loop, root, environ, group, scratch, secretive=True)
        pod = environ.get(POD_ENV, "")
        self._server = HttpServer(self.loop, self.runner, listener, environ[TOKEN_HASH_ENV], pod)
        self._server.on_claim = self._on_claim
        self._server.on_done = self.runner.on_idle_end = self._leave
        self.runner.on_retired = self._leave_in_time
        self._termination_log = Path(environ.get("EXECUTOR_TERMINATION_LOG", TERMINATION_LOG))
        self._log: PodLog | None = None
        self.loop.call_later(REHEARSAL_SECONDS, lambda: self._rehearse(group))

    def _rehearse(self, group: MemoryGroup | None) -> None:
        if self.runner.journal is None:
            with contextlib.suppress(Exception):  # whatever is wrong, the call will say it
                rehearse(group)

    def _on_claim(self, token: str, journal: Journal) -> None:
        if self._log is None:
            self._log = PodLog(self.loop, _STDOUT, token, self._termination_log)
        self._log.flush()  # the call before must have its end there: else its output could pass for this one's
        journal.add_listener(self._log)
        journal.add_listener(self._on_frame)

    def _on_frame(self, kind: FrameKind, _payload: bytes) -> None:
        if kind is not FrameKind.REPORT:
            return
        if self._log is not None and not self._server.told:
            self._log.flush()  # nobody else may ever have it
        if not self.runner.for_reuse:
            self._leave_in_time()

    def _leave_in_time(self) -> None:
        """There has been a call, and there will be no other."""
        self.loop.call_later(DELIVERED_SECONDS, self._leave_if_delivered)
        self.loop.call_later(LINGER_SECONDS, self._leave)

    def _leave_if_delivered(self) -> None:
        if self._server.delivered:
            self._leave()
        else:
            self.loop.call_later(DELIVERED_SECONDS, self._leave_if_delivered)

    def _leave(self) -> None:
        if self._log is None or self._log.flush():
            self.loop.stop()
        else:
            self.loop.call_later(LOG_SECONDS, self.loop.stop)


def _listen(port: int) -> socket.socket:
    """On every address, IPv4 and IPv6: a pod may have either."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    return socket.create_server(("", port), backlog=64)


def main() -> int:
    """Run one sandbox."""
    linux.set_dumpable(dumpable=False)  # first of all: same-uid code must not read our memory or write our log
    if TOKEN_HASH_ENV not in os.environ:
        sys.stderr.write(f"executor_runner: {TOKEN_HASH_ENV} is not set; only the service starts sandboxes\n")
        return 2
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # of calls neither: who makes spares inherits it to them
    reset_signals()
    linux.forbid_privileges()
    Pod(os.environ).loop.run()
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # an interpreter that cleans up first costs its node as much time as a call
