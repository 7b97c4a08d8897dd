"""What the benchmarks make of a service's answers, seen in their exit code."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
Lie = Callable[[str, int], tuple[str, str, str]]
WARMUP = 5
LIES: dict[str, Lie] = {
    "1 sandboxes used twice ['pod-5']": lambda word, number: (word, word, f"pod-{min(number, WARMUP)}"),
    "found what another left": lambda word, number: (word, word if number < WARMUP else "another", f"pod-{number}"),
    "answers another, not": lambda word, number: (word if number < WARMUP else "another", word, f"pod-{number}"),
}


class Impostor:
    """Answers `POST /execute` as a service would, with echo, mark and pod as `says` has them, given word and number."""

    def __init__(self, says: Lie) -> None:
        numbers = itertools.count()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(404, {})

            def do_POST(self) -> None:
                code = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["code"]
                word = re.findall(r'word = seen = "(.*)"', code)[0]
                echo, mark, pod = says(word, next(numbers))
                sandbox = {"name": pod, "pod": pod, "pod_uid": pod}
                said = {"status": "succeeded", "start": "warm", "sandbox": sandbox}
                self._answer(200, {**said, "stdout": f"{echo} {pod} {mark} 2\n"})

            def log_message(self, *_: object) -> None:
                pass

            def _answer(self, status: int, content: object) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Leave no thread and no socket."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def impostor() -> Iterator[Callable[[Lie], str]]:
    opened: list[Impostor] = []

    def open_one(says: Lie) -> str:
        opened.append(Impostor(says))
        return opened[-1].url

    yield open_one
    for one in opened:
        one.close()


def load(url: str, results: Path) -> subprocess.CompletedProcess[str]:
    """W1 with three calls."""
    flags = ["W1", "--url", url, "--calls", "3", "--results", str(results)]
    command = [sys.executable, str(BENCHMARKS / "load.py"), *flags]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)


def test_right_answers_pass_and_are_kept(impostor: Callable[[Lie], str], tmp_path: Path) -> None:
    """Exit code 0, and one line of raw figures for each call but the first ones, which warm up."""
    done = load(impostor(lambda word, number: (word, word, f"pod-{number}")), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = next(tmp_path.glob("*.csv")).read_text().splitlines()
    assert len(lines) == 4


@pytest.mark.parametrize("complaint", LIES)
def test_a_wrong_answer_fails_the_run(impostor: Callable[[Lie], str], tmp_path: Path, complaint: str) -> None:
    """A sandbox used twice, told by its pod or by what an earlier call left in it, and another call's answer."""
    done = load(impostor(LIES[complaint]), tmp_path)
    assert done.returncode == 1
    assert complaint in done.stdout
