"""Google's clients at providers of other dialects, through the bridge: every recorded stream, put together by Google's own client."""

import json
from typing import Any

import httpx
import pytest
from google import genai
from google.genai import errors, types

from tests.dialects import common
from tidegate.dialects.bridge import Bridge
from tidegate.dialects.chat.upstream import ChatUpstream
from tidegate.dialects.codec import Collector, UpstreamDialect
from tidegate.dialects.dialect import Destination
from tidegate.dialects.envelope import KEY_BYTES, Envelopes, Sealer
from tidegate.dialects.gemini import GeminiDialect
from tidegate.dialects.gemini.encoder import GeminiEncoder
from tidegate.dialects.gemini.framing import SseFraming
from tidegate.dialects.messages import MessagesUpstream
from tidegate.dialects.responses.upstream import ResponsesUpstream
from tidegate.wire.events import ChoiceEnd, Failed, Finished, ReasoningEnd, Seal, Started, TextDelta
from tidegate.wire.items import FunctionCall, Message, TextPart

UPSTREAMS: dict[str, UpstreamDialect] = {
    "chat": ChatUpstream(),
    "messages": MessagesUpstream(),
    "responses": ResponsesUpstream(),
}
SEALER = Sealer(bytes(KEY_BYTES))
BODY: dict[str, Any] = {
    "contents": [
        {"role": "user", "parts": [{"text": "潮?"}, {"inlineData": {"mimeType": "image/png", "data": "__77"}}]},
        {"role": "model", "parts": [{"functionCall": {"name": "tide", "args": {"harbour": "青岛"}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "tide", "response": {"output": "high"}}}]},
    ],
    "system_instruction": {"parts": {"text": "be brief"}},
    "tools": [{"functionDeclarations": [{"name": "tide", "parameters": {"type": "OBJECT", "properties": {}}}]}],
    "generationConfig": {"temperature": 0.5, "maxOutputTokens": 100, "stopSequences": ["END"]},
    "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
}


def target(dialect: Any) -> Destination:
    return Destination(provider="lab", model="tide-1", endpoint=dialect)


@pytest.mark.parametrize("dialect", UPSTREAMS)
def test_a_request_of_a_gemini_client_is_one_for_every_provider(dialect: str) -> None:
    destination = target(dialect)
    request = GeminiDialect().parse(json.dumps({**BODY, "generationConfig": {}}).encode(), model="tide")
    crossing = Bridge(request, common.call(), envelopes=Envelopes(SEALER, "t"))
    body, dropped = crossing.forward(UPSTREAMS[dialect], destination)
    text = body.decode()
    assert json.loads(text)["model"] == "tide-1"
    assert dropped == ("safetySettings",)
    assert "data:image/png;base64,//77" in text or '"data":"//77"' in text
    for said in ("潮?", "青岛", "be brief", "high", "call_gemini_0"):
        assert said in text


@pytest.mark.parametrize(
    ("dialect", "name"),
    [(dialect, name) for dialect in ("chat", "responses") for name in common.names(dialect)],
)
def test_every_recorded_stream_reaches_googles_client(dialect: str, name: str) -> None:
    destination = target(dialect)
    request = GeminiDialect().parse(json.dumps(BODY).encode(), model="tide", stream=True)
    canonical = request.canonical()
    decoder = UPSTREAMS[dialect].decoder(destination, canonical)
    encoder = request.encoder(common.call())
    encoder.attempt(destination)
    events = decoder.feed(common.vector(name)) + decoder.eof()
    failed = isinstance(events[-1], Failed)
    collector = Collector()
    for event in events:
        collector.add(event)
    data = encoder.encode([event for event in events if not isinstance(event, Failed)])
    if isinstance(events[-1], Failed):
        data += encoder.fail(events[-1].error)

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=data, headers={"content-type": "text/event-stream"})

    chunks: list[types.GenerateContentResponse] = []
    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        client = genai.Client(api_key="k", http_options=types.HttpOptions(httpx_client=http))
        try:
            for chunk in client.models.generate_content_stream(model="tide", contents="a"):
                chunks.append(chunk)  # noqa: PERF402 - what came before an error counts
        except errors.APIError:
            assert failed
        else:
            assert not failed
    choices = collector.output().choices
    parts = [
        part
        for chunk in chunks
        for candidate in chunk.candidates or []
        if not candidate.index
        for part in (candidate.content.parts if candidate.content is not None else None) or []
    ]
    items = choices[0].items if choices else []
    said = [part for item in items if isinstance(item, Message) for part in item.content]
    if all(isinstance(part, TextPart) for part in said):
        text = "".join(part.text for part in said if isinstance(part, TextPart))
        assert "".join(part.text or "" for part in parts if not part.thought) == text
    if not failed:
        calls = [item.call_id for item in items if isinstance(item, FunctionCall)]
        assert [part.function_call.id for part in parts if part.function_call is not None] == calls


def test_what_a_provider_sealed_comes_back_through_googles_client_and_reaches_only_that_provider() -> None:
    request = GeminiDialect().parse(json.dumps(BODY).encode(), model="tide", stream=True)
    crossing = Bridge(request, common.call(), envelopes=Envelopes(SEALER, "t"))
    sealed = crossing.sealed(Seal(kind="reasoning_content", data="raw thoughts"), target("chat"))
    encoder = GeminiEncoder(common.call(), SseFraming(), thoughts=True)
    encoder.attempt(target("chat"))
    data = encoder.encode([Started(), ReasoningEnd(encrypted=sealed), TextDelta("高"), ChoiceEnd("stop"), Finished()])
    part = common.events(data)[0]["candidates"][0]["content"]["parts"][0]
    body = {"contents": [{"role": "user", "parts": [{"text": "?"}]}, {"role": "model", "parts": [part]}]}
    items = GeminiDialect().parse(json.dumps(body).encode(), model="tide").canonical().items
    assert [getattr(item, "encrypted", None) for item in items] == [None, sealed, None]
    opened = SEALER.open(sealed, tenant="t")
    assert opened is not None
    assert opened.seal == Seal(kind="reasoning_content", data="raw thoughts")
