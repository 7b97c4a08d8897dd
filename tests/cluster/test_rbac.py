"""What the service account may do: exactly what the chart's Role lists, and each verb of it is missed by name."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.helm import Values, objects
from kubernetes import client, config
from support.cluster import IMAGE, Namespace, kubeconfig, namespace

from executor_api.backends.kubernetes.checks import ALWAYS, POOL, PROXY, Right
from executor_api.backends.kubernetes.doctor import examine
from executor_api.backends.kubernetes.settings import DispatchMode, KubernetesSettings
from executor_api.domain.finding import Finding

pytestmark = pytest.mark.cluster

EXPECTED = Path(__file__).with_name("rights.txt")
"""A line for each resource with the verbs on it, as ``kubectl auth can-i --list`` shows them."""
NAME, NOBODY = "service", "nobody"
PROXIED: Values = {"dispatch": "proxy", "networkPolicy": {"enabled": False}}

Rules = list[dict[str, Any]]


def chart_role(values: Values) -> Rules:
    """The rules of the Role that the chart gives the service."""
    (role,) = (item for item in objects(values) if item["kind"] == "Role")
    rules: Rules = role["rules"]
    return rules


class Account:
    """A service account with a Role that can be changed, and another without any."""

    def __init__(self, space: Namespace, folder: Path) -> None:
        self.space = space
        self._rbac = client.RbacAuthorizationV1Api()
        for name in (NAME, NOBODY):
            space.core.create_namespaced_service_account(space.name, {"metadata": {"name": name}})
        self._rbac.create_namespaced_role(space.name, {"metadata": {"name": NAME}, "rules": []})
        subject = {"kind": "ServiceAccount", "name": NAME, "namespace": space.name}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME}
        binding = {"metadata": {"name": NAME}, "subjects": [subject], "roleRef": role}
        self._rbac.create_namespaced_role_binding(space.name, binding)
        self.kubeconfig = self._kubeconfig(NAME, folder)
        self._nobodys = self._kubeconfig(NOBODY, folder)

    def use(self, rules: Rules) -> None:
        """Let the Role say this, and wait until the API server goes by it."""
        self._rbac.replace_namespaced_role(NAME, self.space.name, {"metadata": {"name": NAME}, "rules": rules})
        wanted = _lines(rules)
        deadline = time.monotonic() + 60
        while self.rights(self.space.name) != wanted:
            assert time.monotonic() < deadline, f"{self.rights(self.space.name)} instead of {wanted}"
            time.sleep(0.05)

    def rights(self, space: str) -> list[str]:
        """What it may do in a namespace beyond what every service account may."""
        everybodys = _rules(self._nobodys, space)
        return _lines(rule for rule in _rules(self.kubeconfig, space) if rule not in everybodys)

    def _kubeconfig(self, name: str, folder: Path) -> str:
        asked = self.space.core.create_namespaced_service_account_token(name, self.space.name, {"spec": {}})
        path = folder / name
        path.write_text(yaml.safe_dump(kubeconfig(asked.status.token)))
        return str(path)


def _rules(path: str, space: str) -> Rules:
    """What a SelfSubjectRulesReview says, on which ``auth can-i --list`` is built."""
    with config.new_client_from_config(path) as api:
        review = client.AuthorizationV1Api(api).create_self_subject_rules_review({"spec": {"namespace": space}})
        rules = [rule.to_dict() for rule in review.status.resource_rules]
    return [
        {
            "apiGroups": rule["api_groups"],
            "resources": rule["resources"],
            "verbs": rule["verbs"],
            "resourceNames": rule["resource_names"],
        }
        for rule in rules
    ]


def _lines(rules: Iterable[dict[str, Any]]) -> list[str]:
    """One for each resource that some verb is on."""
    verbs: dict[str, set[str]] = {}
    for rule in rules:
        assert not rule.get("resourceNames"), rule
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                whole = f"{resource}.{group}" if group else resource
                verbs.setdefault(whole, set()).update(rule["verbs"])
    return sorted(f"{resource}: {' '.join(sorted(found))}" for resource, found in verbs.items() if found)


def _without(rules: Rules, right: Right) -> Rules:
    resource = f"{right.resource}/{right.subresource}" if right.subresource else right.resource
    less = [
        {**rule, "verbs": [verb for verb in rule["verbs"] if resource not in rule["resources"] or verb != right.verb]}
        for rule in rules
    ]
    return [rule for rule in less if rule["verbs"]]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with namespace() as space:
        yield Account(space, tmp_path_factory.mktemp("accounts"))


async def _examined(account: Account, dispatch: DispatchMode) -> list[Finding]:
    settings = KubernetesSettings(
        master_key=b"k" * 32,
        namespace=account.space.name,
        image=IMAGE,
        kubeconfig=account.kubeconfig,
        dispatch=dispatch,
    )
    found: list[Finding] = []
    await examine(settings, {}, (), found.append)  # without a template no sandbox is tried
    return found


def test_the_service_account_can_do_exactly_this(account: Account) -> None:
    """With the chart's Role it can do what the file says in the sandboxes' namespace, and elsewhere nothing."""
    account.use(chart_role({}))
    assert account.rights(account.space.name) == sorted(EXPECTED.read_text().splitlines())
    assert account.rights("default") == account.rights("kube-system") == []


def test_the_way_through_the_api_server_takes_one_resource_more(account: Account) -> None:
    """``dispatch: proxy`` adds the verbs on pods/proxy, and nothing else."""
    account.use(chart_role(PROXIED))
    more = set(account.rights(account.space.name)) - set(EXPECTED.read_text().splitlines())
    assert more == {"pods/proxy: create delete get"}


@pytest.mark.parametrize("right", [*ALWAYS, *POOL, *PROXY], ids=str)
async def test_each_verb_is_missed_by_name(account: Account, right: Right) -> None:
    """Without one verb, `executor-api doctor` says which it is and where to add it, and complains of no other."""
    values = PROXIED if right in PROXY else {}
    account.use(_without(chart_role(values), right))
    found = await _examined(account, DispatchMode.PROXY if right in PROXY else DispatchMode.AUTO)
    lines = [(item.verdict, item.text) for item in found if item.check == "RBAC"]
    sentence = f"the service may not {right} in namespace {account.space.name}"
    assert len(lines) == 1, lines
    assert lines[0][0] == ("warn" if right in POOL else "fail")
    assert lines[0][1].startswith(sentence)
    assert lines[0][1].endswith("add it to its Role there")
