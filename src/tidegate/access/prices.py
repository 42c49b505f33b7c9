"""What each deployment's work costs: the configuration's prices first, then those of the catalogue. What neither knows
is unknown, and never zero."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final, Protocol

from tidegate.access.catalogue import EMPTY, Catalogue
from tidegate.access.rates import FREE, Price, Rates
from tidegate.config import schema
from tidegate.config.schema import PriceConfig, ProviderConfig
from tidegate.dialects.dialect import Endpoint
from tidegate.providers.registry import REGISTRY
from tidegate.wire.events import Usage

__all__ = ["Deployed", "Prices"]

_REMEMBERED: Final = 4096
_FREE_KINDS: Final = frozenset({"sim", "local-audio"})
"""What runs inside the gateway itself."""
_MILLION: Final = 1_000_000
_NANO: Final = 1_000_000_000

_TYPICAL: Final = (Usage(input_tokens=3000, output_tokens=1000), 250)
_TYPICAL_OF: Final[Mapping[Endpoint, tuple[Usage, int]]] = {
    "embeddings": (Usage(input_tokens=1000), 1000),
    "speech": (Usage(characters=1000, input_tokens=250, output_tokens=1250, output_audio_tokens=1250), 1000),
    "transcription": (Usage(seconds=60, input_tokens=600, input_audio_tokens=600, output_tokens=200), 60),
    "translation": (Usage(seconds=60, input_tokens=600, input_audio_tokens=600, output_tokens=200), 60),
}
"""What a usual request uses, and how often that is a million tokens (of the text to be spoken: characters), or an hour.
Where a provider counts in another unit than most, the request has both."""


class Deployed(Protocol):
    """A deployment, or anything that says which one it is."""

    @property
    def provider(self) -> str: ...
    @property
    def model(self) -> str: ...


class Prices:
    """The prices of one configuration. Cheap to ask: what was found is remembered for as long as it holds."""

    def __init__(
        self,
        configured: Mapping[str, PriceConfig],
        providers: Mapping[str, ProviderConfig],
        catalogue: Catalogue = EMPTY,
    ) -> None:
        self._exact = {name: _configured(name, one) for name, one in configured.items()}
        self._patterns = [(name, price) for name, price in self._exact.items() if "*" in name]
        self._free = frozenset(name for name, one in providers.items() if one.kind in _FREE_KINDS)
        self._lists = {name: one.price_list for name, one in providers.items() if one.price_list}
        self._addresses = {name: _address(one) for name, one in providers.items()}
        self._catalogue = catalogue
        self._found: dict[tuple[str, str], tuple[Price | None, float]] = {}

    @property
    def wanted(self) -> tuple[frozenset[str], frozenset[str]]:
        """The addresses and the names of the price lists that the catalogue is to have."""
        addresses = (
            address
            for name, address in self._addresses.items()
            if name not in self._lists and name not in self._free and address.startswith("https:")
        )
        return frozenset(addresses), frozenset(name for name in self._lists.values() if name != "none")

    def of(self, deployment: Deployed, at: float) -> Price | None:
        """The price of a deployment at that time (seconds since 1970); None where it is unknown."""
        return self.found(deployment, at)[0]

    def found(self, deployment: Deployed, at: float) -> tuple[Price | None, float]:
        """The same, and until when it holds."""
        key = (deployment.provider, deployment.model)
        found = self._found.get(key)
        if found is None or at >= found[1]:
            if len(self._found) >= _REMEMBERED:  # names come from clients, so that there is no end to them
                self._found.clear()
            found = self._found[key] = self._find(*key, at)
        return found

    def typical(self, deployment: Deployed, endpoint: Endpoint, at: float) -> float | None:
        """By which deployments compare: dollars for a million tokens, three read for each one written; of embeddings for a
        million tokens, of speech for a million characters, of transcripts for an hour. None where the price is unknown."""
        price = self.of(deployment, at)
        if price is None:
            return None
        usage, times = _TYPICAL_OF.get(endpoint, _TYPICAL)
        nano, _ = price.charge(usage)
        return None if nano is None else nano * times / _NANO

    def upper_bound_nano(
        self,
        deployment: Deployed,
        input_tokens: int,
        output_tokens: int,
        *,
        seconds: float = 0.0,
        characters: int = 0,
        at: float,
    ) -> int | None:
        """More nano-dollars than this no request can cost that uses at most so many tokens (those of images and audio
        included), seconds of audio and characters of speech. None where the price is unknown."""
        price = self.of(deployment, at)
        return (
            None
            if price is None
            else price.upper_bound_nano(input_tokens, output_tokens, seconds=seconds, characters=characters)
        )

    def _find(self, provider: str, model: str, at: float) -> tuple[Price | None, float]:
        name = f"{provider}/{model}"
        price = self._exact.get(name)
        if price is None:
            price = next((one for pattern, one in self._patterns if fnmatchcase(name, pattern)), None)
        if price is None and provider in self._free:
            price = FREE
        if price is not None:
            return price, float("inf")
        found = self._catalogue.find(
            model, address=self._addresses.get(provider, ""), name=self._lists.get(provider, ""), at=at
        )
        return found or (None, float("inf"))


def _address(provider: ProviderConfig) -> str:
    known = REGISTRY.get(provider.kind)
    return provider.base_url or (known.base_url if known is not None else "")


def _configured(name: str, given: PriceConfig) -> Price:
    tiers = [(tier.over, _rates(tier)) for tier in given.tiers]
    return Price(f'prices."{name}"', _rates(given), tiers)


def _rates(given: schema.Rates) -> Rates:
    def each(amount: int | None, units: int) -> int | None:
        return None if amount is None else int(amount) // units

    return Rates(
        input=each(given.input, _MILLION),
        cached=each(given.cached, _MILLION),
        cache_write=each(given.cache_write, _MILLION),
        cache_write_1h=each(given.cache_write_1h, _MILLION),
        input_audio=each(given.input_audio, _MILLION),
        input_image=each(given.input_image, _MILLION),
        output=each(given.output, _MILLION),
        reasoning=each(given.reasoning, _MILLION),
        output_audio=each(given.output_audio, _MILLION),
        output_image=each(given.output_image, _MILLION),
        character=each(given.characters, _MILLION),
        millisecond=each(given.second, 1000),
        request=each(given.request, 1),
    )
