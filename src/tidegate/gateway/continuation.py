"""Answers that break off in the middle: whether somebody goes on with them, and how often that was done."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, get_args

from tidegate.dialects.codec import BridgedRequest, UpstreamDialect
from tidegate.dialects.continuation import ContinuableBridge, ContinuableStream, Hindrance
from tidegate.dialects.dialect import Call, Dialect, Endpoint
from tidegate.dialects.envelope import Envelopes
from tidegate.gateway.dialects import UPSTREAM_DIALECTS
from tidegate.routing.retry import verdict
from tidegate.telemetry.log import Logger
from tidegate.telemetry.metrics import Metrics
from tidegate.wire import errors

if TYPE_CHECKING:
    from tidegate.gateway.snapshot import Path

__all__ = ["Continuations", "continuable", "goes_on_at", "has_text"]

_TEXT: frozenset[Endpoint] = frozenset({"responses", "chat", "completions", "messages", "gemini"})

_HINDRANCES: tuple[Hindrance, ...] = get_args(Hindrance)
_CONTINUED = "continued"


def has_text(dialect: Dialect) -> bool:
    """Whether answers in this dialect may be gone on with."""
    return dialect.name in _TEXT and not dialect.operation


def continuable(request: BridgedRequest, call: Call, envelopes: Envelopes) -> ContinuableBridge:
    """What takes the place of a bridge for an alias that goes on with broken answers."""
    return ContinuableBridge(request, call, envelopes, UPSTREAM_DIALECTS)


def goes_on_at(path: "Path") -> UpstreamDialect:
    """The dialect in which the deployment is asked to go on. Raises InvalidRequest where it has none for that."""
    destination = path.destination
    dialect = UPSTREAM_DIALECTS.get(destination.endpoint)
    if dialect is None or destination.whole:
        raise errors.InvalidRequest(f"The deployment '{path.name}' cannot go on with an answer.", param="model")
    return dialect


class Continuations:
    """One per process: decides, tells the log, and counts."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._counts: dict[tuple[str, str], int] = {}

    def begins(self, stream: ContinuableStream, path: "Path", error: errors.TidegateError, request_id: str) -> bool:
        """The attempt at `path` has failed with `error` behind the commit point: whether another one may follow. Where it was
        to go on and has said nothing, its failure is not that of the answer."""
        if stream.goes_on and not stream.speaks:
            return not (isinstance(error, errors.UpstreamTimeout) and error.clock == "total")
        if error.fault != "provider" or verdict(error) == "final":
            return False
        hindrance = stream.breaks_off(error)
        outcome = hindrance or _CONTINUED
        key = (path.destination.provider, outcome)
        self._counts[key] = self._counts.get(key, 0) + 1
        self._log.info(
            "answer_broke_off", deployment=path.name, error=error.code or "", outcome=outcome, request_id=request_id
        )
        return hindrance is None

    def register(self, metrics: Metrics, providers: Callable[[], Iterable[str]]) -> None:
        """The numbers that `/metrics` shows of it, for each of the present providers."""
        outcomes = (_CONTINUED, *_HINDRANCES)
        metrics.counter(
            "tidegate_answers_broken_off",
            "Answers of aliases with continue_broken that broke off at the provider: whether they were continued, else why not.",
            ("provider", "outcome"),
            lambda: [
                ((name, outcome), self._counts.get((name, outcome), 0)) for name in providers() for outcome in outcomes
            ],
        )
