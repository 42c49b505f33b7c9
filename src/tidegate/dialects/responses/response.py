"""The response object: one owner for its envelope, whatever the upstream sends."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from tidegate.dialects.dialect import Answer, Call, Destination, estimated_usage
from tidegate.dialects.envelope import Envelopes
from tidegate.dialects.failure import from_error_object
from tidegate.dialects.responses import nulls
from tidegate.dialects.responses.repair import repaired_output
from tidegate.dialects.responses.sealing import sealed_output
from tidegate.dialects.usage import read_usage_object
from tidegate.wire import jsonio
from tidegate.wire.errors import TidegateError, UpstreamBroken, WireError
from tidegate.wire.events import Usage

if TYPE_CHECKING:
    from tidegate.dialects.responses.request import ResponsesRequest

__all__ = ["Envelope", "ResponseEnd", "complete", "failure", "finish", "is_cut", "true_status"]

_Count = Annotated[int, msgspec.Meta(ge=0)]

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


class _PlainPart(msgspec.Struct, gc=False):
    type: str
    annotations: list[msgspec.Raw] | None = None


class _PlainItem(msgspec.Struct, gc=False):
    type: str
    id: str
    status: str | None = None
    content: list[_PlainPart] | None = None
    encrypted_content: str | None = None


class _PlainInputDetails(msgspec.Struct, gc=False):
    cached_tokens: _Count
    cache_write_tokens: _Count = 0


class _PlainOutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: _Count


class _PlainUsage(msgspec.Struct, gc=False):
    input_tokens: _Count
    output_tokens: _Count
    total_tokens: _Count
    input_tokens_details: _PlainInputDetails
    output_tokens_details: _PlainOutputDetails


class _PlainReasoning(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    effort: str | None
    summary: str | None
    generate_summary: str | msgspec.UnsetType | None = msgspec.UNSET


class _PlainText(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    format: jsonio.Members
    verbosity: str | msgspec.UnsetType | None = msgspec.UNSET


_Number = int | float | msgspec.UnsetType


class _Plain(msgspec.Struct, kw_only=True, gc=False):
    """A completed answer in which nothing is odd: it decodes as this, which costs a fifth of looking for faults, and
    encodes again when the envelope's members are ours.

    Members may be absent; those that are there have the documented type, but for those that are ours anyway. Null and
    absent are one where null is documented; elsewhere absent is unset.
    """

    id: Any = None
    object: Any = None
    created_at: Any = None
    status: Literal["completed"]
    background: bool = False
    completed_at: Any = None
    error: None = None
    incomplete_details: None = None
    instructions: str | list[msgspec.Raw] | None = None
    max_output_tokens: int | float | None = None
    max_tool_calls: int | float | None = None
    model: str
    output: msgspec.Raw
    parallel_tool_calls: bool | msgspec.UnsetType = msgspec.UNSET
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    reasoning: _PlainReasoning | msgspec.UnsetType = msgspec.UNSET
    safety_identifier: str | None = None
    service_tier: str = "default"
    store: Any = None
    temperature: _Number = msgspec.UNSET
    text: _PlainText | msgspec.UnsetType = msgspec.UNSET
    tool_choice: str | jsonio.Members | msgspec.UnsetType = msgspec.UNSET
    tools: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    top_logprobs: _Number = msgspec.UNSET
    top_p: _Number = msgspec.UNSET
    truncation: str | msgspec.UnsetType = msgspec.UNSET
    frequency_penalty: _Number = msgspec.UNSET
    presence_penalty: _Number = msgspec.UNSET
    usage: msgspec.Raw
    user: str | None = None
    metadata: jsonio.Members | msgspec.UnsetType = msgspec.UNSET


class _PlainAlone(_Plain, kw_only=True, gc=False, forbid_unknown_fields=True):
    """The same without any member that is not documented."""


_NEVER_NULL = tuple(field.name for field in msgspec.structs.fields(_Plain) if field.default is msgspec.UNSET)

_plain = jsonio.decoder(_Plain)
_plain_alone = jsonio.decoder(_PlainAlone)
_plain_items = jsonio.decoder(list[_PlainItem])
_plain_usage = jsonio.decoder(_PlainUsage)
_text_of = jsonio.decoder(str)
_count = jsonio.decoder(float)


class ResponseEnd(msgspec.Struct, frozen=True):
    """What the terminal object of an upstream says."""

    body: bytes
    status: str
    usage: Usage


class Envelope:
    """Makes every snapshot of one response: ours are id, times, status, store and usage; the rest is what the upstream
    says, else what the client asked, else the documented default."""

    __slots__ = (
        "_base",
        "_call",
        "_identity",
        "_kept",
        "_request",
        "_state",
        "keep_upstream_identity",
        "output_limit",
        "trust_echo",
    )

    def __init__(self, request: "ResponsesRequest", call: Call) -> None:
        self._request: ResponsesRequest | None = request
        self.output_limit = request.typed.max_output_tokens
        """The `max_output_tokens` that the client set."""
        self._call = call
        self._base: jsonio.Members | None = None
        self._identity: jsonio.Members | None = None
        self._state: jsonio.Members = {}
        """What the gateway itself knows of stored state; no upstream's word replaces it."""
        self._kept = request.kept
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
    ) -> bytes:
        """The whole response object as JSON. The first one fixes the identity of all that follow."""
        base = self._base or self._make_base()
        content = dict(base)
        content["model"] = jsonio.raw(model)
        if upstream is not None and self.trust_echo:
            for name, value in upstream.items():
                if name not in _OWNED and _may_replace(name, value):
                    content[name] = value
            for name in _MERGED:
                if name in upstream and content[name] != base[name]:
                    content[name] = _merged(_DEFAULTS[name], content[name])
        if self._identity is None:
            self._identity = self._choose_identity(upstream or {})
        content.update(self._state)
        content.update(self._identity)
        content["status"] = jsonio.raw(status)
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
        if self._call.profile.strict_nulls:
            content["tools"] = _with_every_key(content["tools"])
            return self.keep(nulls.strip(jsonio.encode(content)))
        return self.keep(jsonio.encode(content))

    def completed(self, answer: _Plain) -> bytes:
        """The whole object of an answer without fault, and the only one that this envelope makes."""
        request, call = self._request, self._call
        assert request is not None
        for name, value in request.members.items():
            if name in _ECHOED and value != jsonio.NULL:
                told = getattr(answer, name)
                if told is None or told is msgspec.UNSET:
                    setattr(answer, name, _merged(_DEFAULTS[name], value) if name in _MERGED else value)
        for name in _NEVER_NULL:
            if getattr(answer, name) is msgspec.UNSET:
                setattr(answer, name, _DEFAULTS[name])
        answer.id = call.response_id
        answer.object = "response"
        answer.created_at = call.created_at
        answer.completed_at = max(call.created_at, call.wall_clock())
        answer.store = request.kept is not None
        if answer.store:
            answer.previous_response_id = request.typed.previous_response_id
        return self.keep(jsonio.encode(answer))

    @property
    def knows_more(self) -> bool:
        """There are members to tell that no upstream's answer has room for."""
        return self._kept is not None and self._request is not None and self._request.typed.conversation is not None

    def keep(self, response: bytes) -> bytes:
        """`response`, which is what can be retrieved from now on."""
        if self._kept is not None:
            self._kept.response = response
        return response

    def _choose_identity(self, upstream: jsonio.Members) -> jsonio.Members:
        if not self.keep_upstream_identity or _string(upstream.get("id", jsonio.NULL)) is None:
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
        base = dict(_DEFAULTS)
        request = self._request
        assert request is not None
        for name, value in request.members.items():
            if name in _ECHOED and value != jsonio.NULL:
                base[name] = value.copy()
        self._state = request.state_members()
        base.update(self._state)
        self._request = None
        for name in _MERGED:
            if base[name] is not _DEFAULTS[name]:
                base[name] = _merged(_DEFAULTS[name], base[name])
        base["id"] = jsonio.raw(self._call.response_id)
        base["created_at"] = jsonio.raw(self._call.created_at)
        self._base = base
        return base


def true_status(claimed: str, upstream: jsonio.Members) -> str:
    """`completed`, `incomplete` or `failed`: the worst that any part of the terminal object says (S48, S49)."""
    inner = _string(upstream.get("status", jsonio.NULL))
    if claimed == "failed" or inner in ("failed", "cancelled") or _says_something(upstream.get("error")):
        return "failed"
    if claimed == "incomplete" or inner == "incomplete" or _says_something(upstream.get("incomplete_details")):
        return "incomplete"
    for item in _identities(upstream.get("output", jsonio.NULL)):
        if item.type == _MESSAGE and item.status == _INCOMPLETE:
            return "incomplete"
    return "completed"


def failure(upstream: jsonio.Members, provider: str) -> TidegateError:
    """The error of an answer that says that it failed."""
    problem = upstream.get("error")
    if problem is not None and _says_something(problem):
        return from_error_object(problem, provider)
    return UpstreamBroken(f"Provider '{provider}': the answer failed, and no reason was given.")


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
    """The terminal object of a real ending. `output_bytes` is the size of the deltas seen, for an estimate of usage.

    Raises WireError when the output is none.
    """
    output = _with_annotations(_output(upstream.get("output", jsonio.NULL), done_items))
    usage = read_usage_object(upstream.get("usage", jsonio.NULL)) or estimated_usage(
        call.request_bytes, output_bytes or _spoken(output)
    )
    if status == "completed" and is_cut(usage, envelope, destination):
        status = "incomplete"
    details = None
    if status == "incomplete":
        details = upstream.get("incomplete_details", jsonio.NULL)
        if not _has_reason(details):
            details = jsonio.raw({"reason": "max_output_tokens"})
    body = envelope.snapshot(
        upstream,
        status,
        model=destination.model,
        output=output,
        usage=usage,
        completed_at=max(call.created_at, call.wall_clock()) if status == "completed" else None,
        incomplete_details=details,
    )
    return ResponseEnd(body, status, usage)


def is_cut(usage: Usage | None, envelope: Envelope, destination: Destination) -> bool:
    """Whether an answer that says `completed` was cut by the token limit, where a provider does not tell."""
    if usage is None or usage.estimated or not destination.cut_reported_as_completed:
        return False
    if envelope.output_limit is not None:
        return usage.output_tokens >= envelope.output_limit
    return usage.output_tokens == destination.quirks.output_limit


def complete(
    body: bytes, envelope: Envelope, call: Call, destination: Destination, envelopes: Envelopes | None = None
) -> Answer:
    """A response that came as one body (see `Request.complete`)."""
    try:
        return _complete(body, envelope, call, destination, envelopes)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        raise WireError(f"the provider's answer cannot be read: {error}") from None


def _as_it_came(body: bytes, envelope: Envelope) -> Answer | None:
    """The answer when only the envelope has to be ours, as nearly always; else None."""
    others: jsonio.Members = {}
    try:
        try:
            answer: _Plain = _plain_alone.decode(body)
        except msgspec.ValidationError:
            answer = _plain.decode(body)
            others = {name: value for name, value in jsonio.members(body).items() if name not in _DEFAULTS}
        items = _plain_items.decode(answer.output)
        found = _plain_usage.decode(answer.usage)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    for item in items:
        if item.encrypted_content:
            return None
        if item.type == "message":
            if item.status == "incomplete" or item.content is None:
                return None
            for part in item.content:
                if part.annotations is None and part.type == "output_text":
                    return None
    given, taken = found.input_tokens, found.output_tokens
    if given + taken != found.total_tokens:
        return None
    usage = Usage(
        input_tokens=given,
        output_tokens=taken,
        cached_tokens=found.input_tokens_details.cached_tokens,
        cache_write_tokens=found.input_tokens_details.cache_write_tokens,
        reasoning_tokens=found.output_tokens_details.reasoning_tokens,
    )
    shown = envelope.completed(answer)
    if others:
        shown = envelope.keep(b"%b,%b" % (shown[:-1], jsonio.encode(others)[1:]))
    return Answer(shown, usage, "completed")


def _complete(
    body: bytes, envelope: Envelope, call: Call, destination: Destination, envelopes: Envelopes | None
) -> Answer:
    jsonio.check_utf8(body)
    quirks = destination.quirks
    if (
        destination.gateway_state
        and not destination.cut_reported_as_completed
        and quirks.echoes_request
        and not (quirks.loose_items or quirks.model_suffix)
        and not (call.profile.strict_nulls or envelope.knows_more)
        and (plain := _as_it_came(body, envelope)) is not None
    ):
        return plain
    upstream = jsonio.members(body)
    if "output" not in upstream:
        if _says_something(upstream.get("error")):
            raise failure(upstream, destination.provider)
        raise WireError("the provider's answer is not a response object: it has no 'output'")
    given = upstream.get("status", jsonio.NULL)
    claimed = "completed" if given == jsonio.NULL else _string(given)
    if claimed not in ("completed", "incomplete", "failed", "cancelled"):
        raise WireError(f"the provider's answer has status '{claimed}', which is no ending")
    status = true_status(claimed, upstream)
    if status == "failed":
        raise failure(upstream, destination.provider)
    envelope.keep_upstream_identity = not destination.gateway_state
    envelope.trust_echo = destination.quirks.echoes_request
    if destination.quirks.loose_items:
        cut = is_cut(read_usage_object(upstream.get("usage", jsonio.NULL)), envelope, destination)
        upstream["output"] = jsonio.raw(repaired_output(upstream["output"], cut=cut))
    if envelopes is not None and destination.gateway_state:
        upstream["output"] = sealed_output(upstream["output"], envelopes, destination)
    end = finish(upstream, status, envelope, destination=destination, done_items=[], call=call, output_bytes=0)
    return Answer(end.body, end.usage, end.status)


# -- reading ----------------------------------------------------------------------------------------------------


class _Identity(msgspec.Struct, gc=False):
    id: msgspec.Raw = jsonio.NULL
    type: msgspec.Raw = jsonio.NULL
    status: msgspec.Raw = jsonio.NULL


_identity = jsonio.decoder(_Identity)
_identity_list = jsonio.decoder(list[_Identity])
_MESSAGE = jsonio.raw("message")
_INCOMPLETE = jsonio.raw("incomplete")


def _identities(output: msgspec.Raw) -> list[_Identity]:
    if output == jsonio.NULL:
        return []
    try:
        return jsonio.decode(output, _identity_list)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        raise WireError(f"'output' of the provider's answer cannot be read: {error}") from None


def _output(given: msgspec.Raw, done: list[msgspec.Raw]) -> msgspec.Raw:
    """The final output. Where the terminal object lacks items that were sent, or calls them by other ids, the items as
    they were sent are the truth: clients hold the ids together (protocol §1.7)."""
    listed = _identities(given)
    if done and len(listed) <= len(done):
        sent = [jsonio.decode(item, _identity) for item in done]
        if len(listed) < len(sent) or any(a.id != b.id for a, b in zip(listed, sent, strict=True)):
            return jsonio.raw(done)
    return jsonio.raw([]) if given == jsonio.NULL else given


class _Part(msgspec.Struct):
    type: str = ""
    annotations: msgspec.Raw = jsonio.EMPTY


class _Message(msgspec.Struct):
    type: str
    content: list[_Part]


_message = jsonio.decoder(_Message)
_NO_ANNOTATIONS = jsonio.raw([])


def _with_annotations(output: msgspec.Raw) -> msgspec.Raw:
    """`output` as it is, but with an array of annotations on every text, which some engines leave out (S51)."""
    items = jsonio.elements(output)
    mended = False
    for index, item in enumerate(items):
        try:
            message = jsonio.decode(item, _message)
        except jsonio.SchemaMismatch:
            continue
        if any(part.type == "output_text" and jsonio.is_null(part.annotations) for part in message.content):
            content = jsonio.members(item)
            parts = [jsonio.members(part) for part in jsonio.elements(content["content"])]
            for part, known in zip(parts, message.content, strict=True):
                if known.type == "output_text" and jsonio.is_null(known.annotations):
                    part["annotations"] = _NO_ANNOTATIONS
            content["content"] = jsonio.raw(parts)
            items[index] = jsonio.raw(content)
            mended = True
    return jsonio.raw(items) if mended else output


def _spoken(output: msgspec.Raw) -> int:
    """Bytes of text in the output, for an estimate."""
    return _measure(jsonio.anything(output)) if output != jsonio.NULL else 0


def _measure(value: Any) -> int:
    if isinstance(value, list):
        return sum(_measure(inner) for inner in value)
    if not isinstance(value, dict):
        return 0
    size = 0
    for name, inner in value.items():
        if isinstance(inner, str):
            size += len(inner.encode()) if name in ("text", "refusal", "arguments", "input", "code") else 0
        elif name in ("content", "summary"):
            size += _measure(inner)
    return size


def _may_replace(name: str, value: msgspec.Raw) -> bool:
    beginnings = _BEGINNINGS.get(name)
    return beginnings is None or memoryview(value)[0] in beginnings


def _says_something(value: msgspec.Raw | None) -> bool:
    return value is not None and bytes(value) not in (b"null", b"{}", b'""', b"false")


class _Reason(msgspec.Struct):
    reason: str


_reason = jsonio.decoder(_Reason)


def _has_reason(details: msgspec.Raw) -> bool:
    try:
        return bool(jsonio.decode(details, _reason).reason)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return False


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
        if _string(content.get("type", jsonio.NULL)) == "function":
            blank = dict.fromkeys(("description", "parameters", "strict"), jsonio.NULL)
            content = {**blank, **content}
        whole.append(content or tool)
    return jsonio.raw(whole)


def _merged(default: msgspec.Raw, given: msgspec.Raw) -> msgspec.Raw:
    """`given` over `default`. Null is taken over: only an absent member is filled in."""
    return jsonio.raw({**jsonio.members(default), **jsonio.members(given)})


def _string(value: msgspec.Raw) -> str | None:
    try:
        return jsonio.decode(value, _text_of)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return None


def _seconds(value: msgspec.Raw) -> int | None:
    """Whole seconds, whatever number the upstream sends (S46)."""
    try:
        return int(jsonio.decode(value, _count))
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch, OverflowError, ValueError):
        return None
