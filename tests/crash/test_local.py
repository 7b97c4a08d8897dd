"""The service dies in the middle of local calls."""

from __future__ import annotations

from pathlib import Path

import psutil
from support.machine import eventually
from support.service import Service


def _gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=60)
    return not alive


def test_killed_service_loses_calls_truthfully(tmp_path: Path) -> None:
    """After SIGKILL of the service its calls settle as lost with their output, none runs again, nothing is left."""
    marks = tmp_path / "marks"
    script = f"echo before; echo ran >> {marks}; (setsid sleep 300 &); sleep 300"
    with Service(tmp_path / "data") as service:
        running = [service.submit({"command": script}) for _ in range(3)]
        for execution_id in running:
            service.wait_stored(execution_id, "before")
        own = psutil.Process(service.process.pid)
        eventually(lambda: marks.exists() and marks.read_text() == "ran\n" * 3)
        eventually(lambda: len(own.children(recursive=True)) >= 12)
        below = own.children(recursive=True)
        service.kill()
        assert _gone(below)
    with Service(tmp_path / "data") as service:
        for execution_id in running:
            answer = service.wait(execution_id)
            assert (answer["status"], answer["reason"], answer["stdout"]) == ("failed", "sandbox_lost", "before\n")
        assert service.execute({"code": "print(1)"})["stdout"] == "1\n"
    assert marks.read_text() == "ran\n" * 3


def test_queued_calls_run_after_a_crash(tmp_path: Path) -> None:
    """A call that was accepted and had not started when the service was killed runs once after the restart."""
    marks = tmp_path / "marks"
    with Service(tmp_path / "data", "--max-concurrency", "1") as service:
        blocking = service.submit({"command": "sleep 300"})
        service.wait(blocking, "running")
        queued = [service.submit({"command": f"echo ran >> {marks}; echo done"}) for _ in range(3)]
        service.kill()
    with Service(tmp_path / "data") as service:
        assert service.wait(blocking)["reason"] == "sandbox_lost"
        for execution_id in queued:
            answer = service.wait(execution_id)
            assert (answer["status"], answer["stdout"]) == ("succeeded", "done\n"), answer
    assert marks.read_text() == "ran\n" * 3


def test_same_key_joins_across_a_crash(tmp_path: Path) -> None:
    """A client that retries with its idempotency key after a crash gets the execution of before, run once."""
    marks = tmp_path / "marks"
    request = {"command": f"echo ran >> {marks}; echo done"}
    with Service(tmp_path / "data") as service:
        first = service.execute(request, **{"Idempotency-Key": "k"})
        service.kill()
    with Service(tmp_path / "data") as service:
        again = service.execute(request, **{"Idempotency-Key": "k"})
        assert (again["id"], again["stdout"]) == (first["id"], "done\n")
        other = service.client.post("/execute", json={"code": "1"}, headers={"Idempotency-Key": "k"})
        assert other.status_code == 409
    assert marks.read_text() == "ran\n"
