"""The real service as a real process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import httpx

from support.caller import Caller

ADDRESS = re.compile(r"http://[\d.]+:\d+")
START_SECONDS = 60


class Service(Caller):
    """``executor-api serve`` on a free port; its log is kept. A context manager that leaves no process."""

    def __init__(self, data_dir: Path, *flags: str, environ: Mapping[str, str] | None = None) -> None:
        self.log: list[str] = []
        command = [sys.executable, "-m", "executor_api", "serve", "--port", "0", "--data-dir", str(data_dir), *flags]
        self.process = subprocess.Popen(
            command, env={**os.environ, **(environ or {})}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = ""

    def __enter__(self) -> Self:
        if not self._listening.wait(START_SECONDS) or not self.url:
            self.kill()
            raise AssertionError("the service did not start:\n" + "".join(self.log))
        self.client = httpx.Client(base_url=self.url, timeout=180)
        self.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_ready(self) -> None:
        """Wait until it says that it can serve."""
        deadline = time.monotonic() + START_SECONDS
        while (answer := self.client.get("/readyz")).status_code != 200:
            if time.monotonic() > deadline:
                raise AssertionError(f"not ready: {answer.text}")
            time.sleep(0.05)

    def wait_log(self, text: str, seconds: float = START_SECONDS) -> None:
        """Wait until a line of the log has the text."""
        deadline = time.monotonic() + seconds
        while not any(text in line for line in self.log):
            if time.monotonic() > deadline:
                raise AssertionError(f"never logged {text!r}:\n" + "".join(self.log))
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: a crash."""
        self.process.kill()
        self._reap()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not help."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._reap()

    def _reap(self) -> None:
        self.process.wait()
        self._reader.join()
        if self.process.stdout is not None:
            self.process.stdout.close()
        if hasattr(self, "client"):
            self.client.close()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.log.append(line)
            found = ADDRESS.search(line)
            if found and not self.url:
                self.url = found.group()
                self._listening.set()
        self._listening.set()
