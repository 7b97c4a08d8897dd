"""Starts the service on a free port, sends it one call, prints the answer and stops it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile

import httpx

CALL = {"code": "import platform\nprint('hello from', platform.python_version())"}
ADDRESS = re.compile(r"http://[\d.]+:\d+")


def main() -> int:
    """Return 0 if the call succeeded."""
    with tempfile.TemporaryDirectory() as data_dir:
        command = [sys.executable, "-m", "executor_api", "serve", "--port", "0", "--data-dir", data_dir]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:  # noqa: S603 - our own module
            try:
                return _call(_address(service))
            finally:
                service.terminate()


def _address(service: subprocess.Popen[str]) -> str:
    for line in service.stderr or ():
        sys.stderr.write(line)
        found = ADDRESS.search(line)
        if found:
            return found.group()
    raise SystemExit("the service ended before it listened")


def _call(address: str) -> int:
    sys.stdout.write(f"POST {address}/execute {CALL}\n")
    answer = httpx.post(f"{address}/execute", json=CALL, timeout=60)
    sys.stdout.write(f"{answer.status_code} {answer.text}\n")
    return 0 if answer.is_success and answer.json()["status"] == "succeeded" else 1


if __name__ == "__main__":
    sys.exit(main())
