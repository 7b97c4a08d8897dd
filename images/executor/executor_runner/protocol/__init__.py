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
"""``POST`` starts the call, ``GET ?offset=N`` reads its journal again, ``DELETE`` cancels it."""

DONE_PATH = "/v1/done"
"""``POST``: the service has stored the report, the runner may leave."""

TOKEN_HEADER = "Executor-Token"
"""Carries the sandbox's token. Not ``Authorization``: the API server's pod proxy keeps that one for itself."""

TOKEN_HASH_ENV = "EXECUTOR_TOKEN_SHA256"
"""Environment variable of a pod's runner with the SHA-256, in hex, of the only token it accepts."""

PRELOAD_ENV = "EXECUTOR_PRELOAD"
"""Environment variable of a runner: modules, separated by commas, that its spare interpreter imports early."""

TERMINATION_LOG = "/dev/termination-log"
TERMINATION_LIMIT = 4096
"""The kubelet keeps this many bytes of a termination message."""
