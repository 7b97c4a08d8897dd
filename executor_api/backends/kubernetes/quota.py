"""Whether a namespace's ResourceQuotas have room for the sandboxes wanted. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from executor_api.domain.finding import Finding, fail, ok, warn
from executor_api.domain.quantity import parse_quantity

CHECK = "quota"
_SHORT = ("cpu", "memory", "ephemeral-storage")
"""A quota may name requests of these without a prefix."""
_OTHER_PODS = {"BestEffort", "NotTerminating"}
"""Scopes that no sandbox is in: all have requests and a deadline."""
_MEBI = 1024 * 1024

Amounts = Mapping[str, Fraction]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Sandboxes of one template: what one asks of a quota, and how many are to wait."""

    template: str
    one: Amounts
    pool: int


def demand(pod: Mapping[str, Any]) -> Amounts:
    """What a pod with this spec, and its Job, count against a quota."""
    found = dict.fromkeys(("pods", "count/pods", "count/jobs.batch"), Fraction(1))
    for container in pod["containers"]:
        for kind in ("requests", "limits"):
            for name, text in container["resources"][kind].items():
                keys = (f"{kind}.{name}", name) if kind == "requests" and name in _SHORT else (f"{kind}.{name}",)
                for key in keys:
                    found[key] = found.get(key, Fraction(0)) + parse_quantity(str(text))
    return found


def judge(quotas: Sequence[Mapping[str, Any]], wanted: Sequence[Wanted]) -> list[Finding]:
    """Room for one sandbox of each template, and for all pools and one more beside them."""
    concerned = [item for item in quotas if not _is_for_others(item)]
    if not concerned:
        return [ok(CHECK, "no ResourceQuota limits sandboxes")]
    found = [text for quota in concerned for item in wanted if (text := _no_room_for_one(quota, item))]
    if found:
        return [fail(CHECK, text) for text in found]
    found = [text for quota in concerned if (text := _no_room_for_all(quota, wanted))]
    names = ", ".join(item["metadata"]["name"] for item in concerned)
    return [warn(CHECK, text) for text in found] or [ok(CHECK, f"{names}: room for every pool and one sandbox more")]


def _is_for_others(quota: Mapping[str, Any]) -> bool:
    """A quota of a priority class is taken for another's, too: which class a pod gets is not known here."""
    spec = quota["spec"]
    return bool(_OTHER_PODS & set(spec.get("scopes") or ()) or spec.get("scopeSelector"))


def _no_room_for_one(quota: Mapping[str, Any], item: Wanted) -> str:
    lacking = _lacking(quota, item.one)
    if not lacking:
        return ""
    return f"{lacking} for a sandbox of template {item.template!r}; raise it, or lower the template's resources"


def _no_room_for_all(quota: Mapping[str, Any], wanted: Sequence[Wanted]) -> str:
    names = {name for item in wanted for name in item.one}
    pools = {name: sum((item.one.get(name, Fraction(0)) * item.pool for item in wanted), Fraction(0)) for name in names}
    lacking = _lacking(quota, {name: amount + wanted[0].one.get(name, Fraction(0)) for name, amount in pools.items()})
    return f"{lacking} for every pool and one sandbox more; raise it, or make pools smaller" if lacking else ""


def _lacking(quota: Mapping[str, Any], amounts: Amounts) -> str:
    """What the quota has too little of, in words; empty: nothing."""
    status = quota.get("status") or {}
    hard, used = status.get("hard") or quota["spec"].get("hard") or {}, status.get("used") or {}
    lacking = [
        f"{_text(amounts[name])} of {name} where {used.get(name, '0')} of {limit} is in use"
        for name, limit in hard.items()
        if name in amounts and amounts[name] > parse_quantity(limit) - parse_quantity(used.get(name, "0"))
    ]
    return f"ResourceQuota {quota['metadata']['name']} lacks {', '.join(lacking)}," if lacking else ""


def _text(amount: Fraction) -> str:
    if amount >= _MEBI:
        return f"{float(amount / _MEBI):.15g}Mi"
    return str(amount) if amount.denominator == 1 else f"{float(amount * 1000):.15g}m"
