"""Messages: an answer as the events of Anthropic's API or as one `message` body."""

import json
from collections.abc import Iterator
from typing import Any

from tidegate.sim.answer import Answer
from tidegate.sim.options import Options
from tidegate.sim.prompt import Prompt
from tidegate.sim.sse import Event, Stream
from tidegate.sim.stamp import Stamp, token_counts
from tidegate.sim.thought import redact, sign

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal", "tool_calls": "tool_use"}

Piece = tuple[dict[str, Any], list[dict[str, Any]]]
"""A content block as it is when it is whole, and the deltas that it is streamed in."""


def stream(answers: list[Answer], prompt: Prompt, options: Options, stamp: Stamp) -> Stream:
    """All events from `message_start` to `message_stop`; the first answer only, since this API has no others."""
    answer = answers[0]
    usage = _usage(answers, prompt, options)
    opening = _message(prompt, stamp, content=[], reason=None, stop=None)
    if usage is not None:
        opening["usage"] = {**usage, "output_tokens": 1}
    events = [_event("message_start", message=opening), _event("ping")]
    to_content = 0
    for index, (block, deltas) in enumerate(_pieces(answer, prompt, options, stamp)):
        events.append(_event("content_block_start", index=index, content_block=_empty(block)))
        for delta in deltas:
            events.append(_event("content_block_delta", index=index, delta=delta))
            to_content = to_content or len(events)
        events.append(_event("content_block_stop", index=index))
    if answer.finish != "none":
        delta = {"stop_reason": _reason(answer), "stop_sequence": answer.stop, "stop_details": _details(answer)}
        counted = {} if usage is None else {"usage": usage}
        events.append(_event("message_delta", delta=delta, **counted))
        events.append(_event("message_stop"))
    return Stream(events, to_content or len(events))


def body(answers: list[Answer], prompt: Prompt, options: Options, stamp: Stamp) -> dict[str, Any]:
    """The whole answer as one object."""
    answer = answers[0]
    content = [block for block, _ in _pieces(answer, prompt, options, stamp)]
    reason = None if answer.finish == "none" else _reason(answer)
    message = _message(prompt, stamp, content=content, reason=reason, stop=answer.stop)
    message["stop_details"] = _details(answer)
    usage = _usage(answers, prompt, options)
    return message if usage is None else {**message, "usage": usage}


def failure(options: Options) -> list[Event]:
    """The event of a failure in the stream, after which nothing comes."""
    error = {"type": options.type or "overloaded_error", "message": options.message or "Overloaded"}
    return [_event("error", error=error, request_id=None)]


def _event(name: str, **members: Any) -> Event:
    return Event({"type": name, **members}, name)


def _message(
    prompt: Prompt, stamp: Stamp, *, content: list[dict[str, Any]], reason: str | None, stop: str | None
) -> dict[str, Any]:
    return {
        "id": f"msg_{stamp.seed[:24]}",
        "type": "message",
        "role": "assistant",
        "model": prompt.model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": stop,
    }


def _reason(answer: Answer) -> str:
    if answer.refusal:
        return "refusal"
    if answer.stop is not None:
        return "stop_sequence"
    return _STOP_REASONS[answer.finish]


def _details(answer: Answer) -> dict[str, Any] | None:
    if answer.finish == "none" or _reason(answer) != "refusal":
        return None
    return {"type": "refusal", "category": None, "explanation": None}


def _empty(block: dict[str, Any]) -> dict[str, Any]:
    """The block as it is announced. Redacted thinking is whole from the start."""
    nothing: dict[str, Any] = {"text": "", "thinking": "", "signature": "", "input": {}}
    return {name: nothing.get(name, value) for name, value in block.items()}


def _pieces(answer: Answer, prompt: Prompt, options: Options, stamp: Stamp) -> Iterator[Piece]:
    if answer.reasoning:
        thought = "".join(answer.reasoning)
        if options.redacted:
            yield {"type": "redacted_thinking", "data": redact(thought)}, []
        else:
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in answer.reasoning]
            signature = sign(thought)
            yield (
                {"type": "thinking", "thinking": thought, "signature": signature},
                [*deltas, {"type": "signature_delta", "signature": signature}],
            )
    said = answer.text or answer.refusal
    if said:
        yield {"type": "text", "text": "".join(said)}, [{"type": "text_delta", "text": piece} for piece in said]
    choice = prompt.body.get("tool_choice")
    calls = answer.calls
    if isinstance(choice, dict) and choice.get("disable_parallel_tool_use"):
        calls = calls[:1]
    for index, call in enumerate(calls):
        written = "".join(call.arguments)
        try:
            given = json.loads(written)
        except ValueError:
            given = {}
        block = {"type": "tool_use", "id": f"toolu_{stamp.seed[:16]}{index:08x}", "name": call.name, "input": given}
        yield block, [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *call.arguments)]


def _usage(answers: list[Answer], prompt: Prompt, options: Options) -> dict[str, Any] | None:
    """A prompt with a breakpoint is half read from the cache and a quarter written to it."""
    counts = token_counts(answers[:1], prompt.tokens, options)
    if counts is None:
        return None
    prompted, completed, reasoned = counts
    marked = prompt.cached and prompted > 0
    read, written = (prompted // 2, prompted // 4) if marked else (0, 0)
    return {
        "input_tokens": prompted - read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": completed,
        "output_tokens_details": {"thinking_tokens": reasoned},
        "service_tier": "standard",
    }
