"""Thoughts on their way to a client of the Messages API and back: each is signed, its provider gets its own, nobody else
a signature, and only what somebody wanted back is ever named as lost (protocol §5.4)."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects import common
from tests.dialects.messages.streams import anthropic_message
from tidegate.dialects.bridge import Bridge, Watch
from tidegate.dialects.chat.upstream import ChatUpstream
from tidegate.dialects.codec import Collector, UpstreamDialect
from tidegate.dialects.dialect import Destination, Quirks
from tidegate.dialects.envelope import KEY_BYTES, PREFIX, Envelopes, Sealer
from tidegate.dialects.messages.counting import parse_count
from tidegate.dialects.messages.encoder import MessagesEncoder
from tidegate.dialects.messages.request import MessagesRequest, parse_request
from tidegate.dialects.messages.upstream import MessagesUpstream
from tidegate.dialects.responses.upstream import ResponsesUpstream
from tidegate.wire.events import (
    ChoiceEnd,
    Event,
    Finished,
    ReasoningDelta,
    ReasoningEnd,
    Seal,
    Started,
    TextDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
    UsageReport,
)

ENVELOPES = Envelopes(Sealer(bytes(range(KEY_BYTES))), "acme")
STRANGERS = Envelopes(Sealer(bytes(range(KEY_BYTES))), "other")
ASKED: dict[str, Any] = {"model": "m", "max_tokens": 5000, "messages": [{"role": "user", "content": "?"}]}
CLAUDE = Destination(provider="anthropic", model="claude", endpoint="messages")
SIGNED = Seal(kind="signature", data="c2ln", text="let me see")
REDACTED = Seal(kind="redacted", data="b3BhcXVl")
SHOWN = Seal(kind="shown", data="")
TOOL = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "7"}]}


def asked(*messages: Any, envelopes: Envelopes | None = ENVELOPES, **members: Any) -> MessagesRequest:
    request = parse_request(json.dumps({**ASKED, "messages": [*ASKED["messages"], *messages], **members}).encode())
    request.envelopes = envelopes
    return request


def thinking(seal: Seal, provider: str = "anthropic", text: str = "let me see") -> dict[str, Any]:
    envelope = ENVELOPES.seal(seal, provider=provider, model="m")
    if seal.kind == "redacted":
        return {"type": "redacted_thinking", "data": envelope}
    return {"type": "thinking", "thinking": text, "signature": envelope}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": [*blocks, {"type": "text", "text": "42"}]}


def step(*blocks: Any) -> list[Any]:
    return [{"role": "assistant", "content": [*blocks, TOOL]}, RESULT]


# -- to a provider of the same API ------------------------------------------------------------------------------------


def forwarded(*messages: Any, **members: Any) -> tuple[Any, tuple[str, ...]]:
    request = asked(*messages, **members)
    return json.loads(request.forward(CLAUDE)), request.dropped


def test_what_only_the_gateway_can_read_never_reaches_anthropic() -> None:
    own = {"type": "thinking", "thinking": "mine", "signature": "EqQBCg"}
    for foreign, lost in ((thinking(SHOWN, "lab"), ()), (thinking(REDACTED, "openai"), ("thinking",))):
        sent, dropped = forwarded(assistant(foreign, own), {"role": "user", "content": "and?"})
        assert sent["messages"][1] == assistant(own)
        assert dropped == lost


def test_a_message_of_nothing_else_is_left_out() -> None:
    said = {"role": "assistant", "content": [thinking(SHOWN, "lab")]}
    sent, dropped = forwarded(said, {"role": "user", "content": "and?"})
    assert [message["role"] for message in sent["messages"]] == ["user", "user"]
    assert dropped == ()


def test_the_providers_own_is_put_back_byte_for_byte() -> None:
    silent = Seal(kind="signature", data="c2ls")
    sent, dropped = forwarded(assistant(thinking(SIGNED, text="changed"), thinking(REDACTED), thinking(silent)))
    assert sent["messages"][1]["content"][:3] == [
        {"type": "thinking", "thinking": "let me see", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "b3BhcXVl"},
        {"type": "thinking", "thinking": "", "signature": "c2ls"},
    ]
    assert dropped == ()


def words(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def test_words_that_another_provider_said_behind_a_call_stand_before_it() -> None:
    """Anthropic answers 400 to a call that is not the last of its message."""
    other = {**TOOL, "id": "toolu_2"}
    said = {"role": "assistant", "content": [words("a"), thinking(SIGNED), TOOL, words("b"), other, words("c")]}
    results = {"role": "user", "content": [*RESULT["content"], {"type": "tool_result", "tool_use_id": "toolu_2"}]}
    sent, dropped = forwarded(said, results)
    own = {"type": "thinking", "thinking": "let me see", "signature": "c2ln"}
    assert sent["messages"][1]["content"] == [words("a"), own, words("b"), words("c"), TOOL, other]
    assert sent["messages"][2] == results
    assert dropped == ()


def test_what_anthropic_said_itself_goes_back_as_it_came() -> None:
    ran = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
    for said in ([words("a"), TOOL], [TOOL, ran, words("b")]):
        request = asked({"role": "assistant", "content": said}, RESULT)
        assert json.loads(request.forward(CLAUDE))["messages"][1]["content"] == said


@pytest.mark.parametrize("envelopes", [None, STRANGERS])
def test_an_envelope_that_cannot_be_opened_is_left_out_and_named(envelopes: Envelopes | None) -> None:
    request = asked(assistant(thinking(SIGNED)), envelopes=envelopes)
    assert json.loads(request.forward(CLAUDE))["messages"][1] == assistant()
    assert request.dropped == ("thinking",)


BROKEN = {"type": "thinking", "thinking": "b", "signature": PREFIX + "A" * 60}


@pytest.mark.parametrize("at", [0, 1, 2])
def test_one_broken_envelope_costs_its_message_all_its_thoughts(at: int) -> None:
    """Anthropic takes the thoughts of a turn as they were, or none of them."""
    blocks = [thinking(SIGNED), thinking(SIGNED, text="mine"), thinking(REDACTED)]
    blocks[at] = BROKEN
    messages = [assistant(thinking(SIGNED)), {"role": "user", "content": "?"}, assistant(*blocks)]
    sent, dropped = forwarded(*messages, {"role": "user", "content": "and?"})
    own = {"type": "thinking", "thinking": "let me see", "signature": "c2ln"}
    assert [message["content"] for message in sent["messages"][1::2]] == [
        assistant(own)["content"],
        assistant()["content"],
    ]
    assert dropped == ("thinking",)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_so_it_does_over_the_bridge(order: tuple[int, int]) -> None:
    steps = [thinking(SIGNED), BROKEN]
    blocks = [steps[order[0]], {**TOOL, "id": "a"}, steps[order[1]], {**TOOL, "id": "b"}]
    results = [{"type": "tool_result", "tool_use_id": name, "content": "7"} for name in "ab"]
    asks = [{"role": "user", "content": results}, *step(thinking(SIGNED))]
    request = asked({"role": "assistant", "content": blocks}, *asks, tools=[{"name": "f", "input_schema": {}}])
    body, dropped = Bridge(request, common.call(), envelopes=ENVELOPES).forward(MessagesUpstream(), CLAUDE)
    kinds = [[block["type"] for block in said["content"]] for said in json.loads(body)["messages"][1::2]]
    assert kinds == [["tool_use", "tool_use"], ["thinking", "tool_use"]]
    assert dropped == ("thinking",)


def test_a_citation_that_this_gateway_made_is_left_out_and_anthropics_own_stays() -> None:
    ours = {"type": "web_search_result_location", "url": "https://a.example", "cited_text": "", "encrypted_index": ""}
    own = {**ours, "cited_text": "tide", "encrypted_index": "Eo8B"}
    text = {"type": "text", "text": "high"}
    said = [{**text, "citations": [ours, own]}, {**text, "citations": [ours]}, {**text, "citations": None}]
    body, dropped = forwarded({"role": "assistant", "content": said}, {"role": "user", "content": "?"})
    assert body["messages"][1]["content"] == [{**text, "citations": [own]}, text, said[2]]
    assert dropped == ("citations",)
    untouched, dropped = forwarded({"role": "assistant", "content": [{**text, "citations": [own]}]})
    assert untouched["messages"][1]["content"] == [{**text, "citations": [own]}]
    assert dropped == ()


def test_a_history_without_envelopes_goes_on_as_it_came() -> None:
    messages = [assistant({"type": "thinking", "thinking": PREFIX, "signature": "EqQB"}), *step()]
    budget = {"type": "enabled", "budget_tokens": 1024}
    sent, dropped = forwarded(*messages, thinking=budget)
    assert sent["messages"][1:] == messages
    assert sent["thinking"] == budget
    assert dropped == ()


BUDGET = {"type": "enabled", "budget_tokens": 1024}
CLEARS = {"type": "clear_thinking_20251015", "keep": "all"}
OTHER = {"type": "clear_tool_uses_20250919"}


@pytest.mark.parametrize("shown", [thinking(SHOWN, "lab"), thinking(SIGNED, "other")])
def test_a_step_without_its_thoughts_goes_on_without_a_budget(shown: Any) -> None:
    sent, dropped = forwarded(*step(shown), thinking=BUDGET, context_management={"edits": [CLEARS, OTHER]})
    assert sent["messages"][1:] == step()
    assert "thinking" not in sent
    assert sent["context_management"] == {"edits": [OTHER]}
    assert dropped == ("thinking", "context_management")
    assert forwarded(*step(shown), thinking=BUDGET)[1] == ("thinking",)


def test_thinking_stays_on_where_anthropic_takes_it() -> None:
    shown = thinking(SHOWN, "lab")
    for messages, config in (
        (step(shown), {"type": "adaptive"}),
        (step(thinking(SIGNED)), BUDGET),
        ([*step(shown), assistant(), {"role": "user", "content": "and?"}], BUDGET),
        ([assistant(shown), {"role": "user", "content": "and?"}], BUDGET),
    ):
        sent, dropped = forwarded(*messages, thinking=config, context_management={"edits": [CLEARS]})
        assert sent["thinking"] == config
        assert sent["context_management"] == {"edits": [CLEARS]}
        assert dropped == ()


def test_a_count_is_of_what_would_be_sent() -> None:
    body = {"model": "m", "messages": [*ASKED["messages"], assistant(thinking(SHOWN, "lab"), thinking(SIGNED))]}
    request = parse_count(json.dumps(body).encode())
    request.envelopes = ENVELOPES
    sent = json.loads(request.forward(CLAUDE))
    assert [block["type"] for block in sent["messages"][1]["content"]] == ["thinking", "text"]
    assert request.dropped == ()


# -- over the bridge --------------------------------------------------------------------------------------------------


def bridged(blocks: list[Any], dialect: UpstreamDialect, **to: Any) -> tuple[Any, tuple[str, ...]]:
    request = asked({"role": "assistant", "content": blocks}, {"role": "user", "content": "and?"})
    destination = Destination(**{"provider": "lab", "model": "m", "endpoint": dialect.name, **to})
    body, dropped = Bridge(request, common.call(), envelopes=ENVELOPES).forward(dialect, destination)
    return json.loads(body), dropped


def test_words_that_were_shown_go_to_who_reads_words() -> None:
    blocks = assistant(thinking(SHOWN, "google", "hm"))["content"]
    deep = Quirks(reasoning_back="reasoning_content")
    sent, dropped = bridged(blocks, ChatUpstream(), quirks=deep)
    assert sent["messages"][1] == {"role": "assistant", "content": "42", "reasoning_content": "hm"}
    assert dropped == ()
    sent, dropped = bridged(blocks, ResponsesUpstream())
    words = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    assert sent["input"][1] == words
    assert dropped == ()
    for dialect, to in ((ChatUpstream(), {}), (ResponsesUpstream(), {"encrypted_reasoning": True})):
        sent, dropped = bridged(blocks, dialect, **to)
        assert "hm" not in json.dumps(sent)
        assert dropped == ()


turns = st.lists(
    st.tuples(
        st.lists(st.text(min_size=1, max_size=6), max_size=3),
        st.sampled_from(["", "signature", "redacted"]),
        st.sampled_from(["text", "call"]),
    ),
    min_size=1,
    max_size=5,
)


def answered(pieces: list[Any]) -> tuple[list[Event], list[dict[str, Any]]]:
    """The events of an answer that ends with a call, and the blocks that its provider wants back."""
    events: list[Event] = [Started("claude")]
    own: list[dict[str, Any]] = []
    for number, (words, kind, then) in enumerate([*pieces, ([], "", "call")]):
        said = "" if kind == "redacted" else "".join(words)
        events += [ReasoningDelta(word) for word in words if said]
        seal: Seal | None = None
        if kind == "redacted":
            seal = Seal(kind="redacted", data=f"cipher {number}")
            own.append({"type": "redacted_thinking", "data": seal.data})
        elif kind == "signature":
            seal = Seal(kind="signature", data=f"sig {number}", text=said)
            own.append({"type": "thinking", "thinking": said, "signature": seal.data})
        if said or seal is not None:
            events.append(ReasoningEnd(seal))
        if then == "text":
            events.append(TextDelta(f"text {number}"))
        else:
            events += [ToolCallStart(number, f"t{number}", "f"), ToolCallEnd(number)]
    return [*events, UsageReport(Usage(1, 1)), ChoiceEnd("tool_calls"), Finished()], own


@settings(max_examples=120, deadline=None)
@given(turns, st.booleans())
def test_any_thoughts_come_back_to_their_provider_and_to_no_other(pieces: list[Any], stream: bool) -> None:
    events, own = answered(pieces)
    request = asked()
    bridge = Bridge(request, common.call(), envelopes=ENVELOPES)
    watched = Watch(bridge, CLAUDE, common.call()).pass_on(events)
    if stream:
        encoder = MessagesEncoder(common.call())
        encoder.attempt(CLAUDE)
        blocks = anthropic_message(b"".join(encoder.encode([event]) for event in watched)).to_dict()["content"]
    else:
        collector = Collector()
        for event in watched:
            collector.add(event)
        blocks = json.loads(request.encode_answer(collector.output(), common.call(), CLAUDE))["content"]
    assert isinstance(blocks, list)
    told = [block["thinking"] for block in blocks if block["type"] == "thinking"]
    assert told == ["".join(words) for words, kind, _ in pieces if words and kind != "redacted"]
    signatures = [block.get("signature") or block["data"] for block in blocks if "thinking" in block["type"]]
    assert all(signature.startswith(PREFIX) for signature in signatures)

    history = {"role": "assistant", "content": blocks}
    calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": call_id, "content": "7"} for call_id in calls]
    request = asked(history, {"role": "user", "content": results})
    for to, wanted in ((CLAUDE, own), (Destination(provider="two", model="c", endpoint="messages"), [])):
        body, dropped = Bridge(request, common.call(), envelopes=ENVELOPES).forward(MessagesUpstream(), to)
        natively = json.loads(request.forward(to))
        for sent, lost in ((json.loads(body), dropped), (natively, request.dropped)):
            content = [block for message in sent["messages"] for block in message["content"] if isinstance(block, dict)]
            assert [block for block in content if "thinking" in block["type"]] == wanted
            assert set(lost) == ({"thinking"} if own and not wanted else set())


def test_only_a_thought_that_was_shown_is_signed_as_shown() -> None:
    events: list[Event] = [Started("m"), ReasoningDelta("hm"), ReasoningEnd(), ReasoningEnd(), TextDelta("x")]
    watched = Watch(Bridge(asked(), common.call(), envelopes=ENVELOPES), CLAUDE, common.call()).pass_on(events)
    ends = [event.encrypted for event in watched if isinstance(event, ReasoningEnd)]
    assert [bool(end) for end in ends] == [True, False]
