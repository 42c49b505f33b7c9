"""Every client at every kind of provider: what is said arrives whole, in the client's own dialect.

The simulator answers as each provider would; the clients are the official SDKs. What cannot be carried stands in `losses`.
"""

import base64
from typing import Any

import pytest

from tests.conformance.clients import NAMES, Answer, Client
from tests.conformance.losses import SILENT_REFUSALS
from tests.conformance.providers import PROVIDERS, SPEAKS, sent
from tests.support.running import Running
from tidegate.sim.scripts import CONCLUSION, REFUSAL, THOUGHT, ZH

SAID = "Say it back: tide 🌊 潮汐"
SCHEMA: Any = {
    "type": "object",
    "properties": {"harbour": {"type": "string"}},
    "required": ["harbour"],
    "additionalProperties": False,
}
TOOLS = {"tide": SCHEMA, "wind": SCHEMA}
IMAGE = f"data:image/png;base64,{base64.b64encode(bytes(range(256))).decode()}"

STOPPED = {"responses": "completed", "chat": "stop", "messages": "end_turn", "gemini": "STOP"}
CALLED = {"responses": "completed", "chat": "tool_calls", "messages": "tool_use", "gemini": "STOP"}
CUT = {"responses": "incomplete max_output_tokens", "chat": "length", "messages": "max_tokens", "gemini": "MAX_TOKENS"}
FILTERED = {
    "responses": "incomplete content_filter",
    "chat": "content_filter",
    "messages": "refusal",
    "gemini": "SAFETY",
}
REFUSED = {**STOPPED, "messages": "refusal", "gemini": "SAFETY"}
"""How an answer ends for each client (protocol §5.3). OpenAI's models refuse in a part of its own, and stop."""

pytestmark = [
    pytest.mark.parametrize("any_client", NAMES, indirect=True),
    pytest.mark.parametrize("provider", PROVIDERS),
]
streamed_and_whole = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


def tokens(answer: Answer) -> tuple[int, int]:
    return answer.prompt_tokens, answer.output_tokens


# -- what is said -----------------------------------------------------------------------------------------------


@streamed_and_whole
def test_a_text_arrives_as_it_was_said(bridging: Running, any_client: Client, provider: str, stream: bool) -> None:
    answer = any_client.ask(f"{provider}/echo", any_client.user(SAID), stream=stream)
    assert answer.text == SAID
    assert answer.reason == STOPPED[any_client.name]
    assert tokens(answer) == (6, 6)
    assert any_client.wire.dropped == []
    asked = sent(bridging, provider)
    assert asked.said == SAID
    assert asked.stream is stream
    assert (asked.calls, asked.results, asked.tools, asked.images, asked.schema) == ([], [], {}, [], None)


@pytest.mark.fault("FAULT-UTF8")
@streamed_and_whole
@pytest.mark.parametrize("split", [1, 2, 7])
def test_chinese_text_survives_any_split_of_its_bytes(
    any_client: Client, provider: str, stream: bool, split: int
) -> None:
    answer = any_client.ask(f"{provider}/zh:split={split}", any_client.user("说"), stream=stream)
    assert answer.text == ZH
    assert answer.reason == STOPPED[any_client.name]


@streamed_and_whole
def test_what_was_thought_is_told(any_client: Client, provider: str, stream: bool) -> None:
    answer = any_client.ask(f"{provider}/reasoning", any_client.user("?"), stream=stream, think=True)
    assert answer.text == CONCLUSION
    assert answer.reason == STOPPED[any_client.name]
    assert answer.thoughts == THOUGHT
    assert tokens(answer) == (1, 22), "thoughts count as output"
    if any_client.name == "messages":
        thinking, text = answer.history[0]["content"]
        assert (thinking["type"], text["type"]) == ("thinking", "text")
        assert thinking["signature"]


@streamed_and_whole
def test_a_cut_answer_says_that_it_was_cut(bridging: Running, any_client: Client, provider: str, stream: bool) -> None:
    answer = any_client.ask(f"{provider}/lorem", any_client.user("?"), stream=stream, limit=3)
    assert answer.text == " 0 lorem ipsum d 1 lorem ipsum d 2 lorem ipsum d"
    assert answer.reason == CUT[any_client.name]
    assert tokens(answer) == (1, 3)
    assert sent(bridging, provider).limit == 3


@streamed_and_whole
def test_a_filtered_answer_says_that_it_was_filtered(any_client: Client, provider: str, stream: bool) -> None:
    answer = any_client.ask(f"{provider}/echo:finish=content_filter", any_client.user("tide"), stream=stream)
    assert (answer.text or answer.refusal) == "tide"
    assert answer.reason == FILTERED[any_client.name]


@streamed_and_whole
def test_a_refusal_is_no_ordinary_answer(any_client: Client, provider: str, stream: bool) -> None:
    answer = any_client.ask(f"{provider}/refusal", any_client.user("?"), stream=stream)
    dialect = SPEAKS[provider]
    assert (answer.text or answer.refusal) == ("" if dialect in SILENT_REFUSALS else REFUSAL)
    by_filter = dialect in ("messages", "gemini")
    assert answer.reason == (FILTERED if by_filter else REFUSED)[any_client.name]


# -- tools ------------------------------------------------------------------------------------------------------


@pytest.mark.fault("FAULT-TOOL-CALLS")
@streamed_and_whole
@pytest.mark.parametrize("count", [1, 2, 5])
def test_calls_go_out_and_their_results_come_back(
    bridging: Running, any_client: Client, provider: str, stream: bool, count: int
) -> None:
    question = any_client.user(SAID)
    first = any_client.ask(f"{provider}/tools:parallel={count}", question, stream=stream, tools=TOOLS)
    assert first.text == ""
    assert first.reason == CALLED[any_client.name]
    assert [(call.name, call.arguments) for call in first.calls] == [
        (("tide", "wind")[turn % 2], {"harbour": f"sim {turn}"}) for turn in range(count)
    ]
    ids = [call.id for call in first.calls]
    assert len(set(ids)) == count
    assert all(ids)
    assert sent(bridging, provider).tools == TOOLS

    history = [*question, *first.history, *any_client.results(first.calls, "high 潮")]
    second = any_client.ask(f"{provider}/tools", history, stream=stream, tools=TOOLS)
    assert second.text == "The tool said: high 潮"
    assert second.reason == STOPPED[any_client.name]
    asked = sent(bridging, provider)
    assert asked.calls == first.calls
    assert asked.results == [(call_id, "high 潮") for call_id in ids]


@streamed_and_whole
def test_results_in_another_order_find_their_calls(
    bridging: Running, any_client: Client, provider: str, stream: bool
) -> None:
    question = any_client.user(SAID)
    first = any_client.ask(f"{provider}/tools:parallel=2", question, stream=stream, tools=TOOLS)
    history = [*question, *first.history, *any_client.results(first.calls[::-1], "high")]
    second = any_client.ask(f"{provider}/tools", history, stream=stream, tools=TOOLS)
    assert second.text == "The tool said: high"
    assert {call_id for call_id, _ in sent(bridging, provider).results} == {call.id for call in first.calls}


# -- what is asked ----------------------------------------------------------------------------------------------


@streamed_and_whole
def test_an_image_arrives_byte_for_byte(bridging: Running, any_client: Client, provider: str, stream: bool) -> None:
    answer = any_client.ask(f"{provider}/echo", any_client.user(SAID, IMAGE), stream=stream)
    assert answer.text == SAID
    assert sent(bridging, provider).images == [IMAGE]
    assert any_client.wire.dropped == []


@streamed_and_whole
def test_the_schema_of_an_answer_arrives(bridging: Running, any_client: Client, provider: str, stream: bool) -> None:
    model = f"{provider}/echo:text=%7B%22harbour%22%3A%22Emden%22%7D"
    answer = any_client.ask(model, any_client.user(SAID), stream=stream, schema=SCHEMA)
    assert answer.text == '{"harbour":"Emden"}'
    assert sent(bridging, provider).schema == SCHEMA
    assert any_client.wire.dropped == []


# -- what goes wrong --------------------------------------------------------------------------------------------


@pytest.mark.fault("FAULT-CUT")
@pytest.mark.parametrize("fault", ["eof", "reset", "cut", "close", "error", "garbage", "badutf8"])
def test_a_stream_that_breaks_ends_as_broken(any_client: Client, provider: str, fault: str) -> None:
    with pytest.raises(any_client.errors):
        any_client.ask(f"{provider}/lorem:fault={fault},gap=1", any_client.user("?"), stream=True)
    assert any_client.wire.status == 200
    text = any_client.check_broken(cut=any_client.name == SPEAKS[provider])
    assert text == " 0 lorem ipsum d"


@pytest.mark.fault("FAULT-CUT")
@pytest.mark.parametrize("fault", ["eof", "cut", "error"])
def test_a_call_that_breaks_is_no_whole_call(any_client: Client, provider: str, fault: str) -> None:
    model = f"{provider}/tools:parallel=2,chunks=8,fault={fault},gap=1"
    with pytest.raises(any_client.errors):
        any_client.ask(model, any_client.user("?"), stream=True, tools=TOOLS)
    if any_client.wire.status == 200:
        assert any_client.check_broken(cut=any_client.name == SPEAKS[provider]) == ""
    else:
        assert (any_client.name, any_client.wire.status // 100) == ("gemini", 5), (
            "only Gemini's clients wait for whole calls"
        )


@pytest.mark.parametrize("fault", ["eof", "reset", "cut", "error", "truncated_json", "garbage", "failed"])
def test_a_broken_answer_in_one_body_is_an_error(any_client: Client, provider: str, fault: str) -> None:
    with pytest.raises(any_client.errors):
        any_client.ask(f"{provider}/lorem:fault={fault}", any_client.user("?"), stream=False)
    assert any_client.wire.status >= 500
    assert b"lorem" not in any_client.wire.body


@streamed_and_whole
@pytest.mark.parametrize(("status", "theirs"), [(400, 400), (404, 404), (429, 429), (500, 502), (503, 503)])
def test_errors_keep_their_meaning(any_client: Client, provider: str, stream: bool, status: int, theirs: int) -> None:
    with pytest.raises(any_client.errors):
        any_client.ask(f"{provider}/echo:status={status}", any_client.user("?"), stream=stream)
    assert any_client.wire.status in (theirs, {503: 529}.get(theirs))


@pytest.mark.fault("FAULT-CUT")
def test_an_answer_without_an_ending_is_never_finished(any_client: Client, provider: str) -> None:
    with pytest.raises(any_client.errors):
        any_client.ask(f"{provider}/echo:finish=none", any_client.user(SAID), stream=True)
    assert any_client.check_broken(cut=any_client.name == SPEAKS[provider]) == SAID
