"""The stream of an API that answers with choices, from an upstream that speaks it too."""

import contextlib

import msgspec

from tidegate.dialects.choices.calls import CallPlaces
from tidegate.dialects.choices.chunk import (
    CHOICE_LIMIT,
    Choice,
    Chunk,
    Kind,
    ToolCall,
    decode_chunk,
    decode_text,
    members_of,
    read_loosely,
)
from tidegate.dialects.choices.head import head
from tidegate.dialects.choices.mending import mended, with_head, with_own_model, with_places
from tidegate.dialects.choices.reasons import COMPLETE, FINISH_REASONS, is_finish, known_reason
from tidegate.dialects.dialect import Call, Destination, Outcome, estimated_usage
from tidegate.dialects.failure import from_error_object
from tidegate.dialects.relay import Relay
from tidegate.dialects.usage import read_usage
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import TidegateError, WireError
from tidegate.wire.events import Usage, estimate_tokens

__all__ = ["ChoicesStream"]


class ChoicesStream(Relay):
    """See :class:`tidegate.dialects.dialect.Stream`. Frames go on untouched; `[DONE]` only follows a real finish."""

    __slots__ = (
        "_calls",
        "_choices",
        "_counted",
        "_delta_bytes",
        "_finished",
        "_head",
        "_kind",
        "_last",
        "_loose",
        "_places",
        "_seen",
        "_status",
        "_text_follows",
        "_usage",
        "_usage_sent",
        "_wants_usage",
    )

    def __init__(self, call: Call, *, kind: Kind, wants_usage: bool, choices: int = 1) -> None:
        """`wants_usage`: the client asked for the usage frame. `choices`: how many it asked for."""
        super().__init__(call)
        self._kind: Kind = kind
        self._wants_usage = wants_usage
        self._choices = choices
        self._loose = False

    def _begin(self) -> None:
        super()._begin()
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._status = "completed"
        self._delta_bytes = 0
        self._calls: dict[int, CallPlaces] = {}
        self._places: dict[int, list[int]] = {}
        """Of the present chunk, by the number of the choice in it, where the provider's are wrong."""
        self._usage: Usage | None = None
        self._counted = 0
        """What was said when those figures came."""
        self._usage_sent = False
        self._text_follows = False
        """The last chunk was one of text, so that the next is likely to be one too."""
        self._last = b"{}"
        self._head: jsonio.Members | None = None

    def attempt(self, destination: Destination) -> None:
        super().attempt(destination)
        self._loose = destination.quirks.loose_chunks

    def ping(self) -> bytes:
        return sse.comment(b"keepalive")

    def fail(self, error: TidegateError) -> bytes:
        self.outcome = Outcome("failed", error)
        return sse.encode(error.body())

    def usage(self) -> Usage:
        told = self._usage
        if told is None:
            return estimated_usage(self._call, self._delta_bytes)
        uncounted = self._delta_bytes - self._counted if told.output_tokens else self._delta_bytes
        if self._whole or not uncounted:
            return told
        return msgspec.structs.replace(
            told, output_tokens=told.output_tokens + estimate_tokens(uncounted), estimated=True
        )

    def hand_over(self) -> jsonio.Members:
        """How the chunks so far have begun, for a :class:`ChoicesEncoder` to go on with."""
        return self._known_head()

    # -- one frame ----------------------------------------------------------------------------------------------

    def _frame(self, frame: sse.Frame) -> bytes:
        if self.outcome is not None:
            return b""
        data = frame.data
        if self._text_follows:
            try:
                said = decode_text(data).choices[0].delta.content
            except jsonio.UNREADABLE:
                self._text_follows = False
            else:
                self._delta_bytes += len(said) if said.isascii() else len(said.encode())
                self._last = data
                return frame.raw
        if not data:
            return frame.raw if self.committed else b""
        if data == b"[DONE]":
            return self._on_done()
        try:
            chunk = decode_chunk(data)
            odd = chunk.id is None or chunk.object is None or chunk.created is None or chunk.model is None
        except jsonio.UNREADABLE:
            if data.strip() == b"[DONE]":
                return self._on_done()
            chunk = read_loosely(data)
            odd = True
        if chunk.error and not jsonio.is_blank(chunk.error):
            return self._failed(from_error_object(chunk.error, self._provider))
        choices = chunk.choices
        if choices is None:
            choices = self._without_choices(frame, chunk)
            if choices is None:
                return b""
            odd = True
        self._places.clear()
        for number, choice in enumerate(choices):
            delta = choice.delta
            if delta is not None:
                text = delta.content or delta.reasoning_content or delta.reasoning or delta.refusal
                if delta.tool_calls:
                    odd = self._place(number, choice.index or 0, delta.tool_calls) or odd
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
            if reason not in FINISH_REASONS:
                if not is_finish(reason):
                    odd = True
                    continue
                reason = known_reason(reason)
                if reason is None:
                    return self._broken(f"it broke the answer off (finish_reason '{choice.finish_reason}')")
                odd = odd or reason != choice.finish_reason
            self._finished.add(index)
            if reason not in COMPLETE:
                self._status = "incomplete"
        usage = chunk.usage
        if usage is not None:
            found = read_usage(usage)
            if found is not None:
                self._usage, self._counted = found, self._delta_bytes
            if not choices:
                if not self._wants_usage:
                    return b""
                self._usage_sent = True
            odd = odd or usage.prompt_tokens is None or usage.completion_tokens is None or usage.total_tokens is None
        raw = frame.raw
        if odd or self._loose:
            data = self._mended(data)
            raw = sse.encode(data)
        elif len(choices) == 1 and choices[0].index == 0 and choices[0].delta is not None:
            self._text_follows = usage is None and bool(choices[0].delta.content)
        self._last = data
        self.committed = True
        return raw

    def _place(self, number: int, index: int, calls: list[ToolCall]) -> bool:
        """Find out where the calls stand of the chunk's choice `number`, which is the answer's choice `index`. Returns
        whether the chunk has it otherwise, or not at all."""
        places = self._calls.get(index)
        if places is None:
            places = self._calls[index] = CallPlaces()
        found = []
        for call in calls:
            said = call.function or call.custom
            found.append(places.place(call.index, call.id or "", said.name or "" if said is not None else ""))
        if found == [call.index for call in calls]:
            return False
        self._places[number] = found
        return True

    def _without_choices(self, frame: sse.Frame, chunk: Chunk) -> list[Choice] | None:
        """A frame without choices is an error in another wrapping, or a usage frame, or one with nothing to say."""
        if frame.event == b"error" or chunk.object == "error":
            self._failed(from_error_object(frame.data, self._provider))
            return None
        if chunk.usage is None and chunk.id is None and chunk.object is None:
            if members_of(frame.data).keys() & {"message", "detail"}:
                self._failed(from_error_object(frame.data, self._provider))
                return None
            raise WireError("a chunk of the stream has no 'choices'")
        return []

    def _on_done(self) -> bytes:
        if self._complete:
            return self._end()
        return self._broken("it closed the stream without a finish reason")

    @property
    def _complete(self) -> bool:
        return bool(self._finished) and self._finished >= self._seen

    @property
    def _whole(self) -> bool:
        return self._complete and len(self._finished) >= self._choices

    def _end(self) -> bytes:
        self.outcome = Outcome(self._status)
        if self._wants_usage and not self._usage_sent:
            return self._usage_frame() + sse.DONE
        return sse.DONE

    def _usage_frame(self) -> bytes:
        """The frame that the client asked for, when the upstream put its figures elsewhere or has none."""
        return sse.encode(jsonio.encode({**self._known_head(), "choices": [], "usage": self.usage().as_chat()}))

    def _known_head(self) -> jsonio.Members:
        """Id, object, creation time and model as the frames so far have them."""
        if self._head is None:
            self._head = head(self._call, self._model, self._kind)
        with contextlib.suppress(WireError):
            self._head = with_head(members_of(self._last), self._head)
        return self._head

    def _mended(self, data: bytes) -> bytes:
        """The same chunk with every member that clients rely on. What is missing is as in the frames before."""
        try:
            if self._head is None:
                fallback = head(self._call, self._model, self._kind)
                self._head = with_head(jsonio.members(self._last) if self._last else {}, fallback)
            content = mended(jsonio.members(data), self._head, "delta" if self._is_chat else "text")
            if self._places:
                content = with_places(content, self._places)
            return jsonio.encode(self._tightened(content) if self._loose else content)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
            raise WireError(f"a chunk of the stream cannot be read: {error}") from None

    def _tightened(self, content: jsonio.Members) -> jsonio.Members:
        """For a provider that leaves out nulls and says usage beside the finish reason: it has a frame of its own."""
        if bytes(content["choices"]) != b"[]":
            content.pop("usage", None)
            if self._wants_usage:
                content["usage"] = jsonio.NULL
        return content if self._destination is None else with_own_model(content, self._destination)

    @property
    def _model(self) -> str:
        return self._destination.model if self._destination is not None else ""

    @property
    def _is_chat(self) -> bool:
        return self._kind == "chat.completion.chunk"
