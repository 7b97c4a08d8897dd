"""What an operator says of a template's warm pool and of sandboxes that one tenant uses again and again."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST = 1000
"""Sandboxes of one pool. More is more than one service process can look after."""


class StrictModel(BaseModel):
    """Refuses fields it does not know, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MissPolicy(StrEnum):
    """What becomes of a call that finds no sandbox waiting."""

    COLD = "cold"  # takes one that is being made and that nobody waits for, else has its own made
    WAIT = "wait"  # waits for the pool, however long its queue is
    REJECT = "reject"  # gets 429 at the door


class PoolSettings(StrictModel):
    """How many sandboxes wait: ``size``, or between ``floor`` and ``ceiling`` as calls come."""

    size: int | None = Field(None, ge=0, le=MOST, description="Sandboxes that wait; null: between floor and ceiling.")
    floor: int = Field(0, ge=0, le=MOST, description="The fewest that wait, where size is null.")
    ceiling: int = Field(0, ge=0, le=MOST, description="The most that wait, where size is null; 0: no pool.")
    miss: MissPolicy = Field(MissPolicy.COLD, description="What becomes of a call that finds none waiting.")
    max_idle_seconds: float = Field(
        3600, ge=10, le=86_400, description="How long one may wait before it is replaced, give or take a tenth."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.floor > self.ceiling:
            raise ValueError("floor is more than ceiling")
        if self.size is not None and self.ceiling:
            raise ValueError("size excludes floor and ceiling; leave one or the other out")
        if self.miss is not MissPolicy.COLD and not (self.floor or self.size):
            raise ValueError(
                f"miss: {self.miss} needs sandboxes that always wait; set size, or a floor, or leave miss out"
            )
        return self

    @property
    def largest(self) -> int:
        """The most sandboxes that may wait; 0 if there is no pool."""
        return self.ceiling if self.size is None else self.size


class ReuseLimits(StrictModel):
    """When a sandbox that serves many calls of one tenant is retired; any doubt about it retires it sooner."""

    max_calls: int = Field(1000, ge=1, le=1_000_000, description="Calls that one sandbox serves.")
    max_age_seconds: float = Field(3600, gt=0, le=86_400, description="Seconds since its first call.")
    max_idle_seconds: float = Field(60, gt=0, le=3600, description="Seconds without a call.")
