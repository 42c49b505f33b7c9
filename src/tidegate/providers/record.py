"""The provider record: everything the gateway has to know about a provider before it calls it."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from tidegate.dialects.dialect import Endpoint, Quirks, Speech, Traits

Auth = Literal["bearer", "optional-bearer", "x-api-key", "x-goog-api-key", "api-key", "none"]
"""How a credential is sent; only `optional-bearer` and `none` can do without one."""
State = Literal["gateway", "provider"]
Operation = Literal["/compact", "/count_tokens", "/input_tokens", ":countTokens"]
"""What there may be behind an endpoint's path, or in the place of its method."""

PATHS: Final[Mapping[Endpoint, str]] = MappingProxyType(
    {
        "responses": "/responses",
        "chat": "/chat/completions",
        "completions": "/completions",
        "messages": "/messages",
        "gemini": "/models/{model}:{method}",
        "embeddings": "/embeddings",
        "speech": "/audio/speech",
        "transcription": "/audio/transcriptions",
        "translation": "/audio/translations",
    }
)
"""Below the base URL. Gemini's names the model, and a method that depends on streaming."""

OPERATIONS: Final[Mapping[Endpoint, frozenset[Operation]]] = MappingProxyType(
    {"messages": frozenset({"/count_tokens"}), "gemini": frozenset({":countTokens"})}
)
"""Whoever speaks Anthropic's API counts tokens, and so does whoever speaks Google's. Few of those who speak Responses have more than the endpoint."""

OPENAI_OPERATIONS: Final[Mapping[Endpoint, frozenset[Operation]]] = MappingProxyType(
    {**OPERATIONS, "responses": frozenset({"/input_tokens", "/compact"})}
)
"""What OpenAI itself has behind its endpoints."""

SILENT_REASONING_S: Final = 600.0
"""First-event and idle clock of a model that thinks without sending a byte."""

NOT_IN_RESPONSES: Final[frozenset[str]] = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "max_tokens",
        "n",
        "presence_penalty",
        "response_format",
        "seed",
        "stop",
    }
)
"""Chat members that OpenAI's own Responses endpoint answers with 400 `unknown_parameter`."""


class Clocks(msgspec.Struct, frozen=True, kw_only=True):
    """The deadlines of one call, in seconds. `None` switches a clock off; only the totals may be off.

    `total` is the limit of a whole stream, `total_unstreamed` that of a call answered in one body.
    """

    connect: float = 5.0
    first_event: float = 30.0
    idle: float = 30.0
    total: float | None = None
    total_unstreamed: float | None = 600.0
    send_stall: float = 30.0


LOCAL_CLOCKS: Final = Clocks(first_event=300.0, idle=120.0)
"""For engines that load the model, and read a long prompt on a slow processor, before the first byte."""


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """One provider as it is documented. Configuration may replace members; nothing mutates them.

    `base_url` ends without a slash and includes the version segment, as the SDKs have it. Empty means that there is no
    usual address: the operator gives one, or, when `embedded`, the gateway starts the server itself.
    """

    kind: str
    title: str
    base_url: str = ""
    regions: tuple[str, ...] = ()
    """Further addresses of the same provider: a credential from the environment may go there as well."""
    embedded: bool = False
    extra: str = ""
    """The extra of Tidegate's own package that brings what an embedded server stands on."""
    modules: tuple[str, ...] = ()
    """What that extra makes importable; without them the server cannot be started."""
    env: tuple[str, ...] = ()
    """Environment variables that hold a credential; the first one that is set wins."""
    base_url_env: tuple[str, ...] = ()
    """Environment variables that replace `base_url`, honoured only when there is no configuration file."""
    auth: Auth = "bearer"
    headers: Mapping[str, str] = {}
    """Fixed headers sent with every call."""

    speaks: tuple[Endpoint, ...] = ("chat",)
    paths: Mapping[Endpoint, str] = PATHS
    operations: Mapping[Endpoint, frozenset[Operation]] = OPERATIONS
    """What there is behind an endpoint's path. What a provider lacks is estimated, or asked for as an ordinary answer."""
    models: tuple[str, ...] = ()
    """All that it will ever offer, where that is certain; its list is not asked for then."""
    models_path: str = "/models"
    """Where the list of models stands, below the base URL."""
    refuses: Mapping[Endpoint, frozenset[str]] = {}
    """Documented request members the provider answers with an error or silently ignores, per endpoint.

    The gateway answers 400 naming the member when a client sends it with a value other than its default.
    """
    responses_only: tuple[str, ...] = ()
    """Patterns of upstream model names that only the Responses endpoint has (S67)."""
    whole_transcripts: tuple[str, ...] = ()
    """Patterns of upstream model names whose transcripts come in one body, whatever `stream` says (S91)."""
    encrypted_reasoning: bool = False
    """`include: ["reasoning.encrypted_content"]` works, so a stateless call keeps the model's reasoning."""
    fetches_urls: bool = True
    """It fetches images and files behind URLs itself. False: it takes only their bytes."""
    include_usage: bool = True
    """`stream_options.include_usage` is accepted on chat and completions."""
    stores: bool = False
    """The Responses endpoint keeps answers unless told `store: false`."""
    state: State = "gateway"
    """Who holds stored responses and conversations."""
    cut_reported_as_completed: bool = False
    """A Responses answer that hit `max_output_tokens` says `completed`; the gateway has to look at the usage."""

    max_output: tuple[tuple[str, int], ...] = ()
    """Patterns of upstream model names, and the most tokens that the model can put out; the first that fits counts."""
    max_input: tuple[tuple[str, int], ...] = ()
    """The same of the tokens that the model can read: its context window."""
    thinks_apart: tuple[str, ...] = ()
    """Patterns of upstream model names that think beside the request's maximum of output tokens, which does not count it."""
    names_files: tuple[str, ...] = ("*qwen*",)
    """Patterns of upstream model names that read the files which a text names: Alibaba's do, wherever they are called."""
    tool_rounds: tuple[tuple[str, int], ...] = ()
    """Patterns of upstream model names, and how often the model reads its prompt at most within one answer for tools that the
    provider runs."""
    traits: tuple[tuple[str, Traits], ...] = ()
    """Patterns of upstream model names, and what the model takes of the Messages API; the first that fits counts."""

    speech: tuple[tuple[str, Speech], ...] = ()
    """Patterns of upstream model names, and what else the model takes of the speech endpoint; the first that fits counts."""
    speech_events: tuple[str, ...] = ()
    """Patterns of upstream model names that answer `stream_format: "sse"` with events; the audio of others is put into
    events here."""

    quirks: Quirks = Quirks()
    """Where it leaves the API."""

    clocks: Clocks = Clocks()
    reasons_silently: tuple[str, ...] = ()
    """Patterns (`*`, `?`, `[…]`) of upstream model names that may think for minutes without sending a byte."""

    default_model: str = ""
    """The upstream model an installation without a configuration file starts with; empty when no name is lasting."""
    default_speech_model: str = ""
    default_transcription_model: str = ""
    """The same for the audio endpoints."""
    local_ports: tuple[int, ...] = ()
    """Ports on which a server of this kind usually listens on the same machine."""
    owned_by: str = ""
    """What the engine's own model list says in `owned_by`: tells engines apart that share a port."""
    documentation: str = ""
    """Where the provider documents this API."""

    @property
    def needs_credential(self) -> bool:
        """Whether no call can do without a credential."""
        return self.auth not in ("optional-bearer", "none")

    def max_output_of(self, model: str) -> int | None:
        """The most tokens that this upstream model can put out; None when the record does not know."""
        return next((most for pattern, most in self.max_output if fnmatchcase(model, pattern)), None)

    def max_input_of(self, model: str) -> int | None:
        """The most tokens that this upstream model can read; None when the record does not know."""
        return next((most for pattern, most in self.max_input if fnmatchcase(model, pattern)), None)

    def tool_rounds_of(self, model: str) -> int | None:
        """How often this upstream model reads its prompt within one answer; None when the record does not know."""
        return next((most for pattern, most in self.tool_rounds if fnmatchcase(model, pattern)), None)

    def thinks_apart_of(self, model: str) -> bool:
        """Whether a maximum of output tokens leaves out what this upstream model thinks."""
        return any(fnmatchcase(model, pattern) for pattern in self.thinks_apart)

    def names_files_of(self, model: str) -> bool:
        """Whether a text may name files that this upstream model reads in its stead."""
        return any(fnmatchcase(model.lower(), pattern) for pattern in self.names_files)

    def traits_of(self, model: str) -> Traits:
        """What this upstream model takes of the Messages API."""
        return next((traits for pattern, traits in self.traits if fnmatchcase(model, pattern)), Traits())

    def speech_of(self, model: str) -> Speech:
        """What this upstream model takes of the speech endpoint."""
        found = next((speech for pattern, speech in self.speech if fnmatchcase(model, pattern)), Speech())
        events = any(fnmatchcase(model, pattern) for pattern in self.speech_events)
        return msgspec.structs.replace(found, events=True) if events else found

    def speaks_for(self, model: str) -> tuple[Endpoint, ...]:
        """The endpoints that serve this upstream model, in the order in which the provider is best served."""
        if any(fnmatchcase(model, pattern) for pattern in self.responses_only):
            return ("responses",)
        return self.speaks

    def answers_whole(self, model: str, endpoint: Endpoint) -> bool:
        """Whether this upstream model answers in one body even where a stream is asked for."""
        return endpoint == "transcription" and any(fnmatchcase(model, pattern) for pattern in self.whole_transcripts)

    def is_silent(self, model: str) -> bool:
        """Whether this upstream model may think for minutes without sending a byte."""
        return any(fnmatchcase(model, pattern) for pattern in self.reasons_silently)

    def clocks_for(self, model: str, *, stream: bool) -> Clocks:
        """The clocks of one call: `total` is the one that applies, silent reasoners get their ten minutes."""
        clocks = self.clocks
        if not stream:
            clocks = msgspec.structs.replace(clocks, total=clocks.total_unstreamed)
        if self.is_silent(model):
            clocks = msgspec.structs.replace(
                clocks,
                first_event=max(clocks.first_event, SILENT_REASONING_S),
                idle=max(clocks.idle, SILENT_REASONING_S),
            )
        return clocks

    def url(self, endpoint: Endpoint) -> str:
        """The full address of an endpoint. Raises `KeyError` for one without a path."""
        return self.base_url + self.paths[endpoint]
