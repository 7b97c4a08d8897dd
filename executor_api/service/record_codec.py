"""How records and cursors are written down, whichever database keeps them."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import replace
from typing import Any

import msgspec

from executor_api.domain.execution import Execution, IdempotencyKey
from executor_api.domain.request import ExecutionRequest, Isolation
from executor_api.errors import FieldProblem, IdempotencyConflictError, InvalidRequestError

_ID_LENGTH = 26  # ULID
_LARGE = 4096
"""Most bytes of a record that lists read whole."""


def _shown(request: Any) -> dict[str, object]:
    """What lists show of a request; the whole is kept apart, for it may be large."""
    return {"template": request.template, "isolation": request.isolation, "labels": request.labels}


_ENCODER = msgspec.json.Encoder(enc_hook=_shown)


def encode_record(execution: Execution) -> bytes:
    """JSON of everything, but of the request only what lists show."""
    try:
        return _ENCODER.encode(execution)
    except UnicodeEncodeError:  # user code's exception text may hold lone surrogates; they become '?'
        builtins = msgspec.to_builtins(execution, enc_hook=_shown)
        return json.dumps(builtins, ensure_ascii=False).encode(errors="replace")


def encode_listed(execution: Execution, record: bytes) -> bytes | None:
    """A large record without what lists don't show of its outcome, for `decode_listed`; None: the record will do."""
    if execution.outcome is None or len(record) <= _LARGE:
        return None
    shown = replace(execution.outcome, value_json=None, exception=None, artifacts_skipped=[])
    return encode_record(replace(execution, outcome=shown))


def decode_record(record: bytes, request: bytes) -> Execution:
    """The opposite of `encode_record`."""
    parsed = ExecutionRequest.model_validate_json(request)
    return msgspec.json.decode(record, type=Execution, dec_hook=lambda _type, _shown: parsed)


def decode_listed(record: bytes) -> Execution:
    """The execution as lists show it: its request has template, isolation and labels, and nothing to run.

    Its outcome may lack value, exception and what was skipped of artifacts.
    """

    def request(_type: type, shown: dict[str, Any] | None) -> ExecutionRequest:
        if shown is None:  # an older replica still writes so
            return ExecutionRequest.model_construct()
        return ExecutionRequest.model_construct(**shown | {"isolation": Isolation(shown["isolation"])})

    return msgspec.json.decode(record, type=Execution, dec_hook=request)


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
