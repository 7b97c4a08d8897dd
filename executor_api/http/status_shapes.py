"""What ``GET /status`` answers, for the OpenAPI document only: `status` writes it, a test holds the two together."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from executor_api.http.schemas import ProcessesShape


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PercentilesShape(_Shape):
    """Milliseconds, 4 % off at most; null where there are no calls."""

    calls: int
    p50: float | None = Field(description="Half of the calls took so long, or less.")
    p95: float | None = Field(description="19 of 20 did.")


class StartsShape(_Shape):
    """By how calls came by their sandbox."""

    warm: PercentilesShape
    cold: PercentilesShape
    reused: PercentilesShape


class FiguresShape(_Shape):
    """Of all tenants' calls that ended in some time."""

    endings: dict[str, int] = Field(
        description="Calls by `reason`; `succeeded` for those without one. Only what there was.",
        examples=[{"succeeded": 412, "timeout": 3}],
    )
    total_ms: PercentilesShape = Field(description="From acceptance to outcome.")
    start_ms: StartsShape = Field(description="From acceptance until the code ran.")
    left_behind: ProcessesShape = Field(description="Sums of `processes` of these calls.")
    most_running: int = Field(description="Most executions that held a slot at once.")
    most_queued: int = Field(description="Most that waited for one at once.")


class OwnMinuteShape(_Shape):
    """The highest figures that looks at the service's processes found in a minute."""

    processes: int
    zombies: int
    stuck: int = Field(description="In D state.")


class MinuteShape(FiguresShape):
    """One minute."""

    at: str = Field(description="Its beginning.", json_schema_extra={"format": "date-time"})
    own: OwnMinuteShape | None = Field(description="Null where nobody looked.")


class LimitedShape(_Shape):
    """So many of at most so many."""

    used: int
    limit: int


class OwnProcessesShape(_Shape):
    """The service and all that it has started, sandboxes of the local backend among them."""

    looked_at: str = Field(json_schema_extra={"format": "date-time"})
    processes: int
    threads: int | None
    zombies: int
    zombies_by_parent: dict[str, int] = Field(description="By the command that should wait for them.")
    stuck: int = Field(description="In D state.")
    longest_stuck_seconds: float
    pids: dict[str, LimitedShape] = Field(description="Tasks of the cgroups it is in, where they have a limit.")
    descriptors: dict[str, LimitedShape] = Field(
        description="Of the process of a command that is nearest to its limit; of processes with 100 or more."
    )


class StatusShape(_Shape):
    """The last hour of the process that answers. Where several replicas share the calls, each has its own."""

    replica: str = Field(description="The name of its machine, or of its pod.")
    version: str
    backend: str
    at: str = Field(json_schema_extra={"format": "date-time"})
    since: str = Field(
        description="What came before is not in it: an hour ago, or its start.",
        json_schema_extra={"format": "date-time"},
    )
    running: int = Field(description="Executions that hold a slot.")
    queued: int = Field(description="Executions that wait for one.")
    max_running: int
    hour: FiguresShape
    minutes: list[MinuteShape] = Field(description="The present one last; 60 at most.")
    own: OwnProcessesShape | None = Field(description="Null before the first look, which is soon after the start.")
