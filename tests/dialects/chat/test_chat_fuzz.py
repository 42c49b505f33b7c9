"""Any bytes from a chat provider: laws are kept, and nothing is raised that is not meant to be."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects.chat.playing import OFFICIAL, UPSTREAM, answer, asked, decoded, provider, shown, stream
from tests.dialects.chat.test_chat_decoder import CUSTOM, MESSAGES, USAGE, calls, tool
from tests.dialects.common import bytewise, names, vector
from tests.dialects.test_dialects_fuzz import mutated
from tidegate.dialects.dialect import Quirks
from tidegate.wire.errors import TidegateError, WireError

DESTINATIONS = {
    "plain": provider(),
    "official": provider(quirks=OFFICIAL),
    "wants reasoning": provider(quirks=Quirks(reasoning_back="reasoning_content", model_suffix="@main")),
}
REQUEST = asked(tools=[CUSTOM])
RICH = stream(
    {"role": "assistant", "content": "<think>潮"},
    {"content": "汐</think>42"},
    {"reasoning": "r", "reasoning_details": [{"type": "reasoning.text", "text": "r", "index": 0}]},
    {"annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}], "refusal": "no"},
    calls(tool(0, "a", "apply_patch", '{"input": "潮'), tool(1, "b", "g", "{")),
    calls(tool(0, args='"}'), tool(1, args="}")),
    {"images": [{"image_url": {"url": "data:image/png;base64,AA=="}}], "function_call": {"name": "f"}},
    finish="tool_calls",
)


@pytest.mark.parametrize("to", DESTINATIONS)
@settings(max_examples=150)
@given(st.sampled_from(names("chat")), st.integers(0, 2**32))
def test_a_spoiled_stream_keeps_the_laws(to: str, name: str, seed: int) -> None:
    data = mutated(vector(name), seed)
    cuts = random.Random(seed)
    places = sorted(cuts.randrange(len(data) + 1) for _ in range(4))
    reads = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    decoded(reads, DESTINATIONS[to], REQUEST)


@settings(max_examples=300)
@given(st.integers(0, 2**32))
def test_a_spoiled_rich_stream_keeps_the_laws(seed: int) -> None:
    whole = decoded(mutated(RICH, seed), request=REQUEST)
    assert shown(decoded(bytewise(mutated(RICH, seed)), request=REQUEST)) == shown(whole)


@settings(max_examples=300)
@given(st.sampled_from(sorted(MESSAGES)), st.integers(0, 2**32))
def test_a_spoiled_answer_raises_only_what_it_may(name: str, seed: int) -> None:
    try:
        UPSTREAM.decode_answer(mutated(answer(MESSAGES[name], usage=USAGE), seed), provider(), REQUEST)
    except (WireError, TidegateError):
        return


@given(st.binary(max_size=200))
def test_any_bytes_are_taken(data: bytes) -> None:
    decoded(data)
    decoded(b"data: " + data + b"\n\n")
