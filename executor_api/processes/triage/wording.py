"""Processes, spans of time and figures in words; no control character of theirs reaches the terminal."""

from __future__ import annotations

import re
import shlex

from executor_api.processes.triage.facts import Identity

_WIDEST = 60
_DAY, _HOUR, _MINUTE = 86_400, 3600, 60
_CONTAINER = re.compile(r"(?:^|[-/:])([0-9a-f]{64})(?:\.scope)?$")
_UNIT = re.compile(r"/([^/]+\.service)(?:/|$)")


def clean(text: str) -> str:
    """As it can be shown."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def quoted(text: str) -> str:
    """As one word of a command: names of units, mounts and processes are chosen by those who may want harm."""
    return shlex.quote(clean(text))


def describe(identity: Identity) -> str:
    """Who it is, in one line."""
    told = _without_folders(identity.command or identity.name)
    shown = clean(told if len(told) <= _WIDEST else told[: _WIDEST - 3] + "...")
    notes = [f"pid {identity.pid}"]
    if identity.name not in told:
        notes.append(clean(identity.name))  # as metrics and `ps` call it
    if identity.uid is not None:
        notes.append("root" if identity.uid == 0 else f"uid {identity.uid}")
    notes += [clean(place) for place in (unit_of(identity), _container(identity)) if place]
    if identity.why_not:
        notes.append(f"its command line could not be read: {identity.why_not}")
    return f"{shown} ({', '.join(notes)})"


def unit_of(identity: Identity) -> str | None:
    """The service of systemd that it belongs to."""
    units = [unit for unit in _UNIT.findall(identity.home) if not unit.startswith("user@")]
    return units[-1] if units else None


def is_looked_after(identity: Identity) -> bool:
    """Whether systemd or a container engine ends and starts it with all that it made."""
    return bool(unit_of(identity) or _container(identity))


def restart_command(identity: Identity) -> str:
    """What ends it in a way that whoever looks after it starts it again."""
    unit, container = unit_of(identity), _CONTAINER.search(identity.home)
    if container:
        tool = "docker restart" if "docker" in identity.home else "crictl stop"
        return f"{tool} {container[1][:12]}"
    if unit:
        user = " --user" if "/user@" in identity.home else ""
        return f"systemctl{user} restart {quoted(unit)}"
    return f"executor-api triage --restart-parent {identity.pid}"


def ago(seconds: float) -> str:
    """A span of time in its largest unit; seconds are not known exactly enough to be told."""
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return "less than a minute"


def mebibytes(size: int) -> str:
    """A size of memory."""
    return f"{size / 2**20:,.0f} MiB"


def several(number: int, one: str, many: str | None = None) -> str:
    """So many of something."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _without_folders(command: str) -> str:
    """A command that is too wide, without those of its program and of the script that follows."""
    program, *words = command.split(" ", 2)
    if len(command) <= _WIDEST:
        return command
    return " ".join([_last(program), *map(_last, words[:1]), *words[1:]])


def _last(path: str) -> str:
    return path.rpartition("/")[2] or path if path.startswith("/") else path


def _container(identity: Identity) -> str | None:
    found = _CONTAINER.search(identity.home)
    return f"container {found[1][:12]}" if found else None
