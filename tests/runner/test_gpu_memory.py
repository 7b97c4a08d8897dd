"""Memory of a pod's GPUs, before its calls and after each: what comes back, what comes late, and what never does."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.machine import eventually
from support.nvml import Gpus
from support.pod import SECONDS, Journal, Pod, pod, python, reused, shell

from executor_runner.gpu import Use, Verdict, judge
from executor_runner.protocol import GPUS_ENV

IN_USE = 500_000_000
LEAK = 400_000_000
SMALL = 10_000_000
"""As much as a device's use moves by itself."""
STRANGER = 4_194_303
"""The highest number that the kernel gives a process: none of ours has it."""


@pytest.fixture
def gpus(tmp_path: Path) -> Gpus:
    (tmp_path / "nvml").mkdir()
    found = Gpus(tmp_path / "nvml")
    found.say("device 0 8000000000", f"used 0 {IN_USE}")
    return found


@pytest.fixture
def sandbox(tmp_path: Path, gpus: Gpus) -> Iterator[Pod]:
    """A runner that has a GPU of its own."""
    with pod(tmp_path / "pod", **{GPUS_ENV: "1"}, **gpus.environ) as found:
        yield found
        assert "Traceback" not in found.errors


def running(sandbox: Pod, gpus: Gpus, *lines: str, **changes: Any) -> Journal:
    """A call in the midst of which the driver begins to say something else."""
    with sandbox.start(shell("until [ -e go ]; do sleep 0.01; done", **changes)) as response:
        gpus.say("device 0 8000000000", *lines)
        (sandbox.root / "work" / "go").touch()
        return Journal(response.read())


def memory(before: int, after: int | None, leaked: int = 0, *, returned: bool = True) -> dict[str, Any]:
    return {
        "devices": 1,
        "before_bytes": before,
        "after_bytes": after,
        "leaked_bytes": leaked,
        "returned": returned,
    }


def test_memory_that_is_back_is_reported_so(sandbox: Pod, gpus: Gpus) -> None:
    """A call that gives its memory back is told as much, to the byte, and so is the little by which a device drifts."""
    report = running(sandbox, gpus, f"used 0 {IN_USE + SMALL}").report
    assert report["gpu"] == memory(IN_USE, IN_USE + SMALL)
    assert report["exit_code"] == 0


def test_memory_that_comes_late_is_no_leak(sandbox: Pod, gpus: Gpus) -> None:
    """What the driver frees three seconds after the last process has ended has come back."""
    began = time.monotonic()
    report = running(sandbox, gpus, f"used 0 {IN_USE + LEAK}", f"used 0 {IN_USE} 3").report
    assert report["gpu"] == memory(IN_USE, IN_USE)
    assert time.monotonic() - began > 2.5


def test_memory_that_stays_is_a_leak(tmp_path: Path, gpus: Gpus) -> None:
    """What the call has left of one device is told, to the byte, though it has ended well and another one has more."""
    devices = ("device 0 8000000000", "device 1 8000000000")
    gpus.say(*devices, f"used 0 {IN_USE}")
    with pod(tmp_path / "pod", **{GPUS_ENV: "2"}, **gpus.environ) as sandbox:
        report = running(sandbox, gpus, devices[1], f"used 1 {LEAK}").report
    assert report["gpu"] == memory(IN_USE, LEAK, LEAK, returned=False) | {"devices": 2}
    assert (report["exit_code"], report["cause"]) == (0, None)


def test_memory_that_a_call_s_own_process_holds_is_a_leak(sandbox: Pod, gpus: Gpus) -> None:
    """A number that a process of the sandbox has had, and that the driver still lists, is its own."""
    lines = (f"used 0 {IN_USE + LEAK}", f"process 0 {sandbox.process.pid} {LEAK}")
    report = running(sandbox, gpus, *lines).report
    assert report["gpu"] == memory(IN_USE, IN_USE + LEAK, LEAK, returned=False)


def test_memory_that_may_be_a_neighbour_s_is_blamed_on_nobody(sandbox: Pod, gpus: Gpus) -> None:
    """Where another process of the machine holds some of the device, what is missing is nobody's known leak."""
    lines = (f"used 0 {IN_USE + LEAK}", f"process 0 {STRANGER} {LEAK}")
    report = running(sandbox, gpus, *lines, **reused()).report
    assert report["gpu"] == memory(IN_USE, IN_USE + LEAK, returned=False) | {"uncertain": True}
    assert sandbox.process.wait(SECONDS) == 0, "nobody else gets what may be full"


def test_a_neighbour_changes_nothing_where_all_is_back(sandbox: Pod, gpus: Gpus) -> None:
    """A process of the machine on the device is no reason for doubt while no memory is missing."""
    report = running(sandbox, gpus, f"used 0 {IN_USE}", f"process 0 {STRANGER} {LEAK}").report
    assert report["gpu"] == memory(IN_USE, IN_USE)


def test_a_device_that_is_lost_does_not_count_as_returned(sandbox: Pod, gpus: Gpus) -> None:
    """One that has fallen off the bus during a call gives no figure, and the call its own ending."""
    report = running(sandbox, gpus, f"used 0 {IN_USE}", "lost 0").report
    assert report["gpu"] == memory(IN_USE, None, returned=False)
    assert report["exit_code"] == 0


def test_a_device_behind_a_server_of_many_is_not_compared(tmp_path: Path, gpus: Gpus) -> None:
    """Where NVIDIA's plugin has pods share a device through its server (MPS), nothing is said of memory."""
    mps = {"CUDA_MPS_PIPE_DIRECTORY": "/mps/nvidia.com/gpu/pipe"}
    with pod(tmp_path / "pod", **{GPUS_ENV: "1"}, **gpus.environ, **mps) as sandbox:
        assert "gpu" not in sandbox.run(shell("true")).report


def test_devices_of_others_are_not_compared(tmp_path: Path, gpus: Gpus) -> None:
    """A sandbox that sees more devices than it was given says nothing of memory: some of it is not its own."""
    gpus.say("device 0 8000000000", "device 1 8000000000")
    with pod(tmp_path / "pod", **{GPUS_ENV: "1"}, **gpus.environ) as sandbox:
        assert "gpu" not in sandbox.run(shell("true")).report


@pytest.mark.parametrize(
    ("after", "last_pid", "verdict"),
    [
        ([Use(SMALL, [])], 50, Verdict(SMALL, returned=True)),
        ([Use(LEAK, [])], 50, Verdict(LEAK, LEAK)),
        ([Use(LEAK, [50])], 50, Verdict(LEAK, LEAK)),
        ([Use(LEAK, [51])], 50, Verdict(LEAK, uncertain=True)),
        ([Use(LEAK, [51])], None, Verdict(LEAK, LEAK)),
        ([], 50, Verdict(None)),
    ],
)
def test_whose_memory_it_is(after: list[Use], last_pid: int | None, verdict: Verdict) -> None:
    """Missing memory is a leak, unless a process that can't be ours is listed and none of ours is stuck."""
    assert judge([0], after, last_pid) == verdict


def test_a_driver_that_does_not_answer_any_more_holds_up_nobody_for_good(sandbox: Pod, gpus: Gpus) -> None:
    """The report comes without its answer, and the process that asked is gone."""
    report = running(sandbox, gpus, "hang").report
    assert report["gpu"] == memory(IN_USE, None, returned=False)
    eventually(lambda: not psutil.Process(sandbox.process.pid).children())
    assert sandbox.leave() == 0


def test_a_sandbox_with_a_leak_serves_nobody_again(sandbox: Pod, gpus: Gpus) -> None:
    """One for reuse whose GPU is as before serves on; after a leak it leaves."""
    assert running(sandbox, gpus, f"used 0 {IN_USE}", **reused()).report["gpu"] == memory(IN_USE, IN_USE)
    found = running(sandbox, gpus, f"used 0 {IN_USE + LEAK}", **reused("e1", "e2")).report["gpu"]
    assert found == memory(IN_USE, IN_USE + LEAK, LEAK, returned=False)
    assert sandbox.process.wait(SECONDS) == 0


def test_a_call_without_a_gpu_asks_no_driver(tmp_path: Path, gpus: Gpus) -> None:
    """Where the sandbox has no GPU of its own the report says nothing of any, though the machine has one."""
    gpus.say("hang")
    with pod(tmp_path / "pod", **gpus.environ) as sandbox:
        assert "gpu" not in sandbox.run(shell("true")).report
        assert "libnvidia" not in Path(f"/proc/{sandbox.process.pid}/maps").read_text()


def test_without_a_driver_a_gpu_s_sandbox_works(tmp_path: Path) -> None:
    """A sandbox that is said to have a GPU and finds no driver runs its call, and says nothing of memory."""
    (tmp_path / "libnvidia-ml.so.1").touch()  # hides a real one
    with pod(tmp_path / "pod", **{GPUS_ENV: "1"}, LD_LIBRARY_PATH=str(tmp_path)) as sandbox:
        report = sandbox.run(shell("true")).report
    assert "gpu" not in report
    assert report["exit_code"] == 0


def test_a_call_can_use_what_the_runner_has_asked(sandbox: Pod) -> None:
    """Neither the runner nor the interpreter of a call has the driver's library loaded, or a descriptor of it."""
    code = "print('libnvidia' in open('/proc/self/maps').read())"
    journal = sandbox.run(python(code, env=dict(os.environ)))
    assert journal.stdout == b"False\n"
    assert "libnvidia" not in Path(f"/proc/{sandbox.process.pid}/maps").read_text()
    assert journal.report["gpu"]["returned"]
