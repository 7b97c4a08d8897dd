"""The sandbox image, and one made from it, in real sandboxes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import yaml
from support.cluster import IMAGE, Namespace, namespace
from support.service import Service

pytestmark = pytest.mark.cluster

NUMPY_IMAGE = os.environ.get("EXECUTOR_TEST_NUMPY_IMAGE", "")
WRITABLE = "find / -xdev -writable ! -type l ! -path /sandbox ! -path '/sandbox/*' 2>/dev/null; true"


@pytest.fixture(scope="module")
def space() -> Iterator[Namespace]:
    if not NUMPY_IMAGE:
        pytest.skip("EXECUTOR_TEST_NUMPY_IMAGE is not set: the image of images/examples/numpy, on the nodes")
    with namespace() as found:
        yield found


@pytest.fixture(scope="module")
def service(space: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("images")
    templates = [{"name": "default"}, {"name": "numpy", "image": NUMPY_IMAGE, "preload": ["numpy"]}]
    (folder / "templates.yaml").write_text(yaml.safe_dump({"templates": templates}))
    flags = ("--backend", "kubernetes", "--namespace", space.name, "--image", IMAGE)
    with Service(folder, *flags, "--templates", str(folder / "templates.yaml")) as found:
        yield found


def test_a_derived_image_has_its_packages(service: Service) -> None:
    """A function that needs numpy gives its value in a template of the derived image, and fails in the default one."""
    call = {
        "code": "def f(n):\n    import numpy\n    return int(numpy.arange(n).sum())",
        "function": "f",
        "args": [10],
    }
    answer = service.execute({**call, "template": "numpy"})
    assert (answer["status"], answer["value"]) == ("succeeded", 45), answer
    assert service.execute(call)["exception"]["type"] == "ModuleNotFoundError"


@pytest.mark.parametrize("template", ["default", "numpy"])
def test_a_call_can_write_below_sandbox_only(service: Service, template: str) -> None:
    """In either image nothing else on the root's file system is writable; the user has a name and a /tmp."""
    answer = service.execute({"command": f"{WRITABLE}; id -un; touch /tmp/x && ls /sandbox/tmp", "template": template})
    assert (answer["stdout"], answer["exit_code"]) == ("sandbox\nx\n", 0), answer
