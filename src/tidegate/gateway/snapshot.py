"""Everything that a request is decided by, immutable: a reload makes a new one and swaps it in whole."""

import copy
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import get_args

import msgspec

from tidegate.access.keys import KeyRing
from tidegate.config.schema import Config
from tidegate.dialects.codec import UpstreamDialect
from tidegate.dialects.dialect import Destination, Endpoint
from tidegate.dialects.profile import PROFILES, Profile
from tidegate.gateway.dialects import UPSTREAM_DIALECTS
from tidegate.gateway.fields import header_value
from tidegate.gateway.router import Router
from tidegate.gateway.slots import Slots
from tidegate.gateway.textbound import TextBound
from tidegate.providers import record as records
from tidegate.providers.registry import REGISTRY
from tidegate.routing.balance import Candidate, Load
from tidegate.routing.catalog import Alias, Catalog, Deployment, Target
from tidegate.routing.retry import Condition
from tidegate.upstream.connection import Clocks
from tidegate.upstream.provider import Upstream
from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest, ModelNotFound, UpstreamFailed, UpstreamRateLimited

__all__ = ["Path", "PriceOf", "Snapshot"]

_REMEMBERED = 4096
_UNBRIDGED: frozenset[Endpoint] = frozenset({"embeddings", "speech", "transcription", "translation"})
"""Endpoints that no conversation can stand in for."""


PriceOf = Callable[[Deployment, Endpoint], float | None]
"""What a deployment costs at this moment, as a number by which those of an endpoint compare; None where unknown."""


class Path(msgspec.Struct, frozen=True):
    """A deployment seen from one endpoint: all that an attempt needs, worked out once."""

    upstream: Upstream
    destination: Destination
    bridge: UpstreamDialect | None
    """The provider's dialect, where it is not the client's."""
    emulation: UpstreamDialect | None
    """What takes the place of a missing `bridge` for a request with stop sequences, which the provider does not know."""
    streamed: Clocks
    unstreamed: Clocks
    send_stall: float
    """Seconds that a client may refuse to read."""
    name: str
    """`provider/model`, fit for a header."""
    fields: bytes
    """The response headers that name it, up to the number of attempts."""
    load: Load
    """What it has to do; shared by all paths to the deployment."""
    slots: Slots
    """Those of the provider."""
    bound: TextBound
    """What text costs there at most."""


class Snapshot:
    """One state of the configuration, together with what providers are known to offer."""

    def __init__(
        self,
        config: Config,
        upstreams: Mapping[str, Upstream],
        listings: Mapping[str, Iterable[str] | None],
        keys: KeyRing,
        router: Router,
        price_of: PriceOf,
    ) -> None:
        self.config = config
        self.router = router
        self.price_of = price_of
        self.upstreams = dict(upstreams)
        self.listings = {name: None if ids is None else tuple(ids) for name, ids in listings.items()}
        self.keys = keys
        self.profile: Profile = PROFILES[config.defaults.profile]
        defaults = config.defaults
        self.default_model = defaults.model
        self.default_models: Mapping[Endpoint, str] = {
            "speech": defaults.speech_model,
            "transcription": defaults.transcription_model,
            "translation": defaults.transcription_model,
        }
        """Of the endpoints that a model for text does not serve."""
        aliases = {
            name: Alias(
                tuple(Target(one.model, one.weight, one.price) for one in model.choices),
                model.fallback,
                model.strategy,
                model.sticky,
            )
            for name, model in config.models.items()
        }
        self.catalog = Catalog(aliases, {name: self._listed(name) for name in self.upstreams})
        self.able = {
            endpoint: frozenset(name for name, one in self.upstreams.items() if endpoint in one.record.speaks)
            for endpoint in get_args(Endpoint)
        }
        """The providers that serve each endpoint."""
        self._watches = any(model.strategy != "weighted" for model in config.models.values()) or any(
            provider.max_concurrent is not None for provider in config.providers.values()
        )
        """How deployments stand is looked at even while all is well: by some strategy, or as there may be no room."""
        self._paths: dict[tuple[Deployment, Endpoint, str], Path | None] = {}
        self._plans: dict[tuple[str, Endpoint, str], list[Path]] = {}

    def _listed(self, name: str) -> tuple[str, ...] | None:
        """What a provider is known to offer. The simulator never stands in for a model that nobody else is known to
        have: only the names of its own list, and `sim/…`, lead there."""
        listed = self.listings.get(name)
        simulator = self.upstreams[name].record.embedded and not self.config.providers[name].base_url
        return () if listed is None and simulator else listed

    def with_listings(self, listings: Mapping[str, Iterable[str] | None]) -> "Snapshot":
        """The same configuration, with other knowledge of what providers offer."""
        return Snapshot(
            self.config, self.upstreams, {**self.listings, **listings}, self.keys, self.router, self.price_of
        )

    def with_keys(self, keys: KeyRing) -> "Snapshot":
        """The same, with other keys. What was worked out of the rest is shared."""
        other = copy.copy(self)
        other.keys = keys
        return other

    def plan(
        self,
        model: str,
        endpoint: Endpoint,
        path: str,
        unsupported: str,
        now: float,
        affinity: str = "",
        *,
        param: str = "model",
    ) -> list[Path]:
        """The attempts for the model name that the request has in `param`, best first, as things stand at `now` (loop
        time). Targets are chosen anew each time, but alike for the same `affinity`.

        `unsupported` is the key's word on what a provider cannot honour: `refuse`, `drop`, or empty. Raises ModelNotFound,
        and InvalidRequest when no provider of the model serves `endpoint`, whose public path is `path`.
        """
        found = self._plans.get((model, endpoint, unsupported))
        if found is None or (len(found) > 1 and self.router.health.has_notes):
            try:
                return self._planned(model, endpoint, path, unsupported, now, affinity)
            except (ModelNotFound, InvalidRequest) as error:
                error.param = param
                raise
        return found

    def joined(self, plans: Sequence[list[Path]], now: float) -> list[Path]:
        """One plan of several, each deployment once. As in each of them, what is in trouble comes last."""
        found: list[Path] = []
        for path in chain.from_iterable(plans):
            one = path.destination
            if all(
                (one.provider, one.model) != (known.destination.provider, known.destination.model) for known in found
            ):
                found.append(path)
        health = self.router.health
        if health.troubled(now):
            found.sort(
                key=lambda one: (
                    not health.fit(one.destination.provider, one.destination.model, one.upstream.credentials, now)
                )
            )
        return found

    def fallback_on(self, model: str, others: Sequence[str] = ()) -> frozenset[Condition]:
        """The refusals after which the route of this name goes on. Where the request itself names `others`, all of them:
        that is what the list is for at OpenRouter, too."""
        if others:
            return frozenset(get_args(Condition))
        alias = self.config.models.get(model)
        return frozenset() if alias is None else frozenset(alias.fallback_on)

    def continues(self, model: str) -> bool:
        """Whether the route of this name goes on with answers that have broken off."""
        alias = self.config.models.get(model)
        return alias is not None and alias.continue_broken

    def _planned(
        self, model: str, endpoint: Endpoint, path: str, unsupported: str, now: float, affinity: str
    ) -> list[Path]:
        draw = random.random()  # noqa: S311 - load balancing, not a secret
        drawn = self.catalog.draws(model)
        view = _Standing(self, endpoint, now) if (drawn and self._watches) or self.router.health.troubled(now) else None
        try:
            steps = self.catalog.plan(model, draw, self.able[endpoint], view=view, sticky=affinity)
        except ModelNotFound as error:
            raise self._with_advice(error, model) from None
        found = [one for step in steps if (one := self.path(step, endpoint, unsupported)) is not None]
        if not found:
            provider = steps[0].provider
            speaks = self.upstreams[provider].record.speaks_for(steps[0].model)
            raise InvalidRequest(
                f"The model '{model}' is served by provider '{provider}', which does not speak {path} "
                f"('{endpoint}'). It speaks: {', '.join(speaks)} (providers.{provider}.speaks).",
                param="model",
                code="unsupported_endpoint",
            )
        if view is None and not drawn:
            if len(self._plans) >= _REMEMBERED:
                self._plans.clear()
            self._plans[model, endpoint, unsupported] = found
        return found

    def allowed(self, plan: list[Path], now: float) -> list[Path]:
        """The attempts of `plan` whose providers have not asked to be left alone for longer: to call them in spite of that
        only makes it worse, as their limits count refused requests as well. Raises UpstreamRateLimited where none is left.
        """
        health = self.router.health
        if not health.troubled(now):
            return plan
        waits = [
            health.wait(one.destination.provider, one.destination.model, one.upstream.credentials, now) for one in plan
        ]
        if all(waits):
            names = ", ".join(dict.fromkeys(f"'{one.destination.provider}'" for one in plan))
            raise UpstreamRateLimited(
                f"Provider {names} limits the rate, and has asked not to be called for another {min(waits):.1f} s; send "
                "the request again then.",
                retry_after=min(waits),
            )
        return [one for one, wait in zip(plan, waits, strict=True) if not wait]

    def told_of_model(self, message: str, deployment: Destination) -> str:
        """What a provider says of a model that it does not have, in the names that clients use."""
        name = f"{deployment.provider}/{deployment.model}"
        for quote in "'\"`":
            theirs = f"{quote}{deployment.model}{quote}"
            if theirs in message:
                told = message.replace(theirs, f"{quote}{name}{quote}")
                return f"{told} {self.catalog.near(name)}".rstrip()
        return message

    def without_path(self, path: Path) -> UpstreamFailed:
        """The provider has said that it has no such path as its record names for the endpoint."""
        provider, endpoint = path.destination.provider, path.destination.endpoint
        left = [one for one in path.upstream.record.speaks if one != endpoint]
        setting = f"set speaks = {jsonio.encode(left).decode()} in" if left else "see base_url of"
        return UpstreamFailed(
            f"Provider '{provider}' does not serve {path.upstream.path_of(path.destination)}: it answered 404. If that is so, "
            f"{setting} [providers.{provider}].",
            status=400,
            type="invalid_request_error",
            retryable=False,
            param="model",
            code="unsupported_endpoint",
        )

    def _with_advice(self, error: ModelNotFound, model: str) -> ModelNotFound:
        """A model of a provider that we know, but that is not set up here."""
        kind = REGISTRY.get(model.partition("/")[0])
        if kind is None or not kind.env or kind.kind in self.upstreams or "/" not in model:
            return error
        advice = f"To use provider '{kind.kind}', set {kind.env[0]} and start again, or add [providers.{kind.kind}]."
        return ModelNotFound(f"{error.message} {advice}", param="model")

    def path(self, deployment: Deployment, endpoint: Endpoint, unsupported: str) -> Path | None:
        """How `deployment` is called for `endpoint`; None when its provider speaks nothing that could serve it."""
        key = (deployment, endpoint, unsupported)
        if key in self._paths:
            return self._paths[key]
        if len(self._paths) >= _REMEMBERED:  # names come from clients, so that there is no end to them
            self._paths.clear()
        found = self._paths[key] = self._find(deployment, endpoint, unsupported)
        return found

    def _find(self, deployment: Deployment, endpoint: Endpoint, unsupported: str) -> Path | None:
        upstream = self.upstreams[deployment.provider]
        record = upstream.record
        spoken = _spoken(record.speaks_for(deployment.model), endpoint)
        if spoken is None:
            return None
        streamed = record.clocks_for(deployment.model, stream=True)
        unstreamed = record.clocks_for(deployment.model, stream=False)
        if deployment.alias:
            alias = self.config.models[deployment.alias]
            unsupported = unsupported or alias.unsupported or ""
            timeouts = alias.choices[deployment.position].timeouts
            streamed = timeouts.over(streamed)
            unstreamed = timeouts.over(unstreamed)
        refuses = record.refuses.get(spoken, frozenset())
        speech = record.speech_of(deployment.model)
        if spoken == "speech":
            refuses |= speech.refuses
        destination = Destination(
            provider=deployment.provider,
            model=deployment.model,
            endpoint=spoken,
            refuses=refuses,
            stores=record.stores,
            encrypted_reasoning=record.encrypted_reasoning,
            include_usage=record.include_usage,
            gateway_state=record.state == "gateway",
            cut_reported_as_completed=record.cut_reported_as_completed,
            operations=record.operations.get(spoken, frozenset()),
            fetches_urls=record.fetches_urls,
            whole=record.answers_whole(deployment.model, spoken),
            drops=(unsupported or self.config.defaults.unsupported) == "drop",
            max_output_tokens=record.max_output_of(deployment.model),
            max_input_tokens=record.max_input_of(deployment.model),
            thinks_apart=record.thinks_apart_of(deployment.model),
            tool_rounds=record.tool_rounds_of(deployment.model),
            traits=record.traits_of(deployment.model),
            speech=speech,
            quirks=record.quirks,
            names_files=record.names_files_of(deployment.model),
        )
        name = header_value(deployment.name)
        return Path(
            upstream,
            destination,
            UPSTREAM_DIALECTS[spoken] if spoken != endpoint else None,
            UPSTREAM_DIALECTS.get(spoken) if "stop" in refuses else None,
            _clocks(streamed),
            _clocks(unstreamed),
            streamed.send_stall,
            name.decode("ascii"),
            b"tidegate-deployment: %b\r\ntidegate-attempts: " % name,
            self.router.loads.of(deployment.provider, deployment.model),
            self.router.slots(deployment.provider),
            TextBound(destination),
        )


def _spoken(speaks: Sequence[Endpoint], endpoint: Endpoint) -> Endpoint | None:
    """The dialect for a request to `endpoint`: its own where the provider speaks it, else the first that the hub knows."""
    if endpoint in speaks:
        return endpoint
    if endpoint in _UNBRIDGED:
        return None
    return next((one for one in speaks if one in UPSTREAM_DIALECTS), None)


def _clocks(given: records.Clocks) -> Clocks:
    return Clocks(connect=given.connect, first_event=given.first_event, idle=given.idle, total=given.total)


class _Standing:
    """How deployments stand at one moment (see :class:`tidegate.routing.catalog.View`)."""

    __slots__ = ("_endpoint", "_now", "_snapshot", "_troubled")

    def __init__(self, snapshot: Snapshot, endpoint: Endpoint, now: float) -> None:
        self._snapshot = snapshot
        self._endpoint = endpoint
        self._now = now
        self._troubled = snapshot.router.health.troubled(now)

    def fit(self, deployment: Deployment) -> bool:
        if not self._troubled:
            return True
        snapshot, provider = self._snapshot, deployment.provider
        credentials = snapshot.upstreams[provider].credentials
        return snapshot.router.health.fit(provider, deployment.model, credentials, self._now)

    def candidate(self, deployment: Deployment, target: Target) -> Candidate:
        load = self._snapshot.router.loads.of(deployment.provider, deployment.model)
        # While one is full, targets that count alike take over; what is a fallback waits.
        fit = self.fit(deployment) and not self._snapshot.router.slots(deployment.provider).is_full
        return Candidate(deployment.name, target.weight, fit, load.running, load.first_event, target.price)

    def price(self, deployment: Deployment) -> float | None:
        return self._snapshot.price_of(deployment, self._endpoint)
