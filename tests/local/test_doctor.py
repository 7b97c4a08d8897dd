"""`executor-api doctor` for this machine: what isolation sandboxes get, and how to get more."""

from __future__ import annotations

import os
from pathlib import Path

from executor_api.backends.local.doctor import examine, isolation
from executor_api.domain.finding import Finding, Verdict
from executor_api.domain.template import Template

WEAK = "sandboxes get process groups and a subreaper"


def test_full_isolation_is_ok(tmp_path: Path) -> None:
    """Namespaces down to the network are all there is to get."""
    got = "sandboxes get PID, mount, IPC and network namespaces"
    assert isolation(got, tmp_path, root=True) == Finding("isolation", Verdict.OK, got)


def test_weak_isolation_is_a_warning(tmp_path: Path) -> None:
    """What sandboxes do get is said, and a way to more."""
    found = isolation(WEAK, tmp_path, root=True)
    assert found.verdict is Verdict.WARN
    assert found.text.startswith(WEAK)
    assert found.text.endswith("or use the Kubernetes backend")


def test_the_switch_that_forbids_namespaces_is_named(tmp_path: Path) -> None:
    """Of several, each that is set the wrong way."""
    for path, value in (("user/max_user_namespaces", "0"), ("kernel/apparmor_restrict_unprivileged_userns", "1")):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(value + "\n")
    text = isolation(WEAK, tmp_path, root=False).text
    assert "set user.max_user_namespaces above 0 and set kernel.apparmor_restrict_unprivileged_userns=0" in text


async def test_more_than_this_machine_has_is_a_warning() -> None:
    """A template whose calls may write more than there is room for, or open more files than the service may."""
    amount = {"cpu": "1", "memory": "1Gi", "ephemeral_storage": "1Ei"}
    greedy = Template.model_validate(
        {"name": "default", "resources": amount, "max_resources": amount, "open_files": 1_048_576}
    )
    found: list[Finding] = []
    await examine(os.environ, {"default": greedy}, found.append)
    verdicts = {item.check: item.verdict for item in found}
    assert verdicts["disk"] is Verdict.WARN
    assert verdicts["call"] is Verdict.OK
