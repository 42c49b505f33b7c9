"""Answers of a provider that speaks the Messages API too: they go on as they come."""

from typing import Annotated, Literal

import msgspec

from tidegate.dialects.dialect import Answer, Call, Destination, Outcome, estimated_usage
from tidegate.dialects.failure import from_error_object
from tidegate.dialects.messages.decoder import REASONS, raise_error
from tidegate.dialects.messages.failures import error_frame
from tidegate.dialects.messages.figures import Figures, as_messages
from tidegate.dialects.relay import Relay
from tidegate.dialects.usage import MOST_TOKENS
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import TidegateError, WireError
from tidegate.wire.events import Usage

__all__ = ["PING", "MessagesStream", "complete"]

PING = sse.encode(b'{"type": "ping"}', b"ping")


class _Delta(msgspec.Struct, gc=False):
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    stop_reason: str | None = None


class _Message(msgspec.Struct, gc=False):
    usage: msgspec.Raw = jsonio.EMPTY


class _Frame(msgspec.Struct, gc=False):
    """All that a forwarded frame is asked for: what it is, how much it holds, what it says of the end."""

    type: str = ""
    delta: _Delta | None = None
    message: _Message | None = None
    usage: msgspec.Raw = jsonio.EMPTY
    error: msgspec.Raw = jsonio.EMPTY


class _OddFrame(msgspec.Struct, gc=False):
    type: str = ""
    usage: msgspec.Raw = jsonio.EMPTY


_frame = jsonio.decoder(_Frame)
_odd_frame = jsonio.decoder(_OddFrame)


_ENDINGS = (b"message_stop", b"error")

_WITHIN = frozenset(
    {"content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop"}
)
"""Events of a message that has begun."""


class MessagesStream(Relay):
    """See :class:`tidegate.dialects.dialect.Stream`. Frames go on untouched, but for usage where it is missing; only
    `message_stop` behind a stop reason is an ending."""

    __slots__ = ("_begun", "_counted", "_delta_bytes", "_figures", "_goes_on", "_reason")

    _ENDING = "'message_stop'"

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._goes_on = False

    def _begin(self) -> None:
        super()._begin()
        self._figures = Figures()
        self._begun = False
        """`message_start` has come."""
        self._counted = False
        """Whether the output was counted to its end."""
        self._delta_bytes = 0
        self._reason = ""

    def go_on(self) -> None:
        """Another attempt has sent `message_start`: there is no second one."""
        self._goes_on = True

    def ping(self) -> bytes:
        return PING

    def fail(self, error: TidegateError) -> bytes:
        self.outcome = Outcome("failed", error)
        return error_frame(error, self._call.request_id)

    def usage(self) -> Usage:
        figures = self._figures
        if figures.complete(counted=self._counted):
            return figures.usage()
        guess = estimated_usage(self._call, self._delta_bytes)
        return figures.completed(guess, counted=self._counted)

    # -- one frame ----------------------------------------------------------------------------------------------

    def _frame(self, frame: sse.Frame) -> bytes:
        if self.outcome is not None:
            return b""
        data = frame.data
        if not data:
            return frame.raw if self.committed else b""
        try:
            found = _frame.decode(data)
        except jsonio.UNREADABLE as error:
            found = _odd(data, error)
        kind = found.type
        if not self._begun and kind in _WITHIN:
            # No official client takes such a stream: as long as nothing has gone out another deployment may answer.
            raise WireError("the stream does not begin with 'message_start'")
        if kind == "content_block_delta":
            delta = found.delta
            if delta is not None:
                text = delta.text or delta.partial_json or delta.thinking
                if text:
                    self._delta_bytes += len(text) if text.isascii() else len(text.encode())
        elif kind == "message_delta":
            if found.delta is not None and found.delta.stop_reason:
                self._reason = found.delta.stop_reason
            if self._figures.read(found.usage):
                self._counted = True
            else:
                # The official client's accumulator reads the count of every one.
                data = self._mended(data, found.usage)
        elif kind == "message_start":
            self._begun = True
            if found.message is not None:
                self._figures.read(found.message.usage)
            if self._goes_on:
                return b""
            if found.message is not None and not _is_object(found.message.usage):
                data = self._begun_mended(data)
        elif kind == "message_stop":
            if not self._reason:
                return self._broken("the stream ended without a stop reason")
            self._end()
        elif kind == "ping":
            return frame.raw if self.committed else b""
        elif kind == "error" or (not kind and not jsonio.is_null(found.error)):
            return self._failed(from_error_object(found.error or b"null", self._provider))
        name = kind.encode()
        if frame.event != name and frame.event in _ENDINGS and not kind.isidentifier():
            raise WireError("an event is called an ending and does not say what it is")
        self.committed = True
        if data is frame.data and (frame.event == name or not kind.isidentifier()):
            return frame.raw
        # The official clients pass over a frame that has no name, and some take a wrong one for an ending.
        return sse.encode(data, name)

    def _mended(self, data: bytes, given: msgspec.Raw) -> bytes:
        """The end of a message, with usage as far as it is known. Raises WireError."""
        try:
            return jsonio.encode({**jsonio.members(data), "usage": _mended(given, self.usage())})
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
            raise WireError(f"the end of the message cannot be read: {error}") from None

    def _begun_mended(self, data: bytes) -> bytes:
        """The beginning of a message, with the usage of a request of this size. Raises WireError."""
        try:
            members = jsonio.members(data)
            message = jsonio.members(members["message"])
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
            raise WireError(f"the beginning of the message cannot be read: {error}") from None
        return jsonio.encode({**members, "message": {**message, "usage": as_messages(self.usage())}})

    @property
    def _whole(self) -> bool:
        return False  # without `message_stop` there is no end, however long one waits

    def _end(self) -> bytes:
        self.outcome = Outcome(_status(self._reason))
        return b""


def _mended(given: msgspec.Raw, usage: Usage) -> jsonio.Raw:
    """A `usage` object with these figures and whatever else the provider has `given` with it."""
    known = jsonio.members(given) if _is_object(given) else {}
    return jsonio.raw({**known, **jsonio.members(as_messages(usage))})


def _is_object(value: msgspec.Raw) -> bool:
    return bytes(value).lstrip()[:1] == b"{"


def _odd(data: bytes, error: Exception) -> _Frame:
    """A frame that does not fit goes on all the same, as long as it says what it is. Raises WireError."""
    found = _OddFrame()
    if isinstance(error, msgspec.ValidationError):
        try:
            found = _odd_frame.decode(data)
        except jsonio.UNREADABLE:
            found = _OddFrame()
    if not found.type:
        raise WireError(f"an event of the stream cannot be read: {error}")
    return _Frame(type=found.type, usage=found.usage)


def _status(reason: str) -> str:
    """For the ledger: whether all was said, as far as the provider's reason tells."""
    return "completed" if reason == "pause_turn" or REASONS.get(reason) in ("stop", "tool_calls") else "incomplete"


class _Whole(msgspec.Struct):
    type: str | None = None
    content: list[msgspec.Raw] | None = None
    stop_reason: str | None = None
    usage: msgspec.Raw = jsonio.EMPTY
    error: msgspec.Raw = jsonio.EMPTY


_whole = jsonio.decoder(_Whole)

_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]


class _PlainDetails(msgspec.Struct, gc=False):
    thinking_tokens: _Count | None = None


class _PlainWritten(msgspec.Struct, gc=False):
    ephemeral_1h_input_tokens: _Count | None = None


class _PlainUsage(msgspec.Struct, gc=False):
    input_tokens: _Count
    output_tokens: _Count
    cache_read_input_tokens: _Count | None = None
    cache_creation_input_tokens: _Count | None = None
    output_tokens_details: _PlainDetails | None = None
    cache_creation: _PlainWritten | None = None


class _Plain(msgspec.Struct, gc=False):
    """A message in which nothing is missing or odd: it decodes as this, which costs a third of looking for faults."""

    type: Literal["message"]
    content: list[msgspec.Raw]
    stop_reason: Annotated[str, msgspec.Meta(min_length=1)]
    usage: _PlainUsage
    error: None = None


_plain = jsonio.decoder(_Plain)


def _as_it_came(body: bytes) -> Answer | None:
    """The answer when it can go on untouched, as nearly every one can; else None."""
    try:
        answer = _plain.decode(body)
    except jsonio.UNREADABLE:
        return None
    found = answer.usage
    read, written = found.cache_read_input_tokens or 0, found.cache_creation_input_tokens or 0
    given = found.input_tokens + read + written
    if not given:
        return None
    details, kept = found.output_tokens_details, found.cache_creation
    thoughts = 0 if details is None else details.thinking_tokens or 0
    hour = 0 if kept is None else min(kept.ephemeral_1h_input_tokens or 0, written)
    usage = Usage(given, found.output_tokens, read, written, thoughts, cache_write_1h_tokens=hour)
    return Answer(body, usage, _status(answer.stop_reason))


def complete(body: bytes, call: Call, destination: Destination) -> Answer:
    """A whole message, as it came; usage is put in as far as it is missing.

    Raises WireError when it is no message, and TidegateError for an error in a body with status 200.
    """
    try:
        jsonio.check_utf8(body)
        plain = _as_it_came(body)
        if plain is not None:
            return plain
        whole = jsonio.decode(body, _whole)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        raise WireError(f"the provider's answer cannot be read: {error}") from None
    raise_error(whole.type, whole.error, destination.provider)
    if whole.content is None:
        raise WireError("the provider's answer has no 'content'")
    if not whole.stop_reason:
        raise WireError("the provider's answer has no 'stop_reason'")
    figures = Figures()
    counted = figures.read(whole.usage)
    if figures.complete(counted=counted):
        return Answer(body, figures.usage(), _status(whole.stop_reason))
    guess = estimated_usage(call, sum(map(len, whole.content)))
    usage = figures.completed(guess, counted=counted)
    mended = jsonio.encode({**jsonio.members(body), "usage": _mended(whole.usage, usage)})
    return Answer(mended, usage, _status(whole.stop_reason))
