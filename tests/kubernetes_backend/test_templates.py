"""Operators' Job templates, from the file to the Jobs, at start and on reload."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.service import Service

from executor_api.backends.kubernetes.job_template import built_in_source
from executor_api.domain.template import Template
from executor_api.errors import ConfigurationError
from kubernetes_backend.fake_apiserver import NAMESPACE
from kubernetes_backend.world import World, ready, until


def _write(folder: Path, name: str, source: str, **template: Any) -> dict[str, Template]:
    path = folder / "job.yaml.j2"
    path.write_text(source)
    return {name: Template(name=name, job_template=str(path), **template)}


def _noted(text: str) -> str:
    return built_in_source().replace("annotations: {}", f"annotations: {{note: {text}}}")


def _notes(world: World) -> set[str]:
    return {job["metadata"]["annotations"].get("note", "") for job in world.api.objects.all("jobs")}


async def test_edited_job_template_is_read_again(world: World, tmp_path: Path) -> None:
    """A Job template is read anew when templates are put in force, though their own text is the same."""
    backend = await world.started()
    templates = _write(tmp_path, "default", _noted("old"))
    backend.use_templates(templates)
    await ready(backend, "x-1", job_template=templates["default"].job_template)
    backend.use_templates(_write(tmp_path, "default", _noted("new")))
    await ready(backend, "x-2", job_template=templates["default"].job_template)
    assert {"old", "new"} <= _notes(world)


async def test_refused_job_template_changes_nothing(world: World, tmp_path: Path) -> None:
    """A Job template that can't be used is refused with a sentence, and what was in force stays."""
    backend = await world.started()
    templates = _write(tmp_path, "default", _noted("old"))
    backend.use_templates(templates)
    with pytest.raises(ConfigurationError, match="restartPolicy must be Never"):
        backend.use_templates(_write(tmp_path, "default", _noted("new").replace("Never", "OnFailure")))
    await ready(backend, "x-1", job_template=templates["default"].job_template)
    assert "new" not in _notes(world)


async def test_rehearsal_uses_the_operators_default(world: World, tmp_path: Path) -> None:
    """What is tried at start is the operator's own default template: another could fail where that one works."""
    world.running = False
    backend = world.backend()
    backend.use_templates(_write(tmp_path, "default", _noted("mine"), image="mine:1"))
    await backend.start()
    await until(lambda: world.api.objects.all("jobs"))
    assert _notes(world) == {"mine"}
    jobs = world.api.objects.all("jobs")
    assert {job["spec"]["template"]["spec"]["containers"][0]["image"] for job in jobs} == {"mine:1"}


@pytest.fixture
def flags(world: World, tmp_path: Path) -> tuple[str, ...]:
    templates = tmp_path / "templates.yaml"
    templates.write_text("templates: [{name: special, job_template: job.yaml.j2}]")
    _write(tmp_path, "special", built_in_source())
    return (
        *("--backend", "kubernetes", "--kubeconfig", str(world.kubeconfig()), "--namespace", NAMESPACE),
        *("--image", "sandbox:1", "--templates", str(templates)),
    )


async def test_service_reloads_job_templates(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """SIGHUP checks Job templates too, and the backend's metrics are among the service's."""

    def visit() -> str:
        with Service(tmp_path / "data", *flags) as service:
            _write(tmp_path, "special", "kind: Job")
            service.process.send_signal(signal.SIGHUP)
            service.wait_log("templates not reloaded")
            service.wait_log("job.yaml.j2 can't be used")
            _write(tmp_path, "special", built_in_source())
            service.process.send_signal(signal.SIGHUP)
            service.wait_log("templates reloaded")
            return service.client.get("/metrics").text

    metrics = await asyncio.to_thread(visit)
    assert 'executor_kube_api_requests_total{code="200",resource="pods",verb="watch"} 1.0' in metrics
    assert 'executor_informer_objects{resource="pods"}' in metrics


def test_service_with_a_bad_job_template_does_not_start(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """A Job template that could run a call twice is named at start."""
    _write(tmp_path, "special", built_in_source().replace("Never", "OnFailure"))
    command = [sys.executable, "-m", "executor_api", "serve", "--port", "0", "--data-dir", str(tmp_path / "d"), *flags]
    ended = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert "restartPolicy must be Never, or a call could run twice" in ended.stderr
    assert "Traceback" not in ended.stderr
