"""Names of tools that the client's API takes and the provider's refuses: they arrive as others and come back as they were."""

import json
import re
from typing import Any, Final, cast

import pytest

from tests.dialects import common
from tests.dialects.test_round_trips import TARGETS, UPSTREAMS
from tidegate.dialects.bridge import Bridge
from tidegate.dialects.chat import ChatDialect
from tidegate.dialects.codec import BridgedRequest
from tidegate.dialects.dialect import EVENT_STREAM, Stream, StreamingRequest
from tidegate.dialects.envelope import KEY_BYTES, Envelopes, Sealer
from tidegate.dialects.gemini import GeminiDialect
from tidegate.dialects.messages import MessagesDialect
from tidegate.dialects.responses import ResponsesDialect

LONG: Final = "mcp__plugin_oh-my-claudecode_omc-tools__lsp_diagnostics_of_a_whole_directory"
LONGER: Final = f"{LONG}_and_below"
DOTTED: Final = "harbour.v2:tide"
NUMBERED: Final = "3d_chart"
SHORT: Final = "tide"
NAMES: Final = (LONG, LONGER, DOTTED, NUMBERED, SHORT)
TAKEN: Final = {
    "responses": re.compile(r"[A-Za-z0-9_-]{1,64}"),
    "chat": re.compile(r"[A-Za-z0-9_-]{1,64}"),
    "messages": re.compile(r"[A-Za-z0-9_-]{1,64}"),
    "gemini": re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}"),
}
"""What each API documents."""

CROSSINGS: Final = [(client, target) for client in TARGETS for target in TARGETS if client != target]


def request_of(client: str) -> BridgedRequest:
    """Offers all of them, has called the longest before, and forces it now."""
    body: dict[str, Any]
    match client:
        case "responses":
            body = {
                "input": [
                    {"role": "user", "content": "?"},
                    {"type": "function_call", "call_id": "c1", "name": LONG, "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "c1", "output": "high"},
                ],
                "tools": [{"type": "function", "name": name, "parameters": {"type": "object"}} for name in NAMES],
                "tool_choice": {"type": "function", "name": LONG},
            }
            return ResponsesDialect().parse(json.dumps({"model": "m", "stream": True, **body}).encode())
        case "chat":
            call = {"id": "c1", "type": "function", "function": {"name": LONG, "arguments": "{}"}}
            body = {
                "messages": [
                    {"role": "user", "content": "?"},
                    {"role": "assistant", "content": None, "tool_calls": [call]},
                    {"role": "tool", "tool_call_id": "c1", "content": "high"},
                ],
                "tools": [{"type": "function", "function": {"name": name}} for name in NAMES],
                "tool_choice": {"type": "function", "function": {"name": LONG}},
            }
            return ChatDialect().parse(json.dumps({"model": "m", "stream": True, **body}).encode())
        case "messages":
            body = {
                "max_tokens": 100,
                "messages": [
                    {"role": "user", "content": "?"},
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": LONG, "input": {}}]},
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "high"}]},
                ],
                "tools": [{"name": name, "input_schema": {"type": "object"}} for name in NAMES],
                "tool_choice": {"type": "tool", "name": LONG},
            }
            return MessagesDialect().parse(json.dumps({"model": "m", "stream": True, **body}).encode())
        case _:
            body = {
                "contents": [
                    {"role": "user", "parts": [{"text": "?"}]},
                    {"role": "model", "parts": [{"functionCall": {"name": LONG, "args": {}}}]},
                    {"role": "user", "parts": [{"functionResponse": {"name": LONG, "response": {"output": "high"}}}]},
                ],
                "tools": [{"functionDeclarations": [{"name": name} for name in NAMES]}],
            }
            return GeminiDialect().parse(json.dumps(body).encode(), model="m", stream=True, alt="sse")


def named(value: Any) -> list[str]:
    """All names of tools in a provider's body, in order: those that are offered, chosen and were called."""
    found: list[str] = []
    if isinstance(value, dict):
        if isinstance(value.get("name"), str):
            found.append(value["name"])
        found += value.get("allowedFunctionNames", [])
        for inner in value.values():
            found += named(inner)
    elif isinstance(value, list):
        for inner in value:
            found += named(inner)
    return found


def calling(target: str, *names: str) -> bytes:
    """A provider's stream that calls each of `names`."""
    match target:
        case "responses":
            items = [
                {"type": "function_call", "id": f"fc_{at}", "call_id": f"n{at}", "name": name, "arguments": "{}"}
                for at, name in enumerate(names)
            ]
            done = {"id": "resp_1", "object": "response", "status": "completed", "output": items}
            return common.numbered(
                *(
                    {"type": "response.output_item.done", "output_index": at, "item": one}
                    for at, one in enumerate(items)
                ),
                {"type": "response.completed", "response": done},
            )
        case "chat":
            calls = [
                {"index": at, "id": f"n{at}", "type": "function", "function": {"name": name, "arguments": "{}"}}
                for at, name in enumerate(names)
            ]
            chunk = {
                "id": "x",
                "object": "chat.completion.chunk",
                "choices": [{"index": 0, "delta": {"tool_calls": calls}}],
            }
            end = {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
            return common.frame(chunk) + common.frame(end) + common.frame(b"[DONE]")
        case "messages":
            usage = {"input_tokens": 1, "output_tokens": 1}
            events: list[Any] = [{"type": "message_start", "message": {"id": "m", "model": "c", "usage": usage}}]
            for at, name in enumerate(names):
                block = {"type": "tool_use", "id": f"n{at}", "name": name, "input": {}}
                events.append({"type": "content_block_start", "index": at, "content_block": block})
                events.append({"type": "content_block_stop", "index": at})
            events.append({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": usage})
            events.append({"type": "message_stop"})
            return b"".join(common.frame(event, event["type"]) for event in events)
        case _:
            parts = [{"functionCall": {"id": f"n{at}", "name": name, "args": {}}} for at, name in enumerate(names)]
            return common.frame({"candidates": [{"content": {"parts": parts}, "finishReason": "STOP", "index": 0}]})


def crossing(client: str, target: str) -> tuple[Bridge, Stream, dict[str, Any]]:
    """The bridge, the client's stream once the provider is asked, and what it was asked."""
    request = request_of(client)
    bridge = Bridge(request, common.call(), envelopes=Envelopes(Sealer(bytes(KEY_BYTES)), "t"))
    body, dropped = bridge.forward(UPSTREAMS[target], TARGETS[target])
    assert dropped == ()
    stream = bridge.open(cast("StreamingRequest", request).open(common.call()))
    stream.attempt_bridged(TARGETS[target])
    return bridge, stream, json.loads(body)


@pytest.mark.parametrize(("client", "target"), CROSSINGS)
def test_a_provider_gets_names_that_it_takes(client: str, target: str) -> None:
    _, _, body = crossing(client, target)
    offered = named(body["tools"])
    assert len(offered) == len(set(offered)) == len(NAMES)
    assert SHORT in offered
    assert all(TAKEN[target].fullmatch(name) for name in named(body)), named(body)
    assert offered[0].startswith(LONG[:40])
    assert named(body).count(offered[0]) >= (
        2 if client == "gemini" else 3
    )  # offered, called and, but for Gemini's, chosen


@pytest.mark.parametrize(("client", "target"), CROSSINGS)
def test_a_client_gets_its_own_names_back(client: str, target: str) -> None:
    _, stream, body = crossing(client, target)
    out = common.play(stream, [calling(target, *named(body["tools"]))])
    assert stream.content_type == EVENT_STREAM
    last: list[str] = []
    for event in common.events(out):
        for name in named(event.get("response", event)):
            if name not in last:
                last.append(name)
    assert last == list(NAMES)


@pytest.mark.parametrize(("client", "target"), CROSSINGS)
def test_the_same_name_is_always_the_same_name(client: str, target: str) -> None:
    """What a provider has cached stays the beginning of what it gets next."""
    assert crossing(client, target)[2] == crossing(client, target)[2]


def test_names_that_differ_only_in_what_is_refused_stay_apart() -> None:
    body = {
        "contents": [{"role": "user", "parts": [{"text": "?"}]}],
        "tools": [{"functionDeclarations": [{"name": "a.b"}, {"name": "a:b"}, {"name": "a_b"}]}],
    }
    request = GeminiDialect().parse(json.dumps(body).encode(), model="m")
    bridge = Bridge(request, common.call(), envelopes=Envelopes(Sealer(bytes(KEY_BYTES)), "t"))
    sent, _ = bridge.forward(UPSTREAMS["messages"], TARGETS["messages"])
    names = named(json.loads(sent)["tools"])
    assert len(set(names)) == 3
    assert names[2] == "a_b"
