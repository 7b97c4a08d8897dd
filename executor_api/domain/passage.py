"""The points that an execution passes on its way through the service."""

from __future__ import annotations

from enum import StrEnum


class Point(StrEnum):
    """What has just been done, in the order of a call that needs a sandbox made and loses none."""

    ARRIVED = "arrived"  # the request was read
    ACCEPTED = "accepted"  # it has a place in the queue
    ADMITTED = "admitted"  # it has a slot; again, once a sandbox that waited did not take it
    CREATING = "creating"  # no sandbox waited: one is made
    READY = "ready"  # its sandbox can be dialled
    DISPATCHED = "dispatched"  # the record says that the call may have been sent
    RUNNING = "running"  # the runner said that the child starts
    REPORTED = "reported"  # the report came through the journal
    SETTLED = "settled"  # its outcome is known
    FINISHED = "finished"  # and stored
    TAKEN_UP = "taken_up"  # this process drives it on; another one did before


Passage = tuple[tuple[str, float], ...]
"""Points and seconds since the epoch, in order. Text, since records of a later version may have points of their own."""
