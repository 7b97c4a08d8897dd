"""The journal as lines of a pod's log: readable for a person in ``kubectl logs``, and exact for a program.

One line is a tag, a space and text. ``out|`` and ``err|`` are whole lines of the child, ``out+`` and ``err+`` pieces
whose line goes on in the next one, ``out=`` and ``err=`` base64 of bytes that are not plain text. ``run|`` opens the
log, ``gap|`` says that bytes were dropped, ``end|`` carries the report and its MAC. Only the runner can write here.
A sandbox that served several calls has their logs one behind the other; the last one counts.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator
from typing import cast

from executor_runner.protocol.frames import FrameKind, encode_json
from executor_runner.protocol.shapes import Report
from executor_runner.protocol.tokens import seal, seal_matches

MAX_PIECE = 8 * 1024
"""Bytes of output in one line; containerd splits lines beyond 16 KiB."""

_STREAM_TAGS = {FrameKind.STDOUT: b"out", FrameKind.STDERR: b"err"}
_OTHER_HEADS = (b"gap|", b"end|")
_TAG_KINDS = {tag: kind for kind, tag in _STREAM_TAGS.items()}
_UNSAFE = bytes(set(range(32)) - {ord("\t")}) + b"\x7f"


class LogCopy:
    """What a pod's log still tells: output in order, and the report if the log has its end."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget the call before: what follows is another one's."""
        self.frames: list[tuple[FrameKind, bytes]] = []
        self.started = False
        self.report: Report | None = None


def render(kind: FrameKind, payload: bytes) -> Iterator[bytes]:
    """Yield the log lines, newline included, of one frame; nothing for frames that the log doesn't keep."""
    if kind in _STREAM_TAGS:
        yield from _render_output(_STREAM_TAGS[kind], payload)
    elif kind is FrameKind.STARTED:
        yield b"run| " + payload + b"\n"
    elif kind is FrameKind.GAP:
        yield b"gap| " + payload + b"\n"


def render_end(token: str, report: Report) -> bytes:
    """The line that closes the log: the report, sealed."""
    return b"end| " + sealed(token, report) + b"\n"


def sealed(token: str, report: Report) -> bytes:
    """JSON of the report's text and its MAC."""
    text = encode_json(report)
    return encode_json({"report": text.decode("ascii"), "mac": seal(token, text)})


def unseal(token: str, text: bytes) -> Report | None:
    """The report out of `sealed`, or None if it is cut, forged or somebody else's."""
    try:
        envelope = json.loads(text)
        report_text = envelope["report"].encode("ascii")
        if not seal_matches(token, report_text, envelope["mac"]):
            return None
        return cast("Report", json.loads(report_text))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def parse(token: str, lines: Iterable[bytes]) -> LogCopy:
    """Read a log back. Lines that are not ours, or cut, are left out: a copy with no report is not complete."""
    copy = LogCopy()
    for line in lines:
        _parse_line(token, line.rstrip(b"\n"), copy)
    return copy


def _render_output(tag: bytes, payload: bytes) -> Iterator[bytes]:
    for piece in _pieces(payload):
        body = piece.removesuffix(b"\n")
        if not _is_text(body):
            yield tag + b"= " + base64.b64encode(piece) + b"\n"
        else:
            yield tag + (b"| " if piece.endswith(b"\n") else b"+ ") + body + b"\n"


def _pieces(payload: bytes) -> Iterator[bytes]:
    *lines, rest = payload.split(b"\n")
    for line in (*(line + b"\n" for line in lines), rest):
        for start in range(0, len(line), MAX_PIECE):
            yield line[start : start + MAX_PIECE]


def _is_text(body: bytes) -> bool:
    if body.translate(None, _UNSAFE) != body:
        return False
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parse_line(token: str, line: bytes, copy: LogCopy) -> None:
    head, separator, body = line.partition(b" ")
    tag, mark = head[:-1], head[-1:]
    if not separator:
        return
    if head == b"run|" or (copy.report is not None and (tag in _TAG_KINDS or head in _OTHER_HEADS)):
        copy.begin()
    if tag in _TAG_KINDS:
        content = _content(mark, body)
        if content is not None:
            copy.frames.append((_TAG_KINDS[tag], content))
    elif head == b"run|":
        copy.started = True
    elif head == b"gap|":
        copy.frames.append((FrameKind.GAP, body))
    elif head == b"end|":
        copy.report = unseal(token, body)


def _content(mark: bytes, body: bytes) -> bytes | None:
    if mark == b"|":
        return body + b"\n"
    if mark == b"+":
        return body
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        return None
