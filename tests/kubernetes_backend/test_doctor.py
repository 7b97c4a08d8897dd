"""`executor-api doctor` for a cluster: each thing that is missing is a line with its fix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from executor_api.backends.kubernetes import network_policy, quota
from executor_api.backends.kubernetes.doctor import examine, skew
from executor_api.backends.kubernetes.settings import DispatchMode, KubernetesSettings
from executor_api.domain.finding import Finding, Verdict
from executor_api.domain.template import Template
from kubernetes_backend.fake_apiserver import NAMESPACE, FakeApiServer, status
from kubernetes_backend.fake_objects import Object
from kubernetes_backend.world import MASTER_KEY, World

DEFAULT = Template(name="default")
DENY_ALL = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


async def _examined(
    world: World,
    *templates: Template,
    dispatch: DispatchMode = DispatchMode.AUTO,
    namespace: str = NAMESPACE,
    require_network_policy: bool = False,
    owner_lease: str = "",
) -> list[Finding]:
    settings = KubernetesSettings(
        master_key=MASTER_KEY,
        namespace=namespace,
        image="sandbox:1",
        kubeconfig=str(world.kubeconfig()),
        dispatch=dispatch,
        require_network_policy=require_network_policy,
        owner_lease=owner_lease,
    )
    found: list[Finding] = []
    await examine(settings, {}, templates or (DEFAULT,), found.append)
    return found


def _of(findings: list[Finding], check: str) -> list[tuple[str, str]]:
    return [(item.verdict, item.text) for item in findings if item.check == check]


def _bad(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(item.check, item.text) for item in findings if item.verdict is not Verdict.OK]


@pytest.fixture
async def sound(world: World) -> World:
    """A cluster in which nothing is missing."""
    await world.api.surroundings.put("namespaces", NAMESPACE)
    await world.api.surroundings.put("networkpolicies", "deny", spec=DENY_ALL)
    return world


async def test_sound_cluster(sound: World) -> None:
    """Everything is ok, in its order, and the sandbox that was tried is gone."""
    found = await _examined(sound)
    assert _bad(found) == []
    assert [item.check for item in found] == [
        "credentials",
        "API server",
        "clock",
        "namespace",
        "RBAC",
        "template default",
        "quota",
        "network ingress",
        "network egress",
        "image",
        "reachability",
        "network enforcement",
    ]
    assert "v1.2.3" in found[1].text
    assert len(sound.runners) == 1
    assert sound.api.objects.all("jobs") == []


async def test_each_missing_verb_is_a_line(sound: World) -> None:
    """Verbs are named one by one; a sandbox is only tried if it can be removed again."""
    sound.api.denied = {"delete jobs", "list events", "get pods/log"}
    found = await _examined(sound)
    lines = _of(found, "RBAC")
    assert [verdict for verdict, _ in lines] == ["fail"] * 3
    for (_, text), verb in zip(lines, ["delete jobs.batch", "get pods/log", "list events"], strict=True):
        assert f"may not {verb} in namespace sandboxes; add it to its Role there" in text
    assert _of(found, "sandbox")[0][0] == "warn"
    assert sound.runners == {}


async def test_rights_that_some_can_do_without(sound: World) -> None:
    """Leases are for replicas, so missing them is a warning; pods/proxy is asked for only where it is the way."""
    sound.api.denied = {"update leases", "create pods/proxy"}
    assert [verdict for verdict, _ in _of(await _examined(sound), "RBAC")] == ["warn"]
    found = _of(await _examined(sound, dispatch=DispatchMode.PROXY), "RBAC")
    assert {(verdict, "proxy" in text) for verdict, text in found} == {("warn", False), ("fail", True)}


async def test_owner(sound: World) -> None:
    """Where a Lease is to own all, it fails if that is not there or may not be read: the service makes nothing then."""
    ((verdict, text),) = _of(await _examined(sound, owner_lease="release"), "owner")
    assert (verdict, "there is no Lease release in namespace sandboxes" in text) == ("fail", True)
    await sound.api.objects.put("leases", {"metadata": {"name": "release", "uid": "u-1"}, "spec": {}})
    found = await _examined(sound, owner_lease="release")
    assert (_bad(found), _of(found, "owner")[0][0]) == ([], "ok")
    sound.api.leases.denied = {"get"}
    ((verdict, text),) = _of(await _examined(sound, owner_lease="release"), "owner")
    assert (verdict, "add that to its Role there" in text) == ("fail", True)


async def test_namespace(world: World) -> None:
    """A namespace that is missing or going ends the examination, with or without the right to look at it."""
    namespace = {"check": "namespace", "verdict": Verdict.FAIL}
    world.api.namespace_exists = False
    missing = Finding(
        **namespace, text="namespace sandboxes does not exist; create it, or name another with --namespace"
    )
    assert (await _examined(world))[-1] == missing
    world.api.surroundings.denied = {"namespaces"}
    assert (await _examined(world))[-1] == missing
    world.api.surroundings.denied = set()
    await world.api.surroundings.put("namespaces", NAMESPACE, status={"phase": "Terminating"})
    assert "is being deleted" in (await _examined(world))[-1].text


async def test_minimal_role(sound: World) -> None:
    """What a Role need not allow is a warning that says so; all else is examined."""
    sound.api.surroundings.denied = {"namespaces", "resourcequotas", "networkpolicies", "runtimeclasses"}
    found = await _examined(sound, DEFAULT, Template(name="strong", runtime_class="gvisor"))
    assert {check for check, _ in _bad(found)} == {"quota", "network", "runtime class gvisor"}
    assert all(item.verdict is not Verdict.FAIL for item in found)
    assert _of(found, "image")[0][0] == "ok"


@pytest.mark.parametrize(
    ("ahead", "verdict", "part"),
    [(-10, "warn", "ahead of"), (100, "fail", "behind")],
)
async def test_clock(sound: World, ahead: float, verdict: str, part: str) -> None:
    """A difference is told from our side, and is worse the larger it is."""
    sound.api.surroundings.seconds_ahead = ahead
    ((found, text),) = _of(await _examined(sound), "clock")
    assert (found, part in text, "NTP" in text) == (verdict, True, True)


@pytest.mark.parametrize(
    ("began", "ended", "seconds"), [(100.2, 100.4, 0), (99.5, 100.5, 0), (100.5, 101.5, 0), (98, 99, -1), (104, 105, 3)]
)
def test_skew(began: float, ended: float, seconds: float) -> None:
    """Only what a stamp of whole seconds, given somewhere in between, leaves no doubt of."""
    assert skew(100, began, ended) == seconds


@pytest.mark.parametrize(
    ("template", "part"),
    [
        ({"runtime_class": "gvisor"}, "there is no runtime class gvisor"),
        ({"priority_class": "urgent"}, "there is no priority class urgent"),
        ({"service_account": "somebody"}, "there is no service account somebody"),
        ({"job_template": "/nowhere/job.yaml.j2"}, "/nowhere/job.yaml.j2"),
    ],
)
async def test_template_names_what_is_not_there(sound: World, template: dict[str, Any], part: str) -> None:
    """What a pod would be refused for is found without one; other templates are examined all the same."""
    found = await _examined(sound, DEFAULT, Template(name="odd", **template))
    assert [check for check, _ in _bad(found)] == ["template odd"]
    assert part in _of(found, "template odd")[0][1]
    assert _of(found, "image")[0][0] == "ok"


async def test_refused_job(sound: World) -> None:
    """The API server's own words, and who has to change something."""
    sound.api.fail("POST", "dryRun=All", lambda: status(422, "Invalid", "spec.x: Invalid value"))
    ((verdict, text),) = _of(await _examined(sound), "template default")
    assert (verdict, text) == (
        "fail",
        "the API server refuses its Job (spec.x: Invalid value); correct the template",
    )


async def test_one_sandbox_an_image(sound: World) -> None:
    """Templates of the same image are tried once; an image that can't be pulled is named with the fix."""

    async def play(api: FakeApiServer, job: Object) -> None:
        image = job["spec"]["template"]["spec"]["containers"][0]["image"]
        await (sound.play_missing_image if image == "gone:1" else sound.play)(api, job)

    sound.api.script = play
    templates = (DEFAULT, Template(name="same"), Template(name="b", image="gone:1"), Template(name="c", image="gone:1"))
    found = _of(await _examined(sound, *templates), "image")
    assert [verdict for verdict, _ in found] == ["ok", "fail"]
    assert "image gone:1 can't be pulled (ErrImagePull: manifest unknown); push it" in found[1][1]
    assert sound.api.objects.all("jobs") == []


async def test_one_sandbox_a_kind(sound: World) -> None:
    """A template with another runtime, or a user namespace, is tried apart: a node may have neither."""
    await sound.api.surroundings.put("runtimeclasses", "gvisor")
    templates = (DEFAULT, Template(name="b", runtime_class="gvisor"), Template(name="c", host_users=False))
    found = [text.partition(" started")[0] for _, text in _of(await _examined(sound, *templates), "image")]
    assert found == [
        "a sandbox of sandbox:1",
        "a sandbox of sandbox:1 with runtime class gvisor",
        "a sandbox of sandbox:1 in a user namespace",
    ]


async def test_policy_that_refuses_pods(sound: World) -> None:
    """Admission that only pods meet shows by trying."""

    async def play(api: FakeApiServer, job: Object) -> None:
        message = "Error creating: pods is forbidden: violates PodSecurity"
        await api.event("Job", job["metadata"]["name"], "FailedCreate", message)

    sound.api.script = play
    ((verdict, text),) = _of(await _examined(sound), "image")
    assert (verdict, "violates PodSecurity" in text) == ("fail", True)
    assert text.endswith("; change the cluster's policy, or the template")


async def test_ways_to_a_runner(sound: World) -> None:
    """Where pod IPs lead elsewhere the proxy is used, unless it must not be; where nothing does, both are told."""
    sound.pod_ip = await sound.stranger()
    assert _of(await _examined(sound), "reachability")[0][1].startswith(
        "the API server's proxy leads to runners and is"
    )
    sound.api.denied = {"create pods/proxy"}
    assert [verdict for verdict, _ in _of(await _examined(sound), "RBAC")] == ["ok", "fail"], "it takes rights, then"
    sound.api.denied = set()
    ((verdict, text),) = _of(await _examined(sound, dispatch=DispatchMode.POD_IP), "reachability")
    assert (verdict, "use --dispatch auto" in text) == ("fail", True)
    sound.api.fail("GET", "/proxy/", lambda: status(403, "Forbidden", "cannot get pods/proxy"), times=99)
    found = await _examined(sound)
    assert [check for check, _ in _bad(found)] == ["image", "reachability"]
    assert "cannot get pods/proxy" in _of(found, "reachability")[0][1]


@pytest.mark.parametrize(
    ("spoil", "check", "part"),
    [
        (lambda world: setattr(world.api, "token", "other"), "API server", "does not accept the credentials"),
        (lambda world: world.api.fail("GET", "/version", lambda: status(500, "", "")), "API server", "does not serve"),
    ],
    ids=["credentials", "broken"],
)
async def test_api_server_that_does_not_serve(
    world: World, spoil: Callable[[World], None], check: str, part: str
) -> None:
    """Nothing further is examined."""
    world.kubeconfig()
    settings = KubernetesSettings(master_key=MASTER_KEY, kubeconfig=str(world.kubeconfig()))
    spoil(world)
    found: list[Finding] = []
    await examine(settings, {}, (DEFAULT,), found.append)
    assert (found[-1].check, found[-1].verdict, part in found[-1].text) == (check, Verdict.FAIL, True)


async def test_no_credentials(world: World) -> None:
    """A kubeconfig that is not there is the first and last finding."""
    world.kubeconfig().unlink()
    found: list[Finding] = []
    settings = KubernetesSettings(master_key=MASTER_KEY, kubeconfig=str(world._tmp_path / "kubeconfig"))
    await examine(settings, {}, (DEFAULT,), found.append)
    assert [(item.check, item.verdict) for item in found] == [("credentials", Verdict.FAIL)]


def _quota(hard: dict[str, str], used: dict[str, str], **spec: Any) -> Object:
    return {"metadata": {"name": "q"}, "spec": {"hard": hard, **spec}, "status": {"hard": hard, "used": used}}


POD = {"containers": [{"resources": {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": "1"}}}]}


@pytest.mark.parametrize(
    ("hard", "used", "verdict", "part"),
    [
        ({"pods": "12"}, {"pods": "1"}, "ok", "q"),
        ({"pods": "11"}, {"pods": "1"}, "warn", "11 of pods where 1 of 11 is in use, for every pool"),
        ({"pods": "1"}, {"pods": "1"}, "fail", "1 of pods where 1 of 1 is in use, for a sandbox of template 'a'"),
        ({"requests.cpu": "1"}, {"requests.cpu": "200m"}, "warn", "1100m of requests.cpu where 200m of 1"),
        ({"memory": "11Gi"}, {}, "ok", "q"),
        ({"memory": "10Gi"}, {}, "warn", "11264Mi of memory where 0 of 10Gi"),
        ({"limits.cpu": "500m"}, {}, "fail", "1 of limits.cpu"),
        ({"services": "0"}, {"services": "0"}, "ok", "q"),
    ],
)
def test_quota_room(hard: dict[str, str], used: dict[str, str], verdict: str, part: str) -> None:
    """For a pool of ten: no room for one fails, no room for all and one more warns."""
    (found,) = quota.judge([_quota(hard, used)], [quota.Wanted("a", quota.demand(POD), 10)])
    assert (found.verdict, part in found.text) == (verdict, True), found.text


def test_quota_of_other_pods() -> None:
    """One for pods without requests, or for a priority class, says nothing of sandboxes."""
    for spec in (
        {"scopes": ["BestEffort"]},
        {"scopes": ["NotTerminating"]},
        {"scopeSelector": {"matchExpressions": []}},
    ):
        (found,) = quota.judge([_quota({"pods": "0"}, {}, **spec)], [quota.Wanted("a", quota.demand(POD), 0)])
        assert found.verdict is Verdict.OK


async def test_quota_of_the_cluster(sound: World) -> None:
    """The pool of each template counts."""
    hard = {"pods": "3"}
    await sound.api.surroundings.put("resourcequotas", "q", spec={"hard": hard}, status={"hard": hard, "used": {}})
    pooled = Template.model_validate({"name": "default", "pool": {"size": 3}})
    assert _of(await _examined(sound, DEFAULT), "quota")[0][0] == "ok"
    ((verdict, text),) = _of(await _examined(sound, pooled), "quota")
    assert (verdict, "lacks 4 of pods where 0 of 3 is in use" in text) == ("warn", True)


SANDBOX = {"app": "sandbox", "template": "a"}


def _policy(name: str, spec: Object) -> Object:
    return {"metadata": {"name": name}, "spec": spec}


@pytest.mark.parametrize(
    ("spec", "guarded"),
    [
        ({"podSelector": {}}, "Ingress"),
        ({"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}, "Ingress Egress"),
        ({"podSelector": {}, "egress": [{}]}, "Ingress"),
        ({"podSelector": {}, "ingress": [{}]}, ""),
        ({"podSelector": {}, "ingress": [{"ports": [{"port": 8090}]}, {"from": []}]}, ""),
        ({"podSelector": {}, "policyTypes": ["Egress"]}, "Egress"),
        ({"podSelector": {"matchLabels": {"app": "other"}}}, ""),
        ({"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["sandbox"]}]}}, "Ingress"),
        ({"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["sandbox"]}]}}, ""),
        ({"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}, "Ingress"),
        ({"podSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}}, ""),
        ({"podSelector": {"matchLabels": {"template": "a"}}}, ""),
    ],
)
def test_network_policies(spec: Object, guarded: str) -> None:
    """A direction is guarded if policies for it select the sandboxes of every template, and none allows everything."""
    found = network_policy.judge([_policy("p", spec)], [SANDBOX, SANDBOX | {"template": "b"}], "n")
    assert [item.verdict for item in found] == [
        Verdict.OK if direction in guarded.split() else Verdict.WARN for direction in ("Ingress", "Egress")
    ]


def test_a_policy_that_undoes_another() -> None:
    """Beside a default-deny policy, one that lets everything through is named, if it selects any sandbox."""
    deny = _policy("deny", DENY_ALL)
    for template, verdict in (("b", Verdict.WARN), ("c", Verdict.OK)):
        spec = {"podSelector": {"matchLabels": {"template": template}}, "policyTypes": ["Egress"], "egress": [{}]}
        ingress, egress = network_policy.judge(
            [deny, _policy("open", spec)], [SANDBOX, SANDBOX | {"template": "b"}], "n"
        )
        assert (ingress.verdict, egress.verdict) == (Verdict.OK, verdict)
        assert ("NetworkPolicy open allows sandboxes all egress" in egress.text) == (verdict is Verdict.WARN)


async def test_network_of_the_cluster(sound: World) -> None:
    """Without a policy, what that means and what to add."""
    await sound.api.objects.remove("networkpolicies", "deny")
    found = _bad(await _examined(sound))
    assert [check for check, _ in found] == ["network ingress", "network egress"]
    assert all("add a default-deny policy to namespace sandboxes" in text for _, text in found)


@pytest.mark.parametrize(("required", "verdict"), [(False, "warn"), (True, "fail")])
async def test_network_that_enforces_nothing(sound: World, *, required: bool, verdict: str) -> None:
    """A sandbox that can connect to us shows it, whatever policies there are: a failure where that is required."""
    sound.walled = False
    ((found, text),) = _of(await _examined(sound, require_network_policy=required), "network enforcement")
    assert (found, "one could connect to this service (127.0.0.1:" in text) == (verdict, True), text


async def test_network_that_can_not_be_tried(sound: World) -> None:
    """Where pod IPs lead elsewhere, nothing is said of the network but how to find out."""
    sound.pod_ip = await sound.stranger()
    ((found, text),) = _of(await _examined(sound), "network enforcement")
    assert (found, "can't be told" in text, "run `executor-api doctor` in the cluster" in text) == ("warn", True, True)
