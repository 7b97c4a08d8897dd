"""Events of an execution as server-sent events."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import httpx_sse
from support.http_service import Service, gone
from support.playback import Frames

from executor_api.http import sse
from executor_runner.protocol.frames import FrameKind, encode_artifact, encode_json

EURO = "€".encode()
FRAMES: Frames = [
    (FrameKind.STDOUT, b"a" + EURO[:1]),
    (FrameKind.STDERR, b"warn\n"),
    (FrameKind.STDOUT, EURO[1:] + b"\n"),
    (FrameKind.STDOUT, b"\xff"),
    (FrameKind.GAP, encode_json({"stream": 1, "dropped_bytes": 9})),
    (FrameKind.STDOUT, EURO[:2]),
    (FrameKind.ARTIFACT, encode_artifact("out.txt", b"12345")),
]
SAID = [
    ("stdout", {"text": "a"}),
    ("stderr", {"text": "warn\n"}),
    ("stdout", {"text": "€\n"}),
    ("stdout", {"base64": "/w=="}),
    ("gap", {"stream": "stdout", "dropped_bytes": 9}),
    ("artifact", {"path": "out.txt", "size": 5}),
    ("stdout", {"base64": "4oI="}),
]


async def read(service: Service, method: str, path: str, **options: Any) -> list[httpx_sse.ServerSentEvent]:
    async with httpx_sse.aconnect_sse(service.client, method, path, **options) as source:
        assert source.response.status_code == 200
        assert source.response.headers["x-accel-buffering"] == "no"
        return [event async for event in source.aiter_sse()]


async def test_a_call_can_be_followed_from_its_post(service: Service) -> None:
    """Status, output, gap and artifact come in order; the last event is the whole execution."""
    service.backend.scripts["show"] = (FRAMES, {})
    events = await read(service, "POST", "/execute", json={"code": "show"}, headers={"Accept": "text/event-stream"})
    said = [(event.event, event.json()) for event in events if event.event not in ("status", "finished")]
    assert said == SAID
    assert events[0].json()["status"] == "queued"
    finished = events[-1].json()
    assert (events[-1].event, finished["status"]) == ("finished", "succeeded")
    assert finished == (await service.client.get(f"/executions/{finished['id']}")).json()


async def test_a_cut_stream_goes_on_exactly_where_it_was(service: Service) -> None:
    """From every event on, the rest is the same as in the uncut stream: nothing twice, nothing lost."""
    service.backend.scripts["show"] = (FRAMES, {})
    execution_id = (await service.client.post("/execute", json={"code": "show"})).json()["id"]
    path = f"/executions/{execution_id}/events"
    whole = [(event.id, event.event, event.data) for event in await read(service, "GET", path)]
    for place, (number, kind, _) in enumerate(whole):
        if number not in (earlier for earlier, _, _ in whole[:place]) and kind != "finished":
            rest = await read(service, "GET", path, headers={"Last-Event-ID": number})
            assert [(event.id or number, event.event, event.data) for event in rest] == whole[place + 1 :]
            assert [event.data for event in await read(service, "GET", f"{path}?after={number}")] == [
                data for _, _, data in whole[place + 1 :]
            ]


async def test_whoever_has_everything_is_told_not_to_come_back(service: Service) -> None:
    """204 stops an EventSource from reconnecting for ever."""
    execution_id = (await service.client.post("/execute", json={"code": "1"})).json()["id"]
    path = f"/executions/{execution_id}/events"
    last = (await read(service, "GET", path))[-1].id
    assert (await service.client.get(path, headers={"Last-Event-ID": last})).status_code == 204


async def test_output_comes_while_the_call_runs(service: Service) -> None:
    """An event is on the wire when it happens, not when the call ends; leaving the stream does not end the call."""
    execution_id = await service.waiting()
    path = f"/v1/executions/{execution_id}/events"
    async with httpx_sse.aconnect_sse(service.client, "GET", path) as source:
        async for event in source.aiter_sse():
            if event.event == "stdout":
                assert event.json() == {"text": "waiting\n"}
                break
    assert (await service.client.get(f"/executions/{execution_id}")).json()["status"] == "running"
    service.backend.release.set()
    assert (await read(service, "GET", path))[-1].event == "finished"


async def test_pauses_have_heartbeats(service: Service) -> None:
    """While nothing happens, comments keep proxies from closing the connection."""
    execution_id = await service.waiting()
    async with aclosing(sse.stream(service.executions, "default", execution_id, heartbeat=0.01)) as chunks:
        async for chunk in chunks:
            if chunk == b": heartbeat\n\n":
                break


async def test_a_follower_that_leaves_takes_its_tasks_along(service: Service) -> None:
    """A closed stream leaves no task waiting for events."""
    execution_id = await service.waiting()
    before = asyncio.all_tasks()
    async with httpx_sse.aconnect_sse(service.client, "GET", f"/executions/{execution_id}/events") as source:
        await anext(source.aiter_sse())
    await gone(asyncio.all_tasks() - before)
