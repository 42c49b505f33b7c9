"""Which deployments and credentials are fit to be asked. Pure: the present time is an argument.

Only what is in trouble is remembered, so that a healthy gateway pays one comparison per request and memory is bounded
by the number of things that fail. Three kinds of trouble are told apart:

- a **cooldown**: one credential has met the rate limit of one deployment, and rests as long as the provider says; or it
  may not use that deployment's model, and rests as long as it may at most;
- a **refused credential**: the provider does not take it, whatever the model; it is tried again now and then, for keys
  are also blocked for a while or topped up;
- an **ejection**: a deployment failed too often. When its time is over one request probes it (half-open); if that fails,
  it stays out for twice as long.

Nothing is ever closed for good: where everything is in trouble, the least bad is asked all the same, but for a rate
limit that the provider itself has put a time to.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, Literal, TypeVar

import msgspec

__all__ = ["Change", "Health", "Settings", "State"]

REMEMBERED = 4096
"""Most deployments, and most credentials, whose trouble is remembered: names of models come from clients."""

PROBE_S = 30.0
"""A probe of which nothing was heard for so long is given up, and the next request may be one."""

WINDOW_S = 60.0
"""Failures that lie further back than this do not count together."""

REFUSED_S = 300.0
"""How long a refused credential is left alone the first time; each further time twice as long."""

REFUSED_LIMIT_S = 3600.0

SWEEP_S = 60.0
"""How often what lies long behind is looked for and forgotten."""

Key = TypeVar("Key")
Value = TypeVar("Value")

Change = Literal["ejected", "returned", "cooled", "denied", "refused", "accepted"]
"""What a report has changed: worth a line in the log and a count."""

State = Literal["ejected", "cooling", "refused"]
"""What a deployment, or a credential, can be in."""


class Settings(msgspec.Struct, frozen=True):
    """When something is left alone, and for how long (seconds)."""

    eject_after: int = 5
    """Failures in a row after which a deployment is ejected; 0 never does."""
    eject_share: float = 0.5
    """Share of failures that does it as well, once there were `eject_least` requests within a minute."""
    eject_least: int = 20
    eject_for: float = 5.0
    eject_limit: float = 300.0
    cooldown: float = 5.0
    """Rest after a rate limit for which the provider gave no time."""
    cooldown_limit: float = 60.0
    """Longest rest after one: nobody's header may close a deployment for good."""


class _Outlier:
    """A deployment with failures in its recent past."""

    __slots__ = (
        "consecutive",
        "ejected_until",
        "ejections",
        "failures",
        "probed_at",
        "probing_until",
        "since",
        "total",
    )

    def __init__(self, now: float) -> None:
        self.consecutive = 0
        self.failures = 0
        self.total = 0
        self.since = now
        self.ejections = 0
        self.ejected_until = -math.inf
        """Stays in the past until a probe has succeeded: the deployment is half-open then."""
        self.probed_at = self.probing_until = -math.inf

    @property
    def out(self) -> bool:
        return self.ejected_until > -math.inf

    def shut(self, now: float) -> bool:
        """Whether requests are to go elsewhere: it is ejected, or another request probes it."""
        return self.out and (now < self.ejected_until or now < self.probing_until)


class _Rest:
    """A credential that is left alone until some time."""

    __slots__ = ("times", "told_until", "until")

    def __init__(self) -> None:
        self.until = -math.inf
        self.times = 0
        self.told_until = -math.inf
        """The time that the provider itself named, if it did; it may lie far behind the end of the rest."""


class _Recent(Generic[Key, Value]):
    """A mapping that forgets what was written longest ago when it is full."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: dict[Key, Value] = {}

    def put(self, key: Key, value: Value) -> None:
        self.found.pop(key, None)
        if len(self.found) >= REMEMBERED:
            del self.found[next(iter(self.found))]
        self.found[key] = value


class Health:
    """What is known of deployments, given by provider and model, and of credentials, given by their position."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.own: Mapping[str, Settings] = {}
        """Of the providers that have settings of their own."""
        self._outliers: _Recent[tuple[str, str], _Outlier] = _Recent()
        self._cooling: _Recent[tuple[str, str, int], _Rest] = _Recent()
        self._refused: _Recent[tuple[str, int], _Rest] = _Recent()
        self.counts: dict[tuple[str, Change], int] = {}
        """How often each change befell each provider."""
        self._sweep_at = -math.inf
        self.has_notes = False
        """Whether there may be anything to consider. Requests look here first: mostly there is nothing."""

    def troubled(self, now: float) -> bool:
        """Whether there is anything to consider at all."""
        if self.has_notes and now >= self._sweep_at:
            self._sweep(now)
        self.has_notes = bool(self._outliers.found or self._cooling.found or self._refused.found)
        return self.has_notes

    # -- what the gateway asks ------------------------------------------------------------------------------------

    def fit(self, provider: str, model: str, credentials: int, now: float) -> bool:
        """Whether the deployment is to be asked before others: it is not ejected, and one of its credentials is free."""
        outlier = self._outliers.found.get((provider, model))
        if outlier is not None and outlier.shut(now):
            return False
        return any(self._free(provider, model, at, now) for at in range(max(1, credentials)))

    def credential(self, provider: str, model: str, order: Sequence[int], now: float) -> int:
        """The first of `order` that is free, else the one that will be first."""
        for at in order:
            if self._free(provider, model, at, now):
                return at
        return min(order, key=lambda at: self._free_at(provider, model, at))

    def wait(self, provider: str, model: str, credentials: int, now: float) -> float:
        """Seconds for which the provider itself has said that it will answer nothing but 429; 0 when it may answer, or when
        it has been left alone long enough to be asked again in spite of that."""
        shortest = math.inf
        for at in range(max(1, credentials)):
            rest = self._cooling.found.get((provider, model, at))
            if rest is None or rest.until <= now or rest.told_until <= now:
                refused = self._refused.found.get((provider, at))
                if refused is not None and refused.until > now:
                    continue  # it is not free either, but has no say in how long the others rest
                return 0.0
            shortest = min(shortest, rest.told_until - now)
        return 0.0 if shortest == math.inf else shortest

    def begin(self, provider: str, model: str, now: float) -> None:
        """A request goes to this deployment. If it is half-open, this is the probe, and others keep away."""
        outlier = self._outliers.found.get((provider, model))
        if outlier is not None and outlier.out and not outlier.shut(now):
            outlier.probed_at, outlier.probing_until = now, now + PROBE_S

    # -- what it reports --------------------------------------------------------------------------------------------
    # Each is told when the request `began`, by the same clock; without it, that was now. One that began before the end of
    # an ejection says nothing of what came after, however late it ends, and is no probe.

    def succeeded(
        self, provider: str, model: str, credential: int, now: float, *, began: float | None = None
    ) -> Change | None:
        """It answered as it should. Worth a call only while something is in trouble."""
        self._cooling.found.pop((provider, model, credential), None)
        change: Change | None = None
        if self._refused.found.pop((provider, credential), None) is not None:
            change = self._count(provider, "accepted")
        outlier = self._outliers.found.get((provider, model))
        if outlier is None:
            return change
        if outlier.out:
            if (now if began is None else began) < outlier.ejected_until:
                return change
            del self._outliers.found[provider, model]
            return self._count(provider, "returned")
        self._turn(outlier, now)
        outlier.consecutive = 0
        outlier.total += 1
        if not outlier.failures:
            del self._outliers.found[provider, model]
        return change

    def failed(self, provider: str, model: str, now: float, *, began: float | None = None) -> Change | None:
        """The deployment itself is at fault: it broke, stalled, or could not be reached."""
        settings = self._settings(provider)
        if not settings.eject_after:
            return None
        key = (provider, model)
        outlier = self._outliers.found.get(key) or _Outlier(now)
        self.has_notes = True
        self._outliers.put(key, outlier)
        if outlier.out:
            if (now if began is None else began) < outlier.ejected_until:
                return None
            return self._eject(outlier, provider, now)
        self._turn(outlier, now)
        outlier.consecutive += 1
        outlier.failures += 1
        outlier.total += 1
        often = outlier.total >= settings.eject_least and outlier.failures >= settings.eject_share * outlier.total
        if outlier.consecutive >= settings.eject_after or often:
            return self._eject(outlier, provider, now)
        return None

    def unknown(self, provider: str, model: str, *, began: float | None = None) -> None:
        """The request ended without telling anything of the deployment: if it was a probe, the next one may be."""
        outlier = self._outliers.found.get((provider, model))
        if outlier is not None and (began is None or began >= outlier.probed_at):
            outlier.probing_until = -math.inf

    def limited(
        self,
        provider: str,
        model: str,
        credential: int,
        now: float,
        retry_after: float | None,
        *,
        began: float | None = None,
    ) -> Change | None:
        """The credential has met a rate limit at this deployment. The provider may have said when to come again; a time
        that has passed already is none."""
        self.unknown(provider, model, began=began)
        told = retry_after is not None and math.isfinite(retry_after) and retry_after > 0
        settings = self._settings(provider)
        seconds = retry_after if told and retry_after is not None else settings.cooldown
        key = (provider, model, credential)
        rest = self._cooling.found.get(key) or _Rest()
        known = rest.until > now
        rest.until = max(rest.until, now + min(seconds, settings.cooldown_limit))
        if told:
            rest.told_until = max(rest.told_until, now + seconds)
        self.has_notes = True
        self._cooling.put(key, rest)
        return None if known else self._count(provider, "cooled")

    def denied(
        self, provider: str, model: str, credential: int, now: float, *, began: float | None = None
    ) -> Change | None:
        """The provider takes the credential, but not for this model: it rests at this deployment alone."""
        self.unknown(provider, model, began=began)
        key = (provider, model, credential)
        rest = self._cooling.found.get(key) or _Rest()
        known = rest.until > now
        rest.until = max(rest.until, now + self._settings(provider).cooldown_limit)
        self.has_notes = True
        self._cooling.put(key, rest)
        return None if known else self._count(provider, "denied")

    def refused(
        self, provider: str, model: str, credential: int, now: float, *, began: float | None = None
    ) -> Change | None:
        """The provider does not take the credential, or nothing is left on its account."""
        self.unknown(provider, model, began=began)
        key = (provider, credential)
        rest = self._refused.found.get(key) or _Rest()
        known = rest.until > now
        if not known:
            rest.until = now + min(REFUSED_S * 2.0 ** min(rest.times, 16), REFUSED_LIMIT_S)
            rest.times += 1
        self.has_notes = True
        self._refused.put(key, rest)
        return None if known else self._count(provider, "refused")

    def forget(self, providers: Iterable[str]) -> None:
        """These are no longer what they were: another address, other credentials, or gone."""
        gone = frozenset(providers)
        outliers, cooling, refused = self._outliers.found, self._cooling.found, self._refused.found
        self._outliers.found = {key: value for key, value in outliers.items() if key[0] not in gone}
        self._cooling.found = {key: value for key, value in cooling.items() if key[0] not in gone}
        self._refused.found = {key: value for key, value in refused.items() if key[0] not in gone}
        self.counts = {key: value for key, value in self.counts.items() if key[0] not in gone}

    # -- how things stand -------------------------------------------------------------------------------------------

    def shut(self, now: float) -> list[tuple[str, State, int]]:
        """How many deployments and credentials of each provider are in trouble now."""
        found: dict[tuple[str, State], int] = {}
        for (provider, _), outlier in self._outliers.found.items():
            if outlier.out:
                found[provider, "ejected"] = found.get((provider, "ejected"), 0) + 1
        for (provider, _, _), rest in self._cooling.found.items():
            if rest.until > now:
                found[provider, "cooling"] = found.get((provider, "cooling"), 0) + 1
        for (provider, _), rest in self._refused.found.items():
            if rest.until > now:
                found[provider, "refused"] = found.get((provider, "refused"), 0) + 1
        return [(provider, kind, count) for (provider, kind), count in found.items()]

    # -- inside -------------------------------------------------------------------------------------------------------

    def _free(self, provider: str, model: str, credential: int, now: float) -> bool:
        return self._free_at(provider, model, credential) <= now

    def _free_at(self, provider: str, model: str, credential: int) -> float:
        cooling = self._cooling.found.get((provider, model, credential))
        refused = self._refused.found.get((provider, credential))
        return max(
            -math.inf if cooling is None else cooling.until,
            -math.inf if refused is None else refused.until,
        )

    def _settings(self, provider: str) -> Settings:
        return self.own.get(provider, self.settings)

    def _eject(self, outlier: _Outlier, provider: str, now: float) -> Change:
        settings = self._settings(provider)
        seconds = min(settings.eject_for * 2.0 ** min(outlier.ejections, 16), settings.eject_limit)
        outlier.ejections += 1
        outlier.ejected_until = now + seconds
        outlier.probed_at = outlier.probing_until = -math.inf
        return self._count(provider, "ejected")

    def _sweep(self, now: float) -> None:
        """Forget what is long over: nobody may ever come back to what it was about."""
        self._sweep_at = now + SWEEP_S
        outliers, cooling, refused = self._outliers.found, self._cooling.found, self._refused.found
        latest = now - WINDOW_S
        self._outliers.found = {
            key: one
            for key, one in outliers.items()
            if (one.ejected_until > latest - self._settings(key[0]).eject_limit if one.out else one.since > latest)
        }
        self._cooling.found = {key: rest for key, rest in cooling.items() if rest.until > now}
        self._refused.found = {key: rest for key, rest in refused.items() if rest.until > now - REFUSED_LIMIT_S}

    @staticmethod
    def _turn(outlier: _Outlier, now: float) -> None:
        """Begin to count anew when the window is over."""
        if now - outlier.since >= WINDOW_S:
            outlier.since = now
            outlier.failures = outlier.total = outlier.consecutive = 0

    def _count(self, provider: str, change: Change) -> Change:
        key = (provider, change)
        self.counts[key] = self.counts.get(key, 0) + 1
        return change
