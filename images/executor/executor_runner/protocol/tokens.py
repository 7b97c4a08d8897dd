"""Tokens: who may hand a sandbox its call, and how copies of the report are sealed."""

from __future__ import annotations

import hashlib
import hmac


def sandbox_token(master_key: bytes, sandbox_name: str) -> str:
    """The token of one sandbox: any replica with the master key derives it, the sandbox has its hash only."""
    return hmac.new(master_key, b"sandbox:" + sandbox_name.encode(), hashlib.sha256).hexdigest()


def token_hash(token: str) -> str:
    """What a sandbox may know of its token before the claim."""
    return hashlib.sha256(token.encode()).hexdigest()


def seal(token: str, text: bytes) -> str:
    """MAC over a copy of the report that user code could reach (termination message, pod log)."""
    key = hmac.new(token.encode(), b"report", hashlib.sha256).digest()
    return hmac.new(key, text, hashlib.sha256).hexdigest()


def seal_matches(token: str, text: bytes, mac: str) -> bool:
    """True if ``mac`` was made by `seal` with this token over this text."""
    return hmac.compare_digest(seal(token, text), mac)
