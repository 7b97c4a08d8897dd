"""What is remembered of pods, by events alone and a clock that stands still."""

from __future__ import annotations

from typing import Any

from executor_api.backends.kubernetes.cache import HICCUP_SECONDS, REMEMBER_SECONDS, PodCache
from executor_api.backends.kubernetes.errors import UnreachableError
from executor_api.backends.kubernetes.watch import Changed, Listed, Troubled, Watching


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _pod(job: str, uid: str = "1") -> dict[str, Any]:
    metadata = {"name": f"{job}-{uid}", "uid": uid, "labels": {"batch.kubernetes.io/job-name": job}}
    return {"metadata": metadata, "status": {"phase": "Running"}}


def _cache(clock: _Clock) -> PodCache:
    return PodCache(clock, lambda _: None)


def test_gone_pods_are_forgotten_together() -> None:
    """A listing after a quiet time forgets all that went long ago, and what is there stays."""
    clock = _Clock()
    cache = _cache(clock)
    cache.apply(Listed([_pod("a"), _pod("b"), _pod("c", "2")]))
    for job in ("a", "b"):
        cache.apply(Changed(_pod(job), deleted=True))
    clock.now = REMEMBER_SECONDS + 1
    cache.apply(Listed([_pod("c", "2")]))
    assert (cache.get("a"), cache.get("b")) == (None, None)
    kept = cache.get("c")
    assert kept is not None
    assert not kept.gone


def test_second_pod_of_a_job_is_not_taken_for_the_first() -> None:
    """Should a Job come to have another pod, the first one's end stays what is known: no call is sent again."""
    cache = _cache(_Clock())
    cache.apply(Listed([_pod("a", "1")]))
    cache.apply(Changed(_pod("a", "2"), deleted=False))
    cache.apply(Changed(_pod("a", "1"), deleted=True))
    found = cache.get("a")
    assert found is not None
    assert (found.uid, found.gone) == ("1", True)
    cache.apply(Listed([_pod("a", "2")]))
    assert cache.get("a") == found


def test_interruption_of_a_moment_is_no_trouble() -> None:
    """A watch that is cut and opened again does not turn the service away from calls; one that stays away does."""
    clock = _Clock()
    cache = _cache(clock)
    assert cache.trouble, "nothing is known yet"
    cache.apply(Listed([]))
    cut = Troubled(UnreachableError("cut"))
    cache.apply(cut)
    assert cache.trouble is None
    clock.now += HICCUP_SECONDS
    cache.apply(cut)
    assert cache.trouble == "cut"
    cache.apply(Watching())
    assert cache.trouble is None
