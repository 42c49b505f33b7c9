"""What a deployment's work costs: integers all the way, in pico-dollars (10^-12 US$) per unit and nano-dollars (10^-9
US$) per request.

Everything is priced once. Cached and cache-write tokens are parts of the input, reasoning is part of the output, and so
are tokens of audio and images; where a provider counts more parts than there is whole, the parts are taken in this
order until nothing is left: read from a cache, written to one, audio, images, text; and audio, images, reasoning, text.
The sum is rounded to nano-dollars once for each request, half up.
"""

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from tidegate.wire import jsonio
from tidegate.wire.events import Usage

__all__ = ["FREE", "NANO", "PICO_PER_NANO", "UNKNOWN", "Price", "Rates", "Text", "dollars"]

NANO: Final = 10**9
"""Nano-dollars in a dollar."""

PICO_PER_NANO: Final = 1000
_HALF_NANO: Final = PICO_PER_NANO // 2
_PICO: Final = 10**12
_NO_END: Final = 2**62


class Rates(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Pico-dollars for one of each. None: that is not charged by itself, but as the next wider kind."""

    input: int | None = None
    cached: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    input_audio: int | None = None
    input_image: int | None = None
    output: int | None = None
    reasoning: int | None = None
    output_audio: int | None = None
    output_image: int | None = None
    character: int | None = None
    millisecond: int | None = None
    """Of audio."""
    request: int | None = None

    def over(self, other: "Rates") -> "Rates":
        """The other's rates, with those that are set here in their place."""
        given = {name: value for name in Rates.__struct_fields__ if (value := getattr(self, name)) is not None}
        return msgspec.structs.replace(other, **given)

    def described(self) -> dict[str, float]:
        """In US$: per million tokens or characters, per second of audio, per request."""
        found: dict[str, float] = {}
        for name in Rates.__struct_fields__:
            value = getattr(self, name)
            if value is not None:
                shown, units = _SHOWN.get(name, (name, 1_000_000))
                found[shown] = float(Decimal(value * units) / _PICO)
        return found


_SHOWN: Final = {"character": ("characters", 1_000_000), "millisecond": ("second", 1000), "request": ("request", 1)}


def _first(one: int | None, other: int | None) -> int | None:
    return other if one is None else one


Text = tuple[int, int, int, int]
"""What text costs in pico-dollars: a token of input, one of output, and the request, together with what rounds the sum to
nano-dollars; with up to so many input tokens that no tier holds. A tuple with names would be taken apart more slowly."""

UNKNOWN: Final[Text] = (0, 0, 0, -1)


class _Tier:
    """Rates with every gap filled, ready to be multiplied with."""

    __slots__ = (
        "_character",
        "_dearest_given",
        "_dearest_taken",
        "_given",
        "_millisecond",
        "_request",
        "_taken",
        "_tokens",
        "over",
        "snapshot",
    )

    def __init__(self, over: int, rates: Rates, source: str) -> None:
        self.over = over
        shown: dict[str, object] = {"source": source, **rates.described()}
        if over:
            shown["over"] = over
        self.snapshot = jsonio.raw(shown)
        write = _first(rates.cache_write, rates.input)
        self._given = (
            _first(rates.cached, rates.input),
            _first(rates.cache_write_1h, write),
            write,
            _first(rates.input_audio, rates.input),
            _first(rates.input_image, rates.input),
            rates.input,
        )
        self._taken = (
            _first(rates.output_audio, rates.output),
            _first(rates.output_image, rates.output),
            _first(rates.reasoning, rates.output),
            rates.output,
        )
        self._dearest_given, self._dearest_taken = _dearest(self._given), _dearest(self._taken)
        self._tokens = any(rate is not None for rate in (*self._given, *self._taken))
        self._character = rates.character
        self._millisecond = rates.millisecond
        self._request = rates.request

    def text(self, up_to: int) -> tuple[Text, Text]:
        """What text costs, rounded half up, and what it costs at most, rounded up."""
        given, taken = self._given[-1], self._taken[-1]
        most_given, most_taken = self._dearest_given, self._dearest_taken
        if given is None or taken is None or most_given is None or most_taken is None:
            return UNKNOWN, UNKNOWN
        fixed = self._request or 0
        usual = (given, taken, fixed + _HALF_NANO, up_to)
        return usual, (most_given, most_taken, fixed + PICO_PER_NANO - 1, up_to)

    def cost_pico(self, usage: Usage) -> int | None:
        """None where something was used that has no rate, and nothing else that stands for it has one."""
        tokens: int | None = 0
        has_tokens = bool(usage.input_tokens or usage.output_tokens)
        if has_tokens and self._tokens:
            given, taken = self._given_pico(usage), self._taken_pico(usage)
            tokens = None if given is None or taken is None else given + taken
        return self._sum(tokens, usage.seconds, usage.characters, has_tokens=has_tokens)

    def most_pico(self, input_tokens: int, output_tokens: int, seconds: float, characters: int) -> int | None:
        """What that costs at the dearest rate of each kind."""
        tokens: int | None = 0
        if self._tokens:
            given, taken = _times(input_tokens, self._dearest_given), _times(output_tokens, self._dearest_taken)
            tokens = None if given is None or taken is None else given + taken
        return self._sum(tokens, seconds, characters, has_tokens=bool(input_tokens or output_tokens))

    def _sum(self, tokens: int | None, seconds: float, characters: int, *, has_tokens: bool) -> int | None:
        if tokens is None:
            return None
        cost = tokens + (self._request or 0)
        is_known = self._request is not None or (has_tokens and self._tokens)
        if seconds and self._millisecond is not None:
            cost += math.ceil(seconds * 1000) * self._millisecond
            is_known = True
        if characters and self._character is not None:
            cost += characters * self._character
            is_known = True
        return cost if is_known or not (has_tokens or seconds or characters) else None

    def _given_pico(self, usage: Usage) -> int | None:
        hour = usage.cache_write_1h_tokens
        write = usage.cache_write_tokens - hour
        if not (usage.cached_tokens or write or hour or usage.input_audio_tokens or usage.input_image_tokens):
            return _times(usage.input_tokens, self._given[-1])
        parts = (usage.cached_tokens, hour, write, usage.input_audio_tokens, usage.input_image_tokens)
        return _sum_parts(usage.input_tokens, parts, self._given)

    def _taken_pico(self, usage: Usage) -> int | None:
        if not (usage.output_audio_tokens or usage.output_image_tokens or usage.reasoning_tokens):
            return _times(usage.output_tokens, self._taken[-1])
        parts = (usage.output_audio_tokens, usage.output_image_tokens, usage.reasoning_tokens)
        return _sum_parts(usage.output_tokens, parts, self._taken)


def _dearest(rates: Iterable[int | None]) -> int | None:
    return max((rate for rate in rates if rate is not None), default=None)


def _sum_parts(whole: int, parts: Sequence[int], rates: Sequence[int | None]) -> int | None:
    """`parts` of `whole`, each at its rate, and what is left at the last one. None where a rate is missing."""
    cost = 0
    for count, rate in zip(parts, rates, strict=False):
        if count > 0 and whole:
            taken = min(count, whole)
            if rate is None:
                return None
            cost += taken * rate
            whole -= taken
    rest = _times(whole, rates[-1])
    return None if rest is None else cost + rest


def _times(count: int, rate: int | None) -> int | None:
    if not count:
        return 0
    return None if rate is None else count * rate


class Price:
    """The price of one deployment's work, and where it comes from."""

    __slots__ = ("_base", "_text", "_tiers", "most", "source")

    def __init__(self, source: str, rates: Rates, tiers: Iterable[tuple[int, Rates]] = ()) -> None:
        """`tiers` hold for requests with more input tokens than the number before them; what they leave open is as in
        `rates`."""
        self.source = source
        self._base = _Tier(0, rates, source)
        self._tiers = [_Tier(over, above.over(rates), source) for over, above in sorted(tiers, key=lambda one: -one[0])]
        self._text, self.most = self._base.text(self._tiers[-1].over if self._tiers else _NO_END)
        """Of most requests: text in, text out, and no more of it than the price holds for."""

    @classmethod
    def shown(cls, prices: jsonio.Raw) -> "Price":
        """The price of which `charge` has shown the rates: those of the tier that applied."""
        members = jsonio.members(prices)
        given: dict[str, int] = {}
        for name in Rates.__struct_fields__:
            written, units = _SHOWN.get(name, (name, 1_000_000))
            if written in members:
                given[name] = int(Decimal(bytes(members[written]).decode()) * _PICO / units)
        return cls(jsonio.string(members["source"]) or "", Rates(**given))

    def charge(self, usage: Usage) -> tuple[int | None, jsonio.Raw]:
        """What that costs in nano-dollars, None where it is unknown; and the rates that were applied, as JSON."""
        given, taken, fixed, up_to = self._text
        if usage.input_tokens <= up_to and not (
            usage.cached_tokens
            or usage.cache_write_tokens
            or usage.reasoning_tokens
            or usage.input_audio_tokens
            or usage.input_image_tokens
            or usage.output_audio_tokens
            or usage.output_image_tokens
            or usage.seconds
            or usage.characters
        ):
            cost = usage.input_tokens * given + usage.output_tokens * taken + fixed
            return cost // PICO_PER_NANO, self._base.snapshot
        tier = self._base
        for one in self._tiers:  # the highest first
            if usage.input_tokens > one.over:
                tier = one
                break
        pico = tier.cost_pico(usage)
        return None if pico is None else (pico + _HALF_NANO) // PICO_PER_NANO, tier.snapshot

    def upper_bound_nano(
        self, input_tokens: int, output_tokens: int, seconds: float = 0.0, characters: int = 0
    ) -> int | None:
        """More than this no request with at most so much can cost; None where that is unknown."""
        given, taken, fixed, up_to = self.most
        if input_tokens <= up_to and not (seconds or characters):
            return (input_tokens * given + output_tokens * taken + fixed) // PICO_PER_NANO
        most = self._base.most_pico(input_tokens, output_tokens, seconds, characters)
        for tier in self._tiers:
            if most is None:
                break
            if tier.over < input_tokens:
                pico = tier.most_pico(input_tokens, output_tokens, seconds, characters)
                most = None if pico is None else max(most, pico)
        if most is None:
            return None
        return -(-most // PICO_PER_NANO)


FREE: Final = Price("free", Rates(input=0, output=0, character=0, millisecond=0))
"""Of what runs on the gateway's own machine, inside the gateway."""


def dollars(nano: int | None) -> float | None:
    """Nano-dollars as a decimal number of dollars, for JSON."""
    return None if nano is None else float(Decimal(nano) / NANO)
