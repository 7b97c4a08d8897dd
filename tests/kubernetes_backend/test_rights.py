"""The rights that the service asks for, and those that the README tells an operator to give."""

from __future__ import annotations

import re
from pathlib import Path

from executor_api.backends.kubernetes.checks import ALWAYS, POOL, PROXY

README = Path(__file__).parents[2] / "README.md"
_ROW = re.compile(r"^\| (?:`([\w.]+)` )?\| `([\w/]+)` \| ([a-z, ]+)(?:;[^|]*)?\|$", re.MULTILINE)


def test_the_readme_lists_every_right() -> None:
    """Its table has exactly the verbs that doctor looks for, the optional ones included."""
    listed = {
        (group, resource, verb.strip())
        for group, resource, verbs in _ROW.findall(README.read_text())
        for verb in verbs.split(",")
    }
    wanted = {
        (right.group, f"{right.resource}/{right.subresource}" if right.subresource else right.resource, right.verb)
        for right in (*ALWAYS, *POOL, *PROXY)
    }
    assert listed == wanted
