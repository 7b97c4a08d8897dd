"""Tenants of a service: a key for each, in a file as an operator would have it, and their limits beside it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from executor_api.domain.api_key import ApiKey, hash_of, key_text
from executor_api.domain.caller import ALL_SCOPES, Scope
from executor_api.http.auth.key_file import render


def secret_of(tenant: str) -> str:
    """The key of a tenant in the file of `write_keys`."""
    return key_text(f"{tenant}1", f"secret-of-{tenant}")


def bearer(tenant: str) -> dict[str, str]:
    """Headers of a tenant's requests."""
    return {"Authorization": f"Bearer {secret_of(tenant)}"}


def write_keys(path: Path, *tenants: str, scopes: Iterable[Scope] = ALL_SCOPES) -> str:
    """A file with a key for each tenant; its path."""
    keys = [
        ApiKey(id=f"{tenant}1", sha256=hash_of(f"secret-of-{tenant}"), tenant=tenant, scopes=tuple(scopes))
        for tenant in tenants
    ]
    path.write_text(render(keys))
    return str(path)
