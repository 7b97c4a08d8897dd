"""Pods that are no sandboxes: what an attacker aims at, and who can reach it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support import attack_code
from support.cluster import IMAGE, Namespace

PORT = 8099
SECONDS = 90
_RUN = """
import json, sys
code, function, args = sys.argv[1:]
exec(code)
print(json.dumps(globals()[function](*json.loads(args))))
"""


def serving(space: Namespace, name: str) -> str:
    """A pod that answers HTTP on `PORT`; returns its address."""
    _create(space, name, ["python", "-m", "http.server", str(PORT)], {})
    space.wait(lambda: _pod(space, name).status.phase == "Running", SECONDS)
    address: str = _pod(space, name).status.pod_ip
    return address


def running(space: Namespace, name: str, function: str, *args: Any, labels: Mapping[str, str] | None = None) -> Any:
    """What a function of `attack_code` returns in a pod that runs it, and goes again."""
    code = Path(attack_code.__file__).read_text()
    _create(space, name, ["python", "-c", _RUN, code, function, json.dumps(args)], labels or {})
    try:
        space.wait(lambda: _pod(space, name).status.phase in ("Succeeded", "Failed"), SECONDS)
        said = space.core.read_namespaced_pod_log(name, space.name)
    finally:
        space.core.delete_namespaced_pod(name, space.name, grace_period_seconds=0)
    return json.loads(said.splitlines()[-1])


def _pod(space: Namespace, name: str) -> Any:
    return space.core.read_namespaced_pod(name, space.name)


def _create(space: Namespace, name: str, command: list[str], labels: Mapping[str, str]) -> None:
    guard = {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "securityContext": guard,
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
    }
    spec = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
    space.core.create_namespaced_pod(space.name, {"metadata": {"name": name, "labels": dict(labels)}, "spec": spec})
