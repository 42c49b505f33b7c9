"""Streams of chat and text completions: frames untouched, whole chunks, `[DONE]` only after a real finish."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from tests.dialects import common
from tests.dialects.common import CREATED, destination, events, frame, frames, plain, play
from tidegate.dialects.choices import CHOICE_LIMIT
from tidegate.dialects.dialect import Quirks, Stream
from tidegate.wire import errors, sse
from tidegate.wire.events import Usage

NAMES = [*common.names("chat"), *common.names("completions")]
FAILED = {"no-finish", "error", "error-in-chunk", "garbage", "not-utf8"}
DIALECTS = ("chat", "completions")
DONE = b"data: [DONE]\n\n"

HEADS: dict[str, dict[str, Any]] = {
    "chat": {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "tide-1"},
    "completions": {"id": "cmpl-1", "object": "text_completion", "created": 1_700_000_000, "model": "tide-1"},
}
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


def stream(dialect: str, to: Any = None, **members: Any) -> Stream:
    return common.open_stream(dialect, to=to, **members)


def choice(dialect: str, text: str | None = None, reason: str | None = None, index: int = 0) -> dict[str, Any]:
    said: dict[str, Any] = (
        {"delta": {} if text is None else {"content": text}} if dialect == "chat" else {"text": text or ""}
    )
    return {"index": index, **said, "finish_reason": reason}


def chunk(dialect: str, *choices: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {**HEADS[dialect], "choices": list(choices), **members}


def said(dialect: str, text: str | None = None, reason: str | None = None, index: int = 0, **members: Any) -> bytes:
    return frame(chunk(dialect, choice(dialect, text, reason, index), **members))


def finished(out: bytes) -> bool:
    assert out.count(b"[DONE]") == (1 if out.endswith(DONE) else 0)
    return out.endswith(DONE)


def failed(out: bytes) -> dict[str, Any]:
    assert b"[DONE]" not in out
    last = events(out)[-1]
    assert list(last) == ["error"]
    assert set(last["error"]) == {"message", "type", "param", "code"}
    return dict(last["error"])


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# -- recorded streams -----------------------------------------------------------------------------------------------


def opened(name: str) -> Stream:
    dialect, _, script = name.partition("-")
    asked: dict[str, Any] = {"stream_options": {"include_usage": True}} if script.startswith("usage") else {}
    if script == "two":
        asked["n"] = 2
    return stream(dialect, **asked)


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_stream_ends_as_it_should(name: str) -> None:
    dialect, _, script = name.partition("-")
    subject = opened(name)
    out = play(subject, [common.vector(name)])
    assert subject.outcome is not None
    if script in FAILED:
        failed(out)
        assert subject.outcome.status == "failed"
        return
    assert finished(out)
    assert subject.outcome.status == ("incomplete" if script == "length" else "completed")
    for one in events(out):
        common.check_chunk(dialect, one)


@pytest.mark.fault("FAULT-MALFORMED-SSE")
@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_stream_byte_by_byte_is_the_same_stream(name: str) -> None:
    data = common.vector(name)
    assert plain(play(opened(name), common.bytewise(data))) == plain(play(opened(name), [data]))


@pytest.mark.fault("FAULT-MALFORMED-SSE")
@pytest.mark.parametrize("name", ["chat-calls", "chat-chinese", "chat-crlf", "chat-error-in-chunk", "completions-two"])
@given(cuts=st.lists(st.integers(0, 100_000), max_size=30))
@settings(max_examples=15, deadline=None)
def test_a_recorded_stream_in_any_split_is_the_same_stream(name: str, cuts: list[int]) -> None:
    data = common.vector(name)
    assert plain(play(opened(name), common.split(data, cuts))) == plain(play(opened(name), [data]))


@pytest.mark.parametrize(
    "name",
    [
        "chat-calls",
        "chat-chinese",
        "chat-crlf",
        "chat-reasoning",
        "chat-refusal",
        "chat-two",
        "completions-chinese",
        "completions-two",
    ],
)
def test_frames_go_on_byte_for_byte(name: str) -> None:
    given_frames = [one.raw for one in sse.FrameDecoder().feed(common.vector(name))]
    told = [one.raw for one in sse.FrameDecoder().feed(play(opened(name), [common.vector(name)]))]
    assert told[:-1] == given_frames[:-1]
    assert sse.FrameDecoder().feed(told[-1])[0].data == b"[DONE]"


# -- the end --------------------------------------------------------------------------------------------------------


@pytest.mark.fault("FAULT-MALFORMED-SSE")
def test_done_is_added_after_a_real_finish(dialect: str) -> None:
    data = said(dialect, "潮") + said(dialect, None, "stop")
    assert play(stream(dialect), [data]) == data + DONE


@pytest.mark.parametrize(
    "tail", [b"data: [DONE]", b"data: [DONE]\n", b"data:[DONE]\n\n", b"data: [DONE] \n\n", b"data: [DO"]
)
def test_done_is_told_once_however_it_comes(dialect: str, tail: bytes) -> None:
    data = said(dialect, "潮") + said(dialect, None, "stop")
    assert play(stream(dialect), [data + tail]) == data + DONE


def test_without_a_finish_reason_nothing_is_finished(dialect: str) -> None:
    error = failed(play(stream(dialect), [said(dialect, "潮")]))
    assert error["message"] == "Provider 'lab': the stream ended without a finish reason."
    assert error["code"] == "upstream_broken"
    error = failed(play(stream(dialect), [said(dialect, "潮") + DONE]))
    assert error["message"] == "Provider 'lab': it closed the stream without a finish reason."
    failed(play(stream(dialect), [b""]))
    failed(play(stream(dialect), [DONE]))


def test_silence_after_a_real_finish_is_an_end_and_before_it_is_none(dialect: str) -> None:
    subject = stream(dialect)
    subject.feed(said(dialect, "潮"))
    assert subject.finish() == b""
    assert common.outcome(subject) is None
    subject.feed(said(dialect, None, "length"))
    assert subject.finish() == DONE
    assert subject.outcome is not None
    assert subject.outcome.status == "incomplete"
    assert subject.finish() == b""


def test_an_empty_finish_reason_is_none(dialect: str) -> None:
    failed(play(stream(dialect), [said(dialect, "潮", "")]))
    out = play(stream(dialect), [said(dialect, "潮", "") + said(dialect, None, "stop")])
    assert finished(out)
    assert events(out)[0]["choices"][0]["finish_reason"] is None


@pytest.mark.parametrize("done", [b"", DONE])
def test_every_choice_must_finish(dialect: str, done: bytes) -> None:
    both = said(dialect, "潮", index=0) + said(dialect, "汐", index=1)
    failed(play(stream(dialect, n=2), [both + said(dialect, None, "stop", 1) + done]))
    assert finished(
        play(stream(dialect, n=2), [both + said(dialect, None, "stop", 1) + said(dialect, None, "stop", 0) + done])
    )


def test_a_choice_that_never_came_is_missed_unless_the_provider_says_done(dialect: str) -> None:
    first = said(dialect, "潮") + said(dialect, None, "stop")
    failed(play(stream(dialect, n=2), [first]))
    assert finished(play(stream(dialect, n=2), [first + DONE]))


def test_each_prompt_of_a_list_is_a_choice() -> None:
    one, two = said("completions", "潮", "stop", 0), said("completions", "汐", "stop", 1)
    failed(play(stream("completions", prompt=["a", "b"]), [one]))
    assert finished(play(stream("completions", prompt=["a", "b"]), [one + two]))
    assert finished(play(stream("completions", prompt=[1, 2, 3]), [one]))
    failed(play(stream("completions", prompt=[[1], [2, 3]]), [one]))


def test_more_choices_than_anyone_asks_for_break_the_stream() -> None:
    many = [choice("chat", "x", index=index) for index in range(CHOICE_LIMIT + 1)]
    failed(play(stream("chat"), [frame(chunk("chat", *many))]))


@pytest.mark.parametrize(
    ("reason", "told", "status"),
    [
        ("stop", "stop", "completed"),
        ("STOP", "stop", "completed"),
        ("eos_token", "stop", "completed"),
        ("end_turn", "stop", "completed"),
        ("MAX_TOKENS", "length", "incomplete"),
        ("model_length", "length", "incomplete"),
        ("sensitive", "content_filter", "incomplete"),
        ("SAFETY", "content_filter", "incomplete"),
        ("tool_use", "tool_calls", "completed"),
        ("function_call", "function_call", "completed"),
    ],
)
def test_finish_reasons_stay_inside_the_enumeration(reason: str, told: str, status: str) -> None:
    subject = stream("chat")
    out = play(subject, [said("chat", "潮") + said("chat", None, reason)])
    assert finished(out)
    assert events(out)[-1]["choices"][0]["finish_reason"] == told
    assert subject.outcome is not None
    assert subject.outcome.status == status


@pytest.mark.fault("FAULT-IN-BAND")
@pytest.mark.parametrize(
    "reason", ["error", "abort", "cancelled", "network_error", "insufficient_system_resource", "ERROR"]
)
def test_a_break_that_is_told_as_a_finish_reason_is_a_break(dialect: str, reason: str) -> None:
    error = failed(play(stream(dialect), [said(dialect, "潮") + said(dialect, None, reason) + DONE]))
    assert reason in error["message"]


@pytest.mark.fault("FAULT-MALFORMED-SSE")
def test_nothing_follows_the_end(dialect: str) -> None:
    data = said(dialect, "潮") + said(dialect, None, "stop") + DONE
    assert play(stream(dialect), [data + said(dialect, "汐") + DONE]) == data


# -- errors ---------------------------------------------------------------------------------------------------------

PROBLEM = {"message": "慢一点", "type": "rate_limit_error", "code": "rate_limit_exceeded", "param": None}
ERRORS: dict[str, bytes] = {
    "object": frame({"error": PROBLEM}),
    "in a chunk": frame(chunk("chat", {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}, error=PROBLEM)),
    "numeric code": frame({"error": {"message": "慢一点", "code": 429}}),
    "named": frame(PROBLEM, "error"),
    "named and nested": frame({"error": PROBLEM}, "error"),
    "object error": frame({"object": "error", **PROBLEM}),
    "bare": frame({"message": "慢一点", "code": 429}),
}


@pytest.mark.fault("FAULT-IN-BAND")
@pytest.mark.parametrize("before", [b"", said("chat", "潮")], ids=["at once", "after content"])
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_an_error_in_the_stream_ends_it_with_what_it_says(error: bytes, before: bytes) -> None:
    subject = stream("chat")
    out = play(subject, [before + error + DONE])
    assert subject.outcome is not None
    assert isinstance(subject.outcome.error, errors.UpstreamRateLimited)
    assert subject.committed == bool(before)
    assert out.startswith(before)
    assert failed(out)["message"] == "Provider 'lab' reported an error: 慢一点"


@pytest.mark.parametrize("nothing", [None, "", {}, False])
def test_an_error_member_with_nothing_in_it_is_no_error(dialect: str, nothing: Any) -> None:
    data = said(dialect, "潮", error=nothing) + said(dialect, None, "stop", error=nothing)
    assert play(stream(dialect), [data]) == data + DONE


@pytest.mark.parametrize(
    "bad",
    [
        b"data: {oops}\n\n",
        b"data: []\n\n",
        b"data: 5\n\n",
        b'data: {"choices":5}\n\n',
        b'data: {"choices":[5]}\n\n',
        b'data: {"unknown":1}\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
        b'data: {"id":"a","object":"b","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"\xff"},"text":"\xff"}]}\n\n',
        b"data: {" + b" " * sse.FRAME_LIMIT + b"}\n\n",
    ],
)
def test_what_cannot_be_read_ends_the_stream_and_costs_nothing_that_came_before(dialect: str, bad: bytes) -> None:
    data = said(dialect, "潮") + bad + said(dialect, None, "stop") + DONE
    out = play(stream(dialect), [data])
    assert out.startswith(said(dialect, "潮"))
    assert failed(out)["message"].startswith("Provider 'lab': ")
    assert play(stream(dialect), common.split(data, range(100, len(data), 1 << 20))) == out


# -- whole chunks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["id", "object", "created", "model"])
def test_a_chunk_gets_what_it_lacks(dialect: str, missing: str) -> None:
    first = {name: value for name, value in chunk(dialect, choice(dialect, "潮", "stop")).items() if name != missing}
    out = play(stream(dialect), [frame(first) + frame(first)])
    one, two = events(out)
    common.check_chunk(dialect, one)
    assert one == two
    expected = {"id": one["id"], "object": HEADS[dialect]["object"], "created": CREATED, "model": "tide-1"}
    assert one[missing] == expected[missing]
    assert one["id"].startswith("chatcmpl-" if dialect == "chat" else "cmpl-")


def test_a_chunk_gets_what_it_lacks_from_the_chunks_before(dialect: str) -> None:
    later = {"choices": [choice(dialect, None, "stop")], "usage": None}
    out = play(stream(dialect), [said(dialect, "潮") + frame(later)])
    assert {one["id"] for one in events(out)} == {HEADS[dialect]["id"]}
    assert {one["created"] for one in events(out)} == {1_700_000_000}


def test_chunks_as_the_founding_documents_show_them_become_whole() -> None:
    out = play(
        stream("chat"),
        [frame({"choices": [{"delta": {"content": "潮"}}]}) + frame({"choices": [{"finish_reason": "stop"}]})],
    )
    assert finished(out)
    for one in events(out):
        common.check_chunk("chat", one)
    out = play(
        stream("completions"), [frame({"choices": [{"text": "潮"}]}) + frame({"choices": [{"finish_reason": "stop"}]})]
    )
    assert finished(out)
    for one in events(out):
        common.check_chunk("completions", one)
    assert events(out)[0]["choices"][0]["text"] == "潮"


ODD: dict[str, dict[str, Any]] = {
    "float created": {"created": 1_700_000_000.75},
    "text created": {"created": "now"},
    "number as id": {"id": 5},
    "no choices": {"choices": None},
    "usage of no kind": {"usage": "n/a"},
    "usage in part": {"usage": {"prompt_tokens": 1}},
    "usage with a text": {"usage": {"prompt_tokens": 5, "completion_tokens": "7"}},
}


@pytest.mark.parametrize("members", ODD.values(), ids=ODD)
def test_odd_members_are_put_right(dialect: str, members: dict[str, Any]) -> None:
    out = play(
        stream(dialect),
        [
            said(dialect, "潮")
            + frame({**chunk(dialect, choice(dialect, "汐")), **members})
            + said(dialect, None, "stop")
        ],
    )
    assert finished(out)
    for one in events(out):
        common.check_chunk(dialect, one)
        assert one["created"] == 1_700_000_000
        assert one["id"] == HEADS[dialect]["id"]


def test_odd_choices_are_put_right() -> None:
    odd: list[dict[str, Any]] = [
        {"delta": {"content": "潮"}, "finish_reason": None},
        {"index": None, "delta": None, "finish_reason": None},
        {"index": 0, "delta": {"content": 7}, "finish_reason": 5},
    ]
    for one in odd:
        out = play(stream("chat"), [frame(chunk("chat", one)) + said("chat", None, "stop")])
        assert finished(out)
        first = events(out)[0]["choices"][0]
        assert first["index"] == 0
        assert first["finish_reason"] is None
        assert isinstance(first["delta"], dict)
    assert first["delta"]["content"] == 7


def test_the_prompt_filter_frame_goes_first_and_untouched() -> None:
    azure = frame(
        {
            "choices": [],
            "created": 0,
            "id": "",
            "model": "",
            "object": "",
            "prompt_filter_results": [{"prompt_index": 0}],
        }
    )
    data = azure + said("chat", "潮") + said("chat", None, "stop")
    assert play(stream("chat"), [data]) == data + DONE


def test_unknown_members_go_on_untouched(dialect: str) -> None:
    odd = said(dialect, "潮", provider="x", service_tier=None).replace(
        b'"provider":"x"', b'"big":12345678901234567890123,  "f":1.50'
    )
    data = odd + said(dialect, None, "stop")
    assert play(stream(dialect), [data]) == data + DONE


def test_comments_go_on_once_the_stream_has_begun_and_not_before(dialect: str) -> None:
    data = said(dialect, "潮") + b": ping\n\n" + said(dialect, None, "stop")
    assert play(stream(dialect), [b": OPENROUTER PROCESSING\n\n" + data]) == data + DONE


# -- usage ----------------------------------------------------------------------------------------------------------


def asked(dialect: str, to: Any = None) -> Stream:
    return stream(dialect, to, stream_options={"include_usage": True})


def test_the_usage_frame_is_withheld_from_who_did_not_ask(dialect: str) -> None:
    content = said(dialect, "潮") + said(dialect, None, "stop")
    subject = stream(dialect)
    assert play(subject, [content + frame(chunk(dialect, usage=USAGE)) + DONE]) == content + DONE
    assert (subject.usage().input_tokens, subject.usage().output_tokens, subject.usage().estimated) == (5, 7, False)


def test_the_usage_frame_goes_to_who_asked(dialect: str) -> None:
    data = said(dialect, "潮") + said(dialect, None, "stop") + frame(chunk(dialect, usage=USAGE)) + DONE
    assert play(asked(dialect), [data]) == data


@pytest.mark.fault("FAULT-USAGE")
def test_usage_in_another_frame_gets_a_frame_of_its_own_for_who_asked(dialect: str) -> None:
    content = said(dialect, "潮") + said(dialect, None, "stop", usage=USAGE)
    assert play(stream(dialect), [content + DONE]) == content + DONE
    out = play(asked(dialect), [content + DONE])
    assert out.startswith(content)
    last = events(out)[-1]
    assert last["choices"] == []
    assert {name: last["usage"][name] for name in USAGE} == USAGE
    assert {name: last[name] for name in HEADS[dialect]} == HEADS[dialect]


def test_usage_that_nobody_gave_is_estimated_for_who_asked(dialect: str) -> None:
    subject = asked(dialect)
    out = play(subject, [said(dialect, "潮汐" * 10) + said(dialect, None, "stop") + DONE])
    assert subject.usage().estimated
    assert events(out)[-1]["usage"]["completion_tokens"] == 15
    assert events(out)[-1]["usage"]["prompt_tokens"] == 100
    common.check_chunk(dialect, events(out)[-1])


@pytest.mark.parametrize(
    ("delta", "tokens"),
    [
        ({"content": "x" * 40}, 10),
        ({"reasoning_content": "x" * 40}, 10),
        ({"reasoning": "x" * 40}, 10),
        ({"refusal": "x" * 40}, 10),
        ({"tool_calls": [{"index": 0, "function": {"arguments": "x" * 40}}]}, 10),
        ({"role": "assistant", "content": ""}, 0),
    ],
)
def test_an_estimate_counts_what_is_said_and_not_its_wrapping(delta: dict[str, Any], tokens: int) -> None:
    subject = stream("chat")
    subject.feed(frame(chunk("chat", {"index": 0, "delta": delta, "finish_reason": None})))
    assert subject.usage().output_tokens == tokens


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("counted", [0, 2])
def test_what_is_said_behind_the_figures_of_a_torn_stream_is_estimated(dialect: str, counted: int) -> None:
    """Some say at the beginning what they have read, and a client that leaves then has had the rest for nothing."""
    figures = {"prompt_tokens": 700, "completion_tokens": counted, "total_tokens": 700 + counted}
    torn = stream(dialect)
    torn.feed(said(dialect, "潮 ", usage=figures))
    for _ in range(10):
        torn.feed(said(dialect, "abcd"))
    first = 0 if counted else 1
    assert torn.usage() == Usage(input_tokens=700, output_tokens=counted + first + 10, estimated=True)
    torn.feed(said(dialect, reason="stop"))
    assert torn.usage() == Usage(input_tokens=700, output_tokens=counted)


@pytest.mark.fault("FAULT-USAGE")
def test_the_last_figures_count(dialect: str) -> None:
    subject = stream(dialect)
    early = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    data = said(dialect, "潮", usage=early) + said(dialect, None, "stop", usage=USAGE)
    play(subject, [data])
    assert subject.usage().output_tokens == 7


# -- attempts -------------------------------------------------------------------------------------------------------


def test_another_attempt_knows_nothing_of_the_one_before(dialect: str) -> None:
    subject = stream(dialect)
    assert subject.feed(frame(chunk(dialect, usage=USAGE)) + said(dialect, None, "error")) == b""
    assert not subject.committed
    subject.outcome = None
    subject.attempt(destination(provider="spare"))
    out = play(subject, [said(dialect, "潮")])
    assert "spare" in failed(out)["message"]
    assert subject.usage().estimated


def test_the_first_frame_commits(dialect: str) -> None:
    subject = stream(dialect)
    assert subject.feed(b": wait\n\n") == b""
    assert not subject.committed
    assert subject.feed(said(dialect, "")) != b""
    assert subject.committed


def test_a_ping_is_a_comment(dialect: str) -> None:
    assert stream(dialect).ping() == b": keepalive\n\n"


# -- engines --------------------------------------------------------------------------------------------------------


def test_loose_chunks_are_tightened() -> None:
    to = destination(quirks=Quirks(loose_chunks=True, model_suffix="@main"))
    loose = {**HEADS["chat"], "model": "tide-1@main", "choices": [{"index": 0, "delta": {"content": "潮"}}]}
    last = {**loose, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": USAGE}
    out = play(asked("chat", to), [frame(loose) + frame(last)])
    one, two, three = events(out)
    assert finished(out)
    assert one == chunk("chat", choice("chat", "潮"), usage=None)
    assert two == chunk("chat", choice("chat", None, "stop"), usage=None)
    assert three["choices"] == []
    assert three["model"] == "tide-1"
    assert {name: three["usage"][name] for name in USAGE} == USAGE
    assert len(frames(out)) == 4
    assert json.loads(frames(play(stream("chat", to), [frame(loose) + frame(last)]))[1].data) == chunk(
        "chat", choice("chat", None, "stop")
    )


def test_a_frame_that_nobody_can_read_whole_does_not_cost_the_usage_frame(dialect: str) -> None:
    odd = said(dialect, None, "stop", xx=1).replace(b'"xx"', b'"\xff"')
    out = play(asked(dialect), [said(dialect, "潮") + odd])
    assert finished(out)
    usage = json.loads([one for one in frames(out) if one.data != b"[DONE]"][-1].data)
    assert usage["choices"] == []
    assert usage["object"] == HEADS[dialect]["object"]


def piece(index: int | None, arguments: str = "", call_id: str = "", name: str = "") -> dict[str, Any]:
    """One entry of `tool_calls`."""
    given: dict[str, Any] = {"function": {"arguments": arguments, **({"name": name} if name else {})}}
    if call_id:
        given |= {"id": call_id, "type": "function"}
    return given if index is None else {"index": index, **given}


def calling(*chunks: list[dict[str, Any]]) -> list[bytes]:
    """A stream that calls tools, chunk by chunk."""
    made = [
        frame(chunk("chat", {"index": 0, "delta": {"tool_calls": calls}, "finish_reason": None})) for calls in chunks
    ]
    return [*made, said("chat", reason="tool_calls"), DONE]


def put_together(out: bytes) -> list[tuple[str, str, str]]:
    """The calls as the official client has them at the end."""
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    for event in events(out):
        state.handle_chunk(ChatCompletionChunk.model_validate(event))
    calls = state.get_final_completion().choices[0].message.tool_calls or []
    return [(call.id, call.function.name, call.function.arguments) for call in calls if call.type == "function"]


@pytest.mark.fault("FAULT-TOOL-CALLS")
@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([[piece(None, '{"x":1}', "a", "tide")], [piece(None, '{"x":2}', "b", "tide")]], id="none"),
        pytest.param([[piece(None, '{"x":1}', "a", "tide"), piece(None, '{"x":2}', "b", "tide")]], id="none, in one chunk"),
        pytest.param(
            [[piece(None, '{"x"', "a", "tide")], [piece(None, ":1}")], [piece(None, '{"x":', "b", "tide")], [piece(None, "2}")]],
            id="none, in pieces",
        ),
        pytest.param([[piece(0, '{"x":1}', "a", "tide")], [piece(0, '{"x":2}', "b", "tide")]], id="always the first"),
        pytest.param(
            [[piece(0, "", "a", "tide")], [piece(0, '{"x":1}')], [piece(0, "", "b", "tide")], [piece(0, '{"x":2}')]],
            id="always the first, in pieces",
        ),
    ],
)  # fmt: skip
def test_calls_get_the_places_that_clients_need(chunks: Any) -> None:
    out = play(stream("chat"), calling(*chunks))
    assert put_together(out) == [("a", "tide", '{"x":1}'), ("b", "tide", '{"x":2}')]


def test_calls_that_have_their_places_go_on_untouched() -> None:
    """Also those whose pieces interleave, and one whose id and name are repeated with every piece."""
    reads = calling(
        [piece(0, "", "a", "tide"), piece(1, "", "b", "wind")],
        [piece(1, '{"x":', "b", "wind")],
        [piece(0, '{"x":1}')],
        [piece(1, "2}", "b", "wind")],
    )
    assert play(stream("chat"), reads) == b"".join(reads)


def test_a_choice_that_stands_twice_in_a_chunk_breaks_nothing() -> None:
    one = {"index": 0, "delta": {"tool_calls": [piece(None, '{"x":1}', "a", "tide")]}, "finish_reason": None}
    two = {"index": 0, "delta": {"tool_calls": [piece(None, '{"x":2}', name) for name in "bc"]}, "finish_reason": None}
    out = play(stream("chat"), [frame(chunk("chat", one, two)), said("chat", reason="tool_calls"), DONE])
    (first, second) = events(out)[0]["choices"]
    places = [call["index"] for called in (first, second) for call in called["delta"]["tool_calls"]]
    assert places == [0, 0, 0]


# -- what follows a chunk of text ---------------------------------------------------------------------------------------

ODD_HEADS = ("id", "object", "created", "model")
AFTER_TEXT: dict[str, bytes] = {
    "text": said("chat", " more"),
    "other letters": said("chat", "潮汐"),
    "no text": said("chat", ""),
    "nothing": said("chat"),
    "an ending": said("chat", reason="stop"),
    "text and an ending": said("chat", "end", reason="length"),
    "an unknown ending": said("chat", reason="abort"),
    "a filter": said("chat", reason="content_filter"),
    "usage": frame(chunk("chat", usage=USAGE)),
    "usage beside text": said("chat", "x", usage=USAGE),
    "null usage": said("chat", "x", usage=None),
    "an error": said("chat", "x", error={"message": "no"}),
    "an empty error": said("chat", "x", error={}),
    "an error alone": frame({"error": {"message": "no", "code": 500}}),
    "another choice": said("chat", "x", index=1),
    "two choices": frame(chunk("chat", choice("chat", "x"), choice("chat", "y", index=1))),
    "no choices": frame(chunk("chat")),
    "a call": frame(
        chunk("chat", {"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]}})
    ),
    "text and a call": frame(
        chunk("chat", {"index": 0, "delta": {"content": "x", "tool_calls": [{"id": "c", "function": {"name": "f"}}]}})
    ),
    "a thought": frame(chunk("chat", {"index": 0, "delta": {"content": "x", "reasoning_content": "hm"}})),
    "a refusal": frame(chunk("chat", {"index": 0, "delta": {"refusal": "no"}})),
    **{
        f"{name} beside an empty text": frame(
            chunk("chat", {"index": 0, "delta": {"content": "", name: "a while longer"}})
        )
        for name in ("reasoning_content", "reasoning", "refusal")
    },
    "the choice twice": frame(chunk("chat", choice("chat", "a while"), choice("chat", " longer than that"))),
    "text of a completion": frame(chunk("chat", {"index": 0, "text": "x"})),
    "no index": frame(chunk("chat", {"delta": {"content": "x"}})),
    "a wrong type": said("chat", "x", created="now"),
    "no JSON": b"data: {\n\n",
    "the end": DONE,
    "a comment": b": ping\n\n",
    **{
        f"no {name}": frame({k: v for k, v in chunk("chat", choice("chat", "x")).items() if k != name})
        for name in ODD_HEADS
    },
}


@pytest.mark.parametrize("then", AFTER_TEXT.values(), ids=AFTER_TEXT)
@pytest.mark.parametrize("loose", [False, True])
def test_a_chunk_is_taken_for_what_it_is_after_text_as_after_anything_else(then: bytes, loose: bool) -> None:
    to = destination(quirks=Quirks(loose_chunks=True)) if loose else None
    after_text, after_nothing = stream("chat", to), stream("chat", to)
    for one in (after_text, after_nothing):
        one.feed(said("chat", "four"))
    after_nothing.feed(said("chat"))  # a chunk that says nothing
    for frames_of_one_read in (then, then + said("chat", "x"), said("chat", "z", reason="stop") + DONE):
        assert after_text.feed(frames_of_one_read) == after_nothing.feed(frames_of_one_read)
        assert after_text.usage() == after_nothing.usage()
        assert after_text.outcome == after_nothing.outcome or (
            after_text.outcome is not None
            and after_nothing.outcome is not None
            and (after_text.outcome.status, str(after_text.outcome.error))
            == (after_nothing.outcome.status, str(after_nothing.outcome.error))
        )
