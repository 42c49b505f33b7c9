"""A client of a Responses stream that trusts nobody: grammar, the SDK's types, and the SDK's own stream over HTTP."""

import json
from typing import Any

import httpx2
import openai
from openai.types.responses import Response

from tests.dialects import common
from tests.support.api import Frame, read_frames
from tests.support.grammar import check_stream
from tests.support.strict import check
from tidegate.dialects.responses import ResponsesDialect
from tidegate.dialects.responses.encoder import ResponsesEncoder
from tidegate.wire.events import ChoiceEnd, Event, Finished, Laws, Reason, Started, Usage, UsageReport

__all__ = ["USAGE", "answer", "encoder", "final", "lawful", "open_responses", "sent", "streamed", "told"]

USAGE = Usage(input_tokens=5, output_tokens=7, cached_tokens=2, reasoning_tokens=3)


def encoder(profile: str = "openai", to: Any = None, **members: Any) -> ResponsesEncoder:
    """An encoder whose first attempt is about to answer."""
    request = ResponsesDialect().parse(common.body("responses", stream=True, **members))
    made = request.encoder(common.call(profile))
    made.attempt(to or common.destination(endpoint="chat"))
    return made


def answer(*events: Event, reason: Reason = "stop") -> list[Event]:
    """A whole answer of one choice that says `events`."""
    return [Started("tide-1"), *events, ChoiceEnd(reason), UsageReport(USAGE), Finished()]


def lawful(events: list[Event]) -> list[Event]:
    laws = Laws()
    for event in events:
        laws.check(event)
    assert laws.ended
    return events


def sent(events: list[Event], profile: str = "openai", to: Any = None, **members: Any) -> bytes:
    return encoder(profile, to, **members).encode(lawful(events))


def told(out: bytes) -> list[dict[str, Any]]:
    """The events of a stream to a client, held to the grammar and to the SDK's types."""
    frames: list[Frame] = [frame for frame in read_frames(out) if frame.data and b'"keepalive"' not in frame.data[:30]]
    check_stream(frames)
    events: list[dict[str, Any]] = [json.loads(frame.data) for frame in frames]
    for event in events:
        common.check_event(event)
    return events


def final(out: bytes) -> dict[str, Any]:
    """The response object of the end, after all checks. The SDK's stream has the same."""
    response: dict[str, Any] = told(out)[-1]["response"]
    typed = check(Response, response)
    if response["status"] == "completed":
        seen = streamed(out)
        assert seen.output_text == typed.output_text
        assert [item.to_dict() for item in check(Response, _unparsed(seen)).output] == [
            item.to_dict() for item in typed.output
        ]
    return response


def streamed(out: bytes) -> Any:
    """What `client.responses.stream` makes of it."""

    def serve(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=out)

    transport = httpx2.MockTransport(serve)
    with (
        openai.OpenAI(
            api_key="k", base_url="http://gateway/v1", http_client=httpx2.Client(transport=transport)
        ) as client,
        client.responses.stream(model="tide-1", input="潮汐") as stream,
    ):
        assert list(stream)
        return stream.get_final_response()


def _unparsed(response: Any) -> Any:
    """Without what the SDK's parser adds."""
    content = response.to_dict()
    for item in content["output"]:
        item.pop("parsed_arguments", None)
        for part in item.get("content") or ():
            part.pop("parsed", None)
    return content


_PRESENT = (
    "id", "created_at", "status", "model", "output", "tools", "tool_choice", "truncation", "parallel_tool_calls", "text",
    "top_p", "presence_penalty", "frequency_penalty", "top_logprobs", "temperature", "store", "background", "service_tier",
)  # fmt: skip
_NULLABLE = (
    "completed_at", "incomplete_details", "previous_response_id", "instructions", "error", "reasoning", "usage",
    "max_output_tokens", "max_tool_calls", "safety_identifier", "prompt_cache_key",
)  # fmt: skip
_EVENTS = frozenset(
    {
        "response.created", "response.queued", "response.in_progress", "response.completed", "response.failed",
        "response.incomplete", "response.output_item.added", "response.output_item.done",
        "response.reasoning_summary_part.added", "response.reasoning_summary_part.done", "response.content_part.added",
        "response.content_part.done", "response.output_text.delta", "response.output_text.done", "response.refusal.delta",
        "response.refusal.done", "response.reasoning.delta", "response.reasoning.done",
        "response.reasoning_summary_text.delta", "response.reasoning_summary_text.done",
        "response.output_text.annotation.added", "response.function_call_arguments.delta",
        "response.function_call_arguments.done", "error",
    }
)  # fmt: skip


def open_responses(out: bytes) -> dict[str, Any]:
    """The response of the end, held to what Open Responses' own suite checks (protocol §2)."""
    frames = [frame for frame in read_frames(out) if frame.data]
    assert frames[-1].data == b"[DONE]" or b"response.failed" in frames[-1].raw
    events = [json.loads(frame.data) for frame in frames if frame.data != b"[DONE]"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert {event["type"] for event in events} <= _EVENTS
    for event in events:
        for name in ("item", "part"):
            if name in event:
                _no_forbidden_null(event[name])
        if "response" in event:
            _check_resource(event["response"])
    found: dict[str, Any] = events[-1]["response"]
    for item in found["output"][:-1]:
        assert item.get("status", "completed") == "completed", "only the last item may be incomplete"
    return found


def _check_resource(response: dict[str, Any]) -> None:
    for name in _PRESENT:
        assert response[name] is not None, name
    for name in _NULLABLE:
        assert name in response, name
    assert isinstance(response["created_at"], int)
    assert response["text"]["format"]
    assert "verbosity" not in response["text"] or response["text"]["verbosity"] is not None
    assert response["reasoning"] is None or {"effort", "summary"} <= set(response["reasoning"])
    usage = response["usage"]
    assert usage is None or {"input_tokens_details", "output_tokens_details"} <= set(usage)
    assert isinstance(response["tool_choice"], str | dict)
    for tool in response["tools"]:
        assert tool["type"] == "function"
        assert {"description", "parameters", "strict"} <= set(tool)
    for item in response["output"]:
        _no_forbidden_null(item)


def _no_forbidden_null(item: dict[str, Any]) -> None:
    for name in ("phase", "logprobs", "encrypted_content", "content"):
        assert name not in item or item[name] is not None, name
    if item.get("type") == "output_text":
        assert isinstance(item["annotations"], list)
    if item.get("type") == "function_call":
        assert item["id"]
        assert item["status"]
    for part in item.get("content") or ():
        _no_forbidden_null(part)
