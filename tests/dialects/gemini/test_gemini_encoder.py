"""Events and whole outputs as Google's clients get them: validated and put together by the official client."""

import base64
import json
from collections.abc import Iterable
from typing import Any

import httpx
import pytest
from google import genai
from google.genai import errors as sdk_errors
from google.genai import types

from tests.dialects import common
from tests.dialects.gemini.samples import asked, decode, deployment
from tidegate.dialects.codec import Collector
from tidegate.dialects.gemini import GeminiDialect, GeminiUpstream, error_body
from tidegate.dialects.gemini.encoder import GeminiEncoder
from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest, UpstreamBroken, UpstreamRateLimited, UpstreamTimeout
from tidegate.wire.events import (
    Annotation,
    ChoiceEnd,
    Event,
    Finished,
    MediaDelta,
    MessageEnd,
    Opaque,
    Ping,
    Reason,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
    UsageReport,
)
from tidegate.wire.items import Choice, FunctionCall, Item, Message, Output, Reasoning, TextPart

ASKED = b'{"contents":[{"parts":[{"text":"a"}]}],"generationConfig":{"thinkingConfig":{"includeThoughts":%b}}}'
QUESTION = GeminiDialect().parse(ASKED % b"true", model="tide", stream=True)
END: list[Event] = [UsageReport(Usage(9, 7, cached_tokens=2, reasoning_tokens=3)), ChoiceEnd("stop"), Finished()]
CITATION = {"type": "url_citation", "start_index": 1, "end_index": 2, "url": "https://a.example", "title": "A"}
CALLS: list[Event] = [
    ToolCallStart(0, "call_1", "tide"),
    ToolCallStart(1, "call_2", "patch", custom=True),
    ToolCallDelta(0, '{"harbour":'),
    ToolCallDelta(1, "*** Begin"),
    ToolCallDelta(0, '"青岛"}'),
    ToolCallEnd(0),
    ToolCallEnd(1),
    UsageReport(Usage(1, 1)),
    ChoiceEnd("tool_calls"),
    Finished(),
]


def encoder(alt: str = "sse") -> GeminiEncoder:
    request = GeminiDialect().parse(ASKED % b"true", model="tide", stream=True, alt=alt)
    made = request.encoder(common.call())
    made.attempt(deployment("tide-1"))
    return made


def stream(events: Iterable[Event]) -> bytes:
    made = encoder()
    return b"".join(made.encode([event]) for event in events)


def chunks(data: bytes) -> list[dict[str, Any]]:
    found = common.events(data)
    for one in found:
        types.GenerateContentResponse.model_validate(one)
    return found


def official(data: bytes, kind: str = "text/event-stream") -> list[types.GenerateContentResponse]:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=data, headers={"content-type": kind})

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        client = genai.Client(api_key="k", http_options=types.HttpOptions(httpx_client=http))
        if kind == "application/json":
            return [client.models.generate_content(model="tide", contents="a")]
        return list(client.models.generate_content_stream(model="tide", contents="a"))


def test_a_seal_without_words_stands_before_the_thought_that_follows_it() -> None:
    events: list[Event] = [
        ReasoningEnd(encrypted="tgr1_a"),
        ReasoningDelta("hm"),
        ReasoningEnd(encrypted="tgr1_b"),
        TextDelta("42"),
    ]
    parts = [
        part
        for chunk in chunks(stream([Started("tide-1"), *events, *END]))
        for part in chunk["candidates"][0]["content"]["parts"]
    ]
    sealed = [base64.b64decode(part.get("thoughtSignature", "")) for part in parts]
    assert [part["text"] for part in parts] == ["", "hm", "42", ""]
    assert sealed == [b"tgr1_a", b"", b"tgr1_b", b""]


def test_each_text_is_a_chunk_and_the_last_one_has_reason_and_usage() -> None:
    data = stream([Started("tide-1"), TextDelta("潮"), Ping(), TextDelta('"汐"\n'), MessageEnd(), *END])
    identity = {"modelVersion": "tide-1", "responseId": "5a" * 24}
    assert chunks(data) == [
        {"candidates": [{"content": {"parts": [{"text": "潮"}], "role": "model"}, "index": 0}], **identity},
        {"candidates": [{"content": {"parts": [{"text": '"汐"\n'}], "role": "model"}, "index": 0}], **identity},
        {
            "candidates": [{"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": "STOP", "index": 0}],
            "usageMetadata": {
                "promptTokenCount": 9,
                "candidatesTokenCount": 4,
                "thoughtsTokenCount": 3,
                "cachedContentTokenCount": 2,
                "totalTokenCount": 16,
            },
            **identity,
        },
    ]
    found = official(data)
    assert "".join(one.text or "" for one in found) == '潮"汐"\n'
    assert found[-1].usage_metadata is not None
    assert found[-1].usage_metadata.total_token_count == 16


def test_nothing_is_committed_before_the_first_part() -> None:
    made = encoder()
    assert made.encode([Started("tide-1"), Ping()]) == b""
    assert made.committed is False
    made.attempt(deployment("tide-2"))
    assert b'"modelVersion":"tide-2"' in made.encode([Started(), TextDelta("a")])
    assert made.committed is True


def test_thoughts_are_marked_and_the_seal_is_a_signature_on_the_next_part() -> None:
    data = stream([Started(), ReasoningDelta("想", kind="summary"), ReasoningEnd(encrypted="tg.1~"), *CALLS])
    thought, first, second, last = official(data)
    assert thought.candidates is not None
    assert thought.candidates[0].content == types.Content(role="model", parts=[types.Part(text="想", thought=True)])
    assert first.function_calls == [types.FunctionCall(id="call_1", name="tide", args={"harbour": "青岛"})]
    assert second.function_calls == [types.FunctionCall(id="call_2", name="patch", args={"input": "*** Begin"})]
    assert first.candidates is not None
    assert first.candidates[0].content is not None
    assert first.candidates[0].content.parts is not None
    assert first.candidates[0].content.parts[0].thought_signature == b"tg.1~"
    assert last.candidates is not None
    assert last.candidates[0].finish_reason == types.FinishReason.STOP


@pytest.mark.parametrize("body", [ASKED % b"false", b'{"contents":[{"parts":[{"text":"a"}]}]}'])
def test_thoughts_that_nobody_asked_for_are_not_told_and_their_seal_comes_all_the_same(body: bytes) -> None:
    """As with Google: who did not ask may take the first part for the answer."""
    request = GeminiDialect().parse(body, model="tide", stream=True)
    thought: list[Event] = [ReasoningDelta("想", kind="summary"), ReasoningEnd(encrypted="tg.1~")]
    made = request.encoder(common.call())
    made.attempt(deployment("tide-1"))
    parts = [
        part
        for one in chunks(made.encode([Started(), *thought, TextDelta("潮"), *END]))
        for part in one["candidates"][0]["content"]["parts"]
    ]
    assert parts == [{"text": "潮", "thoughtSignature": "dGcuMX4="}, {"text": ""}]
    items: list[Item] = [
        Reasoning(summary=["想"], content=["念"], encrypted="tg.1~"),
        Message(role="assistant", content=[TextPart(text="潮")]),
    ]
    output = Output(choices=[Choice(items=items, reason="stop")], usage=Usage(1, 2))
    whole = json.loads(request.encode_answer(output, common.call(), deployment()))
    assert whole["candidates"][0]["content"]["parts"] == [{"text": "潮", "thoughtSignature": "dGcuMX4="}]


def test_a_seal_on_text_and_one_at_the_end() -> None:
    data = stream([Started(), ReasoningEnd(encrypted="a"), TextDelta("t"), ReasoningEnd(encrypted="b"), *END])
    parts = [one["candidates"][0]["content"]["parts"][0] for one in chunks(data)]
    assert parts == [{"text": "t", "thoughtSignature": "YQ=="}, {"text": "", "thoughtSignature": "Yg=="}]


def test_two_seals_without_a_part_between_them_are_both_kept() -> None:
    data = stream([Started(), ReasoningEnd(encrypted="a"), ReasoningEnd(encrypted="b"), *END])
    parts = [one["candidates"][0]["content"]["parts"][0] for one in chunks(data)]
    assert [part["thoughtSignature"] for part in parts] == ["YQ==", "Yg=="]


@pytest.mark.parametrize(
    ("reason", "theirs"),
    [
        ("stop", "STOP"),
        ("tool_calls", "STOP"),
        ("length", "MAX_TOKENS"),
        ("content_filter", "SAFETY"),
        ("refusal", "SAFETY"),
    ],
)
def test_reasons(reason: Reason, theirs: str) -> None:
    data = stream([Started(), TextDelta("no"), UsageReport(Usage(1, 1)), ChoiceEnd(reason), Finished()])
    first, last = chunks(data)
    assert first["candidates"][0]["content"]["parts"] == [{"text": "no"}]
    assert last["candidates"][0]["finishReason"] == theirs


def test_a_refusal_is_its_text_and_a_reason_whole_and_streamed() -> None:
    events: list[Event] = [Started(), RefusalDelta("no"), UsageReport(Usage(1, 1)), ChoiceEnd("stop")]
    first, last = chunks(stream([*events, Finished()]))
    assert first["candidates"][0]["content"]["parts"] == [{"text": "no"}]
    assert last["candidates"][0]["finishReason"] == "SAFETY"
    collector = Collector()
    for event in events:
        collector.add(event)
    candidate = json.loads(QUESTION.encode_answer(collector.output(), common.call(), deployment()))["candidates"][0]
    assert candidate["content"]["parts"] == [{"text": "no"}]
    assert candidate["finishReason"] == "SAFETY"


def test_choices_are_candidates() -> None:
    events: list[Event] = [
        Started(),
        TextDelta("a"),
        TextDelta("b", 1),
        ChoiceEnd("stop"),
        ChoiceEnd("length", 1),
        Finished(),
    ]
    found = chunks(stream(events))
    assert [one["candidates"][0]["index"] for one in found] == [0, 1, 0]
    assert [one["finishReason"] for one in found[-1]["candidates"]] == ["STOP", "MAX_TOKENS"]


@pytest.mark.parametrize(("arguments", "args"), [("", {}), ("[1]", {"_raw": "[1]"}), ('{"a":1', {"_raw": '{"a":1'})])
def test_arguments_that_are_no_object_are_not_lost(arguments: str, args: Any) -> None:
    events = [Started(), ToolCallStart(0, "c", "f"), ToolCallDelta(0, arguments), ToolCallEnd(0), *END]
    (call,) = official(stream(events))[0].function_calls or []
    assert call.args == args


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_half_a_call_is_not_told(reason: Reason) -> None:
    """A client of this API runs what it gets: it knows no call that is not whole."""
    events: list[Event] = [
        Started(),
        TextDelta("a"),
        ToolCallStart(0, "c", "f"),
        ToolCallDelta(0, '{"a":1}'),
        ToolCallEnd(0),
        ToolCallStart(1, "d", "g"),
        ToolCallDelta(1, '{"a":'),
        ToolCallEnd(1),
        UsageReport(Usage(1, 1)),
        ChoiceEnd(reason),
        Finished(),
    ]
    found = official(stream(events))
    assert [call.name for one in found for call in one.function_calls or []] == ["f"]
    assert found[-1].candidates is not None
    assert str(found[-1].candidates[0].finish_reason).endswith("MAX_TOKENS" if reason == "length" else "SAFETY")
    collector = Collector()
    for event in events:
        collector.add(event)
    whole = json.loads(QUESTION.encode_answer(collector.output(), common.call(), deployment()))["candidates"][0]
    assert [part.get("functionCall", {}).get("name") for part in whole["content"]["parts"]] == [None, "f"]


def test_the_signature_of_a_call_that_was_cut_is_not_lost() -> None:
    events: list[Event] = [
        Started("m"),
        ReasoningEnd(encrypted="tgr1_x"),
        ToolCallStart(0, "c", "f"),
        ToolCallDelta(0, '{"a":'),
        ToolCallEnd(0),
        UsageReport(Usage(1, 1)),
        ChoiceEnd("length"),
        Finished(),
    ]
    parts = [part for chunk in chunks(stream(events)) for part in chunk["candidates"][0]["content"]["parts"]]
    assert parts == [{"text": "", "thoughtSignature": base64.b64encode(b"tgr1_x").decode()}]


def test_an_odd_call_keeps_its_place() -> None:
    events = [
        Started(),
        ToolCallStart(0, "c", "f"),
        ToolCallDelta(0, "[1]"),
        ToolCallEnd(0),
        TextDelta("a"),
        ToolCallStart(1, "d", "g"),
        ToolCallDelta(1, "[2]"),
        ToolCallEnd(1),
        *END,
    ]
    parts = [part for one in chunks(stream(events)) for part in one["candidates"][0]["content"]["parts"]]
    assert [part.get("text", part.get("functionCall", {}).get("args")) for part in parts] == [
        {"_raw": "[1]"},
        "a",
        {"_raw": "[2]"},
        "",
    ]


def test_images_citations_logprobs_and_code() -> None:
    entry = {"token": "t", "logprob": -0.5, "bytes": [116], "top_logprobs": [{"token": "u", "logprob": -1.0}]}
    code = {
        "type": "code_interpreter_call",
        "code": "1",
        "outputs": [{"type": "logs", "logs": "2"}],
        "status": "completed",
    }
    events: list[Event] = [
        Started(),
        MediaDelta("image/png", "aGk="),
        TextDelta("tide", logprobs=[jsonio.raw(entry)]),
        Annotation(jsonio.raw(CITATION)),
        Opaque("code_interpreter_call", jsonio.raw(code)),
        Opaque("google:toolCall", jsonio.raw({"part": {"toolCall": {"id": "1"}}})),
        Opaque("web_search_call", jsonio.raw({})),
        *END,
    ]
    image, text, ran, called, last = (one["candidates"][0] for one in chunks(stream(events)))
    assert image["content"]["parts"] == [{"inlineData": {"mimeType": "image/png", "data": "aGk="}}]
    assert text["logprobsResult"] == {
        "chosenCandidates": [{"token": "t", "logProbability": -0.5}],
        "topCandidates": [{"candidates": [{"token": "u", "logProbability": -1.0}]}],
    }
    assert [list(part) for part in ran["content"]["parts"]] == [["executableCode"], ["codeExecutionResult"]]
    assert called["content"]["parts"] == [{"toolCall": {"id": "1"}}]
    assert last["groundingMetadata"] == {
        "groundingChunks": [{"web": {"uri": "https://a.example", "title": "A"}}],
        "groundingSupports": [{"segment": {"startIndex": 1, "endIndex": 2}, "groundingChunkIndices": [0]}],
    }


def test_places_in_a_streamed_text_are_not_told_when_they_are_not_known() -> None:
    last = chunks(stream([Started(), TextDelta("潮汐"), Annotation(jsonio.raw(CITATION)), *END]))[-1]
    assert last["candidates"][0]["groundingMetadata"]["groundingSupports"][0]["segment"] == {}


def test_the_array_form_is_one_json_value() -> None:
    made = encoder("")
    events: list[Event] = [Started(), TextDelta("潮"), TextDelta("汐"), *END]
    data = made.ping() + b"".join(made.encode([event]) + made.ping() for event in events)
    assert len(json.loads(data)) == 3
    assert json.loads(data)[0]["candidates"][0]["content"]["parts"] == [{"text": "潮"}]
    broken = encoder("json")
    data = broken.encode([Started(), TextDelta("潮")]) + broken.fail(UpstreamBroken("it broke"))
    assert json.loads(data)[1]["error"]["status"] == "INTERNAL"
    assert json.loads(encoder("json").fail(UpstreamBroken("it broke")))[0]["error"]["code"] == 502


def test_a_failure_is_an_error_in_googles_form_that_the_official_client_raises() -> None:
    made = encoder()
    data = made.encode([Started(), TextDelta("潮")]) + made.fail(UpstreamRateLimited("slow down", retry_after=2.5))
    with pytest.raises(sdk_errors.APIError) as caught:
        official(data)
    assert (caught.value.code, caught.value.status, caught.value.message) == (429, "RESOURCE_EXHAUSTED", "slow down")
    details = json.loads(error_body(UpstreamRateLimited("slow down", retry_after=2.5)))["error"]["details"]
    assert details[0] == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2.5s"}


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (InvalidRequest("m", param="contents"), 400, "INVALID_ARGUMENT"),
        (UpstreamTimeout("m", "idle"), 504, "DEADLINE_EXCEEDED"),
        (UpstreamBroken("m"), 502, "INTERNAL"),
    ],
)
def test_errors(error: Any, code: int, status: str) -> None:
    found = json.loads(error_body(error))["error"]
    assert (found["code"], found["status"], found["message"]) == (code, status, "m")


# -- whole bodies -----------------------------------------------------------------------------------------------------


def test_a_whole_answer() -> None:
    output = Output(
        choices=[
            Choice(
                items=[
                    Reasoning(summary=["想"], encrypted="s"),
                    FunctionCall(call_id="c", name="f", arguments='{"a":1}'),
                    Message(role="assistant", content=[TextPart(text="潮汐", annotations=[jsonio.raw(CITATION)])]),
                    Reasoning(encrypted="t"),
                ],
                reason="tool_calls",
            ),
            Choice(items=[], reason="length"),
        ],
        usage=Usage(1, 2),
        model="tide-1",
    )
    data = QUESTION.encode_answer(output, common.call(), deployment())
    first, second = json.loads(data)["candidates"]
    assert first["content"]["parts"] == [
        {"text": "想", "thought": True},
        {"functionCall": {"id": "c", "name": "f", "args": {"a": 1}}, "thoughtSignature": "cw=="},
        {"text": "潮汐"},
        {"text": "", "thoughtSignature": "dA=="},
    ]
    assert first["groundingMetadata"]["groundingSupports"][0]["segment"] == {"startIndex": 3, "endIndex": 6}
    assert second == {"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": "MAX_TOKENS", "index": 1}
    (answer,) = official(data, "application/json")
    assert answer.response_id == "5a" * 24
    assert answer.function_calls == [types.FunctionCall(id="c", name="f", args={"a": 1})]


# -- round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "events",
    [
        [
            Started("tide-1"),
            ReasoningDelta("想", kind="summary"),
            ReasoningEnd(),
            TextDelta("潮"),
            TextDelta("汐"),
            *END,
        ],
        [Started("tide-1"), TextDelta("a"), *CALLS[:1], *(CALLS[2], *CALLS[4:6]), UsageReport(Usage(1, 1)), *END[1:]],
        [Started("tide-1"), MediaDelta("image/png", "aGk="), TextDelta("a"), *END],
        [Started("tide-1"), TextDelta("a"), Annotation(jsonio.raw({**CITATION, "end_index": 1})), *END],
    ],
)
def test_a_stream_and_a_whole_body_come_back_as_they_were(events: list[Event]) -> None:
    def folded(found: Iterable[Event]) -> Output:
        collector = Collector()
        for event in found:
            collector.add(event)
        return collector.output()

    output = folded(events)
    for choice in output.choices:
        choice.reason = "tool_calls" if any(isinstance(item, FunctionCall) for item in choice.items) else "stop"
    assert folded(decode(common.bytewise(stream(events)))) == output
    body = QUESTION.encode_answer(output, common.call(), deployment())
    assert folded(GeminiUpstream().decode_answer(body, deployment(), asked())) == output


def test_a_seal_comes_back_from_the_official_client_as_it_was() -> None:
    encrypted = "tidegate.v1." + base64.urlsafe_b64encode(bytes(range(256))).decode() + "~?"
    bodies: list[bytes] = []
    data = stream([Started(), ReasoningEnd(encrypted=encrypted), TextDelta("潮"), *END])

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return httpx.Response(200, content=data, headers={"content-type": "text/event-stream"})

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        client = genai.Client(api_key="k", http_options=types.HttpOptions(httpx_client=http))
        chat = client.chats.create(model="tide")
        for text in ("a", "b"):
            for _ in chat.send_message_stream(text):
                pass
    items = GeminiDialect().parse(bodies[1], model="tide").canonical().items
    assert items[1] == Reasoning(encrypted=encrypted)
    assert items[2] == Message(role="assistant", content=[TextPart(text="潮")])


@pytest.mark.parametrize("entry", ["x", None, 1, [], {"token": 1}, {"top_logprobs": ["x"]}, {"logprob": {}}])
def test_log_probabilities_that_nobody_can_read_break_no_answer(entry: Any) -> None:
    good = {"token": "t", "logprob": -0.5}
    events: list[Event] = [Started("m"), TextDelta("tide", logprobs=[jsonio.raw(entry), jsonio.raw(good)])]
    (chunk,) = chunks(stream(events))
    assert chunk["candidates"][0]["logprobsResult"]["chosenCandidates"] == [{"token": "t", "logProbability": -0.5}]


def test_paragraphs_of_a_summary_stay_apart_for_those_who_join_the_pieces() -> None:
    thought: list[Event] = [
        ReasoningDelta("ab", "summary"),
        ReasoningDelta("cd", "summary", 1),
        ReasoningDelta("", "summary", 2),
        ReasoningDelta("ef", "summary", 2),
        ReasoningEnd(encrypted="tgr1_a"),
        ReasoningDelta("gh", "summary"),
        ReasoningEnd(),
    ]
    events = [Started("tide-1"), *thought, *END]
    collector = Collector()
    for event in events:
        collector.add(event)
    request = GeminiDialect().parse(ASKED % b"true", model="tide", stream=False)
    whole = json.loads(request.encode_answer(collector.output(), common.call(), deployment()))
    parts = whole["candidates"][0]["content"]["parts"]
    streamed = [part for one in chunks(stream(events)) for part in one["candidates"][0]["content"]["parts"]]
    told = ["".join(part["text"] for part in each if part.get("thought")) for each in (parts, streamed)]
    assert told == ["ab\n\ncd\n\nefgh"] * 2
    assert [part["text"] for part in parts if part.get("thought")] == ["ab\n\ncd\n\nef", "gh"]
