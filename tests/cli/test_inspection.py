"""`executor-api get`, `list`, `cancel`, `explain` and `pool`: tables for people, JSON for programs."""

from __future__ import annotations

import json
from typing import Any

import pytest


def test_list_is_a_table(service: Any, shell: Any) -> None:
    """Columns line up, nothing is coloured in a pipe, and the next page is told on standard error."""
    other = service.execution(status="failed", reason="out_of_memory", finished_at=None)
    service.will_answer({"executions": [service.execution(), other], "next_cursor": "abc"})
    result = shell.run("list", "--url", service.url)
    assert result.stdout.decode().splitlines() == [
        "ID                          STATUS     REASON         TEMPLATE  CREATED               SECONDS",
        "01JD0000000000000000000001  succeeded                 default   2026-01-31T12:00:00Z  1.250",
        "01JD0000000000000000000001  failed     out_of_memory  default   2026-01-31T12:00:00Z  -",
    ]
    assert result.stderr == b"executor-api: there are more: --cursor abc\n"


def test_filters_become_parameters(service: Any, shell: Any) -> None:
    """Each filter is a query parameter; values go as they are, for the service to judge."""
    service.will_answer({"executions": [], "next_cursor": None})
    shell.run(
        *("list", "--status", "failed", "--status", "running", "--label", "a=b", "--reason", "timeout"),
        *("--created-after", "2026-01-31T12:00:00+01:00", "--limit", "5", "--cursor", "abc"),
        EXECUTOR_URL=service.url,
    )
    assert service.seen[0].path == (
        "/v1/executions?status=failed&status=running&label=a%3Db&reason=timeout"
        "&created_after=2026-01-31T12%3A00%3A00%2B01%3A00&limit=5&cursor=abc"
    )


@pytest.mark.parametrize("command", ["get", "cancel"])
def test_json_is_the_answer(service: Any, shell: Any, command: str) -> None:
    """`--json` prints what the service said."""
    service.will_answer(service.execution(stdout="é\n"))
    result = shell.run(command, service.id, "--json", "--url", service.url)
    assert json.loads(result.stdout) == service.execution(stdout="é\n")


def test_get_shows_the_ending_and_the_output(service: Any, shell: Any) -> None:
    """A line a field that has something to say, and the output below."""
    answer = service.execution(status="failed", reason="exit_code", message="exit code 7", exit_code=7, stdout="a\nb\n")
    service.will_answer(answer)
    result = shell.run("get", service.id, "--url", service.url)
    assert result.stdout.decode().splitlines() == [
        f"id: {service.id}",
        "status: failed",
        "reason: exit_code",
        "message: exit code 7",
        "exit_code: 7",
        "template: default",
        "created_at: 2026-01-31T12:00:00.000Z",
        "start: cold",
        "seconds: 1.250",
        "--- stdout",
        "a",
        "b",
    ]


def test_cancel_tells_whether_it_has_ended(service: Any, shell: Any) -> None:
    """A call that still runs is asked to end."""
    service.will_answer(service.execution(status="running", cancel_requested=True, finished_at=None))
    result = shell.run("cancel", service.id, "--url", service.url)
    assert result.stdout.decode() == f"{service.id} running (asked to end)\n"
    assert service.seen[0].method == "DELETE"


def test_an_unknown_id(service: Any, shell: Any) -> None:
    """The service's sentence, exit code 2; an id can't lead to another path."""
    service.will_refuse(404, "there is no execution ../x")
    result = shell.run("get", "../x", "--url", service.url)
    assert (result.returncode, result.stderr) == (2, b"executor-api: there is no execution ../x\n")
    assert service.seen[0].path == "/v1/executions/..%2Fx"


def test_a_failing_service(service: Any, shell: Any) -> None:
    """A proxy's error page is told in one sentence, exit code 3."""
    service.will_say("<html>", 502)
    result = shell.run("list", "--url", service.url)
    assert result.returncode == 3
    assert b"answered 502 Bad Gateway; is it an executor-api?" in result.stderr


def test_explain_prints_sentences(service: Any, shell: Any) -> None:
    """The summary first, one sentence a line."""
    service.will_answer({"id": service.id, "summary": "It failed.", "sentences": ["Because.", "Do this."]})
    result = shell.run("explain", service.id, "--url", service.url)
    assert result.stdout == b"It failed.\nBecause.\nDo this.\n"
    assert service.seen[0].path == f"/v1/executions/{service.id}/explain"


def test_pool_is_a_table(service: Any, shell: Any) -> None:
    """A line a pool, and below what is wrong; `--json` prints what the service said."""
    figures = {"desired": 10, "ready": 6, "starting": 2, "taken": 3, "hits": 9, "waits": 2, "misses": 1, "conflicts": 0}
    answer = {"pools": [{"template": "default", **figures, "problems": ["2 sandboxes pending for 41 s"]}]}
    service.will_answer(answer)
    service.will_answer(answer)
    service.will_answer({"pools": []})
    assert shell.run("pool", "--url", service.url).stdout.decode().splitlines() == [
        "TEMPLATE  DESIRED  READY  STARTING  TAKEN  HITS  WAITS  MISSES  CONFLICTS",
        "default   10       6      2         3      9     2      1       0",
        "default: 2 sandboxes pending for 41 s",
    ]
    assert json.loads(shell.run("pool", "--json", "--url", service.url).stdout) == answer
    assert b"there is no warm pool" in shell.run("pool", "--url", service.url).stdout
