"""An OpenID Connect issuer over real HTTP, with real keys: it publishes some, signs with any, and can be away."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import time
from typing import Any, Self

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

AUDIENCE = "executor"
ALGORITHMS = {"rsa": "RS256", "p256": "ES256", "p384": "ES384", "ed": "EdDSA"}
"""What a key of this kind signs with unless told otherwise."""


@functools.cache
def private_key(kid: str) -> Any:
    """The key of this name, made when it is first asked for; what stands before a dash is its kind."""
    kind = kid.partition("-")[0]
    if kind == "rsa":
        return rsa.generate_private_key(65537, 1024 if kid.endswith("-short") else 2048)
    if kind == "ed":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1() if kind == "p256" else ec.SECP384R1())


def published(kid: str, **members: str) -> dict[str, Any]:
    """The public half as a JSON Web Key."""
    algorithm = jwt.get_algorithm_by_name(ALGORITHMS[kid.partition("-")[0]])
    return {**algorithm.to_jwk(private_key(kid).public_key(), as_dict=True), "kid": kid, "use": "sig", **members}


class Issuer:
    """Use it as an async context manager. ``asked`` are the paths of the requests that came."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [published(kid) for kid in ALGORITHMS]
        self.asked: list[str] = []
        self.name: str | None = None
        """What it calls itself, if that is not where it is."""
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """The issuer's name, and where it is."""
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.come()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.go()

    async def come(self) -> None:
        """Listen, on the same port as before if there was one."""
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/keys", self._keys)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()
        self._port = self._runner.addresses[0][1]

    async def go(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner = None

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Of a good token; None leaves one out."""
        now = int(time.time())
        good = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "alice",
            "tenant": "acme",
            "iat": now,
            "exp": now + 300,
            "scope": "openid executor:execute executor:read",
        }
        return {name: value for name, value in (good | changes).items() if value is not None}

    def token(
        self, kid: str = "rsa", *, alg: str = "", header: dict[str, Any] | None = None, key: str = "", **changes: Any
    ) -> str:
        """A token signed by the key of this name, or by another that only claims to be it."""
        named = alg or ALGORITHMS[kid.partition("-")[0]]
        written = {"alg": named, "typ": "JWT", "kid": kid} | (header or {})
        head = {name: value for name, value in written.items() if value is not None}
        signed = f"{part(head)}.{part(self.claims(**changes))}"
        signature = jwt.get_algorithm_by_name(named).sign(signed.encode(), private_key(key or kid))
        return f"{signed}.{encoded(signature)}"

    def token_by_public_key(self, kid: str = "rsa") -> str:
        """The old forgery: HS256 with what everybody can read as its secret."""
        secret = private_key(kid).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        signed = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': kid})}.{part(self.claims())}"
        return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), hashlib.sha256))}"

    async def _discovery(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        return web.json_response({"issuer": self.name or self.url, "jwks_uri": f"{self.url}/keys"})

    async def _keys(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        return web.json_response({"keys": self.keys})


def part(value: object) -> str:
    """One part of a token."""
    return encoded(json.dumps(value).encode())


def encoded(data: bytes) -> str:
    """Base64 as tokens have it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
