"""What every dialect offers to the gateway, and what the gateway tells a dialect about a call."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Protocol, TypeVar

import msgspec

from tidegate.dialects.extent import Extent, is_remarkable, reads, surcharge
from tidegate.dialects.profile import Profile
from tidegate.dialects.prompt_size import prompt_tokens
from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest, TidegateError, UnsupportedParameter
from tidegate.wire.events import Usage, estimate_tokens
from tidegate.wire.forms import Form, Upload

if TYPE_CHECKING:
    from tidegate.dialects.envelope import Envelopes

__all__ = [
    "EVENT_STREAM",
    "JSON",
    "Answer",
    "AnyRequest",
    "AudioFormat",
    "Call",
    "Destination",
    "Dialect",
    "Endpoint",
    "Events",
    "FormDialect",
    "FormRequest",
    "OpenAIErrors",
    "Outcome",
    "Quirks",
    "Received",
    "Request",
    "SealedRequest",
    "Speech",
    "Standalone",
    "Stream",
    "StreamingRequest",
    "Traits",
    "WholeRequest",
    "estimated_usage",
    "refuse_unsupported",
    "says_nothing",
    "unsupported",
]


EVENT_STREAM: Final = b"text/event-stream; charset=utf-8"
JSON: Final = b"application/json"

Endpoint = Literal[
    "responses", "chat", "completions", "messages", "gemini", "embeddings", "speech", "transcription", "translation"
]
"""The endpoints that relay model output, by the names that provider records use. `messages` is Anthropic's API, `gemini`
Google's `generateContent`; `speech`, `transcription` and `translation` are OpenAI's three audio endpoints."""


AudioFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
"""The forms of spoken audio, in OpenAI's names. `pcm` is 16 bits at 24 kHz, signed, little-endian, one channel."""


class Quirks(msgspec.Struct, frozen=True, kw_only=True):
    """Where a provider leaves the API, beyond what is repaired for everyone. In answers all of it costs time per frame."""

    model_suffix: str = ""
    """What it appends to the model's name in its answers."""
    loose_chunks: bool = False
    """Chunks leave out members that the API sends as null, and put usage beside the finish reason."""
    loose_items: bool = False
    """The items of its Responses answers break the grammar (see `dialects.responses.repair`)."""
    echoes_request: bool = True
    """Its response object repeats the request's members. False: what stands there is a filling."""
    transcripts: Literal["events", "raw", "gemini"] = "events"
    """How it transcribes as a stream: in events of JSON; as the bare pieces of the text, whose end is that of the stream;
    or by Gemini's `generateContent`, which is asked in words."""
    transcript_usage: str = ""
    """The field of a form that asks for usage in a stream, where it does not come by itself."""
    embeddings_of_gemini: bool = False
    """Embeddings are asked for in the form of Gemini's `batchEmbedContents`."""
    speech_of_gemini: bool = False
    """Speech is asked for as an answer of Gemini's `streamGenerateContent` in audio."""
    output_limit: int | None = None
    """Tokens after which it cuts an answer when the request sets no limit."""
    openai_chat: bool = False
    """Its chat endpoint takes what only OpenAI's has: custom tools, `allowed_tools`, the role `developer`, files by id,
    refusals and cache breakpoints in messages. What it writes as text is text: it has no `<think>` in its answers."""
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What chat calls the limit of an answer. The older name is known everywhere but to OpenAI's reasoning models."""
    message_threads: bool = False
    """Its Messages endpoint keeps conversations, and goes on from one that the request's `thread` names."""
    call_id_length: int | None = None
    """How many letters and digits a call id of its chat endpoint has. None: any id of at most 40 characters will do."""
    reasoning_back: Literal["", "reasoning_content", "reasoning"] = ""
    """The member of an assistant message in which its chat endpoint wants its own reasoning back, to go on from it."""
    refuses_reasoning: bool = False
    """Its chat endpoint answers 400 to a message with `reasoning_content`."""


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """What one model takes of Anthropic's Messages API, which differs from generation to generation. The defaults fit
    servers that merely speak that API."""

    thinking: Literal["adaptive", "budget", "none"] = "budget"
    """How thinking is asked for: `adaptive` with an effort, or `enabled` with a budget of tokens."""
    always_thinks: bool = False
    """Thinking cannot be switched off."""
    efforts: tuple[str, ...] = ()
    """What `output_config.effort` may be, from little to much; empty where there is no such member."""
    sampling: bool = True
    """It takes `temperature`, `top_p` and `top_k`."""
    one_sampler: bool = False
    """It takes `temperature` or `top_p`, but not both."""
    formats: bool = True
    """It takes `output_config.format`."""
    system_turns: bool = False
    """A message of the role `system` may stand behind one of the user."""
    prefill: bool = False
    """While it does not think, it goes on with a last message of the assistant, and begins none of its own."""


class Speech(msgspec.Struct, frozen=True, kw_only=True):
    """What one model takes of the speech endpoint. The defaults fit servers that merely speak that API."""

    events: bool = False
    """It answers `stream_format: "sse"` with events. False: it is not asked for them, and its audio is put into events
    here."""
    formats: tuple[AudioFormat, ...] = ()
    """What it can be asked for, its usual one first; empty where only the server itself knows."""
    refuses: frozenset[str] = frozenset()
    """Further request members that it does not take."""
    style_in_text: bool = False
    """Gemini's older models are told how to speak in front of the text, the others beside it."""


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """The deployment a request goes to, as far as a dialect has to know it."""

    provider: str
    model: str
    """The upstream's own name of the model."""
    endpoint: Endpoint = "responses"
    """The dialect that is spoken there."""
    refuses: frozenset[str] = frozenset()
    """Request members that the deployment does not take."""
    stores: bool = False
    """The upstream keeps answers unless told otherwise."""
    encrypted_reasoning: bool = False
    include_usage: bool = True
    gateway_state: bool = True
    """Stored responses and conversations are ours; the upstream call is stateless."""
    cut_reported_as_completed: bool = False
    max_output_tokens: int | None = None
    """The most that the model can put out, where known; Anthropic's API has no request without a limit."""
    max_input_tokens: int | None = None
    """The most that the model can read, where known."""
    thinks_apart: bool = False
    """The request's maximum of output tokens does not count what the model thinks."""
    tool_rounds: int | None = None
    """How often the model reads its prompt at most within one answer, for tools that the provider runs, where known."""
    operations: frozenset[str] = frozenset()
    """What the provider has behind this endpoint, such as `/count_tokens`."""
    fetches_urls: bool = True
    """The provider itself fetches images and files behind URLs. False: it takes only their bytes."""
    whole: bool = False
    """It answers in one body even where a stream is asked for; the stream is made of that."""
    drops: bool = False
    """What the deployment cannot carry is left out and named, instead of refused."""
    traits: Traits = Traits()
    speech: Speech = Speech()
    quirks: Quirks = Quirks()
    names_files: bool = True
    """A text may name files that the model reads in its stead: see :func:`tidegate.dialects.extent.may_name_files`."""

    @property
    def reads_thoughts(self) -> bool:
        """Whether the deployment reads the plain words of earlier thoughts, whoever thought them."""
        if self.endpoint == "chat":
            return bool(self.quirks.reasoning_back)
        return self.endpoint == "responses" and not self.encrypted_reasoning


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What is fixed about a request once it is admitted. Ids and the clock are given: a dialect has neither of its own."""

    response_id: str
    created_at: int
    """Unix time in whole seconds."""
    wall_clock: Callable[[], int]
    """Unix time in whole seconds, asked once when an answer completes."""
    profile: Profile
    request_bytes: int
    """Size of the request body, for estimates of input tokens: see :func:`tidegate.dialects.extent.text_bytes`."""
    most_bytes: int = 0
    """Size of the request body as it is, where that is more."""
    request_id: bytes = b""
    """The gateway's own, which some dialects repeat in an error within a stream."""
    short_body: bytes = b""
    """The request body where it is JSON, and so short that an estimate has to look into it."""

    def prompt_tokens(self) -> int:
        """About how many tokens the provider reads, for when it has not counted them."""
        body = self.short_body
        if not body:
            return estimate_tokens(self.request_bytes)
        return prompt_tokens(body) + estimate_tokens(self.request_bytes - len(body))


class AnyRequest(Protocol):
    """What all validated requests have in common."""

    model: str | None
    stream: bool | None
    dropped: tuple[str, ...]
    """Names of members that the last `forward` left out."""

    @property
    def wants_stream(self) -> bool: ...

    @property
    def wants_stop(self) -> bool:
        """Whether there are sequences at which the answer is to stop."""

    @property
    def end_user(self) -> str | None: ...

    @property
    def affinity(self) -> str:
        """What requests have in common of which a provider has the beginning in its cache; empty where nothing is said."""

    @property
    def extent(self) -> Extent:
        """How much it can use at most."""

    def is_remarkable(self, names_files: bool) -> bool:
        """Whether it may be other than text at the list price: then `extent`, `reads` and `surcharge` tell. What the request
        builds on counts where it was resolved. `names_files`: as :class:`Destination` has it."""

    def reads(self) -> int | None:
        """See :func:`tidegate.dialects.extent.reads`. What the request builds on counts where it was resolved."""

    def surcharge(self) -> str | None:
        """See :func:`tidegate.dialects.extent.surcharge`."""


class Request(AnyRequest, Protocol):
    """A validated request body in JSON."""

    def forward(self, destination: Destination) -> bytes:
        """The body for the upstream: the client's own members, only those replaced that the gateway owns.

        Raises UnsupportedParameter for a member that the deployment cannot honour.
        """


class WholeRequest(AnyRequest, Protocol):
    """A request whose answer may come in one body."""

    def complete(self, body: bytes, call: Call, destination: Destination) -> "Answer":
        """The body for the client of an answer that is not streamed.

        Raises WireError when it is not what the dialect promises, and TidegateError for an error in a body with
        status 200.
        """


class StreamingRequest(AnyRequest, Protocol):
    """A request whose answer may stream."""

    def open(self, call: Call) -> "Stream":
        """The stream towards the client. It outlives attempts: a fallback goes on in the same stream."""


class SealedRequest(Request, Protocol):
    """A request in which a provider of the same dialect may get its own reasoning back out of our envelopes."""

    envelopes: "Envelopes | None"
    """Those of the tenant. Set before anything else is called."""


class FormRequest(WholeRequest, StreamingRequest, Protocol):
    """A validated form. Whether it streams is in `wants_stream`."""

    def upload(self, destination: Destination) -> Upload:
        """The body for the upstream, as `Request.forward` has it."""


class _Body(Protocol):
    """The members of a body that every dialect but Gemini's has."""

    model: str | None
    stream: bool | None


Body = TypeVar("Body", bound=_Body)


class Received(Generic[Body]):
    """What requests have in common whose body says all: see :class:`Request`."""

    __slots__ = ("_body", "dropped", "model", "stream", "typed")

    def __init__(self, body: bytes, typed: Body) -> None:
        self._body = body
        self.dropped: tuple[str, ...] = ()
        self.typed = typed
        self.model = typed.model
        self.stream = typed.stream

    @property
    def wants_stream(self) -> bool:
        return self.stream is True

    @property
    def affinity(self) -> str:
        return ""

    def is_remarkable(self, names_files: bool) -> bool:
        return is_remarkable(self._body)

    def reads(self) -> int | None:
        return reads(self._body)

    def surcharge(self) -> str | None:
        return surcharge(self._body)


class Standalone(Request, WholeRequest, Protocol):
    """A request that the gateway can answer itself, where the provider does not know the question."""

    def estimate(self, destination: Destination) -> "Answer":
        """The body for the client, as good as it can be made without the provider."""


class Answer(msgspec.Struct, frozen=True):
    """A complete answer: the client's bytes and what the ledger wants to know."""

    body: bytes
    usage: Usage
    status: str
    content_type: bytes = JSON


class Outcome(msgspec.Struct, frozen=True):
    """How a stream ended. `error` is None after a real ending; `status` is `completed`, `incomplete` or `failed`."""

    status: str
    error: TidegateError | None = None


class Stream(Protocol):
    """Frames of an upstream in, frames for the client out. Bytes that are not what the dialect promises end it with a
    failed `outcome`; what came before them is still handed out. Nothing is raised.

    `committed` turns true with the first event that is not the gateway's own; until then another attempt may go on.
    `outcome` is set once, by the event that ends the stream.
    """

    outcome: Outcome | None

    @property
    def committed(self) -> bool: ...

    @property
    def content_type(self) -> bytes:
        """What the client is told that the stream is; asked for when its first bytes are there."""

    @property
    def abrupt(self) -> bool:
        """The client's form of the answer has no room for an error: only a connection that breaks tells of one."""

    def head(self, content_type: bytes) -> None:
        """The provider's answer begins, with status 200 and this content type (empty without one)."""

    def unstreamed(self, body: bytes) -> bytes | None:
        """The provider has answered in one body although a stream was asked for. The frames that say the same, with
        `outcome` set; None where no stream can be made of it."""

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

    def tell_pings(self, passing: list[bytes]) -> None:
        """From now on what goes out for the provider's own pings, among other frames, is put into `passing` as well, where
        they are events that no journal has."""

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

    @property
    def operation(self) -> str:
        """What comes behind the endpoint's path at a provider that has it; empty for the endpoint itself."""

    @property
    def estimates(self) -> bool:
        """Whether its requests are a :class:`Standalone`. Those of any other operation are answered by a provider that
        lacks it as a conversation (:class:`tidegate.dialects.codec.BridgedRequest`)."""

    @property
    def seals(self) -> bool:
        """Whether its requests are of :class:`SealedRequest`."""

    @property
    def takes_form(self) -> bool:
        """Its requests are forms with a file: see :class:`FormDialect`. The others are JSON, read by :meth:`parse`."""

    @property
    def relayed(self) -> tuple[bytes, ...]:
        """The client's headers, in lower case, that a provider of the same dialect gets as they are."""

    def parse_plain(self, body: bytes) -> Request | None:
        """The request, if it is one of the most usual kind: text and functions of the client's, and no member but the
        documented ones. Such a body need not be searched for anything, which on a long one takes longer than to decode it.
        Raises InvalidRequest."""

    def parse(self, body: bytes) -> Request:
        """Decode and validate. Raises InvalidRequest."""

    @property
    def media_param(self) -> str:
        """The member of a request in which images and files stand."""

    def error_status(self, error: TidegateError) -> int:
        """The HTTP status with which this API reports `error`."""

    def error_body(self, error: TidegateError, request_id: str) -> bytes:
        """The body in which this API's clients look for an error."""


class FormDialect(Dialect, Protocol):
    """One whose requests are forms."""

    def parse_form(self, form: Form) -> FormRequest:
        """Read and validate. Raises InvalidRequest."""


class Events:
    """What streams of server-sent events have in common (see :class:`Stream`)."""

    __slots__ = ()

    content_type: bytes = EVENT_STREAM
    abrupt = False

    def head(self, content_type: bytes) -> None:
        """What the provider calls its stream changes nothing: odd content types are common."""

    def unstreamed(self, body: bytes) -> bytes | None:
        """A body that is no stream, where one was asked for, is taken for an error."""
        return None

    def tell_pings(self, passing: list[bytes]) -> None:
        """The pings of most APIs are no events that would have a number."""


class NothingPlain:
    """A dialect that takes no body for plain."""

    def parse_plain(self, body: bytes) -> Request | None:
        return None


class OpenAIErrors(NothingPlain):
    """What OpenAI's APIs have in common: how they report errors, and that the body says all."""

    operation = ""
    estimates = False
    seals = False
    takes_form = False
    relayed: tuple[bytes, ...] = ()

    def error_status(self, error: TidegateError) -> int:
        return error.http_status

    def error_body(self, error: TidegateError, request_id: str) -> bytes:
        return error.body()


_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "background": (False,),
    "best_of": (1,),
    "chat_template_kwargs": ({},),
    "echo": (False,),
    "frequency_penalty": (0,),
    "include": ([],),
    "length_penalty": (1,),
    "instructions": ("",),
    "logit_bias": ({},),
    "logprobs": (False,),
    "metadata": ({},),
    "min_p": (0,),
    "min_tokens": (0,),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (True,),
    "presence_penalty": (0,),
    "reasoning": ({}, {"effort": None}, {"summary": None}, {"effort": None, "summary": None}),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto",),
    "speed": (1,),
    "stop": ([],),
    "store": (False,),
    "suffix": ("",),
    "temperature": (1,),
    "text": (
        {},
        {"format": {"type": "text"}},
        {"verbosity": "medium"},
        {"format": {"type": "text"}, "verbosity": "medium"},
    ),
    "tool_choice": ("auto",),
    "tools": ([],),
    "top_a": (0,),
    "top_k": (0, -1),
    "top_logprobs": (0,),
    "top_p": (1,),
    "truncation": ("disabled",),
    "verbosity": ("medium",),
}
"""Documented defaults: values that ask for what happens anyway, so that the member can be left out without a change
of meaning. Null is one for every member."""


def refuse_unsupported(
    members: jsonio.Members, destination: Destination, found: Mapping[str, Iterable[str]] | None = None
) -> tuple[str, ...]:
    """Take out members that the deployment does not know where they say nothing; refuse the rest aloud, or, where losses
    are allowed, take them out and return their names. `found` are those that the dialect has met itself, each with
    sentences that say what would be right. Raises UnsupportedParameter, and InvalidRequest for a member that a provider could
    take for another one."""
    names = "".join(members)
    if not (names.isascii() and names == names.lower()) and destination.endpoint != "gemini":
        _refuse_lookalikes(members)
    if destination.refuses.isdisjoint(members) and not found:
        return ()
    lost: dict[str, Iterable[str]] = dict(found or {})
    for name in [name for name in members if name in destination.refuses]:
        if not says_nothing(name, members[name]):
            lost.setdefault(name, ())
        del members[name]
    if lost and not destination.drops:
        raise unsupported(lost, destination)
    return tuple(lost)


_LOOKED_AT: Final = frozenset(
    {
        "best_of", "input", "max_completion_tokens", "max_output_tokens", "max_tokens", "max_tool_calls", "messages", "model",
        "models", "n", "prompt", "service_tier", "speed", "stream", "tools",
    }
)  # fmt: skip
"""Members by which the gateway tells what a key may use, and what that can cost."""


def _refuse_lookalikes(members: jsonio.Members) -> None:
    """Providers that are written in Go read `MODEL` as `model`, and the last of both counts there
    (https://pkg.go.dev/encoding/json#Unmarshal). Raises InvalidRequest."""
    for name in members:
        meant = name.casefold()
        if meant != name and meant in _LOOKED_AT:
            raise InvalidRequest(
                f"Unknown parameter: '{name}'. Some providers would take it for '{meant}'; write that in small letters.",
                param=name,
                code="unknown_parameter",
            )


def unsupported(refused: Mapping[str, Iterable[str]], destination: Destination) -> UnsupportedParameter:
    """The error for members that the deployment cannot honour, the first of them its `param`. The sentences behind each
    say what would be right."""
    names = list(refused)
    several = len(names) > 1
    noun, verb, them, it_has = ("s", "are", "them", "has them") if several else ("", "is", "it", "has it")
    reasons = [f"'{name}': {why} " if several else f"{why} " for name, whys in refused.items() for why in whys]
    return UnsupportedParameter(
        f"Unsupported parameter{noun}: {_listed(names)} {verb} not supported by provider '{destination.provider}' (model "
        f"'{destination.model}'). {''.join(reasons)}Leave {them} out, or send the request to a model whose provider "
        f"{it_has}, or let the gateway leave {them} out: "
        'unsupported = "drop" in [defaults], [models.<alias>] or [[keys]] of its configuration.',
        param=names[0],
    )


def _listed(names: Sequence[str]) -> str:
    """In words, each in quotes."""
    *others, last = [f"'{name}'" for name in names]
    return f"{', '.join(others)} and {last}" if others else last


def says_nothing(name: str, value: msgspec.Raw) -> bool:
    """Whether leaving the member out asks for the same."""
    if value == jsonio.NULL:
        return True
    neutral = _NEUTRAL.get(name)
    if neutral is None:
        return False
    try:
        given = jsonio.anything(value)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return False
    return any(given == one and isinstance(given, bool) == isinstance(one, bool) for one in neutral)


def estimated_usage(call: Call, output_bytes: int) -> Usage:
    """Usage when no provider gave it."""
    return Usage(input_tokens=call.prompt_tokens(), output_tokens=estimate_tokens(output_bytes), estimated=True)
