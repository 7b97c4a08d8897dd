"""What the images install: the lock files beside their Dockerfiles."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SERVICE = ROOT / "images/api/requirements.lock"
BUILD = ROOT / "images/api/build.lock"
NUMPY = ROOT / "images/examples/numpy/requirements.lock"
EXTRAS = ("auth", "gpu", "kubernetes", "postgres", "tracing")
"""Those of the service's image."""


def _pins(lock: Path) -> dict[str, Requirement]:
    """The locked packages by name."""
    lines = lock.read_text().replace("\\\n", " ").splitlines()
    entries = [line.split(" --hash=")[0] for line in lines if line and not line.lstrip().startswith("#")]
    return {pin.name: pin for pin in map(Requirement, entries)}


def _asked() -> dict[Path, list[str]]:
    """The ranges of each lock."""
    extras = PROJECT["project"]["optional-dependencies"]
    return {
        SERVICE: [*PROJECT["project"]["dependencies"], *(text for extra in EXTRAS for text in extras[extra])],
        BUILD: PROJECT["build-system"]["requires"],
        NUMPY: NUMPY.with_suffix(".in").read_text().splitlines(),
    }


@pytest.mark.parametrize("lock", [SERVICE, BUILD, NUMPY], ids=["service", "build", "numpy"])
def test_locks_hold_what_is_asked_for(lock: Path) -> None:
    """Each requirement is pinned to a version in its range; where one is not, `make lock` mends it."""
    pins = _pins(lock)
    for wanted in map(Requirement, _asked()[lock]):
        name = wanted.name.lower().replace("_", "-")
        assert name in pins, f"{lock.name} lacks {name}: run `make lock`"
        version = str(pins[name].specifier).removeprefix("==")
        assert wanted.specifier.contains(version), f"{name} {version} is not {wanted.specifier}: run `make lock`"


@pytest.mark.parametrize("lock", [SERVICE, BUILD, NUMPY], ids=["service", "build", "numpy"])
def test_locks_pin_bytes_and_name_no_place(lock: Path) -> None:
    """Each package has one version and hashes, and nothing says where it comes from: pip's configuration does."""
    text = lock.read_text()
    entries = [entry for entry in text.replace("\\\n", " ").splitlines() if entry and not entry.strip().startswith("#")]
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", entry), entry
    assert "://" not in text
