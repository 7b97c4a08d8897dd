"""``executor-api keys``: makes, revokes and lists the keys that ``serve --api-keys FILE`` lets in."""

from __future__ import annotations

import secrets
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from executor_api.cli import tables
from executor_api.cli.failures import Refused, tell
from executor_api.domain.caller import DEFAULT_SCOPES, Scope
from executor_api.errors import ConfigurationError

if TYPE_CHECKING:
    from executor_api.domain.api_key import ApiKey

SECRET_NAME = "executor-api-keys"  # noqa: S105 - a name
_SECRET = f"""\
apiVersion: v1
kind: Secret
metadata:
  name: {SECRET_NAME}
type: Opaque
stringData:
  keys.yaml: |
"""
"""Before the lines of the file. Its name in the Secret is the one that the chart expects."""


F = TypeVar("F", bound=Callable[..., Any])


@click.group
def keys() -> None:
    """Make, revoke and list the keys of callers."""


def _file(*, required: bool) -> Callable[[F], F]:
    return click.option(
        "--api-keys",
        "path",
        metavar="FILE",
        envvar="EXECUTOR_API_KEYS",
        type=click.Path(path_type=Path, dir_okay=False),
        required=required,
        help="The file of keys (or EXECUTOR_API_KEYS).",
    )


_manifest = click.option(
    "--secret-manifest",
    is_flag=True,
    help=f"Print the file as the Kubernetes Secret {SECRET_NAME}, for `kubectl apply -f -`.",
)


@keys.command
@click.option("--tenant", required=True, help="Whose executions the key reaches.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    default=[scope.value for scope in DEFAULT_SCOPES],
    show_default=True,
    help="What it may do; repeatable.",
)
@click.option("--expires", metavar="WHEN", help="90d, 12h, 2w, a date, or a time with its zone. Default: never.")
@click.option("--label", default="", help="For people: who has it, and what for.")
@_manifest
@_file(required=False)
def create(*, path: Path | None, secret_manifest: bool, expires: str | None, **fields: Any) -> None:
    """Make a key and print it, this once: the file keeps only a hash of its secret.

    The file is made if there is none, and written whole or not at all, for its owner alone to read. Without one,
    --secret-manifest prints a Secret that holds the new key only. Where a manifest is printed, the key goes to
    standard error.
    """
    from executor_api.domain.api_key import SECRET_BYTES, key_text  # noqa: PLC0415 - pydantic is not needed for --help

    if path is None and not secret_manifest:
        raise Refused("name the file with --api-keys FILE (EXECUTOR_API_KEYS), or have --secret-manifest print one")
    secret = secrets.token_hex(SECRET_BYTES)
    made: list[ApiKey] = []

    def add(others: Sequence[ApiKey]) -> Sequence[ApiKey]:
        made.append(_new_key(_free_id({key.id for key in others}), secret, expires, fields))
        return [*others, *made]

    with _refusing():
        found = _edit(path, add) if path is not None else add([])
    (key,) = made
    until = f"until {_time(key)}" if key.expires else "for ever"
    tell(f"key {key.id} lets in tenant {key.tenant!r} ({', '.join(key.scopes)}) {until}; its secret is shown this once")
    click.echo(key_text(key.id, secret), err=secret_manifest)
    if secret_manifest:
        click.echo(_secret(found), nl=False)


@keys.command
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@_manifest
@_file(required=True)
def revoke(ids: tuple[str, ...], *, path: Path, secret_manifest: bool) -> None:
    """Take keys out of the file. A service that serves with it refuses them within a second."""

    def without(others: Sequence[ApiKey]) -> Sequence[ApiKey]:
        there = [key.id for key in others]
        if unknown := [key_id for key_id in ids if key_id not in there]:
            raise Refused(f"{path} has no key {', '.join(unknown)}; it has: {', '.join(there) or 'none'}")
        return [key for key in others if key.id not in ids]

    with _refusing():
        found = _edit(path, without)
    tell(f"revoked {', '.join(ids)}; {len(found)} left")
    if secret_manifest:
        click.echo(_secret(found), nl=False)


@keys.command(name="list")
@_file(required=True)
def list_(*, path: Path) -> None:
    """Show the keys in the file, without secrets: it has none."""
    from executor_api.http.auth.key_file import read_keys, readable_by_all  # noqa: PLC0415 - as above

    with _refusing():
        found = read_keys(path)
    if readable_by_all(path):
        tell(f"{path} can be read by everybody on this machine; `chmod 600` it")
    now = datetime.now(UTC).timestamp()
    rows = [(key.id, _validity(key, now), key.tenant, ",".join(key.scopes), key.label) for key in found]
    click.echo(tables.keys(rows))


@keys.command
def schema() -> None:
    """Print the JSON schema of the file."""
    from executor_api.http.auth.key_file import ApiKeys  # noqa: PLC0415 - as above
    from executor_api.service.yaml_model import schema_text  # noqa: PLC0415 - as above

    click.echo(schema_text(ApiKeys), nl=False)


def _free_id(taken: set[str]) -> str:
    from executor_api.domain.api_key import ID_BYTES  # noqa: PLC0415 - as above

    while (key_id := secrets.token_hex(ID_BYTES)) in taken:
        pass
    return key_id


def _new_key(key_id: str, secret: str, expires: str | None, fields: dict[str, Any]) -> ApiKey:
    from pydantic import ValidationError  # noqa: PLC0415 - as above

    from executor_api.domain.api_key import ApiKey, expiry, hash_of  # noqa: PLC0415 - as above
    from executor_api.service.yaml_model import sentence  # noqa: PLC0415 - as above

    try:
        until = expiry(expires, datetime.now(UTC)) if expires is not None else None
    except ValueError as error:
        raise Refused(f"--expires: {error}") from None
    try:
        return ApiKey(id=key_id, sha256=hash_of(secret), expires=until, **fields)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise Refused("\n".join(f"--{problem['loc'][0]} {sentence(problem)}" for problem in problems)) from None


def _edit(path: Path, change: Callable[[Sequence[ApiKey]], Sequence[ApiKey]]) -> Sequence[ApiKey]:
    from executor_api.http.auth.key_file import edit_keys, readable_by_all  # noqa: PLC0415 - as above

    was_open = readable_by_all(path)
    found = edit_keys(path, change)
    if was_open:
        tell(f"{path} could be read by everybody on this machine; now only by its owner")
    return found


def _secret(found: Sequence[ApiKey]) -> str:
    from executor_api.http.auth.key_file import render  # noqa: PLC0415 - as above

    return _SECRET + textwrap.indent(render(found), "    ")


def _validity(key: ApiKey, now: float) -> str:
    return f"{'expired ' if key.expired(now) else ''}{_time(key)}" if key.expires else "never"


def _time(key: ApiKey) -> str:
    return f"{key.expires:%Y-%m-%dT%H:%M:%SZ}"


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except ConfigurationError as error:
        raise Refused(str(error)) from None
