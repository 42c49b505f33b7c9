"""The response object: one owner for its envelope, whatever the upstream sends."""

from typing import TYPE_CHECKING, Any

import msgspec

from tidegate.dialects.dialect import Answer, Call, Destination, estimated_usage
from tidegate.dialects.failure import from_error_object
from tidegate.dialects.responses import nulls
from tidegate.dialects.responses.chat_body import as_chat_completion
from tidegate.wire import jsonio
from tidegate.wire.errors import TidegateError, WireError
from tidegate.wire.events import Usage

if TYPE_CHECKING:
    from tidegate.dialects.responses.request import ResponsesRequest

__all__ = ["Envelope", "ResponseEnd", "complete", "finish", "read_usage"]

_DOCUMENTED: dict[str, Any] = {
    "id": None,
    "object": "response",
    "created_at": None,
    "status": "in_progress",
    "background": False,
    "completed_at": None,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "model": None,
    "output": [],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": False,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "usage": None,
    "user": None,
    "metadata": {},
}
_DEFAULTS: jsonio.Members = {name: jsonio.raw(value) for name, value in _DOCUMENTED.items()}
"""A response object with every documented member at its documented default (protocol §1.3)."""

_ECHOED = frozenset(_DEFAULTS) - {
    "id", "object", "created_at", "status", "completed_at", "error", "incomplete_details", "output", "usage", "store",
    "background", "service_tier",
}  # fmt: skip
"""Members of the request that the response repeats."""

_OWNED = frozenset({"id", "object", "created_at", "status", "store", "completed_at", "usage", "output"})
"""Members that are never taken over as the upstream sends them."""

_text_of = jsonio.decoder(str)
_count = jsonio.decoder(float)


class ResponseEnd(msgspec.Struct, frozen=True):
    """What the terminal object of an upstream says."""

    body: bytes
    status: str
    usage: Usage


class _Details(msgspec.Struct):
    cached_tokens: float | None = None
    cache_write_tokens: float | None = None
    reasoning_tokens: float | None = None


class _UsageObject(msgspec.Struct):
    input_tokens: float | None = None
    output_tokens: float | None = None
    total_tokens: float | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


_usage = jsonio.decoder(_UsageObject)


class Envelope:
    """Makes every snapshot of one response: ours are id, times, status, store and usage; the rest is what the upstream
    says, else what the client asked, else the documented default."""

    __slots__ = ("_base", "_call", "_request", "keep_upstream_identity")

    def __init__(self, request: "ResponsesRequest", call: Call) -> None:
        self._request = request
        self._call = call
        self._base: jsonio.Members | None = None
        self.keep_upstream_identity = False

    def snapshot(
        self,
        upstream: jsonio.Members | None,
        status: str,
        *,
        model: str,
        output: msgspec.Raw | None = None,
        usage: Usage | None = None,
        completed_at: int | None = None,
        error: msgspec.Raw | None = None,
        incomplete_reason: str | None = None,
    ) -> bytes:
        """The whole response object as JSON."""
        content = dict(self._base or self._make_base())
        if upstream is not None:
            for name, value in upstream.items():
                if name not in _OWNED and (value != jsonio.NULL or name not in content):
                    content[name] = value
        if content["model"] == jsonio.NULL or upstream is None or "model" not in upstream:
            content["model"] = jsonio.raw(model)
        if self.keep_upstream_identity and upstream is not None:
            for name in ("id", "store"):
                if name in upstream:
                    content[name] = upstream[name]
        content["status"] = jsonio.raw(status)
        if output is not None:
            content["output"] = output
        if usage is not None:
            content["usage"] = usage.as_responses()
        if completed_at is not None:
            content["completed_at"] = jsonio.raw(completed_at)
        if error is not None:
            content["error"] = error
        if incomplete_reason is not None and content["incomplete_details"] == jsonio.NULL:
            content["incomplete_details"] = jsonio.raw({"reason": incomplete_reason})
        if self._call.profile.strict_nulls:
            return nulls.strip(jsonio.encode(content))
        return jsonio.encode(content)

    @property
    def output_limit(self) -> int | None:
        """The `max_output_tokens` that the client set."""
        return self._request.typed.max_output_tokens

    def _make_base(self) -> jsonio.Members:
        base = dict(_DEFAULTS)
        for name, value in self._request.members.items():
            if name in _ECHOED and value != jsonio.NULL:
                base[name] = value
        text = self._request.typed.text
        if text is not None and text.format is None:
            base["text"] = _merged(_DEFAULTS["text"], base["text"])
        if self._request.typed.reasoning is not None:
            base["reasoning"] = _merged(_DEFAULTS["reasoning"], base["reasoning"])
        base["id"] = jsonio.raw(self._call.response_id)
        base["created_at"] = jsonio.raw(self._call.created_at)
        self._base = base
        return base


def read_usage(value: msgspec.Raw) -> Usage | None:
    """The figures of a `usage` object; None when there are none to speak of."""
    try:
        found = jsonio.decode(value, _usage)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return None
    if found.input_tokens is None and found.output_tokens is None:
        return None
    given = found.input_tokens_details or _Details()
    taken = found.output_tokens_details or _Details()
    return Usage(
        input_tokens=_whole(found.input_tokens),
        output_tokens=_whole(found.output_tokens),
        cached_tokens=_whole(given.cached_tokens),
        cache_write_tokens=_whole(given.cache_write_tokens),
        reasoning_tokens=_whole(taken.reasoning_tokens),
    )


def finish(
    upstream: jsonio.Members,
    status: str,
    envelope: Envelope,
    *,
    destination: Destination,
    done_items: list[msgspec.Raw],
    call: Call,
    output_bytes: int,
) -> ResponseEnd:
    """The terminal object of a real ending. `output_bytes` is the size of the deltas seen, for an estimate of usage."""
    output = upstream.get("output", jsonio.NULL)
    if (output == jsonio.NULL or bytes(output) == b"[]") and done_items:
        output = jsonio.raw(done_items)
    elif output == jsonio.NULL:
        output = jsonio.raw([])
    usage = read_usage(upstream.get("usage", jsonio.NULL)) or estimated_usage(
        call.request_bytes, output_bytes or len(output)
    )
    limit = envelope.output_limit
    reason = None
    if (
        status == "completed"
        and destination.cut_reported_as_completed
        and limit is not None
        and not usage.estimated
        and usage.output_tokens >= limit
    ):
        status = "incomplete"
    if status == "incomplete":
        reason = "max_output_tokens"
    completed_at = None
    if status == "completed":
        completed_at = _seconds(upstream.get("completed_at", jsonio.NULL)) or call.wall_clock()
    body = envelope.snapshot(
        upstream,
        status,
        model=destination.model,
        output=output,
        usage=usage,
        completed_at=completed_at,
        incomplete_reason=reason,
    )
    return ResponseEnd(body, status, usage)


def complete(body: bytes, envelope: Envelope, call: Call, destination: Destination) -> Answer:
    """A response that came as one body (see `Request.complete`)."""
    try:
        upstream = jsonio.members(body)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        raise WireError(f"the provider's answer is not a JSON object: {error}") from None
    problem = upstream.get("error", jsonio.NULL)
    status = _string(upstream.get("status", jsonio.NULL)) or "completed"
    if "output" not in upstream:
        if problem != jsonio.NULL:
            raise from_error_object(problem, destination.provider)
        raise WireError("the provider's answer is not a response object: it has no 'output'")
    if status == "failed":
        raise _failure(problem, destination)
    if status not in ("completed", "incomplete"):
        raise WireError(f"the provider's answer has status {status!r}, which is no ending")
    envelope.keep_upstream_identity = not destination.gateway_state
    end = finish(
        upstream,
        status,
        envelope,
        destination=destination,
        done_items=[],
        call=call,
        output_bytes=0,
    )
    shown = end.body
    if call.profile.responses_as_chat:
        shown = as_chat_completion(shown)
    return Answer(shown, end.usage, end.status)


def _failure(problem: msgspec.Raw, destination: Destination) -> TidegateError:
    return from_error_object(
        b'{"message":"the answer failed"}' if problem == jsonio.NULL else problem, destination.provider
    )


def _merged(default: msgspec.Raw, given: msgspec.Raw) -> msgspec.Raw:
    return jsonio.raw({**jsonio.members(default), **jsonio.members(given)})


def _string(value: msgspec.Raw) -> str | None:
    try:
        return jsonio.decode(value, _text_of)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return None


def _seconds(value: msgspec.Raw) -> int | None:
    """Whole seconds, whatever number the upstream sends (S45)."""
    try:
        return int(jsonio.decode(value, _count))
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch, OverflowError, ValueError):
        return None


def _whole(value: float | None) -> int:
    return max(0, int(value)) if value is not None else 0
