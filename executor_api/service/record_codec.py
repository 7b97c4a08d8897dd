"""How records and cursors are written down, whichever database keeps them."""

from __future__ import annotations

import base64
import binascii
import json

import msgspec

from executor_api.domain.execution import Execution, IdempotencyKey
from executor_api.domain.request import ExecutionRequest
from executor_api.errors import FieldProblem, IdempotencyConflictError, InvalidRequestError

_ENCODER = msgspec.json.Encoder(enc_hook=lambda _request: None)  # the request is kept apart: it is large
_ID_LENGTH = 26  # ULID


def encode_record(execution: Execution) -> bytes:
    """JSON of everything but the request."""
    try:
        return _ENCODER.encode(execution)
    except UnicodeEncodeError:  # user code's exception text may hold lone surrogates; they become '?'
        builtins = msgspec.to_builtins(execution, enc_hook=lambda _request: None)
        return json.dumps(builtins, ensure_ascii=False).encode(errors="replace")


def decode_record(record: bytes, request: bytes) -> Execution:
    """The opposite of `encode_record`."""
    parsed = ExecutionRequest.model_validate_json(request)
    return msgspec.json.decode(record, type=Execution, dec_hook=lambda _type, _null: parsed)


def check_same_request(earlier: Execution, key: IdempotencyKey) -> None:
    """Raise `IdempotencyConflictError` if the key was given to another request then."""
    if earlier.idempotency is None or earlier.idempotency.digest != key.digest:
        raise IdempotencyConflictError(
            f"Idempotency-Key {key.key!r} was used before, by execution {earlier.id}, with another request; "
            "use a new key"
        )


def encode_cursor(execution_id: str) -> str:
    """A cursor that stands for the executions before this one."""
    return base64.urlsafe_b64encode(execution_id.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """The opposite of `encode_cursor`. Raises `InvalidRequestError` for what no page gave out."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars="-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    if len(text) != _ID_LENGTH or not text.isalnum():
        raise InvalidRequestError(FieldProblem("cursor", "must be the `next_cursor` of an earlier page"))
    return text
