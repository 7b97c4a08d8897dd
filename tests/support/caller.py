"""Calls of a service, wherever it runs."""

from __future__ import annotations

import time
from typing import Any

import httpx


class Caller:
    """Whoever sends requests by ``client``."""

    client: httpx.Client

    def execute(self, request: dict[str, Any], **headers: str) -> dict[str, Any]:
        """Run one call to its end and return the answer."""
        answer = self.client.post("/execute", json=request, headers=headers)
        assert answer.status_code in (200, 202), answer.text
        found: dict[str, Any] = answer.json()
        return found

    def submit(self, request: dict[str, Any]) -> str:
        """Start one call and return its id."""
        execution_id: str = self.execute(request, Prefer="respond-async")["id"]
        return execution_id

    def get(self, execution_id: str) -> dict[str, Any]:
        """The execution as it is."""
        answer = self.client.get(f"/executions/{execution_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def wait(self, execution_id: str, *statuses: str, seconds: float = 120) -> dict[str, Any]:
        """Wait for one of the statuses; for the end if none is named."""
        wanted = statuses or ("succeeded", "failed", "cancelled")
        deadline = time.monotonic() + seconds
        while (found := self.get(execution_id))["status"] not in wanted:
            if time.monotonic() > deadline:
                raise AssertionError(f"still {found['status']} after {seconds} s: {found}")
            time.sleep(0.02)
        return found

    def wait_stored(self, execution_id: str, text: str) -> None:
        """Wait until the store has what the execution has printed: who follows it sees nothing before that."""
        with self.client.stream("GET", f"/executions/{execution_id}/events") as answer:
            assert any(text in line for line in answer.iter_lines()), f"never printed {text!r}"

    def wait_output(self, execution_id: str, text: str, seconds: float = 60) -> None:
        """Wait until the execution has printed the text."""
        deadline = time.monotonic() + seconds
        while text not in self.get(execution_id)["stdout"]:
            if time.monotonic() > deadline:
                raise AssertionError(f"never printed {text!r}: {self.get(execution_id)}")
            time.sleep(0.02)
