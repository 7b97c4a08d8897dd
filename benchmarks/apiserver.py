"""The cluster's side of a benchmark: writes that its API server counted, and a bare pod to compare with."""

from __future__ import annotations

import collections
import re
import secrets
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

_COUNTER = re.compile(r"apiserver_request_total\{(.*)\} (\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_WRITES = {"POST", "PUT", "PATCH", "DELETE", "APPLY"}
_RESPONDER = """import socket
server = socket.create_server(("", 8090))
while True:
    connection, _ = server.accept()
    with connection:
        while connection.recv(65536):
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
"""
_REQUEST = b"GET / HTTP/1.1\r\nHost: pod\r\n\r\n"


def core_api() -> Any:
    """The cluster of KUBECONFIG."""
    from kubernetes import client, config

    config.load_kube_config()
    return client.CoreV1Api()


def count_writes(core: Any) -> collections.Counter[str]:
    """Writes since the API server started, by "VERB resource/subresource"; dry runs write nothing."""
    api = core.api_client
    text = api.call_api(*api.param_serialize("GET", "/metrics", auth_settings=["BearerToken"])).read().decode()
    found: collections.Counter[str] = collections.Counter()
    for labels, count in _COUNTER.findall(text):
        said = dict(_LABEL.findall(labels))
        if said["verb"] in _WRITES and not said["dry_run"]:
            found[f"{said['verb']} {said['resource']}/{said['subresource']}".rstrip("/")] += int(float(count))
    return found


def is_ours(what: str) -> bool:
    """Whether only the service makes such writes: Jobs themselves, and Leases beyond those counted while idle."""
    return what.split()[1] in ("jobs", "leases")


def print_writes(calls: int, during: Mapping[str, int], idle: Mapping[str, float]) -> None:
    """Writes per call, less what as much time without calls has seen; ``idle``: in as long a time."""
    print(f"\nAPI server writes per call over {calls} calls, less those of as long an idle time before")
    per_call = {what: max(0.0, count - idle.get(what, 0.0)) / calls for what, count in during.items()}
    for what, figure in sorted(per_call.items(), key=lambda item: -item[1]):
        if figure >= 0.02:
            print(f"{what:44}  {figure:6.2f}  {'ours' if is_ours(what) else 'control plane, kubelet'}")
    ours = sum(figure for what, figure in per_call.items() if is_ours(what))
    print(f"{'ours':44}  {ours:6.2f}")
    print(f"{'all':44}  {sum(per_call.values()):6.2f}")


class BarePod:
    """A pod that answers every request with two bytes, dialled by its IP. A context manager that deletes it."""

    def __init__(self, core: Any, namespace: str, image: str) -> None:
        self._core, self._namespace, self._image = core, namespace, image
        self._name = f"bare-{secrets.token_hex(3)}"

    def __enter__(self) -> Self:
        self._core.create_namespaced_pod(
            self._namespace, pod_manifest(self._name, self._image, ["python", "-c", _RESPONDER])
        )
        deadline = time.monotonic() + 60
        while not (ip := self._core.read_namespaced_pod(self._name, self._namespace).status.pod_ip):
            if time.monotonic() > deadline:
                raise TimeoutError("the bare pod does not start")
            time.sleep(0.1)
        self._address = (ip, 8090)
        while True:
            with suppress(ConnectionRefusedError):
                self._kept = socket.create_connection(self._address, timeout=5)
                return self
            if time.monotonic() > deadline:
                raise TimeoutError("the bare pod does not listen")
            time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self._kept.close()
        self._core.delete_namespaced_pod(self._name, self._namespace, grace_period_seconds=0)

    def over_kept(self) -> None:
        """One exchange over the connection that is there."""
        self._kept.sendall(_REQUEST)
        self._kept.recv(65536)

    def over_new(self) -> None:
        """One exchange over a connection made for it, as each single-use sandbox needs one."""
        self._kept.close()
        self._kept = socket.create_connection(self._address, timeout=5)
        self.over_kept()


def pod_manifest(name: str, image: str, command: list[str]) -> dict[str, Any]:
    """A pod that Pod Security ``restricted`` admits."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "main", "image": image, "command": command, "securityContext": security}],
        },
    }
