"""Keys of the API: what is kept of one, how one looks, when it ends, and whose it is. Pure."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue

from executor_api.domain.caller import DEFAULT_SCOPES, TENANT_PATTERN, Caller, Scope
from executor_api.domain.pool_settings import StrictModel

PREFIX = "exk"
SECRET_BYTES = 32
"""Random bytes of a secret. Nobody can search through so many, so a fast hash keeps them well."""
ID_BYTES = 6

_TIME = "must be a time with its zone, like 2027-01-31T00:00:00Z"
_SPAN = re.compile(r"(\d{1,5})([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 7 * 24}


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a text must look like, for the schema and in words."""

    pattern: str
    words: str

    def check(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"must be {self.words}")
        return text

    @property
    def schema(self) -> dict[str, JsonValue]:
        return {"pattern": self.pattern}


_ID = _Shape(r"^[a-z0-9]{1,40}$", "1 to 40 lowercase letters and digits")
_HASH = _Shape(r"^[0-9a-f]{64}$", "64 hexadecimal digits in lowercase")
_TENANT = _Shape(TENANT_PATTERN, "1 to 128 letters, digits and ._:@/-, with a letter or digit at both ends")


def _time(value: object) -> datetime:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError(_TIME) from None
    if not isinstance(found, datetime) or found.tzinfo is None:
        raise ValueError(_TIME)
    return found.astimezone(UTC)


class ApiKey(StrictModel):
    """One key: `exk_<id>_<secret>`. Of its secret only a hash is kept."""

    id: Annotated[str, AfterValidator(_ID.check)] = Field(
        description="What stands after `exk_` in the key. No secret.", json_schema_extra=_ID.schema
    )
    sha256: Annotated[str, AfterValidator(_HASH.check)] = Field(
        description="SHA-256 of the secret, which stands after the id.", json_schema_extra=_HASH.schema
    )
    tenant: Annotated[str, AfterValidator(_TENANT.check)] = Field(
        description="Whose executions it can reach.", json_schema_extra=_TENANT.schema
    )
    scopes: tuple[Scope, ...] = Field(
        DEFAULT_SCOPES,
        min_length=1,
        description="`execute`: run and cancel; `read`: look at executions, templates and pools; `admin`: metrics.",
    )
    expires: Annotated[datetime, BeforeValidator(_time)] | None = Field(
        None, description="From when on it is refused (RFC 3339, with a zone)."
    )
    label: str = Field("", max_length=200, description="For people: who has it, and what for.")

    def expired(self, now: float) -> bool:
        """Whether its time is over; ``now`` in seconds since the epoch."""
        return self.expires is not None and now >= self.expires.timestamp()

    def caller(self) -> Caller:
        """Who shows this key."""
        return Caller(self.tenant, self.id, frozenset(self.scopes), way="api-keys")


def hash_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def key_text(key_id: str, secret: str) -> str:
    """The key as clients send it."""
    return f"{PREFIX}_{key_id}_{secret}"


def expiry(text: str, now: datetime) -> datetime:
    """The time that ``90d``, ``12h``, ``2w``, a date (its first moment in UTC) or a time with its zone means.

    Raises ``ValueError`` with a sentence, for times that are over too.
    """
    try:
        found = _expiry(text, now)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} must be a span like 90d, a date, or a time with its zone") from None
    if found <= now:
        raise ValueError(f"{text!r} is over already")
    return found


def _expiry(text: str, now: datetime) -> datetime:
    span = _SPAN.fullmatch(text)
    if span is not None:
        return now.replace(microsecond=0) + timedelta(hours=int(span[1]) * _HOURS[span[2]])
    return _time(f"{text}T00:00:00Z" if "T" not in text else text)


class KeyRing:
    """The keys in force."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = {key.id: key for key in keys}

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, text: str) -> ApiKey | None:
        """The key that this is, expired or not. Takes as long for an unknown id as for a wrong secret."""
        prefix, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        key = self._keys.get(key_id)
        same = hmac.compare_digest(hash_of(secret), key.sha256 if key is not None else _NO_HASH)
        return key if same and prefix == PREFIX else None


_NO_HASH = "0" * 64
