"""Estimates of a prompt's tokens: earlier thoughts count where the provider gets them again, and nowhere else."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.dialects import common
from tidegate.dialects.bridge import Bridge
from tidegate.dialects.chat.upstream import ChatUpstream
from tidegate.dialects.codec import BridgedRequest, UpstreamDialect
from tidegate.dialects.dialect import Answer, Destination, Quirks
from tidegate.dialects.envelope import KEY_BYTES, Envelopes, Sealer
from tidegate.dialects.gemini import GeminiDialect, GeminiUpstream
from tidegate.dialects.gemini.counting import parse_count as parse_gemini_count
from tidegate.dialects.messages import MessagesDialect, MessagesUpstream
from tidegate.dialects.messages.counting import parse_count
from tidegate.dialects.responses import ResponsesDialect
from tidegate.dialects.responses.input_tokens import parse_input_tokens
from tidegate.dialects.responses.upstream import ResponsesUpstream
from tidegate.wire.events import Seal

ENVELOPES = Envelopes(Sealer(bytes(range(KEY_BYTES))), "acme")
WORDS = "the tide is high 潮 " * 50
"""Some 300 tokens."""

UPSTREAMS: dict[str, tuple[UpstreamDialect, Destination]] = {
    "chat": (ChatUpstream(), Destination(provider="lab", model="m", endpoint="chat")),
    "chat that reads thoughts": (
        ChatUpstream(),
        Destination(provider="lab", model="m", endpoint="chat", quirks=Quirks(reasoning_back="reasoning_content")),
    ),
    "responses": (ResponsesUpstream(), Destination(provider="lab", model="m", encrypted_reasoning=True)),
    "responses that reads thoughts": (ResponsesUpstream(), Destination(provider="lab", model="m")),
    "messages": (MessagesUpstream(), Destination(provider="lab", model="m", endpoint="messages")),
    "gemini": (GeminiUpstream(), Destination(provider="lab", model="gemini-3-flash", endpoint="gemini")),
}
ITEM = json.dumps({"summary": [{"type": "summary_text", "text": WORDS}]}, ensure_ascii=False)
SEALS = {
    "shown": Seal(kind="shown", data=""),
    "signature": Seal(kind="signature", data="c2ln", text=WORDS),
    "encrypted": Seal(kind="encrypted", data="gAAA", text=ITEM),
    "reasoning item": Seal(kind="reasoning_item", data=ITEM),
    "reasoning details": Seal(
        kind="reasoning_details", data=json.dumps([{"type": "reasoning.text", "text": WORDS}], ensure_ascii=False)
    ),
    "reasoning content": Seal(kind="reasoning_content", data=WORDS),
    "signature of a call": Seal(kind="thought_signature", data="c2ln", call_id="c"),
    "signature of a thought": Seal(kind="thought_signature", data="c2ln", text=WORDS, anchor="thought"),
}
AT = {
    "signature": "messages",
    "encrypted": "responses",
    "reasoning item": "responses that reads thoughts",
    "reasoning details": "chat",
    "reasoning content": "chat that reads thoughts",
    "signature of a call": "gemini",
    "signature of a thought": "gemini",
}
"""Where such seals come from."""


def messages(carried: str) -> list[Any]:
    thought = {"type": "thinking", "thinking": WORDS, "signature": carried}
    said = {"role": "assistant", "content": [thought, {"type": "text", "text": "42"}]}
    return [{"role": "user", "content": "?"}, said, {"role": "user", "content": "why"}]


def items(carried: str) -> list[Any]:
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": WORDS}], "encrypted_content": carried}
    user = {"role": "user", "content": "?"}
    return [user, {key: value for key, value in thought.items() if value}, {"role": "assistant", "content": "42"}, user]


def contents(carried: str, *, beside: bool = False) -> list[Any]:
    """`beside`: the signature stands on the part behind the thought."""
    half = len(WORDS) // 2
    first, second = ({"text": text, "thought": True} for text in (WORDS[:half], WORDS[half:]))
    answer = {"text": "42"}
    if carried:
        (answer if beside else second)["thoughtSignature"] = base64.b64encode(carried.encode()).decode()
    said = [{"role": "model", "parts": [first]}, {"role": "model", "parts": [second, answer]}]
    return [{"role": "user", "parts": [{"text": "?"}]}, *said, {"role": "user", "parts": [{"text": "why"}]}]


def encoded(**members: Any) -> bytes:
    return json.dumps(members, ensure_ascii=False).encode()


def of_messages(carried: str) -> tuple[BridgedRequest, Callable[[Destination], Answer], int]:
    body = {"model": "m", "messages": messages(carried)}
    counted = parse_count(encoded(**body))
    counted.envelopes = ENVELOPES
    return MessagesDialect().parse(encoded(**body, max_tokens=9)), counted.estimate, len(encoded(**body))


def of_responses(carried: str) -> tuple[BridgedRequest, Callable[[Destination], Answer], int]:
    body = {"model": "m", "input": items(carried)}
    counted = parse_input_tokens(encoded(**body))
    counted.envelopes = ENVELOPES
    return ResponsesDialect().parse(encoded(**body)), counted.estimate, len(encoded(**body))


def of_gemini(carried: str, *, beside: bool = False) -> tuple[BridgedRequest, Callable[[Destination], Answer], int]:
    body = {"contents": contents(carried, beside=beside)}
    counted = parse_gemini_count(encoded(**body), model="m")
    counted.envelopes = ENVELOPES
    return GeminiDialect().parse(encoded(**body), model="m"), counted.estimate, len(encoded(**body))


def of_gemini_beside(carried: str) -> tuple[BridgedRequest, Callable[[Destination], Answer], int]:
    return of_gemini(carried, beside=True)


CLIENTS = {"messages": of_messages, "responses": of_responses, "gemini": of_gemini, "gemini, beside": of_gemini_beside}


CASES = [
    (client, upstream, sealed)
    for client in CLIENTS
    for upstream in UPSTREAMS
    for sealed in (*SEALS, "another's", "nothing")
    if AT.get(sealed, upstream) == upstream
]


@pytest.mark.parametrize(("client", "upstream", "sealed"), CASES)
def test_a_thought_counts_where_it_is_sent(client: str, upstream: str, sealed: str) -> None:
    dialect, to = UPSTREAMS[upstream]
    if sealed == "nothing":
        carried = ""
    elif sealed == "another's":
        carried = ENVELOPES.seal(SEALS["signature"], provider="another", model="m")
    else:
        carried = ENVELOPES.seal(SEALS[sealed], provider="lab", model=to.model)
    request, estimate, size = CLIENTS[client](carried)
    body, _ = Bridge(request, common.call(), envelopes=ENVELOPES).forward(dialect, to)
    sent = body.decode().count("the tide is high")
    assert sent in (0, 50)
    found = json.loads(estimate(to).body)
    counted = found["totalTokens" if "gemini" in client else "input_tokens"]
    words = len(WORDS.encode()) // 4
    rest = (size - len(WORDS.encode()) - len(carried)) // 4
    assert (counted > words) is bool(sent), (counted, words)
    assert counted < rest + (words if sent else 0) + 30, "no seal counts as text"
