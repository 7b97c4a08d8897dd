"""What the benchmarks print and keep."""

from __future__ import annotations

import collections
import csv
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from calls import Sample, Verdict, used_twice
from figures import percentile, print_header, print_row, windows

RESULTS = Path(__file__).parent / "results"
_PHASES = ("accept", "queue", "claim", "create", "schedule", "start", "run", "collect", "settle")
"""In their order; ``accept`` and ``settle`` are the service's own work before and after."""


class Record:
    """All samples of one run; in the end it keeps them as a CSV file and says whether all is well."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._samples: list[tuple[str, Sample]] = []

    def add(self, workload: str, samples: Sequence[Sample]) -> None:
        """Keep them and print what became of them."""
        self.keep(workload, samples)
        print_outcomes(samples)

    def keep(self, workload: str, samples: Sequence[Sample]) -> None:
        """Keep them."""
        self._samples += ((workload, sample) for sample in samples)

    def close(self) -> int:
        """Write the file, print where it is; 0 if every answer was right or an honest refusal, else 1."""
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            writer.writerows(_cells(workload, sample) for workload, sample in self._samples)
        samples = [sample for _, sample in self._samples]
        bad = sum(sample.verdict in (Verdict.WRONG, Verdict.BROKEN) for sample in samples)
        twice = used_twice(samples)
        print(
            f"\nall of it: {len(samples)} calls, {bad} wrong or broken, {len(twice)} sandboxes used twice {twice[:5]}"
        )
        print(f"raw figures: {path}")
        return 1 if bad or twice else 0


def print_outcomes(samples: Sequence[Sample]) -> None:
    """Rows by how the call came by its sandbox, counts of statuses and verdicts, and the first problems."""
    answered = [sample for sample in samples if sample.verdict is not Verdict.BROKEN and sample.answer]
    starts = collections.Counter(sample.start for sample in answered)
    for start in starts:
        print_row(f"{start} POST /execute", [sample.wall for sample in answered if sample.start == start])
    if len(starts) > 1:
        print_row("all POST /execute", [sample.wall for sample in answered])
    refused = [sample.wall for sample in samples if sample.verdict is Verdict.REJECTED]
    if refused:
        print_row("429 with Retry-After", refused)
    statuses = collections.Counter(sample.reply.status or "broken" for sample in samples)
    verdicts = collections.Counter(sample.verdict.value for sample in samples)
    print(f"statuses {dict(statuses)}, verdicts {dict(verdicts)}, used twice: {len(used_twice(samples))}")
    reasons = collections.Counter(sample.answer.get("cold_reason") for sample in answered if sample.start == "cold")
    for reason, count in reasons.most_common(3):
        print(f"cold {count} times: {reason}")
    for sample in [sample for sample in samples if sample.problem][:5]:
        print(f"{sample.verdict}: {sample.problem}")


def print_phases(samples: Iterable[Sample], others: dict[str, list[float]]) -> None:
    """Where the time of the calls went, beside the bare thing."""
    found = [sample for sample in samples if sample.verdict is Verdict.RIGHT]
    print_header("phases of the same calls, as the service tells them")
    for name in _PHASES:
        values = [sample.phases[name] for sample in found if name in sample.phases]
        if values:
            print_row(f"  {name}", values)
    rest = [sample.wall - sum(sample.phases.get(name, 0.0) for name in _PHASES) for sample in found]
    print_row("  the rest: HTTP both ways, this client", rest)
    for name, values in others.items():
        print_row(name, values)


def print_windows(samples: Sequence[Sample], began: float, width: float) -> None:
    """Hit ratio, and p95 of what was answered, by the window a call was due in."""
    for number, found in enumerate(windows(((sample.reply.intended - began, sample) for sample in samples), width)):
        walls = [sample.wall for sample in found if sample.answer]
        span = f"{number * width:.0f} to {(number + 1) * width:.0f} s"
        print(f"{span:12} {len(found):5} calls, {_hits(found):4.0%} hits, {len(walls)} answered", end="")
        print(f", p95 {percentile(walls, 95):.2f} ms")
    print(f"hit ratio {_hits(samples):.1%} of {len(samples)}")


def _hits(samples: Sequence[Sample]) -> float:
    """Share of calls that found a sandbox waiting."""
    return sum(sample.start == "warm" for sample in samples) / max(1, len(samples))


def print_reuse(samples: Sequence[Sample], seconds: float) -> None:
    """Pace of calls that share sandboxes, and what they found of each other."""
    answers = [sample.answer for sample in samples if sample.verdict is Verdict.RIGHT]
    left, zombies, unkillable = (
        sum((answer.get("processes") or {}).get(name) or 0 for answer in answers)
        for name in ("left_behind", "zombies", "unkillable")
    )
    sandboxes = len({sample.sandbox for sample in samples if sample.sandbox})
    seen = sorted({sample.processes for sample in samples if sample.processes})
    print(f"{len(answers) / seconds:.0f} calls/s over {seconds:.1f} s in {sandboxes} sandboxes")
    print(f"processes that calls left and the runner ended: {left}, zombies {zombies}, unkillable {unkillable}")
    print(f"processes a call sees, itself included: {seen[:10]}")


_COLUMNS = (
    *("workload", "due_s", "late_ms", "wall_ms", "status", "verdict", "problem"),
    *("start", "cold_reason", "sandbox", "pod", "word", *_PHASES, "total"),
)


def _cells(workload: str, sample: Sample) -> list[object]:
    reply, answer = sample.reply, sample.answer
    return [
        workload,
        f"{reply.intended:.6f}",
        f"{(reply.sent - reply.intended) * 1000:.3f}",
        f"{sample.wall:.3f}",
        *(reply.status, sample.verdict.value, sample.problem, sample.start, answer.get("cold_reason") or ""),
        *(sample.sandbox, (answer.get("sandbox") or {}).get("pod") or "", reply.word),
        *(sample.phases.get(name, "") for name in (*_PHASES, "total")),
    ]
