"""Plans: a request fitted into its template, with every default filled in, or every misfit named."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from executor_api.domain.plan import plan
from executor_api.domain.request import ExecutionRequest
from executor_api.domain.template import Template
from executor_api.errors import InvalidRequestError

TEMPLATES = {
    "default": Template(name="default"),
    "gpu": Template.model_validate(
        {
            "name": "gpu",
            "gpu": {"count": 1, "max_count": 4, "resources": ["nvidia.com/gpu", "amd.com/gpu"]},
            "isolation": ["single_use"],
        }
    ),
}


def planned(**fields: Any) -> Any:
    return plan(ExecutionRequest.model_validate({"code": "1", **fields}), TEMPLATES)


def test_defaults_are_the_templates() -> None:
    """A request that names nothing gets everything from its template."""
    made = planned()
    assert (made.timeout_seconds, made.resources.cpu, made.resources.gpu_count) == (60, "1", 0)
    assert (made.resources.memory_bytes, made.resources.storage_bytes) == (512 * 2**20, 2**30)
    assert made.deadline_seconds == 120 + 60 + 1


def test_what_is_asked_for_is_given() -> None:
    """Every field of a request that has a say overrides its template's."""
    resources = {
        "cpu": "250m",
        "memory": "1Gi",
        "ephemeral_storage": "2Gi",
        "gpu": {"count": 2, "resource": "amd.com/gpu"},
    }
    made = planned(template="gpu", timeout_seconds=0.5, resources=resources)
    given = made.resources
    assert (given.cpu, given.memory, given.ephemeral_storage) == ("250m", "1Gi", "2Gi")
    assert (given.gpu_count, given.gpu_resource, made.timeout_seconds) == (2, "amd.com/gpu", 0.5)
    assert planned(template="gpu").resources.gpu_count == 1
    assert planned(template="gpu", resources={"gpu": {"count": 0}}).resources.gpu_count == 0


@pytest.mark.parametrize(
    "resources", [{"cpu": "1000m"}, {"cpu": 1.0}, {"memory": "524288Ki"}, {"ephemeral_storage": "1073741824"}]
)
def test_the_default_in_other_words_is_the_default(resources: dict[str, Any]) -> None:
    """Who asks for just what the template gives gets the same kind of sandbox as who asks for nothing: one waits."""
    assert planned(resources=resources).resources == planned().resources


@pytest.mark.parametrize(
    ("fields", "where", "word"),
    [
        ({"template": "other"}, "template", "default, gpu"),
        ({"language": "cobol"}, "language", "python, bash"),
        ({"timeout_seconds": 3601}, "timeout_seconds", "3600"),
        ({"template": "gpu", "isolation": "reuse"}, "isolation", "single_use"),
        ({"resources": {"cpu": "4001m"}}, "resources.cpu", "4"),
        ({"resources": {"memory": "4.1Gi"}}, "resources.memory", "4Gi"),
        ({"resources": {"ephemeral_storage": "0"}}, "resources.ephemeral_storage", "10Gi"),
        ({"resources": {"gpu": {"count": 1}}}, "resources.gpu.count", "no GPU"),
        ({"template": "gpu", "resources": {"gpu": {"count": 5}}}, "resources.gpu.count", "4"),
        (
            {"template": "gpu", "resources": {"gpu": {"count": 1, "resource": "x.y/gpu"}}},
            "resources.gpu.resource",
            "nvidia.com/gpu, amd.com/gpu",
        ),
    ],
)
def test_a_misfit_names_its_field_and_what_is_allowed(fields: dict[str, Any], where: str, word: str) -> None:
    """The error is enough to correct the request."""
    with pytest.raises(InvalidRequestError) as refusal:
        planned(**fields)
    (problem,) = refusal.value.problems
    assert problem.field == where
    assert word in problem.message


def test_all_misfits_are_told_at_once() -> None:
    """Nobody has to correct a request one field at a time."""
    with pytest.raises(InvalidRequestError) as refusal:
        planned(language="cobol", timeout_seconds=9999, resources={"cpu": "9", "memory": "9Gi"})
    assert {p.field for p in refusal.value.problems} == {
        "language",
        "timeout_seconds",
        "resources.cpu",
        "resources.memory",
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "Upper"},
        {"name": "x" * 41},
        {"languages": {"python": {"argv": ["python", "{file}"]}}},
        {"languages": {"node": {"argv": ["node"]}}},
        {"resources": {"cpu": "5", "memory": "1Gi", "ephemeral_storage": "1Gi"}},
        {"timeout_seconds": 4000},
        {"gpu": {"count": 1}},
        {"surprise": 1},
    ],
)
def test_a_template_that_contradicts_itself_is_refused(fields: dict[str, Any]) -> None:
    """Defaults lie within limits, names are names, python is built in."""
    with pytest.raises(ValidationError):
        Template.model_validate({"name": "t", **fields})


def test_the_digest_follows_every_change() -> None:
    """Two templates have one digest exactly if they are equal, and a copy with changes has its own from the start."""
    base = Template(name="t")
    assert base.digest() == Template(name="t").digest() == base.model_copy().digest()
    assert base == Template(name="t")
    changed = [Template(name="u"), Template(name="t", env={"A": "b"}), base.model_copy(update={"grace_seconds": 2})]
    assert len({template.digest() for template in [base, *changed]}) == 4
    assert changed[-1].digest() == Template(name="t", grace_seconds=2).digest()
