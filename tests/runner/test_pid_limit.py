"""The limit on processes must never become the whole machine's."""

from __future__ import annotations

import pytest

from executor_runner.linux import pid_limit_is_per_namespace


@pytest.mark.parametrize("release", ["6.14.0", "6.18.44-fc", "7.0"])
def test_kernels_that_keep_the_limit_apart_are_known(release: str) -> None:
    """Since Linux 6.14 each PID namespace has its own."""
    assert pid_limit_is_per_namespace(release)


@pytest.mark.parametrize("release", ["6.13.9", "6.1.0-18-amd64", "5.14.0-427.el9", "unknown"])
def test_other_kernels_are_left_alone(release: str) -> None:
    """Before that the number is one for all, and so it is where we can't tell."""
    assert not pid_limit_is_per_namespace(release)
