"""Responses: an answer as the full official event sequence or as one `response` object."""

from collections.abc import Callable
from typing import Any

from tidegate.sim.answer import Answer, Call
from tidegate.sim.errors import error_object
from tidegate.sim.options import Options
from tidegate.sim.prompt import Prompt
from tidegate.sim.sse import DONE, Event, Stream
from tidegate.sim.stamp import Stamp, logprob, padding, token_counts
from tidegate.sim.thought import encrypt

# What these members of an item hold when it is opened.
_NOTHING: dict[str, Any] = {"status": "in_progress", "content": [], "summary": [], "arguments": "", "input": ""}

_MINIMAL = {
    "response.created",
    "response.output_text.delta",
    "response.completed",
    "response.incomplete",
    "response.failed",
}

# What the response object says of a parameter that the request leaves out or gives as null.
_ECHOED: dict[str, Any] = {
    "background": False,
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


def stream(answers: list[Answer], prompt: Prompt, options: Options, stamp: Stamp) -> Stream:
    """All events from `response.created` to the terminal one, with gapless sequence numbers."""
    writer = _Writer(options)
    opening = _response(prompt, stamp, status="in_progress", output=[], usage=None)
    writer.emit("response.created", response=opening)
    writer.emit("response.in_progress", response=opening)
    output: list[dict[str, Any]] = []
    for answer in answers:
        for item, play in _items(answer, prompt, options, stamp, len(output)):
            writer.item(item, len(output), play)
            output.append(item)
    final = body(answers, prompt, options, stamp)
    if final["status"] != "in_progress":
        writer.emit(f"response.{final['status']}", response=final)
    events, to_content = writer.events, writer.to_content
    if options.minimal:
        kept = [event for event in events if event.name in _MINIMAL]
        to_content = sum(event.name in _MINIMAL for event in events[:to_content])
        events = kept
    if options.done:
        events.append(DONE)
    return Stream(events, to_content)


def body(answers: list[Answer], prompt: Prompt, options: Options, stamp: Stamp) -> dict[str, Any]:
    """The response object as it is at the end."""
    output: list[dict[str, Any]] = []
    for answer in answers:
        output.extend(item for item, _ in _items(answer, prompt, options, stamp, len(output)))
    finish = answers[-1].finish
    status = {"length": "incomplete", "content_filter": "incomplete", "none": "in_progress"}.get(finish, "completed")
    response = _response(prompt, stamp, status=status, output=output, usage=_usage(answers, prompt, options))
    if status == "incomplete":
        response["incomplete_details"] = {"reason": "max_output_tokens" if finish == "length" else "content_filter"}
    elif status == "completed":
        response["completed_at"] = stamp.created
    return response


def failure(options: Options, stamp: Stamp, prompt: Prompt, sequence: int, *, announced: bool) -> list[Event]:
    """The events of a failure in the stream: `error` if it is `announced`, then `response.failed` unless `only` forbids it."""
    error = error_object(
        500,
        options.message or "The server had an error while processing your request.",
        code=options.code,
        kind=options.type,
    )
    events: list[Event] = []
    if announced:
        flat = {key: error[key] for key in ("code", "message", "param")}
        members = flat if options.shape == "flat" else {"error": error}
        events.append(Event({"type": "error", "sequence_number": sequence, **members}, "error"))
        sequence += 1
    if not (announced and options.only):
        response = _response(prompt, stamp, status="failed", output=[], usage=None)
        response["error"] = {"code": error["code"], "message": error["message"]}
        events.append(
            Event({"type": "response.failed", "sequence_number": sequence, "response": response}, "response.failed")
        )
    return [*events, *([DONE] if options.done else [])]


class _Writer:
    """Numbers events and gives them their names."""

    def __init__(self, options: Options) -> None:
        self.events: list[Event] = []
        self.to_content = 2
        self._sequence = 0
        self._options = options
        self._deltas = 0

    def emit(self, name: str, **members: Any) -> None:
        numbered = {"sequence_number": self._sequence} if self._options.seq else {}
        self._sequence += 1
        self.events.append(Event({"type": name, **numbered, **members}, name))

    def delta(self, name: str, delta: str, where: dict[str, Any], **members: Any) -> None:
        more = {"obfuscation": padding(self._deltas)} if self._options.obfuscation else {}
        if self._deltas == 0:
            self.to_content = len(self.events) + 1
        self._deltas += 1
        self.emit(name, **where, delta=delta, **members, **more)

    def item(self, item: dict[str, Any], index: int, play: "_Play") -> None:
        empty = {member: _NOTHING.get(member, value) for member, value in item.items() if member != "encrypted_content"}
        self.emit("response.output_item.added", output_index=index, item=empty)
        play(self, {"item_id": item["id"], "output_index": index})
        self.emit("response.output_item.done", output_index=index, item=item)


_Play = Callable[[_Writer, dict[str, Any]], None]


def _items(
    answer: Answer, prompt: Prompt, options: Options, stamp: Stamp, first: int
) -> list[tuple[dict[str, Any], _Play]]:
    """The answer's items in order, each with what plays its events between added and done."""
    items: list[tuple[dict[str, Any], _Play]] = []
    # Only the last item of a cut answer was cut.
    status = {"length": "incomplete", "content_filter": "incomplete", "none": "in_progress"}.get(
        answer.finish, "completed"
    )
    if answer.reasoning:
        items.append(_reasoning(answer, prompt, options, stamp.id("rs", first)))
    if answer.text or answer.refusal or not (answer.calls or answer.reasoning):
        last = not answer.calls
        items.append(_message(answer, prompt, stamp.id("msg", first + len(items)), status if last else "completed"))
    for call in answer.calls:
        last = call is answer.calls[-1]
        items.append(_call(call, stamp, first + len(items), status if last else "completed"))
    return items


def _message(answer: Answer, prompt: Prompt, item_id: str, status: str) -> tuple[dict[str, Any], _Play]:
    # Logprobs are always a list on the events, and are on the part only when they were asked for.
    tops = prompt.logprobs
    probs = [logprob(piece, tops) for piece in answer.text] if tops is not None else []
    parts: list[dict[str, Any]] = []
    if answer.text or not answer.refusal:
        parts.append({"type": "output_text", "annotations": [], "logprobs": probs, "text": "".join(answer.text)})
    if answer.refusal:
        parts.append({"type": "refusal", "refusal": "".join(answer.refusal)})
    item = {"id": item_id, "type": "message", "status": status, "content": parts, "role": "assistant"}

    def play(writer: _Writer, at: dict[str, Any]) -> None:
        for content_index, part in enumerate(parts):
            where = {**at, "content_index": content_index}
            if part["type"] == "output_text":
                writer.emit("response.content_part.added", **where, part={**part, "text": "", "logprobs": []})
                for i, piece in enumerate(answer.text):
                    writer.delta("response.output_text.delta", piece, where, logprobs=probs[i : i + 1])
                writer.emit("response.output_text.done", **where, text=part["text"], logprobs=probs)
            else:
                writer.emit("response.content_part.added", **where, part={**part, "refusal": ""})
                for piece in answer.refusal:
                    writer.delta("response.refusal.delta", piece, where)
                writer.emit("response.refusal.done", **where, refusal=part["refusal"])
            writer.emit("response.content_part.done", **where, part=part)

    return item, play


def _reasoning(answer: Answer, prompt: Prompt, options: Options, item_id: str) -> tuple[dict[str, Any], _Play]:
    text = "".join(answer.reasoning)
    item: dict[str, Any] = {
        "id": item_id,
        "type": "reasoning",
        "summary": [] if options.raw else [{"type": "summary_text", "text": text}],
    }
    if options.raw:
        item["content"] = [{"type": "reasoning_text", "text": text}]
    include = prompt.body.get("include")
    if isinstance(include, list) and "reasoning.encrypted_content" in include:
        item["encrypted_content"] = encrypt(item_id, text)

    def play(writer: _Writer, at: dict[str, Any]) -> None:
        if options.raw:
            where, kind = {**at, "content_index": 0}, "response.reasoning_text"
            part = {"type": "reasoning_text"}
            writer.emit("response.content_part.added", **where, part={**part, "text": ""})
        else:
            where, kind = {**at, "summary_index": 0}, "response.reasoning_summary_text"
            part = {"type": "summary_text"}
            writer.emit("response.reasoning_summary_part.added", **where, part={**part, "text": ""})
        for piece in answer.reasoning:
            writer.delta(f"{kind}.delta", piece, where)
        writer.emit(f"{kind}.done", **where, text=text)
        done = "response.content_part.done" if options.raw else "response.reasoning_summary_part.done"
        writer.emit(done, **where, part={**part, "text": text})

    return item, play


def _call(call: Call, stamp: Stamp, index: int, status: str) -> tuple[dict[str, Any], _Play]:
    written = "".join(call.arguments)
    member, prefix = ("input", "ctc") if call.custom else ("arguments", "fc")
    item = {
        "id": stamp.id(prefix, index),
        "type": "custom_tool_call" if call.custom else "function_call",
        "status": status,
        member: written,
        "call_id": stamp.call_id(index),
        "name": call.name,
    }
    if call.namespace:
        item["namespace"] = call.namespace
    kind = "response.custom_tool_call_input" if call.custom else "response.function_call_arguments"

    def play(writer: _Writer, at: dict[str, Any]) -> None:
        for piece in call.arguments:
            writer.delta(f"{kind}.delta", piece, at)
        writer.emit(f"{kind}.done", **at, **{member: written})

    return item, play


def _response(
    prompt: Prompt, stamp: Stamp, *, status: str, output: list[dict[str, Any]], usage: dict[str, Any] | None
) -> dict[str, Any]:
    asked = prompt.body
    echoed = {name: default if asked.get(name) is None else asked[name] for name, default in _ECHOED.items()}
    for name in ("text", "reasoning"):
        if isinstance(asked.get(name), dict):
            echoed[name] = {**_ECHOED[name], **asked[name]}
    for name in ("conversation", "prompt", "context_management", "prompt_cache_retention"):
        if asked.get(name) is not None:
            echoed[name] = asked[name]
    if isinstance(echoed.get("conversation"), str):
        echoed["conversation"] = {"id": echoed["conversation"]}
    return {
        "id": stamp.id("resp"),
        "object": "response",
        "created_at": stamp.created,
        "status": status,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": prompt.model,
        "output": output,
        "service_tier": "default",
        **echoed,
        "usage": usage,
    }


def _usage(answers: list[Answer], prompt: Prompt, options: Options) -> dict[str, Any] | None:
    counts = token_counts(answers, prompt.tokens, options)
    if counts is None:
        return None
    prompted, completed, reasoned = counts
    return {
        "input_tokens": prompted,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": completed,
        "output_tokens_details": {"reasoning_tokens": reasoned},
        "total_tokens": prompted + completed,
    }
