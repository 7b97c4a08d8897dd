"""Callers with a token of a service account: whole requests, a backend's own client, a fake API server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from support.http_service import Service, running

from executor_api.backends.kubernetes.token_review import TokenReviewer, examine
from executor_api.domain.finding import Verdict
from executor_api.errors import UnavailableError
from executor_api.http.auth.token_review import AT_ONCE, BAD_SECONDS, GOOD_SECONDS, MOST_WAITING, ServiceAccountTokens
from executor_api.settings import Settings
from kubernetes_backend.fake_apiserver import status
from kubernetes_backend.fake_token_reviews import AUDIENCE, PATH, FakeTokenReviews, written
from kubernetes_backend.world import World

EXPIRES = int(time.time()) + 3600
AGENT = "system:serviceaccount:acme:agent"


class Clock:
    """Stands still until told."""

    seconds = 100.0

    def __call__(self) -> float:
        """Tell the instant."""
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reviews(world: World) -> FakeTokenReviews:
    return world.api.token_reviews


@pytest.fixture
async def service(world: World, tmp_path: Path) -> AsyncIterator[Service]:
    settings = Settings(token_review_audience=AUDIENCE, kubeconfig=str(world.kubeconfig()), api_key="s3cret")
    async with running(tmp_path, settings) as found:
        yield found


@pytest.fixture
async def way(world: World, clock: Clock) -> AsyncIterator[ServiceAccountTokens]:
    """The way without its door, on a clock of the test's."""
    began, start = time.time(), clock.seconds
    reviewer = TokenReviewer(AUDIENCE, str(world.kubeconfig()), "", {})
    found = ServiceAccountTokens(AUDIENCE, reviewer, clock, lambda: began + clock.seconds - start)
    yield found
    await found.close()


async def _run(service: Service, token: str) -> httpx.Response:
    return await service.client.post("/execute", json={"code": "1"}, headers=_shown(token))


def _shown(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def _notes(service: Service) -> list[str]:
    """What /readyz says, beside the words of the scripted backend."""
    return [note for note in (await service.client.get("/readyz")).json()["notes"] if note != "scripted"]


async def test_service_accounts_call_for_their_namespace(service: Service, reviews: FakeTokenReviews) -> None:
    """They may run and look, not measure; one of another namespace finds nothing; keys stay good."""
    ours, others = reviews.token(), reviews.token("other")
    execution = (await _run(service, ours)).json()["id"]
    path = f"/executions/{execution}"
    assert (await service.client.get(path, headers=_shown(ours))).status_code == 200
    assert (await service.client.get(path, headers=_shown(reviews.token(account="second")))).status_code == 200
    assert (await service.client.get(path, headers=_shown(others))).status_code == 404
    assert (await service.client.get("/metrics", headers=_shown(ours))).status_code == 403
    assert (await _run(service, "s3cret")).status_code == 200


async def test_bad_tokens(service: Service, reviews: FakeTokenReviews) -> None:
    """Nothing runs for what is not good for us; the API server is asked only about what may be."""
    claims: dict[str, object] = {"aud": [AUDIENCE], "exp": EXPIRES, "sub": AGENT}
    never_asked = {
        "for another audience": reviews.token(audience="vault"),
        "for the API server": written({**claims, "aud": ["https://kubernetes.default.svc"]}),
        "that never expires": written({"iss": "kubernetes/serviceaccount", "sub": AGENT}),
        "that is over": reviews.token(seconds=-1),
        "of a person": written({**claims, "sub": "alice"}),
        "of an odd account": written({**claims, "sub": AGENT + ":more"}),
        "with odd claims": written({**claims, "aud": AUDIENCE, "exp": "never"}),
        "that is none": "not.a.token",
        "of nobody": "..",
    }
    asked = {
        "forged": written(claims),
        "revoked": reviews.token("gone"),
        "of somebody else": written(dict(claims, x=1)),
    }
    reviews.revoke(asked["revoked"])
    reviews.knows(asked["of somebody else"], "system:node:node-1")
    for token in (*never_asked.values(), *asked.values()):
        answer = await _run(service, token)
        assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthorized")
    assert set(reviews.asked) == set(asked.values())


async def test_an_api_server_that_knows_no_audiences(service: Service, reviews: FakeTokenReviews) -> None:
    """Its yes could be meant for any service: it is taken as a no."""
    reviews.aware = False
    assert (await _run(service, reviews.token())).status_code == 401


async def test_an_api_server_that_can_not_be_asked(world: World, service: Service, reviews: FakeTokenReviews) -> None:
    """Who is not known yet is kept out and told to come again, and /readyz says why; keys stay good."""
    known, unknown = reviews.token(), reviews.token("other")
    assert (await _run(service, known)).status_code == 200
    await world.api.stop()
    assert (await _run(service, known)).status_code == 200
    answer = await _run(service, unknown)
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
    assert answer.headers["retry-after"] == "1"
    assert world.api.url not in answer.text
    assert (await _run(service, "s3cret")).status_code == 200
    (note,) = await _notes(service)
    assert "can't be asked about tokens" in note
    await world.api.start()
    assert (await _run(service, unknown)).status_code == 200
    assert await _notes(service) == []


async def test_the_missing_right_is_named(world: World, service: Service, reviews: FakeTokenReviews) -> None:
    """Without leave to review tokens nobody gets in by one; /readyz and `doctor` name the verb and the way out."""
    reviews.forbidden = True
    assert (await _run(service, reviews.token())).status_code == 503
    (note,) = await _notes(service)
    world.api.denied = {"create tokenreviews"}
    finding = await examine(str(world.kubeconfig()), "", {})
    assert (finding.verdict, finding.text) == (Verdict.FAIL, note)
    assert "may not create tokenreviews.authentication.k8s.io" in note
    assert "system:auth-delegator" in note
    world.api.denied = set()
    assert (await examine(str(world.kubeconfig()), "", {})).verdict is Verdict.OK


async def test_doctor_without_an_api_server(world: World) -> None:
    """What is in the way is a finding."""
    path = str(world.kubeconfig())
    await world.api.stop()
    assert "can't be reached" in (await examine(path, "", {})).text
    assert "does not exist" in (await examine("/nowhere", "", {})).text


async def test_answers_are_remembered(way: ServiceAccountTokens, reviews: FakeTokenReviews, clock: Clock) -> None:
    """A yes holds for a minute, so one who is deleted is out after it; a no holds for seconds only."""
    token = reviews.token()
    for _ in range(3):
        assert await way.caller(token)
    assert len(reviews.asked) == 1
    reviews.revoke(token)
    clock.seconds += GOOD_SECONDS - 1
    assert await way.caller(token)
    clock.seconds += 2
    assert [await way.caller(token) for _ in range(3)] == [None] * 3
    assert len(reviews.asked) == 2
    reviews.knows(token, AGENT)
    clock.seconds += BAD_SECONDS + 1
    assert await way.caller(token)


async def test_no_answer_outlives_its_token(way: ServiceAccountTokens, reviews: FakeTokenReviews, clock: Clock) -> None:
    """A token that expires within the minute is refused from then on, without another question."""
    token = reviews.token(seconds=30)
    assert await way.caller(token)
    clock.seconds += 31
    assert await way.caller(token) is None
    assert len(reviews.asked) == 1


async def test_one_token_at_once_is_one_question(way: ServiceAccountTokens, reviews: FakeTokenReviews) -> None:
    """A hundred requests of an agent that just started; one that is given up takes none of the others with it."""
    token = reviews.token()
    reviews.answering.clear()
    leaving = asyncio.create_task(way.caller(token))
    staying = [asyncio.create_task(way.caller(token)) for _ in range(100)]
    await asyncio.sleep(0)
    leaving.cancel()
    reviews.answering.set()
    assert all(await asyncio.gather(*staying))
    assert reviews.asked == [token]


async def test_a_flood_of_forged_tokens(way: ServiceAccountTokens, reviews: FakeTokenReviews) -> None:
    """The API server sees a few at a time, whoever comes when too many wait is told to come again, and memory ends."""
    claims: dict[str, object] = {"aud": [AUDIENCE], "exp": EXPIRES, "sub": AGENT}
    forged = [written({**claims, "jti": number}) for number in range(MOST_WAITING + 100)]
    found = await asyncio.gather(*(way.caller(token) for token in forged), return_exceptions=True)
    assert found[:MOST_WAITING] == [None] * MOST_WAITING
    assert all(isinstance(error, UnavailableError) for error in found[MOST_WAITING:])
    assert len(reviews.asked) == MOST_WAITING
    assert reviews.most_at_once <= AT_ONCE
    assert await way.caller(reviews.token())


async def test_a_flood_does_not_keep_out_a_token_that_was_good(
    way: ServiceAccountTokens, reviews: FakeTokenReviews, clock: Clock
) -> None:
    """It is asked about again while forged ones take all places of their own."""
    token = reviews.token()
    assert await way.caller(token) is not None
    clock.seconds += GOOD_SECONDS + 1
    reviews.answering.clear()
    claims: dict[str, object] = {"aud": [AUDIENCE], "exp": EXPIRES, "sub": AGENT}
    forged = [written({**claims, "jti": number}) for number in range(MOST_WAITING)]
    flood = asyncio.gather(*(way.caller(token) for token in forged), return_exceptions=True)
    await _asked_at_once(reviews, AT_ONCE)
    again = asyncio.create_task(way.caller(token))
    await _asked_at_once(reviews, AT_ONCE + 1)
    reviews.answering.set()
    assert await again is not None
    await flood


async def _asked_at_once(reviews: FakeTokenReviews, count: int) -> None:
    async with asyncio.timeout(60):
        while reviews.at_once < count:  # noqa: ASYNC110 - the fake wakes nobody
            await asyncio.sleep(0.01)


async def test_a_busy_api_server(world: World, way: ServiceAccountTokens, reviews: FakeTokenReviews) -> None:
    """One that is busy is asked once more; one that stays so is as good as none."""
    world.api.fail("POST", PATH, lambda: status(429, "TooManyRequests", "busy"))
    assert await way.caller(reviews.token())
    world.api.fail("POST", PATH, lambda: status(500, "InternalError", "broken"), times=1000)
    with pytest.raises(UnavailableError):
        await way.caller(reviews.token("other"))


async def test_an_api_server_that_hangs(world: World, reviews: FakeTokenReviews) -> None:
    """Nobody waits for it for long, and it is none that says no."""
    reviews.answering.clear()
    reviewer = TokenReviewer(AUDIENCE, str(world.kubeconfig()), "", {}, patience=2)
    with pytest.raises(UnavailableError):
        await reviewer.review(reviews.token())
    assert "can't be asked about tokens (no answer)" in reviewer.trouble
    reviews.answering.set()
    assert await reviewer.review(reviews.token()) == AGENT
    assert reviewer.trouble == ""
    await reviewer.close()
