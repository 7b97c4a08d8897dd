"""The Jobs of this service: for one call, for the pool, for one tenant's calls. Renders each template once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import Any, NamedTuple

from executor_api.backends.base import Claim
from executor_api.backends.kubernetes.job_template import Tree, load_skeleton
from executor_api.backends.kubernetes.manifests import JobValues, build_job, sandbox_digest
from executor_api.backends.kubernetes.owner import Owner
from executor_api.backends.kubernetes.settings import KubernetesSettings
from executor_api.backends.kubernetes.snapshot import JobState
from executor_api.domain.plan import Plan, SandboxResources, plan
from executor_api.domain.request import ExecutionRequest, Isolation
from executor_api.domain.template import Template
from executor_runner.protocol.tokens import sandbox_token, token_hash

_SINGLE_USE = {"isolation": Isolation.SINGLE_USE}
_IDLE_SPREAD = 1.5
"""A pooled sandbox is retired well before its Job's own deadline, which must not end a call it has by then."""


class _Fate(NamedTuple):
    """What a Job is for: the seconds until its runner has ended by itself, its state, its call, nodes to keep off."""

    seconds: int
    state: JobState
    execution_id: str
    keep_off: frozenset[str]


class JobFactory:
    """Makes Job objects; knows the templates in force, and others as long as a call still has one."""

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        self.owner = Owner(settings.namespace, settings.owner_lease)
        self._skeletons: dict[str, Tree] = {}

    def use(self, templates: Mapping[str, Template]) -> None:
        """Read the Job template of each. Raises `ConfigurationError`; then those before stay in use."""
        self._skeletons = {item.digest(): load_skeleton(item, self._settings.image) for item in templates.values()}

    def digest(self, template: Template, resources: SandboxResources) -> str:
        """Tells sandboxes apart that are made from different things."""
        return sandbox_digest(self._skeleton(template), template, resources)

    def token(self, name: str) -> str:
        """The token of a sandbox."""
        return sandbox_token(self._settings.master_key, name)

    def image(self, template: Template) -> str:
        """The image of a template's sandboxes."""
        return template.image or self._settings.image

    def for_call(self, name: str, claim: Claim, keep_off: frozenset[str] = frozenset()) -> Tree:
        """A Job born claimed. With GPUs it keeps off these nodes while there are others."""
        reused = claim.plan.request.isolation is Isolation.REUSE
        seconds = reuse_deadline(claim.plan) if reused else claim.plan.deadline_seconds
        state = JobState.REUSED if reused else JobState.CLAIMED
        fate = _Fate(seconds, state, claim.execution_id, keep_off)
        return self._build(name, claim.plan.template, claim.plan.resources, fate)

    def for_pool(
        self, name: str, template: Template, resources: SandboxResources, keep_off: frozenset[str] = frozenset()
    ) -> Tree:
        """A Job that waits for a call; with GPUs, on none of these nodes.

        Its deadline leaves room for the longest call at the end of the longest wait.
        """
        seconds = ceil(_IDLE_SPREAD * template.pool.max_idle_seconds + template.longest_seconds)
        return self._build(name, template, resources, _Fate(seconds, JobState.WAITING, "", keep_off))

    def _build(self, name: str, template: Template, resources: SandboxResources, fate: _Fate) -> Tree:
        values = JobValues(
            name=name,
            namespace=self._settings.namespace,
            execution_id=fate.execution_id,
            service_id=self._settings.service_id,
            token_hash=token_hash(self.token(name)),
            resources=resources,
            deadline_seconds=fate.seconds,
            digest=self.digest(template, resources),
            state=fate.state,
            keep_off=fate.keep_off,
        )
        return self.owner.mark(build_job(self._skeleton(template), template, values))

    def _skeleton(self, template: Template) -> Tree:
        digest = template.digest()
        if digest not in self._skeletons:
            self._skeletons[digest] = load_skeleton(template, self._settings.image)
        return self._skeletons[digest]


def reuse_deadline(of: Plan) -> int:
    """Seconds in which a sandbox for reuse has left by itself."""
    template = of.template
    return ceil(template.reuse.max_age_seconds + template.reuse.max_idle_seconds + template.longest_seconds)


def single_use(template: Template, **call: Any) -> Plan:
    """A call that asks for nothing but the template's defaults, and for a sandbox that goes with it.

    ``call``: what it runs, if that matters.
    """
    what = call or {"command": "true"}
    request = ExecutionRequest(**what, template=template.name, isolation=template.isolation[0])
    return replace(plan(request, {template.name: template}), request=request.model_copy(update=_SINGLE_USE))
