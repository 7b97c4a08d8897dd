"""What is wrong with GPUs: memory that nobody uses any more, and who holds them. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from executor_api.processes.triage.facts import GpuHolder, LostMemory, Situation
from executor_api.processes.triage.finding import Finding, Severity
from executor_api.processes.triage.wording import clean, describe, mebibytes, restart_command

_MOST_NAMED = 5


def gpu_findings(situation: Situation) -> Iterator[Finding]:
    """A driver that is mute, memory of the dead, and who lives on it."""
    if situation.mute_gpu:
        what, who = "the GPU driver does not answer", "no process that can be told; those in D state in it may be"
        do = (
            "dmesg | grep -i -E 'xid|nvrm|amdgpu' | tail  # nvidia-smi may hang as well; drain this machine, and reboot"
        )
        yield Finding("gpu", Severity.CRITICAL, what, who, do)
    yield from map(_lost, situation.lost_memory)
    yield from map(_gpu, situation.gpu)


def _lost(lost: LostMemory) -> Finding:
    ended = [*(f"pid {pid}, which is gone" for pid in lost.gone), *(f"zombie {who.pid}" for who in lost.zombies)]
    size = mebibytes(lost.size) if lost.size else "memory"
    what = f"{size} of GPU {clean(lost.name)} ({clean(lost.uuid)}) held for {', '.join(ended[:_MOST_NAMED])}"
    what += f" and {len(ended) - _MOST_NAMED:,} more" if len(ended) > _MOST_NAMED else ""
    do = f"nvidia-smi --gpu-reset --id={lost.uuid}  # once nothing uses it any more; if that fails, reboot"
    if not lost.uuid.startswith("GPU-"):
        do = "reboot  # when nothing uses this machine any more; nothing less is known to free it"
    if not lost.parents:
        return Finding("gpu", Severity.CRITICAL, what, "nobody who is left", do)
    parent = lost.parents[0]
    who = f"{describe(parent)} does not wait for its children"
    return Finding("gpu", Severity.CRITICAL, what, who, f"{restart_command(parent)}  # if it stays: {do}", parent)


def _gpu(holder: GpuHolder) -> Finding:
    process = holder.process
    held = ", ".join(clean(device) for device in holder.devices) or "a GPU"
    held = f"{mebibytes(holder.used_bytes)} of {held}" if holder.used_bytes else held
    kill = f"executor-api triage --kill {process.pid}"
    if process.state == "D":
        what, severity = f"{held} held by a process in D state: its GPU memory can't be freed", Severity.CRITICAL
        kill = f"dmesg | grep -i -E 'xid|nvrm' | tail  # no signal reaches {process.pid} before the driver answers"
    elif process.parent == 1:
        what, severity = f"{held} held by a process whose parent is gone", Severity.WARNING
        kill += "  # if nobody needs it any more"
    else:
        what, severity = f"{held} in use", Severity.NOTICE
        kill += "  # only if it should not"
    return Finding("gpu", severity, what, describe(process), kill, process)
