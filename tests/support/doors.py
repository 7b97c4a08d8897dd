"""An admission without a service: executions that ask to be let in, a clock that stands still, and what it counts."""

from __future__ import annotations

import itertools

import pytest

from executor_api.domain.execution import Execution
from executor_api.domain.outcome import Status
from executor_api.domain.plan import Plan, plan
from executor_api.domain.pool import PoolStatus
from executor_api.domain.pool_settings import MissPolicy, PoolSettings
from executor_api.domain.request import ExecutionRequest
from executor_api.domain.template import Template
from executor_api.errors import SaturatedError
from executor_api.service.admission import Admission
from executor_api.service.metrics import NoMetrics, ServiceMetrics
from executor_api.service.pool_gate import PoolGate

NUMBERS = itertools.count()
TEMPLATES = {
    "default": Template(name="default"),
    "other": Template(name="other"),
    "third": Template(name="third"),
    "fourth": Template(name="fourth"),
    "strict": Template(name="strict", pool=PoolSettings(size=2, miss=MissPolicy.REJECT)),
}


class Time:
    """A monotonic clock that stands still until told."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        """Tell the instant."""
        return self.seconds


class Gauges(NoMetrics):
    """Keeps the last figures it was told."""

    waiting = slots_taken = 0

    def queue_depth(self, n: int) -> None:
        """Note it."""
        self.waiting = n

    def running(self, n: int) -> None:
        """Note it."""
        self.slots_taken = n


def draft(tenant: str = "default", **request: object) -> tuple[Execution, Plan]:
    """A new execution and its plan."""
    planned = plan(ExecutionRequest.model_validate({"code": "1", **request}), TEMPLATES)
    record = Execution(
        id=str(next(NUMBERS)),
        tenant=tenant,
        request=planned.request,
        status=Status.QUEUED,
        created_at=0,
        timeout_seconds=1,
        template_digest="",
    )
    return record, planned


def doors(
    slots: int, most_waiting: int, time: Time | None = None, metrics: ServiceMetrics | None = None, *pools: PoolStatus
) -> Admission:
    """The admission of a service with these pools."""
    clock = time or Time()
    return Admission(slots, most_waiting, clock, metrics or NoMetrics(), PoolGate(lambda: pools, clock))


def refused(admission: Admission, tenant: str = "default", **request: object) -> float:
    """Try to enter in vain; return the seconds after which to come again."""
    with pytest.raises(SaturatedError) as refusal:
        admission.enter(*draft(tenant, **request))
    return refusal.value.retry_after


def crowd(admission: Admission, tenant: str) -> int:
    """Send calls of the tenant until one is refused; return how many were not."""
    for number in range(100):
        try:
            admission.enter(*draft(tenant))
        except SaturatedError:
            return number
    raise AssertionError("never refused")
