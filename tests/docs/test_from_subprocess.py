"""The programs of docs/from-subprocess.md print what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import subreaper

PAGE = (Path(__file__).parents[2] / "docs" / "from-subprocess.md").read_text()
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
PROGRAM = re.compile(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = [
    pytest.param(match[1], match[2], id=f"{HEADING.findall(PAGE, 0, match.start())[-1]}, {number}")
    for number, match in enumerate(PROGRAM.finditer(PAGE))
]


@pytest.mark.parametrize(("program", "printed"), PROGRAMS)
def test_the_page_is_true(program: str, printed: str, tmp_path: Path) -> None:
    """Each program fails or works as it stands there, and those that use the executor leave no process."""
    (tmp_path / "program.py").write_text(program)
    with (tmp_path / "out").open("w+") as out:  # a file: what a program leaves would hold a pipe open
        command = [sys.executable, "-P", subreaper.__file__, sys.executable, "program.py"]
        code = subprocess.run(command, stdout=out, cwd=tmp_path, timeout=110, check=False).returncode
        out.seek(0)
        *lines, left = out.read().splitlines(keepends=True)
    assert ("".join(lines), code) == (printed, 0)
    if "Executor.local()" in program:
        assert left == "0\n"


def test_every_program_is_run() -> None:
    """Each of the page's programs is followed by what it prints, and each trap fails once and works once."""
    assert len(PROGRAMS) == PAGE.count("```python") == 1 + 2 * PAGE.count("\n## ")
    assert sum("Executor.local()" not in str(program.values[0]) for program in PROGRAMS) == PAGE.count("\n## ")
