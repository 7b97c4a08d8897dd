"""One key in front of everything but the probes."""

from __future__ import annotations

import pytest
from support.http_service import ServiceMaker

from executor_api.app import check_exposure
from executor_api.errors import ConfigurationError
from executor_api.settings import Settings

KEY = "s3cret-kéy"


@pytest.mark.parametrize(
    ("authorization", "tried"),
    [
        *((nothing, "none") for nothing in (None, "", KEY, f"Basic {KEY}", "Bearer")),
        *((wrong, "api_key") for wrong in ("Bearer wrong", f"Bearer {KEY}x", "Bearer é", "Bearer a.b.c")),
        ("Bearer eyJhbGciOiJub25lIn0.e30.", "jwt"),
    ],
)
async def test_without_the_key_nothing_runs(make_service: ServiceMaker, authorization: str | None, tried: str) -> None:
    """A missing, malformed or wrong key gets 401 on every path but the probes, and is counted."""
    service = await make_service(api_key=KEY)
    headers = {} if authorization is None else {"Authorization": authorization.encode()}
    for method, path in (("POST", "/execute"), ("GET", "/executions"), ("GET", "/metrics"), ("GET", "/nothing")):
        answer = await service.client.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/healthz", "/readyz"):
        assert (await service.client.get(path, headers=headers)).status_code == 200
    metrics = await service.client.get("/metrics", headers={"Authorization": f"Bearer {KEY}".encode()})
    assert f'executor_auth_failures_total{{method="{tried}"}} 4.0' in metrics.text


async def test_with_the_key_everything_works(make_service: ServiceMaker) -> None:
    """The scheme's case does not matter (RFC 9110)."""
    service = await make_service(api_key=KEY)
    for scheme in ("Bearer", "bearer"):
        headers = {"Authorization": f"{scheme} {KEY}".encode()}
        assert (await service.client.post("/execute", json={"code": "1"}, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((host, 200) for host in ("localhost", "LOCALHOST:1", "127.0.0.1:8000", "127.8.8.8", "[::1]", "[::1]:8000")),
        *((host, 403) for host in ("evil.example", "localhost.evil.example:8000", "10.0.0.1", "127.0.0.1.nip.io", "")),
    ],
)
async def test_without_a_key_only_this_machine_is_answered(make_service: ServiceMaker, host: str, status: int) -> None:
    """A page whose name is made to resolve to loopback names itself as the host."""
    service = await make_service()
    answer = await service.client.post("/execute", json={"code": "1"}, headers={"Host": host})
    assert answer.status_code == status
    assert status == 200 or answer.json()["type"] == "/problems/forbidden"


async def test_with_a_key_the_service_may_have_any_name(make_service: ServiceMaker) -> None:
    """It stands behind proxies and Kubernetes Services."""
    service = await make_service(api_key=KEY)
    headers = {"Host": "executor.example", "Authorization": f"Bearer {KEY}".encode()}
    assert (await service.client.post("/execute", json={"code": "1"}, headers=headers)).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_key(host: str) -> None:
    """On this machine alone the service runs without a key."""
    check_exposure(Settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", ""])  # noqa: S104  nothing listens here
def test_beyond_loopback_a_key_is_needed(host: str) -> None:
    """Whoever can reach the port can run code: without a key the service refuses to listen, and says what to do."""
    with pytest.raises(ConfigurationError, match="EXECUTOR_API_KEY"):
        check_exposure(Settings(host=host))
    check_exposure(Settings(host=host, api_key=KEY))
    check_exposure(Settings(host=host, no_auth=True))


async def test_who_wants_no_auth_says_so_and_is_reached_by_any_name(make_service: ServiceMaker) -> None:
    """Something else stands in front: the service asks nobody."""
    service = await make_service(no_auth=True)
    assert (await service.client.get("/executions", headers={"Host": "executor.example"})).status_code == 200
