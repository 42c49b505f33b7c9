"""What chat and text completions share: answers made of `choices`, streamed as bare `data:` frames."""

from typing import Any

import msgspec

from tidegate.dialects.dialect import Answer, Call, Destination, Outcome, estimated_usage
from tidegate.dialects.failure import from_error_object
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import TidegateError, UpstreamBroken, WireError
from tidegate.wire.events import Usage

__all__ = ["ChoicesStream", "complete_choices", "read_usage"]

DONE = b"data: [DONE]\n\n"

_FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_SYNONYMS = {
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "max_length": "length",
    "tool_use": "tool_calls",
    "tool_call": "tool_calls",
    "safety": "content_filter",
}
"""Finish reasons of engines that did not keep to the enumeration, and what they mean."""

_FAILED_REASONS = frozenset({"error", "abort", "aborted", "cancelled"})
"""Not an ending but a break that an engine reports in the place of one."""


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    finish_reason: str | None = None
    delta: msgspec.Raw = jsonio.EMPTY
    text: msgspec.Raw = jsonio.EMPTY
    message: msgspec.Raw = jsonio.EMPTY


class _Details(msgspec.Struct, gc=False):
    cached_tokens: float | None = None
    cache_write_tokens: float | None = None
    reasoning_tokens: float | None = None


class _UsageObject(msgspec.Struct, gc=False):
    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    total_tokens: float | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


class _Chunk(msgspec.Struct, gc=False):
    """All that a forwarded frame is asked for."""

    choices: list[_Choice] | None = None
    usage: _UsageObject | None = None
    error: msgspec.Raw = jsonio.EMPTY


_chunk = jsonio.decoder(_Chunk)


def read_usage(found: _UsageObject | None) -> Usage | None:
    """The figures of a `usage` object; None when there are none to speak of."""
    if found is None or (found.prompt_tokens is None and found.completion_tokens is None):
        return None
    given = found.prompt_tokens_details or _Details()
    taken = found.completion_tokens_details or _Details()
    return Usage(
        input_tokens=_whole(found.prompt_tokens),
        output_tokens=_whole(found.completion_tokens),
        cached_tokens=_whole(given.cached_tokens),
        cache_write_tokens=_whole(given.cache_write_tokens),
        reasoning_tokens=_whole(taken.reasoning_tokens),
    )


class ChoicesStream:
    """See :class:`tidegate.dialects.dialect.Stream`. Frames go on untouched; `[DONE]` only follows a real finish."""

    __slots__ = (
        "_call",
        "_decoder",
        "_delta_bytes",
        "_destination",
        "_finished",
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

    def __init__(self, call: Call, *, kind: str, wants_usage: bool) -> None:
        """`kind` is the `object` of a chunk; `wants_usage` whether the client asked for the usage frame."""
        self._call = call
        self._kind = kind
        self._wants_usage = wants_usage
        self._decoder = sse.FrameDecoder()
        self._destination: Destination | None = None
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._status = "completed"
        self._delta_bytes = 0
        self._usage: Usage | None = None
        self._usage_sent = False
        self._last = b""
        self._loose = False
        self.committed = False
        self.outcome: Outcome | None = None

    def attempt(self, destination: Destination) -> None:
        self._destination = destination
        self._decoder = sse.FrameDecoder()
        self._loose = destination.quirks.loose_chunks

    def feed(self, data: bytes) -> bytes:
        try:
            frames = self._decoder.feed(data)
        except sse.FrameError as error:
            raise WireError(str(error)) from None
        if len(frames) == 1:
            return self._frame(frames[0])
        return b"".join([self._frame(frame) for frame in frames])

    def eof(self) -> bytes:
        out = b""
        tail = self._decoder.eof()
        if tail is not None and self.outcome is None:
            try:
                out = self._frame(tail)
            except WireError:
                out = b""
        if self.outcome is None:
            if self._complete:
                return out + self._end()
            self.outcome = Outcome("failed", UpstreamBroken("the stream ended without a finish reason"))
        return out

    def finish(self) -> bytes:
        return self._end() if self.outcome is None and self._complete else b""

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
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if data.strip() == b"[DONE]":
                return self._on_done()
            raise WireError(f"a chunk of the stream cannot be read: {error}") from None
        if chunk.error and not jsonio.is_null(chunk.error):
            return self._broken(from_error_object(chunk.error, self._provider))
        choices = chunk.choices
        if choices is None:
            raise WireError("a chunk of the stream has no 'choices'")
        odd_reason = False
        for choice in choices:
            self._delta_bytes += len(choice.delta) + len(choice.text)
            reason = choice.finish_reason
            if reason is None:
                self._seen.add(choice.index)
                continue
            self._seen.add(choice.index)
            self._finished.add(choice.index)
            if reason in _FAILED_REASONS:
                return self._broken(UpstreamBroken(f"the provider broke the answer off (finish_reason '{reason}')"))
            odd_reason = odd_reason or reason not in _FINISH_REASONS
            if _SYNONYMS.get(reason, reason) in ("length", "content_filter"):
                self._status = "incomplete"
        if chunk.usage is not None:
            self._usage = read_usage(chunk.usage) or self._usage
            if not choices:
                if not self._wants_usage:
                    return b""
                self._usage_sent = True
        if self._loose:
            data = self._tightened(data)
            self._last = data
            self.committed = True
            return sse.encode(_with_known_reasons(data) if odd_reason else data)
        self._last = data
        self.committed = True
        if odd_reason:
            return sse.encode(_with_known_reasons(data))
        return frame.raw

    def _tightened(self, data: bytes) -> bytes:
        """A chunk with the members that the API always sends, and usage only in a frame of its own."""
        assert self._destination is not None
        content = jsonio.members(data)
        choices = jsonio.decode(content["choices"], _choice_list)
        for choice in choices:
            choice.setdefault("finish_reason", jsonio.NULL)
        content["choices"] = jsonio.raw(choices)
        content.pop("usage", None)
        if self._wants_usage:
            content["usage"] = jsonio.NULL
        return jsonio.encode(_with_own_model(content, self._destination))

    def _on_done(self) -> bytes:
        if self._complete:
            return self._end()
        return self._broken(UpstreamBroken("the provider sent [DONE] without a finish reason"))

    def _broken(self, error: TidegateError) -> bytes:
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
        last = jsonio.members(self._last)
        content: dict[str, Any] = {name: last[name] for name in ("id", "object", "created", "model") if name in last}
        return sse.encode(
            jsonio.encode({"object": self._kind, **content, "choices": [], "usage": self.usage().as_chat()})
        )

    @property
    def _provider(self) -> str:
        return self._destination.provider if self._destination is not None else ""


def complete_choices(body: bytes, call: Call, destination: Destination) -> Answer:
    """An answer that came as one body (see `Request.complete`). Forwarded as it is unless something must be mended."""
    try:
        answer = jsonio.decode(body, _chunk)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        raise WireError(f"the provider's answer cannot be read: {error}") from None
    if answer.error and not jsonio.is_null(answer.error):
        raise from_error_object(answer.error, destination.provider)
    choices = answer.choices
    if not choices:
        raise WireError("the provider's answer has no 'choices'")
    status = "completed"
    mended = body
    for choice in choices:
        reason = choice.finish_reason
        if reason is None:
            raise WireError("the provider's answer has a choice without finish_reason")
        if reason in _FAILED_REASONS:
            raise UpstreamBroken(f"the provider broke the answer off (finish_reason '{reason}')")
        if _SYNONYMS.get(reason, reason) in ("length", "content_filter"):
            status = "incomplete"
        if reason not in _FINISH_REASONS:
            mended = _with_known_reasons(mended)
    if destination.quirks.model_suffix:
        mended = jsonio.encode(_with_own_model(jsonio.members(mended), destination))
    usage = read_usage(answer.usage)
    if usage is None:
        usage = estimated_usage(call.request_bytes, sum(len(one.message) + len(one.text) for one in choices))
        mended = jsonio.encode({**jsonio.members(mended), "usage": usage.as_chat()})
    return Answer(mended, usage, status)


_choice_list = jsonio.decoder(list[jsonio.Members])
_reason = jsonio.decoder(str | None)  # type: ignore[arg-type]


def _with_own_model(content: jsonio.Members, destination: Destination) -> jsonio.Members:
    """The same object with the model's name as it was asked for, where the provider appends to it."""
    if content.get("model") == jsonio.raw(destination.model + destination.quirks.model_suffix):
        content["model"] = jsonio.raw(destination.model)
    return content


def _with_known_reasons(data: bytes) -> bytes:
    """The same object with every finish reason inside the enumeration; one that we cannot place means `stop`."""
    content = jsonio.members(data)
    choices = jsonio.decode(content["choices"], _choice_list)
    for choice in choices:
        reason = jsonio.decode(choice.get("finish_reason", jsonio.NULL), _reason)
        if reason is not None and reason not in _FINISH_REASONS:
            choice["finish_reason"] = jsonio.raw(_SYNONYMS.get(reason, "stop"))
    content["choices"] = jsonio.raw(choices)
    return jsonio.encode(content)


def _whole(value: float | None) -> int:
    return max(0, int(value)) if value is not None else 0
