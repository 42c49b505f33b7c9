"""The public list prices of providers, from the package genai-prices.

That package is large and slow to import: a process of its own reads it (`python -m tidegate.access.catalogue`), so that
neither the event loop nor the memory of the gateway notices, and hands over only the lists that are asked for.
"""

import asyncio
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Final

import msgspec

from tidegate.access.rates import Price, Rates
from tidegate.wire import jsonio

if TYPE_CHECKING:
    from genai_prices import types

__all__ = ["EMPTY", "Catalogue", "CatalogueUnusable", "fetch_catalogue"]

TIMEOUT_S: Final = 60.0
_DAY_S: Final = 86400


class CatalogueUnusable(Exception):
    """The prices could not be read."""


class Clause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which model names are meant, in any case: exactly one member is set."""

    equals: str | None = None
    starts_with: str | None = None
    ends_with: str | None = None
    contains: str | None = None
    regex: str | None = None
    any_of: tuple["Clause", ...] | None = None
    all_of: tuple["Clause", ...] | None = None

    def fits(self, name: str) -> bool:
        """Whether `name`, in lower case, is meant."""
        if self.equals is not None:
            return name == self.equals
        if self.starts_with is not None:
            return name.startswith(self.starts_with)
        if self.ends_with is not None:
            return name.endswith(self.ends_with)
        if self.contains is not None:
            return self.contains in name
        if self.any_of is not None:
            return any(clause.fits(name) for clause in self.any_of)
        if self.all_of is not None:
            return all(clause.fits(name) for clause in self.all_of)
        return self.regex is not None and re.search(self.regex, name) is not None


class Period(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Rates, and when they hold: from a day on, or between two times of each day (seconds of the day, UTC)."""

    rates: Rates
    tiers: tuple[tuple[int, Rates], ...] = ()
    since: float | None = None
    between: tuple[float, float] | None = None

    def holds(self, at: float) -> bool:
        if self.since is not None:
            return at >= self.since
        if self.between is not None:
            begin, end = self.between
            now = at % _DAY_S
            return begin <= now < end if begin <= end else now >= begin or now < end
        return True

    def changes(self, at: float) -> float:
        """The next moment at which this begins or ceases to hold; infinity when there is none."""
        if self.since is not None:
            return self.since if self.since > at else float("inf")
        if self.between is not None:
            midnight = at - at % _DAY_S
            return min(midnight + one + (_DAY_S if one <= at % _DAY_S else 0) for one in self.between)
        return float("inf")


class ListedModel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model and what it costs; of the periods that hold, the last counts, and the first where none does."""

    name: str
    match: Clause
    periods: tuple[Period, ...]


class PriceList(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One provider's prices."""

    name: str
    address: str
    """Pattern of the addresses at which it is found."""
    fallback: tuple[str, ...] = ()
    """Lists of whoever made the models that this provider offers too."""
    models: tuple[ListedModel, ...] = ()


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """The lists that were asked for, and those that they fall back to."""

    version: str = ""
    lists: tuple[PriceList, ...] = ()

    def find(self, model: str, *, address: str = "", name: str = "", at: float) -> tuple[Price, float] | None:
        """The price of a model at a provider, which has this name or else this address, and until when it holds."""
        chosen = self._list(address, name)
        if chosen is None:
            return None
        wanted = model.lower()
        for one in (chosen, *(found for other in chosen.fallback if (found := self._list("", other)) is not None)):
            for listed in one.models:
                if listed.periods and listed.match.fits(wanted):
                    return self._price(one, listed, at)
        return None

    def _list(self, address: str, name: str) -> PriceList | None:
        if name:
            return next((one for one in self.lists if one.name == name), None)
        return next((one for one in self.lists if re.match(one.address, address)), None)

    def _price(self, chosen: PriceList, listed: ListedModel, at: float) -> tuple[Price, float]:
        period = next((one for one in reversed(listed.periods) if one.holds(at)), listed.periods[0])
        source = f"genai-prices {self.version} {chosen.name}/{listed.name}"
        return Price(source, period.rates, period.tiers), min(one.changes(at) for one in listed.periods)


EMPTY: Final = Catalogue()

_decoder = jsonio.decoder(Catalogue)


async def fetch_catalogue(addresses: Iterable[str], names: Iterable[str]) -> Catalogue:
    """The lists of the providers at these addresses, and of those with these names. Raises CatalogueUnusable."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "tidegate.access.catalogue"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            out, told = await process.communicate(jsonio.encode([sorted(addresses), sorted(names)]))
    except TimeoutError:
        raise CatalogueUnusable(f"reading them took more than {TIMEOUT_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        reason = told.decode(errors="replace").strip().rpartition("\n")[2]
        raise CatalogueUnusable(reason or f"the process that reads them ended with status {process.returncode}")
    try:
        return jsonio.decode(out, _decoder)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        raise CatalogueUnusable(str(error)) from None


# -- the process that reads the package -------------------------------------------------------------------------

_NAMES: Final = {
    "input_mtok": "input",
    "cache_read_mtok": "cached",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "input_audio",
    "input_image_mtok": "input_image",
    "output_mtok": "output",
    "output_reasoning_mtok": "reasoning",
    "output_audio_mtok": "output_audio",
    "output_image_mtok": "output_image",
    "input_mchars": "character",
}
"""Prices per million of the package, and what they are called here."""


def _read(addresses: Sequence[str], names: Sequence[str]) -> Catalogue:
    from importlib.metadata import version

    from genai_prices.data import providers

    by_name = {one.id: one for one in providers}
    wanted = {name: by_name[name] for name in names if name in by_name}
    for address in addresses:
        found = next((one for one in providers if re.match(one.api_pattern, address)), None)
        if found is not None:
            wanted[found.id] = found
    for one in list(wanted.values()):
        for other in one.fallback_model_providers or ():
            if other in by_name:
                wanted.setdefault(other, by_name[other])
    return Catalogue(version=version("genai-prices"), lists=tuple(_list_of(one) for one in wanted.values()))


def _list_of(provider: "types.Provider") -> PriceList:
    return PriceList(
        name=provider.id,
        address=provider.api_pattern,
        fallback=tuple(provider.fallback_model_providers or ()),
        models=tuple(
            ListedModel(name=model.id, match=_clause(model.match), periods=tuple(_periods(model.prices)))
            for model in provider.models
        ),
    )


def _clause(given: "types.MatchLogic") -> Clause:
    for name in ("equals", "starts_with", "ends_with", "contains"):
        if hasattr(given, name):
            return Clause(**{name: getattr(given, name).lower()})
    if hasattr(given, "or_"):
        return Clause(any_of=tuple(_clause(one) for one in given.or_))
    if hasattr(given, "and_"):
        return Clause(all_of=tuple(_clause(one) for one in given.and_))
    return Clause(regex=vars(given)["regex"])


def _periods(given: "types.ModelPrice | list[types.ConditionalPrice]") -> Iterable[Period]:
    from genai_prices.types import ConditionalPrice, StartDateConstraint

    for one in given if isinstance(given, list) else [given]:
        prices = one.prices if isinstance(one, ConditionalPrice) else one
        constraint = getattr(one, "constraint", None)
        since = between = None
        if isinstance(constraint, StartDateConstraint):
            day = constraint.start_date
            since = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
        elif constraint is not None:
            between = (_second_of_day(constraint.start_time), _second_of_day(constraint.end_time))
        yield Period(rates=_rates(prices, -1), tiers=tuple(_tiers(prices)), since=since, between=between)


def _second_of_day(given: time) -> float:
    moment = datetime.combine(datetime(2000, 1, 2, tzinfo=UTC), given, tzinfo=given.tzinfo or UTC)
    return moment.timestamp() % _DAY_S


def _tiers(prices: "types.ModelPrice") -> Iterable[tuple[int, Rates]]:
    starts = {tier.start for value in vars(prices).values() for tier in getattr(value, "tiers", ())}
    for start in sorted(starts):
        yield start, _rates(prices, start)


def _rates(prices: "types.ModelPrice", over: int) -> Rates:
    """The rates of a request with more than `over` input tokens; -1: without any tier."""
    found: dict[str, int] = {}
    for name, value in vars(prices).items():
        if value is None:
            continue
        amount = getattr(value, "base", value)
        for tier in getattr(value, "tiers", ()):
            if over >= tier.start:
                amount = tier.price
        if name in _NAMES:
            found[_NAMES[name]] = round(amount * 1_000_000)
        elif name in ("audio_hours", "input_audio_hours", "output_audio_hours"):
            found["millisecond"] = round(amount * 10**12 / 3_600_000)
        elif name == "requests_kcount":
            found["request"] = round(amount * 10**9)
    return Rates(**found)


if __name__ == "__main__":
    sys.stdout.buffer.write(jsonio.encode(_read(*jsonio.anything(sys.stdin.buffer.read()))))
