"""Which deployments answer to a model name.

A catalog is immutable and knows names only: aliases, the providers in the order of the configuration, and which model
ids each is known to have.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from heapq import nlargest
from operator import add

import msgspec

from tidegate.wire.errors import ModelNotFound

__all__ = ["Alias", "Catalog", "Deployment", "Target"]

_NEAR_MISSES = 3
_COMPARED = 10


class Target(msgspec.Struct, frozen=True):
    """One choice behind an alias: a model name, resolved like any other, and its share of the traffic."""

    model: str
    weight: int = 1


class Alias(msgspec.Struct, frozen=True):
    targets: tuple[Target, ...]
    fallback: tuple[str, ...] = ()


class Deployment(msgspec.Struct, frozen=True):
    """A provider and its own name for the model. `alias` and `position` say which target of which alias led here."""

    provider: str
    model: str
    alias: str = ""
    position: int = -1

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"


class Catalog:
    """Resolves model names. `listings` maps each provider, in order, to its known ids; None where they are unknown."""

    def __init__(self, aliases: Mapping[str, Alias], listings: Mapping[str, Iterable[str] | None]) -> None:
        self._aliases = dict(aliases)
        self._listings = {name: None if ids is None else frozenset(ids) for name, ids in listings.items()}
        self._unlisted = [name for name, ids in self._listings.items() if ids is None]
        self._owners: dict[str, list[str]] = {}
        for provider, ids in self._listings.items():
            for model in ids or ():
                self._owners.setdefault(model, []).append(provider)

    def plan(self, name: str, draw: float, able: Collection[str] | None = None) -> list[Deployment]:
        """The deployments to try for `name`, best first. `draw` in [0, 1) decides between weighted targets.

        `able` names the providers that can serve the request: where several have a bare name, one of them is taken.
        Raises ModelNotFound, with near names in its message.
        """
        steps: list[Deployment] = []
        self._resolve(name, draw, steps, frozenset(), self._listings if able is None else able)
        return steps

    def _resolve(
        self, name: str, draw: float, steps: list[Deployment], seen: frozenset[str], able: Collection[str]
    ) -> None:
        alias = self._aliases.get(name)
        if alias is not None and name not in seen:
            position, draw = _pick(alias.targets, draw)
            first = len(steps)
            self._resolve(alias.targets[position].model, draw, steps, seen | {name}, able)
            if len(steps) > first and not steps[first].alias:
                steps[first] = msgspec.structs.replace(steps[first], alias=name, position=position)
            for fallback in alias.fallback:
                self._resolve(fallback, draw, steps, seen | {name}, able)
            return
        found = self._find(name, able)
        if all((found.provider, found.model) != (step.provider, step.model) for step in steps):
            steps.append(found)

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


def _pick(targets: Sequence[Target], draw: float) -> tuple[int, float]:
    """The target that `draw` falls on, and where in its share: what comes behind it draws from a whole range again."""
    point = draw * sum(target.weight for target in targets)
    for index, target in enumerate(targets):
        if point < target.weight:
            return index, point / target.weight
        point -= target.weight
    return 0, draw


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
