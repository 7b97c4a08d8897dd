"""Runs every function call of an LLM agent in a sandbox of its own, and tells the truth about how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from executor_api.library import Executor, Result

__all__ = ["Executor", "Result", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the library form when it is first asked for: the command line starts without it."""
    if name in ("Executor", "Result"):
        from executor_api import library  # noqa: PLC0415

        return getattr(library, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
