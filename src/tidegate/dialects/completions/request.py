"""OpenAI text completions (`POST /v1/completions`)."""

from typing import Annotated

import msgspec
from msgspec import Meta

from tidegate.dialects.chat import StreamOptions, forward_choices
from tidegate.dialects.choices import ChoicesStream, complete_choices
from tidegate.dialects.dialect import Answer, Call, Destination, Endpoint, OpenAIErrors
from tidegate.dialects.validation import invalid, parse
from tidegate.wire import jsonio

__all__ = ["CompletionsBody", "CompletionsDialect", "CompletionsRequest"]


class CompletionsBody(msgspec.Struct):
    """The documented members with their ranges. A prompt may be a text, texts, or tokens."""

    prompt: str | Annotated[list[str | int | list[int]], Meta(min_length=1)]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    suffix: str | None = None
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    best_of: Annotated[int, Meta(ge=1, le=20)] | None = None
    echo: bool | None = None
    stop: str | list[str] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    seed: int | None = None
    user: str | None = None


_decoder = jsonio.decoder(CompletionsBody)


class CompletionsRequest:
    """A validated request of this dialect."""

    __slots__ = ("_body", "dropped", "model", "stream", "typed")

    def __init__(self, body: bytes, typed: CompletionsBody) -> None:
        self._body = body
        self.dropped: tuple[str, ...] = ()
        self.typed = typed
        self.model = typed.model
        self.stream = typed.stream

    @property
    def wants_stream(self) -> bool:
        return self.stream is True

    @property
    def wants_stop(self) -> bool:
        return bool(self.typed.stop)

    @property
    def end_user(self) -> str | None:
        return self.typed.user

    def forward(self, destination: Destination) -> bytes:
        body, self.dropped = forward_choices(self._body, destination, stream=self.wants_stream)
        return body

    def open(self, call: Call) -> ChoicesStream:
        options = self.typed.stream_options
        wants_usage = options is not None and options.include_usage is True
        return ChoicesStream(call, kind="text_completion", wants_usage=wants_usage, choices=self._choices)

    def complete(self, body: bytes, call: Call, destination: Destination) -> Answer:
        return complete_choices(body, call, destination, kind="text_completion")

    @property
    def _choices(self) -> int:
        """`n` for each prompt; a list of tokens is one prompt."""
        prompt = self.typed.prompt
        prompts = 1 if isinstance(prompt, str) or isinstance(prompt[0], int) else len(prompt)
        return prompts * (self.typed.n or 1)


class CompletionsDialect(OpenAIErrors):
    """See :class:`tidegate.dialects.dialect.Dialect`."""

    name: Endpoint = "completions"
    path = "/v1/completions"
    body_type = CompletionsBody

    def parse(self, body: bytes) -> CompletionsRequest:
        typed = parse(body, _decoder)
        if typed.stream_options is not None and not typed.stream:
            raise invalid("stream_options", "it is only allowed when 'stream' is true.")
        return CompletionsRequest(body, typed)
