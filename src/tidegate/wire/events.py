"""The neutral vocabulary that dialects share: usage, and the canonical events of an answer.

The events of one answer keep these laws, which :class:`Laws` checks:

- `Started` comes first, and once; it may be absent only before `Failed`.
- Deltas stand between it and the ending.
- A call is started before its deltas and ended before the ending; `index` tells calls of one answer apart.
- Reasoning that has begun ends before its choice says anything else, and before it ends.
- Reasoning never begins while a message of the same choice is open: `MessageEnd` comes first.
- Every choice that said anything ends with one `ChoiceEnd`, before `Finished`.
- Exactly one of `Finished` and `Failed` comes, and nothing after it. `Paused` stands before it where the provider has to be
  asked again, and the same answer goes on.
"""

from typing import Literal

import msgspec

from tidegate.wire import jsonio
from tidegate.wire.errors import TidegateError

__all__ = [
    "BYTES_PER_TOKEN",
    "Annotation",
    "ChoiceEnd",
    "Event",
    "Failed",
    "Finished",
    "Laws",
    "MediaDelta",
    "MessageEnd",
    "Opaque",
    "Paused",
    "Ping",
    "Reason",
    "ReasoningDelta",
    "ReasoningEnd",
    "RefusalDelta",
    "Seal",
    "Served",
    "Started",
    "TextDelta",
    "ToolCallDelta",
    "ToolCallEnd",
    "ToolCallStart",
    "Usage",
    "UsageReport",
    "estimate_tokens",
]

BYTES_PER_TOKEN = 4
"""For estimates: four bytes of UTF-8 are about one token in English, and about one in Chinese too (three bytes a
character, somewhat under one token each)."""

Reason = Literal["stop", "length", "content_filter", "tool_calls", "refusal"]
"""Why an answer ended (protocol §5.3). `refusal` is the model's own, `content_filter` the provider's."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one answer, in the terms of the Responses API: `input_tokens` includes the cached ones, `output_tokens`
    includes reasoning. `estimated` marks figures that no provider gave."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    seconds: float = 0.0
    """Length of the audio, where the provider counts that instead of tokens."""
    estimated: bool = False
    cache_write_1h_tokens: int = 0
    """Those of `cache_write_tokens` that are to stay for an hour, which costs more."""
    input_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    """Parts of `input_tokens` and `output_tokens` that are no text."""
    characters: int = 0
    """Of the text to be spoken, where the provider counts that instead of tokens."""

    def plus(self, other: "Usage") -> "Usage":
        """What both used."""
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            seconds=self.seconds + other.seconds,
            estimated=self.estimated or other.estimated,
            cache_write_1h_tokens=self.cache_write_1h_tokens + other.cache_write_1h_tokens,
            input_audio_tokens=self.input_audio_tokens + other.input_audio_tokens,
            input_image_tokens=self.input_image_tokens + other.input_image_tokens,
            output_audio_tokens=self.output_audio_tokens + other.output_audio_tokens,
            output_image_tokens=self.output_image_tokens + other.output_image_tokens,
            characters=self.characters + other.characters,
        )

    def minus(self, earlier: "Usage") -> "Usage":
        """What was used since, where this is the sum of both."""
        return Usage(
            input_tokens=max(0, self.input_tokens - earlier.input_tokens),
            output_tokens=max(0, self.output_tokens - earlier.output_tokens),
            cached_tokens=max(0, self.cached_tokens - earlier.cached_tokens),
            cache_write_tokens=max(0, self.cache_write_tokens - earlier.cache_write_tokens),
            reasoning_tokens=max(0, self.reasoning_tokens - earlier.reasoning_tokens),
            seconds=max(0.0, self.seconds - earlier.seconds),
            estimated=self.estimated,
            cache_write_1h_tokens=max(0, self.cache_write_1h_tokens - earlier.cache_write_1h_tokens),
            input_audio_tokens=max(0, self.input_audio_tokens - earlier.input_audio_tokens),
            input_image_tokens=max(0, self.input_image_tokens - earlier.input_image_tokens),
            output_audio_tokens=max(0, self.output_audio_tokens - earlier.output_audio_tokens),
            output_image_tokens=max(0, self.output_image_tokens - earlier.output_image_tokens),
            characters=max(0, self.characters - earlier.characters),
        )

    @property
    def used_something(self) -> bool:
        return bool(self.input_tokens or self.output_tokens or self.seconds or self.characters)

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def as_responses(self) -> jsonio.Raw:
        """The `usage` object of a response, with both details objects."""
        return jsonio.raw(
            {
                "input_tokens": self.input_tokens,
                "input_tokens_details": {
                    "cached_tokens": self.cached_tokens,
                    "cache_write_tokens": self.cache_write_tokens,
                },
                "output_tokens": self.output_tokens,
                "output_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
                "total_tokens": self.total_tokens,
            }
        )

    def as_transcription(self) -> jsonio.Raw:
        """The `usage` object of a transcript."""
        if self.seconds and not self.total_tokens:
            return jsonio.raw({"type": "duration", "seconds": self.seconds})
        return jsonio.raw(
            {
                "type": "tokens",
                "input_tokens": self.input_tokens,
                "output_tokens": self.output_tokens,
                "total_tokens": self.total_tokens,
            }
        )

    def as_chat(self) -> jsonio.Raw:
        """The `usage` object of a chat or text completion."""
        given = {"cached_tokens": self.cached_tokens}
        if self.cache_write_tokens:
            given["cache_write_tokens"] = self.cache_write_tokens
        return jsonio.raw(
            {
                "prompt_tokens": self.input_tokens,
                "completion_tokens": self.output_tokens,
                "total_tokens": self.total_tokens,
                "prompt_tokens_details": given,
                "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
            }
        )


class Seal(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider needs back byte for byte to go on reasoning (protocol §5.4), and only that provider can read.

    `kind` says where it came from: `signature` (of Anthropic thinking, whose text is `text`), `redacted` (Anthropic
    redacted thinking), `thought_signature` (Gemini; `call_id` names the function call that had it, `anchor` is `text`
    when a text part had it that comes next, `behind` when it stands behind a text), `encrypted` (OpenAI's own `encrypted_content`), `reasoning_details` (a JSON array as
    OpenRouter-like providers have it), `reasoning_content` (chat servers that want their plain reasoning back),
    `reasoning_item` (Responses servers that seal nothing and read their plain reasoning). `data` of the last, and `text` of
    `encrypted` unless it is empty, is a JSON object with the item's own `summary` and `content`.

    `shown` seals nothing: it marks words that the client was shown and that no provider asks for. `summary` is the
    gateway's own: what it has any provider's model write when a conversation is compacted.
    """

    kind: Literal[
        "signature",
        "redacted",
        "thought_signature",
        "encrypted",
        "reasoning_details",
        "reasoning_content",
        "reasoning_item",
        "shown",
        "summary",
    ]
    data: str
    text: str = ""
    call_id: str = ""
    anchor: str = ""


class Started(msgspec.Struct, gc=False):
    """The provider has begun. `model` is its own name of the model, empty when it did not say."""

    model: str = ""


class Served(msgspec.Struct, gc=False):
    """At which service tier the answer is made, in OpenAI's words. A later one replaces an earlier one."""

    tier: str


class TextDelta(msgspec.Struct, gc=False):
    """A piece of the answer's text. `choice` counts from 0 and is above it only when several answers were asked for."""

    text: str
    choice: int = 0
    logprobs: list[msgspec.Raw] | None = None
    """Entries `{token, logprob, bytes, top_logprobs}`, which chat and Responses share."""


class RefusalDelta(msgspec.Struct, gc=False):
    text: str
    choice: int = 0


class MessageEnd(msgspec.Struct, gc=False):
    """The text so far is complete: text that comes later belongs to another message item, or block. Without one
    the message ends with its choice."""

    choice: int = 0


class Annotation(msgspec.Struct, gc=False):
    """An annotation of the open message, in the form of the Responses API (protocol §1.5)."""

    value: msgspec.Raw
    choice: int = 0


class ReasoningDelta(msgspec.Struct, gc=False):
    """A piece of reasoning: what the model thought (`text`) or what it says it thought (`summary`), whose parts are
    counted by `part`. The first one opens a reasoning item."""

    text: str
    kind: Literal["text", "summary"] = "text"
    part: int = 0
    choice: int = 0


class ReasoningEnd(msgspec.Struct, gc=False):
    """The open reasoning item is complete; without one, an item with nothing to read. A decoder sets `seal`; encoders
    get `encrypted`, the same in the form that a client may see."""

    seal: Seal | None = None
    encrypted: str = ""
    choice: int = 0


class ToolCallStart(msgspec.Struct, gc=False):
    """A call begins. `index` is its own among all calls of the answer, whatever the choice."""

    index: int
    call_id: str
    name: str
    custom: bool = False
    namespace: str = ""
    choice: int = 0


class ToolCallDelta(msgspec.Struct, gc=False):
    """A piece of the arguments, or of a custom tool's input."""

    index: int
    text: str


class ToolCallEnd(msgspec.Struct, gc=False):
    index: int


class MediaDelta(msgspec.Struct, gc=False):
    """A generated image, whole, as base64."""

    media_type: str
    data: str
    choice: int = 0


class Opaque(msgspec.Struct, gc=False):
    """An output item without a canonical form (hosted tools and their like), complete, in the Responses form."""

    type: str
    item: msgspec.Raw


class UsageReport(msgspec.Struct, gc=False):
    """Figures so far; a later report replaces an earlier one. `estimated`, from a decoder, are those that do not count the
    output yet: what is said from then on comes on top."""

    usage: Usage


class ChoiceEnd(msgspec.Struct, gc=False):
    reason: Reason
    choice: int = 0
    stop_sequence: str = ""


class Finished(msgspec.Struct, gc=False):
    """The answer is complete, and the provider said so."""


class Failed(msgspec.Struct):
    """The answer is broken: an error that the provider reported, or bytes that are not what its dialect promises.

    The garbage collector sees it, as the other events need not be seen: an error that was raised refers to frames, and these
    to the whole request, in a circle with whoever holds this.
    """

    error: TidegateError


class Paused(msgspec.Struct, gc=False):
    """The provider has stopped in the middle of its own work. It goes on when it is asked again, with `content`, all that it
    has said so far, behind the question."""

    content: list[msgspec.Raw]


class Ping(msgspec.Struct, gc=False):
    """The provider is still there."""


Event = (
    Started
    | Served
    | TextDelta
    | RefusalDelta
    | MessageEnd
    | Annotation
    | ReasoningDelta
    | ReasoningEnd
    | ToolCallStart
    | ToolCallDelta
    | ToolCallEnd
    | MediaDelta
    | Opaque
    | UsageReport
    | ChoiceEnd
    | Finished
    | Failed
    | Paused
    | Ping
)


class Laws:
    """Checks the laws of the module as events pass. For tests and fuzzing."""

    def __init__(self) -> None:
        self._started = False
        self._ended = False
        self._open_calls: set[int] = set()
        self._known_calls: set[int] = set()
        self._open_choices: set[int] = set()
        self._closed_choices: set[int] = set()
        self._reasoning: set[int] = set()
        self._messages: set[int] = set()

    @property
    def ended(self) -> bool:
        return self._ended

    def check(self, event: Event) -> None:
        """Raises AssertionError, naming the law that `event` breaks."""
        if self._ended:
            raise AssertionError(f"{event!r} comes after the ending")
        if isinstance(event, Failed | Paused):
            self._ended = True
            return
        if isinstance(event, Started):
            if self._started:
                raise AssertionError("Started comes twice")
            self._started = True
            return
        if isinstance(event, Ping):
            return
        if not self._started:
            raise AssertionError(f"{event!r} comes before Started")
        if isinstance(event, ToolCallStart | ToolCallDelta | ToolCallEnd):
            self._check_call(event)
        self._check_message(event)
        self._check_reasoning(event)
        if isinstance(event, ChoiceEnd):
            if event.choice in self._closed_choices:
                raise AssertionError(f"choice {event.choice} ends twice")
            self._closed_choices.add(event.choice)
            self._open_choices.discard(event.choice)
        elif isinstance(event, Finished):
            if self._open_calls:
                raise AssertionError(f"calls {sorted(self._open_calls)} are still open at the end")
            if self._open_choices:
                raise AssertionError(f"choices {sorted(self._open_choices)} are still open at the end")
            if not self._closed_choices:
                raise AssertionError("the answer finished without the end of any choice")
            self._ended = True
        else:
            choice = getattr(event, "choice", None)
            if choice in self._closed_choices:
                raise AssertionError(f"{event!r} belongs to a choice that has ended")
            if choice is not None:
                self._open_choices.add(choice)

    def _check_message(self, event: Event) -> None:
        match event:
            case (
                TextDelta(choice=choice)
                | RefusalDelta(choice=choice)
                | Annotation(choice=choice)
                | MediaDelta(choice=choice)
            ):
                self._messages.add(choice)
            case MessageEnd(choice=choice):
                self._messages.discard(choice)
            case ReasoningDelta(choice=choice) | ReasoningEnd(choice=choice) if (
                choice in self._messages and choice not in self._reasoning
            ):
                raise AssertionError(f"{event!r} begins reasoning while a message of its choice is open")
            case _:
                pass

    def _check_reasoning(self, event: Event) -> None:
        match event:
            case ReasoningDelta(choice=choice):
                self._reasoning.add(choice)
            case ReasoningEnd(choice=choice):
                self._reasoning.discard(choice)
            case (
                TextDelta(choice=choice)
                | RefusalDelta(choice=choice)
                | ToolCallStart(choice=choice)
                | MediaDelta(choice=choice)
                | ChoiceEnd(choice=choice)
            ) if choice in self._reasoning:
                raise AssertionError(f"{event!r} comes while the choice is still reasoning")
            case Opaque() if 0 in self._reasoning:
                raise AssertionError(f"{event!r} comes while the choice is still reasoning")
            case _:
                pass

    def _check_call(self, event: ToolCallStart | ToolCallDelta | ToolCallEnd) -> None:
        if isinstance(event, ToolCallStart):
            if event.index in self._known_calls:
                raise AssertionError(f"call {event.index} starts twice")
            self._known_calls.add(event.index)
            self._open_calls.add(event.index)
        elif event.index not in self._open_calls:
            raise AssertionError(f"{event!r} belongs to no open call")
        elif isinstance(event, ToolCallEnd):
            self._open_calls.discard(event.index)


def estimate_tokens(size: int) -> int:
    """About how many tokens `size` bytes of text are; at least one for any text."""
    return (size + BYTES_PER_TOKEN - 1) // BYTES_PER_TOKEN
