"""What chat and text completions share: answers made of `choices`, streamed as bare `data:` frames."""

import contextlib
from typing import Annotated, Any, Literal

import msgspec

from tidegate.dialects.dialect import Answer, Call, Destination, Events, Outcome, estimated_usage
from tidegate.dialects.failure import from_error_object
from tidegate.dialects.usage import MOST_TOKENS, UsageObject, read_usage, read_usage_object
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import TidegateError, UpstreamBroken, WireError
from tidegate.wire.events import Usage

__all__ = ["CHOICE_LIMIT", "ChoicesStream", "Kind", "complete_choices", "known_reason"]

Kind = Literal["chat.completion.chunk", "text_completion"]
"""The `object` of a chunk."""

DONE = b"data: [DONE]\n\n"

CHOICE_LIMIT = 4096
"""More choices than any request can ask for: 128 for each prompt of a list that any engine takes."""

_FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_SYNONYMS = {
    "complete": "stop",
    "completed": "stop",
    "end_turn": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "max_length": "length",
    "max_output_tokens": "length",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "model_length": "length",
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
    "blocklist": "content_filter",
    "prohibited_content": "content_filter",
    "recitation": "content_filter",
    "refusal": "content_filter",
    "safety": "content_filter",
    "sensitive": "content_filter",
    "spii": "content_filter",
}
"""Finish reasons of engines that did not keep to the enumeration, in small letters, and what they mean."""

_FAILED_REASONS = frozenset(
    {"abort", "aborted", "canceled", "cancelled", "error", "insufficient_system_resource", "network_error", "timeout"}
)
"""Not an ending but a break that an engine reports in the place of one."""

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Function(msgspec.Struct, gc=False):
    arguments: str | None = None


class _ToolCall(msgspec.Struct, gc=False):
    function: _Function | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int | None = None
    finish_reason: str | None = None
    delta: _Delta | None = None
    text: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    """All that a forwarded frame is asked for: whether it is whole, what it says of the end, how much it holds."""

    id: str | None = None
    object: str | None = None
    created: int | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: UsageObject | None = None
    error: msgspec.Raw = jsonio.EMPTY


_chunk = jsonio.decoder(_Chunk)
_choice_list = jsonio.decoder(list[jsonio.Members])
_text = jsonio.decoder(str)
_number = jsonio.decoder(float)
_usage_object = jsonio.decoder(UsageObject)

_HEAD = ("id", "object", "created", "model")


class ChoicesStream(Events):
    """See :class:`tidegate.dialects.dialect.Stream`. Frames go on untouched; `[DONE]` only follows a real finish."""

    __slots__ = (
        "_call",
        "_choices",
        "_decoder",
        "_delta_bytes",
        "_destination",
        "_finished",
        "_head",
        "_kind",
        "_last",
        "_loose",
        "_seen",
        "_status",
        "_usage",
        "_usage_sent",
        "_wants_usage",
        "committed",
        "outcome",
    )

    def __init__(self, call: Call, *, kind: Kind, wants_usage: bool, choices: int = 1) -> None:
        """`wants_usage`: the client asked for the usage frame. `choices`: how many it asked for."""
        self._call = call
        self._kind: Kind = kind
        self._wants_usage = wants_usage
        self._choices = choices
        self._destination: Destination | None = None
        self._loose = False
        self._begin()
        self.committed = False
        self.outcome: Outcome | None = None

    def _begin(self) -> None:
        self._decoder = sse.FrameDecoder()
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._status = "completed"
        self._delta_bytes = 0
        self._usage: Usage | None = None
        self._usage_sent = False
        self._last = b"{}"
        self._head: jsonio.Members | None = None

    def attempt(self, destination: Destination) -> None:
        self._destination = destination
        self._loose = destination.quirks.loose_chunks
        self._begin()

    def feed(self, data: bytes) -> bytes:
        try:
            frames = self._decoder.feed(data)
            if len(frames) == 1:
                return self._frame(frames[0])
        except WireError as error:
            return self._broken(str(error))
        except sse.FrameError as error:
            out = self._read(error.frames)
            if self.outcome is None:
                self._broken(str(error))
            return out
        return self._read(frames)

    def _read(self, frames: list[sse.Frame]) -> bytes:
        out = []
        for frame in frames:
            try:
                out.append(self._frame(frame))
            except WireError as error:
                self._broken(str(error))
        return b"".join(out)

    def eof(self) -> bytes:
        out = b""
        tail = self._decoder.eof()
        if tail is not None and self.outcome is None:
            try:
                out = self._frame(tail)
            except WireError:
                out = b""
        if self.outcome is None:
            if self._complete and len(self._finished) >= self._choices:
                return out + self._end()
            self._broken("the stream ended without a finish reason")
        return out

    def finish(self) -> bytes:
        if self.outcome is None and self._complete and len(self._finished) >= self._choices:
            return self._end()
        return b""

    def ping(self) -> bytes:
        return sse.comment(b"keepalive")

    def fail(self, error: TidegateError) -> bytes:
        self.outcome = Outcome("failed", error)
        return sse.encode(error.body())

    def usage(self) -> Usage:
        return self._usage or estimated_usage(self._call.request_bytes, self._delta_bytes)

    # -- one frame ----------------------------------------------------------------------------------------------

    def _frame(self, frame: sse.Frame) -> bytes:
        if self.outcome is not None:
            return b""
        data = frame.data
        if not data:
            return frame.raw if self.committed else b""
        if data == b"[DONE]":
            return self._on_done()
        try:
            chunk = _chunk.decode(data)
            odd = chunk.id is None or chunk.object is None or chunk.created is None or chunk.model is None
        except _UNREADABLE:
            if data.strip() == b"[DONE]":
                return self._on_done()
            chunk = _read_loosely(data)
            odd = True
        if chunk.error and not _says_nothing(chunk.error):
            return self._failed(from_error_object(chunk.error, self._provider))
        choices = chunk.choices
        if choices is None:
            choices = self._without_choices(frame, chunk)
            if choices is None:
                return b""
            odd = True
        for choice in choices:
            delta = choice.delta
            if delta is not None:
                text = delta.content or delta.reasoning_content or delta.reasoning or delta.refusal
                if delta.tool_calls:
                    for called in delta.tool_calls:
                        if called.function is not None:
                            self._delta_bytes += len((called.function.arguments or "").encode())
            else:
                text = choice.text
                odd = odd or text is None
            if text:
                self._delta_bytes += len(text) if text.isascii() else len(text.encode())
            index = choice.index
            if index is None:
                index = 0
                odd = True
            if index not in self._seen:
                self._seen.add(index)
                if len(self._seen) > CHOICE_LIMIT:
                    raise WireError(f"the stream has more than {CHOICE_LIMIT} choices")
            reason = choice.finish_reason
            if reason is None:
                continue
            if not reason:
                odd = True
                continue
            if reason not in _FINISH_REASONS:
                odd = True
                reason = known_reason(reason)
                if reason is None:
                    return self._broken(f"it broke the answer off (finish_reason '{choice.finish_reason}')")
            self._finished.add(index)
            if reason in ("length", "content_filter"):
                self._status = "incomplete"
        usage = chunk.usage
        if usage is not None:
            self._usage = read_usage(usage) or self._usage
            if not choices:
                if not self._wants_usage:
                    return b""
                self._usage_sent = True
            odd = odd or usage.prompt_tokens is None or usage.completion_tokens is None or usage.total_tokens is None
        raw = frame.raw
        if odd or self._loose:
            data = self._mended(data)
            raw = sse.encode(data)
        self._last = data
        self.committed = True
        return raw

    def _without_choices(self, frame: sse.Frame, chunk: _Chunk) -> list[_Choice] | None:
        """A frame without choices is an error in another wrapping, or a usage frame, or one with nothing to say."""
        if frame.event == b"error" or chunk.object == "error":
            self._failed(from_error_object(frame.data, self._provider))
            return None
        if chunk.usage is None and chunk.id is None and chunk.object is None:
            if _members(frame.data).keys() & {"message", "detail"}:
                self._failed(from_error_object(frame.data, self._provider))
                return None
            raise WireError("a chunk of the stream has no 'choices'")
        return []

    def _on_done(self) -> bytes:
        if self._complete:
            return self._end()
        return self._broken("it closed the stream without a finish reason")

    def _broken(self, why: str) -> bytes:
        return self._failed(UpstreamBroken(f"Provider '{self._provider}': {why}."))

    def _failed(self, error: TidegateError) -> bytes:
        self.outcome = Outcome("failed", error)
        return b""

    @property
    def _complete(self) -> bool:
        return bool(self._finished) and self._finished >= self._seen

    def _end(self) -> bytes:
        self.outcome = Outcome(self._status)
        if self._wants_usage and not self._usage_sent:
            return self._usage_frame() + DONE
        return DONE

    def _usage_frame(self) -> bytes:
        """The frame that the client asked for, when the upstream put its figures elsewhere or has none."""
        return sse.encode(jsonio.encode({**self._known_head(), "choices": [], "usage": self.usage().as_chat()}))

    def _known_head(self) -> jsonio.Members:
        """Id, object, creation time and model as the frames so far have them."""
        if self._head is None:
            self._head = _head(self._call, self._destination, self._kind)
        with contextlib.suppress(WireError):
            self._head = _with_head(_members(self._last), self._head)
        return self._head

    def _mended(self, data: bytes) -> bytes:
        """The same chunk with every member that clients rely on. What is missing is as in the frames before."""
        try:
            if self._head is None:
                fallback = _head(self._call, self._destination, self._kind)
                self._head = _with_head(jsonio.members(self._last) if self._last else {}, fallback)
            content = _mended(jsonio.members(data), self._head, "delta" if self._is_chat else "text")
            return jsonio.encode(self._tightened(content) if self._loose else content)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
            raise WireError(f"a chunk of the stream cannot be read: {error}") from None

    def _tightened(self, content: jsonio.Members) -> jsonio.Members:
        """For a provider that leaves out nulls and says usage beside the finish reason: it has a frame of its own."""
        if bytes(content["choices"]) != b"[]":
            content.pop("usage", None)
            if self._wants_usage:
                content["usage"] = jsonio.NULL
        return content if self._destination is None else _with_own_model(content, self._destination)

    @property
    def _is_chat(self) -> bool:
        return self._kind == "chat.completion.chunk"

    @property
    def _provider(self) -> str:
        return self._destination.provider if self._destination is not None else ""


class _WholeChoice(msgspec.Struct, gc=False):
    index: int | None = None
    finish_reason: str | None = None
    message: jsonio.Members | None = None
    text: str | None = None


class _Whole(msgspec.Struct, gc=False):
    """All that an answer in one body is asked for."""

    id: str | None = None
    object: str | None = None
    created: int | None = None
    model: str | None = None
    choices: list[_WholeChoice] | None = None
    usage: msgspec.Raw = jsonio.EMPTY
    error: msgspec.Raw = jsonio.EMPTY


_whole = jsonio.decoder(_Whole)


def complete_choices(body: bytes, call: Call, destination: Destination, *, kind: Kind) -> Answer:
    """An answer that came as one body (see `Request.complete`). Forwarded as it is unless something must be mended."""
    try:
        jsonio.check_utf8(body)
        if not destination.quirks.model_suffix:
            plain = _as_it_came(body, kind)
            if plain is not None:
                return plain
        return _complete_choices(body, call, destination, kind)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        raise WireError(f"the provider's answer cannot be read: {error}") from None


class _PlainMessage(msgspec.Struct, gc=False):
    role: str


class _PlainChoice(msgspec.Struct, gc=False):
    index: int
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter", "function_call"]
    message: _PlainMessage | None = None
    text: str | None = None


_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]


class _PlainDetails(msgspec.Struct, gc=False):
    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None


class _PlainUsage(msgspec.Struct, gc=False):
    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: _Count
    prompt_tokens_details: _PlainDetails | None = None
    completion_tokens_details: _PlainDetails | None = None
    prompt_cache_hit_tokens: _Count | None = None


class _Plain(msgspec.Struct, gc=False):
    """An answer in which nothing is missing or odd: it decodes as this, which costs a third of looking for faults."""

    id: str
    object: str
    created: int
    model: str
    choices: Annotated[list[_PlainChoice], msgspec.Meta(min_length=1)]
    usage: _PlainUsage
    error: None = None


_plain = jsonio.decoder(_Plain)
_NO_DETAILS = _PlainDetails()


def _as_it_came(body: bytes, kind: Kind) -> Answer | None:
    """The answer when it can go on untouched, as nearly every one can; else None."""
    try:
        answer = _plain.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    status = "completed"
    for choice in answer.choices:
        if (choice.message if kind == "chat.completion.chunk" else choice.text) is None:
            return None
        if choice.finish_reason in ("length", "content_filter"):
            status = "incomplete"
    found = answer.usage
    given = found.prompt_tokens_details or _NO_DETAILS
    taken = found.completion_tokens_details or _NO_DETAILS
    cached = given.cached_tokens
    usage = Usage(
        input_tokens=found.prompt_tokens,
        output_tokens=found.completion_tokens,
        cached_tokens=(cached if cached is not None else found.prompt_cache_hit_tokens) or 0,
        cache_write_tokens=given.cache_write_tokens or 0,
        reasoning_tokens=taken.reasoning_tokens or 0,
    )
    return Answer(body, usage, status)


def _complete_choices(body: bytes, call: Call, destination: Destination, kind: Kind) -> Answer:
    error = jsonio.members(body).get("error", jsonio.NULL)
    if not _says_nothing(error):
        raise from_error_object(error, destination.provider)
    carrier = "message" if kind == "chat.completion.chunk" else "text"
    fallback = _head(call, destination, "chat.completion" if carrier == "message" else kind)
    try:
        answer = jsonio.decode(body, _whole)
        mended = body
    except jsonio.SchemaMismatch:
        mended = jsonio.encode(_mended(jsonio.members(body), fallback, carrier))
        answer = jsonio.decode(mended, _whole)
    choices = answer.choices
    if not choices:
        raise WireError("the provider's answer has no 'choices'")
    status = "completed"
    odd = answer.id is None or answer.object is None or answer.created is None or answer.model is None
    size = 0
    for choice in choices:
        if choice.message is None and choice.text is None:
            raise WireError(f"the provider's answer has a choice without '{carrier}'")
        if not choice.finish_reason:
            raise WireError("the provider's answer has a choice without finish_reason")
        reason = known_reason(choice.finish_reason)
        if reason is None:
            raise UpstreamBroken(
                f"Provider '{destination.provider}': it broke the answer off (finish_reason '{choice.finish_reason}')."
            )
        odd = odd or reason != choice.finish_reason or choice.index is None
        if reason in ("length", "content_filter"):
            status = "incomplete"
        size += len((choice.text or "").encode())
        for name in ("content", "reasoning_content", "reasoning", "refusal", "tool_calls"):
            value = (choice.message or {}).get(name, jsonio.NULL)
            size += 0 if value == jsonio.NULL else len(value) - 2
    usage = read_usage_object(answer.usage)
    if destination.quirks.model_suffix:
        mended = jsonio.encode(_with_own_model(jsonio.members(mended), destination))
    if odd:
        mended = jsonio.encode(_mended(jsonio.members(mended), fallback, carrier))
    if usage is None:
        usage = estimated_usage(call.request_bytes, size)
        mended = jsonio.encode({**jsonio.members(mended), "usage": usage.as_chat()})
    elif not _is_whole_usage(answer.usage):
        mended = jsonio.encode({**jsonio.members(mended), "usage": _whole_usage(answer.usage)})
    return Answer(mended, usage, status)


def _with_own_model(content: jsonio.Members, destination: Destination) -> jsonio.Members:
    """The same object with the model's name as it was asked for, where the provider appends to it."""
    if content.get("model") == jsonio.raw(destination.model + destination.quirks.model_suffix):
        content["model"] = jsonio.raw(destination.model)
    return content


# -- mending ----------------------------------------------------------------------------------------------------


def known_reason(reason: str) -> str | None:
    """The reason inside the enumeration; None for one that reports a break. One that we cannot place means `stop`."""
    if reason in _FINISH_REASONS:
        return reason
    reason = reason.lower()
    if reason in _FAILED_REASONS:
        return None
    return reason if reason in _FINISH_REASONS else _SYNONYMS.get(reason, "stop")


def _head(call: Call, destination: Destination | None, kind: str) -> jsonio.Members:
    """What stands for missing members: one id for the whole answer, our clock, the model that was asked."""
    prefix = "cmpl-" if kind == "text_completion" else "chatcmpl-"
    return {
        "id": jsonio.raw(prefix + call.response_id.removeprefix("resp_")),
        "object": jsonio.raw(kind),
        "created": jsonio.raw(call.created_at),
        "model": jsonio.raw(destination.model if destination is not None else ""),
    }


def _with_head(content: jsonio.Members, fallback: jsonio.Members) -> jsonio.Members:
    return {name: _checked(name, content.get(name, jsonio.NULL), fallback[name]) for name in _HEAD}


def _checked(name: str, value: msgspec.Raw, fallback: msgspec.Raw) -> msgspec.Raw:
    try:
        if name != "created":
            jsonio.decode(value, _text)
            return value
        return jsonio.raw(int(jsonio.decode(value, _number)))
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return fallback


def _mended(content: jsonio.Members, fallback: jsonio.Members, carrier: str) -> jsonio.Members:
    """The object with all members that are promised (S68–S73). `carrier` is where a choice has its content."""
    result = {**_with_head(content, fallback), **{name: content[name] for name in content if name not in _HEAD}}
    choices = content.get("choices", jsonio.NULL)
    listed = [] if choices == jsonio.NULL else jsonio.decode(choices, _choice_list)
    for place, choice in enumerate(listed):
        if not _is_index(choice.get("index", jsonio.NULL)):
            choice["index"] = jsonio.raw(place)
        if carrier == "delta" and choice.get("delta", jsonio.NULL) == jsonio.NULL:
            choice["delta"] = jsonio.raw({})
        if carrier == "text" and choice.get("text", jsonio.NULL) == jsonio.NULL:
            choice["text"] = jsonio.raw("")
        choice["finish_reason"] = _mended_reason(choice.get("finish_reason", jsonio.NULL))
    result["choices"] = jsonio.raw(listed)
    usage = content.get("usage", jsonio.NULL)
    if usage != jsonio.NULL and not _is_whole_usage(usage):
        result["usage"] = _whole_usage(usage)
    return result


def _is_index(value: msgspec.Raw) -> bool:
    return bytes(value).isdigit()


def _mended_reason(value: msgspec.Raw) -> msgspec.Raw:
    try:
        reason = jsonio.decode(value, _text)
    except jsonio.SchemaMismatch:
        return jsonio.NULL
    return jsonio.raw(known_reason(reason) or "stop") if reason else jsonio.NULL


class _ThreeFigures(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


_three_figures = jsonio.decoder(_ThreeFigures)


def _is_whole_usage(value: msgspec.Raw) -> bool:
    try:
        jsonio.decode(value, _three_figures)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return False
    return True


def _whole_usage(value: msgspec.Raw) -> msgspec.Raw:
    """The same usage with the figures that every client reads; what the provider adds of its own stays."""
    usage = read_usage_object(value)
    if usage is None:
        return jsonio.NULL
    return jsonio.raw({**jsonio.members(usage.as_chat()), **_others(value)})


def _others(value: msgspec.Raw) -> jsonio.Members:
    known = {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details"}
    return {name: member for name, member in jsonio.members(value).items() if name not in known}


def _says_nothing(error: msgspec.Raw) -> bool:
    """Some engines send the member with every chunk and nothing in it."""
    return bytes(error) in (b"", b"null", b"false", b'""', b"{}")


def _members(data: bytes) -> jsonio.Members:
    try:
        return jsonio.members(data)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        raise WireError(f"a chunk of the stream cannot be read: {error}") from None


def _read_loosely(data: bytes) -> _Chunk:
    """A chunk with members of types that no schema has. Raises WireError for what is no chunk at all."""
    content = _members(data)
    try:
        whole = jsonio.anything(data)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        raise WireError(f"a chunk of the stream cannot be read: {error}") from None
    choices = whole.get("choices")
    if choices is not None and not (isinstance(choices, list) and all(isinstance(one, dict) for one in choices)):
        raise WireError("a chunk of the stream cannot be read: 'choices' is not an array of objects")
    found = _Chunk(error=content.get("error", jsonio.EMPTY))
    for name in ("id", "object"):
        setattr(found, name, whole[name] if isinstance(whole.get(name), str) else None)
    if isinstance(whole.get("usage"), dict):
        usage = read_usage_object(content["usage"])
        found.usage = None if usage is None else jsonio.decode(usage.as_chat(), _usage_object)
    if choices is not None:
        found.choices = [_loose_choice(place, choice) for place, choice in enumerate(choices)]
    return found


def _loose_choice(place: int, choice: dict[str, Any]) -> _Choice:
    index = choice.get("index")
    reason = choice.get("finish_reason")
    delta = choice.get("delta")
    text = choice.get("text")
    found = _Choice(
        index=index if isinstance(index, int) and not isinstance(index, bool) and index >= 0 else place,
        finish_reason=reason if isinstance(reason, str) else None,
        text=text if isinstance(text, str) else None,
    )
    if isinstance(delta, dict):
        said = delta.get("content")
        found.delta = _Delta(content=said if isinstance(said, str) else jsonio.encode(said).decode() if said else None)
    return found
