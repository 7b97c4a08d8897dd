"""Callers with a token that an OpenID Connect issuer has signed: whole requests, a real issuer, real keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from support.http_service import Service, ServiceMaker
from support.issuer import AUDIENCE, Issuer, encoded, part, published

NOW = time.time()
LATER = int(NOW) + 3600
CODE = {"code": "1"}


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer() as found:
        yield found


async def _open(make_service: ServiceMaker, issuer: Issuer, **settings: Any) -> Service:
    return await make_service(oidc_issuer=issuer.url, oidc_audience=AUDIENCE, **settings)


def _shown(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def _run(service: Service, token: str) -> httpx.Response:
    return await service.client.post("/execute", json=CODE, headers=_shown(token))


def _altered(issuer: Issuer) -> str:
    header, _, signature = issuer.token().split(".")
    return f"{header}.{part(issuer.claims(tenant='victim'))}.{signature}"


BAD: dict[str, Callable[[Issuer], str]] = {
    "expired": lambda issuer: issuer.token(exp=int(NOW) - 60),
    "not yet good": lambda issuer: issuer.token(nbf=LATER),
    "issued in the future": lambda issuer: issuer.token(iat=LATER),
    "without an end": lambda issuer: issuer.token(exp=None),
    "with an end that is none": lambda issuer: issuer.token(exp="never"),
    "endless": lambda issuer: issuer.token(exp=float("inf")),
    "for another audience": lambda issuer: issuer.token(aud="billing"),
    "for other audiences": lambda issuer: issuer.token(aud=["billing", "executor2"]),
    "for nobody": lambda issuer: issuer.token(aud=None),
    "of another issuer": lambda issuer: issuer.token(iss="https://elsewhere.example"),
    "of an issuer alike": lambda issuer: issuer.token(iss=issuer.url + "/"),
    "of no issuer": lambda issuer: issuer.token(iss=None),
    "unsigned": lambda issuer: f"{part({'alg': 'none', 'kid': 'rsa'})}.{part(issuer.claims())}.",
    "unsigned, signature cut": lambda issuer: ".".join([*issuer.token().split(".")[:2], ""]),
    "unsigned by another spelling": lambda issuer: f"{part({'alg': 'nOnE', 'kid': 'rsa'})}.{part(issuer.claims())}.",
    "HS256 by the public key": lambda issuer: issuer.token_by_public_key(),
    "by an unknown key": lambda issuer: issuer.token("rsa-new"),
    "by a key that claims to be another": lambda issuer: issuer.token("rsa", key="rsa-new"),
    "by a key of another kind": lambda issuer: issuer.token("p256", header={"kid": "rsa"}),
    "by the wrong curve": lambda issuer: issuer.token("p384", header={"kid": "p256"}),
    "by a short key": lambda issuer: issuer.token("rsa-short"),
    "by a key for encryption": lambda issuer: issuer.token("p256-secret"),
    "without a key where several fit": lambda issuer: issuer.token(header={"kid": None}),
    "by a key without a name": lambda issuer: issuer.token(header={"kid": 7}),
    "with an extension": lambda issuer: issuer.token(header={"crit": ["exp"]}),
    "detached": lambda issuer: issuer.token(header={"b64": False, "crit": ["b64"]}),
    "altered": _altered,
    "huge": lambda issuer: issuer.token(padding="x" * 40_000),
    "deep": lambda issuer: f"{encoded(b'[' * 9000)}.{part(issuer.claims())}.x",
    "deep within": lambda _: f"{part({'alg': 'RS256', 'kid': 'rsa'})}.{encoded(b'[' * 9000)}.x",
    "no objects": lambda _: f"{part([])}.{part('x')}.x",
    "without a signature": lambda issuer: issuer.token().rpartition(".")[0],
    "one part": lambda issuer: issuer.token().replace(".", ""),
    "five parts": lambda issuer: issuer.token() + ".x.x",
    "garbage": lambda _: "eyJ.é.!!",
    "dots": lambda _: "..",
    "for no tenant": lambda issuer: issuer.token(tenant=None),
    "for an empty tenant": lambda issuer: issuer.token(tenant=""),
    "for two tenants": lambda issuer: issuer.token(tenant=["acme", "victim"]),
    "for a tenant with a line's end": lambda issuer: issuer.token(tenant="acme\n"),
    "for a tenant with an odd name": lambda issuer: issuer.token(tenant="../acme"),
    "for no person": lambda issuer: issuer.token(sub=None),
    "for a number": lambda issuer: issuer.token(sub=7),
}


async def test_bad_tokens(make_service: ServiceMaker, issuer: Issuer) -> None:
    """Nothing runs for a token that is not genuine, not for us, or not now; the answer does not say what is wrong."""
    issuer.keys += [published("rsa-short"), published("rsa-other"), published("p256-secret", use="enc")]
    service = await _open(make_service, issuer)
    let_in, told = {}, set()
    for kind, token in BAD.items():
        headers = {"Authorization": f"Bearer {token(issuer)}".encode()}
        answer = await service.client.post("/execute", json=CODE, headers=headers)
        if (answer.status_code, answer.headers.get("www-authenticate")) != (401, "Bearer"):
            let_in[kind] = answer.text
        elif kind != "expired":
            told.add(answer.text)
        else:
            assert "expired" in answer.json()["detail"]
    assert let_in == {}
    assert len(told) == 1
    assert (await _run(service, issuer.token())).status_code == 200
    listed = await service.client.get("/executions", headers=_shown(issuer.token()))
    assert len(listed.json()["executions"]) == 1


@pytest.mark.parametrize(
    ("kid", "alg"), [("rsa", "RS256"), ("rsa", "RS512"), ("rsa", "PS256"), ("p256", ""), ("p384", ""), ("ed", "")]
)
async def test_good_tokens(make_service: ServiceMaker, issuer: Issuer, kid: str, alg: str) -> None:
    """Every kind of key that issuers use; the clocks may differ a little, and we may be one of several audiences."""
    service = await _open(make_service, issuer)
    for changes in ({}, {"aud": ["billing", AUDIENCE]}, {"nbf": int(time.time()) + 10}, {"exp": int(time.time()) - 10}):
        assert (await _run(service, issuer.token(kid, alg=alg, **changes))).status_code == 200
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]


async def test_a_key_may_be_bound_to_one_algorithm(make_service: ServiceMaker, issuer: Issuer) -> None:
    """Where the issuer says what a key signs with, it is good for nothing else."""
    issuer.keys = [published("rsa", alg="PS256")]
    service = await _open(make_service, issuer)
    assert (await _run(service, issuer.token(alg="PS256"))).status_code == 200
    assert (await _run(service, issuer.token(alg="RS256"))).status_code == 401


async def test_an_issuer_with_one_key_need_not_name_it(make_service: ServiceMaker, issuer: Issuer) -> None:
    """The name of the key (kid) is optional."""
    issuer.keys = [published("p256"), {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}, {"kty": "new"}]
    service = await _open(make_service, issuer)
    assert (await _run(service, issuer.token("p256", header={"kid": None}))).status_code == 200


@pytest.mark.parametrize(
    ("claims", "run", "look", "measure"),
    [
        ({"scope": "executor:execute executor:read"}, 200, 200, 403),
        ({"scope": "executor:read"}, 403, 200, 403),
        ({"scope": None, "scp": ["executor:execute"]}, 200, 403, 403),
        ({"scope": None, "scp": "executor:read executor:admin"}, 403, 200, 200),
        ({"scope": "openid", "roles": ["executor:execute", 7]}, 200, 403, 403),
        ({"scope": "execute read admin executor:everything"}, 403, 403, 403),
        ({"scope": None}, 403, 403, 403),
        ({"scope": {"executor:read": True}}, 403, 403, 403),
    ],
)
async def test_scopes(
    make_service: ServiceMaker, issuer: Issuer, claims: dict[str, Any], run: int, look: int, measure: int
) -> None:
    """A token may do what it says under our prefix, wherever its issuer writes that, and nothing else."""
    service = await _open(make_service, issuer)
    token = issuer.token(**claims)
    assert (await _run(service, token)).status_code == run
    assert (await service.client.get("/executions", headers=_shown(token))).status_code == look
    assert (await service.client.get("/metrics", headers=_shown(token))).status_code == measure


async def test_default_scopes(make_service: ServiceMaker, issuer: Issuer) -> None:
    """For issuers that know no scopes an operator can say what a token may do that names none of ours."""
    service = await _open(make_service, issuer, oidc_default_scopes="read, execute")
    assert (await _run(service, issuer.token(scope="openid"))).status_code == 200
    assert (await _run(service, issuer.token(scope="executor:read"))).status_code == 403


async def test_the_tenant_is_the_claims(make_service: ServiceMaker, issuer: Issuer) -> None:
    """Executions belong to the tenant that the chosen claim names; another tenant's token finds nothing."""
    service = await _open(make_service, issuer, oidc_tenant_claim="https://acme.example/team")
    ours, theirs = (issuer.token(tenant=None, **{"https://acme.example/team": name}) for name in ("red", "blue"))
    execution = (await _run(service, ours)).json()["id"]
    path = f"/executions/{execution}"
    assert (await service.client.get(path, headers=_shown(ours))).status_code == 200
    assert (await service.client.get(path, headers=_shown(theirs))).status_code == 404
    assert (await _run(service, issuer.token(tenant="red"))).status_code == 401


async def test_other_ways_stay_open(make_service: ServiceMaker, issuer: Issuer) -> None:
    """A key still opens; a token of somebody else is not this issuer's business, which is not even asked."""
    service = await _open(make_service, issuer, api_key="s3cret")
    assert (await _run(service, "s3cret")).status_code == 200
    assert (await _run(service, issuer.token(iss="https://elsewhere.example"))).status_code == 401
    assert issuer.asked == []
    assert (await _run(service, issuer.token())).status_code == 200


async def test_a_crowd_of_unknown_keys(make_service: ServiceMaker, issuer: Issuer) -> None:
    """A hundred tokens at once, each by a key nobody knows, make the issuer be asked twice at the most."""
    service = await _open(make_service, issuer)
    tokens = [issuer.token("rsa", header={"kid": f"unknown-{number}"}) for number in range(100)]
    answers = await asyncio.gather(*(_run(service, token) for token in tokens))
    assert {answer.status_code for answer in answers} == {401}
    assert issuer.asked.count("/keys") == 1
    assert (await _run(service, issuer.token())).status_code == 200


async def test_an_issuer_that_is_away(make_service: ServiceMaker, issuer: Issuer) -> None:
    """Without its keys nobody is let in by a token and told to come again; an operator reads why in /readyz."""
    service = await _open(make_service, issuer, api_key="s3cret")
    token = issuer.token()
    await issuer.go()
    answer = await _run(service, token)
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
    assert 1 <= int(answer.headers["retry-after"]) <= 10
    assert issuer.url not in answer.text
    assert (await _run(service, "s3cret")).status_code == 200
    notes = (await service.client.get("/readyz")).json()["notes"]
    assert any(f"the keys of {issuer.url} can't be fetched" in note for note in notes)
