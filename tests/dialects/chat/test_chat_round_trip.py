"""Chat → canonical → chat: requests and answers that come back as they were."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dialects.chat.playing import OFFICIAL, UPSTREAM, asked, check_laws, decoded, folded, joined, provider
from tests.dialects.chat.test_chat_encoder import ANSWERS, accumulated, encoded, request, whole
from tests.dialects.common import call, destination
from tidegate.dialects.chat import ChatDialect
from tidegate.dialects.codec import Losses
from tidegate.wire.events import (
    ChoiceEnd,
    Event,
    Finished,
    Opaque,
    Ping,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)
from tidegate.wire.items import FunctionCall, Output, Reasoning

OPENAI = provider(quirks=OFFICIAL)
USER = {"role": "user", "content": "潮汐"}
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}}


def tool_call(number: int) -> dict[str, Any]:
    return {"id": f"call_{number}", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}


REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {"messages": [USER]},
    "settings": {
        "messages": [{"role": "developer", "content": "be kind"}, {"role": "system", "content": "and brief"}, USER],
        "max_completion_tokens": 9,
        "temperature": 0.1,
        "top_p": 0.9,
        "n": 2,
        "stop": ["a", "b"],
        "seed": 3,
        "frequency_penalty": 1.5,
        "presence_penalty": -1.5,
        "logit_bias": {"5": 10},
        "logprobs": True,
        "top_logprobs": 4,
        "user": "u",
        "safety_identifier": "s",
        "service_tier": "flex",
        "prompt_cache_key": "k",
        "verbosity": "low",
        "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": False}},
    },
    "tools": {
        "messages": [USER],
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}},
            {"type": "custom", "custom": {"name": "p", "description": "d", "format": {"type": "grammar", "grammar": {"syntax": "regex", "definition": "a+"}}}},
        ],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "p"}}]}},
        "parallel_tool_calls": False,
    },
    "conversation": {
        "messages": [
            USER,
            {"role": "assistant", "content": "I look.", "tool_calls": [tool_call(1), tool_call(2)]},
            {"role": "tool", "tool_call_id": "call_1", "content": "one"},
            {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "call_3", "type": "custom", "custom": {"name": "p", "input": "x"}}]},
            {"role": "tool", "tool_call_id": "call_3", "content": "done"},
            {"role": "assistant", "content": None, "refusal": "no"},
            {"role": "user", "name": "ada", "content": "why"},
        ]
    },
    "media": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see", "prompt_cache_breakpoint": {"mode": "explicit"}},
                    {"type": "image_url", "image_url": {"url": "https://a/1.png", "detail": "high"}},
                    {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}},
                    {"type": "file", "file": {"file_id": "file-1", "filename": "a.pdf"}},
                ],
            }
        ]
    },
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_comes_back_as_it_was(name: str) -> None:
    given_ = {"model": "tide-1", "stream": False, **REQUESTS[name]}
    canonical = ChatDialect().parse(json.dumps(given_).encode()).canonical()
    losses = Losses(canonical, OPENAI, allowed=False)
    assert json.loads(UPSTREAM.encode_request(canonical, OPENAI, losses)) == given_
    losses.check()
    assert not losses.dropped


def kept(output: Output) -> Output:
    """Without what chat does not carry: opaque reasoning means nothing to a decoder."""
    for choice in output.choices:
        choice.items = [item for item in choice.items if not isinstance(item, Reasoning) or item.content]
    return output


PLAIN = sorted(name for name in ANSWERS if name not in {"summaries", "hosted", "media", "refused"})


@pytest.mark.parametrize("name", PLAIN)
def test_an_answer_comes_back_as_it_was(name: str) -> None:
    events: list[Event] = [event for event in whole(name) if not isinstance(event, ReasoningEnd | Opaque | Ping)]
    out = encoded(events, stream_options={"include_usage": True})
    back = decoded(out, OPENAI)
    assert kept(folded(back)) == kept(folded(events))
    body = request().encode_answer(folded(events), call(), destination())
    answered = UPSTREAM.decode_answer(body, OPENAI, asked())
    check_laws(answered)
    assert kept(folded(answered)) == kept(folded(events))


def test_opaque_reasoning_survives_a_client_that_sends_it_back() -> None:
    answer = json.loads(request().encode_answer(folded(whole("interleaved")), call(), destination()))
    message = answer["choices"][0]["message"]
    items = request(messages=[USER, message]).canonical().items
    found = [item.encrypted if isinstance(item, Reasoning) else getattr(item, "call_id", "text") for item in items[1:]]
    assert found == ["tgr1.A", "text", "tgr1.B", "call_1", "tgr1.C", "call_2"]
    assert [item.content for item in items if isinstance(item, Reasoning)] == [["a"], [], []]


def test_opaque_reasoning_survives_a_client_of_streams() -> None:
    message = accumulated(encoded(whole("interleaved")))["choices"][0]["message"]
    items = request(messages=[USER, message]).canonical().items
    found = [item.encrypted for item in items if isinstance(item, Reasoning)]
    assert found == ["tgr1.A", "tgr1.B", "tgr1.C"]
    assert [item.call_id for item in items if isinstance(item, FunctionCall)] == ["call_1", "call_2"]


# -- any answer ---------------------------------------------------------------------------------------------------

TEXT = st.text(min_size=1, max_size=12).filter(lambda text: text.isprintable() and text.strip() == text != "")


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """An answer of one choice that chat can say: reasoning, text, calls."""
    events: list[Event] = [Started("tide-1")]
    if draw(st.booleans()):
        events += [ReasoningDelta(text) for text in draw(st.lists(TEXT, min_size=1, max_size=3))]
        events.append(ReasoningEnd())
    events += [TextDelta(text) for text in draw(st.lists(TEXT, max_size=4))]
    if draw(st.integers(0, 3)) == 0:
        events += [RefusalDelta(draw(TEXT))]
    calls = draw(st.integers(0, 3))
    for index in range(calls):
        custom = draw(st.booleans())
        events.append(ToolCallStart(index, f"call_{index}", draw(TEXT), custom=custom))
        arguments = draw(TEXT) if custom else json.dumps({draw(TEXT): draw(TEXT)}, ensure_ascii=False)
        cut = draw(st.integers(0, len(arguments)))
        events += [ToolCallDelta(index, piece) for piece in (arguments[:cut], arguments[cut:]) if piece]
        events.append(ToolCallEnd(index))
    events += [ChoiceEnd("tool_calls" if calls else draw(st.sampled_from(["stop", "length"]))), Finished()]
    return events


@given(answers())
def test_any_answer_comes_back_as_it_was(events: list[Event]) -> None:
    check_laws(events)
    # Custom calls have no end of their own on the wire: they end with the answer.
    order = [event for event in joined(decoded(encoded(events), OPENAI)) if not isinstance(event, ToolCallEnd)]
    assert order == [event for event in joined(events) if not isinstance(event, ToolCallEnd)]
    body = request().encode_answer(folded(events), call(), destination())
    assert folded(UPSTREAM.decode_answer(body, OPENAI, asked())).choices == folded(events).choices
