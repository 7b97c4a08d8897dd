"""Imports modules once, in the process that all interpreters of a place are forked from, so that no call has to."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator

from executor_runner.signals import WATCHED


def preload(modules: Iterable[str]) -> None:
    """Import what works; the call that needs the rest will hear why not. What modules print is nobody's output.

    Leaves the signals blocked that `SignalSource` reads: threads that modules start must not take them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    with _silence():
        for name in modules:
            with contextlib.suppress(Exception, SystemExit):
                importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a fork would touch, and so copy, every page


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    kept = [(number, os.dup(number)) for number in (1, 2)]
    silence = os.open(os.devnull, os.O_WRONLY)
    for number, _ in kept:
        os.dup2(silence, number)
    os.close(silence)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # a module may have put anything there
                stream.flush()
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)
