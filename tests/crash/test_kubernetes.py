"""The service, its connections and its API server fail in the middle of calls on a cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes import config
from support.cluster import IMAGE, Namespace, namespace
from support.service import Service
from support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.cluster

SLOW = {"command": "echo before; sleep 12; echo after; exit 3", "timeout_seconds": 60}
NONCE = {"code": "import secrets; print('nonce', secrets.token_hex(8))\nimport time; time.sleep(12)\nprint('after')"}


@pytest.fixture(scope="module")
def space() -> Iterator[Namespace]:
    with namespace() as found:
        yield found


def _flags(space: Namespace, *more: str) -> tuple[str, ...]:
    return ("--backend", "kubernetes", "--namespace", space.name, "--image", IMAGE, *more)


def _assert_ended_well(answer: dict[str, Any]) -> None:
    ended = (answer["status"], answer["reason"], answer["exit_code"], answer["stdout"])
    assert ended == ("failed", "exit_code", 3, "before\nafter\n"), answer


def test_killed_service_takes_up_its_calls(space: Namespace, tmp_path: Path) -> None:
    """After SIGKILL of the service every accepted call settles with its real result, and none runs twice."""
    flags = _flags(space, "--max-concurrency", "4")
    with Service(tmp_path, *flags) as service:
        slow = [service.submit(SLOW) for _ in range(2)]
        nonces = [service.submit(NONCE) for _ in range(2)]
        queued = service.submit({"code": "print('late')"})
        for execution_id in (*slow, *nonces):
            service.wait(execution_id, "running")
        service.wait_stored(nonces[0], "nonce")
        before = service.get(nonces[0])["stdout"]
        service.kill()
    with Service(tmp_path, *flags) as service:
        for execution_id in slow:
            _assert_ended_well(service.wait(execution_id))
        for execution_id in nonces:
            answer = service.wait(execution_id)
            assert answer["status"] == "succeeded"
            assert answer["stdout"].count("nonce") == 1
        assert service.get(nonces[0])["stdout"] == before + "after\n"
        assert service.wait(queued)["stdout"] == "late\n"
        space.wait_empty()


def test_calls_that_ended_while_the_service_was_away(space: Namespace, tmp_path: Path) -> None:
    """A call that ends while no service runs is settled from what its pod left, with all its output."""
    flags = _flags(space)
    with Service(tmp_path, *flags) as service:
        slow = service.submit(SLOW)
        service.wait(slow, "running")
        pod = service.get(slow)["sandbox"]["pod"]
        service.kill()
    deadline = time.monotonic() + 120
    while space.core.read_namespaced_pod(pod, space.name).status.phase not in ("Succeeded", "Failed"):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    with Service(tmp_path, *flags) as service:
        _assert_ended_well(service.wait(slow))
        space.wait_empty()


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[tuple[TcpProxy, str]]:
    """A kubeconfig whose API server is reached through a proxy that can be cut."""
    loaded = yaml.safe_load(_kubeconfig().read_text())
    cluster = loaded["clusters"][0]["cluster"]
    server = urlsplit(cluster["server"])
    with TcpProxy(server.hostname or "", server.port or 443) as proxy:
        cluster["tls-server-name"] = server.hostname
        cluster["server"] = f"https://127.0.0.1:{proxy.port}"
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(loaded))
        yield proxy, str(path)


def _kubeconfig() -> Path:
    return Path(config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION.partition(":")[0])


@pytest.mark.parametrize("dispatch", ["pod-ip", "proxy"])
def test_api_server_away_for_20_seconds(
    space: Namespace, tmp_path: Path, proxied: tuple[TcpProxy, str], dispatch: str
) -> None:
    """An API server that is gone for 20 s in the middle of calls costs no result and runs none twice."""
    proxy, kubeconfig = proxied
    flags = _flags(space, "--kubeconfig", kubeconfig, "--dispatch", dispatch)
    with Service(tmp_path / "data", *flags) as service:
        slow = [service.submit(SLOW) for _ in range(2)]
        for execution_id in slow:
            service.wait_output(execution_id, "before")
        proxy.cut(refuse=True)
        time.sleep(20)
        proxy.restore()
        for execution_id in slow:
            _assert_ended_well(service.wait(execution_id))
        service.wait_ready()
        assert service.execute({"code": "print(1)"})["stdout"] == "1\n"
        space.wait_empty()


def test_cut_connections_are_taken_up_again(space: Namespace, tmp_path: Path, proxied: tuple[TcpProxy, str]) -> None:
    """Connections to the runner that break again and again lose no byte and repeat none."""
    proxy, kubeconfig = proxied
    flags = _flags(space, "--kubeconfig", kubeconfig, "--dispatch", "proxy")
    count = "for n in range(400):\n    print(n)\n    time.sleep(0.01)"
    with Service(tmp_path / "data", *flags) as service:
        execution_id = service.submit({"code": f"import time\n{count}", "timeout_seconds": 60})
        service.wait_output(execution_id, "10\n")
        for _ in range(4):
            proxy.cut()
            time.sleep(0.7)
        answer = service.wait(execution_id)
        assert answer["status"] == "succeeded"
        assert answer["stdout"] == "".join(f"{n}\n" for n in range(400))
