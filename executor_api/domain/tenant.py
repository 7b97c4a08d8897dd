"""What an operator allows each tenant: calls a second, at once and in the queue, and templates."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import TypeVar

from pydantic import Field

from executor_api.domain.pool_settings import StrictModel
from executor_api.domain.token_bucket import TokenBucket

_Thing = TypeVar("_Thing")


class TenantLimits(StrictModel):
    """The most one tenant may take of one service process. Null is no limit of the tenant's own."""

    rate: float | None = Field(
        None, gt=0, le=1e6, allow_inf_nan=False, description="Calls a second that a tenant may make for long."
    )
    burst: int | None = Field(
        None, ge=1, le=1_000_000, description="Calls it may make at once after a pause; null: those of one second."
    )
    max_concurrency: int | None = Field(None, ge=1, le=1_000_000, description="Its calls that run at once.")
    max_queue: int | None = Field(None, ge=0, le=1_000_000, description="Its calls that wait.")
    templates: tuple[str, ...] | None = Field(None, min_length=1, description="Templates it may use; null: all.")

    @property
    def bucket(self) -> TokenBucket | None:
        """What its calls take their tokens from; None if they need none."""
        if self.rate is None:
            return None
        return TokenBucket(self.rate, self.burst if self.burst is not None else ceil(self.rate))

    def allowed(self, templates: Mapping[str, _Thing]) -> Mapping[str, _Thing]:
        """Of things by template's name those whose template it may use."""
        if self.templates is None:
            return templates
        return {name: thing for name, thing in templates.items() if name in self.templates}


class Tenants(StrictModel):
    """Limits of tenants of executor-api."""

    default: TenantLimits = Field(
        TenantLimits(), description="Of each tenant that has no entry, and of entries in what they leave out."
    )
    tenants: dict[str, TenantLimits] = Field({}, description="By the tenant's name.")

    def of(self, tenant: str) -> TenantLimits:
        """The limits of one tenant."""
        return self.tenants.get(tenant, self.default)

    def filled(self) -> Tenants:
        """The same, with each entry complete: what it leaves out is as in ``default``."""
        said = {name: own.model_dump(exclude_unset=True) for name, own in self.tenants.items()}
        complete = {name: self.default.model_copy(update=fields) for name, fields in said.items()}
        return Tenants(default=self.default, tenants=complete)


NO_LIMITS = Tenants()
"""Where nothing was said."""
