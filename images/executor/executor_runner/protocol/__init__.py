"""What the service and the runner say to each other: call, journal, report, tokens. Pure: no I/O.

The service sends one call as JSON. The runner answers with a **journal**, an append-only sequence of frames
that begins before the child starts and ends with exactly one report. A journal can be read again from any byte
offset, so a cut connection loses nothing. Copies of it stay in the pod's log (`podlog`) and, the report alone, in
its termination message.
"""

from __future__ import annotations

VERSION = 1

PORT = 8090
"""TCP port of a runner in a pod."""

CALL_PATH = "/v1/call"
"""``POST`` starts a call, ``GET ?execution=ID&offset=N`` reads its journal again, ``DELETE ?execution=ID`` cancels it.

All replicas of a service have a sandbox's token. So whoever comes back names the execution, and gets 409 with
`holder_text` where the call is another's.
"""

DONE_PATH = "/v1/done"
"""``POST ?execution=ID``: the service has stored the report, the runner may leave."""

RETIRE_PATH = "/v1/retire"
"""``POST``: leave, unless there is a call (409). Who retires a sandbox so can never end a call."""

_HOLDER = "claimed by "


def holder_text(execution_id: str) -> str:
    """The body of a 409: whose call the runner has."""
    return f"{_HOLDER}{execution_id}\n"


def read_holder(text: str) -> str | None:
    """The execution id in the body of a 409; None if it is no such body."""
    line = text.strip()
    return line.removeprefix(_HOLDER) if line.startswith(_HOLDER) else None


TOKEN_HEADER = "Executor-Token"
"""Carries the sandbox's token. Not ``Authorization``: the API server's pod proxy keeps that one for itself."""

POD_HEADER = "Executor-Pod"
"""Names, by its UID, the pod that a call is meant for. Two pods of one sandbox, one after the other, have the same
token and may have the same address, so the runner of another pod refuses the call (421).
"""

POD_ENV = "EXECUTOR_POD_UID"
"""Environment variable of a pod's runner with the UID of the pod."""

TOKEN_HASH_ENV = "EXECUTOR_TOKEN_SHA256"
"""Environment variable of a pod's runner with the SHA-256, in hex, of the only token it accepts."""

PRELOAD_ENV = "EXECUTOR_PRELOAD"
"""Environment variable of a runner: modules, separated by commas, that it imports before it waits for calls."""

GPUS_ENV = "EXECUTOR_GPUS"
"""Environment variable of a pod's runner: how many NVIDIA GPUs are its own alone. Missing: none."""

TERMINATION_LOG = "/dev/termination-log"
TERMINATION_LIMIT = 4096
"""The kubelet keeps this many bytes of a termination message."""
