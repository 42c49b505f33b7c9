"""What text can cost at most at one deployment. All is known beforehand but the size of the request and what it asks for."""

from typing import Final

from tidegate.access.prices import Prices
from tidegate.access.rates import PICO_PER_NANO, UNKNOWN, Price, Text
from tidegate.dialects.dialect import Destination
from tidegate.dialects.messages.upstream import DEFAULT_MAX_TOKENS

__all__ = ["TextBound"]

_LARGEST: Final = 2**62
"""A maximum that limits nobody."""


class TextBound:
    """Kept with the deployment, of which nothing changes but the price."""

    __slots__ = (
        "_destination",
        "_holds_until",
        "_most",
        "_most_input",
        "_most_output",
        "_price",
        "_prices",
        "_thinks_apart",
        "_usual_output",
    )

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        most = destination.max_output_tokens
        self._most_output = _LARGEST if most is None else most
        self._usual_output = DEFAULT_MAX_TOKENS if most is None and destination.endpoint == "messages" else most
        """Where nothing is asked; of Anthropic's API the gateway itself asks for so much."""
        self._thinks_apart = destination.thinks_apart
        self._most_input = _LARGEST if destination.max_input_tokens is None else destination.max_input_tokens
        self._prices: Prices | None = None
        self._price: Price | None = None
        self._holds_until = 0.0
        self._most: Text = UNKNOWN

    def price(self, prices: Prices, at: float) -> Price | None:
        """What `prices` has for the deployment at that time. It is looked up again only when that may be another."""
        if prices is not self._prices or at >= self._holds_until:
            self._look_up(prices, at)
        return self._price

    def nano(self, prices: Prices, at: float, input_tokens: int, asked: int | None, choices: int) -> int | None:
        """More nano-dollars than these a request cannot cost that is nothing but text, of no more than so many tokens, and
        that asks for so many in each choice. None where that is unknown, or where the provider may add what it holds."""
        if prices is not self._prices or at >= self._holds_until:
            self._look_up(prices, at)
        output_tokens = self.output(asked, choices)
        if output_tokens is None:
            return None
        if input_tokens > self._most_input:
            input_tokens = self._most_input
        given, taken, fixed, up_to = self._most
        if input_tokens <= up_to:
            return (input_tokens * given + output_tokens * taken + fixed) // PICO_PER_NANO
        if self._price is None or not self._destination.gateway_state:
            return None
        return self._price.upper_bound_nano(input_tokens, output_tokens)

    def output(self, asked: int | None, choices: int) -> int | None:
        """Most output tokens of a request that asks for so many in each choice; None where nobody has set a maximum."""
        if asked is None or (asked and self._thinks_apart):  # what is asked for says nothing of what the model thinks
            asked = self._usual_output
            if asked is None:
                return None
        elif asked > self._most_output:
            asked = self._most_output
        return asked * choices

    def _look_up(self, prices: Prices, at: float) -> None:
        self._price, self._holds_until = prices.found(self._destination, at)
        self._prices = prices
        self._most = self._price.most if self._price is not None and self._destination.gateway_state else UNKNOWN
