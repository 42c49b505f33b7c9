"""What providers offer: their model lists, asked for in the background and kept."""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from tidegate.access.keys import Principal
from tidegate.gateway.snapshot import Snapshot
from tidegate.telemetry.log import get_logger
from tidegate.upstream.fetch import fetch
from tidegate.upstream.provider import Upstream
from tidegate.wire import jsonio
from tidegate.wire.errors import ModelNotFound, TidegateError

__all__ = [
    "GATEWAY",
    "LIST_TIMEOUT_S",
    "Model",
    "fetch_listing",
    "find",
    "listing",
    "listing_for",
    "read_listing",
]

LIST_TIMEOUT_S = 5.0

GATEWAY: Final = b"tidegate-gateway"
"""The header of our own list by which another gateway on the same machine knows it from an engine's."""

_LAST_SECOND = 253_402_300_799
"""Of the year 9999: later ones are no dates."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model that somebody offers."""

    id: str
    created: int
    owned_by: str


class _Entry(msgspec.Struct):
    id: str
    created: float | None = None
    owned_by: str | None = None


class _GoogleEntry(msgspec.Struct, rename="camel"):
    name: str
    supported_generation_methods: tuple[str, ...] = ("generateContent",)


class _List(msgspec.Struct):
    data: list[_Entry] | None = None
    models: list[_GoogleEntry] | None = None
    """In the place of `data` in Google's list."""

    def entries(self) -> list[_Entry]:
        """Raises SchemaMismatch when the body is no list of models."""
        if self.data is not None:
            return self.data
        if self.models is None:
            raise jsonio.SchemaMismatch("a required member is missing", "data", missing=True)
        return [
            _Entry(id=entry.name.removeprefix("models/"))
            for entry in self.models
            if "generateContent" in entry.supported_generation_methods
        ]


_list = jsonio.decoder(_List)


async def fetch_listing(
    upstream: Upstream, *, quiet: bool = False, on_gateway: Callable[[], None] | None = None
) -> tuple[Model, ...] | None:
    """The provider's own list; None, and a log line unless `quiet`, when it gives none. With `on_gateway`, the list of another
    Tidegate is none, and that is told instead."""
    log = get_logger()
    report = log.debug if quiet else log.info
    try:
        answer = await fetch(upstream.pool, upstream.get(upstream.record.models_path), timeout_s=LIST_TIMEOUT_S)
        if answer.status != 200:
            report("model_list_unavailable", provider=upstream.name, status=answer.status)
            return None
        if on_gateway is not None and answer.header(GATEWAY):
            on_gateway()
            return None
        return read_listing(answer.body, upstream.name)
    except TidegateError as error:
        report("model_list_unavailable", provider=upstream.name, reason=error.message)
        return None
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        report("model_list_unavailable", provider=upstream.name, reason=str(error))
        return None


def read_listing(body: bytes, provider: str) -> tuple[Model, ...]:
    """The models in a provider's answer. Raises InvalidJSON and SchemaMismatch when it is no list of models."""
    return tuple(
        Model(id=entry.id, created=_seconds(entry.created), owned_by=entry.owned_by or provider)
        for entry in jsonio.decode(body, _list).entries()
        if entry.id
    )


async def fetch_listings(upstreams: Iterable[Upstream], *, quiet: bool = False) -> dict[str, tuple[Model, ...] | None]:
    """The lists of several providers, asked for side by side."""
    chosen = list(upstreams)
    found = await asyncio.gather(*(fetch_listing(upstream, quiet=quiet) for upstream in chosen))
    return {upstream.name: models for upstream, models in zip(chosen, found, strict=True)}


def listing(snapshot: Snapshot, known: Mapping[str, tuple[Model, ...]]) -> list[Model]:
    """All names that this gateway answers to, each once: aliases, then each provider's models as `provider/model`.

    `owned_by` is the provider, so that a client can tell where a name leads.
    """
    models = {alias: Model(id=alias, created=0, owned_by="tidegate") for alias in snapshot.config.models}
    for provider in snapshot.upstreams:
        for model in known.get(provider, ()):
            name = f"{provider}/{model.id}"
            models.setdefault(name, Model(id=name, created=model.created, owned_by=provider))
    return list(models.values())


def listing_for(principal: Principal, snapshot: Snapshot, known: Mapping[str, tuple[Model, ...]]) -> list[Model]:
    """Those of them that the principal may use, under names by which it may: a provider's own name for a model stands
    there where it may be used, and `provider/model` may not."""
    if not principal.models:
        return listing(snapshot, known)
    found: dict[str, Model] = {}
    taken = set(snapshot.config.models)
    for model in listing(snapshot, known):
        bare = model.id.removeprefix(f"{model.owned_by}/")
        if principal.may_use(model.id):
            found.setdefault(model.id, model)
        elif bare not in taken and principal.may_use(bare):
            step = snapshot.catalog.plan(bare, 0.0)[0]
            if (step.provider, step.model) == (model.owned_by, bare):
                found.setdefault(bare, msgspec.structs.replace(model, id=bare))
    return list(found.values())


def find(snapshot: Snapshot, known: Mapping[str, tuple[Model, ...]], name: str) -> Model:
    """The entry for any name that a request may use. Raises ModelNotFound, like a request would."""
    if name in snapshot.config.models:
        return Model(id=name, created=0, owned_by="tidegate")
    step = snapshot.catalog.plan(name, 0.0)[0]
    for model in known.get(step.provider, ()):
        if model.id == step.model:
            return Model(id=name, created=model.created, owned_by=step.provider)
    if step.provider in known:
        raise ModelNotFound(f"The model '{name}' does not exist or no configured provider has it.", param="model")
    return Model(id=name, created=0, owned_by=step.provider)


def _seconds(value: float | None) -> int:
    return int(value) if value is not None and math.isfinite(value) and 0 < value <= _LAST_SECOND else 0
