"""What must hold of replicas once all calls are over. Each check prints its figures and returns what is wrong."""

from __future__ import annotations

import asyncio
import collections
import json
import time
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING
from urllib.parse import quote

from calls import Sample, Verdict
from jobs import account
from rotation import Replica
from wire import Client

if TYPE_CHECKING:
    from fleet import Fleet

_SETTLED_SECONDS = 120.0
"""By then the cluster must have the pool and no more; the service looks for garbage once a minute."""


def evidence(samples: Iterable[Sample]) -> list[str]:
    """Whether each right answer names its pod by uid; that it alone left its word there is what makes it right."""
    right = [sample for sample in samples if sample.verdict is Verdict.RIGHT]
    uids = collections.Counter((sample.answer.get("sandbox") or {}).get("pod_uid") or "" for sample in right)
    nameless = uids.pop("", 0)
    print(f"{len(right)} right answers, each found its own word only in its pod; {len(uids)} pod uids, ", end="")
    print(f"{nameless} answers without one, {sum(times > 1 for times in uids.values())} uids seen twice")
    return [f"{nameless} answers have no pod uid"] if nameless else []


async def records(client: Client, samples: Sequence[Sample]) -> list[str]:
    """Whether the store that replicas share has one execution for each call that was let in: no call ran as two."""
    found: collections.Counter[str] = collections.Counter()
    path, cursor = "/executions?limit=200", ""
    while True:
        answer = await client.request("GET", path + (f"&cursor={quote(cursor)}" if cursor else ""))
        page = json.loads(answer.body)
        found.update(execution["status"] for execution in page["executions"])
        cursor = page["next_cursor"]
        if not cursor:
            break
    accepted = sum(sample.verdict is not Verdict.REJECTED for sample in samples)
    print(f"executions in the store: {dict(found)}, of {accepted} calls that were let in")
    return [] if found == {"succeeded": accepted} else [f"the store has {dict(found)} for {accepted} calls"]


async def cluster(fleet: Fleet, size: int) -> list[str]:
    """Whether the API server lists the pool at its size, and nothing else, before long."""
    began = time.monotonic()
    while (found := await asyncio.to_thread(fleet.standing)) != (wanted := fleet.full(size)):
        if time.monotonic() > began + _SETTLED_SECONDS:
            return [f"the cluster has {found} after {_SETTLED_SECONDS:.0f} s, not {wanted}"]
        await asyncio.sleep(0.5)
    print(f"the cluster's own list {time.monotonic() - began:.1f} s later: {found}")
    return []


def print_jobs(fleet: Fleet, before: AbstractSet[str], samples: Iterable[Sample]) -> None:
    """Jobs created since only those of ``before`` had ever been seen, and those that calls used up."""
    used = {str((sample.answer.get("sandbox") or {}).get("name")) for sample in samples}
    found = account(before, fleet.jobs.seen(), used, set())
    print(f"Jobs created {found.created}, of which calls needed {found.needed}")


async def pools(replicas: Iterable[Replica], size: int | None) -> list[str]:
    """Whether each replica sees the pool full, and at this size if one is given; then none may be gone either."""
    problems = []
    for replica in replicas:
        try:
            status = await replica.pool.wait_full(60)
        except TimeoutError as error:
            problems.append(f"{replica.url}: {error}")
        except OSError as error:
            print(f"{replica.url} is gone: {error}")
            problems += [f"{replica.url} is gone"] if size is not None else []
        else:
            print(f"{replica.url}: {dict(status)}")
            if size is not None and (status.get("desired"), status.get("ready")) != (size, size):
                problems.append(f"{replica.url} sees {dict(status)}, not {size}")
    return problems
