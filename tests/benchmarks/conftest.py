"""Services that lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from support.impostor import Impostor, Lie


@pytest.fixture
def impostor() -> Iterator[Callable[[Lie], str]]:
    opened: list[Impostor] = []

    def open_one(says: Lie) -> str:
        opened.append(Impostor(says))
        return opened[-1].url

    yield open_one
    for one in opened:
        one.close()
