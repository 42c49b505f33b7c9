"""Metrics: plain numbers that the hot path adds to, read by a collector when somebody scrapes.

prometheus-client's own counters cost 8 µs per request with labels; these cost 0.4.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE", "Attempts", "Histogram", "Metrics", "Outcome", "Series"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

DURATION_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


Outcome = Literal["answered", "refused", "failed", "left"]
"""How an attempt ended: with an answer, with an error that is the request's own, with one that is the provider's, or because
the gateway gave it up."""

Attempts = dict[Outcome, int]
"""How many attempts ended in which way."""


class Histogram:
    """Counts of values in seconds, by upper bound."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(DURATION_BOUNDS_S) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(DURATION_BOUNDS_S, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts as Prometheus wants them."""
        running = 0
        result = []
        for bound, count in zip((*map(str, DURATION_BOUNDS_S), "+Inf"), self.counts, strict=True):
            running += count
            result.append((bound, float(running)))
        return result


class Series:
    """Everything counted for one pair of endpoint and provider."""

    __slots__ = (
        "attempts",
        "cached_tokens",
        "cost_nano",
        "duration",
        "endings",
        "estimated",
        "first_event",
        "input_tokens",
        "output_tokens",
        "reasoning_tokens",
        "statuses",
        "unpriced",
    )

    def __init__(self) -> None:
        self.statuses: defaultdict[int, int] = defaultdict(int)
        self.endings: defaultdict[str, int] = defaultdict(int)
        self.attempts: Attempts = dict.fromkeys(get_args(Outcome), 0)
        """Attempts at this provider, whoever answered in the end."""
        self.duration = Histogram()
        self.first_event = Histogram()
        self.input_tokens = 0
        self.cached_tokens = 0
        self.output_tokens = 0
        self.reasoning_tokens = 0
        self.estimated = 0
        self.cost_nano = 0
        self.unpriced = 0

    def move(self, name: str, count: int, other: "Series") -> None:
        """Count in `other` what is counted here."""
        setattr(self, name, getattr(self, name) - count)
        setattr(other, name, getattr(other, name) + count)


Gauge = Callable[[], Iterable[tuple[tuple[str, ...], float]]]


class Metrics(Collector):
    """All numbers of the process. Labels never hold text that a user sent: endpoints and providers are ours."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], Series] = {}
        self._gauges: list[tuple[str, str, tuple[str, ...], Gauge]] = []
        self._counters: list[tuple[str, str, tuple[str, ...], Gauge]] = []
        self._histograms: list[tuple[str, str, Histogram]] = []
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def series(self, endpoint: str, provider: str) -> Series:
        key = (endpoint, provider)
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = Series()
        return found

    def gauge(self, name: str, description: str, labels: tuple[str, ...], read: Gauge) -> None:
        """A number that is looked up when somebody scrapes: `read` yields label values and the value."""
        self._gauges.append((name, description, labels, read))

    def counter(self, name: str, description: str, labels: tuple[str, ...], read: Gauge) -> None:
        """The same for a number that only ever grows."""
        self._counters.append((name, description, labels, read))

    def histogram(self, name: str, description: str, values: Histogram) -> None:
        """Values that somebody else observes."""
        self._histograms.append((name, description, values))

    def render(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        by = ["endpoint", "provider"]
        requests = CounterMetricFamily("tidegate_requests", "Requests settled, by HTTP status.", labels=[*by, "status"])
        endings = CounterMetricFamily(
            "tidegate_endings", "Requests settled, by how they ended.", labels=[*by, "ending"]
        )
        attempts = CounterMetricFamily(
            "tidegate_attempts", "Calls made to providers, by how they ended.", labels=[*by, "outcome"]
        )
        tokens = CounterMetricFamily("tidegate_tokens", "Tokens used, by kind.", labels=[*by, "kind"])
        estimated = CounterMetricFamily(
            "tidegate_estimated_usage", "Requests whose usage had to be estimated.", labels=by
        )
        cost = CounterMetricFamily("tidegate_cost_dollars", "Cost in US dollars, where it is known.", labels=by)
        unpriced = CounterMetricFamily("tidegate_unpriced", "Requests whose cost is unknown.", labels=by)
        duration = HistogramMetricFamily(
            "tidegate_request_seconds", "From the request's end to the answer's end.", labels=by
        )
        first = HistogramMetricFamily(
            "tidegate_first_event_seconds", "Until the first event for the client.", labels=by
        )
        for key, series in self._series.items():
            for status, count in series.statuses.items():
                requests.add_metric([*key, str(status)], count)
            for ending, count in series.endings.items():
                endings.add_metric([*key, ending], count)
            for outcome, made in series.attempts.items():
                attempts.add_metric([*key, outcome], made)
            for kind in ("input", "cached", "output", "reasoning"):
                tokens.add_metric([*key, kind], getattr(series, f"{kind}_tokens"))
            estimated.add_metric(key, series.estimated)
            cost.add_metric(key, series.cost_nano / 1e9)
            unpriced.add_metric(key, series.unpriced)
            duration.add_metric(key, series.duration.buckets(), series.duration.total)
            first.add_metric(key, series.first_event.buckets(), series.first_event.total)
        yield from (requests, endings, attempts, tokens, estimated, cost, unpriced, duration, first)
        for name, description, values in self._histograms:
            yield HistogramMetricFamily(name, description, buckets=values.buckets(), sum_value=values.total)
        for name, description, labels, read in self._counters:
            counter = CounterMetricFamily(name, description, labels=labels)
            for labelled, value in read():
                counter.add_metric(labelled, value)
            yield counter
        for name, description, labels, read in self._gauges:
            gauge = GaugeMetricFamily(name, description, labels=labels)
            for labelled, value in read():
                gauge.add_metric(labelled, value)
            yield gauge
