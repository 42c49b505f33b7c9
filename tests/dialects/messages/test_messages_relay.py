"""The same dialect on both sides: frames go on untouched, and the end is the provider's own."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects.common import bytewise, call, frames, outcome, play, split
from tests.dialects.messages import streams
from tests.dialects.messages.streams import (
    BROKEN,
    PING,
    VECTORS,
    anthropic_message,
    destination,
    end,
    frame,
    message,
    start,
    text,
)
from tidegate.dialects.dialect import Answer, Outcome
from tidegate.dialects.messages.relay import MessagesStream, complete
from tidegate.wire.errors import UpstreamBroken, UpstreamFailed, UpstreamTimeout, WireError
from tidegate.wire.events import Usage


def opened() -> MessagesStream:
    stream = MessagesStream(call())
    stream.attempt(destination())
    return stream


def commits(stream: MessagesStream) -> bool:
    """As it is now: a type checker believes that an attribute stays what it was."""
    return stream.committed


def ended(stream: MessagesStream) -> Outcome:
    found = outcome(stream)
    assert found is not None
    return found


@pytest.mark.parametrize("name", sorted(set(VECTORS) - {"crlf"}))
def test_frames_go_on_untouched(name: str) -> None:
    stream = opened()
    assert play(stream, [VECTORS[name]]) == VECTORS[name]
    assert ended(stream).error is None


@settings(max_examples=60)
@given(st.sampled_from(sorted({**VECTORS, **BROKEN})), st.lists(st.integers(0, 10_000), max_size=8))
def test_a_random_split_gives_the_same_bytes(name: str, cuts: list[int]) -> None:
    data = {**VECTORS, **BROKEN}[name]
    whole, parts = opened(), opened()
    if name != "crlf":
        assert play(whole, [data]) == play(parts, split(data, cuts))
    else:
        play(whole, [data])
        play(parts, split(data, cuts))
    assert ended(whole).status == ended(parts).status
    assert whole.usage() == parts.usage()


@pytest.mark.parametrize("name", sorted(VECTORS))
def test_bytewise_it_is_the_same_message_to_the_sdk(name: str) -> None:
    if name == "unknown":
        pytest.skip("the SDK's accumulator does not know the blocks of tomorrow")
    assert message(play(opened(), bytewise(VECTORS[name]))) == message(VECTORS[name])


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_what_is_not_whole_fails_and_says_so_in_anthropics_words(name: str) -> None:
    stream = opened()
    out = play(stream, [BROKEN[name]])
    found = ended(stream)
    assert found.status == "failed"
    assert found.error is not None
    last = frames(out)[-1]
    assert last.event == b"error"
    said = json.loads(last.data)
    assert said["type"] == "error"
    assert said["error"]["type"] in ("api_error", "overloaded_error")
    assert said["error"]["message"]
    assert b"event: message_stop" not in out


def test_the_sdk_raises_for_the_error_frame() -> None:
    import anthropic

    with pytest.raises(anthropic.APIStatusError):
        anthropic_message(play(opened(), [BROKEN["cut"]]))


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("end_turn", "completed"),
        ("tool_use", "completed"),
        ("pause_turn", "completed"),
        ("max_tokens", "incomplete"),
        ("model_context_window_exceeded", "incomplete"),
        ("refusal", "incomplete"),
    ],
)
def test_the_stop_reason_is_the_status(reason: str, status: str) -> None:
    stream = opened()
    play(stream, [start() + text(0, "x") + end(reason)])
    assert ended(stream).status == status
    whole = {"type": "message", "content": [], "stop_reason": reason, "usage": {"input_tokens": 1, "output_tokens": 1}}
    assert complete(json.dumps(whole).encode(), call(), destination()).status == status


def test_it_commits_with_the_first_event_and_not_with_a_ping() -> None:
    stream = opened()
    assert stream.feed(PING) == b""
    assert not commits(stream)
    assert stream.feed(start()) == start()
    assert commits(stream)
    assert stream.feed(PING) == PING


def test_an_error_before_the_first_event_leaves_room_for_another_attempt() -> None:
    stream = opened()
    assert stream.feed(frame("error", error={"type": "overloaded_error", "message": "busy"})) == b""
    error = ended(stream).error
    assert isinstance(error, UpstreamFailed)
    assert error.http_status == 503
    assert error.may_retry
    assert not stream.committed


def test_usage_counts_the_cache() -> None:
    stream = opened()
    play(stream, [VECTORS["cached"]])
    assert stream.usage() == Usage(131, 7, cached_tokens=100, cache_write_tokens=20)


def test_a_cut_answer_is_estimated_from_what_was_said() -> None:
    stream = opened()
    play(stream, [start() + text(0, "x" * 400)])
    assert stream.usage() == Usage(input_tokens=11, output_tokens=100, estimated=True)


def test_an_answer_without_usage_is_estimated() -> None:
    for uncounted in ({}, {"input_tokens": 0, "output_tokens": 0}):
        begun = frame("message_start", message={"type": "message", "usage": uncounted})
        finished = frame("message_delta", delta={"stop_reason": "end_turn"}, usage=uncounted) + frame("message_stop")
        stream = opened()
        play(stream, [begun + text(0, "x" * 40) + finished])
        assert stream.usage() == Usage(input_tokens=100, output_tokens=10, estimated=True)


def begun(**members: Any) -> bytes:
    given = {"type": "message", "role": "assistant", "model": "claude-x", "content": [], "id": "msg_01"}
    return frame("message_start", message={**given, **members})


BEGUN = {"input_tokens": 7, "output_tokens": 1}
ENDED = frame("message_stop")


@pytest.mark.parametrize("missing", [{}, {"usage": None}])
def test_frames_without_usage_get_an_estimate_that_the_sdk_can_add_up(missing: dict[str, Any]) -> None:
    """Its accumulator fails on both; a whole answer is mended likewise."""
    said = text(0, "x" * 40)
    stream = opened()
    finished = frame("message_delta", delta={"stop_reason": "end_turn"}, **missing)
    out = play(stream, [begun(**missing) + said + finished + ENDED])
    found = anthropic_message(out)
    assert (found.usage.input_tokens, found.usage.output_tokens) == (100, 10)
    assert (found.id, found.stop_reason) == ("msg_01", "end_turn")
    assert said in out
    assert stream.usage() == Usage(input_tokens=100, output_tokens=10, estimated=True)


@pytest.mark.parametrize("told", [{}, {"output_tokens": None}, {"input_tokens": 7}, {"server_tool_use": None}])
def test_an_ending_without_a_count_of_the_output_gets_one_beside_what_it_says(told: dict[str, Any]) -> None:
    stream = opened()
    before = begun(usage=BEGUN) + text(0, "x" * 40)
    out = play(stream, [before + frame("message_delta", delta={"stop_reason": "end_turn"}, usage=told) + ENDED])
    assert out.startswith(before)
    usage = json.loads(frames(out)[-2].data)["usage"]
    assert usage.keys() >= told.keys()
    assert (usage["input_tokens"], usage["output_tokens"]) == (7, 10)
    assert anthropic_message(out).usage.output_tokens == 10
    assert stream.usage() == Usage(input_tokens=7, output_tokens=10, estimated=True)


def test_only_the_frame_that_lacks_usage_is_touched() -> None:
    counted = frame("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3}) + ENDED
    stream = opened()
    out = play(stream, [begun() + text(0, "Hi") + counted])
    assert out.endswith(text(0, "Hi") + counted)
    assert anthropic_message(out).usage.output_tokens == 3
    assert stream.usage() == Usage(input_tokens=100, output_tokens=3, estimated=True), (
        "the books say what the client got"
    )

    before = begun(usage=BEGUN) + text(0, "Hi")
    again = frame("message_delta", delta={})
    out = play(opened(), [before + counted.removesuffix(ENDED) + again + ENDED])
    assert json.loads(frames(out)[-2].data)["usage"]["output_tokens"] == 3, "what was counted stands"


def test_a_frame_to_mend_that_cannot_be_read_breaks_the_stream() -> None:
    for broken in (
        b'data: {"type":"message_start","message":{"\xff":1}}\n\n',
        begun(usage=BEGUN) + b'data: {"type":"message_delta","delta":{},"\xff":1}\n\n',
    ):
        stream = opened()
        stream.feed(broken)
        assert isinstance(ended(stream).error, UpstreamBroken)


def test_a_frame_that_does_not_fit_keeps_the_usage_that_it_has() -> None:
    odd = frame("message_delta", delta={"stop_reason": "end_turn", "text": 3}, usage={"output_tokens": 3})
    assert opened().feed(begun(usage=BEGUN) + odd) == begun(usage=BEGUN) + odd


def test_a_stream_without_a_beginning_is_none_and_commits_nobody() -> None:
    """No official client reads on: another deployment may answer as long as nothing has gone out."""
    stream = opened()
    assert stream.feed(text(0, "Hello") + end()) == b""
    assert not commits(stream)
    found = ended(stream).error
    assert isinstance(found, UpstreamBroken)
    assert "message_start" in found.message


def test_frames_without_a_name_get_one() -> None:
    bare = b"".join(b"data: " + one.data + b"\n\n" for one in frames(VECTORS["text"]))
    assert message(play(opened(), [bare])) == message(VECTORS["text"])


def test_a_frame_is_called_what_its_data_says() -> None:
    stream = opened()
    out = stream.feed(b'event: message_stop\ndata: {"type":"ripple"}\n\n')
    assert out == b'event: ripple\ndata: {"type":"ripple"}\n\n'
    assert stream.outcome is None


def test_an_ending_that_does_not_say_so_is_none() -> None:
    stream = opened()
    assert stream.feed(b"event: message_stop\ndata: {}\n\n") == b""
    assert isinstance(ended(stream).error, UpstreamBroken)


def test_nothing_follows_the_end() -> None:
    stream = opened()
    assert stream.feed(VECTORS["text"] + text(9, "more")) == VECTORS["text"]
    assert stream.feed(VECTORS["text"]) == b""
    assert stream.eof() == b""
    assert stream.finish() == b""


def test_the_keep_alive_is_a_ping_event() -> None:
    assert [(one.event, one.data) for one in frames(opened().ping())] == [(b"ping", b'{"type": "ping"}')]


def test_a_clock_that_fired_is_a_timeout_error() -> None:
    out = opened().fail(UpstreamTimeout("idle clock", "idle"))
    assert json.loads(frames(out)[0].data)["error"]["type"] == "timeout_error"


def answer(**members: Any) -> bytes:
    whole = {**message(VECTORS["text"]), **members}
    return json.dumps(whole, ensure_ascii=False).encode()


def test_a_whole_answer_goes_on_as_it_came() -> None:
    body = answer()
    found = complete(body, call(), destination())
    assert (found.body, found.status, found.usage) == (body, "completed", Usage(11, 7))


def test_a_whole_answer_without_usage_gets_an_estimate() -> None:
    found = complete(answer(usage=None), call(), destination())
    assert found.usage.estimated
    assert json.loads(found.body)["usage"]["output_tokens"] == found.usage.output_tokens


@pytest.mark.parametrize("told", [{}, {"input_tokens": 0}, {"input_tokens": None, "cache_read_input_tokens": 0}])
def test_a_prompt_that_nobody_counted_is_estimated(told: dict[str, Any]) -> None:
    found = complete(answer(usage={**told, "output_tokens": 5, "service_tier": "standard"}), call(), destination())
    assert found.usage == Usage(input_tokens=100, output_tokens=5, estimated=True)
    usage = json.loads(found.body)["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["service_tier"]) == (100, 5, "standard")

    stream = opened()
    counted = frame("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5})
    play(stream, [begun(usage={**told, "output_tokens": 1}) + text(0, "Hi") + counted + ENDED])
    assert stream.usage() == Usage(input_tokens=100, output_tokens=5, estimated=True)


def test_an_answer_that_nobody_counted_keeps_the_count_of_its_prompt() -> None:
    found = complete(answer(usage={"input_tokens": 7, "cache_read_input_tokens": 2}), call(), destination())
    assert (found.usage.input_tokens, found.usage.cached_tokens, found.usage.estimated) == (9, 2, True)
    assert found.usage.output_tokens > 0


@pytest.mark.parametrize("members", [{"content": None}, {"stop_reason": None}, {"content": 3}])
def test_a_body_that_is_no_message_is_a_wire_error(members: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        complete(answer(**members), call(), destination())


def test_a_body_with_an_error_and_status_200_is_that_error() -> None:
    body = json.dumps({"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}).encode()
    with pytest.raises(Exception, match="slow") as found:
        complete(body, call(), destination())
    assert found.value.http_status == 429  # type: ignore[attr-defined]


def test_a_broken_stream_names_the_provider() -> None:
    stream = opened()
    play(stream, [streams.BROKEN["no-reason"]])
    error = ended(stream).error
    assert isinstance(error, UpstreamBroken)
    assert "'lab'" in error.message


@pytest.mark.parametrize("reason", ["end_turn", "max_tokens", "tool_use", "pause_turn", "refusal", "unheard_of"])
@pytest.mark.parametrize(
    "figures",
    [
        {"input_tokens": 7, "output_tokens": 5},
        {"input_tokens": 7, "output_tokens": 0},
        {"input_tokens": 0, "output_tokens": 5, "cache_read_input_tokens": 9},
        {"input_tokens": 1, "output_tokens": 5, "cache_read_input_tokens": 9, "cache_creation_input_tokens": 4},
        {
            "input_tokens": 1,
            "output_tokens": 5,
            "cache_creation_input_tokens": 4,
            "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 3},
            "output_tokens_details": {"thinking_tokens": 2},
        },
        {"input_tokens": 1, "output_tokens": 5, "cache_creation": {"ephemeral_1h_input_tokens": 30}},
    ],
)
def test_figures_are_the_same_however_their_numbers_are_written(figures: dict[str, Any], reason: str) -> None:
    message = {"type": "message", "content": [{"type": "text", "text": "潮"}], "stop_reason": reason}
    written = [
        figures,
        {**figures, "input_tokens": float(figures["input_tokens"])},
        {**figures, "cache_creation": None},
    ]
    bodies = [json.dumps({**message, "usage": usage}).encode() for usage in written]
    answers = [complete(body, call(), destination()) for body in bodies]
    assert [answer.body for answer in answers] == bodies
    assert (answers[0].usage, answers[0].status) == (answers[1].usage, answers[1].status)
    if "cache_creation" not in figures:
        assert answers[2] == Answer(bodies[2], answers[0].usage, answers[0].status)
