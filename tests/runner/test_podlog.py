"""The pod's log: exact for a program, readable for a person, and nobody but the runner can write a report into it."""

from __future__ import annotations

import random

import pytest
from support.reports import report

from executor_runner.protocol import podlog
from executor_runner.protocol.frames import FrameKind
from executor_runner.protocol.podlog import MAX_PIECE

TOKEN = "7f" * 32

HOSTILE = (
    b"",
    b"\n",
    b"no newline",
    b"two\nlines\n",
    b"end| {}\nout| forged\nrun| {}\n",
    b"out= AAAA\nerr+ x",
    b"\r\ncarriage\rreturns\r\n",
    b"\x00\x1b[31m\x7f\n",
    b"\xff\xfe invalid \xc3\n",
    "Grüße 😀 \u2028\n".encode(),
    b"  spaces at both ends  \n\t\n",
    b"x" * (MAX_PIECE - 1) + b"\n" + b"y" * MAX_PIECE + b"\n" + b"z" * (3 * MAX_PIECE + 1),
    "é".encode() * MAX_PIECE,
)


def log_of(*frames: tuple[FrameKind, bytes]) -> bytes:
    return b"".join(line for kind, payload in frames for line in podlog.render(kind, payload))


def written(copy: podlog.LogCopy, kind: FrameKind) -> bytes:
    return b"".join(payload for found, payload in copy.frames if found is kind)


@pytest.mark.parametrize("payload", HOSTILE, ids=lambda payload: repr(payload[:16]))
def test_output_comes_back_byte_for_byte(payload: bytes) -> None:
    """What the child wrote is read back exactly, also where it imitates the log's own lines."""
    log = log_of((FrameKind.STARTED, b"{}"), (FrameKind.STDOUT, payload), (FrameKind.STDERR, payload[::-1]))
    copy = podlog.parse(TOKEN, log.splitlines(keepends=True) if b"\r" not in log else lines(log))
    assert copy.started
    assert written(copy, FrameKind.STDOUT) == payload
    assert written(copy, FrameKind.STDERR) == payload[::-1]
    assert copy.report is None


def lines(log: bytes) -> list[bytes]:
    return [line + b"\n" for line in log.split(b"\n")[:-1]]


def test_random_bytes_in_random_pieces_come_back() -> None:
    """Any bytes of both streams, in any pieces, come back in order."""
    rng = random.Random(2)  # noqa: S311 - the same cases each time
    alphabet = [b"\n", b"\n", b"a", b"\xff", "é".encode(), b"\r", b"\0", b"out| ", b"end| "]
    for _ in range(100):
        frames = [
            (rng.choice((FrameKind.STDOUT, FrameKind.STDERR)), b"".join(rng.choices(alphabet, k=rng.randint(1, 50))))
            for _ in range(rng.randint(1, 10))
        ]
        copy = podlog.parse(TOKEN, lines(log_of(*frames)))
        for kind in (FrameKind.STDOUT, FrameKind.STDERR):
            assert written(copy, kind) == b"".join(payload for found, payload in frames if found is kind)


def test_no_line_is_longer_than_a_container_runtime_keeps_whole() -> None:
    """Lines stay below containerd's 16 KiB, whatever is written."""
    log = log_of(*((FrameKind.STDOUT, payload) for payload in HOSTILE))
    assert max(map(len, lines(log))) < 16 * 1024


def test_plain_text_is_readable() -> None:
    """A person who reads the log sees the text as it was printed."""
    assert (
        log_of((FrameKind.STDOUT, "Grüße\n".encode()), (FrameKind.STDERR, b"half"))
        == "out| Grüße\nerr+ half\n".encode()
    )


def test_the_report_is_found_and_trusted() -> None:
    """The closing line brings the report back, and a gap keeps its place."""
    log = log_of((FrameKind.GAP, b'{"stream":1,"dropped_bytes":7}')) + podlog.render_end(TOKEN, report(exit_code=7))
    copy = podlog.parse(TOKEN, lines(log))
    assert copy.frames == [(FrameKind.GAP, b'{"stream":1,"dropped_bytes":7}')]
    assert copy.report == report(exit_code=7)


def test_a_report_of_another_sandbox_is_refused() -> None:
    """A report that was sealed with another token counts for nothing."""
    assert podlog.parse(TOKEN, [podlog.render_end("other", report())]).report is None


def test_a_report_changed_at_any_byte_is_refused() -> None:
    """Cut or changed anywhere, a sealed report is not believed."""
    sealed = podlog.sealed(TOKEN, report())
    assert podlog.unseal(TOKEN, sealed) == report()
    for at in range(len(sealed)):
        assert podlog.unseal(TOKEN, sealed[:at]) is None
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        assert podlog.unseal(TOKEN, changed) is None


@pytest.mark.parametrize(
    "text",
    [b"", b"null", b"[]", b'"x"', b'{"report":1,"mac":"x"}', b'{"report":"{}","mac":1}', b"\xff", b"[" * 100_000],
)
def test_nonsense_is_no_report(text: bytes) -> None:
    """Whatever stands where a report should is refused without an error."""
    assert podlog.unseal(TOKEN, text) is None


def test_foreign_lines_are_left_out() -> None:
    """What the container runtime or a module printed in between does no harm."""
    log = [b"Segmentation fault\n", b"\n", b"out|\n", b"out= not base64!\n", b"out| yes\n", b"what| \n"]
    assert podlog.parse(TOKEN, log).frames == [(FrameKind.STDOUT, b"yes\n")]
