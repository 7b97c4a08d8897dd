"""Bringing a database to the schema this version knows, whoever of several replicas comes first."""

from __future__ import annotations

from pathlib import Path

import psycopg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import exc

from executor_api.errors import ConfigurationError

_LOCK = 0x6578_6563_7574_6F72  # "executor": one migration at a time in this database
_CONNECT_SECONDS = 10


def prepare(url: str) -> str:
    """Migrate the database, and return its owner's id: the same for all that share it. Blocks.

    Raises `ConfigurationError`: not reachable, not allowed, newer schema.
    """
    check(url)
    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: _connect(url), poolclass=sa.NullPool)
    try:
        with engine.begin() as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            _migrate(connection)
            return str(connection.execute(sa.text("SELECT owner FROM identity")).scalar_one())
    except exc.DBAPIError as error:
        raise ConfigurationError(f"the database can't be used: {_sentence(error.orig)}; {_FIX}") from None


def check(url: str) -> None:
    """Raise `ConfigurationError` if this is no URL of a PostgreSQL database. It is not shown: a password is in it."""
    if not url.startswith(("postgresql://", "postgres://")) or not _is_readable(url):
        raise ConfigurationError(
            "the store's URL can't be read; write it like postgresql://user:password@host/database, special characters "
            "percent-encoded, or leave it empty for SQLite in the data directory (EXECUTOR_STORE_URL)"
        )


def _is_readable(url: str) -> bool:
    try:
        ports = psycopg.conninfo.conninfo_to_dict(url).get("port") or ""
    except psycopg.ProgrammingError:
        return False
    return all(not port or port.isdecimal() for port in str(ports).split(","))


def _connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url, connect_timeout=_CONNECT_SECONDS)


def _migrate(connection: sa.Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        newest = ScriptDirectory.from_config(config).get_current_head()
        raise ConfigurationError(
            f"the database was written by a newer executor-api (this one knows its schema up to {newest}: {error}); "
            "upgrade, or name another database"
        ) from None


def _sentence(error: BaseException | None) -> str:
    return " ".join(str(error).split())


_FIX = "check the server, the user's rights and --store-url (EXECUTOR_STORE_URL)"
