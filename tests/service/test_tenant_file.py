"""Files of limits: what is taken, what an entry inherits, and how a mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from executor_api.domain.tenant import NO_LIMITS, TenantLimits
from executor_api.errors import ConfigurationError
from executor_api.service.tenant_file import TenantFile

TEMPLATES = ("default", "gpu")


def write(folder: Path, text: str) -> TenantFile:
    path = folder / "tenants.yaml"
    path.write_text(text)
    return TenantFile(str(path))


def test_no_file_means_no_limits() -> None:
    """An empty path limits nobody."""
    assert TenantFile("").reload(TEMPLATES) is NO_LIMITS


def test_an_entry_is_as_default_in_what_it_leaves_out(tmp_path: Path) -> None:
    """Null lifts a limit for one tenant; those without an entry have the default's, also one that is called so."""
    text = """\
default: {rate: 5, max_queue: 10, templates: [default]}
tenants:
  big: {rate: 50, burst: 200, templates: null}
  default: {max_concurrency: 1}
"""
    tenants = write(tmp_path, text).reload(TEMPLATES)
    assert tenants.of("anybody") == TenantLimits(rate=5, max_queue=10, templates=("default",))
    assert tenants.of("big") == TenantLimits(rate=50, burst=200, max_queue=10)
    assert tenants.of("default") == TenantLimits(rate=5, max_queue=10, max_concurrency=1, templates=("default",))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("tenants: {a: {rate: 0}}", "1:21: tenants.a.rate: must be greater than 0"),
        ("tenants: {a: {rate: .inf}}", "1:21: tenants.a.rate: must be a finite number"),
        ("default: {max_queue: -1}", "1:22: default.max_queue: must be greater than or equal to 0"),
        (
            "tenants:\n  a:\n    max_concurency: 1",
            "3:5: tenants.a.max_concurency: unknown field; did you mean 'max_concurrency'? There are: burst, max_conc",
        ),
        ("limits: {}", "1:1: limits: unknown field; There are: default, tenants"),
        ("tenants: {a: {burst: 2}}", "1:22: tenants.a.burst: has no meaning without a rate"),
        (
            "default: {templates: [default, gpus]}",
            "1:32: default.templates[1]: there is no template 'gpus'; there are: default, gpu",
        ),
        ("tenants: {a: {templates: []}}", "1:26: tenants.a.templates: "),
        ("tenants: {a: {}, a: {}}", "1:18: 'a' appears twice in this mapping"),
    ],
)
def test_a_mistake_is_placed_and_explained(tmp_path: Path, text: str, line: str) -> None:
    """Each mistake names file, line and column, the field, and what is allowed there."""
    with pytest.raises(ConfigurationError) as raised:
        write(tmp_path, text).reload(TEMPLATES)
    assert str(raised.value).startswith(f"{tmp_path}/tenants.yaml:{line}")


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    """In the order of the file."""
    text = "tenants:\n  a: {burst: 2}\n  b: {templates: [x]}\ndefault: {templates: [y]}\n"
    with pytest.raises(ConfigurationError) as raised:
        write(tmp_path, text).reload(TEMPLATES)
    assert [line.split(": ")[1] for line in str(raised.value).splitlines()] == [
        "tenants.a.burst",
        "tenants.b.templates[0]",
        "default.templates[0]",
    ]
