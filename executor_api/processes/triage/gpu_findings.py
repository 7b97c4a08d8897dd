"""What is wrong with GPUs: memory that nobody uses any more, and who holds them. Pure."""

from __future__ import annotations

import signal
from collections.abc import Iterator

from executor_api.processes.triage.facts import GpuHolder, LostMemory, Situation, Unanswered
from executor_api.processes.triage.finding import Finding, Severity
from executor_api.processes.triage.wording import clean, describe, mebibytes, restart_command

_MOST_NAMED, _LONGEST_ERROR = 5, 120
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP}


def gpu_findings(situation: Situation) -> Iterator[Finding]:
    """Drivers that did not answer, GPUs that are lost, memory of the dead, and who lives on it."""
    if situation.gpu_unanswered is not None:
        yield _unanswered(situation.gpu_unanswered)
    if situation.uncounted_gpus:
        what = f"{situation.uncounted_gpus} of NVIDIA's GPUs can't be used, though the kernel's driver has them"
        who = "lost from the bus, or did not start; or kept from us on purpose: not given to us, or NVreg_ExcludedGpus"
        do = "dmesg | grep -i -E 'xid|nvrm' | tail  # if lost: drain this machine and reboot; what stays away is broken"
        yield Finding("gpu", Severity.WARNING, what, who, do)
    yield from map(_lost, situation.lost_memory)
    yield from map(_gpu, situation.gpu)


def _unanswered(question: Unanswered) -> Finding:
    if question.signal is not None:
        return _ended_by(question.signal)
    if question.error:
        error = clean(question.error[:_LONGEST_ERROR])
        what, who = f"GPU memory could not be read: {error}", "the program that asks the driver, or its nvidia-ml-py"
        return Finding("gpu", Severity.WARNING, what, who, f"{question.command}  # shows the whole error")
    what, who = "the GPU driver does not answer", "no process that can be told; those in D state in it may be"
    do = "dmesg | grep -i -E 'xid|nvrm|amdgpu' | tail  # nvidia-smi may hang as well; drain this machine, and reboot"
    return Finding("gpu", Severity.CRITICAL, what, who, do)


def _ended_by(number: int) -> Finding:
    name = next((known.name for known in signal.Signals if known == number), f"signal {number}")
    what = f"GPU memory could not be read: who asked the driver was ended by {name}"
    if number in _CRASHES:
        what = f"GPU memory could not be read: who asked the driver crashed with {name}"
        who = "most likely the driver's library (libnvidia-ml.so.1)"
        do = "nvidia-smi  # uses it, too: if it fails as well, install the driver anew, or reboot if that was just done"
    elif number == signal.SIGKILL:
        who = "the kernel for want of memory, or somebody else"
        do = "dmesg | grep -i -E 'oom|out of memory' | tail  # once there is memory, ask again: executor-api triage"
    else:
        who, do = "whoever sends signals here; the driver is not to blame", "executor-api triage  # asks again"
    return Finding("gpu", Severity.WARNING, what, who, do)


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
