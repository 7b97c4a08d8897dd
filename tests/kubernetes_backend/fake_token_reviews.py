"""TokenReview as the API server does it: by the audiences it is asked for, and without a word why a token is bad."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from dataclasses import dataclass, field

from aiohttp import web

PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
AUDIENCE = "executor"


@dataclass
class FakeTokenReviews:
    """Knows the tokens it has made, until they are revoked. ``asked`` are those it was shown."""

    asked: list[str] = field(default_factory=list)
    aware: bool = True
    """Whether it knows what an audience is; the oldest don't."""
    forbidden: bool = False
    at_once: int = 0
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self._known: dict[str, tuple[str, list[str]]] = {}
        self.answering = asyncio.Event()
        self.answering.set()

    def token(
        self, namespace: str = "acme", account: str = "agent", audience: str = AUDIENCE, seconds: float = 3600
    ) -> str:
        """Make a token as the TokenRequest API does."""
        subject = f"system:serviceaccount:{namespace}:{account}"
        token = written(
            {"aud": [audience], "exp": int(time.time() + seconds), "sub": subject, "jti": str(len(self._known))}
        )
        self._known[token] = (subject, [audience])
        return token

    def revoke(self, token: str) -> None:
        """Forget it, as when its pod is deleted."""
        del self._known[token]

    def knows(self, token: str, user: str) -> None:
        """Let a token be somebody's."""
        self._known[token] = (user, [AUDIENCE])

    def routes(self) -> list[web.RouteDef]:
        """For the fake's router."""
        return [web.post(PATH, self._review)]

    async def _review(self, request: web.Request) -> web.Response:
        if self.forbidden:
            message = 'tokenreviews.authentication.k8s.io is forbidden: User "u" cannot create resource "tokenreviews"'
            return web.json_response(
                {"kind": "Status", "code": 403, "reason": "Forbidden", "message": message}, status=403
            )
        spec = (await request.json())["spec"]
        self.asked.append(spec["token"])
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.answering.wait()
        self.at_once -= 1
        return web.json_response({"kind": "TokenReview", "status": self._status(spec)}, status=201)

    def _status(self, spec: dict[str, object]) -> dict[str, object]:
        wanted = spec["audiences"]
        assert isinstance(wanted, list)
        user, audiences = self._known.get(str(spec["token"]), ("", []))
        common = [name for name in wanted if name in audiences]
        if not user or (self.aware and not common):
            return {"user": {}, "error": "[invalid bearer token, token audiences don't match]"}
        return {"authenticated": True, "user": {"username": user}} | ({"audiences": common} if self.aware else {})


def written(claims: dict[str, object]) -> str:
    """A token with these claims, whose signature only the fake can judge."""
    parts = ({"alg": "RS256", "kid": "cluster"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])
