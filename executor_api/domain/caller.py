"""Who calls: a tenant, and what it was given leave to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

DEFAULT_TENANT = "default"
"""Whose executions are where nobody tells callers apart."""
TENANT_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._:@/-]{0,126}[A-Za-z0-9])?$"
"""What tenants may be called."""


class Scope(StrEnum):
    """What a caller may do with its tenant's executions, and with the service."""

    EXECUTE = "execute"  # run and cancel
    READ = "read"  # look at executions, templates and pools
    ADMIN = "admin"  # look at what concerns all tenants: the metrics


ALL_SCOPES = frozenset(Scope)
DEFAULT_SCOPES = (Scope.EXECUTE, Scope.READ)
"""What a key may do where nothing else was said."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One who has shown who it is. ``name`` tells it from others of its tenant, and is no secret.

    ``way`` is how it has shown it: a word for the audit log.
    """

    tenant: str
    name: str
    scopes: frozenset[Scope] = ALL_SCOPES
    way: str = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Origin:
    """Who sent an execution, how it had shown who it is, and from what address. For the audit log."""

    caller: str
    way: str
    address: str
