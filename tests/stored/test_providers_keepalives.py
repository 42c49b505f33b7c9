"""A provider's own `keepalive` events: a client sees them when they come, and no journal has them (design §7)."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import Api, read_frames
from tests.support.canned import Canned, sse_answer
from tests.support.running import Running

KEEPALIVE = {"type": "keepalive", "sequence_number": 3}


def without_pings(content: bytes) -> bytes:
    pings = (b": keepalive", b"event: keepalive")
    return b"".join(frame.raw for frame in read_frames(content) if not frame.raw.startswith(pings))


@pytest.mark.parametrize("provider", ["openai", "plain"])
@pytest.mark.parametrize("after", [2, 5])
def test_they_reach_the_client_and_not_the_journal(keeping: Running, provider: str, after: int) -> None:
    with Api(keeping) as api:
        first = api.ask("responses", f"{provider}/lorem?chunks=5&fault=keepalive&after={after}", stream=True)
        kept = [event for event in first.events if event["type"] != "keepalive"]
        assert len(first.events) == len(kept) + 1
        assert [event["sequence_number"] for event in kept] == list(range(len(kept)))
        name = kept[0]["response"]["id"]
        again = api.get(f"/v1/responses/{name}?stream=true")
        assert again.content == without_pings(first.content)
        for last in range(len(kept)):
            rest = api.get(f"/v1/responses/{name}?stream=true&starting_after={last}")
            assert [event["sequence_number"] for event in rest.events] == list(range(last + 1, len(kept)))


MIXED = """
[providers.other]
kind = "openai-compatible"
base_url = "http://127.0.0.1:9/v1"
speaks = ["chat"]
[models.mixed]
target = "lab/m"
fallback = ["other/m"]
"""


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("model", ["lab/m", "mixed"])
@pytest.mark.parametrize("reads", [1, 2])
def test_many_of_them_in_one_read_leave_nothing_behind(tmp_path: Path, store: bool, model: str, reads: int) -> None:
    """Also beside the beginning and the end of an answer, where the stream itself is what is kept, and where another provider
    of the plan is asked in another dialect."""
    response = {"id": "resp_1", "object": "response", "status": "in_progress", "model": "m", "output": []}
    item: dict[str, Any] = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    item["content"] = [{"type": "output_text", "text": "ebb", "annotations": []}]
    said: list[dict[str, Any]] = [
        {"type": "response.created", "response": response},
        KEEPALIVE,
        {"type": "response.in_progress", "response": response},
        KEEPALIVE,
        KEEPALIVE,
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        KEEPALIVE,
        {
            "type": "response.output_text.delta",
            "output_index": 0,
            "content_index": 0,
            "item_id": "msg_1",
            "delta": "ebb",
        },
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        KEEPALIVE,
        {"type": "response.completed", "response": {**response, "status": "completed", "output": [item]}},
    ]
    begin, delta, end = sse_answer(*said, named=True).partition(b"event: response.output_text.delta")
    with Canned(begin + delta + end if reads == 1 else (begin, delta + end)) as provider:
        toml = provider.toml("lab", "openai-compatible", 'speaks = ["responses"]') + MIXED
        with (
            Running(f"[server]\nport = 0\ndata_dir = {json.dumps(str(tmp_path))}\n" + toml) as gateway,
            Api(gateway) as api,
        ):
            headers = {} if store else {"tidegate-resume-grace": "5s"}
            first = api.ask("responses", model, stream=True, store=store, headers=headers)
            path = f"/v1/responses/{first.events[0]['response']['id']}?stream=true"
            if not store:
                path = f"/v1/streams/{first.headers['tidegate-stream']}"
            assert api.get(path).content == without_pings(first.content)
    assert first.kinds.count("keepalive") == 5
