"""NVIDIA's management library, for machines without it: built from `nvml.c`, and told what to answer."""

from __future__ import annotations

import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


class Gpus:
    """The stand-in in a folder of its own. Programs started with `environ` find it where they look for NVIDIA's.

    ``more`` options are the compiler's: of an ``-DOLD`` driver not all functions are there.
    """

    def __init__(self, folder: Path, *more: str) -> None:
        self._script = folder / "script"
        options = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-O1", *more]
        library = folder / "libnvidia-ml.so.1"
        subprocess.run(["cc", *options, "-o", library, SOURCE], check=True)
        self.environ = {"LD_LIBRARY_PATH": str(folder), "NVML_SCRIPT": str(self._script)}
        self.say("device 0 8000000000")

    def say(self, *lines: str) -> None:
        """What it answers from now on: lines as `nvml.c` explains them."""
        following = self._script.with_suffix(".next")
        following.write_text("".join(f"{line}\n" for line in lines))
        following.replace(self._script)
