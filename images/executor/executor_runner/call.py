"""One call from its claim to its report."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from base64 import b64decode
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path

from executor_runner.artifacts import collect
from executor_runner.guard import Guard
from executor_runner.job import Job
from executor_runner.journal import Journal
from executor_runner.loop import Loop, Timer
from executor_runner.meter import Meter
from executor_runner.place import Place
from executor_runner.process import Ending, count_zombies
from executor_runner.protocol import VERSION
from executor_runner.protocol.frames import FrameKind, Stream, encode_artifact, encode_json
from executor_runner.protocol.shapes import Call, Cause, GpuMemory, Report
from executor_runner.pump import OutputPump
from executor_runner.result import ResultPipe
from executor_runner.spare import Spare

UNKILLABLE_SECONDS = 2.0
"""How long we wait for killed processes to go; what stays is in D state and is reported."""
KILL_AGAIN_SECONDS = 0.05
PICK_UP_SECONDS = 60.0
"""How long a spare may take to pick up its call, on a machine that has no time for it."""
HEARTBEAT_SECONDS = 10.0


class Phase(Enum):
    """Where the call is. Only forward."""

    SETUP = auto()  # folders and files
    WAITING = auto()  # released, the spare has not picked it up
    RUNNING = auto()
    TERMINATING = auto()  # asked to end, in its grace
    KILLED = auto()  # waiting for the last process to go
    REPORTED = auto()  # or about to be, when it is known how the memory of GPUs stands


class CallRun:
    """Drives a spare through one call and writes its journal; callbacks of the loop, no threads."""

    def __init__(self, loop: Loop, call: Call, spare: Spare, place: Place) -> None:
        self._loop = loop
        self._call = call
        self._spare = spare
        self._place = place
        self.journal = Journal()
        self.phase = Phase.SETUP
        streams = {Stream.STDOUT: spare.stdout_fd, Stream.STDERR: spare.stderr_fd}
        self._pump = OutputPump(loop, self.journal, streams, call["limits"]["output_bytes"])
        self._pump.on_bytes = self._check_output
        self._result = ResultPipe(loop, spare.result_fd, call["limits"]["value_bytes"], self._start_clock)
        self._timers: list[Timer] = []
        self._guard = Guard(call["limits"], place.tree, place.group, [place.workspace.root])
        self._cause: str | None = None
        self._message = ""
        self._ending: Ending | None = None
        self._census = (0, 0)
        self._meter = Meter(place.reaper, place.group, follows=bool(call["reuse"] and call["reuse"]["follows"]))
        self._began = self._started = self._ended = time.monotonic()

    @property
    def ran(self) -> bool:
        """Whether the spare has picked it up."""
        return self._result.picked_up

    def begin(self) -> None:
        """Prepare the workspace and release the spare."""
        try:
            job = self._prepare()
            self._place.tree.limit(self._call["limits"]["processes"])
            self._spare.release(job, b64decode(self._call["stdin"]))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:  # a call of another shape, too
            self._cause, self._message = Cause.SETUP_FAILED, f"the sandbox could not be set up: {error}"
            self._kill()
            return
        self.phase = Phase.WAITING
        self._result.watch()
        self._later(PICK_UP_SECONDS, lambda: self.end(Cause.SETUP_FAILED, "the interpreter did not take up the call"))
        self._loop.call_later(HEARTBEAT_SECONDS, self._beat)

    def end(self, cause: str, message: str) -> None:
        """End the call from our side: politely if it is the clock's or somebody's wish, at once if it broke a limit."""
        if self.phase in (Phase.TERMINATING, Phase.KILLED, Phase.REPORTED):
            return
        self._cause, self._message = cause, message
        grace = self._call["grace_seconds"]
        if cause in (Cause.TIMEOUT, Cause.CANCELLED, Cause.TERMINATED) and grace > 0:
            self.phase = Phase.TERMINATING
            self._place.tree.signal_all(signal.SIGTERM)
            self._place.tree.signal_all(signal.SIGCONT)
            self._later(grace, self._kill)
        else:
            self._kill()

    def child_may_have_ended(self) -> None:
        """Look at what the reaper has; to be called after every reaping."""
        if self._has_ended():
            self._kill()
        if self.phase is Phase.KILLED and self._place.reaper.none_left:
            self._collect(none_left=True)

    def _has_ended(self) -> bool:
        """Take note of the child's end, once."""
        ending = self._place.reaper.endings.get(self._spare.pid)
        self._place.reaper.endings.clear()  # orphans come by the thousand, and pids come again
        if ending is None or self._ending is not None:
            return False
        self._result.read()  # it may have been picked up and have ended before we looked
        self._ending = ending
        self._ended = time.monotonic()
        return True

    def _prepare(self) -> Job:
        call, workspace = self._call, self._place.workspace
        workspace.write_files(call["files"])
        argv, source = call["argv"], Path()
        if call["python"] is not None:
            source = workspace.write_source("main.py", call["python"]["code"])
        elif call["script"] is not None:
            source = workspace.write_source("main" + call["script"]["suffix"], call["script"]["code"])
            argv = [item.replace("{file}", str(source)) for item in call["script"]["argv"]]
        return Job(
            argv=argv,
            python=call["python"],
            source=str(source),
            env=call["env"],
            cwd=str(workspace.work),
            open_files=call["limits"]["open_files"],
            value_bytes=call["limits"]["value_bytes"],
        )

    def _later(self, seconds: float, callback: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(seconds, callback))

    def _beat(self) -> None:
        if self.phase is not Phase.REPORTED:
            self.journal.append(FrameKind.HEARTBEAT)
            self._loop.call_later(HEARTBEAT_SECONDS, self._beat)

    def _start_clock(self) -> None:
        """The child is about to run; perhaps it has been told to end already, and still may say something."""
        self._pump.start()
        self._started = time.monotonic()
        setup_ms = (self._started - self._began) * 1000
        self.journal.append(FrameKind.STARTED, encode_json({"setup_ms": round(setup_ms, 3)}))
        if self.phase is not Phase.WAITING:
            return
        self._cancel_timers()
        self.phase = Phase.RUNNING
        timeout = self._call["timeout_seconds"]
        self._later(timeout, lambda: self.end(Cause.TIMEOUT, f"ran longer than its timeout of {timeout:g} s"))
        self._later(self._guard.next_look, self._look)

    def _look(self) -> None:
        if self.phase not in (Phase.RUNNING, Phase.TERMINATING):
            return
        verdict = self._guard.look()
        if verdict is None:
            self._loop.call_later(self._guard.next_look, self._look)
        elif self.phase is Phase.RUNNING:
            self.end(verdict.cause, verdict.message)
        else:
            self._kill()

    def _check_output(self, stream: Stream, total: int) -> None:
        most = self._call["limits"]["output_kill_bytes"]
        if most is None or total <= most:
            return
        message = f"wrote more than {most} bytes to {stream.name.lower()}"
        self.end(Cause.OUTPUT_LIMIT, message)
        if self._cause is None:  # it had ended by itself, and what it wrote last was still in the pipe
            self._cause, self._message = Cause.OUTPUT_LIMIT, message

    def _kill(self) -> None:
        """Count what is left, kill it, and give it a bounded time to go."""
        if self.phase in (Phase.KILLED, Phase.REPORTED):
            return
        if self.phase in (Phase.SETUP, Phase.WAITING) and self._cause is None:
            self._cause, self._message = Cause.SETUP_FAILED, "the interpreter ended before it took up the call"
        self._cancel_timers()
        self.phase = Phase.KILLED
        self._later(UNKILLABLE_SECONDS, self._collect)
        self._place.reaper.reap()
        if self._place.tree.adopts and self._place.reaper.none_left:
            self._has_ended()
            self._collect(none_left=True)
            return
        self._count_left_behind()
        self._kill_again()
        self.child_may_have_ended()

    def _count_left_behind(self) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self._spare.pid, signal.SIGSTOP)  # what doubles itself must not go on while we count
        others = [pid for pid in self._place.tree.pids() if pid != self._spare.pid]
        zombies = count_zombies(others) if others else 0
        self._census = (len(others) - zombies, zombies)
        self._place.reaper.reap()

    def _kill_again(self) -> None:
        """Outside a PID namespace one round may miss what was just being forked."""
        if self.phase is Phase.KILLED:
            self._place.tree.kill_all()
            self._later(KILL_AGAIN_SECONDS, self._kill_again)

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _collect(self, *, none_left: bool = False) -> None:
        """Everything is gone, or will not go: gather what it left and report."""
        if self.phase is Phase.REPORTED:
            return
        self.phase = Phase.REPORTED
        self._cancel_timers()
        if self._ending is None:
            self._ended = time.monotonic()
        self._pump.drain()
        self._result.close()
        unkillable = 0 if none_left or self._place.reaper.none_left else len(self._place.tree.pids())
        report = self._report(self._bring_back_artifacts(), unkillable)
        if self._place.gpus is None:
            self.journal.append(FrameKind.REPORT, encode_json(report))
        else:
            alone = report["processes"]["unkillable"] == 0
            self._place.gpus.compare(lambda memory: self._report_with_gpus(report, memory), alone=alone)

    def _report_with_gpus(self, report: Report, memory: GpuMemory) -> None:
        report["gpu"] = memory
        report["collect_ms"] = round((time.monotonic() - self._ended) * 1000, 3)
        self.journal.append(FrameKind.REPORT, encode_json(report))

    def _bring_back_artifacts(self) -> list[str]:
        skipped = []
        limit = self._call["limits"]["artifact_bytes"]
        for artifact in collect(self._place.workspace.work, self._call["artifacts"], limit):
            if artifact.skipped is None:
                self.journal.append(FrameKind.ARTIFACT, encode_artifact(artifact.path, artifact.content))
            else:
                skipped.append(f"{artifact.path}: {artifact.skipped}")
        return skipped

    def _report(self, skipped: list[str], unkillable: int) -> Report:
        if self._cause is None and self._meter.killed_for_memory(self._ending):
            self._cause, self._message = Cause.OUT_OF_MEMORY, "the kernel killed it for its memory limit"
        ending = self._ending or Ending(None, None)
        pump = self._pump
        report = Report(
            version=VERSION,
            execution_id=self._call["execution_id"],
            cause=self._cause,
            message=self._message,
            exit_code=ending.exit_code,
            signal=ending.signal,
            stdout_bytes=pump.total_bytes(Stream.STDOUT),
            stderr_bytes=pump.total_bytes(Stream.STDERR),
            stdout_dropped_bytes=pump.dropped_bytes(Stream.STDOUT),
            stderr_dropped_bytes=pump.dropped_bytes(Stream.STDERR),
            run_ms=round((self._ended - self._started) * 1000, 3),
            collect_ms=round((time.monotonic() - self._ended) * 1000, 3),
            usage=self._meter.usage(self._guard.peak_bytes()),
            processes={
                "left_behind": self._census[0],
                "zombies": self._census[1],
                "unkillable": unkillable,
            },
        )
        if self._call["python"] is not None:
            report = {**report, **self._result.findings()}
        if skipped:
            report["artifacts_skipped"] = skipped
        return report
