"""Files that are made from others say what those say now."""

from __future__ import annotations

from pathlib import Path

import pytest

from chart.generated import GOLDEN, INSTALL, README, SCHEMA, files
from chart.helm import ROOT, matrix

EXPECTED = dict(files())


@pytest.mark.parametrize("path", EXPECTED, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_is_up_to_date(path: Path) -> None:
    """The committed file is what its sources make today: schema, table, manifest, and every render of the matrix."""
    assert path.read_text() == EXPECTED[path], "run `make manifests` and look at the difference"


def test_every_made_file_is_held_against_its_sources() -> None:
    """Nothing is left over among the renders, and the four kinds of made files are all there."""
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == set(matrix())
    assert {SCHEMA, README, INSTALL} < set(EXPECTED)
