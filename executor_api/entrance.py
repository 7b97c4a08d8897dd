"""Composition root of the ways to tell callers: put together as the settings say, and examined."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from executor_api.domain.caller import Scope
from executor_api.domain.finding import Finding, fail, ok
from executor_api.errors import ConfigurationError, UnavailableError
from executor_api.http.auth.api_keys import FileKeys
from executor_api.http.auth.key_file import read_keys
from executor_api.http.auth.token_review import ServiceAccountTokens
from executor_api.http.auth.ways import SingleKey, Way
from executor_api.settings import Settings

if TYPE_CHECKING:
    from executor_api.http.auth.oidc import OidcTokens


def ways_to_tell(settings: Settings, environ: Mapping[str, str]) -> list[Way]:
    """The ways to tell callers that the settings open; none if they ask for none. Raises `ConfigurationError`."""
    ways: list[Way] = []
    if settings.api_key:
        ways.append(SingleKey(settings.api_key))
    if settings.api_keys:
        ways.append(FileKeys(Path(settings.api_keys)))
    if settings.oidc_issuer or settings.oidc_audience:
        ways.append(_oidc(settings))
    if settings.token_review_audience:
        ways.append(_token_review(settings, environ))
    return ways


async def examine(settings: Settings, environ: Mapping[str, str], tell: Callable[[Finding], None]) -> None:
    """Whether keys can be read, and those who know whose a token is be asked; ``tell`` gets each finding at once."""
    if settings.api_keys:
        tell(_examine_keys(Path(settings.api_keys)))
    if settings.oidc_issuer or settings.oidc_audience:
        tell(await _examine_oidc(settings))
    if settings.token_review_audience:
        tell(await _examine_token_review(settings, environ))


def _examine_keys(path: Path) -> Finding:
    check = "API keys"
    try:
        keys = read_keys(path)
    except ConfigurationError as error:
        return fail(check, str(error))
    expired = sum(key.expired(time.time()) for key in keys)
    return ok(check, f"{len(keys)} in {path}, of which {expired} expired")


async def _examine_oidc(settings: Settings) -> Finding:
    check = "OIDC issuer"
    try:
        way = _oidc(settings)
    except ConfigurationError as error:
        return fail(check, str(error))
    try:
        keys = await way.keys.fetch()
    except UnavailableError as error:
        return fail(check, str(error))
    finally:
        await way.close()
    return ok(check, f"{settings.oidc_issuer} signs with {len(keys)} keys that can be used")


def _oidc(settings: Settings) -> OidcTokens:
    for name in ("oidc_issuer", "oidc_audience", "oidc_tenant_claim"):
        if not getattr(settings, name):
            raise ConfigurationError(
                f"tokens of an OpenID Connect issuer need --{name.replace('_', '-')} (EXECUTOR_{name.upper()}) too"
            )
    try:
        from executor_api.http.auth.issuer_keys import IssuerKeys  # noqa: PLC0415 - an extra
        from executor_api.http.auth.oidc import Claims, OidcTokens  # noqa: PLC0415 - the same
    except ImportError as error:
        raise _missing(error, "auth") from None
    claims = Claims(settings.oidc_audience, settings.oidc_tenant_claim, _scopes(settings.oidc_default_scopes))
    return OidcTokens(IssuerKeys(settings.oidc_issuer), claims)


def _scopes(text: str) -> frozenset[Scope]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in set(Scope):
            raise ConfigurationError(
                f"--oidc-default-scopes: there is no scope {name!r}; there are {', '.join(Scope)}, with commas between"
            )
    return frozenset(map(Scope, names))


async def _examine_token_review(settings: Settings, environ: Mapping[str, str]) -> Finding:
    try:
        found: Finding = await _kubernetes().examine(settings.kubeconfig, settings.context, environ)
    except ConfigurationError as error:
        return fail("token review", str(error))
    return found


def _token_review(settings: Settings, environ: Mapping[str, str]) -> Way:
    audience = settings.token_review_audience
    reviewer = _kubernetes().TokenReviewer(audience, settings.kubeconfig, settings.context, environ)
    return ServiceAccountTokens(audience, reviewer)


def _kubernetes() -> ModuleType:
    try:
        from executor_api.backends.kubernetes import token_review  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _missing(error, "kubernetes") from None
    return token_review


def _missing(error: ImportError, extra: str) -> ConfigurationError:
    return ConfigurationError(
        f"such tokens need a package that is not here ({error.name}); "
        f"install it with: pip install 'executor-api[{extra}]'"
    )
