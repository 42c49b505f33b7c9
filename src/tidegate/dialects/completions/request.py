"""OpenAI text completions (`POST /v1/completions`)."""

from typing import Annotated

import msgspec
from msgspec import Meta

from tidegate.dialects.chat import StreamOptions, forward_choices
from tidegate.dialects.chat.shapes import MEMBERS
from tidegate.dialects.choices import ChoicesStream, complete_choices
from tidegate.dialects.completions.encoder import CompletionsEncoder, completions_answer
from tidegate.dialects.dialect import Answer, Call, Destination, Endpoint, OpenAIErrors, Received
from tidegate.dialects.extent import Extent
from tidegate.dialects.leftovers import ENGINE_MEMBERS, Leftovers
from tidegate.dialects.validation import invalid, parse
from tidegate.wire import jsonio
from tidegate.wire.items import CanonicalRequest, Message, Output, TextPart

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

_NAMES = {
    "items": "prompt",
    "instructions": "prompt",
    "max_output_tokens": "max_tokens",
    "top_logprobs": "logprobs",
}


class CompletionsRequest(Received[CompletionsBody]):
    """A validated request of this dialect."""

    __slots__ = ()

    @property
    def wants_stop(self) -> bool:
        return bool(self.typed.stop)

    @property
    def end_user(self) -> str | None:
        return self.typed.user

    @property
    def extent(self) -> Extent:
        typed = self.typed
        prompt = typed.prompt
        prompts = 1 if isinstance(prompt, str) or isinstance(prompt[0], int) else len(prompt)
        return Extent(output_tokens=typed.max_tokens, choices=prompts * max(typed.n or 1, typed.best_of or 1))

    def forward(self, destination: Destination) -> bytes:
        body, self.dropped = forward_choices(self._body, destination, stream=self.wants_stream)
        return body

    def open(self, call: Call) -> ChoicesStream:
        return ChoicesStream(call, kind="text_completion", wants_usage=self._wants_usage, choices=self._choices)

    def complete(self, body: bytes, call: Call, destination: Destination) -> Answer:
        return complete_choices(body, call, destination, kind="text_completion")

    def canonical(self) -> CanonicalRequest:
        """The prompt as what a user says. The documented default of `max_tokens`, 16, is left to the provider: models
        that reason would spend it before their first word."""
        typed = self.typed
        members = jsonio.members(self._body)
        left = Leftovers()
        left.read(members.items(), CompletionsBody.__struct_fields__, ENGINE_MEMBERS)
        if "stream_options" in members:
            left.look(members["stream_options"], MEMBERS["stream_options"], "stream_options")
        if typed.suffix:
            left.refuse("suffix")
        if typed.best_of is not None and typed.best_of != (typed.n or 1):
            left.refuse("best_of")
        if typed.echo and typed.logprobs is not None:
            left.refuse("echo")  # the prompt's own logprobs
        if typed.max_tokens == 0:
            raise invalid("max_tokens", "expected an integer of at least 1: this model only speaks in chats.")
        stop = typed.stop if typed.stop is not None else ()
        logit_bias = members.get("logit_bias", jsonio.NULL)
        return CanonicalRequest(
            client="completions",
            model=typed.model or "",
            items=[Message(role="user", content=[TextPart(text=self._prompt())])],
            max_output_tokens=typed.max_tokens,
            temperature=typed.temperature,
            top_p=typed.top_p,
            n=typed.n or 1,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            logit_bias=jsonio.EMPTY if jsonio.is_null(logit_bias) else logit_bias,
            frequency_penalty=typed.frequency_penalty,
            presence_penalty=typed.presence_penalty,
            top_logprobs=typed.logprobs,
            seed=typed.seed,
            user=typed.user or "",
            stream=self.wants_stream,
            hints=tuple(left.hints),
            refused=tuple(left.refused),
            names=_NAMES,
        )

    def encoder(self, call: Call) -> CompletionsEncoder:
        return CompletionsEncoder(call, wants_usage=self._wants_usage, echo=self._echo)

    def encode_answer(self, output: Output, call: Call, destination: Destination) -> bytes:
        return completions_answer(output, call, destination, echo=self._echo)

    @property
    def _wants_usage(self) -> bool:
        options = self.typed.stream_options
        return options is not None and options.include_usage is True

    @property
    def _echo(self) -> str:
        return self._prompt() if self.typed.echo else ""

    def _prompt(self) -> str:
        """Raises InvalidRequest for prompts that are no single text: a chat can answer no other."""
        prompt = self.typed.prompt
        if isinstance(prompt, str):
            return prompt
        first = prompt[0]
        if not isinstance(first, str):
            raise invalid("prompt", "this model takes text, not tokens.")
        if len(prompt) > 1:
            raise invalid("prompt", "this model takes one text; send a request for each.")
        return first

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
    media_param = "prompt"
    body_type = CompletionsBody

    def parse(self, body: bytes) -> CompletionsRequest:
        typed = parse(body, _decoder)
        if typed.stream_options is not None and not typed.stream:
            raise invalid("stream_options", "it is only allowed when 'stream' is true.")
        return CompletionsRequest(body, typed)
