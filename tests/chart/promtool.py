"""Prometheus' own tool, which checks rules and tries them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="no promtool here; Debian has it in the package prometheus"
)


def promtool(folder: Path, *words: str) -> str:
    """Run it there and return what it says; fails, with that, if it finds something wrong."""
    done = subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said
