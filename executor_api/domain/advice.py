"""What to do about each reason for which an execution did not succeed."""

from __future__ import annotations

from executor_api.domain.outcome import Reason

_AGAIN = "The call is not at fault; run it again if that is safe."

ADVICE: dict[Reason, str] = {
    Reason.EXIT_CODE: "The call ended by itself; stderr usually says why.",
    Reason.SIGNAL: "The call itself died of the signal; look for a crash, or for who sends it.",
    Reason.EXCEPTION: "Read `exception`; its traceback names the line.",
    Reason.TIMEOUT: "Ask for a longer `timeout_seconds`, or do less in one call; its output shows how far it came.",
    Reason.CANCELLED: "Somebody cancelled it; start another if it is wanted after all.",
    Reason.OUT_OF_MEMORY: "Ask for more `resources.memory`, or hold less in memory at once.",
    Reason.OUTPUT_LIMIT: "Print less, or write it to a file and bring that back by `artifacts`.",
    Reason.PROCESS_LIMIT: "Look for a fork bomb, or start fewer processes at once; `max_processes` of the template is "
    "the limit.",
    Reason.STORAGE_LIMIT: "Ask for more `resources.ephemeral_storage`, or write less.",
    Reason.SETUP_FAILED: "Read `message`: a file or an argument could not be put in place; correct the request.",
    Reason.EVICTED: f"The node was drained or ran out of something, or a queue took the place back. {_AGAIN}",
    Reason.PREEMPTED: f"Something more important took its place. {_AGAIN} A higher `priority_class` prevents it.",
    Reason.NODE_LOST: f"The node is gone. {_AGAIN}",
    Reason.IMAGE_PULL: "The operator corrects the template's image or its pull secret; then run it again.",
    Reason.UNSCHEDULABLE: "Ask for less, or the operator adds nodes or frees some; it did not run, so it can be sent "
    "again.",
    Reason.QUOTA: "Wait until other calls have ended, or the operator raises the quota of namespace or queue.",
    Reason.START_TIMEOUT: "It did not run, so it can be sent again; if that happens often, the operator looks at the "
    "nodes and at `start_seconds`.",
    Reason.SANDBOX_LOST: f"Nobody can say how far it came. {_AGAIN}",
    Reason.REJECTED_TEMPLATE: "The operator corrects the template (`executor-api doctor` says what is refused).",
}
"""For every reason, in a sentence or two."""
