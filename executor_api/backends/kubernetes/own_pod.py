"""The one pod of a sandbox. A Job can come to have a second one, which must never get the call of the first."""

from __future__ import annotations

from collections.abc import Callable

from executor_api.backends.base import ConnectionLostError
from executor_api.backends.kubernetes.cache import PodCache
from executor_api.backends.kubernetes.snapshot import PodSnapshot


class OwnPod:
    """What ``pods`` shows of the pod of ``job``: of any, until it is settled which one is meant."""

    def __init__(self, pods: PodCache, job: str) -> None:
        self.job = job
        self._pods = pods
        self._settled = False
        self._uid: str | None = None

    @property
    def now(self) -> PodSnapshot | None:
        """The pod as last seen; None if it has not been seen, or another is there in its place."""
        return self._ours(self._pods.get(self.job))

    def settle(self) -> None:
        """From now on the pod that is there is meant; if there is none, none that comes later is."""
        if not self._settled:
            pod = self.now
            self._settled, self._uid = True, None if pod is None else pod.uid

    def dialable(self) -> PodSnapshot:
        """The pod, if its runner can be dialled. Raises `ConnectionLostError`."""
        return dialable(self.now, self.job)

    async def wait(self, enough: Callable[[PodSnapshot | None], bool], seconds: float) -> PodSnapshot | None:
        """The pod once ``enough`` says so, or as it is after that many seconds."""
        await self._pods.wait(self.job, lambda pod: enough(self._ours(pod)), seconds)
        return self.now

    def _ours(self, pod: PodSnapshot | None) -> PodSnapshot | None:
        return pod if pod is not None and (not self._settled or pod.uid == self._uid) else None


def dialable(pod: PodSnapshot | None, job: str) -> PodSnapshot:
    """The pod of a sandbox, if its runner can be dialled. Raises `ConnectionLostError`."""
    if pod is None or pod.ip is None or pod.ended:
        raise ConnectionLostError(f"sandbox {job} has no running pod")
    return pod
