"""What every dialect offers to the gateway, and what the gateway tells a dialect about a call."""

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from tidegate.dialects.profile import Profile
from tidegate.wire import jsonio
from tidegate.wire.errors import TidegateError, UnsupportedParameter
from tidegate.wire.events import Usage, estimate_tokens

__all__ = [
    "Answer",
    "Call",
    "Destination",
    "Dialect",
    "Endpoint",
    "Outcome",
    "Quirks",
    "Request",
    "Stream",
    "estimated_usage",
    "refuse_unsupported",
]


Endpoint = Literal["responses", "chat", "completions"]
"""The endpoints that relay model output, by the names that provider records use."""


class Quirks(msgspec.Struct, frozen=True, kw_only=True):
    """Where a provider's answers leave the API, beyond what is repaired for everyone. All of it costs time per frame."""

    model_suffix: str = ""
    """What it appends to the model's name in its answers."""
    loose_chunks: bool = False
    """Chunks leave out members that the API sends as null, and put usage beside the finish reason."""
    loose_items: bool = False
    """The items of its Responses answers break the grammar (see `dialects.responses.repair`)."""
    echoes_request: bool = True
    """Its response object repeats the request's members. False: what stands there is a filling."""
    output_limit: int | None = None
    """Tokens after which it cuts an answer when the request sets no limit."""


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """The deployment a request goes to, as far as a dialect has to know it."""

    provider: str
    model: str
    """The upstream's own name of the model."""
    refuses: frozenset[str] = frozenset()
    """Request members that the deployment does not take."""
    stores: bool = False
    """The upstream keeps answers unless told otherwise."""
    encrypted_reasoning: bool = False
    include_usage: bool = True
    gateway_state: bool = True
    """Stored responses and conversations are ours; the upstream call is stateless."""
    cut_reported_as_completed: bool = False
    quirks: Quirks = Quirks()


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What is fixed about a request once it is admitted. Ids and the clock are given: a dialect has neither of its own."""

    response_id: str
    created_at: int
    """Unix time in whole seconds."""
    wall_clock: Callable[[], int]
    """Unix time in whole seconds, asked once when an answer completes."""
    profile: Profile
    request_bytes: int
    """Size of the request body, for estimates of input tokens."""


class Request(Protocol):
    """A validated request body."""

    model: str | None
    stream: bool | None

    @property
    def wants_stream(self) -> bool: ...

    @property
    def end_user(self) -> str | None: ...

    def forward(self, destination: Destination) -> bytes:
        """The body for the upstream: the client's own members, only those replaced that the gateway owns.

        Raises UnsupportedParameter for a member that the deployment cannot honour.
        """

    def open(self, call: Call) -> "Stream":
        """The stream towards the client. It outlives attempts: a fallback goes on in the same stream."""

    def complete(self, body: bytes, call: Call, destination: Destination) -> "Answer":
        """The body for the client of an answer that is not streamed.

        Raises WireError when it is not what the dialect promises, and TidegateError for an error in a body with
        status 200.
        """


class Answer(msgspec.Struct, frozen=True):
    """A complete answer: the client's bytes and what the ledger wants to know."""

    body: bytes
    usage: Usage
    status: str


class Outcome(msgspec.Struct, frozen=True):
    """How a stream ended. `error` is None after a real ending; `status` is `completed`, `incomplete` or `failed`."""

    status: str
    error: TidegateError | None = None


class Stream(Protocol):
    """Frames of an upstream in, frames for the client out. Raises only WireError.

    `committed` turns true with the first event that is not the gateway's own; until then another attempt may go on.
    `outcome` is set once, by the event that ends the stream.
    """

    committed: bool
    outcome: Outcome | None

    def attempt(self, destination: Destination) -> None:
        """Another upstream is about to answer. Only before commit."""

    def feed(self, data: bytes) -> bytes:
        """Whole frames for the client; empty when none is complete."""

    def eof(self) -> bytes:
        """The upstream's message has ended. Sets `outcome` if nothing had."""

    def finish(self) -> bytes:
        """The upstream fell silent. After a real finish, the frames that end the stream well; else nothing."""

    def ping(self) -> bytes:
        """What keeps a silent stream alive in the eyes of clients and proxies; changes nothing else."""

    def fail(self, error: TidegateError) -> bytes:
        """The frames that tell a client, after status 200, that the answer is broken."""

    def usage(self) -> Usage:
        """What was reported, else an estimate."""


class Dialect(Protocol):
    """One API. `name` is the endpoint's name in provider records; `path` the public path."""

    @property
    def name(self) -> Endpoint: ...

    @property
    def path(self) -> str: ...

    def parse(self, body: bytes) -> Request:
        """Decode and validate. Raises InvalidRequest."""


_NEUTRAL: dict[str, tuple[bytes, ...]] = {
    "n": (b"1",),
    "frequency_penalty": (b"0", b"0.0"),
    "presence_penalty": (b"0", b"0.0"),
    "stop": (b"[]",),
    "logit_bias": (b"{}",),
    "parallel_tool_calls": (b"true",),
    "reasoning": (b"{}",),
    "response_format": (b'{"type":"text"}',),
    "text": (b"{}", b'{"format":{"type":"text"}}'),
    "tool_choice": (b'"auto"',),
    "top_logprobs": (b"0",),
    "truncation": (b'"disabled"',),
    "logprobs": (b"false",),
    "echo": (b"false",),
    "best_of": (b"1",),
}
"""Values that ask for what happens anyway: such a member can be left out without a change of meaning."""


def refuse_unsupported(members: jsonio.Members, destination: Destination) -> None:
    """Take out members that the deployment does not know where they say nothing; refuse the rest aloud."""
    if destination.refuses.isdisjoint(members):
        return
    for name in sorted(destination.refuses & members.keys()):
        value = members[name]
        if value == jsonio.NULL or _compact(value) in _NEUTRAL.get(name, ()):
            del members[name]
            continue
        raise UnsupportedParameter(
            f"Unsupported parameter: '{name}' is not supported by provider '{destination.provider}' "
            f"(model '{destination.model}'). Leave it out, or send the request to a model whose provider has it.",
            param=name,
        )


def _compact(value: msgspec.Raw) -> bytes:
    return jsonio.encode(jsonio.anything(value))


def estimated_usage(request_bytes: int, output_bytes: int) -> Usage:
    """Usage when no provider gave it."""
    return Usage(
        input_tokens=estimate_tokens(request_bytes), output_tokens=estimate_tokens(output_bytes), estimated=True
    )
