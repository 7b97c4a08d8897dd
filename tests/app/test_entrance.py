"""What settings of tokens mean: which mistakes are refused at start, and what `executor-api doctor` finds out."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from support.issuer import AUDIENCE, Issuer

from executor_api.app import check_exposure
from executor_api.domain.finding import Finding, Verdict
from executor_api.entrance import examine, ways_to_tell
from executor_api.errors import ConfigurationError
from executor_api.settings import Settings

ISSUER = "https://issuer.example"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"oidc_issuer": ISSUER}, r"--oidc-audience \(EXECUTOR_OIDC_AUDIENCE\)"),
        ({"oidc_audience": AUDIENCE}, r"--oidc-issuer \(EXECUTOR_OIDC_ISSUER\)"),
        ({"oidc_issuer": ISSUER, "oidc_audience": AUDIENCE, "oidc_tenant_claim": ""}, "--oidc-tenant-claim"),
        ({"oidc_issuer": "http://issuer.example", "oidc_audience": AUDIENCE}, "must begin with https://"),
        (
            {"oidc_issuer": ISSUER, "oidc_audience": AUDIENCE, "oidc_default_scopes": "execute write"},
            "there is no scope 'execute write'; there are execute, read, admin, with commas between",
        ),
    ],
)
def test_half_a_setting_is_none(settings: dict[str, Any], says: str) -> None:
    """Nobody is let in by less than all that tells a good token, and the message names what is missing."""
    with pytest.raises(ConfigurationError, match=says):
        ways_to_tell(Settings(**settings), {})


def test_serve_refuses_it() -> None:
    """The command line says so in one line instead of serving."""
    command = [sys.executable, "-m", "executor_api", "serve", "--port", "0", "--oidc-issuer", ISSUER]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "--oidc-audience" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("settings", [{"oidc_issuer": ISSUER, "oidc_audience": "x"}, {"token_review_audience": "x"}])
def test_tokens_are_enough_to_listen_beyond_loopback(settings: dict[str, Any]) -> None:
    """Whoever must show a token is asked who it is."""
    check_exposure(Settings(host="0.0.0.0", **settings))  # noqa: S104  nothing listens here


def test_without_the_package_the_extra_is_named() -> None:
    """An installation without the extra does not serve half asked."""
    code = (
        "import sys; sys.modules['jwt'] = None\n"
        "from executor_api.entrance import ways_to_tell\nfrom executor_api.settings import Settings\n"
        f"ways_to_tell(Settings(oidc_issuer={ISSUER!r}, oidc_audience='x'), {{}})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "ConfigurationError" in done.stderr
    assert "pip install 'executor-api[auth]'" in done.stderr


async def _examined(**settings: Any) -> list[Finding]:
    found: list[Finding] = []
    await examine(Settings(**settings), {}, found.append)
    return found


async def test_doctor_asks_the_issuer() -> None:
    """Its keys, what is in the way of them, and nothing where no issuer is set."""
    async with Issuer() as issuer:
        (there,) = await _examined(oidc_issuer=issuer.url, oidc_audience=AUDIENCE)
        await issuer.go()
        (away,) = await _examined(oidc_issuer=issuer.url, oidc_audience=AUDIENCE)
        (half,) = await _examined(oidc_issuer=issuer.url)
    assert (there.verdict, there.text) == (Verdict.OK, f"{issuer.url} signs with 4 keys that can be used")
    assert (away.verdict, half.verdict) == (Verdict.FAIL, Verdict.FAIL)
    assert f"the keys of {issuer.url} can't be fetched" in away.text
    assert "--oidc-audience" in half.text
    assert await _examined() == []
