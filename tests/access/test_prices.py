"""Prices: each thing once, exactly, the right one at the right time, and unknown where it is unknown."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.access.catalogue import Catalogue, Clause, ListedModel, Period, PriceList, fetch_catalogue
from tidegate.access.ledger import interrupted
from tidegate.access.prices import Prices
from tidegate.access.rates import FREE, Price, Rates
from tidegate.access.reports import csv_lines, entry_object
from tidegate.config.load import load
from tidegate.dialects.dialect import Endpoint
from tidegate.storage.entry import UsageEntry
from tidegate.storage.records import OpenUsage, Tenant
from tidegate.storage.records import Usage as Row
from tidegate.wire import jsonio
from tidegate.wire.events import Usage

NOON = 1_790_000_000.0
DAY_S = 86_400.0


class At(msgspec.Struct):
    """A deployment."""

    provider: str
    model: str


def prices(toml: str, catalogue: Catalogue | None = None) -> Prices:
    config = load(toml, "tidegate.toml", {})
    return Prices(config.prices, config.providers, *([] if catalogue is None else [catalogue]))


TOML = """
[providers.lab]
kind = "openai-compatible"
base_url = "https://lab.example.com/v1"
[providers.openai]
credentials = ["sk-0123456789abcdef0123456789abcdef"]
[providers.relay]
kind = "openai"
base_url = "https://relay.example.com/v1"
credentials = ["sk-0123456789abcdef0123456789abcdef"]
price_list = "openai"
[providers.mute]
kind = "openai"
credentials = ["sk-0123456789abcdef0123456789abcdef"]
price_list = "none"
[providers.sim]
[prices."lab/*"]
input = 1
output = 2
[prices."lab/exact"]
input = 0.0625
cached = 0.000001
output = 10.123456
tiers = [{ over = 1000, input = 5 }, { over = 2000, output = 20 }]
[prices."lab/spoken"]
characters = 15
second = 0.0001
request = 0.01
"""

LISTED = Catalogue(
    version="1",
    lists=(
        PriceList(
            name="openai",
            address=r"https://api\.openai\.com",
            fallback=("others",),
            models=(
                ListedModel(
                    name="gpt",
                    match=Clause(any_of=(Clause(starts_with="gpt-"), Clause(equals="chat"))),
                    periods=(
                        Period(rates=Rates(input=100, output=200)),
                        Period(rates=Rates(input=50, output=60), since=NOON),
                        Period(rates=Rates(input=10, output=20), between=(79_200.0, 7_200.0)),
                    ),
                ),
            ),
        ),
        PriceList(
            name="others",
            address="https://others",
            models=(
                ListedModel(
                    name="x",
                    match=Clause(all_of=(Clause(contains="x"), Clause(regex=r"\d$"), Clause(ends_with="1"))),
                    periods=(Period(rates=Rates(input=7, output=8)),),
                ),
            ),
        ),
    ),
)


def cost(price: Price | None, **used: Any) -> int | None:
    assert price is not None
    return price.charge(Usage(**used))[0]


def test_the_configurations_price_goes_before_a_pattern_and_before_the_catalogue() -> None:
    found = prices(TOML, LISTED)
    assert cost(found.of(At("lab", "any"), NOON), input_tokens=3, output_tokens=4) == 3 * 1000 + 4 * 2000
    exact = found.of(At("lab", "exact"), NOON)
    assert cost(exact, input_tokens=1000) == 62_500
    assert cost(exact, input_tokens=1001) == 1001 * 5000
    assert cost(exact, input_tokens=2001, output_tokens=10) == 2001 * 62_500 // 1000 + 10 * 20_000 + 1


def test_amounts_are_exact_and_rounded_once() -> None:
    exact = prices(TOML).of(At("lab", "exact"), NOON)
    assert cost(exact, input_tokens=1, cached_tokens=1) == 0
    assert cost(exact, input_tokens=499, cached_tokens=499) == 0
    assert cost(exact, input_tokens=500, cached_tokens=500) == 1
    assert cost(exact, output_tokens=1) == 10_123
    assert cost(exact, output_tokens=3) == 30_370
    assert cost(exact, output_tokens=10**12) == 10_123_456 * 10**9


@pytest.mark.fault("FAULT-CATALOGUE")
def test_what_has_no_price_is_unknown_and_never_zero() -> None:
    found = prices(TOML, LISTED)
    assert found.of(At("openai", "nobody"), NOON) is None
    assert found.of(At("nobody", "gpt-1"), NOON) is None
    assert found.of(At("mute", "gpt-1"), NOON) is None
    assert found.upper_bound_nano(At("openai", "nobody"), 1, 1, at=NOON) is None
    only_input = Price("x", Rates(input=1_000_000))
    assert cost(only_input, input_tokens=2) == 2000
    assert cost(only_input, input_tokens=2, output_tokens=1) is None
    assert cost(only_input, seconds=3.0) is None
    assert cost(only_input) == 0
    assert only_input.upper_bound_nano(5, 1) is None
    assert cost(Price("x", Rates(millisecond=5)), input_tokens=9) is None


def test_what_the_gateway_runs_itself_is_free() -> None:
    found = prices(TOML).of(At("sim", "anything"), NOON)
    assert found is FREE
    for used in ({"input_tokens": 9, "output_tokens": 9}, {"seconds": 3.0}, {"characters": 9}, {}):
        assert cost(found, **used) == 0


def test_seconds_characters_and_requests_have_prices_of_their_own() -> None:
    spoken = prices(TOML).of(At("lab", "spoken"), NOON)
    assert cost(spoken, characters=1000) == 15_000_000 + 10_000_000
    assert cost(spoken, seconds=61.2) == 6_120_000 + 10_000_000
    # Where characters have a price, tokens that were counted as well cost nothing more.
    assert cost(spoken, characters=1000, input_tokens=300, output_tokens=5) == 25_000_000


def test_the_catalogue_is_asked_by_address_or_by_the_name_that_was_given() -> None:
    found = prices(TOML, LISTED)
    assert cost(found.of(At("openai", "GPT-5"), NOON - DAY_S), input_tokens=1000) == 100
    assert cost(found.of(At("relay", "chat"), NOON - DAY_S), input_tokens=1000) == 100
    assert found.of(At("relay", "chats"), NOON) is None
    assert cost(found.of(At("openai", "prefix/1"), NOON), input_tokens=1000) is not None
    assert found.wanted == (
        frozenset({"https://lab.example.com/v1", "https://api.openai.com/v1"}),
        frozenset({"openai"}),
    )


def test_a_price_is_that_of_the_time_of_the_request() -> None:
    found = prices(TOML, LISTED)
    midnight = NOON // DAY_S * DAY_S

    def at(time: float) -> int | None:
        return cost(found.of(At("openai", "gpt-5"), time), input_tokens=1000)

    assert at(midnight - DAY_S + 12 * 3600) == 100
    assert at(NOON + 1) == 50
    assert at(midnight + 23 * 3600) == 10
    assert at(midnight + 2 * DAY_S + 3600) == 10
    assert at(midnight + 2 * DAY_S + 3 * 3600) == 50


@settings(max_examples=300)
@given(
    st.builds(
        Usage,
        **{
            name: st.integers(0, 50)
            for name in Usage.__struct_fields__
            if name.endswith("_tokens") and name != "cache_write_1h_tokens"
        },
    ),
    st.integers(0, 50),
)
def test_nothing_is_priced_twice_and_nothing_below_zero(usage: Usage, hour: int) -> None:
    usage = msgspec.structs.replace(usage, cache_write_1h_tokens=min(hour, usage.cache_write_tokens))
    flat = Price("flat", Rates(input=1_000_000, output=3_000_000))
    assert cost(flat, **msgspec.structs.asdict(usage)) == usage.input_tokens * 1000 + usage.output_tokens * 3000
    rates = Rates(
        input=7000,
        cached=1000,
        cache_write=9000,
        cache_write_1h=11_000,
        input_audio=13_000,
        input_image=17_000,
        output=19_000,
        reasoning=23_000,
        output_audio=29_000,
        output_image=31_000,
    )
    found = cost(Price("parts", rates), **msgspec.structs.asdict(usage))
    assert found is not None
    assert usage.input_tokens + 19 * usage.output_tokens <= found <= 17 * usage.input_tokens + 31 * usage.output_tokens
    most = Price("parts", rates).upper_bound_nano(usage.input_tokens, usage.output_tokens)
    assert most is not None
    assert found <= most


@settings(max_examples=200)
@given(st.integers(0, 5000), st.integers(0, 100), st.integers(0, 100))
def test_no_request_costs_more_than_its_upper_bound(given_tokens: int, taken: int, cached: int) -> None:
    exact = prices_of_tiers()
    most = exact.upper_bound_nano(given_tokens, taken)
    found = cost(exact, input_tokens=given_tokens, output_tokens=taken, cached_tokens=cached)
    assert found is not None
    assert most is not None
    assert found <= most


def prices_of_tiers() -> Price:
    found = prices(TOML).of(At("lab", "exact"), NOON)
    assert found is not None
    return found


def test_the_snapshot_says_what_was_applied_and_can_be_applied_again() -> None:
    price = prices_of_tiers()
    usage = Usage(input_tokens=1500, output_tokens=7, cached_tokens=300)
    charged, shown = price.charge(usage)
    assert jsonio.anything(shown) == {
        "source": 'prices."lab/exact"',
        "input": 5.0,
        "cached": 0.000001,
        "output": 10.123456,
        "over": 1000,
    }
    assert Price.shown(shown).charge(usage)[0] == charged


def test_an_interrupted_request_is_priced_by_its_own_snapshot() -> None:
    price = prices_of_tiers()
    members: dict[str, Any] = dict.fromkeys(
        ("cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "attempts"), 0
    )
    entry = UsageEntry(
        request_id="r",
        endpoint="chat",
        status=0,
        ending="open",
        duration_ms=0.0,
        stream=True,
        estimated=True,
        input_tokens=100,
        **members,
    )
    row = Row(
        number=1,
        tenant=Tenant("a", "b"),
        admitted_at=NOON,
        entry=entry,
        cost_nano=6250,
        prices=price.charge(Usage(input_tokens=100))[1],
    )
    found = interrupted(OpenUsage(usage=row, last_sequence=3000 + 250 * 40))
    assert (found.entry.ending, found.entry.output_tokens, found.entry.estimated) == ("interrupted", 40, True)
    assert found.cost_nano == cost(price, input_tokens=100, output_tokens=40)
    unpriced = msgspec.structs.replace(row, cost_nano=None, prices=jsonio.NULL)
    assert interrupted(OpenUsage(usage=unpriced, last_sequence=None)).cost_nano is None
    for one in row, found:  # nobody knows what the client saw, nor how long it waited
        shown = entry_object(one)
        assert (shown["status"], shown["duration_ms"]) == (None, None)
        assert (
            csv_lines(("status", "duration_ms", "ending"), [shown], head=False) == f",,{one.entry.ending}\r\n".encode()
        )


def test_the_package_gives_the_prices_of_what_is_asked_for_and_nothing_else() -> None:
    found = asyncio.run(fetch_catalogue(["https://api.openai.com/v1", "https://lab.example.com/v1"], ["anthropic"]))
    assert {one.name for one in found.lists} == {"openai", "anthropic"}
    assert found.version
    known = prices(TOML, found).of(At("openai", "whisper-1"), NOON)
    assert known is not None
    assert known.source == f"genai-prices {found.version} openai/whisper-1"
    assert cost(known, seconds=60.0) == int(Decimal("0.36") / 60 * 10**9)


@pytest.mark.parametrize("amount", ["-1", "true", '"x"', "0.0000001", "1e12", "nan"])
def test_an_impossible_price_is_refused(amount: str) -> None:
    from tidegate.config.problem import ConfigInvalid

    with pytest.raises(ConfigInvalid, match="US dollars"):
        load(f'[providers.sim]\n[prices."sim/x"]\ninput = {amount}\n', "t.toml", {})


@pytest.mark.filterwarnings("default")
def test_our_arithmetic_agrees_with_the_packages_own() -> None:
    import genai_prices
    from genai_prices.data import providers

    names = {"openai", "anthropic", "google", "deepseek", "x-ai", "mistral", "groq", "openrouter"}
    found = asyncio.run(fetch_catalogue([], names))
    compared = 0
    for provider in providers:
        if provider.id not in names:
            continue
        for model in provider.models[:40]:
            listed = found.find(model.id, name=provider.id, at=NOON)
            if listed is None:
                assert provider.find_model(model.id) is None, model.id
                continue
            for used in (
                {"input": 900, "output": 70, "cached": 300},
                {"input": 400_000, "output": 900, "cached": 9000},
            ):
                ours, _ = listed[0].charge(
                    Usage(input_tokens=used["input"], output_tokens=used["output"], cached_tokens=used["cached"])
                )
                if ours is None:
                    continue  # it is not counted in tokens
                theirs = genai_prices.calc_price(
                    genai_prices.Usage(
                        input_tokens=used["input"], output_tokens=used["output"], cache_read_tokens=used["cached"]
                    ),
                    model_ref=model.id,
                    provider_id=provider.id,
                    genai_request_timestamp=datetime.fromtimestamp(NOON, UTC),
                )
                assert abs(ours - theirs.total_price * 10**9) <= 1, (model.id, used)
                compared += 1
    assert compared > 300


def test_deployments_compare_by_what_their_endpoint_counts() -> None:
    """Dollars for a million tokens, of which three quarters are read; for other endpoints what they count."""
    known = prices(
        """
[providers.lab]
kind = "openai-compatible"
base_url = "https://lab.example.com/v1"
[prices."lab/text"]
input = 1
output = 4
tiers = [{ over = 100000, input = 100, output = 400 }]
[prices."lab/vectors"]
input = 0.25
[prices."lab/voice"]
characters = 15
[prices."lab/voice-by-tokens"]
input = 0.6
output_audio = 12
output = 12
[prices."lab/ears"]
second = 0.0001
[prices."lab/half"]
input = 1
"""
    )

    def typical(model: str, endpoint: Endpoint) -> float | None:
        return known.typical(At("lab", model), endpoint, NOON)

    assert typical("text", "chat") == typical("text", "gemini") == 1.75
    assert typical("vectors", "embeddings") == 0.25
    assert typical("voice", "speech") == 15
    assert typical("voice-by-tokens", "speech") == pytest.approx(250 * 0.6 / 1000 + 1250 * 12 / 1000)
    assert typical("ears", "transcription") == typical("ears", "translation") == pytest.approx(0.36)
    assert typical("half", "responses") is None
    assert typical("nobody-knows", "responses") is None
