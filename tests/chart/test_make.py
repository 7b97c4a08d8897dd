"""`make install` gives the chart what its variables say."""

from __future__ import annotations

import os
import shlex
import subprocess

from chart.helm import ROOT, Values
from chart.pods import environment, service_pod


def _values(*variables: str) -> Values:
    """The values of the helm command that make would run; all of them name an image's repository and tag."""
    command = ["make", "--dry-run", "install", *variables]
    bare = {"PATH": os.environ["PATH"]}  # not what a make that runs the tests was given
    result = subprocess.run(command, cwd=ROOT, env=bare, capture_output=True, text=True, check=True)
    (line,) = (line for line in result.stdout.replace("\\\n", " ").splitlines() if "helm upgrade" in line)
    words = shlex.split(line)
    given = [words[index + 1] for index, word in enumerate(words) if word == "--set-string"]
    pairs = dict(pair.split("=") for text in given for pair in text.split(","))
    return {
        "image": {name: pairs[f"image.{name}"] for name in ("repository", "tag")},
        "sandbox": {"image": {name: pairs[f"sandbox.image.{name}"] for name in ("repository", "tag")}},
    }


def test_install_takes_the_images_that_were_built() -> None:
    """Images named to make reach the chart, a registry with a port included; unnamed they are the chart's own."""
    values = _values("IMAGE=localhost:5000/team/box:1", "API_IMAGE=api:2")
    (container,) = service_pod(values)["spec"]["containers"]
    assert (container["image"], environment(values)["EXECUTOR_IMAGE"]) == ("api:2", "localhost:5000/team/box:1")
    (container,), (own,) = (service_pod(found)["spec"]["containers"] for found in (_values(), {}))
    assert container == own
