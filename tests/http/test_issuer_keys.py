"""When the keys of an issuer are asked for again, and how long they are good without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from support.issuer import Issuer, published

from executor_api.errors import ConfigurationError, UnavailableError
from executor_api.http.auth.issuer_keys import (
    LATE_SECONDS,
    REFRESH_SECONDS,
    RETRY_SECONDS,
    STALE_SECONDS,
    IssuerKeys,
    VerifyingKey,
    choose,
    usable,
)


class Clock:
    """Stands still until told."""

    seconds = 100.0

    def __call__(self) -> float:
        """Tell the instant."""
        return self.seconds


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer() as found:
        yield found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def keys(issuer: Issuer, clock: Clock) -> AsyncIterator[IssuerKeys]:
    found = IssuerKeys(issuer.url, clock)
    yield found
    await found.close()


async def test_rotation(issuer: Issuer, keys: IssuerKeys, clock: Clock) -> None:
    """A new key is known with the first token that it signed, one that is taken back at the next refresh."""
    assert await keys.find("rsa", "RS256")
    issuer.keys = [published("rsa-new")]
    assert await keys.find("rsa-new", "RS256") is None
    clock.seconds += RETRY_SECONDS + 1
    assert await keys.find("rsa", "RS256")
    assert await keys.find("rsa-new", "RS256")
    assert await keys.find("rsa", "RS256") is None
    assert issuer.asked.count("/keys") == 2


async def test_unknown_keys_are_asked_for_seldom(issuer: Issuer, keys: IssuerKeys, clock: Clock) -> None:
    """A flood of tokens by unknown keys, for a minute, makes six fetches."""
    await keys.find("rsa", "RS256")
    for second in range(60):
        clock.seconds += 1
        found = await asyncio.gather(*(keys.find(f"unknown-{second}-{n}", "RS256") for n in range(20)))
        assert set(found) == {None}
    assert issuer.asked.count("/keys") <= 1 + 60 / RETRY_SECONDS


async def test_old_keys_are_refreshed_beside_the_calls(issuer: Issuer, keys: IssuerKeys, clock: Clock) -> None:
    """Who comes when a refresh is due is served from what is there; one that was taken back is soon gone."""
    await keys.find("rsa", "RS256")
    issuer.keys = [published("rsa-new")]
    clock.seconds += REFRESH_SECONDS + 1
    assert await keys.find("rsa", "RS256")
    assert await keys.find("rsa-new", "RS256")
    assert await keys.find("rsa", "RS256") is None
    assert issuer.asked.count("/keys") == 2


async def test_after_a_quiet_time_new_keys_are_waited_for(issuer: Issuer, keys: IssuerKeys, clock: Clock) -> None:
    """A key that was taken back while nobody called does not open; an issuer that is away is waited for once only."""
    await keys.find("rsa", "RS256")
    issuer.keys = [published("rsa-new")]
    clock.seconds += LATE_SECONDS + 1
    assert await keys.find("rsa", "RS256") is None
    await issuer.go()
    clock.seconds += LATE_SECONDS + 1
    assert await keys.find("rsa-new", "RS256")
    assert keys.trouble
    assert await keys.find("rsa-new", "RS256")
    assert issuer.asked.count("/keys") == 2


async def test_an_issuer_that_is_away_for_long(issuer: Issuer, keys: IssuerKeys, clock: Clock) -> None:
    """Known keys are good for an hour without it, unknown ones can't be told; when it is back, all is well again."""
    await keys.find("rsa", "RS256")
    await issuer.go()
    clock.seconds += STALE_SECONDS - 1
    assert await keys.find("rsa", "RS256")
    with pytest.raises(UnavailableError):
        await keys.find("rsa-new", "RS256")
    assert "can't be fetched" in keys.trouble
    clock.seconds += 2
    with pytest.raises(UnavailableError) as refusal:
        await keys.find("rsa", "RS256")
    assert refusal.value.retry_after == pytest.approx(RETRY_SECONDS - 2)
    await issuer.come()
    clock.seconds += RETRY_SECONDS
    assert await keys.find("rsa", "RS256")
    assert keys.trouble == ""


async def test_first_fetch_is_one_for_all(issuer: Issuer, keys: IssuerKeys) -> None:
    """Those who come before there are keys wait for the same fetch; one who leaves does not stop it."""
    leaving = asyncio.create_task(keys.find("rsa", "RS256"))
    staying = [asyncio.create_task(keys.find("rsa", "RS256")) for _ in range(20)]
    await asyncio.sleep(0)
    leaving.cancel()
    assert all(await asyncio.gather(*staying))
    assert issuer.asked.count("/keys") == 1


async def test_documents_that_lie(issuer: Issuer, keys: IssuerKeys) -> None:
    """An issuer that calls itself otherwise, or publishes nothing of use, is refused with what to do."""
    issuer.name = issuer.url + "/"
    with pytest.raises(UnavailableError, match=r"calls itself .*give that as --oidc-issuer"):
        await keys.fetch()
    issuer.name = None
    issuer.keys = []
    with pytest.raises(UnavailableError, match="publishes no key"):
        await keys.fetch()


@pytest.mark.parametrize(
    "url", ["http://issuer.example", "ftp://x", "issuer.example", "", "https://", "http://[", "x:"]
)
def test_issuers_must_be_reached_safely(url: str) -> None:
    """Whoever could answer for an issuer on plain HTTP could let himself in; only this machine is exempt."""
    with pytest.raises(ConfigurationError, match="https://"):
        IssuerKeys(url)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"keys": None},
        {
            "keys": [
                "x",
                {},
                {"kty": "RSA"},
                {"kty": "RSA", "n": 1, "e": "AQAB"},
                {"kty": "EC", "crv": "P-256", "x": "!"},
            ]
        },
        {"keys": [{"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}, {"kty": ["RSA"]}, {"kty": "OKP", "crv": "X25519"}]},
        {"keys": [published("rsa", alg="HS256"), published("rsa", alg="none"), published("p256", alg="RS256")]},
    ],
)
def test_what_is_no_key(document: dict[str, object]) -> None:
    """Whatever a key set holds that can't be used is passed over."""
    assert usable(document) == ()


def test_choice() -> None:
    """By name and algorithm; without a name only if there is no doubt."""
    red, blue = VerifyingKey("red", ("RS256",), 1), VerifyingKey("blue", ("ES256",), 2)
    assert choose([red, blue], "red", "RS256") is red
    assert choose([red, blue], "red", "ES256") is None
    assert choose([red, blue], "", "ES256") is blue
    assert choose([red, red], "", "RS256") is None
