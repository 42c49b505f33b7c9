"""The envelope of a response: what the gateway writes into each of its objects, whatever the upstream sends."""

from typing import TYPE_CHECKING, Any

import msgspec

from tidegate.dialects.dialect import Call
from tidegate.dialects.responses import nulls
from tidegate.dialects.responses.plain import DEFAULTS, PlainResponse
from tidegate.wire import jsonio
from tidegate.wire.events import Usage

if TYPE_CHECKING:
    from tidegate.dialects.responses.request import ResponsesRequest

__all__ = ["Envelope", "fill_in"]

_ECHOED = frozenset(DEFAULTS) - {
    "id", "object", "created_at", "status", "completed_at", "error", "incomplete_details", "output", "usage", "store",
    "background", "service_tier",
}  # fmt: skip
"""Members of the request that the response repeats."""
_FILLED = _ECHOED - {"model"}
"""Those of them that the upstream may have left out."""

_OWNED = frozenset(
    {
        "id", "object", "created_at", "status", "store", "completed_at", "usage", "output", "error",
        "incomplete_details",
    }
)  # fmt: skip
"""Members that are never taken over as the upstream sends them."""

_STRING = b'"'
_OBJECT = b"{"
_BOOLEAN = b"tf"
_NUMBER = b"-0123456789"
_BEGINNINGS: dict[str, bytes] = {
    "background": _BOOLEAN,
    "instructions": b'"[',
    "max_output_tokens": _NUMBER,
    "max_tool_calls": _NUMBER,
    "metadata": _OBJECT,
    "model": _STRING,
    "parallel_tool_calls": _BOOLEAN,
    "previous_response_id": _STRING,
    "prompt_cache_key": _STRING,
    "reasoning": _OBJECT,
    "safety_identifier": _STRING,
    "service_tier": _STRING,
    "temperature": _NUMBER,
    "text": _OBJECT,
    "tool_choice": b'"{',
    "tools": b"[",
    "top_logprobs": _NUMBER,
    "top_p": _NUMBER,
    "truncation": _STRING,
    "frequency_penalty": _NUMBER,
    "presence_penalty": _NUMBER,
    "user": _STRING,
}
"""How the value of a documented member begins; an upstream's value of another type does not replace ours."""

_MERGED = ("text", "reasoning")
"""Objects whose members have defaults each."""

_count = jsonio.decoder(float)


class Envelope:
    """Makes every snapshot of one response: ours are id, times, status, store and usage; the rest is what the upstream
    says, else what the client asked, else the documented default."""

    __slots__ = (
        "_base",
        "_call",
        "_identity",
        "_kept",
        "_left_out",
        "_request",
        "_state",
        "continuations",
        "keep_upstream_identity",
        "output_limit",
        "trust_echo",
    )

    def __init__(self, request: "ResponsesRequest", call: Call) -> None:
        self._request: ResponsesRequest | None = request
        self.output_limit = request.typed.max_output_tokens
        """The `max_output_tokens` that the client set."""
        self._left_out = request.left_out
        self._call = call
        self._base: jsonio.Members | None = None
        self._identity: jsonio.Members | None = None
        self._state: jsonio.Members = {}
        """What the gateway itself knows of stored state; no upstream's word replaces it."""
        self._kept = request.kept
        self.continuations: msgspec.Raw | None = None
        """Where the answer broke off, and who went on with it."""
        self.keep_upstream_identity = False
        """The upstream holds the state: its id, creation time and `store` are the client's."""
        self.trust_echo = True
        """What the upstream repeats of the request is what it did, and no filling."""

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
        incomplete_details: msgspec.Raw | None = None,
        service_tier: str = "",
    ) -> bytes:
        """The whole response object as JSON. The first one fixes the identity of all that follow. `service_tier`: where the
        provider has said at which the answer is made."""
        base = self._base or self._make_base()
        content = dict(base)
        content["model"] = jsonio.raw(model)
        if upstream is not None and self.trust_echo:
            for name, value in upstream.items():
                if name not in _OWNED and _may_replace(name, value):
                    content[name] = value
            for name in _MERGED:
                if name in upstream and content[name] != base[name]:
                    content[name] = _merged(DEFAULTS[name], content[name])
        if self._left_out:
            kept = [tool for tool in jsonio.elements(content["tools"]) if bytes(tool) not in self._left_out]
            content["tools"] = jsonio.raw(kept)
        if self._identity is None:
            self._identity = self._choose_identity(upstream or {})
        content.update(self._state)
        content.update(self._identity)
        content["status"] = jsonio.raw(status)
        if service_tier:
            content["service_tier"] = jsonio.raw(service_tier)
        if output is not None:
            content["output"] = output
        if usage is not None:
            content["usage"] = _whole_usage((upstream or {}).get("usage", jsonio.NULL), usage)
        if completed_at is not None:
            content["completed_at"] = jsonio.raw(completed_at)
        if error is not None:
            content["error"] = error
        if incomplete_details is not None:
            content["incomplete_details"] = incomplete_details
        if self.continuations is not None:
            content["tidegate"] = jsonio.raw({"continued": self.continuations})
        if self._call.profile.strict_nulls:
            content["tools"] = _with_every_key(content["tools"])
            return self.keep(nulls.strip(jsonio.encode(content)))
        return self.keep(jsonio.encode(content))

    def keep(self, response: bytes) -> bytes:
        """`response`, which is what can be retrieved from now on."""
        kept = self._kept
        if kept is not None:
            kept.response, kept.apart = response, None
        return response

    def _choose_identity(self, upstream: jsonio.Members) -> jsonio.Members:
        if not self.keep_upstream_identity or jsonio.string(upstream.get("id", jsonio.NULL)) is None:
            return {}
        identity = {"id": upstream["id"]}
        created = _seconds(upstream.get("created_at", jsonio.NULL))
        if created is not None:
            identity["created_at"] = jsonio.raw(created)
        if upstream.get("store", jsonio.NULL) in (jsonio.TRUE, jsonio.FALSE):
            identity["store"] = upstream["store"]
        return identity

    def _make_base(self) -> jsonio.Members:
        """What is known before any upstream answers. Values are copied and the request let go of: a long prompt must
        not stay in memory as long as its answer streams."""
        base = dict(DEFAULTS)
        request = self._request
        assert request is not None
        for name, value in request.members.items():
            if name in _ECHOED and value != jsonio.NULL:
                base[name] = value.copy()
        self._state = request.state_members()
        base.update(self._state)
        self._request = None
        for name in _MERGED:
            if base[name] is not DEFAULTS[name]:
                base[name] = _merged(DEFAULTS[name], base[name])
        base["id"] = jsonio.raw(self._call.response_id)
        base["created_at"] = jsonio.raw(self._call.created_at)
        self._base = base
        return base


def fill_in(answer: PlainResponse, request: "ResponsesRequest", call: Call) -> None:
    """Make the members of an answer without fault what the gateway has to say: as :meth:`Envelope.snapshot` has them."""
    members = request.members
    for name in members.keys() & _FILLED:
        told = getattr(answer, name)
        if (told is None or told is DEFAULTS[name]) and (value := members[name]) != jsonio.NULL:
            if name == "tools" and request.left_out:
                continue
            setattr(answer, name, _merged(DEFAULTS[name], value) if name in _MERGED else value)
    answer.id = call.response_id
    answer.object = "response"
    answer.created_at = call.created_at
    answer.completed_at = max(call.created_at, call.wall_clock())
    answer.store = request.kept is not None
    if answer.store or request.resolved:
        answer.previous_response_id = request.typed.previous_response_id


def _may_replace(name: str, value: msgspec.Raw) -> bool:
    beginnings = _BEGINNINGS.get(name)
    return beginnings is None or memoryview(value)[0] in beginnings


def _whole_usage(given: msgspec.Raw, usage: Usage) -> msgspec.Raw:
    """All documented figures, and what the provider adds of its own (cost, further details)."""
    ours: dict[str, Any] = dict(jsonio.members(usage.as_responses()))
    theirs = _object(given)
    for name in ("input_tokens_details", "output_tokens_details"):
        ours[name] = {**_object(theirs.get(name, jsonio.NULL)), **jsonio.members(ours[name])}
    return jsonio.raw({**ours, **{name: value for name, value in theirs.items() if name not in ours}})


def _object(value: msgspec.Raw) -> jsonio.Members:
    try:
        return jsonio.members(value)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return {}


def _with_every_key(tools: msgspec.Raw) -> msgspec.Raw:
    """Open Responses wants every key of a function tool, null or not."""
    whole = []
    for tool in jsonio.elements(tools):
        content = _object(tool)
        if jsonio.string(content.get("type", jsonio.NULL)) == "function":
            blank = dict.fromkeys(("description", "parameters", "strict"), jsonio.NULL)
            content = {**blank, **content}
        whole.append(content or tool)
    return jsonio.raw(whole)


def _merged(default: msgspec.Raw, given: msgspec.Raw) -> msgspec.Raw:
    """`given` over `default`. Null is taken over: only an absent member is filled in."""
    return jsonio.raw({**jsonio.members(default), **jsonio.members(given)})


def _seconds(value: msgspec.Raw) -> int | None:
    """Whole seconds, whatever number the upstream sends (S46)."""
    try:
        return int(jsonio.decode(value, _count))
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch, OverflowError, ValueError):
        return None
