"""The head of an HTTP request, read strictly: what a proxy could understand in another way is refused. Pure."""

from __future__ import annotations

from typing import NamedTuple

from executor_runner.protocol import POD_HEADER, TOKEN_HEADER

_ONCE = {"content-length", "transfer-encoding", TOKEN_HEADER.lower()}
"""Header fields that a proxy could understand in another way than we do, were there two."""


class Request(NamedTuple):
    """The head of a request."""

    method: str
    path: str
    query: dict[str, str]  # as written: no value of ours needs percent signs
    headers: dict[str, str]  # names in lower case

    @classmethod
    def parse(cls, head: bytes) -> Request:
        """Raises ``ValueError`` for what is no HTTP/1 request head."""
        line, *fields = head.decode("latin-1").split("\r\n")
        method, target, version = line.split(" ")
        if not version.startswith("HTTP/1.") or not target.startswith("/"):
            raise ValueError(f"{target[:16]!r} by {version[:16]!r}")
        path, _, query = target.partition("?")
        headers: dict[str, str] = {}
        for name, colon, value in (field.partition(":") for field in fields):
            if (
                not colon
                or not name.isascii()
                or name != "".join(name.split())
                or name.lower() in _ONCE & headers.keys()
            ):
                raise ValueError(f"field {name[:16]!r}")
            headers[name.lower()] = value.strip()
        pairs = (item.partition("=") for item in query.split("&"))
        return cls(method, path, {name: value for name, _, value in pairs}, headers)

    @property
    def token(self) -> str:
        """The token it brings; empty if none."""
        return self.headers.get(TOKEN_HEADER.lower(), "")

    @property
    def pod(self) -> str:
        """UID of the pod it is meant for; empty if it does not say."""
        return self.headers.get(POD_HEADER.lower(), "")

    @property
    def keep_alive(self) -> bool:
        """Whether the client asks for the connection to stay open."""
        return self.headers.get("connection", "").lower() == "keep-alive"

    @property
    def content_length(self) -> int:
        """Body size; 0 if none is announced. Raises ``ValueError`` for nonsense."""
        text = self.headers.get("content-length", "0")
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f"length {text[:16]!r}")
        return int(text)
