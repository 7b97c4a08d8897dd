"""Operators' limits of tenants: a YAML file that is right as a whole, or refused with the place of every mistake."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from executor_api.domain.tenant import NO_LIMITS, TenantLimits, Tenants
from executor_api.service.yaml_model import Mistake, read_model, refusal
from executor_api.service.yaml_source import Location, YamlSource


@dataclass(frozen=True, slots=True)
class TenantFile:
    """The file at ``path``; an empty path stands for no limits."""

    path: str

    def reload(self, templates: Collection[str]) -> Tenants:
        """Read it anew, for a service with these templates. Each tenant's entry is complete then.

        Raises `ConfigurationError` with a line for each mistake; whoever holds the earlier limits then keeps them.
        """
        if not self.path:
            return NO_LIMITS
        said, source = read_model(Path(self.path), Tenants)
        tenants = said.filled()
        mistakes = [*_mistakes(source, ("default",), said.default, said.default, templates)]
        for name, limits in said.tenants.items():
            mistakes += _mistakes(source, ("tenants", name), limits, tenants.of(name), templates)
        if mistakes:
            raise refusal(mistakes)
        return tenants


def _mistakes(
    source: YamlSource, at: Location, said: TenantLimits, complete: TenantLimits, templates: Collection[str]
) -> Iterator[Mistake]:
    path = ".".join(str(part) for part in at)
    if said.burst is not None and complete.rate is None:
        yield Mistake(source.place((*at, "burst")), f"{path}.burst: has no meaning without a rate")
    for index, name in enumerate(said.templates or ()):
        if name not in templates:
            yield Mistake(
                source.place((*at, "templates", index)),
                f"{path}.templates[{index}]: there is no template {name!r}; there are: {', '.join(sorted(templates))}",
            )
