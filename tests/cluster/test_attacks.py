"""Attacks from inside a sandbox, with real packets, under the chart's network policies.

Every target answers a pod that is no sandbox, so that what keeps the sandbox out is not the target's silence.
"""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from chart.helm import Object, Values, objects
from kubernetes import client
from support import attack_code, standins
from support.attack_code import REACHED
from support.bystander import PORT, running, serving
from support.cluster import IMAGE, Namespace, namespace
from support.service import Service

from executor_api.backends.kubernetes import names
from executor_runner.protocol import PORT as RUNNER_PORT
from executor_runner.protocol import TOKEN_HASH_ENV

pytestmark = pytest.mark.cluster

KEY = "attackers-do-not-have-this-key"
CODE = Path(attack_code.__file__).read_text()
PAUSE_SECONDS = 3.0
TEMPLATES = """
templates:
  - {name: default, pool: {size: 2}}
  - {name: online}
"""
TARGETS = (
    *("the API server", "the API server at its node", "the kubelet"),
    *("a pod", "a ping to a pod", "the service"),
    *("the cluster's DNS by UDP", "the cluster's DNS by TCP"),
    *("the metadata service", "the internet", "a ping to the internet"),
    *("the internet's DNS by UDP", "the internet's DNS by TCP"),
)

Target = tuple[str, str, int]


@dataclass
class Scene:
    """A service with its sandboxes in ``space``, and others in ``outside``, where the release would be."""

    space: Namespace
    outside: Namespace
    service: Service
    bystander: str
    no_standins: str

    def call(self, function: str, *args: Any, template: str = "default") -> tuple[Any, dict[str, Any]]:
        """What a function of `attack_code` returns in a sandbox, and the execution."""
        request = {"code": CODE, "function": function, "args": list(args), "template": template}
        answer = self.service.execute(request)
        assert answer["status"] == "succeeded", answer
        return answer["value"], answer

    @functools.cached_property
    def targets(self) -> dict[str, Target]:
        """What a sandbox must not reach, as far as this cluster has it."""
        core = self.space.core
        api = core.read_namespaced_service("kubernetes", "default").spec
        (slices,) = (
            client.DiscoveryV1Api()
            .list_namespaced_endpoint_slice("default", label_selector="kubernetes.io/service-name=kubernetes")
            .items
        )
        node = core.list_node().items[0].status
        found: dict[str, Target] = {
            "the API server": ("tcp", api.cluster_ip, 443),
            "the API server at its node": ("tcp", slices.endpoints[0].addresses[0], slices.ports[0].port),
            "the kubelet": ("tcp", _internal_ip(node), node.daemon_endpoints.kubelet_endpoint.port),
            "a pod": ("tcp", self.bystander, PORT),
            "a ping to a pod": ("ping", self.bystander, 0),
            "the service": ("tcp", _address_for(self.bystander), int(self.service.url.rpartition(":")[2])),
            "the cluster's DNS by UDP": ("dns/udp", self._dns, 53),
            "the cluster's DNS by TCP": ("dns/tcp", self._dns, 53),
        }
        return found if self.no_standins else found | _STAND_INS

    @property
    def _dns(self) -> str:
        address: str = self.space.core.read_namespaced_service("kube-dns", "kube-system").spec.cluster_ip
        return address

    @functools.cached_property
    def from_a_sandbox(self) -> dict[str, str]:
        """How it goes for one that waited in the pool, as most do."""
        found: dict[str, str] = self.call("knock", self.targets)[0]
        return found

    @functools.cached_property
    def from_a_pod(self) -> dict[str, str]:
        """How it goes for a pod that is no sandbox."""
        found: dict[str, str] = running(self.outside, "control", "knock", self.targets, PAUSE_SECONDS)
        return found

    def waiting(self) -> dict[str, Any]:
        """Pods of the pool that wait for a call, by name, once both are there."""
        self.space.wait(lambda: self._ready() == 2)
        jobs = [
            job.metadata.name
            for job in self.space.jobs()
            if job.metadata.labels[names.STATE] == "waiting" and not job.metadata.deletion_timestamp
        ]
        pods = [pod for pod in self.space.pods() if pod.metadata.labels[names.JOB_NAME] in jobs]
        return {pod.metadata.name: pod for pod in pods if pod.status.phase == "Running"}

    def _ready(self) -> int:
        (pool,) = (item for item in self.service.client.get("/pool").json()["pools"] if item["template"] == "default")
        ready: int = pool["ready"]
        return ready


_STAND_INS: dict[str, Target] = {
    "the metadata service": ("tcp", standins.METADATA, 80),
    "the internet": ("tcp", standins.INTERNET, 443),
    "a ping to the internet": ("ping", standins.INTERNET, 0),
    "the internet's DNS by UDP": ("dns/udp", standins.INTERNET, 53),
    "the internet's DNS by TCP": ("dns/tcp", standins.INTERNET, 53),
}


def _internal_ip(node: Any) -> str:
    return next(item.address for item in node.addresses if item.type == "InternalIP")


def _address_for(peer: str) -> str:
    """Ours, as a pod would reach it. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.connect((peer, 9))
        address: str = line.getsockname()[0]
        return address


def _policies(space: Namespace, outside: Namespace, bystander: str) -> list[Object]:
    """The chart's: for a release in ``outside``, with a way out to the bystander for one template."""
    egress = {"name": "pod", "templates": ["online"], "cidrs": [f"{bystander}/32"]}
    values: Values = {
        "sandbox": {"namespace": {"name": space.name}},
        "templates": {"default": {}, "online": {}},
        "networkPolicy": {"egress": [egress]},
    }
    return [item for item in objects(values, namespace=outside.name) if item["kind"] == "NetworkPolicy"]


def _service_labels(policies: list[Object]) -> dict[str, str]:
    """Those of the one peer that may connect to runners."""
    (peer,) = (peer for item in policies for rule in item["spec"].get("ingress", ()) for peer in rule.get("from", ()))
    labels: dict[str, str] = peer["podSelector"]["matchLabels"]
    return labels


def _require_enforcement(space: Namespace, bystander: str) -> None:
    """Skip where even the simplest policy holds nobody."""
    network, name = client.NetworkingV1Api(), "deny"
    deny = {"metadata": {"name": name}, "spec": {"podSelector": {}, "policyTypes": ["Egress"]}}
    network.create_namespaced_network_policy(space.name, deny)
    found = running(space, "denied", "knock", {"it": ("tcp", bystander, PORT)}, PAUSE_SECONDS)
    network.delete_namespaced_network_policy(name, space.name)
    if found["it"] == REACHED:
        pytest.skip("this cluster's network does not enforce NetworkPolicy: a denied pod could connect to another")


def _is_kept_from_us(service: Service) -> bool:
    """Whether the service says so of a sandbox. On the node itself it can't tell who else is kept from sandboxes."""
    notes = service.client.get("/readyz").json()["notes"]
    return any("policies are enforced: " in note or "they keep sandboxes from" in note for note in notes)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("attacks")
    (folder / "templates.yaml").write_text(TEMPLATES)
    with namespace() as space, namespace() as outside, contextlib.ExitStack() as stack:
        no_standins = standins.why_not(space.core)
        if not no_standins:
            stack.enter_context(standins.standins())
        bystander = serving(outside, "bystander")
        _require_enforcement(space, bystander)
        for item in _policies(space, outside, bystander):
            client.NetworkingV1Api().create_namespaced_network_policy(item["metadata"]["namespace"], item)
        flags = ("--backend", "kubernetes", "--namespace", space.name, "--image", IMAGE)
        more = ("--host", _address_for(bystander), "--templates", str(folder / "templates.yaml"))
        with Service(folder, *flags, *more, environ={"EXECUTOR_API_KEY": KEY}) as service:
            service.client.headers["Authorization"] = f"Bearer {KEY}"
            space.wait(lambda: _is_kept_from_us(service))
            yield Scene(space, outside, service, bystander, no_standins)


@pytest.mark.parametrize("target", TARGETS)
def test_a_sandbox_reaches_nothing(scene: Scene, target: str) -> None:
    """Whatever answers a pod beside it does not answer a sandbox."""
    if target not in scene.targets:
        pytest.skip(f"{target} has a stand-in only on the cluster's own machine: {scene.no_standins}")
    control = scene.from_a_pod[target]
    if control.startswith("PermissionError"):
        pytest.skip(f"pods of this cluster can't send pings: {control}")
    assert control == REACHED
    assert scene.from_a_sandbox[target] != REACHED


def test_a_sandbox_reaches_no_other_runner(scene: Scene) -> None:
    """Runners that wait answer the service's pods, and neither a sandbox nor any other pod."""
    runners = {name: ("tcp", pod.status.pod_ip, RUNNER_PORT) for name, pod in scene.waiting().items()}
    labels = _service_labels(_policies(scene.space, scene.outside, scene.bystander))
    allowed = running(scene.outside, "service-like", "knock", runners, PAUSE_SECONDS, labels=labels)
    assert set(allowed.values()) == {REACHED}
    assert REACHED not in running(scene.outside, "stranger", "knock", runners, PAUSE_SECONDS).values()
    assert REACHED not in running(scene.space, "neighbour", "knock", runners, PAUSE_SECONDS, labels=labels).values()
    found, answer = scene.call("knock", runners)
    del found[answer["sandbox"]["pod"]]  # itself
    assert found
    assert REACHED not in found.values()


def test_a_stolen_hash_opens_no_runner(scene: Scene) -> None:
    """What the pod's specification shows of the token is refused as one: by another's runner, and by one's own."""
    name, pod = next(iter(scene.waiting().items()))
    (stolen,) = (item.value for item in pod.spec.containers[0].env if item.name == TOKEN_HASH_ENV)
    labels = _service_labels(_policies(scene.space, scene.outside, scene.bystander))
    url = f"http://{pod.status.pod_ip}:{RUNNER_PORT}/v1/call"
    answers = running(scene.outside, "thief", "steal", url, [stolen, ""], PAUSE_SECONDS, labels=labels)
    assert answers == ["401"] * 6, "it was reached, and refused"
    assert scene.space.core.read_namespaced_pod(name, scene.space.name).status.phase == "Running"
    hashes = [
        item.value
        for pod in scene.waiting().values()
        for item in pod.spec.containers[0].env
        if item.name == TOKEN_HASH_ENV
    ]
    own, _ = scene.call("steal", f"http://127.0.0.1:{RUNNER_PORT}/v1/call", hashes)
    assert set(own) == {"401"}


def test_a_way_out_is_its_templates_alone(scene: Scene) -> None:
    """A template with a way out gets there and nowhere else; the others don't get there."""
    found, _ = scene.call("knock", scene.targets, PAUSE_SECONDS, template="online")
    assert {target for target, outcome in found.items() if outcome == REACHED} - {"a ping to a pod"} == {"a pod"}
    assert scene.from_a_sandbox["a pod"] != REACHED


def test_the_service_knows(scene: Scene) -> None:
    """It is ready, and says that it saw the network keep a sandbox from it."""
    assert scene.service.client.get("/readyz").json()["ready"]
    assert _is_kept_from_us(scene.service)


def test_what_there_is_to_find_inside(scene: Scene) -> None:
    """No token, no variable of the service or cluster, nobody else's process, and nothing of the runner's."""
    found, answer = scene.call("look_around")
    assert found["token_files"] == []
    told = [name for name in found["environ"] if name.startswith(("KUBERNETES", "EXECUTOR")) or "SERVICE" in name]
    assert told == []
    assert all("executor_runner" in line or "python" in line for line in found["processes"].values())
    assert len(found["processes"]) <= 4
    assert set(found["runner"].values()) == {"PermissionError"}
    assert found["descriptors"] == "PermissionError"
    assert answer["exit_code"] == 0, "the runner it tried to kill has reported"


def test_what_can_be_written_inside(scene: Scene) -> None:
    """The workspace, memory that is wiped with the sandbox, and the pod's message, whose forgery is seen."""
    found, _ = scene.call("look_around")
    assert set(found["writable"]) <= {"/dev/shm", "/dev/mqueue", "/dev/termination-log"}  # noqa: S108


def test_no_power_is_gained_inside(scene: Scene) -> None:
    """No capability, no way to new ones, and every attempt at what takes one is refused."""
    found, _ = scene.call("look_around")
    status = found["status"]
    assert {name: int(status[name][0], 16) for name in status if name.startswith("Cap")} == dict.fromkeys(
        ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0
    )
    assert (status["NoNewPrivs"], status["Seccomp"], status["Uid"]) == (["1"], ["2"], ["65532"] * 4)
    assert {name: outcome for name, outcome in found["powers"].items() if outcome == "done"} == {}


def test_the_kernel_takes_the_call_before_its_runner(scene: Scene) -> None:
    """When memory is short the call is the first to go, so that somebody is left to tell of it."""
    found, _ = scene.call("look_around")
    assert found["oom_score_adj"] == 1000


def test_every_pod_is_restricted(scene: Scene) -> None:
    """The namespace enforces `restricted`, every pod of ours got in, and a pod that is not would not."""
    labels = scene.space.core.read_namespace(scene.space.name).metadata.labels
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert scene.waiting()
    loose = {"metadata": {"name": "loose"}, "spec": {"containers": [{"name": "main", "image": IMAGE}]}}
    with pytest.raises(client.exceptions.ApiException, match="violates PodSecurity"):
        scene.space.core.create_namespaced_pod(scene.space.name, loose, dry_run="All")
