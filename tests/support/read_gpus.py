"""A program that reads this machine's GPUs again and again, as the monitor does: a process binds the library once."""

from __future__ import annotations

import json
import sys

from executor_api.processes.gpu import Gpus


def main() -> None:
    """Read once for each line of stdin; the arguments are those of `Gpus`."""
    gpus = Gpus(*sys.argv[1:])
    for _ in sys.stdin:
        reading = gpus.read()
        devices = [device._asdict() | {"lost_bytes": device.lost_bytes} for device in reading.devices]
        sys.stdout.write(json.dumps({"devices": devices, "problem": reading.problem}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
