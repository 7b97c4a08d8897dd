"""Templates: what sandboxes are made from, and how much of it a call may ask for."""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from executor_api.domain.fields import Quantity
from executor_api.domain.pool_settings import PoolSettings, ReuseLimits, StrictModel
from executor_api.domain.quantity import parse_quantity
from executor_api.domain.request import MAX_TIMEOUT, Isolation

MIB = 1024 * 1024


def _dns_label(text: str) -> str:
    if not re.fullmatch(r"[a-z](?:[-a-z0-9]{0,38}[a-z0-9])?", text):
        raise ValueError("must be 1 to 40 lowercase letters, digits and '-', starting with a letter")
    return text


class Language(StrictModel):
    """A language that runs by exec: its source is written to a file, whose path replaces ``{file}``."""

    argv: tuple[str, ...] = Field(min_length=1, examples=[["node", "{file}"]])
    suffix: str = Field("", pattern=r"^(\.[A-Za-z0-9]{1,10})?$", description="Ending of the source file's name.")

    @model_validator(mode="after")
    def _names_the_file(self) -> Self:
        if not any("{file}" in item for item in self.argv):
            raise ValueError("argv must contain '{file}', where the path of the source goes")
        return self


class GpuAllowance(StrictModel):
    """Devices a template gives and allows."""

    count: int = Field(0, ge=0, le=64, description="Devices of a call that asks for none.")
    max_count: int = Field(0, ge=0, le=64, description="The most a call may ask for; 0 allows none.")
    resources: tuple[str, ...] = Field(
        ("nvidia.com/gpu",), min_length=1, description="Extended resource names allowed; the first is the default."
    )
    shared: bool = Field(
        default=False,
        description="Several pods use one device at once, though its resource's name does not end in `.shared`: what "
        "is in use of its memory is not one call's, and is not compared.",
    )


class Amount(StrictModel):
    """CPU, memory and disk of one sandbox."""

    cpu: Quantity
    memory: Quantity
    ephemeral_storage: Quantity


class OutputLimits(StrictModel):
    """How much output is kept, per stream."""

    keep_bytes: int = Field(
        1 * MIB,
        ge=1024,
        le=3 * MIB,
        description="Kept per stream: half head, half tail; the middle is dropped and counted.",
    )
    kill_bytes: int | None = Field(
        None, ge=1024, description="A stream beyond this ends the call as output_limit; null never does."
    )


class Toleration(StrictModel):
    """A Kubernetes toleration."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class Template(StrictModel):
    """One kind of sandbox, as an operator describes it."""

    name: Annotated[str, AfterValidator(_dns_label)]
    image: str | None = Field(
        None, min_length=1, description="Container image with the runner; default: the service's --image."
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    languages: dict[str, Language] = Field(
        {"bash": Language(argv=("bash", "{file}"), suffix=".sh")}, description="Languages besides python."
    )
    preload: tuple[str, ...] = Field((), description="Python modules imported before the call arrives.")
    resources: Amount = Amount(cpu="1", memory="512Mi", ephemeral_storage="1Gi")
    max_resources: Amount = Amount(cpu="4", memory="4Gi", ephemeral_storage="10Gi")
    gpu: GpuAllowance = GpuAllowance()
    timeout_seconds: float = Field(60, gt=0, le=MAX_TIMEOUT, description="Timeout of a call that names none.")
    max_timeout_seconds: float = Field(
        3600, gt=0, le=MAX_TIMEOUT, description="The longest timeout a call may ask for."
    )
    grace_seconds: float = Field(1, ge=0, le=60, description="Between SIGTERM and SIGKILL when a call is ended.")
    start_seconds: float = Field(
        120, gt=0, le=3600, description="How long a sandbox may take to start before the call fails."
    )
    output: OutputLimits = OutputLimits()
    artifact_bytes: int = Field(
        8 * MIB, ge=0, le=32 * MIB, description="Most bytes of all artifacts of a call together."
    )
    value_bytes: int = Field(1 * MIB, ge=1024, le=8 * MIB, description="Most bytes of a function's JSON value.")
    max_processes: int = Field(
        1024, ge=1, le=100_000, description="Processes alive at once; more ends the call as process_limit."
    )
    open_files: int = Field(1024, ge=16, le=1_048_576, description="Descriptors per process.")
    env: dict[str, str] = Field({}, description="Environment variables of every call.")
    isolation: tuple[Isolation, ...] = Field(
        (Isolation.SINGLE_USE, Isolation.REUSE), min_length=1, description="Isolation a call may choose."
    )
    pool: PoolSettings = PoolSettings()
    reuse: ReuseLimits = ReuseLimits()
    network: Literal["none", "open"] = Field(
        "none", description="What the local backend gives: no network but loopback, or this machine's."
    )
    ttl_seconds: int = Field(
        300,
        ge=0,
        le=86_400,
        description="ttlSecondsAfterFinished: how long Kubernetes keeps a finished Job the service did not delete.",
    )
    delete_finished: bool = Field(
        True, description="Delete the Job as soon as its result is stored; false leaves it, log included, for its TTL."
    )
    job_template: str | None = Field(None, description="Path of a Job template (*.yaml.j2); default: the built-in one.")
    runtime_class: str | None = None
    host_users: bool | None = Field(None, description="false asks for a user namespace: root in it is nobody outside.")
    node_selector: dict[str, str] = Field({})
    tolerations: tuple[Toleration, ...] = ()
    priority_class: str | None = None
    queue: str | None = Field(
        None, pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", description="Kueue LocalQueue that its Jobs wait in."
    )
    service_account: str | None = Field(None, description="Service account of the pods; its token is never mounted.")

    @model_validator(mode="after")
    def _defaults_within_limits(self) -> Self:
        for name in ("cpu", "memory", "ephemeral_storage"):
            if parse_quantity(getattr(self.resources, name)) > parse_quantity(getattr(self.max_resources, name)):
                raise ValueError(f"resources.{name} is more than max_resources.{name}")
        if self.timeout_seconds > self.max_timeout_seconds:
            raise ValueError("timeout_seconds is more than max_timeout_seconds")
        if self.gpu.count > self.gpu.max_count:
            raise ValueError("gpu.count is more than gpu.max_count")
        if "python" in self.languages:
            raise ValueError("languages.python is built in; leave it out")
        return self

    @property
    def longest_seconds(self) -> float:
        """What its longest call may take, start and end included."""
        return self.start_seconds + self.max_timeout_seconds + self.grace_seconds

    def digest(self) -> str:
        """Twelve hex digits that change whenever anything of the template does."""
        whose, digest = self._digest
        if whose != id(self):  # pydantic copies what is cached, too
            del self.__dict__["_digest"]
            _, digest = self._digest
        return digest

    @cached_property
    def _digest(self) -> tuple[int, str]:
        return id(self), hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]
