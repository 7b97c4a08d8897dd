"""Rules for every test: a sentence of what it shows, and in CI no skip."""

from __future__ import annotations

import os
import signal

import pytest


def pytest_configure() -> None:
    """Hear Ctrl-C, as every process a test starts inherits: a shell's background jobs are started deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test that does not say what it shows."""
    silent = [
        item.nodeid for item in items if isinstance(item, pytest.Function) and not (item.function.__doc__ or "").strip()
    ]
    if silent:
        names = ", ".join(sorted(set(silent)))
        raise pytest.UsageError(f"these tests have no docstring saying what they show: {names}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where every test must run, a skip is a failure, but for those whose reason has a text that is expected."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("EXECUTOR_TESTS_NO_SKIPS") or reporter is None:
        return
    expected = os.environ.get("EXECUTOR_TESTS_EXPECTED_SKIP")
    reasons = [str(report.longrepr) for report in reporter.stats.get("skipped", ())]
    if any(expected is None or expected not in reason for reason in reasons):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
