"""What an operator may ask of a pool."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from executor_api.domain.pool_settings import MissPolicy, PoolSettings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"floor": 3, "ceiling": 2}, "floor is more than ceiling"),
        ({"size": 1, "ceiling": 2}, "size excludes floor and ceiling"),
        ({"ceiling": 2, "miss": MissPolicy.WAIT}, "miss: wait needs sandboxes that always wait; set size, or a floor"),
        ({"size": 0, "miss": MissPolicy.REJECT}, "miss: reject needs sandboxes that always wait"),
    ],
)
def test_what_can_not_be_is_refused_in_words(settings: dict[str, object], said: str) -> None:
    """Calls that wait for an empty pool would never grow it: only calls that get a sandbox do."""
    with pytest.raises(ValidationError, match=said):
        PoolSettings.model_validate(settings)


def test_a_pool_that_may_be_empty_lets_its_calls_go_cold() -> None:
    """With a floor the other policies are allowed as well."""
    assert PoolSettings(ceiling=2).miss is MissPolicy.COLD
    assert PoolSettings(floor=1, ceiling=2, miss=MissPolicy.REJECT).largest == 2
