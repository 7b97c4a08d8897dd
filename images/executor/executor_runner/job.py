"""What a spare gets to do. Annotations are evaluated, as in `shapes`."""

from typing import TypedDict

from executor_runner.protocol.shapes import PythonCode


class Job(TypedDict):
    """What the spare becomes. Exactly one of ``argv`` and ``python`` is not None."""

    argv: list[str] | None
    python: PythonCode | None
    source: str  # path of the Python source, for tracebacks
    env: dict[str, str]  # on top of what every call has
    cwd: str
    open_files: int
    value_bytes: int
