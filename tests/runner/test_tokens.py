"""Tokens: derived per sandbox, known to it by hash only, and what seals a report."""

from __future__ import annotations

from executor_runner.protocol.tokens import sandbox_token, seal, seal_matches, token_hash


def test_each_sandbox_and_each_service_has_its_own_token() -> None:
    """Neither another sandbox nor another service's key gives the same token; the same pair always does."""
    tokens = {sandbox_token(key, name) for key in (b"a", b"b") for name in ("x-1", "x-2")}
    assert len(tokens) == 4
    assert sandbox_token(b"a", "x-1") in tokens


def test_the_hash_does_not_seal() -> None:
    """Who knows a token's hash, as the sandbox does before its claim, can't seal a report with it."""
    token = sandbox_token(b"key", "x-1")
    assert token_hash(token) != token
    assert not seal_matches(token, b"report", seal(token_hash(token), b"report"))


def test_a_seal_fits_one_text_only() -> None:
    """A seal holds for its token and text, and for nothing else."""
    mac = seal("token", b"text")
    assert seal_matches("token", b"text", mac)
    assert not seal_matches("token", b"text ", mac)
    assert not seal_matches("tokem", b"text", mac)
