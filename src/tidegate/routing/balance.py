"""Which of several equal targets a request goes to. Pure: draws and figures are arguments."""

import math
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Literal

import msgspec

__all__ = ["Candidate", "Load", "Loads", "Strategy", "order", "rendezvous", "shuffled"]

Strategy = Literal["weighted", "least-busy", "lowest-latency", "cheapest"]

REMEMBERED = 4096
"""Most deployments whose load is known: names of models come from clients."""

SMOOTHING = 0.2
"""Weight of the newest time to the first event in the moving average."""

SLOWER_BY = 1.25
"""A target is as quick as the quickest up to this factor: a hair's breadth must not draw all traffic to one."""

EXPLORED = 0.05
"""Share of the requests that go by weight all the same: what was slow once is seen to have become quick."""


class Load:
    """What one deployment has to do, and how quickly it begins to answer."""

    __slots__ = ("first_event", "running")

    def __init__(self) -> None:
        self.running = 0
        self.first_event = 0.0
        """Moving average, in seconds; 0 while nothing is known."""

    def heard(self, seconds: float) -> None:
        """The first event of a stream came after so long."""
        known = self.first_event
        self.first_event = seconds if not known else known + SMOOTHING * (seconds - known)


class Loads:
    """The load of each deployment, by provider and model; it outlives the configuration."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Load] = {}

    def of(self, provider: str, model: str) -> Load:
        """Whoever counts on it holds it: when there are too many, those that nobody uses are forgotten."""
        found = self._known.get((provider, model))
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known = {key: load for key, load in self._known.items() if load.running}
            found = self._known[provider, model] = Load()
        return found

    def forget(self, providers: Iterable[str]) -> None:
        """These are no longer what they were."""
        gone = frozenset(providers)
        self._known = {key: load for key, load in self._known.items() if key[0] not in gone}

    def __len__(self) -> int:
        return len(self._known)


class Candidate(msgspec.Struct, frozen=True):
    """One target as it stands now. `price` is any number by which targets compare; None where it is not known."""

    name: str
    weight: int = 1
    fit: bool = True
    running: int = 0
    first_event: float = 0.0
    price: float | None = None


def order(strategy: Strategy, candidates: Sequence[Candidate], draw: float, sticky: str = "") -> list[int]:
    """Positions of the candidates, best first. Those that are not fit come last; those without weight come not at all,
    unless none has any.

    `draw` in [0, 1) decides by weight where nothing else does. With a `sticky` key the same target comes first each time
    that it is fit, so that a provider finds in its cache what it has read before; only `cheapest` asks for the price first.
    """
    if strategy == "lowest-latency" and not sticky and draw >= 1.0 - EXPLORED:
        strategy, draw = "weighted", min((draw - (1.0 - EXPLORED)) / EXPLORED, math.nextafter(1.0, 0.0))
    taken = [at for at, one in enumerate(candidates) if one.weight > 0] or list(range(len(candidates)))
    weights = [max(1, candidates[at].weight) for at in taken]
    if sticky:
        ranked = [taken[at] for at in rendezvous(sticky, [candidates[at].name for at in taken], weights)]
    else:
        ranked = [taken[at] for at in shuffled(weights, draw, [candidates[at].fit for at in taken])]
    if strategy == "cheapest":
        ranked.sort(key=lambda at: _price(candidates[at]))
    elif not sticky and strategy == "least-busy":
        ranked.sort(key=lambda at: candidates[at].running / max(1, candidates[at].weight))
    elif not sticky and strategy == "lowest-latency":
        quickest = min((candidates[at].first_event for at in ranked if candidates[at].fit), default=0.0)
        ranked.sort(key=lambda at: _latency(candidates[at], quickest))
    ranked.sort(key=lambda at: not candidates[at].fit)
    return ranked


def rendezvous(key: str, names: Sequence[str], weights: Sequence[int]) -> list[int]:
    """Positions by weighted rendezvous hashing (highest random weight): each name draws from the key alone, so that one
    which goes or comes moves only the keys that were or will be its own."""
    scores = []
    for name, weight in zip(names, weights, strict=True):
        digest = blake2b(f"{len(name)}:{name}{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        point = (int.from_bytes(digest, "big") + 0.5) / 2.0**64
        scores.append(weight / -math.log(point) if point < 1.0 else math.inf)
    return sorted(range(len(names)), key=lambda at: -scores[at])


def shuffled(weights: Sequence[int], draw: float, fit: Sequence[bool] = ()) -> list[int]:
    """All positions in an order drawn by weight, the fit ones first; the place of the draw inside the share of one is the
    draw for the rest. Where all weights are 0, all count alike."""
    if not any(weights):
        weights = [1] * len(weights)
    ranked: list[int] = []
    for wanted in (True, False) if fit else (True,):
        left = [at for at in range(len(weights)) if not fit or fit[at] is wanted]
        while len(left) > 1:
            point = draw * sum([weights[at] for at in left])
            for at in left:
                if point < weights[at]:
                    break
                point -= weights[at]
            else:
                at, point = left[-1], 0.0
            draw = point / weights[at]
            ranked.append(at)
            left.remove(at)
        ranked += left
    return ranked


def _price(candidate: Candidate) -> float:
    return math.inf if candidate.price is None else candidate.price


def _latency(candidate: Candidate, quickest: float) -> float:
    """Nothing is known of a target until it was asked, so that it is asked."""
    known = candidate.first_event
    return quickest if known <= quickest * SLOWER_BY else known
