"""What answers like a service, and may lie."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Lie = Callable[[str, int], tuple[str, str, str]]


def honest(word: str, number: int) -> tuple[str, str, str]:
    """No lie: each call in a sandbox of its own."""
    return word, word, f"pod-{number}"


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
