"""The keys that an OpenID Connect issuer signs with: found by discovery, kept, and asked for again in good time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import orjson
import structlog

from executor_api.errors import ConfigurationError, UnavailableError
from executor_api.http.auth.door import is_loopback

REFRESH_SECONDS = 300.0
"""How old keys may be before they are fetched again, beside the calls."""
LATE_SECONDS = 600.0
"""How old they may be, where nobody has called for a while, before one who calls waits for new ones."""
RETRY_SECONDS = 10.0
"""Least time between two attempts, whatever callers send."""
STALE_SECONDS = 3600.0
"""How long keys are good while their issuer can't be asked: it could not take one back meanwhile."""
FETCH_SECONDS = 5.0
_MOST_BYTES = 1024 * 1024
_OK = 200
_DISCOVERY = "/.well-known/openid-configuration"
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_ALGORITHMS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("RSA", ""): _RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
"""By type of key and curve. Only signatures that nobody can make with what is published."""
ALGORITHMS = frozenset(name for names in _ALGORITHMS.values() for name in names)
_PUBLIC = ("kty", "crv", "n", "e", "x", "y")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key, and what it may be used for."""

    kid: str  # empty: it has none
    algorithms: tuple[str, ...]
    key: Any


class IssuerKeys:
    """The keys of one issuer. ``clock`` gives monotonic seconds. Raises `ConfigurationError` for a URL of no issuer."""

    def __init__(self, issuer: str, clock: Callable[[], float] = time.monotonic) -> None:
        check_url(issuer, "--oidc-issuer")
        self.issuer = issuer
        self.trouble = ""
        """Why the last attempt to fetch them failed."""
        self._clock = clock
        self._keys: tuple[VerifyingKey, ...] = ()
        self._fetched: float | None = None
        self._tried: float | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._client = httpx.AsyncClient(
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            limits=httpx.Limits(max_keepalive_connections=0),
            timeout=FETCH_SECONDS,
        )

    async def find(self, kid: str, algorithm: str) -> VerifyingKey | None:
        """The key for a token with this header; None if the issuer has none such.

        Raises `UnavailableError` if that takes keys that can't be had now.
        """
        await self._keep_fresh()
        found = choose(self._keys, kid, algorithm)
        if found is None:
            await self._refreshed()
            found = choose(self._keys, kid, algorithm)
        if found is None and self.trouble:
            raise self._unavailable()
        return found

    async def fetch(self) -> tuple[VerifyingKey, ...]:
        """Ask the issuer now. Raises `UnavailableError` that says what is wrong."""
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                found = await self._get(self.issuer.rstrip("/") + _DISCOVERY)
                keys = usable(await self._get(_keys_url(found, self.issuer)))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ConfigurationError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UnavailableError(f"the keys of {self.issuer} can't be fetched: {reason[:200]}") from error
        if not keys:
            raise UnavailableError(f"{self.issuer} publishes no key for any of {', '.join(sorted(ALGORITHMS))}")
        return keys

    async def close(self) -> None:
        """Stop fetching."""
        if self._fetching is not None:
            self._fetching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._fetching
        await self._client.aclose()

    async def _keep_fresh(self) -> None:
        """See to it that the keys are not too old. Raises `UnavailableError` if they are."""
        age = self._age(self._fetched)
        if age > STALE_SECONDS or (age > LATE_SECONDS and not self.trouble):
            await self._refreshed()
        elif age > REFRESH_SECONDS:
            self._refresh()
        if self._age(self._fetched) > STALE_SECONDS:
            raise self._unavailable()

    async def _refreshed(self) -> None:
        """Wait for an attempt, unless the last one was just now."""
        fetching = self._refresh()
        if fetching is not None:
            await asyncio.shield(fetching)

    def _refresh(self) -> asyncio.Task[None] | None:
        """The attempt under way; a new one if it is time for one."""
        if self._fetching is None and self._age(self._tried) > RETRY_SECONDS:
            self._fetching = asyncio.create_task(self._try())
        return self._fetching

    async def _try(self) -> None:
        try:
            self._keys = await self.fetch()
            self._fetched, self.trouble = self._clock(), ""
        except UnavailableError as error:
            self.trouble = str(error)
            _log.warning("issuer not asked", problem=self.trouble)
        finally:
            self._tried, self._fetching = self._clock(), None

    async def _get(self, url: str) -> Mapping[str, Any]:
        body = b""
        async with self._client.stream("GET", url) as response:
            if response.status_code != _OK:
                raise ConfigurationError(f"{url} answers {response.status_code}")
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > _MOST_BYTES:
                    raise ConfigurationError(f"{url} answers more than {_MOST_BYTES} bytes")
        try:
            found = orjson.loads(body)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            raise ConfigurationError(f"{url} answers no JSON object")
        return found

    def _age(self, moment: float | None) -> float:
        return float("inf") if moment is None else self._clock() - moment

    def _unavailable(self) -> UnavailableError:
        wait = max(1.0, RETRY_SECONDS - self._age(self._tried))
        return UnavailableError("tokens can't be checked now: their issuer does not answer", wait)


def check_url(url: str, name: str) -> None:
    """Raise `ConfigurationError` unless nobody on the way can answer for this URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if not parts.hostname or (parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname))):
        raise ConfigurationError(
            f"{name} is {url!r}: it must begin with https://, or others could answer with keys of their own"
        )


def choose(keys: Iterable[VerifyingKey], kid: str, algorithm: str) -> VerifyingKey | None:
    """The key that a token names; of a token that names none, the only one that fits."""
    fitting = [key for key in keys if algorithm in key.algorithms]
    if not kid:
        return fitting[0] if len(fitting) == 1 else None
    return next((key for key in fitting if key.kid == kid), None)


def usable(document: Mapping[str, Any]) -> tuple[VerifyingKey, ...]:
    """Those of a key set (RFC 7517) that tokens may be signed with; what else is in it does not matter."""
    listed = document.get("keys")
    found = [_verifying_key(item) for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    return tuple(key for key in found if key is not None)


def _verifying_key(item: Mapping[str, Any]) -> VerifyingKey | None:
    possible = _ALGORITHMS.get((str(item.get("kty")), str(item.get("crv") or "")), ())
    algorithms = tuple(name for name in possible if item.get("alg") in (None, name))
    if not algorithms or item.get("use") not in (None, "sig"):
        return None
    public = {name: item[name] for name in _PUBLIC if name in item}
    try:
        return VerifyingKey(str(item.get("kid") or ""), algorithms, jwt.PyJWK(public, algorithms[0]).key)
    except jwt.PyJWTError:
        return None


def _keys_url(document: Mapping[str, Any], issuer: str) -> str:
    if document.get("issuer") != issuer:
        raise ConfigurationError(f"it calls itself {document.get('issuer')!r}; give that as --oidc-issuer")
    url = str(document.get("jwks_uri") or "")
    check_url(url, "its jwks_uri")
    return url
