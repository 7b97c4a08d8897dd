"""The audit log inside the service: who it was outlives the service, and a flood of refusals stays a trickle."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from support.doors import Time
from support.house import House, submission
from support.scripted import Script

from executor_api.domain.caller import Origin
from executor_api.service.audit import Audit, Refusal

ORIGIN = Origin(caller="k1", way="api-keys", address="192.0.2.7")


class Lines(list[dict[str, object]]):
    """What was written."""

    def write(self, event: str, /, **fields: object) -> None:
        """Keep one line."""
        self.append({"event": event, **fields})


async def test_who_it_was_is_still_known_after_a_restart(house: House) -> None:
    """The service that settles an execution writes its line, with the caller that another service let in.

    Also where it is stopped as soon as the outcome is known.
    """
    gate, lines = asyncio.Event(), Lines()
    house.backend.script = lambda _id: Script(frames=[gate])
    service = await house.open()
    execution = await service.submit(replace(submission(), origin=ORIGIN))
    await house.crash(service)
    successor = await house.open()
    successor.audit.write = lines.write
    gate.set()
    await successor.wait(execution.id, 60)
    await successor.stop(0)
    (line,) = lines
    assert (line["execution"], line["status"], line["stored"]) == (execution.id, "succeeded", True)
    assert (line["caller"], line["way"], line["address"]) == (ORIGIN.caller, ORIGIN.way, ORIGIN.address)


def test_what_was_left_out_is_counted() -> None:
    """Twenty lines at once, then one a second, which says how many like it had none since."""
    time, lines = Time(), Lines()
    audit = Audit(time)
    audit.write = lines.write
    refusal = Refusal(401, "unauthorized", "GET", "/" + "x" * 1000, "192.0.2.7", None)
    for _ in range(1000):
        audit.refused(refusal)
    assert [line["left_out"] for line in lines] == [0] * 20
    time.seconds += 1.5
    audit.refused(refusal)
    audit.refused(refusal)
    assert [line["left_out"] for line in lines[20:]] == [980]
    audit.refused(replace(refusal, problem="forbidden"))
    assert [line["left_out"] for line in lines[21:]] == [0]
    assert {len(str(line["path"])) for line in lines} == {128}
