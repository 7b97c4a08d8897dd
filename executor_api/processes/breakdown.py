"""Who is behind the figures: zombies by parent, D state by function of the kernel, descriptors by command.

At most ten names each, and the rest as ``other``. What changes from process to process in a name is ``*``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from executor_api.processes.names import OTHER, steady
from executor_api.processes.pressure import Usage
from executor_api.processes.process_table import PROC, Process, read_process
from executor_api.processes.stuck import Sleeper

_MOST_NAMED = 10
_MOST_ASKED = 500
"""Parents or processes in D state that are read one by one: a machine with more has enough to do."""
_MOST_BYTES = 4096
UNKNOWN = "unknown"


def count_by_parent(zombies: Iterable[Process], proc: str = PROC) -> dict[str, int]:
    """Zombies by the name of the process that should wait for them."""
    counts: Counter[str] = Counter()
    for place, (pid, number) in enumerate(Counter(zombie.parent for zombie in zombies).most_common()):
        parent = read_process(pid, proc) if place < _MOST_ASKED else None
        counts[steady(parent.name) if parent else UNKNOWN] += number
    return _the_most(counts)


def count_by_function(number: int, sleepers: Iterable[Sleeper]) -> dict[str, int]:
    """So many processes in D state by the function of the kernel that they sleep in, as far as it was read."""
    counts = Counter(sleeper.function for sleeper in sleepers)
    counts[UNKNOWN] += number - counts.total()
    return _the_most(+counts)


def read_sleepers(stuck: Iterable[Process], proc: str = PROC) -> Iterator[Sleeper]:
    """What else is to be known of processes in D state. The function takes the right to look into the process."""
    for process in islice(stuck, _MOST_ASKED):
        function = _text(f"{proc}/{process.pid}/wchan").decode("ascii", "replace")
        ran = _text(f"{proc}/{process.pid}/schedstat")
        yield Sleeper(process.pid, process.started, ran, function if function not in {"", "0"} else UNKNOWN)


def worst_by_command(holders: Mapping[int, Usage], proc: str = PROC) -> dict[str, Usage]:
    """Of each command the worst process, of ten at most; ``holders`` come the worst first."""
    found: dict[str, Usage] = {}
    for pid, usage in holders.items():
        process = read_process(pid, proc)
        if process is not None:
            found.setdefault(steady(process.name), usage)
    return dict(islice(found.items(), _MOST_NAMED))


def _the_most(counts: Counter[str]) -> dict[str, int]:
    """Ten of them, and the rest as one."""
    found = dict(counts.most_common(_MOST_NAMED))
    rest = counts.total() - sum(found.values())
    if rest:
        found[OTHER] = found.get(OTHER, 0) + rest
    return found


def _text(path: str) -> bytes:
    """Empty if there is none, or none without waiting for it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, _MOST_BYTES)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
