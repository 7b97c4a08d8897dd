"""AMD's GPUs as the kernel's ``amdgpu`` tells of them in ``/sys``.

AMD's own Python bindings bring no library: each loads that of an installed ROCm, and of the same version. These files
need nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from executor_api.processes.gpu_memory import Memory


def read_amd(sysfs: str) -> Iterator[Memory]:
    """Each device by its address on the bus, with the processes that compute on it (ROCm)."""
    drivers = Path(sysfs, "class")
    numbers = dict(_numbers(drivers / "kfd/kfd/topology/nodes"))
    for node in sorted(drivers.glob("drm/renderD*")):
        device = node / "device"
        total, used = _number(device / "mem_info_vram_total"), _number(device / "mem_info_vram_used")
        if total is None or used is None:
            continue
        minor = int(node.name.removeprefix("renderD"))
        held = dict(_holders(drivers / "kfd/kfd/proc", numbers[minor])) if minor in numbers else {}
        yield Memory(device.resolve().name, _text(device / "product_name") or "AMD GPU", total, used, held)


def _numbers(nodes: Path) -> Iterator[tuple[int, str]]:
    """What the driver for computing calls a GPU, by its DRM device. Processors are nodes too, with the number 0."""
    for node in nodes.glob("*"):
        number = _text(node / "gpu_id")
        for line in _text(node / "properties").splitlines():
            name, _, value = line.partition(" ")
            if name == "drm_render_minor" and number not in {"", "0"}:
                yield int(value), number


def _holders(processes: Path, number: str) -> Iterator[tuple[int, int]]:
    for process in processes.glob("[0-9]*"):
        used = _number(process / f"vram_{number}")
        if used:
            yield int(process.name), used


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    """Empty where there is no such file, or it is not ours to read."""
    with suppress(OSError):
        return path.read_text(errors="replace").strip()
    return ""
