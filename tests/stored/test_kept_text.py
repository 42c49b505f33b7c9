"""An answer that breaks off keeps what it has said: its last event has it, and so has the object that is stored."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.stored.conftest import MODELS
from tests.support.processes import Gateway
from tests.support.raw import Raw, get, post
from tests.support.running import Running, wait_for
from tests.support.sockets import Socket
from tidegate.sim import SimServer

Event = dict[str, Any]

TOOL = {
    "type": "function",
    "name": "tell",
    "parameters": {"type": "object", "properties": {"what": {"type": "string"}}},
}
LONG = json.dumps({"what": "a tide that comes in slowly and goes out again " * 4})

each_provider = pytest.mark.parametrize("provider", [*MODELS.values(), "plain"])
each_way = pytest.mark.parametrize(
    "way",
    [{"stream": True}, {"stream": True, "background": True}, {"background": True}],
    ids=["streamed", "both", "polled"],
)


@pytest.fixture
def api(keeping: Running) -> Any:
    with httpx.Client(base_url=keeping.origin, timeout=20, trust_env=False) as found:
        yield found


def events_of(body: bytes) -> list[Event]:
    found = (frame.partition(b"data: ")[2] for frame in body.split(b"\n\n"))
    return [json.loads(data) for data in found if data.startswith(b"{")]


def spoken(events: list[Event], stem: str) -> str:
    return "".join(event["delta"] for event in events if event["type"] == f"response.{stem}.delta")


def text_of(item: Event) -> str:
    """What a message, a reasoning or a call has said, whatever stands around it."""
    parts = [*item.get("content", ()), *item.get("summary", ())]
    told = [part.get("text", part.get("refusal", "")) for part in parts]
    return "".join([*told, item.get("arguments", "")])


def check_kept(response: Event, events: list[Event]) -> None:
    """All deltas of the stream stand in the object, in items that are as they were announced."""
    said: dict[int, str] = {}
    for event in events:
        if event["type"].endswith(".delta"):
            said[event["output_index"]] = said.get(event["output_index"], "") + event["delta"]
    assert said
    assert {index: text_of(item) for index, item in enumerate(response["output"])} == said
    added = [event["item"] for event in events if event["type"] == "response.output_item.added"]
    assert [item["id"] for item in response["output"]] == [item["id"] for item in added]
    assert response["output"][-1].get("status", "incomplete") == "incomplete"


def ended(api: httpx.Client, name: str) -> Event:
    found: Event = {}

    def look() -> bool:
        found.update(api.get(f"/v1/responses/{name}").json())
        return found["status"] not in ("queued", "in_progress")

    assert wait_for(look, 5)
    return found


def run(api: httpx.Client, **body: Any) -> tuple[Event, list[Event]]:
    """The object that is stored of a response at its end, and its events."""
    answer = api.post("/v1/responses", json={"input": "x", **body})
    assert answer.status_code == 200
    events = events_of(answer.content) if body.get("stream") else []
    stored = ended(api, events[0]["response"]["id"] if events else answer.json()["id"])
    replayed = events_of(api.get(f"/v1/responses/{stored['id']}?stream=true").content)
    if events:
        assert replayed == events
    assert replayed[-1]["response"] == stored
    return stored, replayed


# -- the provider breaks ----------------------------------------------------------------------------------------------


@pytest.mark.fault("FAULT-CUT")
@each_provider
@each_way
def test_what_was_said_before_the_provider_broke_is_kept(api: httpx.Client, provider: str, way: Event) -> None:
    stored, events = run(api, model=f"{provider}/lorem?chunks=30&fault=cut&after=12", **way)
    assert (stored["status"], events[-1]["type"]) == ("failed", "response.failed")
    assert len(spoken(events, "output_text")) > 20
    check_kept(stored, events)
    (part,) = stored["output"][0]["content"]
    assert part == {"type": "output_text", "text": spoken(events, "output_text"), "annotations": [], "logprobs": []}


@pytest.mark.fault("FAULT-CUT")
@pytest.mark.parametrize(
    ("script", "stem", "kind"),
    [
        ("refusal", "refusal", "refusal"),
        ("reasoning", "reasoning_summary_text", "summary_text"),
        ("reasoning?raw=1", "reasoning_text", "reasoning_text"),
    ],
)
@pytest.mark.parametrize("provider", ["openai", "plain", "lab", "anthropic"])
def test_refusals_and_thoughts_that_were_cut_are_kept(
    api: httpx.Client, provider: str, script: str, stem: str, kind: str
) -> None:
    joint = "&" if "?" in script else "?"
    stored, events = run(api, model=f"{provider}/{script}{joint}fault=cut&after=6", stream=True)
    assert stored["status"] == "failed"
    check_kept(stored, events)
    relayed = MODELS["responses"], "plain"
    if provider in relayed:  # the others tell raw thoughts, or put them in a summary, as their API does
        parts = [part for item in stored["output"] for name in ("content", "summary") for part in item.get(name, ())]
        assert [part["type"] for part in parts] == [kind]
        assert text_of(stored["output"][0]) == spoken(events, stem)


@pytest.mark.fault("FAULT-CUT")
@pytest.mark.parametrize("provider", ["openai", "plain", "lab", "anthropic"])
def test_the_arguments_of_a_call_that_was_cut_are_kept(api: httpx.Client, provider: str) -> None:
    body = {"tools": [TOOL], "stream": True}
    stored, events = run(api, model=f"{provider}/tools?args={LONG}&chunks=20&fault=cut&after=5", **body)
    assert stored["status"] == "failed"
    check_kept(stored, events)
    (call,) = stored["output"]
    assert (call["type"], call["name"], call["status"]) == ("function_call", "tell", "incomplete")
    assert LONG.startswith(call["arguments"])
    assert 0 < len(call["arguments"]) < len(LONG)


def check_continued(api: httpx.Client, stored: Event) -> None:
    """Whoever goes on from it has what it said."""
    following = {"model": "openai/echo", "input": "y", "previous_response_id": stored["id"]}
    after = api.post("/v1/responses", json=following)
    assert after.status_code == 200
    asked = api.get(f"/v1/responses/{after.json()['id']}/input_items?order=asc").json()["data"]
    assert [item for item in asked if item["role"] == "assistant"] == stored["output"]


@pytest.mark.parametrize("provider", ["openai", "lab"])
def test_whoever_goes_on_from_it_has_it(api: httpx.Client, provider: str) -> None:
    stored, _ = run(api, model=f"{provider}/lorem?chunks=30&fault=cut&after=12", stream=True)
    check_continued(api, stored)


@pytest.mark.parametrize("provider", ["openai", "lab"])
def test_whoever_goes_on_from_a_call_that_was_cut_has_to_answer_it(api: httpx.Client, provider: str) -> None:
    cut = f"{provider}/tools?args={LONG}&chunks=20&fault=cut&after=5"
    stored, _ = run(api, model=cut, tools=[TOOL], stream=True)
    name = stored["output"][0]["call_id"]
    following = {"model": "openai/echo", "input": "y", "previous_response_id": stored["id"]}
    refused = api.post("/v1/responses", json=following)
    assert refused.status_code == 400
    assert name in refused.json()["error"]["message"]
    answer = {"type": "function_call_output", "call_id": name, "output": "cut"}
    assert api.post("/v1/responses", json={**following, "input": [answer]}).status_code == 200


# -- it is ended ------------------------------------------------------------------------------------------------------


@each_provider
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "polled"])
def test_what_was_said_before_it_was_cancelled_is_kept(
    keeping: Running, api: httpx.Client, provider: str, stream: bool
) -> None:
    body = {"model": f"{provider}/lorem?chunks=1000&gap=10", "input": "x", "background": True, "stream": stream}
    with Raw(keeping) as client:
        client.send(post(json.dumps(body).encode()))
        if stream:
            name = client.response(head_only=True)["tidegate-stream"]
        else:
            name = client.response().json["id"]
        with Raw(keeping) as other:
            other.send(get(f"/v1/responses/{name}?stream=true"))
            other.until(b"output_text.delta")
        cancelled = api.post(f"/v1/responses/{name}/cancel").json()
    assert cancelled["status"] == "cancelled"
    assert api.get(f"/v1/responses/{name}").json() == cancelled
    check_continued(api, cancelled)
    check_kept(cancelled, events_of(api.get(f"/v1/responses/{name}?stream=true").content))


def test_over_a_websocket_the_last_event_has_it_too(keeping: Running) -> None:
    with Socket(keeping) as client:
        events = client.turn("openai/lorem?chunks=30&fault=cut&after=12", input="x")
    assert events[-1]["type"] == "response.failed"
    check_kept(events[-1]["response"], events)


KILLED = """
[server]
port = {port}
data_dir = "{data}"
[providers.sim]
base_url = "{sim}"
[providers.lab]
kind = "openai-compatible"
base_url = "{sim}"
"""


@pytest.mark.fault("FAULT-KILLED")
def test_what_was_written_before_a_kill_is_kept(tmp_path: Path) -> None:
    asyncio.run(killed(tmp_path))


async def killed(folder: Path) -> None:
    names: list[str] = []
    async with SimServer(keep_requests=0) as sim:
        gateway = Gateway(KILLED.replace("{sim}", sim.base_url).replace("{data}", str(folder)), folder)
        await gateway.start()
        async with httpx.AsyncClient(base_url=gateway.origin, timeout=20) as client:
            for model in ("sim/lorem?chunks=1000&gap=10", "lab/lorem?chunks=1000&gap=10"):
                body = {"model": model, "input": "x", "background": True}
                names.append((await client.post("/v1/responses", json=body)).json()["id"])
            await asyncio.sleep(0.8)
        gateway.process.send_signal(signal.SIGKILL)
        await gateway.stop()
        await gateway.start()
        with httpx.Client(base_url=gateway.origin, timeout=20, trust_env=False) as again:
            await asyncio.to_thread(check_killed, again, names)
        await gateway.stop()


def check_killed(api: httpx.Client, names: list[str]) -> None:
    for name in names:
        stored = api.get(f"/v1/responses/{name}").json()
        events = events_of(api.get(f"/v1/responses/{name}?stream=true").content)
        assert stored["error"]["message"].startswith("gateway_interrupted")
        assert events[-1]["response"] == stored
        check_kept(stored, events)
