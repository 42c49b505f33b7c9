"""What the sim says: the grammar of its streams, and the parameters and options that shape an answer."""

import itertools
import json
from typing import Any

import pytest

from tidegate.sim import SCRIPTS
from tidegate.sim.answer import even_pieces, pieces

TOOLS = [{"type": "function", "name": "first"}, {"type": "function", "name": "second"}]
ENDPOINTS = ["responses", "chat", "completions"]


def said(endpoint: str, data: list[Any]) -> str:
    """The text of a stream."""
    if endpoint == "responses":
        return "".join(event["delta"] for event in data if event["type"] == "response.output_text.delta")
    choices = [choice for event in data if event != "[DONE]" for choice in event["choices"]]
    return "".join(choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices)


@pytest.mark.parametrize("model", ["echo", "reasoning", "reasoning?raw=1", "tools?parallel=3", "refusal", "zh"])
@pytest.mark.parametrize("n", [1, 2])
def test_a_responses_stream_follows_the_grammar(tools: Any, model: str, n: int) -> None:
    seen = tools.once("responses", model, stream=True, tools=TOOLS, n=n)
    events = seen.data
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert seen.types[:2] == ["response.created", "response.in_progress"]
    assert seen.types[-1] == "response.completed"
    names = [frame.split(b"\n")[0].removeprefix(b"event: ").decode() for frame in seen.frames]
    assert names == seen.types
    output = events[-1]["response"]["output"]
    added = [event for event in events if event["type"] == "response.output_item.added"]
    done = [event for event in events if event["type"] == "response.output_item.done"]
    assert [event["output_index"] for event in added] == list(range(len(output)))
    assert [event["item"] for event in done] == output
    assert [event["item"]["id"] for event in added] == [item["id"] for item in output]
    assert len({item["id"] for item in output}) == len(output)
    prefixes = {"message": "msg_", "function_call": "fc_", "reasoning": "rs_"}
    assert all(
        item["id"].startswith(prefixes[item["type"]]) and len(item["id"].partition("_")[2]) == 48 for item in output
    )
    # Between added and done of an item come its own events only, and the done events repeat the deltas joined.
    for start, end in zip(added, done, strict=True):
        between = events[start["sequence_number"] + 1 : end["sequence_number"]]
        assert between
        assert {event["item_id"] for event in between} == {start["item"]["id"]}
        deltas = "".join(event["delta"] for event in between if event["type"].endswith(".delta"))
        whole = next(event for event in between if event["type"].endswith(".done"))
        assert deltas == whole.get("text", whole.get("arguments", whole.get("refusal")))


def test_a_response_echoes_what_was_asked_and_the_defaults(tools: Any) -> None:
    asked: dict[str, Any] = {
        "temperature": 0.3,
        "metadata": {"a": "b"},
        "instructions": "Be brief.",
        "store": False,
        "text": {"verbosity": "low"},
    }
    body = json.loads(tools.once("responses", "echo", **asked).body)
    assert {key: body[key] for key in ("temperature", "metadata", "instructions", "store")} == {
        key: asked[key] for key in ("temperature", "metadata", "instructions", "store")
    }
    assert body["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert (body["top_p"], body["tool_choice"], body["truncation"], body["tools"]) == (1.0, "auto", "disabled", [])
    assert body["id"].startswith("resp_")
    assert len(body["id"]) == 5 + 48
    assert isinstance(body["created_at"], int)
    assert body["model"] == "echo"


def test_chat_chunks_come_in_openai_order(tools: Any) -> None:
    seen = tools.once("chat", "echo?chunks=2", stream=True, stream_options={"include_usage": True})
    assert seen.data[-1] == "[DONE]"
    chunks = seen.data[:-1]
    deltas = [chunk["choices"][0]["delta"] if chunk["choices"] else None for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
    assert "".join(delta["content"] for delta in deltas[1:3] if delta) == tools.text
    assert deltas[3:] == [{}, None]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:4]] == [None, None, None, "stop"]
    assert [chunk["usage"] for chunk in chunks[:4]] == [None] * 4
    assert chunks[4]["usage"]["completion_tokens"] == 2
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    assert not any(frame.startswith(b"event:") for frame in seen.frames)


def test_chat_tool_calls_come_in_pieces(tools: Any) -> None:
    offered = [{"type": "function", "function": {"name": tool["name"]}} for tool in TOOLS]
    seen = tools.once("chat", "tools?parallel=2&args=%7B%22a%22%3A1%7D&chunks=3", stream=True, tools=offered)
    calls = [
        call
        for event in seen.data[:-1]
        for choice in event["choices"]
        for call in choice["delta"].get("tool_calls", ())
    ]
    assert [call["function"].get("name") for call in calls if "id" in call] == ["first", "second"]
    for index in (0, 1):
        assert "".join(call["function"]["arguments"] for call in calls if call["index"] == index) == '{"a":1}'
    assert seen.data[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_named_tool_choice_is_followed_and_none_means_none(tools: Any) -> None:
    named = json.loads(
        tools.once("responses", "tools", tools=TOOLS, tool_choice={"type": "function", "name": "second"}).body
    )
    assert [item["name"] for item in named["output"]] == ["second"]
    none = json.loads(tools.once("responses", "tools", tools=TOOLS, tool_choice="none").body)
    assert [item["type"] for item in none["output"]] == ["message"]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_demo_answers_in_the_language_of_the_question(tools: Any, endpoint: str) -> None:
    english: dict[str, Any] = {
        "responses": {"input": "Who are you?"},
        "chat": {"messages": [{"role": "user", "content": "Who?"}]},
        "completions": {"prompt": "Who?"},
    }
    assert "this answer is made up" in said(
        endpoint, tools.once(endpoint, "demo?gap=0", stream=True, **english[endpoint]).data
    )
    assert "这段回答是预先写好的" in said(endpoint, tools.once(endpoint, "demo?gap=0", stream=True).data)


def test_the_demo_speaks_at_reading_pace() -> None:
    assert SCRIPTS["demo"].defaults == {"gap": 33}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_cut_answer_says_that_it_was_cut(tools: Any, endpoint: str) -> None:
    name = {"responses": "max_output_tokens", "chat": "max_completion_tokens", "completions": "max_tokens"}[endpoint]
    stream = tools.once(endpoint, "lorem?chunks=9", stream=True, **{name: 4}).data
    body = json.loads(tools.once(endpoint, "lorem?chunks=9", **{name: 4}).body)
    assert said(endpoint, stream).split()[0] == "0"
    if endpoint == "responses":
        assert stream[-1]["type"] == "response.incomplete"
        assert stream[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
        assert stream[-1]["response"]["output"][-1]["status"] == "incomplete"
        assert (body["status"], body["usage"]["output_tokens"], body["completed_at"]) == ("incomplete", 4, None)
    else:
        assert stream[-2]["choices"][0]["finish_reason"] == "length"
        assert body["choices"][0]["finish_reason"] == "length"
        assert body["usage"]["completion_tokens"] == 4


def test_a_limit_cuts_reasoning_first(tools: Any) -> None:
    body = json.loads(tools.once("responses", "reasoning", max_output_tokens=3).body)
    assert [item["type"] for item in body["output"]] == ["reasoning"]
    assert body["usage"]["output_tokens_details"] == {"reasoning_tokens": 3}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_stop_sequences_end_the_text_before_them(tools: Any, endpoint: str) -> None:
    seen = tools.once(endpoint, "echo", stream=True, stop=["nothing", "ide 🌊"])
    assert said(endpoint, seen.data) == "Say it back: t"


def test_choices_alternate_and_are_numbered(tools: Any) -> None:
    seen = tools.once("chat", "lorem?chunks=3", stream=True, n=2)
    assert [event["choices"][0]["index"] for event in seen.data[:-1]] == [0, 1] * 5
    assert len(json.loads(tools.once("completions", "echo", n=3).body)["choices"]) == 3


@pytest.mark.parametrize(("usage", "inline", "own", "body"), [
    ("present", False, True, True),
    ("zero", False, True, True),
    ("absent", False, False, False),
    ("inline", True, False, True),
    ("always", False, True, True),
])  # fmt: skip
def test_usage_comes_where_the_option_says(tools: Any, usage: str, inline: bool, own: bool, body: bool) -> None:
    chunks = tools.once("chat", f"lorem?usage={usage}", stream=True, stream_options={"include_usage": True}).data[:-1]
    finish = next(chunk for chunk in chunks if chunk["choices"] and chunk["choices"][0]["finish_reason"])
    assert bool(finish.get("usage")) is inline
    assert any(not chunk["choices"] for chunk in chunks) is own
    whole = json.loads(tools.once("chat", f"lorem?usage={usage}").body)
    assert ("usage" in whole) is body
    if usage == "zero":
        assert whole["usage"]["total_tokens"] == 0
    unasked = tools.once("chat", f"lorem?usage={usage}", stream=True).data[:-1]
    assert any(not chunk["choices"] for chunk in unasked) is (usage == "always")


def test_options_change_the_frames_as_they_say(tools: Any) -> None:
    plain = tools.once("responses", "echo?events=0&done=1&crlf=1", stream=True)
    assert b"event:" not in plain.body
    assert plain.body.endswith(b"data: [DONE]\r\n\r\n")
    assert plain.body.count(b"\n") == plain.body.count(b"\r\n")
    assert "[DONE]" not in tools.once("chat", "echo?done=0", stream=True).data
    assert all("sequence_number" not in event for event in tools.once("responses", "echo?seq=0", stream=True).data)
    few = tools.once("responses", "lorem?minimal=1&chunks=2", stream=True)
    assert few.types == [
        "response.created",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.completed",
    ]
    escaped = tools.once("chat", "echo?ascii=1", stream=True)
    assert escaped.body.isascii()
    assert said("chat", escaped.data) == tools.text
    assert isinstance(json.loads(tools.once("chat", "echo?floats=1").body)["created"], float)
    assert tools.once("chat", "echo?comments=3", stream=True).frames[:4].count(b": keep-alive") == 3
    assert "reasoning" in tools.once("chat", "reasoning?field=reasoning", stream=True).data[1]["choices"][0]["delta"]
    endless = tools.once("chat", "echo?finish=none", stream=True).data
    assert all(choice["finish_reason"] is None for event in endless[:-1] for choice in event["choices"])
    assert tools.once("responses", "echo?finish=none", stream=True).types[-1] == "response.output_item.done"
    filtered = tools.once("responses", "echo?finish=content_filter", stream=True).data[-1]
    assert filtered["response"]["incomplete_details"] == {"reason": "content_filter"}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64])
def test_split_cuts_the_body_at_every_so_many_bytes(tools: Any, size: int) -> None:
    seen = tools.once("chat", f"zh?split={size}", stream=True)
    assert {len(chunk) for chunk in seen.chunks[:-1]} == {size}
    assert said("chat", seen.data) == said("chat", tools.once("chat", "zh", stream=True).data)


def test_split_cuts_bodies_that_are_not_streamed_too(tools: Any) -> None:
    seen = tools.once("responses", "zh?split=10")
    assert {len(chunk) for chunk in seen.chunks[:-1]} == {10}
    assert json.loads(seen.body)["status"] == "completed"


@pytest.mark.parametrize(("framing", "header", "value"), [
    ("chunked", "transfer-encoding", "chunked"),
    ("length", "content-length", None),
    ("close", "connection", "close"),
])  # fmt: skip
def test_the_end_of_a_body_is_told_as_asked(tools: Any, framing: str, header: str, value: str | None) -> None:
    seen = tools.once("chat", f"echo?framing={framing}", stream=True)
    assert seen.header(header) == (value if value is not None else str(len(seen.body)))
    assert seen.data[-1] == "[DONE]"
    assert seen.ended == ("eof" if framing == "close" else "complete")


@pytest.mark.parametrize(
    "text", ["", " ", "one", "  two  words\n", "a你好b世界🌊 c", "「引用」。\n\n x", "\t👩‍👩‍👧‍👦 𠮷"]
)
def test_pieces_joined_are_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text
    for count in (1, 2, 3, 100):
        assert "".join(even_pieces(text, count)) == text
        assert len(even_pieces(text, count)) <= count
        assert all(even_pieces(text, count))


def test_lorem_numbers_its_pieces_and_keeps_their_size(tools: Any) -> None:
    events = tools.once("responses", "lorem?chunks=12&size=300", stream=True).data
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert [len(delta) for delta in deltas] == [300] * 12
    assert [delta.split()[0] for delta in deltas] == [str(i) for i in range(12)]


@pytest.mark.parametrize("endpoint", ["responses", "chat"])
def test_bench_frames_are_about_270_bytes(tools: Any, endpoint: str) -> None:
    frames = tools.once(endpoint, "bench", stream=True).frames
    sizes = [
        len(frame) + 2
        for frame in frames
        if b" lorem ipsum" in frame and b".done" not in frame and b".completed" not in frame
    ]
    assert len(sizes) == 100
    assert 230 <= sum(sizes) / len(sizes) <= 310


def test_log_probabilities_come_with_each_piece(tools: Any) -> None:
    chat = tools.once("chat", "echo", stream=True, logprobs=True, top_logprobs=3).data[:-1]
    probs = [event["choices"][0]["logprobs"]["content"][0] for event in chat if event["choices"][0]["logprobs"]]
    assert "".join(prob["token"] for prob in probs) == tools.text
    assert all(len(prob["top_logprobs"]) == 3 for prob in probs)
    old = [event["choices"][0] for event in tools.once("completions", "echo", stream=True, logprobs=1).data[:-1]]
    offsets = [choice["logprobs"]["text_offset"][0] for choice in old if choice["logprobs"]]
    assert offsets == [0, *itertools.accumulate(len(choice["text"]) for choice in old if choice["logprobs"])][:-1]


def test_a_tool_is_called_by_its_name_also_in_a_group(tools: Any) -> None:
    group = {"type": "namespace", "name": "files", "tools": [{"type": "custom", "name": "patch"}]}
    items = [{"type": "additional_tools", "role": "developer", "tools": [group]}, {"role": "user", "content": "?"}]
    for more in ({"tools": [*TOOLS, group]}, {"tools": TOOLS, "input": items}):
        body = json.loads(tools.once("responses", "tools?tool=patch&args=free+text", **more).body)
        (call,) = body["output"]
        assert (call["type"], call["name"], call["namespace"]) == ("custom_tool_call", "patch", "files")
        assert call["input"] == "free text"
    schema = {"type": "object", "properties": {"input": {"type": "string"}}}
    flat = {"type": "function", "function": {"name": "files__patch", "parameters": schema}}
    body = json.loads(tools.once("chat", "tools?tool=patch&args=free+text", tools=[flat]).body)
    (call,) = body["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "files__patch", "arguments": '{"input": "free text"}'}


def test_encrypted_reasoning_that_is_not_openais_is_refused(tools: Any) -> None:
    asked = {"input": "?", "include": ["reasoning.encrypted_content"]}
    first = json.loads(tools.once("responses", "reasoning", **asked).body)["output"]
    forged = [{**first[0], "encrypted_content": "tgr1_AAAA"}]
    for items, status in ((first, 200), (forged, 400)):
        assert tools.once("responses", "echo", input=[*items, {"role": "user", "content": "?"}]).status == status
