"""Runs every function call of an LLM agent in a sandbox of its own, and tells the truth about how it ended."""

from __future__ import annotations

__version__ = "0.1.0"
