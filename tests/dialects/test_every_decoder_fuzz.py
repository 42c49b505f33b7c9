"""Every decoder of every dialect, given anything: a stream ends, a body is a WireError or the provider's own error, a request
an InvalidRequest. Nothing else ever escapes.

What each of them promises beyond that, its own tests tell.
"""

import base64
import contextlib
import json
import random
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects import common
from tests.dialects.chat.test_chat_fuzz import RICH, misshapen
from tests.dialects.chat.test_chat_round_trip import REQUESTS as CHAT
from tests.dialects.gemini import samples
from tests.dialects.gemini.test_gemini_bridge import BODY as GEMINI
from tests.dialects.gemini.test_gemini_decoder import STREAMS as OF_GEMINI
from tests.dialects.messages import streams
from tests.dialects.responses.test_responses_canonical import WHOLE as OF_A_RESPONSE
from tests.dialects.speech import samples as speech
from tests.dialects.test_dialects_answers import WHOLE
from tests.dialects.test_dialects_fuzz import mutated
from tests.dialects.transcription import playing as transcription
from tidegate.dialects.codec import BridgedRequest, Losses
from tidegate.dialects.dialect import (
    Destination,
    Endpoint,
    Quirks,
    Standalone,
    Stream,
    StreamingRequest,
    WholeRequest,
)
from tidegate.dialects.gemini import GeminiAddress, GeminiCounting, GeminiEmbeddings
from tidegate.dialects.responses.conversations import parse_conversation, parse_items, parse_metadata
from tidegate.dialects.responses.websocket import read_create, read_end, read_message
from tidegate.gateway.dialects import CLIENT_DIALECTS, UPSTREAM_DIALECTS
from tidegate.wire.errors import InvalidRequest, NotFound, TidegateError, WireError
from tidegate.wire.events import Failed, Finished, Laws, Paused
from tidegate.wire.items import CanonicalRequest, HostedTool, Tool
from tidegate.wire.jsonio import raw

seeds = st.integers(0, 2**32)
few = settings(max_examples=30, deadline=None)

TARGETS: dict[str, Destination] = {
    "responses": Destination(provider="lab", model="m", encrypted_reasoning=True),
    "chat": Destination(provider="lab", model="m", endpoint="chat", quirks=Quirks(reasoning_back="reasoning_content")),
    "messages": Destination(provider="lab", model="m", endpoint="messages"),
    "gemini": Destination(provider="lab", model="gemini-3-flash", endpoint="gemini"),
}
BY_PATH = {dialect.path: dialect for dialect in CLIENT_DIALECTS}


def encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


# -- requests ---------------------------------------------------------------------------------------------------------

TURNS: list[Any] = [
    {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://a"}}]},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "tgr1_x"},
            {"type": "text", "text": "潮", "citations": []},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1, {}]}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "潮"}], "is_error": True},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "eA=="}},
        ],
    },
]
MESSAGES = {
    "model": "m",
    "max_tokens": 9,
    "system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
    "tools": [{"name": "f", "input_schema": {"type": "object"}}, {"type": "web_search_20250305", "name": "web_search"}],
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "messages": TURNS,
}
THOUGHT = {"text": "hm", "thought": True, "thoughtSignature": base64.b64encode(b"tgr1_x").decode()}
CONTENTS = [*GEMINI["contents"], {"role": "model", "parts": [THOUGHT, {"text": "汐"}, {"toolCall": {"id": "1"}}]}]
EMBED = {"content": {"parts": [{"text": "潮"}]}, "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 8}
ANSWERED = {"type": "custom_tool_call_output", "call_id": "c", "output": "x"}
RESPONSES: dict[str, Any] = {**OF_A_RESPONSE, "input": [*OF_A_RESPONSE["input"], ANSWERED]}
MEMBERS = ("model", "input", "instructions", "tools", "text", "reasoning")
PROMPT = {name: RESPONSES[name] for name in MEMBERS if name in RESPONSES}

Parse = Callable[[bytes], Any]
REQUESTS: dict[str, tuple[Parse, Any]] = {
    "/v1/responses": (BY_PATH["/v1/responses"].parse, RESPONSES),
    "/v1/responses/input_tokens": (BY_PATH["/v1/responses/input_tokens"].parse, PROMPT),
    "/v1/responses/compact": (
        BY_PATH["/v1/responses/compact"].parse,
        {**PROMPT, "model": "m", "text": None, "tools": None},
    ),
    "/v1/chat/completions": (
        BY_PATH["/v1/chat/completions"].parse,
        {
            **CHAT["settings"],
            **CHAT["tools"],
            "messages": [*CHAT["conversation"]["messages"], *CHAT["media"]["messages"]],
            "model": "m",
        },
    ),
    "/v1/completions": (
        BY_PATH["/v1/completions"].parse,
        {"model": "m", "prompt": ["a"], "suffix": None, "logprobs": 1, "stop": ["x"], "logit_bias": {"5": 1}},
    ),
    "/v1/messages": (BY_PATH["/v1/messages"].parse, MESSAGES),
    "/v1/messages/count_tokens": (
        BY_PATH["/v1/messages/count_tokens"].parse,
        {name: value for name, value in MESSAGES.items() if name != "max_tokens"},
    ),
    "/v1/embeddings": (BY_PATH["/v1/embeddings"].parse, {"model": "m", "input": ["a", "潮"], "dimensions": 8}),
    "/v1/audio/speech": (BY_PATH["/v1/audio/speech"].parse, json.loads(speech.body(speed=1.5, stream_format="sse"))),
    ":generateContent": (
        GeminiAddress("/", model="m", stream=False, alt="sse").parse,
        {**GEMINI, "contents": CONTENTS, "tools": [*GEMINI["tools"], {"googleSearch": {}}]},
    ),
    ":countTokens": (
        GeminiCounting("/", model="m").parse,
        {"generateContentRequest": {"model": "models/m", "contents": CONTENTS}},
    ),
    ":embedContent": (GeminiEmbeddings("/", model="m", many=False).parse, EMBED),
    ":batchEmbedContents": (GeminiEmbeddings("/", model="m", many=True).parse, {"requests": [EMBED, EMBED]}),
    "a message of a WebSocket": (
        lambda data: read_create(read_message(data)),
        {"type": "response.create", "stream_id": "a", "generate": True, **PROMPT},
    ),
    "a conversation": (
        lambda data: parse_conversation(data, lambda kind: f"{kind}_1"),
        {"items": RESPONSES["input"], "metadata": {"a": "b"}},
    ),
    "items of a conversation": (
        lambda data: parse_items(data, lambda kind: f"{kind}_1"),
        {"items": RESPONSES["input"]},
    ),
    "metadata of a conversation": (parse_metadata, {"metadata": {"a": "b"}}),
}


def test_every_endpoint_of_bodies_in_json_is_tried() -> None:
    assert {dialect.path for dialect in CLIENT_DIALECTS if not dialect.takes_form} <= REQUESTS.keys()
    assert {path for path, dialect in BY_PATH.items() if not dialect.takes_form} <= BODIES.keys() | {"/v1/audio/speech"}
    assert UPSTREAM_DIALECTS.keys() == TARGETS.keys() == ANSWERS.keys()
    assert UPSTREAM_DIALECTS.keys() <= DECODED.keys()


def use(request: Any) -> None:
    """All that the gateway does with a request before it asks a provider."""
    for name, to in TARGETS.items():
        if hasattr(request, "forward"):
            request.forward(to)
        if hasattr(request, "canonical"):
            canonical = cast("BridgedRequest", request).canonical()
            UPSTREAM_DIALECTS[cast("Endpoint", name)].encode_request(canonical, to, Losses(canonical, to, allowed=True))
        if hasattr(request, "estimate"):
            cast("Standalone", request).estimate(to)


@pytest.mark.parametrize("name", REQUESTS)
def test_an_unspoiled_request_is_taken(name: str) -> None:
    parse, body = REQUESTS[name]
    request = parse(encoded(body))
    if hasattr(request, "canonical"):
        assert request.canonical().items


@pytest.mark.parametrize("name", REQUESTS)
@few
@given(seed=seeds)
def test_a_spoiled_request_is_carried_or_refused_in_words(name: str, seed: int) -> None:
    parse, body = REQUESTS[name]
    for data in (encoded(misshapen(body, seed)), mutated(encoded(body), seed)):
        with contextlib.suppress(InvalidRequest, NotFound):
            use(parse(data))


# -- whole answers ----------------------------------------------------------------------------------------------------

ASKED = CanonicalRequest(
    model="m", items=[], tools=[Tool(name="apply_patch", custom=True), HostedTool(type="web_search", value=raw({}))]
)
MESSAGE = streams.message(streams.VECTORS["search"])
CANDIDATE = samples.candidate(
    THOUGHT,
    {"functionCall": {"name": "apply_patch", "args": {"input": "x"}}, "thoughtSignature": "QQ=="},
    {"text": "潮汐"},
    {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
    {"executableCode": {"code": "1"}},
    {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
    finishReason="STOP",
    groundingMetadata={
        "groundingChunks": [{"web": {"uri": "https://a", "title": "a"}}],
        "groundingSupports": [{"segment": {"startIndex": 0, "endIndex": 3}, "groundingChunkIndices": [0]}],
        "webSearchQueries": ["潮"],
    },
    logprobsResult={"chosenCandidates": [{"token": "潮", "logProbability": -1}], "topCandidates": [{"candidates": []}]},
)
ITEMS = [
    {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "想"}], "encrypted_content": "g"},
    {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "潮"}},
    *WHOLE["responses"]["output"],
    {"id": "fc_1", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"},
]
ANSWERS: dict[str, Any] = {
    "responses": {**WHOLE["responses"], "output": ITEMS},
    "chat": {
        **WHOLE["chat"],
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls",
                "logprobs": {"content": [{"token": "a", "logprob": -1, "bytes": [97], "top_logprobs": []}]},
                "message": {
                    "role": "assistant",
                    "content": "<think>潮</think>汐",
                    "reasoning_details": [{"type": "reasoning.text", "text": "r", "index": 0}],
                    "tool_calls": [
                        {"id": "a", "type": "function", "function": {"name": "apply_patch", "arguments": "{}"}}
                    ],
                    "annotations": [{"type": "url_citation", "url_citation": {"url": "u", "title": "t"}}],
                },
            }
        ],
    },
    "messages": MESSAGE,
    "gemini": samples.chunk(CANDIDATE, usageMetadata=samples.USAGE),
}


@pytest.mark.fault("FAULT-BROKEN-JSON")
@pytest.mark.parametrize("name", ANSWERS)
@few
@given(seed=seeds)
def test_a_spoiled_answer_raises_only_what_it_may(name: str, seed: int) -> None:
    dialect = UPSTREAM_DIALECTS[cast("Endpoint", name)]
    for data in (encoded(misshapen(ANSWERS[name], seed)), mutated(encoded(ANSWERS[name]), seed)):
        try:
            events = dialect.decode_answer(data, TARGETS[name], ASKED)
        except (WireError, TidegateError):
            continue
        laws = Laws()
        for event in events:
            laws.check(event)
        assert isinstance(events[-1], Finished | Paused)


VECTORS: dict[str, Any] = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    "usage": {"prompt_tokens": 5},
}
BODIES: dict[str, Any] = {
    "/v1/responses": ANSWERS["responses"],
    "/v1/responses/input_tokens": {"object": "response.input_tokens", "input_tokens": 5},
    "/v1/responses/compact": {
        "id": "resp_1",
        "object": "response.compaction",
        "output": [{"type": "compaction", "id": "cmp_1", "encrypted_content": "g"}],
        "usage": WHOLE["responses"]["usage"],
    },
    "/v1/chat/completions": ANSWERS["chat"],
    "/v1/completions": WHOLE["completions"],
    "/v1/messages": MESSAGE,
    "/v1/messages/count_tokens": {"input_tokens": 5},
    "/v1/embeddings": VECTORS,
    ":generateContent": ANSWERS["gemini"],
    ":countTokens": {"totalTokens": 5},
    ":embedContent": VECTORS,
    ":batchEmbedContents": {
        **VECTORS,
        "data": [{"object": "embedding", "index": at, "embedding": [0.5]} for at in range(2)],
    },
}
"""What providers of the client's own dialect answer."""


@pytest.mark.fault("FAULT-BROKEN-JSON")
@pytest.mark.parametrize("name", BODIES)
@few
@given(seed=seeds)
def test_a_spoiled_body_for_a_client_of_the_same_dialect_raises_only_what_it_may(name: str, seed: int) -> None:
    parse, body = REQUESTS[name]
    to = Destination(provider="lab", model="m", endpoint="embeddings") if "mbed" in name else common.destination()
    for data in (encoded(misshapen(BODIES[name], seed)), mutated(encoded(BODIES[name]), seed)):
        request = cast("WholeRequest", parse(encoded(body)))
        try:
            answer = request.complete(data, common.call(), to)
        except (WireError, TidegateError):
            continue
        json.loads(answer.body.decode("utf-8", "replace"))  # members that nobody reads go on as they are


# -- streams ----------------------------------------------------------------------------------------------------------

DECODED: dict[str, list[bytes]] = {
    "responses": [common.vector(name) for name in common.names("responses")],
    "chat": [RICH, *(common.vector(name) for name in common.names("chat"))],
    "messages": list({**streams.VECTORS, **streams.BROKEN}.values()),
    "gemini": [*OF_GEMINI.values(), samples.frames(ANSWERS["gemini"])],
}


@pytest.mark.fault("FAULT-BROKEN-JSON")
@pytest.mark.parametrize("name", DECODED)
@few
@given(seed=seeds)
def test_a_spoiled_stream_ends_and_raises_nothing(name: str, seed: int) -> None:
    chance = random.Random(seed)
    data = mutated(chance.choice(DECODED[name]), seed)
    decoder = UPSTREAM_DIALECTS[cast("Endpoint", name)].decoder(TARGETS[name], ASKED)
    laws = Laws()
    for read in common.split(data, [chance.randrange(len(data) + 1) for _ in range(3)]):
        for event in decoder.feed(read):
            laws.check(event)
    for event in decoder.eof():
        laws.check(event)
    assert laws.ended
    assert decoder.feed(b"data: {}\n\n") == decoder.eof() == []


def opened(parse: Parse, body: Any, to: Destination) -> Stream:
    stream = cast("StreamingRequest", parse(encoded(body))).open(common.call())
    stream.attempt(to)
    return stream


def spoken(kind: str) -> Stream:
    to = speech.GEMINI if kind == "text/event-stream; gemini" else speech.deployment(events="event" in kind)
    return speech.opened(to, kind.partition(";")[0], stream_format="sse")


GEMINI_STREAM = GeminiAddress("/", model="m", stream=True, alt="sse").parse
RELAYED: dict[str, tuple[Callable[[], Stream], list[bytes]]] = {
    **{
        name: (
            lambda name=name: common.open_stream(name),  # type: ignore[misc]
            [common.vector(one) for one in common.names(name)],
        )
        for name in ("responses", "chat", "completions")
    },
    "messages": (
        lambda: opened(REQUESTS["/v1/messages"][0], {**MESSAGES, "stream": True}, TARGETS["messages"]),
        DECODED["messages"],
    ),
    "gemini": (lambda: opened(GEMINI_STREAM, GEMINI, TARGETS["gemini"]), DECODED["gemini"]),
    "speech": (
        lambda: spoken("text/event-stream"),
        [speech.delta(b"abcd") + speech.frame(speech.FINISHED), speech.bare(b"ab")],
    ),
    "speech of Gemini": (
        lambda: spoken("text/event-stream; gemini"),
        [speech.chunk(b"abcd") + speech.chunk(finishReason="STOP", usageMetadata=samples.USAGE)],
    ),
    "audio": (lambda: spoken("audio/wav"), [speech.AUDIO]),
    "transcription": (
        transcription.open_stream,
        [
            transcription.delta("潮") + transcription.done("潮") + transcription.DONE,
            transcription.chunk("潮", "stop") + transcription.chunk(usage={"prompt_tokens": 1}) + transcription.DONE,
        ],
    ),
}


@pytest.mark.fault("FAULT-BROKEN-JSON")
@pytest.mark.parametrize("name", RELAYED)
@few
@given(seed=seeds)
def test_a_spoiled_stream_of_the_same_dialect_ends_and_raises_nothing(name: str, seed: int) -> None:
    opens, vectors = RELAYED[name]
    chance = random.Random(seed)
    data = mutated(chance.choice(vectors), seed)
    stream = opens()
    out = common.play(stream, common.split(data, [chance.randrange(len(data) + 1) for _ in range(3)]))
    outcome = common.outcome(stream)
    assert outcome is not None
    assert isinstance(out, bytes)
    assert outcome.status in ("completed", "incomplete", "failed")
    stream.usage()


@few
@given(seed=seeds)
def test_a_spoiled_end_of_a_stream_tells_a_websocket_something(seed: int) -> None:
    ended = {"type": "response.completed", "response": ANSWERS["responses"], "sequence_number": 9}
    for data in (encoded(misshapen(ended, seed)), mutated(encoded(ended), seed)):
        read_end(data)


def test_a_failure_is_the_last_event_of_a_stream_that_is_none() -> None:
    for name, dialect in UPSTREAM_DIALECTS.items():
        decoder = dialect.decoder(TARGETS[name], ASKED)
        assert isinstance([*decoder.feed(b"<html>\n\n"), *decoder.eof()][-1], Failed), name
