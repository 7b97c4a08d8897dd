"""A real Prometheus that scrapes one monitor, with the alerts that the chart ships, as they are."""

from __future__ import annotations

import contextlib
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
from small_machine import SmallMachine

RULES = Path(__file__).parents[1] / "charts/executor/files/alerts.yaml"
_CONFIGURATION = """
global: {{scrape_interval: 5s, evaluation_interval: 5s}}
rule_files: ["{rules}"]
scrape_configs: [{{job_name: monitor, static_configs: [{{targets: ["{target}"]}}]}}]
"""
_START_SECONDS = 60.0


class Alert(NamedTuple):
    """One that fires; ``about`` is the label that says what of."""

    name: str
    about: str
    summary: str


class Alarms:
    """What a Prometheus at ``url`` says."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=10)

    def firing(self) -> list[Alert]:
        """The alerts that fire now."""
        alerts = self._client.get("/api/v1/alerts").raise_for_status().json()["data"]["alerts"]
        return [
            Alert(
                alert["labels"]["alertname"],
                next(
                    (alert["labels"][name] for name in ("command", "cgroup", "resource") if name in alert["labels"]), ""
                ),
                alert["annotations"]["summary"],
            )
            for alert in alerts
            if alert["state"] == "firing"
        ]

    def wait_for(self, true: Callable[[set[str]], bool], seconds: float, look: Callable[[], object]) -> set[str]:
        """Names of what fires as soon as they are as wanted, or the time is over; ``look`` is called meanwhile."""
        deadline = time.monotonic() + seconds
        while not true(names := {alert.name for alert in self.firing()}) and time.monotonic() < deadline:
            look()
            time.sleep(1)
        return names


@contextlib.contextmanager
def alarms(machine: SmallMachine, folder: Path, target: str) -> Iterator[Alarms]:
    """Start one in there that scrapes ``target``, HOST:PORT. Raises ``SystemExit`` if there is none to start."""
    program = shutil.which("prometheus")
    if program is None:
        raise SystemExit("there is no prometheus here: install it (Debian's package), or leave it out by --no-alerts")
    (folder / "prometheus.yaml").write_text(_CONFIGURATION.format(rules=RULES, target=target))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with machine.start(
        "sh",
        "-c",
        'exec "$@" 2> "$0"',
        str(folder / "prometheus.log"),
        program,
        f"--config.file={folder}/prometheus.yaml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={address}",
    ) as process:
        try:
            _wait_until_ready(f"http://{address}", folder / "prometheus.log")
            yield Alarms(f"http://{address}")
        finally:
            process.kill()


def _wait_until_ready(url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/-/ready").status_code == httpx.codes.OK:
                return
        if time.monotonic() > deadline:
            raise SystemExit(f"prometheus did not start:\n{log.read_text()}")
        time.sleep(0.2)
