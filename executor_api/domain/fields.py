"""What single values of requests and templates may be: texts, quantities, contents of files and their paths."""

from __future__ import annotations

import base64
import binascii
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from executor_api.domain.quantity import InvalidQuantityError, parse_quantity

MAX_PATH = 1024
MAX_NAME = 255
"""Linux: bytes of one part of a path (NAME_MAX)."""


def no_nul(text: str) -> str:
    """Check that a process can receive it. Raises ``ValueError`` if not."""
    if "\0" in text:
        raise ValueError("contains a NUL character, which no process can receive here; remove it")
    return text


def _quantity(value: object) -> object:
    text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    if isinstance(text, str):
        try:
            parse_quantity(text)
        except InvalidQuantityError as error:
            raise ValueError(str(error)) from None
    return text


def _file_content(value: object) -> object:
    """Text, or ``{"base64": ...}``; pydantic then sees bytes."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and set(value) == {"base64"} and isinstance(value["base64"], str):
        try:
            return base64.b64decode(value["base64"], validate=True)
        except binascii.Error as error:
            raise ValueError(f"is not valid base64: {error}") from None
    if isinstance(value, bytes):
        return value
    raise ValueError('must be text or {"base64": "..."}')


def relative_path(text: str) -> str:
    """Check a path below the working directory. Raises ``ValueError`` if it leads elsewhere or the OS can't hold it."""
    no_nul(text)
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or path == PurePosixPath("."):
        raise ValueError("must be a relative path below the working directory, without '..'")
    if len(text.encode()) > MAX_PATH or any(len(part.encode()) > MAX_NAME for part in path.parts):
        raise ValueError("is longer than 1024 bytes, or one part is longer than 255")
    return text


Text = Annotated[str, AfterValidator(no_nul)]
Quantity = Annotated[
    str,
    BeforeValidator(_quantity, json_schema_input_type=str | float),
    Field(json_schema_extra={"examples": ["500m", "512Mi"]}),
]
FileContent = Annotated[
    bytes,
    BeforeValidator(_file_content, json_schema_input_type=str | dict[str, str]),
    PlainSerializer(lambda content: {"base64": base64.b64encode(content).decode()}, return_type=dict[str, str]),
]
