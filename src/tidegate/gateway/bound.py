"""What a request may use: an estimate for limits of tokens, and for budgets a bound that it cannot exceed."""

import math
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from tidegate.access.prices import Prices
from tidegate.dialects.dialect import AnyRequest, Call, Destination
from tidegate.dialects.extent import Extent
from tidegate.dialects.transcription.duration import READABLE
from tidegate.gateway.snapshot import Path
from tidegate.wire.errors import CostUnbounded
from tidegate.wire.events import BYTES_PER_TOKEN, Usage
from tidegate.wire.forms import FILE

__all__ = [
    "FRAME_TOKENS",
    "PRICE_UNKNOWN",
    "USUAL_OUTPUT_TOKENS",
    "estimated_tokens",
    "most_nano",
    "text_nano",
    "within",
]

PRICE_UNKNOWN: Final = "price_unknown"

USUAL_OUTPUT_TOKENS: Final = 1024
"""What an answer is taken to need for which no maximum is asked; the limits of tokens are set right when it has ended."""

FRAME_TOKENS: Final = 2560
"""Most tokens that a provider itself puts around a prompt, such as what tells the model how to call tools: Anthropic's text
editor and shell are named in 200 bytes, and described to the model in 1,291 tokens."""


def estimated_tokens(extent: Extent, call: Call) -> int:
    """About as many tokens as the request will use, input and output together."""
    output = extent.output_tokens
    if output is None:
        output = USUAL_OUTPUT_TOKENS
    return -(-call.request_bytes // BYTES_PER_TOKEN) + output * extent.choices


def most_nano(
    prices: Prices, plan: Sequence[Path], request: AnyRequest, extent: Extent, call: Call, model: str, at: float
) -> list[int]:
    """More nano-dollars than these the request cannot cost at each deployment of the plan. Raises CostUnbounded, which names
    all of them that lack the same setting."""
    costs: list[int] = []
    endless: list[Path] = []
    unpriced: list[Path] = []
    times: int | None = None
    is_read = False
    for path in plan:
        destination = path.destination
        input_tokens = extent.input_tokens
        try:
            if extent.seconds and math.isinf(extent.seconds):
                raise CostUnbounded(
                    "A budget holds for this request, and how long the recording lasts cannot be told from it. Send it as "
                    f"{READABLE}.",
                    param=FILE,
                    code="duration_unknown",
                )
            output_tokens = path.bound.output(extent.output_tokens, extent.choices)
            if output_tokens is None:
                if not _is_free(prices, destination, at):
                    endless.append(path)
                    if prices.of(destination, at) is None:
                        unpriced.append(path)
                costs.append(0)
                continue
            if input_tokens is None:
                if not is_read:
                    times, is_read = request.reads(), True
                input_tokens = _input(max(call.request_bytes, call.most_bytes), destination, model, times)
                if times != 0 and destination.endpoint == "messages":
                    output_tokens *= _rounds(times, destination, model)  # its maximum is that of each round
        except CostUnbounded:
            if not _is_free(prices, destination, at):
                raise
            costs.append(0)
            continue
        price = prices.of(destination, at)
        cost = (
            None
            if price is None
            else price.upper_bound_nano(input_tokens, output_tokens, extent.seconds, extent.characters)
        )
        if cost is None:
            unpriced.append(path)
        costs.append(cost or 0)
    if endless:
        raise _output_unknown(endless, model, unpriced)
    if unpriced:
        raise _price_unknown(unpriced)
    if any(costs) and (member := request.surcharge()) is not None:
        raise CostUnbounded(
            f"A budget holds for this request, and with its '{member}' the provider charges more than the prices that are "
            "known here. Leave it out.",
            param=member,
            code="price_unknown",
        )
    return costs


def text_nano(
    prices: Prices, plan: Sequence[Path], request: AnyRequest, extent: Extent, call: Call
) -> list[int] | None:
    """As :func:`most_nano` of a request that is nothing but text, where all is known that it takes, and no provider may add what
    it holds; else None. Most are like that, and this is the short way."""
    size, whole = call.request_bytes, call.most_bytes
    most = (size if size > whole else whole) + FRAME_TOKENS
    names_files = False
    costs = []
    for path in plan:
        cost = path.bound.nano(prices, call.created_at, most, extent.output_tokens, extent.choices)
        if cost is None:
            return None
        costs.append(cost)
        if path.destination.names_files:
            names_files = True
    return None if request.is_remarkable(names_files) else costs


def _is_free(prices: Prices, destination: Destination, at: float) -> bool:
    """Whether nothing that it does costs anything."""
    return prices.upper_bound_nano(destination, 1, 1, seconds=1, characters=1, at=at) == 0


def _output_unknown(paths: Sequence[Path], model: str, unpriced: Sequence[Path]) -> CostUnbounded:
    lacking: dict[str, list[str]] = {}
    for path in paths:
        lacking.setdefault(path.destination.provider, []).append(f'"{path.destination.model}" = …')
    settings = ", ".join(
        f"providers.{provider}.max_output = {{ {', '.join(dict.fromkeys(models))} }}"
        for provider, models in lacking.items()
    )
    what = (
        f"the model '{model}' thinks beside the request's maximum of output tokens, and has none of its own that is known. Have"
        if any(path.destination.thinks_apart for path in paths)
        else f"the request sets no maximum of output tokens, and the model '{model}' has none that is known. Set one in the "
        "request, or have"
    )
    return CostUnbounded(
        f"A budget holds for this request: {what} the gateway's administrator add it to its configuration: {settings}."
        + (f" {_price_wanted(unpriced, 'Nobody knows either')}" if unpriced else ""),
        param="model",
        code="output_limit_unknown",
    )


def _price_unknown(paths: Sequence[Path]) -> CostUnbounded:
    return CostUnbounded(
        f"A budget holds for this request, and {_price_wanted(paths, 'nobody knows')}",
        param="model",
        code=PRICE_UNKNOWN,
    )


def _price_wanted(paths: Sequence[Path], nobody_knows: str) -> str:
    names = list(dict.fromkeys(path.name for path in paths))
    who = " and ".join(f"'{name}'" for name in names)
    settings = ", ".join(f'[prices."{name}"]' for name in names)
    return (
        f"{nobody_knows} what {who} {'costs' if len(names) == 1 else 'cost'}. The gateway's administrator can say so in its "
        f"configuration: {settings}."
    )


def _input(request_bytes: int, destination: Destination, model: str, times: int | None) -> int:
    """No text has more tokens than bytes. What the provider fetches, looks at or searches for has no size that is known
    here: that can fill the model's whole context."""
    most = destination.max_input_tokens
    if times == 0:
        whole = request_bytes + FRAME_TOKENS
        return whole if most is None else min(whole, most)
    if most is None:
        raise CostUnbounded(
            f"A budget holds for this request, which has the provider read images, audio or files or use tools of its own, "
            f"and how much the model '{model}' can read is not known. The gateway's administrator can add that to its "
            f'configuration: providers.{destination.provider}.max_input = {{ "{destination.model}" = … }}.',
            param="model",
            code="input_limit_unknown",
        )
    return most * _rounds(times, destination, model)


def _rounds(times: int | None, destination: Destination, model: str) -> int:
    """How often the whole context may be read within one answer. Raises CostUnbounded."""
    known = destination.tool_rounds
    if times is not None:
        return times if known is None else min(times, max(1, known))
    if known is None:
        raise CostUnbounded(
            f"A budget holds for this request, and how often the model '{model}' uses the tools that its provider runs is not "
            "known. Limit that in the request (`max_tool_calls`, or `max_uses` of each tool), or have the gateway's "
            f'administrator do it: providers.{destination.provider}.tool_rounds = {{ "{destination.model}" = … }}.',
            param="tools",
            code="tool_rounds_unknown",
        )
    return max(1, known)


def within(guess: Usage, most: int, cost_of: Callable[[Usage], int | None]) -> Usage:
    """An estimate that costs no more than `most` nano-dollars, with as much of its output as fits: what nobody has counted
    must not pass a bound that the truth cannot pass."""
    cost = cost_of(guess)
    if cost is None or cost <= most:
        return guess
    least = cost_of(_scaled(guess, 0, 1)) or 0
    if least >= most:
        return _scaled(guess, 0, 1)
    fitting = _scaled(guess, most - least, cost - least)
    while fitting.output_tokens and (cost_of(fitting) or 0) > most:  # by what was rounded
        fitting = _scaled(guess, fitting.output_tokens - 1, guess.output_tokens)
    return fitting


def _scaled(usage: Usage, share: int, whole: int) -> Usage:
    """With that share of its output."""
    return msgspec.structs.replace(
        usage,
        output_tokens=usage.output_tokens * share // whole,
        reasoning_tokens=usage.reasoning_tokens * share // whole,
        output_audio_tokens=usage.output_audio_tokens * share // whole,
        output_image_tokens=usage.output_image_tokens * share // whole,
    )
