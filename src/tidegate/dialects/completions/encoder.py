"""Canonical events and outputs → text completions, for clients of `/v1/completions` (protocol §3.1).

A text completion is text: reasoning, tool calls, images, annotations and the items of hosted tools have no place in it and
are left out. A refusal is what the model said, and so is text.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from tidegate.dialects.choices.encoder import ChoicesEncoder
from tidegate.dialects.choices.head import head
from tidegate.dialects.dialect import Call, Destination
from tidegate.wire import jsonio
from tidegate.wire.events import (
    ChoiceEnd,
    Event,
    Reason,
    RefusalDelta,
    TextDelta,
)
from tidegate.wire.items import Choice, Message, Output, RefusalPart, TextPart

__all__ = ["CompletionsEncoder", "completions_answer"]

_FINISH: Mapping[Reason, Literal["stop", "length", "content_filter"]] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "stop",
    "refusal": "content_filter",
}


class CompletionsEncoder(ChoicesEncoder):
    """See :class:`tidegate.dialects.codec.StreamEncoder`."""

    def __init__(self, call: Call, *, wants_usage: bool, echo: str = "") -> None:
        """`wants_usage`: the client asked for the usage frame. `echo`: what every choice begins with."""
        super().__init__(call, kind="text_completion", wants_usage=wants_usage)
        self._echo = echo
        self._prefixes: dict[int, bytes] = {}
        self._lengths: dict[int, int] = {}
        self._after_text = b',"logprobs":null,"finish_reason":null}]' + self._tail

    def attempt(self, destination: Destination) -> None:
        super().attempt(destination)
        self._prefixes.clear()
        self._lengths.clear()

    def _on_other(self, event: Event, out: list[bytes]) -> None:
        match event:
            case RefusalDelta():
                self._on_text(event, out)
            case ChoiceEnd():
                prefix = self._prefixes.get(event.choice) or self._begin(event.choice, out)
                reason = _FINISH[event.reason].encode()
                out.append(b'%b"","logprobs":null,"finish_reason":"%b"}]%b' % (prefix, reason, self._tail))
            case _:
                super()._on_other(event, out)

    def _on_text(self, event: TextDelta | RefusalDelta, out: list[bytes]) -> None:
        prefix = self._prefixes.get(event.choice) or self._begin(event.choice, out)
        logprobs = event.logprobs if isinstance(event, TextDelta) else None
        if logprobs is None:
            out.append(prefix + jsonio.encode(event.text) + self._after_text)
        else:
            entries = jsonio.encode(_logprobs(logprobs, self._lengths[event.choice]))
            rest = b',"logprobs":%b,"finish_reason":null}]%b' % (entries, self._tail)
            out.append(prefix + jsonio.encode(event.text) + rest)
        self._lengths[event.choice] += len(event.text)

    def _begin(self, choice: int, out: list[bytes]) -> bytes:
        prefix = self._prefixes[choice] = self._prefix(choice, b"text")
        self._lengths[choice] = len(self._echo)
        if self._echo:
            out.append(prefix + jsonio.encode(self._echo) + self._after_text)
        return prefix


def completions_answer(output: Output, call: Call, destination: Destination, *, echo: str = "") -> bytes:
    """The text completion that says the same as the stream of `output` would."""
    return jsonio.encode(
        {
            **head(call, output.model or destination.model, "text_completion"),
            "choices": [_choice(index, choice, echo) for index, choice in enumerate(output.choices)],
            "usage": output.usage.as_chat(),
        }
    )


def _choice(index: int, choice: Choice, echo: str) -> dict[str, Any]:
    texts = [echo]
    logprobs: list[msgspec.Raw] = []
    for item in choice.items:
        if isinstance(item, Message):
            for part in item.content:
                if isinstance(part, TextPart):
                    texts.append(part.text)
                    logprobs.extend(part.logprobs)
                elif isinstance(part, RefusalPart):
                    texts.append(part.refusal)
    return {
        "index": index,
        "text": "".join(texts),
        "logprobs": _logprobs(logprobs, len(echo)) if logprobs else None,
        "finish_reason": _FINISH[choice.reason],
    }


class _Alternative(msgspec.Struct):
    token: str
    logprob: float


class _Token(msgspec.Struct):
    token: str
    logprob: float | None = None
    top_logprobs: list[_Alternative] | None = None


_token = jsonio.decoder(_Token)


def _logprobs(entries: list[msgspec.Raw], offset: int) -> dict[str, Any]:
    """Entries of chat in the older form. `offset`: characters of text before the first. An entry that cannot be read
    counts for nothing."""
    tokens: list[str] = []
    values: list[float | None] = []
    tops: list[dict[str, float]] = []
    offsets: list[int] = []
    for entry in entries:
        try:
            token = jsonio.decode(entry, _token)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
            continue
        tokens.append(token.token)
        values.append(token.logprob)
        tops.append({one.token: one.logprob for one in token.top_logprobs or ()})
        offsets.append(offset)
        offset += len(token.token)
    return {
        "tokens": tokens,
        "token_logprobs": values,
        "top_logprobs": tops if any(tops) else None,
        "text_offset": offsets,
    }
