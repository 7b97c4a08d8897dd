"""``executor-api run`` without a service: the library form, on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from executor_api.cli.ending import Ending
from executor_api.cli.failures import Refused, Unavailable
from executor_api.cli.terminal import Terminal
from executor_api.errors import ConfigurationError, InvalidRequestError, UnavailableError
from executor_api.library import Executor, Result
from executor_api.service.template_file import TemplateFile
from executor_api.telemetry import configure_logging


def run_here(request: Mapping[str, Any], templates: str, terminal: Terminal) -> Ending:
    """Run one call. Raises `CommandFailure`, ``KeyboardInterrupt`` and ``BrokenPipeError``, with the call ended."""
    configure_logging("auto", "warning")
    fields = {**request, "timeout": request.get("timeout_seconds")}
    fields.pop("timeout_seconds", None)
    try:
        with Executor.local(TemplateFile(templates).reload() if templates else None) as executor:
            result = executor.run(**fields, on_output=terminal.output)
    except InvalidRequestError as error:
        sentences = (f"{p.field}: {p.message}" if p.field else p.message for p in error.problems)
        raise Refused("\n".join(sentences)) from error
    except ConfigurationError as error:
        raise Refused(str(error)) from error
    except UnavailableError as error:
        raise Unavailable(str(error)) from error
    return _ending(result)


def _ending(result: Result) -> Ending:
    outcome = result.outcome
    return Ending(outcome.status, outcome.reason, outcome.message, outcome.exit_code, outcome.signal)
