"""The status page: files for a browser, read once. Like the program they hold nothing of any call or installation."""

from __future__ import annotations

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
_INDEX = "index.html"
_HEADERS = {
    # What calls print is hostile: no script but ours, no request but to this service, and none of it in a frame.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

FILES = {
    "/" if item.name == _INDEX else f"/page/{item.name}": (
        item.read_bytes(),
        _TYPES["." + item.name.rpartition(".")[2]],
    )
    for item in files(__name__).iterdir()
    if item.is_file() and not item.name.endswith((".py", ".pyc"))
}
"""By path: what is there, and its media type."""


async def serve(request: Request) -> Response:
    """One of the files."""
    body, media_type = FILES[request.url.path]
    return Response(body, headers=_HEADERS, media_type=media_type)
