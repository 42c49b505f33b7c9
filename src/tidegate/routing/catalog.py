"""Which deployments answer to a model name.

A catalog is immutable and knows names only: aliases, the providers in the order of the configuration, and which model
ids each is known to have.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from heapq import nlargest
from operator import add
from typing import Protocol

import msgspec
from msgspec.structs import replace

from tidegate.routing.balance import Candidate, Strategy, order, shuffled
from tidegate.wire.errors import ModelNotFound

__all__ = ["Alias", "Catalog", "Deployment", "Target", "View"]

_NEAR_MISSES = 3
_COMPARED = 10


class Target(msgspec.Struct, frozen=True):
    """One choice behind an alias: a model name, resolved like any other, and its share of the traffic."""

    model: str
    weight: int = 1
    price: float | None = None
    """By which targets of the alias compare, in place of what the deployment costs."""


class Alias(msgspec.Struct, frozen=True):
    targets: tuple[Target, ...]
    fallback: tuple[str, ...] = ()
    strategy: Strategy = "weighted"
    sticky: bool = True
    """Whether requests with the same key go to the same target, where they have one."""


class Deployment(msgspec.Struct, frozen=True):
    """A provider and its own name for the model. `alias` and `position` say which target of which alias led here."""

    provider: str
    model: str
    alias: str = ""
    position: int = -1

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"


class _Choice(msgspec.Struct, frozen=True):
    """What decides between targets, for one request."""

    draw: float
    able: frozenset[str]
    view: "View | None"
    sticky: str


class View(Protocol):
    """How deployments stand at this moment."""

    def fit(self, deployment: Deployment) -> bool:
        """Whether it is to be asked before others."""

    def candidate(self, deployment: Deployment, target: Target) -> Candidate:
        """The deployment as the first choice behind a target."""

    def price(self, deployment: Deployment) -> float | None:
        """What its work costs, as a number by which deployments compare; None where that is not known."""


class Catalog:
    """Resolves model names. `listings` maps each provider, in order, to its known ids; None where they are unknown."""

    def __init__(self, aliases: Mapping[str, Alias], listings: Mapping[str, Iterable[str] | None]) -> None:
        self._aliases = dict(aliases)
        self._drawn = self._find_drawn()
        self._nested = frozenset(
            name
            for name, alias in self._aliases.items()
            if not self._drawn.isdisjoint((*(target.model for target in alias.targets), *alias.fallback))
        )
        """Aliases behind which something is drawn once more."""
        self._groups: dict[tuple[str, frozenset[str]], list[tuple[Target, list[Deployment]]]] = {}
        self._listings = {name: None if ids is None else frozenset(ids) for name, ids in listings.items()}
        self._everyone = frozenset(self._listings)
        self._unlisted = [name for name, ids in self._listings.items() if ids is None]
        self._owners: dict[str, list[str]] = {}
        for provider, ids in self._listings.items():
            for model in ids or ():
                self._owners.setdefault(model, []).append(provider)

    def plan(
        self,
        name: str,
        draw: float,
        able: frozenset[str] | None = None,
        *,
        view: View | None = None,
        sticky: str = "",
    ) -> list[Deployment]:
        """The deployments to try for `name`, best first: the targets of an alias in the order of its strategy, then its
        fallbacks. `draw` in [0, 1) decides between weighted targets, `sticky` takes its place where the alias allows.

        `able` names the providers that can serve the request: where several have a bare name, one of them is taken.
        What `view` does not find fit comes last; without one all are alike. Raises ModelNotFound, with near names in
        its message.
        """
        steps: list[Deployment] = []
        self._resolve(name, _Choice(draw, self._everyone if able is None else able, view, sticky), steps, frozenset())
        if view is not None and len(steps) > 1:
            steps.sort(key=lambda step: not view.fit(step))
        return steps

    def draws(self, name: str) -> bool:
        """Whether the plan for `name` is another from one request to the next, even while all is well."""
        return name in self._drawn

    def _find_drawn(self) -> frozenset[str]:
        """The aliases with several targets, and those that lead to one."""
        found = {name for name, alias in self._aliases.items() if len(alias.targets) > 1}
        while True:
            more = {
                name
                for name, alias in self._aliases.items()
                if name not in found
                and not found.isdisjoint((*(target.model for target in alias.targets), *alias.fallback))
            }
            if not more:
                return frozenset(found)
            found |= more

    def _resolve(self, name: str, choice: "_Choice", steps: list[Deployment], seen: frozenset[str]) -> None:
        alias = self._aliases.get(name)
        if alias is None or name in seen:
            found = self._find(name, choice.able)
            if all((found.provider, found.model) != (step.provider, step.model) for step in steps):
                steps.append(found)
            return
        seen |= {name}
        rest = choice
        if name in self._nested:
            rest = _Choice(_rest(alias.targets, choice.draw), choice.able, choice.view, choice.sticky)
            groups = self._targets(name, alias, rest, seen)
        else:  # the targets lead to the same each time
            key = (name, choice.able)
            groups = self._groups.get(key) or self._targets(name, alias, rest, seen)
            self._groups[key] = groups
        for group in self._ranked(alias, groups, choice):
            for step in group:
                if all((step.provider, step.model) != (other.provider, other.model) for other in steps):
                    steps.append(step)
        for fallback in alias.fallback:
            self._resolve(fallback, rest, steps, seen)

    def _targets(
        self, name: str, alias: Alias, choice: "_Choice", seen: frozenset[str]
    ) -> list[tuple[Target, list[Deployment]]]:
        """What each target leads to. One that leads nowhere is left out, unless all do."""
        found: list[tuple[Target, list[Deployment]]] = []
        lost: ModelNotFound | None = None
        for position, target in enumerate(alias.targets):
            if not target.weight and any(other.weight for other in alias.targets):
                continue
            group: list[Deployment] = []
            try:
                self._resolve(target.model, choice, group, seen)
            except ModelNotFound as error:
                lost = lost or error
                continue
            if not group[0].alias:
                group[0] = replace(group[0], alias=name, position=position)
            found.append((target, group))
        if lost is not None and not found:
            raise lost
        return found

    @staticmethod
    def _ranked(
        alias: Alias, groups: list[tuple[Target, list[Deployment]]], choice: "_Choice"
    ) -> list[list[Deployment]]:
        if len(groups) < 2:
            return [group for _, group in groups]
        view = choice.view
        sticky = choice.sticky if alias.sticky else ""
        if view is None and not sticky and alias.strategy == "weighted":
            return [groups[at][1] for at in shuffled([target.weight for target, _ in groups], choice.draw)]
        candidates = [
            Candidate(group[0].name, target.weight, price=target.price)
            if view is None
            else view.candidate(group[0], target)
            for target, group in groups
        ]
        if view is not None and alias.strategy == "cheapest":
            candidates = [
                replace(one, price=view.price(group[0])) if target.price is None else one
                for one, (target, group) in zip(candidates, groups, strict=True)
            ]
        ranked = order(alias.strategy, candidates, choice.draw, sticky)
        return [groups[at][1] for at in ranked]

    def _find(self, name: str, able: Collection[str]) -> Deployment:
        """An id with a provider before the slash goes to that provider, unless only another one is known to have it:
        `openai/gpt-oss-20b` is also the whole id of a model that local engines serve."""
        prefix, slash, rest = name.partition("/")
        owner = _first(self._owners.get(name, ()), able)
        if slash and rest and prefix in self._listings:
            ids = self._listings[prefix]
            if owner is None or ids is None or rest in ids:
                return Deployment(prefix, rest)
        if owner is not None:
            return Deployment(owner, name)
        unlisted = _first(self._unlisted, able)
        if unlisted is not None and not slash:
            return Deployment(unlisted, name)
        raise ModelNotFound(self._unknown(name), param="model")

    def _unknown(self, name: str) -> str:
        message = f"The model '{name}' does not exist or no configured provider has it."
        near = self.near(name)
        if near:
            return f"{message} {near}"
        providers = ", ".join(f"'{provider}/…'" for provider in self._listings)
        return f"{message} Known providers: {providers}; see GET /v1/models."

    def near(self, name: str) -> str:
        """A question that gives names like `name`, if there are such; else empty."""
        near = _near(name, self._names(name.count("/")))
        return f"Did you mean {_either(near)}?" if near else ""

    def _names(self, slashes: int) -> list[str]:
        """What a request may have meant: every name as it is, and with its provider if that has as many slashes."""
        prefixed = (f"{owners[0]}/{model}" for model, owners in self._owners.items() if model.count("/") + 1 == slashes)
        return [*self._aliases, *self._owners, *prefixed]


def _first(providers: Sequence[str], able: Collection[str]) -> str | None:
    """The first that is able, else the first; None when there is none."""
    return next((provider for provider in providers if provider in able), providers[0] if providers else None)


def _rest(targets: Sequence[Target], draw: float) -> float:
    """Where `draw` falls inside the share of its target: what comes behind that draws from a whole range again."""
    point = draw * sum(target.weight for target in targets)
    for target in targets:
        if point < target.weight:
            return point / target.weight
        point -= target.weight
    return draw


def _near(name: str, known: Sequence[str]) -> list[str]:
    """The names most like `name`. difflib takes 0.1 ms for each one that it compares, and routers list hundreds: it
    gets to see only those with the most letters and pairs of letters in common."""
    wanted = _features(name)

    def likeness(other: str) -> float:
        features = _features(other)
        return len(wanted & features) / (len(wanted) + len(features))

    return get_close_matches(name, nlargest(_COMPARED, known, likeness), n=_NEAR_MISSES, cutoff=0.5)


def _features(name: str) -> set[str]:
    return {*name, *map(add, name, name[1:])}


def _either(names: Sequence[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
