"""What a client may ask for: the body of ``POST /execute``, checked as far as the body alone allows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    field_validator,
    model_validator,
)

from executor_api.domain.fields import FileContent, Quantity, Text, relative_path

MAX_CODE = 1024 * 1024
MAX_STDIN = 10 * 1024 * 1024
MAX_ENV = 64 * 1024
MAX_ARGUMENT = 131_071
"""Linux refuses one argument or ``NAME=value`` beyond this many bytes (MAX_ARG_STRLEN less its NUL)."""
MAX_COMMAND = 1_500_000
"""Bytes of a whole argv; Linux allows a quarter of the stack (2 MiB) for argv and environment together."""
POINTER = 9
"""Bytes that Linux counts for one argument beside its text: a pointer and a NUL."""
MAX_FILES = 1000
MAX_LABELS = 32
MAX_TIMEOUT = 7 * 24 * 3600.0

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_LABEL_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_PREFIX = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_GPU_RESOURCE = re.compile(r"[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


class Isolation(StrEnum):
    """Whether a sandbox serves one call, or many calls of one tenant."""

    SINGLE_USE = "single_use"
    REUSE = "reuse"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Gpu(_Strict):
    """Devices for one call."""

    count: int = Field(ge=0, le=64, description="How many devices; an extended resource is whole numbers only.")
    resource: str | None = Field(
        None, description="Extended resource name; default: the template's first one.", examples=["nvidia.com/gpu"]
    )

    @field_validator("resource")
    @classmethod
    def _named_like_a_resource(cls, value: str | None) -> str | None:
        if value is not None and not _GPU_RESOURCE.fullmatch(value):
            raise ValueError("must be an extended resource name, for example 'nvidia.com/gpu'")
        return value


class Resources(_Strict):
    """What a sandbox gets; every field falls back to the template's."""

    cpu: Quantity | None = Field(None, description="CPU cores, a Kubernetes quantity.")
    memory: Quantity | None = Field(None, description="Memory, a Kubernetes quantity in bytes.")
    ephemeral_storage: Quantity | None = Field(
        None, description="Disk for files and temporary data, a Kubernetes quantity in bytes."
    )
    gpu: Gpu | None = None


_ONE_THING_TO_RUN: list[JsonValue] = [
    {"required": ["code"], "properties": {"code": {"type": "string"}, "command": {"type": "null"}}},
    {
        "required": ["command"],
        "properties": {
            "command": {"type": ["string", "array"]},
            **{name: {"type": "null"} for name in ("code", "language", "function")},
        },
    },
]
"""For readers of the schema; `_one_thing_to_run` says it to clients in words."""


class ExecutionRequest(_Strict):
    """One call: exactly one of ``code`` and ``command``, and what it needs around it."""

    model_config = ConfigDict(json_schema_extra={"oneOf": _ONE_THING_TO_RUN})

    # Collections fail fast: one error for each of millions of wrong items would take gigabytes.
    code: str | None = Field(None, description="Source text to run, in `language`. At most 1 MiB.")
    language: str | None = Field(
        None, max_length=64, description="`python` (default), `bash`, or another the template declares."
    )
    command: Text | Annotated[list[Text], Field(fail_fast=True, max_length=MAX_COMMAND // POINTER)] | None = Field(
        None, description="A string for `sh -c`, or an argv list."
    )
    function: str | None = Field(
        None, max_length=256, description="Call this function of `code`; its JSON return is `value`. Python only."
    )
    args: list[Any] = Field([], description="Positional arguments of `function`.")
    kwargs: dict[str, Any] = Field({}, description="Keyword arguments of `function`.")
    stdin: str = Field("", description="Text on the child's standard input. At most 10 MiB.")
    env: dict[str, Text] = Field({}, fail_fast=True, description="Environment variables. At most 64 KiB in all.")
    files: dict[str, FileContent] = Field(
        {}, fail_fast=True, max_length=MAX_FILES, description='Relative path to text or `{"base64": ...}`.'
    )
    artifacts: list[str] = Field([], max_length=100, description="Globs, relative, of files to bring back.")
    timeout_seconds: float | None = Field(
        None, gt=0, le=MAX_TIMEOUT, allow_inf_nan=False, description="Default and most: the template's."
    )
    template: str = Field("default", max_length=63)
    resources: Resources = Resources()
    isolation: Isolation = Isolation.SINGLE_USE
    labels: dict[str, str] = Field(
        {},
        fail_fast=True,
        max_length=MAX_LABELS,
        description="Kubernetes label names and values, to find executions by.",
    )

    @property
    def kind(self) -> str:
        """What kind of thing it runs: a language, ``shell`` or ``argv``."""
        if self.command is None:
            return self.language or "python"
        return "shell" if isinstance(self.command, str) else "argv"

    @field_validator("code", "stdin", mode="after")
    @classmethod
    def _within_size(cls, value: str | None, info: Any) -> str | None:
        most = MAX_CODE if info.field_name == "code" else MAX_STDIN
        if value is not None and len(value.encode()) > most:
            raise ValueError(f"is longer than {most} bytes")
        return value

    @field_validator("command")
    @classmethod
    def _command_fits(cls, value: str | list[str] | None) -> str | list[str] | None:
        argv = [value] if isinstance(value, str) else value
        if argv is None:
            return None
        if not argv or not argv[0].strip():
            raise ValueError("is empty; give a shell command or an argv list with a program")
        if (
            any(len(item.encode()) > MAX_ARGUMENT for item in argv)
            or sum(len(item.encode()) + POINTER for item in argv) > MAX_COMMAND
        ):
            raise ValueError(
                f"is too long: Linux takes {MAX_ARGUMENT} bytes an argument, {MAX_COMMAND} in all; "
                "send it as `code` or a file"
            )
        return value

    @field_validator("env")
    @classmethod
    def _env_fits(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not _ENV_NAME.fullmatch(name):
                raise ValueError(
                    f"{name[:64]!r} is no variable name: letters, digits and '_', not starting with a digit"
                )
        if sum(len(name) + len(text.encode()) + 2 for name, text in value.items()) > MAX_ENV:
            raise ValueError(f"is larger than {MAX_ENV} bytes in all; use `files` or `stdin`")
        return value

    @field_validator("files")
    @classmethod
    def _paths_stay_inside(cls, value: dict[str, bytes]) -> dict[str, bytes]:
        for path in value:
            _check_path(path)
            if path.endswith(("/", "/.")):
                raise ValueError(f"{path[:128]!r} names a folder; folders are made for the files in them")
        _check_collisions(value)
        return value

    @field_validator("artifacts")
    @classmethod
    def _globs_stay_inside(cls, value: list[str]) -> list[str]:
        for pattern in value:
            _check_path(pattern)
        return value

    @field_validator("labels")
    @classmethod
    def _labels_are_labels(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            _check_label(name, text)
        return value

    @model_validator(mode="after")
    def _one_thing_to_run(self) -> Self:
        if (self.code is None) == (self.command is None):
            raise ValueError("give exactly one of `code` and `command`")
        if self.command is not None and (self.language or self.function):
            raise ValueError("`language` and `function` go with `code`, not with `command`")
        if self.function is None and (self.args or self.kwargs):
            raise ValueError("`args` and `kwargs` need a `function`")
        if self.function is not None and (self.language or "python") != "python":
            raise ValueError("`function` needs language 'python'")
        if self.function is not None and not self.function.isidentifier():
            raise ValueError("`function` must be a Python name")
        return self


def _check_path(path: str) -> None:
    try:
        relative_path(path)
    except ValueError as error:
        raise ValueError(f"{path[:128]!r} {error}") from None


def _check_collisions(paths: Iterable[str]) -> None:
    """Sorted by parts, what lies below a file comes right behind it."""
    placed = sorted((PurePosixPath(path).parts, path) for path in paths)
    for (parts, path), (next_parts, other) in pairwise(placed):
        if parts == next_parts:
            raise ValueError(f"{path[:128]!r} and {other[:128]!r} are the same file")
        if parts == next_parts[: len(parts)]:
            raise ValueError(f"{other[:128]!r} lies below {path[:128]!r}, which is a file")


def _check_label(name: str, text: str) -> None:
    prefix, slash, bare = name.rpartition("/")
    if not _LABEL_NAME.fullmatch(bare) or (slash and not _LABEL_PREFIX.fullmatch(prefix)):
        raise ValueError(
            f"{name[:128]!r} is no Kubernetes label name: up to 63 letters, digits, '-', '_' and '.', "
            "with an optional DNS prefix and '/'"
        )
    if not _LABEL_VALUE.fullmatch(text):
        raise ValueError(f"value of {name!r} is no Kubernetes label value: up to 63 letters, digits, '-', '_' and '.'")
