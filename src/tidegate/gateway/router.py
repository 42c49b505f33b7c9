"""What the gateway has learnt of its deployments, and what that means for the next request."""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, get_args

import msgspec

from tidegate.config.schema import Config
from tidegate.gateway.slots import Slots
from tidegate.routing import retry
from tidegate.routing.balance import Loads, rendezvous
from tidegate.routing.health import Change, Health, State
from tidegate.telemetry.log import Logger
from tidegate.telemetry.metrics import Attempts, Metrics, Outcome
from tidegate.upstream.wheel import Wheel
from tidegate.wire import errors

if TYPE_CHECKING:
    from tidegate.gateway.snapshot import Path

__all__ = ["Router", "Trial"]

_CHANGES: tuple[Change, ...] = get_args(Change)
_STATES: tuple[State, ...] = get_args(State)


class Router:
    """Health, load and the retry budget of one process. It outlives the configuration; :meth:`configure` follows it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wheel: Wheel, config: Config, log: Logger) -> None:
        self._loop = loop
        self._wheel = wheel
        self._log = log
        self._slots: dict[str, Slots] = {}
        self.loads = Loads()
        self.retried: dict[str, int] = {}
        """Retries made at each provider."""
        self.health = Health()
        self.budget = retry.Budget(config.routing.retry_budget)
        self._retries: dict[str, retry.Retries] = {}
        self.configure(config)

    def configure(self, config: Config, changed: Iterable[str] = ()) -> None:
        """Another configuration holds, in which the `changed` providers are other than before, or are gone."""
        settings = config.routing
        self.budget.share = settings.retry_budget
        each = {name: provider.routing.over(settings) for name, provider in config.providers.items()}
        self.health.settings = settings.health()
        self.health.own = {name: own.health() for name, own in each.items() if own != settings}
        self._retries = {name: retry.Retries(own.retries) for name, own in each.items()}
        for name in self._slots.keys() - config.providers.keys():
            slots = self._slots[name]
            slots.configure(None)
            if not slots.running:  # what runs counts as well when the provider comes back
                del self._slots[name]
        for name, provider in config.providers.items():
            self.slots(name).configure(provider)
        gone = frozenset(changed)
        self.health.forget(gone)
        self.loads.forget(gone)

    def slots(self, provider: str) -> Slots:
        """Those of one provider."""
        found = self._slots.get(provider)
        if found is None:
            found = self._slots[provider] = Slots(provider, self._loop, self._wheel)
        return found

    def now(self) -> float:
        """The loop's time, by which everything here is measured."""
        return self._loop.time()

    def begin(self, path: "Path", affinity: str, outcomes: Attempts) -> "Trial":
        """An attempt goes to this deployment, in a slot of its provider that is held for it. How it ends is counted in
        `outcomes`."""
        now = self._loop.time()
        credential = self._credential(path, affinity, now) if path.upstream.credentials > 1 else 0
        health = self.health
        if health.has_notes and health.troubled(now):
            health.begin(path.destination.provider, path.destination.model, now)
        path.load.running += 1
        return Trial(self, path, credential, now, outcomes)

    def retry_in(self, path: "Path", done: int, error: errors.TidegateError, left_s: float, live: int) -> float | None:
        """Seconds until `path` is to be asked once more; None where it is not, or the total clock (`left_s`) would run out
        before. `live` requests are under way. The retry holds a part of the budget from now on."""
        provider = path.destination.provider
        retries = self._retries.get(provider)  # a reload may have taken it away
        if retries is None:
            return None
        wait = retries.wait(done, error.retry_after, random.random())  # noqa: S311 - jitter, not a secret
        if wait is None or wait >= left_s or not self.budget.take(live):
            return None
        self.retried[provider] = self.retried.get(provider, 0) + 1
        return wait

    def is_fit(self, path: "Path") -> bool:
        """Whether the deployment is in no trouble, so that the same may be tried there again."""
        destination = path.destination
        return self.health.fit(destination.provider, destination.model, path.upstream.credentials, self.now())

    def has_other_credential(self, path: "Path") -> bool:
        """Whether the deployment can be called with a credential that is in no trouble."""
        return path.upstream.credentials > 1 and self.is_fit(path)

    def report(self, change: Change | None, path: "Path", credential: int, error: str = "") -> None:
        """Tell the operator: a refused credential needs somebody to act, the rest mends itself."""
        if change is None:
            return
        log = self._log
        about = {"provider": path.destination.provider, "deployment": path.name}
        match change:
            case "ejected":
                log.warning("deployment_ejected", error=error, **about)
            case "returned":
                log.info("deployment_returned", **about)
            case "cooled":
                log.warning("credential_cooling", credential=credential, **about)
            case "denied":
                log.warning("credential_denied", credential=credential, **about)
            case "refused":
                log.error("credential_refused", credential=credential, error=error, **about)
            case "accepted":
                log.info("credential_accepted", credential=credential, **about)

    def register(self, metrics: Metrics, providers: Callable[[], Iterable[str]]) -> None:
        """The numbers that `/metrics` shows of it, for each of the present providers."""

        def changes() -> list[tuple[tuple[str, ...], float]]:
            counts = self.health.counts
            return [((name, change), counts.get((name, change), 0)) for name in providers() for change in _CHANGES]

        def unfit() -> list[tuple[tuple[str, ...], float]]:
            found = {(name, state): n for name, state, n in self.health.shut(self.now())}
            return [((name, state), found.get((name, state), 0)) for name in providers() for state in _STATES]

        metrics.counter(
            "tidegate_health_changes",
            "Changes of health: deployments ejected and returned, credentials cooled, denied a model, refused and accepted.",
            ("provider", "change"),
            changes,
        )
        metrics.counter(
            "tidegate_retries",
            "Attempts at the same deployment once more.",
            ("provider",),
            lambda: [((name,), self.retried.get(name, 0)) for name in providers()],
        )
        metrics.counter(
            "tidegate_retries_denied",
            "Retries that were not made because the budget was used up.",
            (),
            lambda: [((), self.budget.denied)],
        )
        metrics.gauge(
            "tidegate_provider_requests",
            "Requests under way at providers, and those that wait for a turn.",
            ("provider", "state"),
            lambda: [
                ((name, state), float(count))
                for name in providers()
                for state, count in (("running", self.slots(name).running), ("waiting", self.slots(name).waiting))
            ],
        )
        metrics.counter(
            "tidegate_turned_away",
            "Requests for which a provider had no room: its queue was full, or they waited in vain.",
            ("provider", "reason"),
            lambda: [
                ((name, reason), float(count))
                for name in providers()
                for reason, count in (("full", self.slots(name).full), ("late", self.slots(name).late))
            ],
        )
        metrics.gauge(
            "tidegate_unfit",
            "Deployments that are ejected, credentials that are cooling or refused.",
            ("provider", "state"),
            unfit,
        )

    def _credential(self, path: "Path", affinity: str, now: float) -> int:
        upstream = path.upstream
        count = upstream.credentials
        if affinity:
            order = rendezvous(affinity, [str(at) for at in range(count)], [1] * count)
        else:
            first = upstream.turn()
            order = [(first + at) % count for at in range(count)]
        if not self.health.has_notes or not self.health.troubled(now):
            return order[0]
        return self.health.credential(path.destination.provider, path.destination.model, order, now)


class Trial(msgspec.Struct, eq=False):
    """One attempt as routing sees it: reported on once, in whatever way it ends."""

    _router: Router
    path: "Path"
    credential: int
    _begun_at: float
    _outcomes: Attempts
    _heard: bool = False
    _ended: bool = False

    def heard(self) -> None:
        """The first event of a stream is there."""
        if not self._heard:
            self._heard = True
            self.path.load.heard(self._router.now() - self._begun_at)

    def succeeded(self) -> None:
        if self._end("answered"):
            health = self._router.health
            if health.has_notes and health.troubled(now := self._router.now()):
                destination = self.path.destination
                change = health.succeeded(
                    destination.provider, destination.model, self.credential, now, began=self._begun_at
                )
                self._router.report(change, self.path, self.credential)

    def failed(self, error: errors.TidegateError) -> bool:
        """It ended with `error`, which may be nobody's fault but the request's. Whether that was not known before."""
        if not self._end("refused" if error.refuses else "failed" if error.fault == "provider" else "left"):
            return False
        health, now, began = self._router.health, self._router.now(), self._begun_at
        provider, model = self.path.destination.provider, self.path.destination.model
        match retry.verdict(error):
            case "credential" if isinstance(error, errors.UpstreamRateLimited):
                change = health.limited(provider, model, self.credential, now, error.retry_after, began=began)
            case "credential" if isinstance(error, errors.UpstreamDenied):
                change = health.denied(provider, model, self.credential, now, began=began)
            case "credential":
                change = health.refused(provider, model, self.credential, now, began=began)
            case "again" | "elsewhere" if error.fault == "provider":
                change = health.failed(provider, model, now, began=began)
            case _ if isinstance(error, errors.UpstreamFailed):
                # A request that it refuses is an answer: the deployment is there.
                change = health.succeeded(provider, model, self.credential, now, began=began)
            case _:
                health.unknown(provider, model, began=began)
                return True
        self._router.report(change, self.path, self.credential, error.code or "")
        return True

    def left(self) -> None:
        """It was given up, and says nothing of the deployment."""
        if self._end("left"):
            destination = self.path.destination
            self._router.health.unknown(destination.provider, destination.model, began=self._begun_at)

    def _end(self, outcome: Outcome) -> bool:
        if self._ended:
            return False
        self._ended = True
        self._outcomes[outcome] += 1
        path = self.path
        path.load.running -= 1
        path.slots.give_back()
        return True
