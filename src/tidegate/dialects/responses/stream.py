"""The stream of `POST /v1/responses` from an upstream that speaks Responses too.

Only the envelope events (created, in_progress, terminal) are ours. Every other frame goes on untouched as long as it
has its `event:` line and the expected `sequence_number`; from the first that has not, frames are written anew.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar, TypeVar

import msgspec

from tidegate.dialects.dialect import Call, Destination, Events, Outcome, estimated_usage
from tidegate.dialects.envelope import Envelopes
from tidegate.dialects.failure import from_error_object
from tidegate.dialects.responses import nulls
from tidegate.dialects.responses.begun import Begun
from tidegate.dialects.responses.broken import error_event, error_member
from tidegate.dialects.responses.ending import failure, finish, is_cut, true_status
from tidegate.dialects.responses.envelope import Envelope
from tidegate.dialects.responses.held import OFFICIAL, RENAMED, HeldItems
from tidegate.dialects.responses.repair import Event, Repair
from tidegate.dialects.responses.sealing import sealed_event, sealed_output
from tidegate.dialects.usage import read_usage_object
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import ClientGone, TidegateError, UpstreamBroken, WireError
from tidegate.wire.events import Usage

__all__ = ["ResponsesStream"]

T = TypeVar("T")


class _Event(msgspec.Struct, gc=False):
    """All that a forwarded frame is asked for."""

    type: str = ""
    sequence_number: int | None = None
    output_index: int | None = None
    delta: str | None = None


class _Snapshot(msgspec.Struct):
    response: jsonio.Members = {}


class _ErrorEvent(msgspec.Struct):
    error: msgspec.Raw = jsonio.EMPTY


_event = jsonio.decoder(_Event)
_snapshot = jsonio.decoder(_Snapshot)
_error_event = jsonio.decoder(_ErrorEvent)
_name = jsonio.decoder(str)
_whole_number = jsonio.decoder(int)


class ResponsesStream(Events):
    """See :class:`tidegate.dialects.dialect.Stream`."""

    __slots__ = (
        "_call",
        "_decoder",
        "_delta_bytes",
        "_destination",
        "_envelope",
        "_envelopes",
        "_flow",
        "_flow_line",
        "_held",
        "_items",
        "_passing",
        "_problem",
        "_repair",
        "_rewrite_all",
        "_sequence",
        "_stage",
        "_untouched",
        "_upstream",
        "_usage",
        "committed",
        "outcome",
    )

    def __init__(self, envelope: Envelope, call: Call, envelopes: Envelopes | None = None) -> None:
        self._envelope = envelope
        self._envelopes = envelopes
        self._call = call
        self._decoder = sse.FrameDecoder()
        self._destination: Destination | None = None
        self._stage = 0
        """0: nothing sent, 1: created sent, 2: in_progress sent."""
        self._sequence = 0
        self._untouched = True
        self._flow: str | None = None
        """The type of the last delta that went on as it came, and `_flow_line` its event line: the next is likely another."""
        self._flow_line = b""
        self._rewrite_all = call.profile.reasoning_names or call.profile.strict_nulls
        self._delta_bytes = 0
        self._items = HeldItems()
        self._held = b""
        """Our frames of a read that ended in failure before commit. They go out before whatever comes next: another
        attempt goes on behind them, and without one the caller may still answer with a status instead."""
        self._passing: list[bytes] | None = None
        self._upstream: jsonio.Members | None = None
        """The response object that the upstream began with."""
        self._problem: TidegateError | None = None
        self._repair: Repair | None = None
        self._usage: Usage | None = None
        self.committed = False
        self.outcome: Outcome | None = None

    def attempt(self, destination: Destination) -> None:
        self._destination = destination
        self._decoder = sse.FrameDecoder()
        self._problem = None
        self._upstream = None
        self._usage = None
        self._untouched = not self._rewrite_all
        self._envelope.keep_upstream_identity = not destination.gateway_state
        self._envelope.trust_echo = destination.quirks.echoes_request
        self._repair = Repair() if destination.quirks.loose_items else None

    def feed(self, data: bytes) -> bytes:
        sequence = self._sequence
        try:
            frames = self._decoder.feed(data)
            if len(frames) == 1 and self.committed:
                out = self._frame(frames[0])
                if self._problem is not None and self.outcome is None:
                    self.outcome = Outcome("failed", self._problem)
                return out
        except WireError as error:
            self._sequence = sequence
            return self._broken(str(error))
        except sse.FrameError as error:
            return self._read(error.frames, str(error))
        return self._read(frames)

    def eof(self) -> bytes:
        tail = self._decoder.eof()
        out = b""
        if tail is not None and self.outcome is None:
            sent = self._stage, self._sequence
            try:
                out = self._frame(tail)
            except WireError:
                self._stage, self._sequence = sent
        if self.outcome is None:
            self.outcome = Outcome("failed", self._problem or self._cut())
        return self._handed_out(out)

    def finish(self) -> bytes:
        return b""

    def ping(self) -> bytes:
        """A comment for proxies, and the event that clients count as activity (protocol §4.1): it repeats the last
        sequence number. Open Responses knows no such event."""
        if self._stage == 0 or self._held or self._call.profile.reasoning_names:
            return sse.comment(b"keepalive")
        data = b'{"type":"keepalive","sequence_number":%d}' % (self._sequence - 1)
        return sse.comment(b"keepalive") + self._encode("keepalive", data)

    def tell_pings(self, passing: list[bytes]) -> None:
        self._passing = passing

    def fail(self, error: TidegateError) -> bytes:
        out = [self._held, self._begin(None)]
        self._held = b""
        if self._repair is not None:
            out.append(self._all(self._repair.end(cut=False)))
        cancelled = isinstance(error, ClientGone)
        if not cancelled:
            out.append(self._error_frame(error))
        body = self._envelope.snapshot(
            self._upstream,
            "cancelled" if cancelled else "failed",
            model=self._model,
            output=jsonio.raw(self._items.at_a_break(self._call.response_id)),
            usage=self.usage(),
            error=None if cancelled else error_member(error),
        )
        out.append(self._terminal("response.failed", body))
        self.outcome = Outcome("failed", error)
        return b"".join(out)

    def hand_over(self) -> Begun:
        """What has begun, for a :class:`ResponsesEncoder` to go on with. Only before commit; this stream is of no use
        then."""
        return Begun(envelope=self._envelope, stage=self._stage, sequence=self._sequence, held=self._held)

    def go_on(self, begun: Begun) -> None:
        """Go on behind what a :class:`ResponsesEncoder` has begun. Before `attempt`."""
        self._envelope = begun.envelope
        self._stage, self._sequence, self._held = begun.stage, begun.sequence, begun.held

    def given_up(self) -> tuple[Begun, str, list[msgspec.Raw]] | None:
        """What a :class:`ResponsesEncoder` needs so that it goes on behind all that was sent: the id of the message that is
        open, and the items before it. None where it is not the only one, or text of it is said to be complete."""
        message_id = self._items.only_open()
        if message_id is None or self._repair is not None:
            return None
        return self.hand_over(), message_id, self._items.finished

    def usage(self) -> Usage:
        return self._usage or estimated_usage(self._call, self._delta_bytes)

    # -- one read -----------------------------------------------------------------------------------------------

    def _read(self, frames: list[sse.Frame], broken: str = "") -> bytes:
        """`broken` says what is wrong behind these frames."""
        out = []
        for frame in frames:
            sent = self._stage, self._sequence
            try:
                out.append(self._frame(frame))
            except WireError as error:
                self._stage, self._sequence = sent
                self._broken(str(error))
        if self._problem is not None and self.outcome is None:
            self.outcome = Outcome("failed", self._problem)
        if broken:
            self._broken(broken)
        return self._handed_out(b"".join(out))

    def _handed_out(self, out: bytes) -> bytes:
        if self._held:
            out = self._held + out
            self._held = b""
        if not self.committed and self.outcome is not None:
            self._held = out
            return b""
        return out

    def _broken(self, why: str) -> bytes:
        if self.outcome is None:
            self.outcome = Outcome("failed", self._problem or UpstreamBroken(f"Provider '{self._provider}': {why}."))
        return b""

    def _cut(self) -> TidegateError:
        return UpstreamBroken(f"Provider '{self._provider}': the stream ended without a terminal event.")

    # -- one frame ----------------------------------------------------------------------------------------------

    def _frame(self, frame: sse.Frame) -> bytes:
        if self.outcome is not None:
            return b""
        data = frame.data
        if not data:
            return frame.raw if self._stage else b""
        try:
            event = _event.decode(data)
        except jsonio.UNREADABLE:
            if data.strip() == b"[DONE]":
                return b""
            event = self._read_loosely(data)
        kind = event.type
        if kind == self._flow and frame.event == self._flow_line and event.sequence_number == self._sequence:
            delta = event.delta
            if delta is not None and self._untouched and self._problem is None:
                piece = delta.encode()
                self._delta_bytes += len(piece)
                self._items.said(kind, event.output_index, piece)
                self._sequence += 1
                return frame.raw
        if not kind:
            kind = frame.event.decode("utf-8", "replace")
            self._untouched = False
        if self._repair is not None:
            return self._repaired(self._repair, kind, data)
        handler = self._HANDLERS.get(kind)
        if handler is not None:
            return handler(self, kind, event, frame)
        return self._forward(kind, event, frame)

    def _repaired(self, repair: Repair, kind: str, data: bytes) -> bytes:
        try:
            return self._all(repair.feed(kind, self._members(data)))
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch, KeyError) as error:
            raise _unreadable(error) from None

    def _all(self, events: list[Event]) -> bytes:
        out = []
        for kind, members in events:
            data = jsonio.encode(members)
            frame = sse.Frame(b"", b"", data)
            event = self._decoded(_event, data)
            handler = self._HANDLERS.get(kind)
            out.append(handler(self, kind, event, frame) if handler else self._forward(kind, event, frame))
        return b"".join(out)

    def _forward(self, kind: str, event: _Event, frame: sse.Frame) -> bytes:
        if self._problem is not None:
            return b""
        sequence = self._sequence
        begin = b""
        if self._stage < 2:
            begin = self._begin(None)
            sequence = self._sequence
        delta = event.delta
        if delta is not None:
            piece = delta.encode()
            self._delta_bytes += len(piece)
            self._items.said(kind, event.output_index, piece)
        else:
            self._check(frame.data)
        if self._untouched and event.sequence_number == sequence and frame.event == kind.encode():
            if self._call.profile.responses_data_only:
                out = sse.encode(frame.data)
            else:
                out = frame.raw
                if delta is not None and self._repair is None:
                    self._flow, self._flow_line = kind, frame.event
        elif frame.event == b"error":
            return begin + self._on_error(kind, event, frame)
        else:
            self._untouched = False
            out = self._rewritten(kind, frame.data, sequence)
        self._sequence = sequence + 1
        self.committed = True
        return begin + out if begin else out

    def _rewritten(self, kind: str, data: bytes, sequence: int) -> bytes:
        content = self._members(data)
        if self._call.profile.strict_nulls:
            content = jsonio.members(nulls.strip(data))
        if self._call.profile.reasoning_names:
            kind = RENAMED.get(kind, kind)
        content = {"type": jsonio.raw(kind), **content}
        content["type"] = jsonio.raw(kind)
        content["sequence_number"] = jsonio.raw(sequence)
        return self._encode(kind, jsonio.encode(content))

    def _on_created(self, kind: str, event: _Event, frame: sse.Frame) -> bytes:
        """created, queued: the stream begins. Calls are never in the background, so that `queued` says nothing."""
        if self._stage:
            self._upstream = self._upstream or self._response(frame.data)
            return b""
        return self._created(self._response(frame.data))

    def _on_in_progress(self, kind: str, event: _Event, frame: sse.Frame) -> bytes:
        return self._begin(self._response(frame.data))

    def _on_keepalive(self, kind: str, event: _Event, frame: sse.Frame) -> bytes:
        if not self._stage:
            return b""
        ping = self.ping()
        if self._passing is not None:
            self._passing.append(ping)
        return ping

    def _on_error(self, kind: str, event: _Event, frame: sse.Frame) -> bytes:
        """The first report of an error stands. The end of this read ends the stream: `response.failed`, which usually
        follows, may bring the usage."""
        if self._problem is None:
            found = self._decoded(_error_event, frame.data).error
            self._problem = from_error_object(frame.data if jsonio.is_null(found) else found, self._provider)
        return b""

    def _on_untyped(self, kind: str, event: _Event, frame: sse.Frame) -> bytes:
        """Neither type nor name: engines report errors so; nothing else can be placed."""
        if not jsonio.is_null(self._decoded(_error_event, frame.data).error):
            return self._on_error(kind, event, frame)
        raise WireError("an event of the stream has no type")

    def _on_item_added(self, kind: str, event: _Event, frame: sse.Frame) -> bytes:
        frame = self._sealed(frame)
        self._items.added(frame.data)
        return self._forward(kind, event, frame)

    def _on_item_done(self, kind: str, event: _Event, frame: sse.Frame) -> bytes:
        frame = self._sealed(frame)
        self._items.done(frame.data)
        return self._forward(kind, event, frame)

    def _sealed(self, frame: sse.Frame) -> sse.Frame:
        """The frame, with the item's encrypted content in our envelope (design §5)."""
        destination = self._destination
        if self._envelopes is None or destination is None or not destination.gateway_state:
            return frame
        data = sealed_event(frame.data, self._envelopes, destination)
        return frame if data is None else sse.Frame(sse.encode(data, frame.event), frame.event, data)

    def _on_value_done(self, kind: str, event: _Event, frame: sse.Frame) -> bytes:
        self._items.value_done(kind, frame.data)
        return self._forward(kind, event, frame)

    def _on_other_name(self, kind: str, event: _Event, frame: sse.Frame) -> bytes:
        kind = OFFICIAL[kind]
        handler = self._HANDLERS.get(kind)
        return handler(self, kind, event, frame) if handler else self._forward(kind, event, frame)

    def _on_ending(self, kind: str, event: _Event, frame: sse.Frame) -> bytes:
        upstream = self._response(frame.data)
        status = true_status(kind.removeprefix("response."), upstream)
        if status == "failed" or self._problem is not None:
            return self._on_failed(upstream)  # an error that was reported is not undone by what follows it
        assert self._destination is not None
        begin = self._begin(upstream)
        if self._repair is not None:
            usage = read_usage_object(upstream.get("usage", jsonio.NULL))
            begin += self._all(self._repair.end(cut=is_cut(usage, self._envelope, self._destination)))
            upstream["output"] = jsonio.raw(self._repair.output)
        if self._envelopes is not None and self._destination.gateway_state and "output" in upstream:
            upstream["output"] = sealed_output(upstream["output"], self._envelopes, self._destination)
        try:
            end = finish(
                upstream,
                status,
                self._envelope,
                destination=self._destination,
                sent_items=self._sent_items(status),
                call=self._call,
                output_bytes=self._delta_bytes,
            )
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
            raise _unreadable(error) from None
        self._usage = end.usage
        self.committed = True
        self.outcome = Outcome(end.status)
        out = begin + self._terminal(f"response.{end.status}", end.body)
        return out + sse.DONE if self._call.profile.responses_done else out

    def _sent_items(self, status: str) -> list[msgspec.Raw]:
        """The items as the client knows them. A cut answer may leave some open."""
        return self._items.finished if status == "completed" else self._items.at_a_break(self._call.response_id)

    def _on_failed(self, upstream: jsonio.Members) -> bytes:
        self._usage = read_usage_object(upstream.get("usage", jsonio.NULL))
        self.outcome = Outcome("failed", self._problem or failure(upstream, self._provider))
        return b""

    # -- our own frames -----------------------------------------------------------------------------------------

    def _begin(self, upstream: jsonio.Members | None) -> bytes:
        """What must have been sent before anything else: created, then in_progress."""
        out = b""
        if self._stage == 0:
            out = self._created(upstream)
        if self._stage == 1:
            self._stage = 2
            self._upstream = upstream or self._upstream
            body = self._envelope.snapshot(self._upstream, "in_progress", model=self._model)
            out += self._terminal("response.in_progress", body)
        return out

    def _created(self, upstream: jsonio.Members | None) -> bytes:
        self._stage = 1
        self._upstream = upstream
        body = self._envelope.snapshot(upstream, "in_progress", model=self._model)
        return self._terminal("response.created", body)

    def _terminal(self, kind: str, response: bytes) -> bytes:
        """An envelope event: the only ones that carry a snapshot."""
        sequence = self._sequence
        self._sequence = sequence + 1
        name = kind.encode()
        return self._encode(kind, b'{"type":"%b","response":%b,"sequence_number":%d}' % (name, response, sequence))

    def _error_frame(self, error: TidegateError) -> bytes:
        sequence = self._sequence
        self._sequence = sequence + 1
        return self._encode("error", error_event(error, sequence))

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
        self._check(data)
        return self._decoded(_snapshot, data).response

    def _read_loosely(self, data: bytes) -> _Event:
        """An event whose members have types that no schema has. Raises WireError for what is no event at all."""
        content = self._members(data)
        self._check(data)
        event = _Event()
        try:
            if "type" in content:
                event.type = jsonio.decode(content["type"], _name)
        except jsonio.SchemaMismatch as error:
            raise _unreadable(error) from None
        try:
            event.sequence_number = jsonio.decode(content.get("sequence_number", jsonio.NULL), _whole_number)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
            event.sequence_number = None
        return event

    def _members(self, data: bytes) -> jsonio.Members:
        try:
            return jsonio.members(data)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
            raise _unreadable(error) from None

    def _decoded(self, using: "msgspec.json.Decoder[T]", data: bytes) -> T:
        try:
            return jsonio.decode(data, using)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
            raise _unreadable(error) from None

    def _check(self, data: bytes) -> None:
        """A decoder does not look into what it skips. Deltas, which it reads, need no second look."""
        try:
            jsonio.check_utf8(data)
        except jsonio.InvalidJSON as error:
            raise _unreadable(error) from None

    _HANDLERS: ClassVar[Mapping[str, Callable[["ResponsesStream", str, _Event, sse.Frame], bytes]]] = {
        "": _on_untyped,
        "response.created": _on_created,
        "response.queued": _on_created,
        "response.in_progress": _on_in_progress,
        "response.output_item.added": _on_item_added,
        "response.output_item.done": _on_item_done,
        **dict.fromkeys(HeldItems.VALUES, _on_value_done),
        **dict.fromkeys(OFFICIAL, _on_other_name),
        "response.completed": _on_ending,
        "response.incomplete": _on_ending,
        "response.failed": _on_ending,
        "error": _on_error,
        "keepalive": _on_keepalive,
    }


def _unreadable(error: Exception) -> WireError:
    return WireError(f"an event of the stream cannot be read: {error}")
