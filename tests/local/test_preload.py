"""Modules that a template has imported beforehand: there at once, silent, and never a reason to fail."""

from __future__ import annotations

import os

import pytest

from executor_api import Executor
from executor_api.backends.local.backend import LocalBackend
from executor_api.domain.template import Template

NOISY = "this"
"""A module of the standard library that prints as it is imported."""


def test_modules_are_there_and_what_they_printed_is_not(capfd: pytest.CaptureFixture[str]) -> None:
    """A call finds them imported; what they said is neither in its output nor in the service's."""
    templates = {"default": Template(name="default", preload=(NOISY, "no_such_module", "decimal"))}
    with Executor(LocalBackend(os.environ), templates) as executor:
        executor.start()
        code = f"import sys\nprint([name in sys.modules for name in ({NOISY!r}, 'no_such_module', 'decimal')])"
        for _ in range(3):
            result = executor.run(code=code)
            assert (result.stdout, result.stderr) == ("[True, False, True]\n", "")
    assert capfd.readouterr() == ("", "")
