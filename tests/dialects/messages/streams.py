"""Streams of a provider that speaks the Messages API, and what the official SDK makes of ours."""

import json
from collections.abc import Iterable
from typing import Any

import anthropic
import httpx2
import msgspec
import pydantic
from anthropic.types import Message as SdkMessage
from anthropic.types import RawMessageStreamEvent

from tests.dialects import common
from tidegate.dialects.codec import Collector
from tidegate.dialects.dialect import Destination
from tidegate.dialects.messages.decoder import MessagesDecoder, decode_message
from tidegate.wire.events import Event, Laws, TextDelta
from tidegate.wire.items import CanonicalRequest, Output, Tool

REQUEST = CanonicalRequest(model="m", items=[])
WITH_PATCH = CanonicalRequest(model="m", items=[], tools=[Tool(name="apply_patch", custom=True), Tool(name="f")])
CHINESE = "潮汐之门🌊，𠮷野家"

_EVENT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(RawMessageStreamEvent)


def destination(**members: Any) -> Destination:
    return common.destination(endpoint="messages", **members)


def frame(type_: str, **members: Any) -> bytes:
    return common.frame({"type": type_, **members}, type_)


def start(**usage: int) -> bytes:
    message: dict[str, Any] = {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 11, "output_tokens": 1, **usage},
    }
    return frame("message_start", message=message)


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> bytes:
    """A whole block: start, deltas, stop."""
    return b"".join(
        (
            frame("content_block_start", index=index, content_block=content),
            *(frame("content_block_delta", index=index, delta=delta) for delta in deltas),
            frame("content_block_stop", index=index),
        )
    )


def text(index: int, *pieces: str) -> bytes:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": piece} for piece in pieces))


def thinking(index: int, *pieces: str, signature: str = "c2ln") -> bytes:
    deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
    if signature:
        deltas.append({"type": "signature_delta", "signature": signature})
    return block(index, {"type": "thinking", "thinking": "", "signature": ""}, *deltas)


def call(index: int, name: str, *pieces: str, id_: str = "toolu_01") -> bytes:
    content = {"type": "tool_use", "id": id_, "name": name, "input": {}}
    return block(index, content, *({"type": "input_json_delta", "partial_json": piece} for piece in pieces))


def end(reason: str | None = "end_turn", stop_sequence: str | None = None, **usage: Any) -> bytes:
    counted = {"output_tokens": 7, **usage}
    return frame("message_delta", delta={"stop_reason": reason, "stop_sequence": stop_sequence}, usage=counted) + frame(
        "message_stop"
    )


PING = frame("ping")

VECTORS: dict[str, bytes] = {
    "text": start() + PING + text(0, "Hel", "lo ", "wor", "ld") + end(),
    "chinese": start() + text(0, *CHINESE) + end(),
    "crlf": (start() + text(0, "a", "b") + end()).replace(b"\n", b"\r\n"),
    "thinking": start() + thinking(0, "let me ", "see") + text(1, "42") + end(),
    "silent-thinking": start() + thinking(0) + text(1, "42") + end(),
    "redacted": start() + block(0, {"type": "redacted_thinking", "data": "b3BhcXVl"}) + text(1, "42") + end(),
    "interleaved": start() + thinking(0, "a") + text(1, "b") + thinking(2, "c", signature="ZA") + text(3, "d") + end(),
    "call": start() + text(0, "I look.") + call(1, "f", '{"ci', 'ty":"上', '海"}') + end("tool_use"),
    "calls": start() + call(0, "f", "{}", id_="toolu_a") + call(1, "f", '{"x":1}', id_="toolu_b") + end("tool_use"),
    "call-without-input": start() + call(0, "f", "") + end("tool_use"),
    "custom": start() + call(0, "apply_patch", '{"input":"*** Be', 'gin\\n潮"}') + end("tool_use"),
    "length": start() + text(0, "cut sh") + end("max_tokens"),
    "refusal": start() + text(0, "I") + end("refusal"),
    "stop-sequence": start() + text(0, "one, two") + end("stop_sequence", "three"),
    "cached": start(cache_read_input_tokens=100, cache_creation_input_tokens=20) + text(0, "x") + end(),
    "search": start()
    + text(0, "I look it up.")
    + block(
        1,
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"query":"ti'},
        {"type": "input_json_delta", "partial_json": 'des"}'},
    )
    + block(
        2,
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": [
                {"type": "web_search_result", "url": "https://a.example", "title": "A", "encrypted_content": "ZW5j"}
            ],
        },
    )
    + text(3, "It says ")
    + block(
        4,
        {"type": "text", "text": "", "citations": []},
        {"type": "text_delta", "text": "high"},
        {
            "type": "citations_delta",
            "citation": {
                "type": "web_search_result_location",
                "url": "https://a.example",
                "title": "A",
                "cited_text": "high",
                "encrypted_index": "aQ",
            },
        },
    )
    + text(5, ".")
    + end(),
    "server-tool": start()
    + block(
        0,
        {"type": "server_tool_use", "id": "srvtoolu_2", "name": "bash_code_execution", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"command":"ls"}'},
    )
    + block(
        1,
        {"type": "bash_code_execution_tool_result", "tool_use_id": "srvtoolu_2", "content": {"stdout": "潮"}},
    )
    + text(2, "done")
    + end(),
    "unknown": start()
    + frame("tidal_wave", delta="high", index="?")
    + frame("content_block_delta", index=0, delta={"type": "foam_delta", "foam": 1})
    + frame("content_block_delta", index=0, delta={"type": "foam_delta", "text": {"height": 3}})
    + block(0, {"type": "foam", "height": 3}, {"type": "foam_delta", "foam": 1})
    + text(1, "x")
    + end(),
    "usage-first": start()
    + text(0, "x")
    + frame("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5, "input_tokens": 12})
    + frame("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9})
    + frame("message_stop"),
}
"""Answers that are whole."""

BROKEN: dict[str, bytes] = {
    "cut": start() + text(0, "x"),
    "no-stop": start() + text(0, "x") + frame("message_delta", delta={"stop_reason": "end_turn"}, usage={}),
    "no-reason": start() + text(0, "x") + end(None),
    "garbage": start() + b"event: content_block_delta\ndata: {oops\n\n",
    "not-utf8": start()
    + b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"text":"\xff\xc3("}}\n\n',
    "no-block": start() + frame("content_block_start", index=0, content_block={"kind": 1}),
    "empty": b"",
    "overloaded": start() + frame("error", error={"type": "overloaded_error", "message": "Overloaded"}),
}


def decoded(
    reads: Iterable[bytes], request: CanonicalRequest = WITH_PATCH, to: Destination | None = None
) -> list[Event]:
    """All events of a stream, checked by the laws."""
    decoder = MessagesDecoder(to or destination(), request)
    out: list[Event] = []
    for read in reads:
        out += decoder.feed(read)
    out += decoder.eof()
    assert decoder.feed(b"event: ping\n\n") == []
    assert decoder.eof() == []
    laws = Laws()
    for event in out:
        laws.check(event)
    assert laws.ended
    return out


def joined(events: Iterable[Event]) -> list[Event]:
    """The same events with texts that follow each other made one: how much one delta holds says nothing."""
    out: list[Event] = []
    for event in events:
        if isinstance(event, TextDelta) and out and isinstance(out[-1], TextDelta):
            out[-1] = TextDelta(out[-1].text + event.text)
        else:
            out.append(event)
    return out


def collected(events: Iterable[Event]) -> Output:
    collector = Collector()
    for event in events:
        collector.add(event)
    return collector.output()


def plain(output: Output) -> Any:
    """An output as plain values: in JSON that was kept as it came, the order of members says nothing."""
    return json.loads(msgspec.json.encode(output))


def message(stream: bytes) -> dict[str, Any]:
    """The whole message that the SDK makes of a stream: what the same answer would be in one body."""
    found: dict[str, Any] = anthropic_message(stream).to_dict()
    for content in found["content"]:
        content.pop("parsed_output", None)
    return found


def whole(body: dict[str, Any], request: CanonicalRequest = WITH_PATCH) -> list[Event]:
    return decode_message(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(), destination(), request)


def check_events(out: bytes) -> list[dict[str, Any]]:
    """The events of a stream of ours, each validated by the SDK's type and named by its type."""
    found = []
    for one in common.frames(out):
        event = json.loads(one.data)
        assert one.event.decode() == event["type"]
        if event["type"] not in ("ping", "error"):
            _EVENT.validate_python(event)
        found.append(event)
    return found


def anthropic_message(out: bytes) -> SdkMessage:
    """The message that the SDK accumulates from a stream."""

    def answer(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=out)

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = anthropic.Anthropic(api_key="k", base_url="http://lab", http_client=http, max_retries=0)
    with (
        client,
        client.messages.stream(model="m", max_tokens=10, messages=[{"role": "user", "content": "?"}]) as stream,
    ):
        return stream.get_final_message()
