"""What a look at a sick machine found, before anybody says what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Heed(StrEnum):
    """How a process takes SIGCHLD, the signal that a child of it has died."""

    HANDLES = "handles"
    BLOCKS = "blocks"
    IGNORES = "ignores"
    DEFAULT = "default"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a process is. ``command`` is None if it could not be read, ``why_not`` then says why."""

    pid: int
    name: str
    state: str = "S"
    parent: int = 0
    command: str | None = None
    why_not: str = ""
    uid: int | None = None
    home: str = ""
    """The cgroup it lives in, of the unified hierarchy or of systemd's."""


@dataclass(frozen=True, slots=True)
class Bereaved:
    """A parent of zombies."""

    parent: Identity
    zombies: int
    names: Mapping[str, int]
    """How many of them had which name."""
    oldest_seconds: float | None
    """Since the one that has been dead for longest died, as far as the kernel tells."""
    heed: Heed
    half_dead: Sequence[int] = ()
    """Zombies that still have threads: no parent can collect those."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """A process that was in D state in two looks and did not run between them."""

    process: Identity
    parent: Identity | None
    function: str | None
    """Of the kernel, where it sleeps."""
    path: str | None = None
    """The file it waits for, if the kernel tells."""
    mount: str | None = None
    """Where the file system of that file is mounted, with its type and source."""
    mount_point: str | None = None
    seconds: float | None = None
    """Since it last ran."""
    children: Sequence[int] = ()
    leader: Identity | None = None
    """Of an orphan: who leads the session that it was started in, and so may have started it."""


@dataclass(frozen=True, slots=True)
class Hog:
    """A process with many descriptors. ``limit`` is its own, None if there is none or it could not be read."""

    process: Identity
    open: int
    limit: int | None
    holds: Mapping[str, int] = field(default_factory=dict)
    """How many of each kind; a sample where there are very many."""
    close_wait: Mapping[str, int] = field(default_factory=dict)
    """Sockets the peer has closed and the process has not, by peer."""


@dataclass(frozen=True, slots=True)
class Family:
    """The parent with the most children; for orphans that init adopted, the most frequent kind of them."""

    who: Identity
    size: int
    orphans: bool = False
    leader: Identity | None = None
    """Who leads the session that most of the orphans were started in, and so may have started them."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Something the machine has only so much of. ``raise_by`` is the command for more."""

    what: str
    used: int
    most: int
    raise_by: str
    of_processes: bool = True
    place: str = ""
    """The folder of the cgroup that it is of; empty: it is the machine's."""
    family: Family | None = None
    """Who in that cgroup has most of them, where the limit is near."""


@dataclass(frozen=True, slots=True)
class GpuHolder:
    """A process that has device files of a GPU open, or memory of one. ``used_bytes``: None if it is not told."""

    process: Identity
    devices: Sequence[str]
    used_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class LostMemory:
    """Memory of a GPU that is held for processes that have ended. ``size`` is 0 if it is not told."""

    uuid: str
    name: str
    size: int
    gone: Sequence[int]
    """Pids that nobody has any more."""
    zombies: Sequence[Identity] = ()
    parents: Sequence[Identity] = ()
    """Of the zombies, in their order."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The process that asks the GPU drivers gave no answer. With neither ``signal`` nor ``error`` it still waits."""

    command: str
    """Asks the same again."""
    signal: int | None = None
    """It was ended by."""
    error: str = ""
    """It ended by itself with."""


@dataclass(frozen=True, slots=True)
class Situation:
    """All of it."""

    processes: int
    zombies: int
    orphans: int
    bereaved: Sequence[Bereaved] = ()
    stuck: Sequence[Stuck] = ()
    stuck_in_all: int = 0
    """``stuck`` holds some of them, where there are many."""
    busy: int = 0
    """In D state, but they move: they wait for a disk that answers."""
    hogs: Sequence[Hog] = ()
    limits: Sequence[Limit] = ()
    family: Family | None = None
    """Who has most of them, where a limit of the machine is near."""
    adopted: Family | None = None
    """The most frequent kind of orphans, where there are many."""
    gpu: Sequence[GpuHolder] = ()
    lost_memory: Sequence[LostMemory] = ()
    uncounted_gpus: int = 0
    """NVIDIA's that the kernel's driver has, and that its library does not count or tells to be lost."""
    gpu_unanswered: Unanswered | None = None
    """Set where drivers were asked, and there is no answer."""
    remarks: Sequence[str] = ()
    """What could not be looked at."""
