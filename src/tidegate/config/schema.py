"""The shape of `tidegate.toml`: every key with its meaning, range and default.

The reference tables of the documentation, the JSON schema for editors and the decoder all read these declarations.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from tidegate.config.limits import NO_LIMITS, Limits
from tidegate.config.secret import Secret
from tidegate.config.units import Dollars, Duration, Size
from tidegate.dialects.dialect import Endpoint
from tidegate.providers.record import Clocks, Operation, Provider, State
from tidegate.providers.registry import REGISTRY
from tidegate.routing import health
from tidegate.routing.balance import Strategy
from tidegate.routing.retry import Condition

Unsupported = Literal["refuse", "drop"]
Profile = Literal["openai", "openresponses", "anyfast", "kkiai", "deepintshield", "text"]

HASHED: Final = "sha256:"
"""Begins a key's secret that is given as its digest."""


def _duration(text: str) -> Duration:
    return Duration.parse(text)


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """Where Tidegate listens, and the limits of what it accepts."""

    host: Annotated[
        str,
        Meta(description="Address to listen on. The default is reachable from this machine only.", min_length=1),
    ] = "127.0.0.1"
    port: Annotated[int, Meta(description="Port to listen on; 0 takes any free one.", ge=0, le=65535)] = 8080
    allow_open: Annotated[
        bool,
        Meta(
            description="Start on an address that others can reach although no key is configured. "
            "Anyone who reaches the port then spends your credentials."
        ),
    ] = False
    cors_origins: Annotated[
        tuple[str, ...],
        Meta(description="Web origins, such as `https://chat.example.com`, whose pages may call the API."),
    ] = ()
    max_body: Annotated[
        Size, Meta(description="Largest request body.", extra={"least": Size(1024), "most": Size(1024**3)})
    ] = Size(32 * 1024**2)
    max_upload: Annotated[
        Size,
        Meta(
            description="Largest form with a file. What is over 1 MiB waits on disk, in a file without a name.",
            extra={"least": Size(1024), "most": Size(100 * 1024**3)},
        ),
    ] = Size(512 * 1024**2)
    max_header_bytes: Annotated[
        Size,
        Meta(
            description="Largest request head: request line and headers.",
            extra={"least": Size(1024), "most": Size(1024**2)},
        ),
    ] = Size(64 * 1024)
    header_timeout: Annotated[
        Duration,
        Meta(
            description="Time within which a request's head must have arrived.",
            extra={"least": _duration("100ms"), "most": _duration("10m")},
        ),
    ] = _duration("10s")
    body_timeout: Annotated[
        Duration,
        Meta(
            description="Longest silence while a request's body arrives.",
            extra={"least": _duration("100ms"), "most": _duration("1h")},
        ),
    ] = _duration("30s")
    keep_alive: Annotated[
        Duration,
        Meta(
            description="How long an idle client connection stays open for the next request.",
            extra={"least": _duration("0s"), "most": _duration("1h")},
        ),
    ] = _duration("75s")
    stream_ping: Annotated[
        Duration,
        Meta(
            description="Silence on a stream after which the client gets a keep-alive.",
            extra={"least": _duration("1s"), "most": _duration("5m")},
        ),
    ] = _duration("15s")
    drain_delay: Annotated[
        Duration,
        Meta(
            description="How long Tidegate goes on accepting requests after it is told to stop, while `/readyz` says so: "
            "the time that a load balancer takes to notice.",
            extra={"least": _duration("0s"), "most": _duration("10m")},
        ),
    ] = _duration("0s")
    drain: Annotated[
        Duration,
        Meta(
            description="Time that running requests get to finish when Tidegate is told to stop.",
            extra={"least": _duration("0s"), "most": _duration("1d")},
        ),
    ] = _duration("30s")
    websocket_ping: Annotated[
        Duration,
        Meta(
            description="Silence of a WebSocket client after which it is asked whether it is there. "
            "It has as long again to answer.",
            extra={"least": _duration("100ms"), "most": _duration("5m")},
        ),
    ] = _duration("20s")
    websocket_idle: Annotated[
        Duration,
        Meta(
            description="How long a WebSocket stays open on which no response is under way.",
            extra={"least": _duration("100ms"), "most": _duration("1d")},
        ),
    ] = _duration("15m")
    websocket_lifetime: Annotated[
        Duration,
        Meta(
            description="How long a WebSocket takes new requests; those under way still end.",
            extra={"least": _duration("100ms"), "most": _duration("1d")},
        ),
    ] = _duration("60m")
    websocket_cache: Annotated[
        Size,
        Meta(
            description="What one WebSocket remembers of its responses, so that later requests can build on them "
            "without their being stored.",
            extra={"least": Size(1024), "most": Size(1024**3)},
        ),
    ] = Size(16 * 1024**2)
    data_dir: Annotated[
        str,
        Meta(
            description="Folder for Tidegate's own data: the key of reasoning envelopes, and uploads while they are needed. Empty: the user's data folder, and for uploads the system's temporary one."
        ),
    ] = ""


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What applies when neither the request nor its key says otherwise."""

    model: Annotated[
        str,
        Meta(description="Model of requests that name none. Empty: such requests get a 400."),
    ] = ""
    speech_model: Annotated[
        str,
        Meta(description="The same for speech (`/v1/audio/speech`), which a model for text does not serve."),
    ] = ""
    transcription_model: Annotated[
        str,
        Meta(description="The same for transcriptions and translations of audio."),
    ] = ""
    profile: Annotated[
        Profile,
        Meta(description="Compatibility profile: the shape of what clients see."),
    ] = "openai"
    unsupported: Annotated[
        Unsupported,
        Meta(
            description="What becomes of a request member that the chosen provider cannot honour: `refuse` answers 400 and "
            "names it, `drop` leaves it out and names it in the response header `tidegate-dropped`."
        ),
    ] = "refuse"


class Egress(msgspec.Struct, frozen=True, kw_only=True):
    """What is fetched on behalf of clients: images and files behind URLs, for providers that take only bytes."""

    fetch_media: Annotated[
        bool,
        Meta(
            description="Fetch images and files given by URL, for providers that take only bytes. "
            "Off: such requests get a 400 that asks for a data URL."
        ),
    ] = True
    allow_private: Annotated[
        bool,
        Meta(
            description="Fetch from this machine and private networks as well. Metadata services, link-local and multicast "
            "addresses are never fetched from."
        ),
    ] = False
    max_media: Annotated[
        Size,
        Meta(
            description="Largest single image or file. For one request 100 are fetched at most, and 64 MiB together.",
            extra={"least": Size(1024), "most": Size(1024**3)},
        ),
    ] = Size(20 * 1024**2)
    timeout: Annotated[
        Duration,
        Meta(
            description="Time for all that one request needs, redirects included.",
            extra={"least": _duration("100ms"), "most": _duration("5m")},
        ),
    ] = _duration("10s")


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Deadlines of one call to a provider. Unset: those of the provider's kind."""

    connect: Annotated[
        Duration | None,
        Meta(
            description="Until the connection stands, TLS included; usually 5s.",
            extra={"least": _duration("1ms"), "most": _duration("5m")},
        ),
    ] = None
    first_event: Annotated[
        Duration | None,
        Meta(
            description="From the sent request to the first event of a stream; usually 30s, for local engines 5m, which may have to load the model first.",
            extra={"least": _duration("1ms"), "most": _duration("1d")},
        ),
    ] = None
    idle: Annotated[
        Duration | None,
        Meta(
            description="Longest gap between two reads once the answer has begun; usually 30s, for local engines 2m.",
            extra={"least": _duration("1ms"), "most": _duration("1d")},
        ),
    ] = None
    total: Annotated[
        Duration | None,
        Meta(
            description='The whole call; usually off for streams, 10m otherwise. `"off"` switches it off for both.',
            extra={"least": _duration("1ms"), "most": _duration("7d"), "off": True},
        ),
    ] = None
    send_stall: Annotated[
        Duration | None,
        Meta(
            description="How long a client may refuse to read before its stream is ended; usually 30s.",
            extra={"least": _duration("1ms"), "most": _duration("1h")},
        ),
    ] = None

    def over(self, clocks: Clocks) -> Clocks:
        """Those clocks, with the ones set here in their place."""
        changes: dict[str, float | None] = {}
        for name in ("connect", "first_event", "idle", "send_stall"):
            value: Duration | None = getattr(self, name)
            if value is not None:
                changes[name] = float(value)
        if self.total is not None:
            changes["total"] = changes["total_unstreamed"] = self.total.seconds()
        return msgspec.structs.replace(clocks, **changes)


class Routing(msgspec.Struct, frozen=True, kw_only=True):
    """What follows a failed attempt, and what is left alone for a while."""

    retries: Annotated[
        int,
        Meta(
            description="How often a request is sent to the same deployment once more, after a short random wait, when that "
            "broke the answer or failed with 408, 409, 500, 502, 503, 504 or 529. Then the next deployment is asked.",
            ge=0,
            le=10,
        ),
    ] = 1
    retry_budget: Annotated[
        float,
        Meta(
            description="Most retries under way at once, as a share of all requests under way; 3 are always allowed.",
            ge=0,
            le=1,
        ),
    ] = 0.2
    eject_after: Annotated[
        int,
        Meta(
            description="Failures in a row after which a deployment is asked last; half of at least 20 requests within a "
            "minute do it as well. 0: never.",
            ge=0,
            le=1000,
        ),
    ] = 5
    eject_for: Annotated[
        Duration,
        Meta(
            description="For how long. Then one request tries it; if that fails, it is for twice as long.",
            extra={"least": _duration("100ms"), "most": _duration("1h")},
        ),
    ] = _duration("5s")
    eject_limit: Annotated[
        Duration,
        Meta(
            description="Longest time for which a deployment is asked last without another try.",
            extra={"least": _duration("100ms"), "most": _duration("1d")},
        ),
    ] = _duration("5m")
    cooldown: Annotated[
        Duration,
        Meta(
            description="How long a credential rests at a deployment that answered 429 and did not say for how long.",
            extra={"least": _duration("100ms"), "most": _duration("1h")},
        ),
    ] = _duration("5s")
    cooldown_limit: Annotated[
        Duration,
        Meta(
            description="Longest such rest, whatever the provider says.",
            extra={"least": _duration("100ms"), "most": _duration("1d")},
        ),
    ] = _duration("1m")

    def health(self) -> health.Settings:
        return health.Settings(
            eject_after=self.eject_after,
            eject_for=float(self.eject_for),
            eject_limit=float(self.eject_limit),
            cooldown=float(self.cooldown),
            cooldown_limit=float(self.cooldown_limit),
        )


class RoutingOverrides(msgspec.Struct, frozen=True, kw_only=True):
    """What one provider has of its own in place of `[routing]`. Unset: as there."""

    retries: Annotated[
        Annotated[int, Meta(ge=0, le=10)] | None,
        Meta(description="How often a request is sent to the same deployment of this provider once more."),
    ] = None
    eject_after: Annotated[
        Annotated[int, Meta(ge=0, le=1000)] | None,
        Meta(description="Failures in a row after which a deployment of this provider is asked last. 0: never."),
    ] = None
    eject_for: Annotated[
        Duration | None,
        Meta(
            description="For how long, the first time.",
            extra={"least": _duration("100ms"), "most": _duration("1h")},
        ),
    ] = None
    eject_limit: Annotated[
        Duration | None,
        Meta(
            description="For how long at most.",
            extra={"least": _duration("100ms"), "most": _duration("1d")},
        ),
    ] = None
    cooldown: Annotated[
        Duration | None,
        Meta(
            description="How long a credential rests after a 429 that does not say for how long.",
            extra={"least": _duration("100ms"), "most": _duration("1h")},
        ),
    ] = None
    cooldown_limit: Annotated[
        Duration | None,
        Meta(
            description="Longest such rest, whatever the provider says.",
            extra={"least": _duration("100ms"), "most": _duration("1d")},
        ),
    ] = None

    def over(self, routing: Routing) -> Routing:
        """Those settings, with the ones set here in their place."""
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        return msgspec.structs.replace(routing, **{name: value for name, value in given.items() if value is not None})


class ProviderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One provider. Its name is what stands before the slash in `provider/model`.

    Members that are `None` follow the record of the kind; `record()` gives the effective values.
    """

    kind: Annotated[
        str,
        Meta(
            description="Which provider this is. Unset: the name itself if that is a known kind, "
            "else `openai-compatible`."
        ),
    ] = ""
    base_url: Annotated[
        str,
        Meta(description="Address up to and including the version, without a slash at the end. Unset: the kind's."),
    ] = ""
    credentials: Annotated[
        tuple[Secret, ...],
        Meta(
            description="API keys of this provider. Unset: the kind's environment variable, "
            "as long as `base_url` is not changed."
        ),
    ] = ()
    credentials_file: Annotated[
        str,
        Meta(description="File with one API key per line; empty lines and lines that begin with `#` do not count."),
    ] = ""
    headers: Annotated[
        dict[str, Secret],
        Meta(description="Further headers of every call to this provider."),
    ] = {}
    proxy: Annotated[
        Secret | None,
        Meta(
            description='Proxy for this provider: an `http://` or `https://` address, or `"none"`. '
            "Unset: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` decide."
        ),
    ] = None
    ca_bundle: Annotated[
        str,
        Meta(description="PEM file with the authorities that certify this provider, instead of the system's."),
    ] = ""
    timeouts: Annotated[
        Timeouts,
        Meta(description="Deadlines of calls to this provider."),
    ] = Timeouts()
    routing: Annotated[
        RoutingOverrides,
        Meta(description="What follows a failed attempt at this provider, in place of `[routing]`."),
    ] = RoutingOverrides()
    max_concurrent: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | None,
        Meta(
            description="Most requests under way at this provider at once. Further ones wait for a turn. Unset: any number."
        ),
    ] = None
    queue: Annotated[
        int,
        Meta(
            description="How many may wait for a turn. Who finds the queue full goes to the next deployment at once, and gets a 503 "
            "if there is none.",
            ge=0,
            le=1_000_000,
        ),
    ] = 64
    queue_timeout: Annotated[
        Duration,
        Meta(
            description="How long a request waits for its turn; then it goes to the next deployment likewise.",
            extra={"least": _duration("1ms"), "most": _duration("5m")},
        ),
    ] = _duration("2s")
    speaks: Annotated[
        tuple[Endpoint, ...] | None,
        Meta(description="Endpoints this provider serves. Unset: those of the kind."),
    ] = None
    paths: Annotated[
        dict[Endpoint, str] | None,
        Meta(description="Paths below `base_url` that differ from OpenAI's, per endpoint."),
    ] = None
    models: Annotated[
        tuple[str, ...],
        Meta(description="The models this provider offers. Unset: its own list is asked for."),
    ] = ()
    refuses: Annotated[
        dict[Endpoint, tuple[str, ...]] | None,
        Meta(
            description="Request members this provider does not take, per endpoint: a request that uses one gets a 400. "
            "Replaces the kind's list for that endpoint."
        ),
    ] = None
    operations: Annotated[
        dict[Endpoint, tuple[Operation, ...]] | None,
        Meta(
            description="What this provider has behind an endpoint's path: what it lacks is estimated, or asked for as an "
            "ordinary answer. Replaces the kind's list for that endpoint."
        ),
    ] = None
    include_usage: Annotated[
        bool | None,
        Meta(description="Whether `stream_options.include_usage` may be sent. Unset: as the kind."),
    ] = None
    speech_events: Annotated[
        tuple[str, ...] | None,
        Meta(
            description="Patterns of model names whose speech may be asked for in events (`stream_format`). "
            "The audio of others is put into events here. Unset: those of the kind."
        ),
    ] = None
    whole_transcripts: Annotated[
        tuple[str, ...] | None,
        Meta(
            description="Patterns of model names whose transcripts come in one body even where a stream is asked for. "
            "The stream is made of that here. Unset: those of the kind."
        ),
    ] = None
    encrypted_reasoning: Annotated[
        bool | None,
        Meta(description="Whether encrypted reasoning may be asked for. Unset: as the kind."),
    ] = None
    reasons_silently: Annotated[
        tuple[str, ...] | None,
        Meta(
            description="Patterns of model names that may think for minutes without a byte: "
            "they get at least 10 minutes for the first event and between reads. Unset: those of the kind."
        ),
    ] = None
    max_output: Annotated[
        dict[str, int],
        Meta(
            description="The most tokens that models put out, by patterns of model names; the first that fits counts. "
            "Budgets need it for requests that set no maximum. Looked up before what the kind knows."
        ),
    ] = {}
    max_input: Annotated[
        dict[str, int],
        Meta(
            description="The most tokens that models read (their context window), by patterns of model names; the first "
            "that fits counts. Budgets need it for requests with images, files, audio, or tools that the provider runs."
        ),
    ] = {}
    thinks_apart: Annotated[
        tuple[str, ...] | None,
        Meta(
            description="Patterns of model names whose thoughts are not counted in the request's maximum of output tokens. "
            "Budgets reserve `max_output` for them, whatever the request asks. Unset: those of the kind."
        ),
    ] = None
    tool_rounds: Annotated[
        dict[str, int],
        Meta(
            description="How often models read their prompt at most within one answer, for tools that the provider runs, by "
            "patterns of model names; the first that fits counts. Budgets need it for requests with such tools that set "
            "no `max_tool_calls` or `max_uses`. Looked up before what the kind knows."
        ),
    ] = {}
    state: Annotated[
        State | None,
        Meta(description="Who keeps stored responses and conversations: `gateway` or `provider`. Unset: as the kind."),
    ] = None
    price_list: Annotated[
        str,
        Meta(
            description="Whose prices apply, by the name of a provider in the catalogue, such as `openai`; `none` for "
            "nobody's. Unset: those of the provider that the catalogue knows at this address."
        ),
    ] = ""

    def record(self) -> Provider:
        """The record of this kind with everything that is configured in its place.

        Builds a new record at each call: keep the result in the snapshot. Raises `KeyError` for an unknown kind,
        which a loaded configuration never holds.
        """
        known = REGISTRY[self.kind]
        return msgspec.structs.replace(
            known,
            base_url=self.base_url or known.base_url,
            clocks=self.timeouts.over(known.clocks),
            speaks=known.speaks if self.speaks is None else self.speaks,
            paths={**known.paths, **(self.paths or {})},
            refuses={**known.refuses, **{k: frozenset(v) for k, v in (self.refuses or {}).items()}},
            speech_events=known.speech_events if self.speech_events is None else self.speech_events,
            operations={**known.operations, **{k: frozenset(v) for k, v in (self.operations or {}).items()}},
            include_usage=known.include_usage if self.include_usage is None else self.include_usage,
            whole_transcripts=known.whole_transcripts if self.whole_transcripts is None else self.whole_transcripts,
            encrypted_reasoning=(
                known.encrypted_reasoning if self.encrypted_reasoning is None else self.encrypted_reasoning
            ),
            reasons_silently=known.reasons_silently if self.reasons_silently is None else self.reasons_silently,
            max_output=(*self.max_output.items(), *known.max_output),
            max_input=(*self.max_input.items(), *known.max_input),
            thinks_apart=known.thinks_apart if self.thinks_apart is None else self.thinks_apart,
            tool_rounds=(*self.tool_rounds.items(), *known.tool_rounds),
            state=known.state if self.state is None else self.state,
        )


class KeyConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One key that clients present as `Authorization: Bearer …`."""

    name: Annotated[str, Meta(description="Name of the key in logs and reports.", min_length=1, max_length=64)]
    secret: Annotated[
        Secret,
        Meta(
            description="The key itself, at least 32 characters, or `sha256:` and the hexadecimal SHA-256 digest of it."
        ),
    ]
    project: Annotated[
        str,
        Meta(description="Project that the key's usage belongs to.", min_length=1, max_length=64),
    ] = "default"
    model: Annotated[
        str,
        Meta(description="Model of requests with this key that name none. Unset: `defaults.model`."),
    ] = ""
    models: Annotated[
        tuple[str, ...],
        Meta(description="Models this key may use; `*` stands for any text, as in `openai/*`. Unset: all."),
    ] = ()
    profile: Annotated[
        Profile | None,
        Meta(description="Compatibility profile of this key. Unset: `defaults.profile`."),
    ] = None
    unsupported: Annotated[
        Unsupported | None,
        Meta(
            description="`refuse` or `drop`, for requests with this key. Unset: as the alias, else `defaults.unsupported`."
        ),
    ] = None
    limits: Annotated[Limits, Meta(description="What the key may use.")] = NO_LIMITS

    def sha256(self) -> bytes:
        """The SHA-256 digest of the key text, in whichever form the configuration gives the secret."""
        text = self.secret.reveal()
        return bytes.fromhex(text.removeprefix(HASHED)) if text.startswith(HASHED) else self.secret.sha256()


class ProjectConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all keys of one project together. Its name is what keys have as `project`; a project of another
    organization than `default` is written `organization/project`."""

    limits: Annotated[Limits, Meta(description="What all keys of the project may use together.")] = NO_LIMITS
    end_user_limits: Annotated[
        Limits, Meta(description="What each end user that requests name may use within the project.")
    ] = NO_LIMITS


class OrganizationConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all projects of one organization together."""

    limits: Annotated[Limits, Meta(description="What all projects of the organization may use together.")] = NO_LIMITS


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment behind an alias."""

    model: Annotated[str, Meta(description="`provider/model`, or another alias.", min_length=1)]
    weight: Annotated[
        int,
        Meta(description="Share of the traffic relative to the other targets; 0 takes this one out.", ge=0, le=10000),
    ] = 1
    price: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(
            description='For `strategy = "cheapest"`: what this target costs, in place of its known prices. In dollars for a '
            "million tokens where others of the alias go by theirs, else in any unit. Unset: by its prices; unknown ones come "
            "last."
        ),
    ] = None
    timeouts: Annotated[
        Timeouts,
        Meta(description="Deadlines for this target alone."),
    ] = Timeouts()


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A model alias. Its name is what clients send as `model`."""

    target: Annotated[
        str, Meta(description="The one model behind the alias: short for a single entry in `targets`.")
    ] = ""
    targets: Annotated[
        tuple[Target, ...],
        Meta(
            description="The models behind the alias. Each request goes to one of them; the others follow when that one fails "
            "before the answer begins."
        ),
    ] = ()
    strategy: Annotated[
        Strategy,
        Meta(
            description="How a target is chosen: by `weight`, the one with the fewest requests under way for its weight, the "
            "one whose streams have lately begun soonest, or the one that costs least."
        ),
    ] = "weighted"
    sticky: Annotated[
        bool,
        Meta(
            description="Whether requests with the same `prompt_cache_key` or conversation, and responses that build on one "
            "another, go to the same target while it is fit: it has read most of them before. `cheapest` looks at the "
            "price first."
        ),
    ] = True
    fallback: Annotated[
        tuple[str, ...],
        Meta(description="Models tried in this order when the targets have failed before the answer began."),
    ] = ()
    fallback_on: Annotated[
        tuple[Condition, ...],
        Meta(
            description="Refusals after which the next model is asked all the same: the request is too long for this one, or "
            "a filter of the provider does not let it pass."
        ),
    ] = ()
    continue_broken: Annotated[
        bool,
        Meta(
            description="Whether a streamed answer of plain text that breaks off in the middle is gone on with: the next model "
            "gets the text so far, and what it adds follows in the same stream."
        ),
    ] = False
    unsupported: Annotated[
        Unsupported | None,
        Meta(description="`refuse` or `drop`, for requests to this alias. Unset: `defaults.unsupported`."),
    ] = None

    @property
    def choices(self) -> tuple[Target, ...]:
        """The targets, in whichever of the two forms they were written."""
        return self.targets or (Target(model=self.target),)


def _per_million(what: str) -> Meta:
    return Meta(description=f"US dollars per million {what}.")


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """What things cost. Members that are `None` cost what the next wider kind of tokens costs, and the widest nothing known."""

    input: Annotated[Dollars | None, _per_million("input tokens")] = None
    cached: Annotated[Dollars | None, _per_million("input tokens read from a cache. Unset: as `input`")] = None
    cache_write: Annotated[Dollars | None, _per_million("input tokens written to a cache. Unset: as `input`")] = None
    cache_write_1h: Annotated[
        Dollars | None, _per_million("input tokens written to a cache for an hour. Unset: as `cache_write`")
    ] = None
    input_audio: Annotated[Dollars | None, _per_million("input tokens of audio. Unset: as `input`")] = None
    input_image: Annotated[Dollars | None, _per_million("input tokens of images. Unset: as `input`")] = None
    output: Annotated[Dollars | None, _per_million("output tokens")] = None
    reasoning: Annotated[Dollars | None, _per_million("reasoning tokens. Unset: as `output`")] = None
    output_audio: Annotated[Dollars | None, _per_million("output tokens of audio. Unset: as `output`")] = None
    output_image: Annotated[Dollars | None, _per_million("output tokens of images. Unset: as `output`")] = None
    characters: Annotated[Dollars | None, _per_million("characters of text to be spoken")] = None
    second: Annotated[Dollars | None, Meta(description="US dollars per second of audio.")] = None
    request: Annotated[Dollars | None, Meta(description="US dollars per request, on top of the rest.")] = None


class Tier(Rates, frozen=True, kw_only=True):
    """Prices of requests with a long input. What is not set here stays as without it."""

    over: Annotated[
        int, Meta(description="The prices hold for the whole of a request with more input tokens than this.", ge=1)
    ]


class PriceConfig(Rates, frozen=True, kw_only=True):
    """The prices of a deployment. Its name is `provider/model` with the provider's name of the model, where `*` stands for any text."""

    tiers: Annotated[tuple[Tier, ...], Meta(description="Prices of requests with a long input.")] = ()


class Logging(msgspec.Struct, frozen=True, kw_only=True):
    """What is logged, and how. Prompts, answers and secrets never are."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="Least severity that is logged."),
    ] = "info"
    format: Annotated[
        Literal["auto", "console", "json"],
        Meta(description="`console` for people, `json` for machines, `auto`: console on a terminal, else JSON."),
    ] = "auto"
    access: Annotated[bool, Meta(description="One line per request.")] = True


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of answers, where, and for how long."""

    url: Annotated[
        str,
        Meta(
            description="Database of stored responses and conversations: `sqlite:////absolute/path.db`, "
            "`postgresql://user@host/name`, or `off`. Empty: `tidegate.db` in the data folder."
        ),
    ] = ""
    retention: Annotated[
        Duration,
        Meta(
            description="How long stored responses are kept; conversations stay until they are deleted.",
            extra={"least": _duration("1m"), "most": _duration("3650d"), "off": True},
        ),
    ] = _duration("30d")
    quota: Annotated[
        Size,
        Meta(
            description="Most bytes that one key may have in store; 0 sets no limit. Beyond it responses that are to be "
            "stored get a 429.",
            extra={"least": Size(0), "most": Size(1024**5)},
        ),
    ] = Size(0)
    resume_grace: Annotated[
        Duration,
        Meta(
            description="How long a stream goes on without its client, which may come back to it, where the request has no "
            "header `tidegate-resume-grace`.",
            extra={"least": _duration("0s"), "most": _duration("1h")},
        ),
    ] = _duration("0s")
    lease: Annotated[
        Duration,
        Meta(
            description="Silence after which other gateways on the same database take this one for dead and close its "
            "responses. A cancellation through another gateway takes up to a third of it.",
            extra={"least": _duration("1s"), "most": _duration("10m")},
        ),
    ] = _duration("15s")
    master_keys: Annotated[
        tuple[Secret, ...],
        Meta(
            description="Secrets under which stored content is encrypted, each of at least 32 characters. The first one "
            "seals what is new; the others open what was sealed before."
        ),
    ] = ()
    when_unavailable: Annotated[
        Literal["fail_open", "fail_closed"],
        Meta(
            description="What becomes of responses that are to be stored while the database fails and what waits for it "
            "fills the memory set aside: `fail_open` answers without storing, `fail_closed` refuses with 503."
        ),
    ] = "fail_open"


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of requests, their usage and their cost, in the database of `[storage]`."""

    retention: Annotated[
        Duration,
        Meta(
            description="How long the entry of each single request is kept. The sums by the hour, of which reports are made, stay.",
            extra={"least": _duration("1d"), "most": _duration("3650d"), "off": True},
        ),
    ] = _duration("400d")


class LimitsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How limits are counted. The limits themselves stand with keys, projects and organizations."""

    valkey: Annotated[
        Secret | None,
        Meta(
            description="Address of the Valkey or Redis in which several gateways count together: "
            "`redis://[user:password@]host:port/number`, or `rediss://` with TLS. Unset: each gateway counts for itself."
        ),
    ] = None
    prefix: Annotated[
        str,
        Meta(description="What the names of all keys in Valkey begin with.", min_length=1, max_length=64),
    ] = "tidegate"
    timeout: Annotated[
        Duration,
        Meta(
            description="How long a request waits for Valkey before it is taken for unavailable.",
            extra={"least": _duration("5ms"), "most": _duration("5s")},
        ),
    ] = _duration("50ms")
    when_unavailable: Annotated[
        Literal["local", "refuse"],
        Meta(
            description="What becomes of requests with limits while Valkey does not answer: `local` counts them in each "
            "gateway, against its share of every limit; `refuse` answers 503."
        ),
    ] = "local"
    gateways: Annotated[
        int,
        Meta(description="How many gateways share the limits: `local` gives each that part of them.", ge=1, le=10000),
    ] = 1
    end_users: Annotated[
        int,
        Meta(
            description="How many end users of one project are told apart at once.",
            ge=1,
            le=10_000_000,
        ),
    ] = 10_000
    queue: Annotated[
        int,
        Meta(
            description="How many requests may wait for each limit of `streams`. Who finds the queue full gets a 429 at once.",
            ge=0,
            le=1_000_000,
        ),
    ] = 0
    queue_timeout: Annotated[
        Duration,
        Meta(
            description="How long such a request waits for one of those under way to end; then it gets the 429.",
            extra={"least": _duration("1ms"), "most": _duration("5m")},
        ),
    ] = _duration("2s")


class Admin(msgspec.Struct, frozen=True, kw_only=True):
    """The API under `/admin/v1`, by which keys, projects and admins are managed."""

    enabled: Annotated[bool, Meta(description="Serve it at all.")] = True
    host: Annotated[
        str,
        Meta(description="Address of a listener of its own, together with `port`. Empty: 127.0.0.1."),
    ] = ""
    port: Annotated[
        Annotated[int, Meta(ge=0, le=65535)] | None,
        Meta(
            description="Port of a listener of its own; 0 takes any free one. Unset: it is served on the port of the rest."
        ),
    ] = None

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of its own listener; None when it has none."""
        if not self.enabled or self.port is None:
            return None
        return self.host or "127.0.0.1", self.port


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A `tidegate.toml`."""

    server: Annotated[Server, Meta(description="Where Tidegate listens, and the limits of what it accepts.")] = Server()
    defaults: Annotated[
        Defaults, Meta(description="What applies when neither the request nor its key says otherwise.")
    ] = Defaults()
    providers: Annotated[
        dict[str, ProviderConfig],
        Meta(
            description="The providers, each under a name of your choice. Their order decides who serves a bare model name."
        ),
    ] = {}
    keys: Annotated[
        tuple[KeyConfig, ...],
        Meta(description="Keys that clients present. As soon as there is one, every request needs one."),
    ] = ()
    projects: Annotated[
        dict[str, ProjectConfig], Meta(description="What holds for all keys of one project together.")
    ] = {}
    organizations: Annotated[
        dict[str, OrganizationConfig], Meta(description="What holds for all projects of one organization together.")
    ] = {}
    limits: Annotated[LimitsSettings, Meta(description="How limits are counted.")] = LimitsSettings()
    models: Annotated[dict[str, ModelConfig], Meta(description="Model aliases.")] = {}
    prices: Annotated[
        dict[str, PriceConfig],
        Meta(description="Prices that replace those of the catalogue, and give those that it does not know."),
    ] = {}
    routing: Annotated[
        Routing, Meta(description="What follows a failed attempt, and what is left alone for a while.")
    ] = Routing()
    admin: Annotated[
        Admin, Meta(description="The API under `/admin/v1`, by which keys, projects and admins are managed.")
    ] = Admin()
    egress: Annotated[Egress, Meta(description="What is fetched on behalf of clients.")] = Egress()
    storage: Annotated[Storage, Meta(description="What is kept of answers, where, and for how long.")] = Storage()
    ledger: Annotated[
        Ledger,
        Meta(description="What is kept of requests, their usage and their cost, in the database of `[storage]`."),
    ] = Ledger()
    logging: Annotated[Logging, Meta(description="What is logged, and how.")] = Logging()


class Config(Document, frozen=True, kw_only=True):
    """The immutable snapshot the rest of Tidegate works from: a checked document that knows where it came from."""

    source: str = ""
    """The file it was read from; empty when there was none."""
    origins: dict[str, str] = {}
    """Origin of each value that is not a default, by path: `tidegate.toml:12`, `environment NAME`, `command line`."""

    @property
    def automatic(self) -> bool:
        """Whether this was put together without a file: then servers on local ports are looked for as well."""
        return not self.source
