"""The endings matrix: what is run, and how it must be reported. Every row prints before it ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

BOTH = ("local", "kubernetes")


@dataclass(frozen=True, slots=True)
class Row:
    """One ending. ``contains`` must be in stdout; ``checks`` are dotted paths of the answer and their values."""

    name: str
    request: dict[str, Any]
    status: str
    reason: str | None
    contains: str = "before\n"
    checks: dict[str, Any] = field(default_factory=dict)
    backends: tuple[str, ...] = BOTH


def _python(code: str, **more: Any) -> dict[str, Any]:
    return {"code": "print('before')\n" + code, "timeout_seconds": 30, **more}


def _shell(command: str, **more: Any) -> dict[str, Any]:
    return {"command": "echo before; " + command, "timeout_seconds": 30, **more}


_GROW = """
import time
kept = []
while True:
    kept.append(bytearray(b'x' * {size}))
    time.sleep({pause})
"""

_BLOCKED = """
import os
for path in ('/proc/1/mem', '/proc/1/environ', '/proc/1/fd/1', '/proc/1/maps'):
    try:
        open(path, 'r+b' if path.endswith('mem') else 'rb').close()
        print('reached', path)
    except OSError:
        print('blocked', path)
"""

_PTRACE = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print('ptrace attached' if libc.ptrace(16, 1, 0, 0) == 0 else 'ptrace blocked')
"""

_KILL = """
import os, signal, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGSTOP, signal.SIGKILL):
    try:
        os.kill(1, number)
    except PermissionError:
        pass
    time.sleep(0.05)
print('runner alive')
raise SystemExit(7)
"""

_FORGE_FRAMES = """
import json, os, struct
report = json.dumps({'version': 1, 'execution_id': 'x', 'cause': None, 'message': '', 'exit_code': 0}).encode()
frame = struct.pack('>BI', ord('R'), len(report)) + report
for descriptor in range(3, 64):
    try:
        os.write(descriptor, frame)
    except OSError:
        pass
raise SystemExit(7)
"""

_FORGE_VERDICT = """
import json
try:
    with open('/dev/termination-log', 'w') as file:
        file.write(json.dumps({'report': '{"exit_code": 0}', 'mac': '0' * 64}))
except OSError:
    pass
raise SystemExit(7)
"""

_D_STATE = """
import os
os.mkfifo('pipe')
os.posix_spawn('/bin/true', ['true'], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, 'pipe', os.O_RDONLY, 0)])
"""

_LATE = """
import signal, sys, time
def late(*_):
    print('late')
    sys.exit(0)
signal.signal(signal.SIGTERM, late)
time.sleep(60)
"""

_ORPHANS = """
i=0; while [ $i -lt 4800 ]; do (sleep 0.05 &); i=$((i+1)); done
while [ $i -lt 5000 ]; do (sleep 300 &); i=$((i+1)); done
sleep 1; echo made
"""

_MIXED = """
import sys
for number in range(200):
    print(number)
    print(-number, file=sys.stderr)
"""

ROWS = (
    Row("exit 0", _python(""), "succeeded", None, checks={"exit_code": 0}),
    Row("exit 7", _shell("exit 7"), "failed", "exit_code", checks={"exit_code": 7}),
    Row(
        "sys.exit('text')",
        _python("import sys; sys.exit('text')"),
        "failed",
        "exit_code",
        checks={"exit_code": 1, "stderr": "text\n"},
    ),
    Row(
        "uncaught exception",
        _python("1/0"),
        "failed",
        "exception",
        checks={"exit_code": 1, "exception.type": "ZeroDivisionError"},
    ),
    Row("SIGSEGV", _python("import ctypes; ctypes.string_at(0)"), "failed", "signal", checks={"signal": "SIGSEGV"}),
    Row("self-SIGKILL", _shell("kill -9 $$"), "failed", "signal", checks={"signal": "SIGKILL"}),
    Row("user exit 137", _shell("exit 137"), "failed", "exit_code", checks={"exit_code": 137, "signal": None}),
    Row("timeout, sleeper", _shell("sleep 60", timeout_seconds=1), "failed", "timeout"),
    Row("timeout, busy loop", _python("while True: pass", timeout_seconds=1), "failed", "timeout"),
    Row(
        "timeout, ignores SIGTERM",
        _shell("trap '' TERM; while :; do sleep 0.1; done", timeout_seconds=1),
        "failed",
        "timeout",
    ),
    Row(
        "memory over the limit, slow",
        _python(_GROW.format(size=4 << 20, pause=0.02), resources={"memory": "256Mi"}),
        "failed",
        "out_of_memory",
    ),
    Row(
        "memory over the limit, fast",
        _python(_GROW.format(size=64 << 20, pause=0), resources={"memory": "512Mi"}),
        "failed",
        "out_of_memory",
    ),
    Row(
        "fork bomb", _shell("bash -c ':(){ :|:& };:; sleep 30'", resources={"memory": "2Gi"}), "failed", "process_limit"
    ),
    Row(
        "5,000 orphans",
        _shell(_ORPHANS, timeout_seconds=120),
        "succeeded",
        None,
        "before\nmade\n",
        {"processes.left_behind": 200, "processes.zombies": 0, "processes.unkillable": 0},
    ),
    Row(
        "double-forked setsid daemon",
        _shell("(setsid sleep 300 >/dev/null 2>&1 &) ; sleep 0.2; echo made"),
        "succeeded",
        None,
        "before\nmade\n",
        {"processes.left_behind": 1, "processes.unkillable": 0},
    ),
    Row(
        "background process holds stdout",
        _shell("sleep 300 & echo made"),
        "succeeded",
        None,
        "before\nmade\n",
        {"processes.left_behind": 1},
    ),
    Row("child closes stdout", _shell("exec >&- 2>&-; exit 3"), "failed", "exit_code", checks={"exit_code": 3}),
    Row(
        "50 MB of output",
        _shell("head -c 50000000 /dev/zero | tr '\\0' x"),
        "succeeded",
        None,
        checks={"stdout_bytes": 50_000_007, "truncated": True, "stdout_dropped_bytes": 50_000_007 - (1 << 20)},
    ),
    Row(
        "a 5 MB line",
        _python("print('y' * 5_000_000)", template="wordy"),
        "succeeded",
        None,
        checks={"stdout_bytes": 5_000_008, "truncated": True, "stdout_dropped_bytes": 5_000_008 - (3 << 20)},
    ),
    Row(
        "invalid UTF-8", _shell(r"printf '\377\376\n'"), "succeeded", None, checks={"stdout_base64": "YmVmb3JlCv/+Cg=="}
    ),
    Row(
        "interleaved stdout and stderr",
        _python(_MIXED),
        "succeeded",
        None,
        "before\n" + "".join(f"{n}\n" for n in range(200)),
        {"stderr": "".join(f"{-n}\n" for n in range(200))},
    ),
    Row("output after the deadline", _python(_LATE, timeout_seconds=1), "failed", "timeout", "before\nlate\n"),
    Row(
        "descriptor hog",
        _python("kept = [open('/dev/null') for _ in range(100_000)]"),
        "failed",
        "exception",
        checks={"exception.type": "OSError"},
    ),
    Row(
        "disk filled to the limit",
        _shell("cat /dev/zero > fill", resources={"ephemeral_storage": "64Mi"}),
        "failed",
        "storage_limit",
    ),
    Row(
        "process in D state",
        _python(_D_STATE, timeout_seconds=1),
        "failed",
        "timeout",
        checks={"processes.unkillable": 0},
    ),
    Row(
        "attack: runner's /proc",
        _python(_BLOCKED),
        "succeeded",
        None,
        "blocked /proc/1/mem\nblocked /proc/1/environ\nblocked /proc/1/fd/1\nblocked /proc/1/maps\n",
    ),
    Row("attack: ptrace", _python(_PTRACE), "succeeded", None, "ptrace blocked\n"),
    Row("attack: kill the runner", _python(_KILL), "failed", "exit_code", "runner alive\n", {"exit_code": 7}),
    Row("attack: forged frames", _python(_FORGE_FRAMES), "failed", "exit_code", checks={"exit_code": 7}),
    Row("attack: forged termination message", _python(_FORGE_VERDICT), "failed", "exit_code", checks={"exit_code": 7}),
    Row("image missing", _python("", template="no-image"), "failed", "image_pull", "", backends=("kubernetes",)),
    Row("unschedulable", _python("", template="huge"), "failed", "unschedulable", "", backends=("kubernetes",)),
)

TEMPLATES = """
templates:
  - name: wordy
    output: {keep_bytes: 3145728}
  - name: no-image
    image: localhost/no-such-image:none
    start_seconds: 60
  - name: huge
    start_seconds: 8
    resources: {cpu: "1", memory: 900Gi, ephemeral_storage: 1Gi}
    max_resources: {cpu: "1", memory: 999Gi, ephemeral_storage: 1Gi}
"""
