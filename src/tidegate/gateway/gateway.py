"""The gateway as a whole: the present snapshot, what runs, and what is counted."""

import asyncio
import os
import time
from collections.abc import Iterable, Mapping

from tidegate.access.administration import Administration
from tidegate.access.books import LedgerBooks
from tidegate.access.catalogue import EMPTY, CatalogueUnusable, fetch_catalogue
from tidegate.access.engines import make_limiter
from tidegate.access.failures import Failures
from tidegate.access.keys import KeyRing, Principal
from tidegate.access.ledger import Ledger
from tidegate.access.limits import Limiter
from tidegate.access.prices import Deployed, Prices
from tidegate.access.queue import StreamQueue
from tidegate.config.schema import Config
from tidegate.dialects.dialect import Endpoint
from tidegate.dialects.envelope import KEY_BYTES, Envelopes, Sealer
from tidegate.gateway.continuation import Continuations
from tidegate.gateway.exchange import Exchange
from tidegate.gateway.keeper import Keeper
from tidegate.gateway.models import Model, fetch_listings
from tidegate.gateway.relisting import Relisting
from tidegate.gateway.router import Router
from tidegate.gateway.snapshot import Snapshot
from tidegate.gateway.tenant import envelope_name
from tidegate.gateway.turns import Turns
from tidegate.storage.access import AdminRow
from tidegate.storage.entry import UsageEntry
from tidegate.storage.records import Part, Usage
from tidegate.storage.storage import Storage
from tidegate.telemetry.log import LineWriter, get_logger
from tidegate.telemetry.metrics import Metrics
from tidegate.upstream.media import EgressPolicy, MediaFetcher
from tidegate.upstream.provider import Upstream
from tidegate.upstream.wheel import Wheel
from tidegate.wire.errors import InvalidKey, ShuttingDown

__all__ = ["Gateway"]

_ANSWERED = frozenset({"completed", "incomplete"})

DEPARTURES = 16
"""So many clients that have left are done with in one turn of the loop: that takes less than a millisecond."""

PRICES_S = 5.0
"""How long a gateway that is told to stop waits for the prices that settled requests wait for."""


class Gateway:
    """Owns the snapshot and the running exchanges. One per process; lives on one event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        *,
        environment: Mapping[str, str] | None = None,
        embedded: Mapping[str, str] | None = None,
        request_log: LineWriter | None = None,
        envelope_key: bytes | None = None,
        storage: Storage | None = None,
        administration: Administration | None = None,
    ) -> None:
        """`embedded` gives the base URLs of servers that this process runs itself, by kind. Without an `envelope_key`
        the reasoning that clients carry is good for as long as the process lives.

        Raises ProviderUnusable.
        """
        self.loop = loop
        self.log = get_logger()
        self.wheel = Wheel(loop)
        self.metrics = Metrics()
        self.router = Router(loop, self.wheel, config, self.log)
        self.continuations = Continuations(self.log)
        self.exchanges: set[Exchange] = set()
        self.departures = Turns(loop, DEPARTURES)
        """Clients that have left, and whose exchanges end."""
        self.models: dict[str, tuple[Model, ...]] = {}
        self.draining = False
        """Told to stop: whoever asks learns it, and every answer is the last one on its connection."""
        self.refusing = False
        """No new work is taken on."""
        self.closed = False
        """Nothing may begin any more, not even what was taken on."""
        self.websockets = 0
        """How many are open."""
        self._sealer = Sealer(envelope_key or os.urandom(KEY_BYTES))
        self._envelopes: dict[str, Envelopes] = {}
        self.media = self._fetcher(config)
        self.storage = storage
        self.keeper = None if storage is None else Keeper(loop, storage, config.storage)
        self.limiter: Limiter = make_limiter(
            config.limits, None if storage is None else LedgerBooks(storage), self.log.warning
        )
        self.stream_queue = StreamQueue(config.limits.queue, float(config.limits.queue_timeout))
        self.administration = administration
        self._failures = Failures()
        self._environment = os.environ if environment is None else environment
        self._embedded = dict(embedded or {})
        self._request_log = request_log
        self._listing: asyncio.Task[None] | None = None
        self._relisting = Relisting(loop, self._unlisted, self._ask_again)
        self._loading: asyncio.Task[None] | None = None
        self._catalogue = EMPTY
        self._lists: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
        """The addresses and names whose price lists the catalogue has, as far as there are such."""
        self.prices = Prices(config.prices, config.providers)
        self.ledger = Ledger(loop, storage, self.prices, self._on_settled)
        self.snapshot = self._build(config)
        if administration is not None:
            administration.on_change = self.refresh_keys
        self._register_gauges()
        self.router.register(self.metrics, lambda: self.snapshot.upstreams)
        self.continuations.register(self.metrics, lambda: self.snapshot.upstreams)
        if storage is not None:
            storage.on_usage_interrupted = self.limiter.interrupted
            storage.register_gauges(self.metrics)

    # -- requests -----------------------------------------------------------------------------------------------

    def authenticate(
        self, headers: Mapping[bytes, bytes], given: bytes | None = None, *, client: str = "", endpoint: str = ""
    ) -> Principal:
        """Who calls, from the address `client`; `given` is a key that stands in the address of the request. Raises
        InvalidKey, Forbidden when the key may not be used from there or for the endpoint, and TooManyFailures."""
        try:
            principal = self.snapshot.keys.authenticate(headers, given)
        except InvalidKey:
            self._failures.note(client)
            raise
        if principal.addresses or principal.endpoints:
            principal.permit(client, endpoint)
        return principal

    def authenticate_admin(self, headers: Mapping[bytes, bytes], client: str) -> AdminRow | Principal:
        """Who sends a request to the admin API: an admin, or the holder of a virtual key. Raises as `authenticate`."""
        try:
            found = self.snapshot.keys.authenticate_admin(headers)
        except InvalidKey:
            self._failures.note(client)
            raise
        if isinstance(found, Principal) and found.addresses:
            found.permit(client, "")
        return found

    def envelopes(self, principal: Principal) -> Envelopes:
        """In which the clients of this caller's tenant carry what only providers can read."""
        tenant = envelope_name(principal)
        found = self._envelopes.get(tenant)
        if found is None:
            found = self._envelopes[tenant] = Envelopes(self._sealer, tenant)
        return found

    def settle(self, entry: UsageEntry, provider: str, cost_nano: int | None = 0, parts: tuple[Part, ...] = ()) -> None:
        """Record one usage entry: numbers and one log line. What was used elsewhere than at the last provider is counted
        there."""
        series = self.metrics.series(entry.endpoint, provider)
        series.statuses[entry.status] += 1
        series.endings[entry.ending] += 1
        series.duration.observe(entry.duration_ms / 1000)
        if entry.first_event_ms is not None:
            series.first_event.observe(entry.first_event_ms / 1000)
        series.input_tokens += entry.input_tokens
        series.cached_tokens += entry.cached_tokens
        series.output_tokens += entry.output_tokens
        series.reasoning_tokens += entry.reasoning_tokens
        series.estimated += entry.estimated
        if cost_nano is None:
            series.unpriced += 1
        else:
            series.cost_nano += cost_nano
        for part in parts:
            if part.provider != provider:
                theirs = self.metrics.series(entry.endpoint, part.provider)
                for name in ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"):
                    series.move(name, getattr(part, name), theirs)
                if cost_nano is not None:
                    series.move("cost_nano", part.cost_nano or 0, theirs)
        if self._request_log is not None:
            self._request_log.write(entry)

    def _on_settled(self, usage: Usage) -> None:
        self.settle(usage.entry, usage.provider, usage.cost_nano, usage.parts)
        if usage.entry.ending in _ANSWERED:
            self._relisting.answered(usage.provider)

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin what runs beside requests: asking providers for their models, and reading the catalogue of prices."""
        self.refresh_models()
        self._load_prices()

    def reload(self, config: Config, *, embedded: Mapping[str, str] | None = None) -> None:
        """Swap in another configuration. Running requests end on the one they began with.

        `embedded` adds servers that this process runs itself. Raises ProviderUnusable, and keeps the old configuration then.
        """
        old = self.snapshot
        self._embedded.update(embedded or {})
        fresh = self._build(config)
        self.media = self._fetcher(config)
        self.router.configure(
            config,
            [name for name, provider in old.config.providers.items() if config.providers.get(name) != provider],
        )
        # What an unchanged provider offers is still known: bare names must not lead elsewhere until it is asked again.
        self.snapshot = fresh.with_listings(
            {
                name: old.listings[name]
                for name, provider in config.providers.items()
                if old.config.providers.get(name) == provider
            }
        )
        self.limiter.forget_gates()
        for upstream in old.upstreams.values():
            upstream.close()
        self.refresh_models()
        self._price(config)
        self._load_prices()

    def add_provider(self, config: Config) -> None:
        """Swap in a configuration that differs by more providers only; connections stay."""
        old = self.snapshot
        upstreams = {name: old.upstreams.get(name) or self._upstream(name, config) for name in config.providers}
        self.router.configure(config)
        self.snapshot = Snapshot(config, upstreams, old.listings, old.keys, self.router, self._price_of)
        self.refresh_models(name for name in upstreams if name not in old.upstreams)
        self._price(config)
        self._load_prices()

    def refresh_keys(self) -> None:
        """Swap in the keys as they are managed now. Running requests go on with what they began with."""
        self.snapshot = self.snapshot.with_keys(self._ring(self.snapshot.config))
        self.limiter.forget_gates()

    def refresh_models(self, only: Iterable[str] | None = None) -> None:
        """Ask providers for their lists, in the background."""
        chosen = None if only is None else frozenset(only)
        previous = self._listing

        async def run() -> None:
            if previous is not None:
                await asyncio.wait([previous])
            await self._refresh(chosen)
            self._relisting.begin()

        self._listing = self.loop.create_task(run())

    async def models_known(self) -> dict[str, tuple[Model, ...]]:
        """The lists of all providers, as soon as every one has answered or been given up."""
        if self._listing is not None:
            await asyncio.wait([self._listing])
        return self.models

    async def prepare(self) -> None:
        """What must be known before the first request."""
        if self.keeper is not None:
            await self.keeper.quota.start()

    def begin_drain(self) -> None:
        """Nothing new is to come; another gateway may be taking over."""
        self.draining = True
        if self.keeper is not None:
            self.keeper.storage.leave()

    def end_exchanges(self) -> None:
        """End what still runs, in the form of its dialect. Repetitions of an answer that ends so come to its end by
        themselves."""
        self.draining = self.refusing = self.closed = True
        for exchange in list(self.exchanges):
            if not exchange.repeats:
                exchange.stop(ShuttingDown())

    async def close(self) -> None:
        """End what still runs, and close every connection."""
        self.end_exchanges()
        if self._listing is not None:
            self._listing.cancel()
            await asyncio.wait([self._listing])
        await self._relisting.close()
        for exchange in list(self.exchanges):
            exchange.stop(ShuttingDown())
        self.ledger.flush()
        if self._loading is not None:
            if self.ledger.waiting:
                await asyncio.wait([self._loading], timeout=PRICES_S)
            self._loading.cancel()
            await asyncio.wait([self._loading])
        self.ledger.loaded()
        for upstream in self.snapshot.upstreams.values():
            upstream.close()
        await self.limiter.close()
        if self.keeper is not None:
            await self.keeper.quota.close()
        self.wheel.close()

    # -- prices -------------------------------------------------------------------------------------------------

    def _price(self, config: Config) -> None:
        self.prices = self.ledger.prices = Prices(config.prices, config.providers, self._catalogue)

    def _price_of(self, deployment: Deployed, endpoint: Endpoint) -> float | None:
        """See :data:`tidegate.gateway.snapshot.PriceOf`: by the prices as they are known now."""
        return self.prices.typical(deployment, endpoint, time.time())

    def _load_prices(self) -> None:
        """Read the price lists that are not there yet, in the background."""
        addresses, names = self.prices.wanted
        if (addresses <= self._lists[0] and names <= self._lists[1]) or self.ledger.is_loading:
            return
        self.ledger.is_loading = True
        self._loading = self.loop.create_task(self._read_prices(addresses, names))

    async def _read_prices(self, addresses: frozenset[str], names: frozenset[str]) -> None:
        try:
            self._catalogue = await fetch_catalogue(addresses, names)
        except CatalogueUnusable as error:
            self.log.warning("prices_unknown", reason=str(error), hint="Prices of the configuration are known.")
        self._lists = addresses, names
        self._price(self.snapshot.config)
        self.ledger.loaded()
        self._load_prices()  # another configuration may have come meanwhile

    # -- inside -------------------------------------------------------------------------------------------------

    def _fetcher(self, config: Config) -> MediaFetcher:
        egress = config.egress
        policy = EgressPolicy(
            fetch=egress.fetch_media,
            allow_private=egress.allow_private,
            max_bytes=int(egress.max_media),
            timeout_s=float(egress.timeout),
        )
        return MediaFetcher(policy, self.loop, self.wheel)

    def _build(self, config: Config) -> Snapshot:
        upstreams = {name: self._upstream(name, config) for name in config.providers}
        listings = {name: provider.models or None for name, provider in config.providers.items()}
        return Snapshot(config, upstreams, listings, self._ring(config), self.router, self._price_of)

    def _ring(self, config: Config) -> KeyRing:
        administration = self.administration
        if administration is None:
            return KeyRing(
                config.keys,
                projects=config.projects,
                organizations=config.organizations,
                unlimited=self.limiter.unlimited,
            )
        return KeyRing(
            config.keys,
            administration.directory,
            administration.peppers,
            projects=config.projects,
            organizations=config.organizations,
            unlimited=self.limiter.unlimited,
        )

    def _upstream(self, name: str, config: Config) -> Upstream:
        settings = config.providers[name]
        return Upstream(
            name,
            settings,
            self.loop,
            self.wheel,
            base_url=None if settings.base_url else self._embedded.get(settings.kind),
            environment=self._environment,
        )

    def _unlisted(self) -> frozenset[str]:
        """The providers whose lists are not known."""
        return frozenset(self.snapshot.upstreams.keys() - self.models.keys())

    async def _ask_again(self, only: frozenset[str]) -> None:
        await self._refresh(only, quiet=True)
        for name in sorted(only & self.models.keys()):
            self.log.info("model_list_found", provider=name, models=len(self.models[name]))

    async def _refresh(self, only: frozenset[str] | None, *, quiet: bool = False) -> None:
        snapshot = self.snapshot
        chosen = [
            upstream
            for name, upstream in snapshot.upstreams.items()
            if (only is None or name in only) and not upstream.config.models
        ]
        found = await fetch_listings(chosen, quiet=quiet)
        if self.snapshot.config is not snapshot.config:
            return  # a reload came in between; it asks anew
        known = {name: models for name, models in found.items() if models is not None}
        for name, upstream in snapshot.upstreams.items():
            if upstream.config.models:
                known[name] = tuple(Model(id=one, created=0, owned_by=name) for one in upstream.config.models)
        self.models = {**{k: v for k, v in self.models.items() if k in snapshot.upstreams}, **known}
        self.snapshot = self.snapshot.with_listings(
            {
                name: None if name not in self.models else [one.id for one in self.models[name]]
                for name in snapshot.upstreams
            }
        )

    def _register_gauges(self) -> None:
        gauge = self.metrics.gauge
        gauge("tidegate_exchanges_running", "Requests under way.", (), lambda: [((), float(len(self.exchanges)))])
        gauge(
            "tidegate_reservations_open",
            "Requests under way that limits hold for.",
            (),
            lambda: [((), float(self.limiter.open))],
        )
        gauge(
            "tidegate_limits_waiting",
            "Requests that wait for another one under way to end.",
            (),
            lambda: [((), float(self.stream_queue.waiting))],
        )
        self.metrics.counter(
            "tidegate_limit_refusals",
            "Requests that limits did not let pass, by level and kind of the limit.",
            ("level", "kind"),
            lambda: [(names, float(count)) for names, count in self.limiter.refused.items()],
        )
        gauge("tidegate_websockets_open", "WebSockets of clients.", (), lambda: [((), float(self.websockets))])
        gauge(
            "tidegate_upstream_connections",
            "Connections to providers, by state.",
            ("provider", "state"),
            lambda: [
                ((name, state), float(count))
                for name, upstream in self.snapshot.upstreams.items()
                for state, count in (
                    ("idle", upstream.pool.idle_count),
                    ("busy", upstream.pool.open_count - upstream.pool.idle_count),
                )
            ],
        )
        log = self._request_log
        gauge(
            "tidegate_log_lines_dropped",
            "Lines of the log that could not be written.",
            (),
            lambda: [((), float(self.log.dropped + (0 if log is None else log.dropped)))],
        )
