"""Requests that go on in the client's own dialect, without reasoning that only the gateway can read (protocol §5.4)."""

import base64
import json
from typing import Any

import pytest

from tests.dialects.common import destination
from tidegate.dialects.chat import ChatDialect
from tidegate.dialects.dialect import Quirks
from tidegate.dialects.gemini import GeminiDialect
from tidegate.dialects.responses import ResponsesDialect

SEALED = "tgr1_" + "A" * 40
IN_BASE64 = base64.b64encode(SEALED.encode()).decode()
SKIP = "skip_thought_signature_validator"


def chat(*messages: Any, **to: Any) -> tuple[list[Any], tuple[str, ...]]:
    request = ChatDialect().parse(json.dumps({"messages": messages}).encode())
    return json.loads(request.forward(destination(endpoint="chat", **to)))["messages"], request.dropped


def responses(*items: Any, **to: Any) -> tuple[list[Any], tuple[str, ...]]:
    request = ResponsesDialect().parse(json.dumps({"input": items}).encode())
    return json.loads(request.forward(destination(**to)))["input"], request.dropped


def gemini(*contents: Any, model: str = "gemini-3-pro") -> tuple[Any, tuple[str, ...]]:
    request = GeminiDialect().parse(json.dumps({"contents": contents}).encode(), model="m")
    body = request.forward(destination(endpoint="gemini", model=model))
    return json.loads(body)["contents"], request.dropped


def test_chat_keeps_what_is_the_providers_own() -> None:
    own = {"type": "reasoning.text", "text": "t", "signature": "s"}
    said = {"role": "assistant", "content": "a", "reasoning_content": "t"}
    sealed = {"type": "reasoning.encrypted", "data": SEALED}
    found, dropped = chat(
        {"role": "user", "content": SEALED},
        {**said, "reasoning_details": [own, sealed]},
        {**said, "reasoning_details": [sealed]},
        {**said, "reasoning_details": "odd"},
    )
    assert found == [
        {"role": "user", "content": SEALED},
        {**said, "reasoning_details": [own]},
        said,
        {**said, "reasoning_details": "odd"},
    ]
    assert dropped == ("reasoning_details",)


def test_chat_spares_a_provider_the_reasoning_that_it_refuses() -> None:
    said = {"role": "assistant", "content": "a"}
    sealed = {"type": "reasoning.encrypted", "data": SEALED}
    strict = Quirks(refuses_reasoning=True)
    asked = {"role": "user", "content": '"reasoning_content"'}
    told = {**said, "reasoning_content": "t"}
    assert chat(asked, told, {**told, "reasoning_details": [sealed]}, quirks=strict) == (
        [asked, said, said],
        ("reasoning_content", "reasoning_details"),
    )
    assert chat(asked, {**said, "reasoning_content": None}, quirks=strict) == ([asked, said], ())
    assert chat(asked, told) == ([asked, told], ())


@pytest.mark.parametrize("sealed", [{}, {"encrypted_content": None}, {"encrypted_content": ""}])
def test_a_provider_of_responses_that_seals_gets_no_plain_reasoning(sealed: dict[str, Any]) -> None:
    """OpenAI answers 400 to reasoning in words, and has no use for an item without its seal and its id."""
    words = [{"type": "reasoning_text", "text": "t"}]
    plain = {"type": "reasoning", "id": "rs_1", "summary": [], "content": words, **sealed}
    said = {"role": "user", "content": "?"}
    assert responses(said, plain, encrypted_reasoning=True) == ([said], ("reasoning_items",))
    without_id = {name: value for name, value in plain.items() if name != "id"}
    assert responses(said, plain) == ([said, without_id], ())
    assert responses(said, plain, encrypted_reasoning=True, gateway_state=False) == ([said, plain], ())


def test_a_provider_of_responses_that_seals_gets_no_item_it_would_look_for() -> None:
    own = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAAA"}
    foreign = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "t"}], "encrypted_content": SEALED}
    said = {"role": "user", "content": SEALED}
    assert responses(said, own, foreign, encrypted_reasoning=True) == ([said, own], ("reasoning.encrypted_content",))
    plain = {"type": "reasoning", "summary": foreign["summary"]}
    assert responses(said, foreign, {**own, "encrypted_content": SEALED}) == (
        [said, plain],
        ("reasoning.encrypted_content",),
    )


@pytest.mark.parametrize("member", ["thoughtSignature", "thought_signature"])
@pytest.mark.parametrize(
    "sealed", [IN_BASE64, IN_BASE64.rstrip("="), base64.urlsafe_b64encode(SEALED.encode()).decode()]
)
def test_gemini_keeps_the_parts_and_loses_the_signatures(member: str, sealed: str) -> None:
    call = {"functionCall": {"name": "tide", "args": {}}}
    said = {"role": "user", "parts": [{"text": "?"}]}
    parts = [{"text": "a", member: sealed}, {**call, member: sealed}, call, {"text": "", member: sealed}]
    found, dropped = gemini(said, {"role": "model", "parts": parts})
    assert found == [said, {"role": "model", "parts": [{"text": "a"}, {**call, "thoughtSignature": SKIP}, call]}]
    assert dropped == ("thoughtSignature",)
    older, dropped = gemini(said, {"role": "model", "parts": parts}, model="gemini-2.5-pro")
    assert older[1]["parts"] == [{"text": "a"}, call, call]
    assert gemini(said, {"role": "model", "parts": [{"text": "", member: sealed}]})[0][1]["parts"] == [{"text": ""}]


def test_gemini_gets_its_own_history_as_it_came() -> None:
    own = {"functionCall": {"name": "tide", "args": {}}, "thoughtSignature": base64.b64encode(b"\0own").decode()}
    chunk = {"functionCall": {"name": "wind", "args": {}}}
    contents = [
        {"role": "user", "parts": [{"text": IN_BASE64}]},
        {"role": "model", "parts": [own]},
        {"role": "model", "parts": [chunk]},
    ]
    assert gemini(*contents) == (contents, ())


def test_items_without_a_type_stand_beside_another_apis() -> None:
    said = {"type": None, "role": "user", "content": "x"}
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "google_parts": []}
    assert responses(said, search) == ([said], ("input[].web_search_call",))
