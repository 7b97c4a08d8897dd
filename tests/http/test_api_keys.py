"""Keys of a file in front of the service: who gets in, what each may do, and whose executions it sees."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.http_service import Service, ServiceMaker

from executor_api.app import check_exposure
from executor_api.domain.api_key import ApiKey, hash_of, key_text
from executor_api.domain.caller import ALL_SCOPES, Scope
from executor_api.http.auth.key_file import edit_keys
from executor_api.settings import Settings

ABSENT = "01JD0000000000000000000001"
NEEDED = {
    ("POST", "/execute"): Scope.EXECUTE,
    ("POST", "/executions"): Scope.EXECUTE,
    ("GET", "/executions"): Scope.READ,
    ("GET", "/executions/{execution_id}"): Scope.READ,
    ("DELETE", "/executions/{execution_id}"): Scope.EXECUTE,
    ("GET", "/executions/{execution_id}/events"): Scope.READ,
    ("GET", "/executions/{execution_id}/explain"): Scope.READ,
    ("GET", "/pool"): Scope.READ,
    ("GET", "/templates"): Scope.READ,
    ("GET", "/metrics"): Scope.ADMIN,
    ("GET", "/status"): Scope.ADMIN,
    ("GET", "/healthz"): None,
    ("GET", "/readyz"): None,
}
Headers = dict[str, str]


class KeyFile:
    """A file of keys that a test changes as `executor-api keys` would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        edit_keys(path, lambda keys: keys)

    def add(self, tenant: str, *scopes: Scope, **fields: Any) -> Headers:
        """Make a key and return what a client sends with it."""
        key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
        key = ApiKey(id=key_id, sha256=hash_of(secret), tenant=tenant, scopes=scopes or tuple(ALL_SCOPES), **fields)
        edit_keys(self.path, lambda keys: [*keys, key])
        return bearer(key_text(key_id, secret))

    def revoke(self, headers: Headers) -> None:
        """Take a key out of the file."""
        _, key_id, _ = headers["Authorization"].split("_")
        edit_keys(self.path, lambda keys: [key for key in keys if key.id != key_id])


def bearer(key: str) -> Headers:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.yaml")


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that must become true soon; fail if it does not."""
    deadline = time.monotonic() + 60
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def status(service: Service, headers: Headers) -> int:
    return (await service.client.get("/executions", headers=headers)).status_code


async def metric(service: Service, headers: Headers, sample: str) -> bool:
    return sample in (await service.client.get("/metrics", headers=headers)).text.splitlines()


async def test_what_is_no_key_is_refused_alike(make_service: ServiceMaker, keys: KeyFile) -> None:
    """An unknown id, a wrong secret, another's secret and all other near misses get one and the same 401."""
    good, other = keys.add("blue"), keys.add("red")
    service = await make_service(api_keys=str(keys.path))
    key, foreign = good["Authorization"].removeprefix("Bearer "), other["Authorization"].removeprefix("Bearer ")
    prefix, key_id, secret = key.split("_")
    wrong = [
        f"{prefix}_nobody_{secret}",
        f"{prefix}_{key_id}_{secret[:-1]}",
        f"{prefix}_{key_id}_{secret}0",
        f"{prefix}_{key_id}_{foreign.rpartition('_')[2]}",
        f"{prefix}_{key_id}_{hash_of(secret)}",
        f"{prefix}_{key_id}_",
        f"{prefix}_{key_id}",
        f"{prefix}__{secret}",
        f"EXK_{key_id}_{secret}",
        key.upper(),
        secret,
        "_",
        "__",
        "é_é_é",
    ]
    answers = [
        await service.client.get("/executions", headers={"Authorization": f"Bearer {text}".encode()}) for text in wrong
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {(401, answers[0].text)}
    assert answers[0].json()["type"] == "/problems/unauthorized"
    assert await metric(service, good, f'executor_auth_failures_total{{method="api_key"}} {float(len(wrong))}')
    assert (await status(service, good), await status(service, other)) == (200, 200)


async def test_a_key_ends_when_it_said(make_service: ServiceMaker, keys: KeyFile) -> None:
    """From that moment it gets 401 that says so, while others go on; both kinds of refusal are counted."""
    soon = datetime.now(UTC) + timedelta(seconds=6)
    ending, admin = keys.add("blue", expires=soon), keys.add("ops")
    service = await make_service(api_keys=str(keys.path))
    assert await status(service, ending) == 200

    async def refused() -> bool:
        return await status(service, ending) == 401

    await until(refused)
    assert datetime.now(UTC) >= soon
    detail = (await service.client.get("/executions", headers=ending)).json()["detail"]
    assert detail == f"this key expired at {soon:%Y-%m-%dT%H:%M:%SZ}; ask for a new one"
    for name in ("failures", "expired"):
        assert await metric(service, admin, f'executor_auth_{name}_total{{method="api_key"}} 2.0')


async def test_an_expired_key_is_one_only_with_its_secret(make_service: ServiceMaker, keys: KeyFile) -> None:
    """Who guesses learns nothing of ids that were once good."""
    ended = keys.add("blue", expires=datetime(2020, 1, 1, tzinfo=UTC))
    service = await make_service(api_keys=str(keys.path))
    answer = await service.client.get("/executions", headers=bearer(f"{ended['Authorization'][7:]}0"))
    assert (answer.status_code, "expired" in answer.text) == (401, False)


async def test_keys_come_and_go_while_the_service_runs(make_service: ServiceMaker, keys: KeyFile) -> None:
    """A revoked key is refused and a new one let in without a restart, soon after the file has changed."""
    old, kept = keys.add("blue"), keys.add("blue")
    service = await make_service(api_keys=str(keys.path))
    assert await status(service, old) == 200
    keys.revoke(old)
    new = keys.add("blue")

    async def changed() -> bool:
        return [await status(service, headers) for headers in (old, kept, new)] == [401, 200, 200]

    await until(changed)


async def test_a_single_key_may_stand_beside_the_file(make_service: ServiceMaker, keys: KeyFile) -> None:
    """Each opens its own tenant."""
    blue = keys.add("blue")
    service = await make_service(api_keys=str(keys.path), api_key="one for all")
    for headers in (blue, bearer("one for all")):
        made = await service.client.post("/execute", json={"code": "1"}, headers=headers)
        listed = await service.client.get("/executions", headers=headers)
        assert [execution["id"] for execution in listed.json()["executions"]] == [made.json()["id"]]


def test_with_keys_the_service_may_listen_anywhere(keys: KeyFile) -> None:
    """It asks everybody who calls."""
    check_exposure(Settings(host="0.0.0.0", api_keys=str(keys.path)))  # noqa: S104  nothing listens here


async def test_a_file_without_keys_lets_nobody_in(make_service: ServiceMaker, keys: KeyFile) -> None:
    """The service asks for keys all the same, and says to operators what is missing."""
    service = await make_service(api_keys=str(keys.path))
    assert await status(service, {}) == 401
    notes = (await service.client.get("/readyz")).json()["notes"]
    assert any("`executor-api keys create`" in note for note in notes)


@pytest.mark.parametrize("scope", Scope)
async def test_each_route_needs_its_scope(make_service: ServiceMaker, keys: KeyFile, scope: Scope) -> None:
    """A key with one scope gets 403 wherever another is needed, and never where its own is; the table has all."""
    headers = keys.add("blue", scope)
    service = await make_service(api_keys=str(keys.path))
    paths = service.document["paths"]
    assert {(method.upper(), path) for path in paths for method in paths[path]} == set(NEEDED)
    for (method, path), needed in NEEDED.items():
        for prefix in ("", "/v1") if path.startswith("/exec") else ("",):
            url = prefix + path.format(execution_id=ABSENT)
            body: dict[str, Any] = {"json": {"code": "1"}} if method == "POST" else {}
            answer = await service.client.request(method, url, headers=headers, **body)
            if needed in (scope, None):
                assert answer.status_code in (200, 404), (method, url)
            else:
                assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden"), (method, url)
                assert f"needs the scope {needed}" in answer.json()["detail"]
            without = await service.client.request(method, url, **body)
            assert without.status_code == (200 if needed is None else 401), (method, url)


async def test_without_read_a_cancelled_execution_tells_only_how_it_ended(
    make_service: ServiceMaker, keys: KeyFile
) -> None:
    """DELETE is no way to read what another caller of the tenant has printed, finished or running."""
    reader, other = keys.add("blue"), keys.add("blue", Scope.EXECUTE)
    service = await make_service(api_keys=str(keys.path))
    finished = (await service.client.post("/execute", json={"code": "secret"}, headers=reader)).json()
    running = await service.waiting(**reader)
    for execution_id, status_code in ((finished["id"], 200), (running, 202)):
        answer = await service.client.delete(f"/executions/{execution_id}", headers=other)
        assert answer.status_code == status_code
        shown = answer.json()
        assert [shown[name] for name in ("stdout", "stderr", "message", "value", "artifacts")] == ["", "", "", None, {}]
        assert shown["id"] == execution_id
    read = (await service.client.delete(f"/executions/{finished['id']}", headers=reader)).json()
    assert (read["stdout"], read["status"]) == ("secret", "succeeded")


REQUESTS: list[tuple[str, str, Headers]] = [
    ("GET", "", {}),
    ("GET", "", {"Prefer": "wait=1"}),
    ("GET", "/events", {}),
    ("GET", "/events?after=1", {}),
    ("GET", "/events", {"Last-Event-ID": "1"}),
    ("GET", "/explain", {}),
    ("DELETE", "", {}),
]


@pytest.mark.parametrize("prefix", ["/executions/", "/v1/executions/"])
@pytest.mark.parametrize(("method", "path", "more"), REQUESTS)
async def test_anothers_execution_is_as_one_that_never_was(
    make_service: ServiceMaker, keys: KeyFile, prefix: str, method: str, path: str, more: Headers
) -> None:
    """Finished or running: status, headers and body are those for an id that never was, and it goes on untouched."""
    mine, other = keys.add("mine"), keys.add("other")
    service = await make_service(api_keys=str(keys.path))
    finished = await service.client.post("/execute", json={"code": "secret output"}, headers=mine)
    running = await service.waiting(**mine)

    async def seen(execution_id: str) -> tuple[int, dict[str, str], str]:
        answer = await service.client.request(method, f"{prefix}{execution_id}{path}", headers={**other, **more})
        headers = {name: value for name, value in answer.headers.items() if name != "date"}
        return answer.status_code, headers, answer.text.replace(execution_id, "ID")

    never = await seen(ABSENT)
    assert never[0] == 404
    assert await seen(finished.json()["id"]) == never
    assert await seen(running) == never
    own = (await service.client.get(f"/executions/{running}", headers=mine)).json()
    assert (own["status"], own["cancel_requested"]) == ("running", False)


async def test_lists_have_the_tenants_own_only(make_service: ServiceMaker, keys: KeyFile) -> None:
    """No filter, and no cursor of another's, shows what is not one's own; all keys of a tenant see the same."""
    mine, also_mine, other = keys.add("mine"), keys.add("mine"), keys.add("other")
    service = await make_service(api_keys=str(keys.path))
    for _ in range(3):
        await service.client.post("/execute", json={"code": "1", "labels": {"a": "b"}}, headers=mine)
    theirs = await service.client.post("/execute", json={"code": "1", "labels": {"a": "b"}}, headers=other)

    async def page(headers: Headers, **query: str) -> dict[str, Any]:
        found: dict[str, Any] = (await service.client.get("/executions", params=query, headers=headers)).json()
        return found

    first = await page(mine, limit="1")
    for query in ({}, {"label": "a=b"}, {"status": "succeeded"}, {"template": "default"}):
        assert [found["id"] for found in (await page(other, **query))["executions"]] == [theirs.json()["id"]]
        assert (await page(mine, **query)) == (await page(also_mine, **query))
        assert len((await page(mine, **query))["executions"]) == 3
    beyond = await page(other, cursor=first["next_cursor"])
    assert {found["id"] for found in beyond["executions"]} <= {theirs.json()["id"]}


async def test_idempotency_keys_are_the_tenants_own(make_service: ServiceMaker, keys: KeyFile) -> None:
    """The same key of two tenants is two keys: no conflict that would tell of the other's, and no answer of it."""
    mine, also_mine = keys.add("mine"), keys.add("mine")
    others = (keys.add("other"), "mine"), (keys.add("third"), "changed")
    service = await make_service(api_keys=str(keys.path))

    async def run(headers: Headers, code: str) -> httpx.Response:
        return await service.client.post("/execute", json={"code": code}, headers={**headers, "Idempotency-Key": "k"})

    first, again = await run(mine, "mine"), await run(also_mine, "mine")
    assert again.json()["id"] == first.json()["id"]
    assert (await run(also_mine, "changed")).status_code == 409
    for headers, code in others:
        answer = await run(headers, code)
        assert (answer.status_code, answer.json()["stdout"]) == (200, code)
        assert answer.json()["id"] != first.json()["id"]
