"""Any bytes into any stream: what comes out keeps the law, and nothing is ever raised."""

import random
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects import common
from tests.dialects.common import DIALECTS, destination, events, play, vector
from tidegate.dialects.dialect import Quirks
from tidegate.wire import jsonio, sse

PIECES = [
    b"null",
    b"-1",
    b"1e999",
    b'""',
    b"[]",
    b"{}",
    b"\xff",
    b"\n\n",
    b"\r\r",
    b"data: ",
    b"event: ",
    b"[DONE]",
    b'"\\ud83c"',
    b": ",
    b'"error":{"code":429},',
]
DESTINATIONS = {
    "plain": destination(),
    "stateful": destination(gateway_state=False, cut_reported_as_completed=True),
    "loose": destination(
        quirks=Quirks(loose_chunks=True, loose_items=True, echoes_request=False, model_suffix="@main")
    ),
}


def mutated(data: bytes, seed: int) -> bytes:
    """The stream with some bytes changed, cut out, doubled or replaced by something that means something."""
    chance = random.Random(seed)
    spoiled = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(spoiled) + 1)
        until = min(len(spoiled), at + chance.choice((1, 3, 40, 400)))
        match chance.randrange(4):
            case 0:
                spoiled[at:until] = chance.choice(PIECES)
            case 1:
                spoiled[at:at] = chance.choice(PIECES)
            case 2:
                del spoiled[at:until]
            case _:
                spoiled[at:at] = spoiled[at:until]
    return bytes(spoiled)


def check(dialect: str, out: bytes) -> None:
    # Texts are checked to be UTF-8. Members that nobody reads go on as they are: a look at every byte of every frame would
    # cost more than it is worth.
    out = out.decode("utf-8", "replace").encode()
    found = events(out)
    if dialect != "responses":
        assert out.count(b"data: [DONE]") <= 1
        return
    numbers = [event["sequence_number"] for event in found if event["type"] != "keepalive"]
    assert numbers == list(range(len(numbers)))
    kinds = [event["type"] for event in found]
    assert kinds[0] == "response.created"
    assert kinds[1] in ("response.in_progress", "keepalive")
    assert sum(kind in ("response.completed", "response.incomplete", "response.failed") for kind in kinds) == 1
    assert kinds[-1] in ("response.completed", "response.incomplete", "response.failed")
    assert (
        len(
            {
                event["response"]["id"]
                for event in found
                if kinds and "response" in event and event["type"] in (kinds[0], kinds[-1])
            }
        )
        == 1
    )


@pytest.mark.fault("FAULT-DISORDER")
@pytest.mark.parametrize("to", DESTINATIONS)
@pytest.mark.parametrize(
    "name",
    [
        "responses-calls",
        "responses-reasoning-raw",
        "responses-error-then-failed",
        "chat-calls",
        "chat-usage",
        "completions-two",
    ],
)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 100_000), max_size=5))
@settings(max_examples=25, deadline=None)
def test_a_spoiled_stream_ends_by_the_law(name: str, to: str, seed: int, cuts: list[int]) -> None:
    dialect = name.partition("-")[0]
    data = mutated(vector(name), seed)
    asked: dict[str, Any] = {} if dialect == "responses" else {"stream_options": {"include_usage": True}}
    out = play(common.open_stream(dialect, to=DESTINATIONS[to], **asked), common.split(data, cuts))
    check(dialect, out)


@pytest.mark.parametrize("dialect", DIALECTS)
@given(
    reads=st.lists(
        st.binary(max_size=80)
        | st.sampled_from(PIECES)
        | st.sampled_from([b'data: {"type":"', b'"}\n\n', b'data: {"choices":[', b"]}\n\n"]),
        max_size=30,
    )
)
@settings(max_examples=40, deadline=None)
def test_bytes_of_any_kind_end_by_the_law(dialect: str, reads: list[bytes]) -> None:
    check(dialect, play(common.open_stream(dialect), reads))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "content", "text", "id", "status", "code", "message", "reason", "output", "usage", "index"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
EVENT_NAMES = ["created", "queued", "in_progress", "completed", "incomplete", "failed", "output_item.added", "output_item.done", "content_part.done",
               "output_text.delta", "function_call_arguments.done", "reasoning_part.added", "reasoning.delta", "what"]  # fmt: skip
EVENTS = st.builds(
    lambda name, members: {"type": name, **members},
    st.sampled_from([*("response." + name for name in EVENT_NAMES), "error", "keepalive"]),
    st.dictionaries(
        st.sampled_from(
            [
                "response",
                "item",
                "part",
                "output_index",
                "item_id",
                "delta",
                "arguments",
                "error",
                "sequence_number",
                "message",
            ]
        ),
        JSON,
        max_size=5,
    ),
)
CHUNKS = st.dictionaries(
    st.sampled_from(["id", "object", "created", "model", "usage", "error", "choices", "message"]), JSON, max_size=6
) | st.builds(
    lambda members: {"choices": [members]},
    st.dictionaries(
        st.sampled_from(["index", "finish_reason", "delta", "text", "message"]), JSON | st.just("stop"), max_size=4
    ),
)


@pytest.mark.parametrize("to", DESTINATIONS)
@given(upstream=st.lists(EVENTS, max_size=12))
@settings(max_examples=40, deadline=None)
def test_events_with_members_of_any_kind_end_by_the_law(to: str, upstream: list[dict[str, Any]]) -> None:
    reads = [sse.encode(jsonio.encode(event), event["type"].encode()) for event in upstream]
    out = play(common.open_stream("responses", to=DESTINATIONS[to]), reads)
    check("responses", out)


@pytest.mark.parametrize("to", DESTINATIONS)
@pytest.mark.parametrize("dialect", ["chat", "completions"])
@given(upstream=st.lists(CHUNKS, max_size=8))
@settings(max_examples=40, deadline=None)
def test_chunks_with_members_of_any_kind_end_by_the_law(dialect: str, to: str, upstream: list[dict[str, Any]]) -> None:
    reads = [sse.encode(jsonio.encode(chunk)) for chunk in upstream]
    out = play(common.open_stream(dialect, to=DESTINATIONS[to], stream_options={"include_usage": True}), reads)
    check(dialect, out)


def test_a_long_stream_costs_no_more_memory_than_what_it_says() -> None:
    """Its last event has to repeat that, however it ends: a byte of the answer costs about a byte, and a frame nothing."""
    subject = common.open_stream("responses")
    subject.feed(b"".join(frame.raw for frame in sse.FrameDecoder().feed(vector("responses-chinese"))[:4]))
    delta = '{"type":"response.output_text.delta","sequence_number":%d,"item_id":"m","output_index":0,"content_index":0,"delta":"潮汐"}'
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(4, 20_000):
            subject.feed(sse.encode((delta % number).encode(), b"response.output_text.delta"))
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    said = len("潮汐".encode()) * 19_996
    assert grown < 1.2 * said + 10_000
