"""Chat completions: an answer as `chat.completion.chunk` events or as a `chat.completion` body."""

from typing import Any

from tidegate.sim.answer import Answer
from tidegate.sim.errors import error_object
from tidegate.sim.options import Options
from tidegate.sim.prompt import Prompt
from tidegate.sim.sse import DONE, Event, Stream
from tidegate.sim.stamp import SYSTEM_FINGERPRINT, Stamp, logprob, padding, token_counts


def stream(answers: list[Answer], prompt: Prompt, options: Options, stamp: Stamp) -> Stream:
    """The chunks in OpenAI's order; those of several choices alternate."""
    usage = _usage(answers, prompt, options)
    with_null = prompt.include_usage and options.usage in ("present", "zero", "always")

    def chunk(choices: list[dict[str, Any]], **more: Any) -> Event:
        head = {
            "id": stamp.chat_id,
            "object": "chat.completion.chunk",
            "created": stamp.created,
            "model": prompt.model,
            "service_tier": "default",
            "system_fingerprint": SYSTEM_FINGERPRINT,
        }
        null = {"usage": None} if with_null else {}
        return Event({**head, "choices": choices, **null, **more})

    columns = [_deltas(answer, options, stamp, index) for index, answer in enumerate(answers)]
    events: list[Event] = []
    for index, answer in enumerate(answers):
        opening = {"role": "assistant", "content": None if answer.calls and not answer.text else "", "refusal": None}
        events.append(chunk([{"index": index, "delta": opening, "logprobs": None, "finish_reason": None}]))
    to_content = len(events) + 1
    for turn in range(max(map(len, columns))):
        for index, column in enumerate(columns):
            if turn < len(column):
                delta = column[turn]
                probs = None
                if prompt.logprobs is not None and delta.get("content"):
                    probs = {"content": [logprob(delta["content"], prompt.logprobs)], "refusal": None}
                more = {"obfuscation": padding(turn)} if options.obfuscation else {}
                events.append(
                    chunk([{"index": index, "delta": delta, "logprobs": probs, "finish_reason": None}], **more)
                )
    for index, answer in enumerate(answers):
        if answer.finish != "none":
            inline = {"usage": usage} if options.usage == "inline" and index == len(answers) - 1 else {}
            events.append(
                chunk([{"index": index, "delta": {}, "logprobs": None, "finish_reason": answer.finish}], **inline)
            )
    if usage is not None and options.usage != "inline" and (prompt.include_usage or options.usage == "always"):
        events.append(chunk([], usage=usage))
    if options.done is not False:
        events.append(DONE)
    return Stream(events, min(to_content, len(events)))


def body(answers: list[Answer], prompt: Prompt, options: Options, stamp: Stamp) -> dict[str, Any]:
    """The whole answer as one object."""
    usage = _usage(answers, prompt, options)
    return {
        "id": stamp.chat_id,
        "object": "chat.completion",
        "created": stamp.created,
        "model": prompt.model,
        "choices": [_choice(answer, prompt, options, stamp, index) for index, answer in enumerate(answers)],
        **({} if usage is None else {"usage": usage}),
        "service_tier": "default",
        "system_fingerprint": SYSTEM_FINGERPRINT,
    }


def failure(options: Options, stamp: Stamp, prompt: Prompt, *, in_chunk: bool) -> list[Event]:
    """The events of a failure in the stream: an error member alone, or (`in_chunk`) beside a choice that finishes with `error`."""
    error = error_object(
        500,
        options.message or "The server had an error while processing your request.",
        code=options.code,
        kind=options.type,
    )
    if not in_chunk:
        return [Event({"error": error}), *([DONE] if options.done else [])]
    choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
    head = {"id": stamp.chat_id, "object": "chat.completion.chunk", "created": stamp.created, "model": prompt.model}
    return [Event({**head, "error": error, "choices": [choice]}), *([DONE] if options.done else [])]


def _deltas(answer: Answer, options: Options, stamp: Stamp, choice: int) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = []
    deltas.extend({options.field: piece} for piece in answer.reasoning)
    deltas.extend({"content": piece} for piece in answer.text)
    deltas.extend({"refusal": piece} for piece in answer.refusal)
    for index, call in enumerate(answer.calls):
        function = {"name": call.name, "arguments": ""}
        call_id = stamp.call_id(choice * 64 + index)
        deltas.append({"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]})
        deltas.extend({"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in call.arguments)
    return deltas


def _choice(answer: Answer, prompt: Prompt, options: Options, stamp: Stamp, index: int) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(answer.text) if answer.text or not (answer.calls or answer.refusal) else None,
        "refusal": "".join(answer.refusal) or None,
        "annotations": [],
    }
    if answer.reasoning:
        message[options.field] = "".join(answer.reasoning)
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": stamp.call_id(index * 64 + i),
                "type": "function",
                "function": {"name": call.name, "arguments": "".join(call.arguments)},
            }
            for i, call in enumerate(answer.calls)
        ]
    probs = None
    if prompt.logprobs is not None:
        probs = {"content": [logprob(piece, prompt.logprobs) for piece in answer.text], "refusal": None}
    finish = None if answer.finish == "none" else answer.finish
    return {"index": index, "message": message, "logprobs": probs, "finish_reason": finish}


def _usage(answers: list[Answer], prompt: Prompt, options: Options) -> dict[str, Any] | None:
    counts = token_counts(answers, prompt.tokens, options)
    if counts is None:
        return None
    prompted, completed, reasoned = counts
    return {
        "prompt_tokens": prompted,
        "completion_tokens": completed,
        "total_tokens": prompted + completed,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoned,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
