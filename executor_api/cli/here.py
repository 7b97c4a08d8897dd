"""``executor-api run`` without a service: the library form, on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from executor_api.cli.ending import Ending
from executor_api.cli.failures import Refused, Unavailable
from executor_api.cli.terminal import Terminal
from executor_api.domain.template import Template
from executor_api.errors import ConfigurationError, InvalidRequestError, UnavailableError
from executor_api.library import Executor


def run_here(request: Mapping[str, Any], templates: str, terminal: Terminal) -> Ending:
    """Run one call. Raises `CommandFailure`, and ``KeyboardInterrupt`` with the call ended."""
    fields = {"timeout" if name == "timeout_seconds" else name: value for name, value in request.items()}
    try:
        with Executor.local(_templates(templates)) as executor:
            outcome = executor.run(**fields, on_output=terminal.output).outcome
    except InvalidRequestError as error:
        sentences = (f"{p.field}: {p.message}" if p.field else p.message for p in error.problems)
        raise Refused("\n".join(sentences)) from error
    except ConfigurationError as error:
        raise Refused(str(error)) from error
    except UnavailableError as error:
        raise Unavailable(str(error)) from error
    return Ending(outcome.status, outcome.reason, outcome.message, outcome.exit_code, outcome.signal)


def _templates(path: str) -> dict[str, Template] | None:
    if not path:
        return None
    from executor_api.service.template_file import TemplateFile  # noqa: PLC0415 - YAML is not needed without a file

    return TemplateFile(path).reload()
