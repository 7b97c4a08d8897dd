"""Callers with a token of an OpenID Connect issuer: a JWT that it signed for this service."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
import structlog

from executor_api.domain.caller import TENANT_PATTERN, Caller, Scope
from executor_api.http.auth.issuer_keys import ALGORITHMS, IssuerKeys, VerifyingKey
from executor_api.http.auth.peek import peek
from executor_api.http.auth.ways import ExpiredError, Way

LEEWAY_SECONDS = 30.0
"""How far the issuer's clock and ours may differ."""
SCOPE_PREFIX = "executor:"
"""Before our scopes in a token, which may have other audiences too, and their ``read`` is not ours."""
_SCOPE_CLAIMS = ("scope", "scp", "roles")
_MOST_CHARACTERS = 256
_TENANT = re.compile(TENANT_PATTERN)
_OPTIONS: Any = {"require": ["iss", "aud", "exp", "sub"], "enforce_minimum_key_length": True}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Claims:
    """What tokens must say. ``default_scopes`` are those of a token that names none of ours."""

    audience: str
    tenant: str
    default_scopes: frozenset[Scope] = frozenset()


class OidcTokens(Way):
    """Knows the tokens of one issuer, and leaves all others to others."""

    def __init__(self, keys: IssuerKeys, claims: Claims) -> None:
        self.keys = keys
        self._claims = claims

    async def caller(self, credentials: str) -> Caller | None:
        """Whom the issuer names. Raises `ExpiredError`, and `UnavailableError` if its keys can't be had."""
        seen = peek(credentials)
        if seen is None or seen.claims.get("iss") != self.keys.issuer or seen.text("alg") not in ALGORITHMS:
            return None
        key = await self.keys.find(seen.text("kid"), seen.text("alg"))
        try:
            return caller_of(self._verified(credentials, key), self._claims)
        except jwt.ExpiredSignatureError:
            raise ExpiredError("this token has expired; get a new one from its issuer") from None
        except jwt.PyJWTError as error:
            _log.debug("token refused", why=str(error))  # for operators: who sent it is told nothing
            return None

    def _verified(self, token: str, key: VerifyingKey | None) -> Mapping[str, Any]:
        if key is None:
            raise jwt.InvalidKeyError("its issuer has no such key")
        return jwt.decode(
            token,
            key.key,
            algorithms=key.algorithms,
            options=_OPTIONS,
            audience=self._claims.audience,
            issuer=self.keys.issuer,
            leeway=LEEWAY_SECONDS,
        )

    async def notes(self) -> Sequence[str]:
        """That the issuer can't be asked."""
        return [self.keys.trouble] if self.keys.trouble else []

    async def close(self) -> None:
        """Ask the issuer no more."""
        await self.keys.close()


def caller_of(said: Mapping[str, Any], claims: Claims) -> Caller:
    """Who a token is for, once it is known to be genuine. Raises ``jwt.InvalidTokenError`` if it does not say it."""
    tenant, name = _text(said, claims.tenant), _text(said, "sub")
    if not _TENANT.fullmatch(tenant):
        raise jwt.InvalidTokenError(f"its claim {claims.tenant!r} can't be a tenant's name")
    return Caller(tenant, name, scopes_of(said) or claims.default_scopes, way="oidc")


def scopes_of(said: Mapping[str, Any]) -> frozenset[Scope]:
    """Our scopes among those of a token: a list, or one text with spaces between them."""
    values = [said.get(claim) for claim in _SCOPE_CLAIMS]
    listed = [value.split() if isinstance(value, str) else value for value in values]
    words = {word for value in listed if isinstance(value, list) for word in value if isinstance(word, str)}
    return frozenset(scope for scope in Scope if SCOPE_PREFIX + scope in words)


def _text(said: Mapping[str, Any], claim: str) -> str:
    value = said.get(claim)
    if isinstance(value, str) and 0 < len(value) <= _MOST_CHARACTERS and value.isprintable():
        return value
    raise jwt.InvalidTokenError(f"its claim {claim!r} is no text of 1 to {_MOST_CHARACTERS} printable characters")
