"""Any bytes from a chat provider: laws are kept, and nothing is raised that is not meant to be."""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects.chat.playing import (
    DONE,
    OFFICIAL,
    UPSTREAM,
    answer,
    asked,
    check_laws,
    decoded,
    provider,
    sent,
    shown,
    stream,
)
from tests.dialects.chat.test_chat_decoder import CUSTOM, MESSAGES, USAGE, calls, tool
from tests.dialects.chat.test_chat_round_trip import REQUESTS
from tests.dialects.common import bytewise, frame, names, vector
from tests.dialects.test_dialects_fuzz import mutated
from tidegate.dialects.chat import ChatDialect
from tidegate.dialects.dialect import Quirks
from tidegate.wire.errors import InvalidRequest, TidegateError, WireError

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
    {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}, {"type": "text", "text": "潮"}]},
    calls({**tool(2, "c", "h", "{}"), "extra_content": {"google": {"thought_signature": "QUJD"}}}),
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


VALUES: list[Any] = [None, 0, -1, 1.5, "", "x", [], {}, [None], [{}], [[]], {"a": 1}, True, "none", "function", 1e300]


def misshapen(value: Any, seed: int) -> Any:
    """The same JSON with a node or two of another type, or without."""
    chance = random.Random(seed)
    value = json.loads(json.dumps(value))
    for _ in range(chance.randint(1, 2)):
        found = list(nodes(value))
        if not found:
            break
        node, key = chance.choice(found)
        if isinstance(node, dict) and chance.random() < 0.2:
            node.pop(key)
        else:
            node[key] = json.loads(json.dumps(chance.choice(VALUES)))
    return value


def nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield value, key
        yield from nodes(inner)


@settings(max_examples=400)
@given(st.sampled_from(sorted(MESSAGES)), st.integers(0, 2**32))
def test_members_of_any_type_keep_the_laws(name: str, seed: int) -> None:
    choice = {"index": 0, "delta": MESSAGES[name], "finish_reason": "stop", "logprobs": {"content": [{"token": "a"}]}}
    decoded(frame(misshapen({"id": "c", "choices": [choice], "usage": USAGE, "citations": ["u"]}, seed)) + DONE)
    try:
        check_laws(
            UPSTREAM.decode_answer(json_of(misshapen(as_json(answer(MESSAGES[name])), seed)), provider(), REQUEST)
        )
    except (WireError, TidegateError):
        return


@settings(max_examples=400)
@given(st.sampled_from(sorted(REQUESTS)), st.integers(0, 2**32))
def test_requests_of_any_shape_are_carried_or_refused(name: str, seed: int) -> None:
    refusal: InvalidRequest | None = None
    try:
        canonical = ChatDialect().parse(json_of(misshapen({"model": "m", **REQUESTS[name]}, seed))).canonical()
        for to in DESTINATIONS.values():
            sent(canonical, to, allowed=True)
    except InvalidRequest as error:
        refusal = error
    assert refusal is None or refusal.param


def as_json(body: bytes) -> Any:
    return json.loads(body)


def json_of(value: Any) -> bytes:
    return json.dumps(value).encode()


@given(st.binary(max_size=200))
def test_any_bytes_are_taken(data: bytes) -> None:
    decoded(data)
    decoded(b"data: " + data + b"\n\n")
