"""The stream of `POST /v1/responses` from an upstream that speaks Responses too.

Only the envelope events (created, in_progress, terminal) are ours. Every other frame goes on untouched as long as it
has its `event:` line and the expected `sequence_number`; from the first that has not, frames are written anew.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar, TypeVar

import msgspec

from tidegate.dialects.dialect import Call, Destination, Outcome, estimated_usage
from tidegate.dialects.failure import from_error_object
from tidegate.dialects.responses import nulls
from tidegate.dialects.responses.repair import Event, Repair
from tidegate.dialects.responses.response import Envelope, finish, is_cut, read_usage
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import TidegateError, UpstreamBroken, WireError
from tidegate.wire.events import Usage

__all__ = ["ResponsesStream"]

T = TypeVar("T")

DONE = b"data: [DONE]\n\n"

_SDK_ERROR_CODES = frozenset(
    {"server_error", "rate_limit_exceeded", "invalid_prompt", "context_length_exceeded", "insufficient_quota"}
)
"""Codes of `response.error` that clients know; every other code of ours goes into the message (design §6)."""

_RENAMED = {
    "response.reasoning_text.delta": "response.reasoning.delta",
    "response.reasoning_text.done": "response.reasoning.done",
}
"""Raw reasoning events as Open Responses calls them."""

_ENDINGS = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
}


class _Event(msgspec.Struct, gc=False):
    """All that a forwarded frame is asked for."""

    type: str = ""
    sequence_number: int | None = None
    delta: msgspec.Raw = jsonio.EMPTY


class _Snapshot(msgspec.Struct):
    response: jsonio.Members = {}


class _ItemDone(msgspec.Struct):
    item: msgspec.Raw = jsonio.EMPTY
    output_index: int = 0


class _ErrorEvent(msgspec.Struct):
    error: msgspec.Raw = jsonio.EMPTY


_event = jsonio.decoder(_Event)
_snapshot = jsonio.decoder(_Snapshot)
_item_done = jsonio.decoder(_ItemDone)
_error_event = jsonio.decoder(_ErrorEvent)


class ResponsesStream:
    """See :class:`tidegate.dialects.dialect.Stream`."""

    __slots__ = (
        "_call",
        "_decoder",
        "_delta_bytes",
        "_destination",
        "_done_items",
        "_envelope",
        "_problem",
        "_repair",
        "_rewrite_all",
        "_sequence",
        "_stage",
        "_untouched",
        "_usage",
        "committed",
        "outcome",
    )

    def __init__(self, envelope: Envelope, call: Call) -> None:
        self._envelope = envelope
        self._call = call
        self._decoder = sse.FrameDecoder()
        self._destination: Destination | None = None
        self._stage = 0
        """0: nothing sent, 1: created sent, 2: in_progress sent."""
        self._sequence = 0
        self._untouched = True
        self._rewrite_all = call.profile.reasoning_names or call.profile.strict_nulls
        self._delta_bytes = 0
        self._done_items: dict[int, msgspec.Raw] = {}
        self._problem: TidegateError | None = None
        self._repair: Repair | None = None
        self._usage: Usage | None = None
        self.committed = False
        self.outcome: Outcome | None = None

    def attempt(self, destination: Destination) -> None:
        self._destination = destination
        self._decoder = sse.FrameDecoder()
        self._problem = None
        self._untouched = not self._rewrite_all
        self._envelope.keep_upstream_identity = not destination.gateway_state
        self._envelope.trust_echo = destination.quirks.echoes_request
        self._repair = Repair() if destination.quirks.loose_items else None

    def feed(self, data: bytes) -> bytes:
        try:
            frames = self._decoder.feed(data)
        except sse.FrameError as error:
            raise WireError(str(error)) from None
        if len(frames) == 1:
            out = self._frame(frames[0])
        else:
            out = b"".join([self._frame(frame) for frame in frames])
        if self._problem is not None and self.outcome is None:
            self.outcome = Outcome("failed", self._problem)
        return out

    def eof(self) -> bytes:
        tail = self._decoder.eof()
        out = b""
        if tail is not None and self.outcome is None:
            try:
                out = self._frame(tail)
            except WireError:
                out = b""
        if self.outcome is None:
            self.outcome = Outcome(
                "failed", self._problem or UpstreamBroken("the stream ended without a terminal event")
            )
        return out

    def finish(self) -> bytes:
        return b""

    def ping(self) -> bytes:
        """A comment for proxies, and the event that clients count as activity (protocol §4.1): it repeats the last
        sequence number. Open Responses knows no such event."""
        if self._stage == 0 or self._call.profile.reasoning_names:
            return sse.comment(b"keepalive")
        data = b'{"type":"keepalive","sequence_number":%d}' % (self._sequence - 1)
        return sse.comment(b"keepalive") + self._encode("keepalive", data)

    def fail(self, error: TidegateError) -> bytes:
        out = [self._begin(None)]
        if self._repair is not None:
            out.append(self._all(self._repair.end(cut=False)))
        out.append(self._error_frame(error))
        code = error.code or "server_error"
        known = code if code in _SDK_ERROR_CODES else "server_error"
        message = error.message if known == code else f"{code}: {error.message}"
        out.append(
            self._terminal(
                "response.failed",
                self._envelope.snapshot(
                    None,
                    "failed",
                    model=self._model,
                    output=jsonio.raw([self._done_items[index] for index in sorted(self._done_items)]),
                    usage=self.usage(),
                    error=jsonio.raw({"code": known, "message": message}),
                ),
            )
        )
        self.outcome = Outcome("failed", error)
        return b"".join(out)

    def usage(self) -> Usage:
        return self._usage or estimated_usage(self._call.request_bytes, self._delta_bytes)

    # -- one frame ----------------------------------------------------------------------------------------------

    def _frame(self, frame: sse.Frame) -> bytes:
        if self.outcome is not None:
            return b""
        data = frame.data
        if not data:
            return frame.raw if self._stage else b""
        try:
            event = _event.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if data.strip() == b"[DONE]":
                return b""
            raise WireError(f"an event of the stream cannot be read: {error}") from None
        kind = event.type or frame.event.decode("utf-8", "replace")
        if self._repair is not None:
            return self._repaired(self._repair, kind, data)
        handler = self._HANDLERS.get(kind)
        if handler is not None:
            return handler(self, kind, frame)
        return self._forward(kind, event, frame)

    def _repaired(self, repair: Repair, kind: str, data: bytes) -> bytes:
        try:
            return self._all(repair.feed(kind, self._members(data)))
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch, KeyError) as error:
            raise WireError(f"an event of the stream cannot be read: {error}") from None

    def _all(self, events: list[Event]) -> bytes:
        out = []
        for kind, members in events:
            data = jsonio.encode(members)
            frame = sse.Frame(b"", b"", data)
            handler = self._HANDLERS.get(kind)
            out.append(handler(self, kind, frame) if handler else self._forward(kind, self._read(_event, data), frame))
        return b"".join(out)

    def _forward(self, kind: str, event: _Event, frame: sse.Frame) -> bytes:
        begin = self._begin(None) if self._stage < 2 else b""
        self.committed = True
        self._delta_bytes += len(event.delta)
        sequence = self._sequence
        self._sequence = sequence + 1
        if self._untouched and event.sequence_number == sequence and frame.event == kind.encode():
            out = sse.encode(frame.data) if self._call.profile.responses_data_only else frame.raw
        else:
            self._untouched = False
            out = self._rewritten(kind, frame.data, sequence)
        return begin + out if begin else out

    def _rewritten(self, kind: str, data: bytes, sequence: int) -> bytes:
        if self._call.profile.strict_nulls:
            data = nulls.strip(data)
        if self._call.profile.reasoning_names:
            kind = _RENAMED.get(kind, kind)
        content = {"type": jsonio.raw(kind), **self._members(data)}
        content["type"] = jsonio.raw(kind)
        content["sequence_number"] = jsonio.raw(sequence)
        return self._encode(kind, jsonio.encode(content))

    def _on_created(self, kind: str, frame: sse.Frame) -> bytes:
        """created, queued: the stream begins. Calls are never in the background, so that `queued` says nothing."""
        if self._stage:
            return b""
        return self._created(self._response(frame.data))

    def _on_in_progress(self, kind: str, frame: sse.Frame) -> bytes:
        return self._begin(self._response(frame.data))

    def _on_keepalive(self, kind: str, frame: sse.Frame) -> bytes:
        return self.ping() if self._stage else b""

    def _on_error(self, kind: str, frame: sse.Frame) -> bytes:
        """An error is held until the end of this read: `response.failed`, which usually follows, says more."""
        found = self._read(_error_event, frame.data).error
        self._problem = from_error_object(frame.data if jsonio.is_null(found) else found, self._provider)
        return b""

    def _on_item_done(self, kind: str, frame: sse.Frame) -> bytes:
        done = self._read(_item_done, frame.data)
        if done.item:
            self._done_items[done.output_index] = done.item
        return self._forward(kind, self._read(_event, frame.data), frame)

    def _on_ending(self, kind: str, frame: sse.Frame) -> bytes:
        upstream = self._response(frame.data)
        if kind == "response.failed":
            return self._on_failed(upstream)
        begin = self._begin(upstream)
        assert self._destination is not None
        if self._repair is not None:
            usage = read_usage(upstream.get("usage", jsonio.NULL))
            begin += self._all(self._repair.end(cut=is_cut(usage, self._envelope, self._destination)))
            upstream["output"] = jsonio.raw(self._repair.output)
        end = finish(
            upstream,
            _ENDINGS[kind],
            self._envelope,
            destination=self._destination,
            done_items=[self._done_items[index] for index in sorted(self._done_items)],
            call=self._call,
            output_bytes=self._delta_bytes,
        )
        self._usage = end.usage
        self.committed = True
        self.outcome = Outcome(end.status)
        out = begin + self._terminal(f"response.{end.status}", end.body)
        return out + DONE if self._call.profile.responses_done else out

    def _on_failed(self, upstream: jsonio.Members) -> bytes:
        problem = upstream.get("error", jsonio.NULL)
        if problem != jsonio.NULL:
            self._problem = from_error_object(problem, self._provider)
        elif self._problem is None:
            self._problem = UpstreamBroken("the provider ended the answer with response.failed and gave no reason")
        if "usage" in upstream:
            self._usage = read_usage(upstream["usage"])
        self.outcome = Outcome("failed", self._problem)
        return b""

    # -- our own frames -----------------------------------------------------------------------------------------

    def _begin(self, upstream: jsonio.Members | None) -> bytes:
        """What must have been sent before anything else: created, then in_progress."""
        out = b""
        if self._stage == 0:
            out = self._created(upstream)
        if self._stage == 1:
            self._stage = 2
            body = self._envelope.snapshot(upstream, "in_progress", model=self._model)
            out += self._terminal("response.in_progress", body)
        return out

    def _created(self, upstream: jsonio.Members | None) -> bytes:
        self._stage = 1
        body = self._envelope.snapshot(upstream, "in_progress", model=self._model)
        return self._terminal("response.created", body)

    def _terminal(self, kind: str, response: bytes) -> bytes:
        """An envelope event: the only ones that carry a snapshot."""
        sequence = self._sequence
        self._sequence = sequence + 1
        name = kind.encode()
        return self._encode(kind, b'{"type":"%b","response":%b,"sequence_number":%d}' % (name, response, sequence))

    def _error_frame(self, error: TidegateError) -> bytes:
        """Flat and nested at once: each client reads one of the two (protocol §4.1)."""
        sequence = self._sequence
        self._sequence = sequence + 1
        code = error.code
        nested = {"type": error.openai_type, "code": code, "message": error.message, "param": error.param}
        content = {"type": "error", "code": code, "message": error.message, "param": error.param, "error": nested}
        return self._encode("error", jsonio.encode({**content, "sequence_number": sequence}))

    def _encode(self, kind: str, data: bytes) -> bytes:
        return sse.encode(data, b"" if self._call.profile.responses_data_only else kind.encode())

    # -- reading ------------------------------------------------------------------------------------------------

    @property
    def _model(self) -> str:
        return self._destination.model if self._destination is not None else ""

    @property
    def _provider(self) -> str:
        return self._destination.provider if self._destination is not None else ""

    def _response(self, data: bytes) -> jsonio.Members:
        return self._read(_snapshot, data).response

    def _members(self, data: bytes) -> jsonio.Members:
        try:
            return jsonio.members(data)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
            raise WireError(f"an event of the stream cannot be read: {error}") from None

    def _read(self, using: "msgspec.json.Decoder[T]", data: bytes) -> T:
        try:
            return jsonio.decode(data, using)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
            raise WireError(f"an event of the stream cannot be read: {error}") from None

    _HANDLERS: ClassVar[Mapping[str, Callable[["ResponsesStream", str, sse.Frame], bytes]]] = {
        "response.created": _on_created,
        "response.queued": _on_created,
        "response.in_progress": _on_in_progress,
        "response.output_item.done": _on_item_done,
        "response.completed": _on_ending,
        "response.incomplete": _on_ending,
        "response.failed": _on_ending,
        "error": _on_error,
        "keepalive": _on_keepalive,
    }
