"""The monitor for the nodes of a cluster."""

from __future__ import annotations

from pathlib import Path

import yaml
from kubernetes_validate import validate

from executor_api import __version__

MANIFEST = Path(__file__).parents[2] / "manifests/monitor.yaml"


def test_the_manifest_is_valid_and_of_this_version() -> None:
    """Kubernetes takes every field of it, and it runs the image that this version is built into."""
    found = yaml.safe_load(MANIFEST.read_text())
    validate(found, "1.37", strict=True)
    [container] = found["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"executor-api:{__version__}"
