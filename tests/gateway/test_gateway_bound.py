"""What bounds a request's cost is the same whether it was kept or is worked out anew."""

import asyncio
import json
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.access.test_prices import DAY_S, LISTED, NOON
from tidegate.access.catalogue import Catalogue
from tidegate.access.prices import Prices
from tidegate.config.load import load
from tidegate.config.schema import Config
from tidegate.dialects.chat.request import ChatDialect, ChatRequest
from tidegate.dialects.dialect import Call
from tidegate.dialects.profile import PROFILES
from tidegate.gateway.bound import FRAME_TOKENS, most_nano, text_nano
from tidegate.gateway.gateway import Gateway
from tidegate.gateway.snapshot import Path
from tidegate.gateway.textbound import TextBound

TOML = """
[providers.openai]
credentials = ["sk-0123456789abcdef0123456789abcdef"]
max_output = {{ "*" = 5000 }}
[providers.narrow]
kind = "openai-compatible"
base_url = "https://narrow.example.com/v1"
max_output = {{ "*" = 300 }}
max_input = {{ "*" = 3500 }}
[providers.apart]
kind = "dashscope"
credentials = ["sk-0123456789abcdef0123456789abcdef"]
max_output = {{ "*" = 700 }}
[providers.endless]
kind = "openai-compatible"
base_url = "https://endless.example.com/v1"
[providers.keeping]
kind = "openai"
state = "provider"
credentials = ["sk-0123456789abcdef0123456789abcdef"]
max_output = {{ "*" = 5000 }}
[providers.sim]
[prices."narrow/*"]
input = {price}
output = 7
request = 0.01
[prices."apart/*"]
input = 1
cached = 3
output = {price}
tiers = [{{ over = 4000, input = 5 }}, {{ over = 6000, output = 20 }}]
[prices."endless/*"]
input = 0.3
output = 1.1
[prices."keeping/*"]
input = 0.3
output = 1.1
[models.both]
target = "narrow/m"
fallback = ["apart/m", "openai/gpt-5"]
"""
MODELS = ("openai/gpt-5", "openai/unheard", "narrow/m", "apart/m", "endless/m", "keeping/m", "sim/echo", "both")
TIMES = (NOON - DAY_S, NOON - 1, NOON, NOON + 1, *(NOON // DAY_S * DAY_S + hour * 3600 for hour in (1, 3, 21, 23)))


class Known:
    """A configuration as one of the gateway's snapshots has it, and the prices of it."""

    def __init__(self, price: str, catalogue: Catalogue) -> None:
        self.config: Config = load(TOML.format(price=price), "tidegate.toml", {})
        self.catalogue = catalogue
        self.prices = self.anew()

    def anew(self) -> Prices:
        return Prices(self.config.prices, self.config.providers, self.catalogue)

    def plans(self) -> dict[str, list[Path]]:
        """Those of a snapshot that was just made."""
        loop = asyncio.new_event_loop()
        try:
            gateway = Gateway(loop, self.config, environment={}, embedded={"sim": "http://127.0.0.1:9/v1"})
            return {
                model: gateway.snapshot.plan(model, "chat", "/v1/chat/completions", "", loop.time()) for model in MODELS
            }
        finally:
            loop.close()


@pytest.fixture(scope="module")
def known() -> list[Known]:
    """After a reload there are others, and after the catalogue was read."""
    return [Known("2", LISTED), Known("11", LISTED), Known("2", Catalogue())]


@pytest.fixture(scope="module")
def kept(known: list[Known]) -> dict[str, list[Path]]:
    return known[0].plans()


def asked(body: Mapping[str, object], at: float) -> tuple[ChatRequest, Call]:
    text = json.dumps({"model": "m", **body}).encode()
    dialect = ChatDialect()
    request = dialect.parse_plain(text) or dialect.parse(text)
    call = Call(
        response_id="resp_1",
        created_at=int(at),
        wall_clock=lambda: int(at),
        profile=PROFILES["openai"],
        request_bytes=len(text),
        most_bytes=len(text),
    )
    return request, call


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(MODELS),
            st.integers(0, 2),
            st.integers(0, 6000),
            st.none() | st.integers(1, 400) | st.integers(401, 10_000),
            st.none() | st.integers(1, 5),
            st.sampled_from(TIMES),
            st.sampled_from(("", " fileid://x", ' "image_url"')),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_a_bound_that_was_kept_is_that_of_now(
    known: list[Known],
    kept: dict[str, list[Path]],
    requests: list[tuple[str, int, int, int | None, int | None, float, str]],
) -> None:
    """For any requests, one after the other, as time goes by, by any of the prices that there have been."""
    plans = {
        model: [msgspec.structs.replace(path, bound=TextBound(path.destination)) for path in plan]
        for model, plan in kept.items()
    }
    prices = [one.anew() for one in known]
    for model, which, size, most, choices, at, more in sorted(requests, key=lambda one: one[5]):
        members = {"max_tokens": most, "n": choices, "messages": [{"role": "user", "content": "a" * size + more}]}
        request, call = asked(members, at)
        plan = plans[model]
        found = text_nano(prices[which], plan, request, request.extent, call)
        fresh = known[which].anew()
        if found is None:
            lacks = any(
                fresh.of(path.destination, at) is None
                or path.bound.output(most, 1) is None
                or not path.destination.gateway_state
                for path in plan
            )
            reads_files = "fileid" in more and any(path.destination.names_files for path in plan)
            assert lacks or reads_files
            continue
        assert not any(path.destination.names_files for path in plan) or "fileid" not in more
        sent, _ = asked({**members, "messages": [{"role": "user", "content": "a" * (size + len(more))}]}, at)
        assert found == most_nano(fresh, plan, sent, sent.extent, call, model, at)


@settings(max_examples=100)
@given(
    st.sampled_from(("narrow/m", "apart/m")),
    st.integers(0, 6000),
    st.none() | st.integers(1, 2000),
    st.integers(1, 3),
)
def test_a_bound_is_input_and_output_at_their_prices(
    known: list[Known], kept: dict[str, list[Path]], model: str, size: int, most: int | None, choices: int
) -> None:
    request, call = asked(
        {"max_tokens": most, "n": choices, "messages": [{"role": "user", "content": "a" * size}]}, NOON
    )
    found = text_nano(known[1].prices, kept[model], request, request.extent, call)
    given_tokens = call.request_bytes + FRAME_TOKENS
    if model == "narrow/m":
        taken = min(most or 300, 300) * choices
        assert found == [min(given_tokens, 3500) * 11_000 + taken * 7000 + 10_000_000]
        return
    taken = 700 * choices  # whatever was asked: thoughts come on top
    # Above each border the dearest of all that may apply. Tokens may all be cached, which costs more than reading them.
    dearest = [(3000, 11_000)]
    if given_tokens > 4000:
        dearest.append((5000, 11_000))
    if given_tokens > 6000:
        dearest.append((3000, 20_000))
    assert found == [max(given_tokens * one + taken * other for one, other in dearest)]


@pytest.mark.security("SEC-API4-BOUND")
def test_files_are_looked_for_wherever_a_model_may_read_them(known: list[Known], kept: dict[str, list[Path]]) -> None:
    request, call = asked({"max_tokens": 5, "messages": [{"role": "user", "content": "fileid://file-1"}]}, NOON)
    for model in ("narrow/m", "apart/m", "both"):
        assert text_nano(known[0].prices, kept[model], request, request.extent, call) is None
    assert text_nano(known[0].prices, kept["openai/gpt-5"], request, request.extent, call) is not None
