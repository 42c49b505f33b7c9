"""Figures that providers write in places of their own: each is charged once, and what is no count is not charged at all."""

from typing import Any

import httpx
import pytest

from tests.support.canned import Canned, json_answer, sse_answer
from tests.support.running import Running

TOML = """
[server]
port = 0
[prices."canned/*"]
input = 1.0
cached = 0.5
input_audio = 10.0
input_image = 20.0
output = 2.0
output_audio = 30.0
"""
KEY = 'credentials = ["k-0123456789abcdef0123456789"]'
GEMINI = "/v1beta/models/canned/m:generateContent", {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}


def line(answer: bytes, path: str, body: Any, kind: str, more: str = KEY) -> dict[str, Any]:
    """The usage line of one request that is answered so."""
    with Canned(answer) as provider, Running(TOML + provider.toml(kind=kind, more=more)) as gateway:
        reply = httpx.post(gateway.origin + path, json=body, timeout=20, trust_env=False)
        assert reply.status_code == 200, reply.text
        return gateway.usage(reply.headers["x-request-id"])


def google(**usage: Any) -> bytes:
    said = {"content": {"role": "model", "parts": [{"text": "Hello"}]}, "finishReason": "STOP", "index": 0}
    return json_answer({"candidates": [said], "modelVersion": "m", "usageMetadata": usage})


def test_audio_that_google_has_read_from_its_cache_is_not_charged_as_audio_too() -> None:
    """`promptTokensDetails` counts what `cacheTokensDetails` counts once more."""
    found = line(
        google(
            promptTokenCount=1000,
            cachedContentTokenCount=850,
            candidatesTokenCount=10,
            promptTokensDetails=[
                {"modality": "TEXT", "tokenCount": 100},
                {"modality": "AUDIO", "tokenCount": 700},
                {"modality": "IMAGE", "tokenCount": 200},
            ],
            cacheTokensDetails=[{"modality": "AUDIO", "tokenCount": 650}, {"modality": "IMAGE", "tokenCount": 200}],
        ),
        *GEMINI,
        "gemini",
    )
    assert (found["input_tokens"], found["cached_tokens"], found["input_audio_tokens"]) == (1000, 850, 50)
    assert found.get("input_image_tokens", 0) == 0
    assert found["cost"] == (850 * 500 + 50 * 10_000 + 100 * 1000 + 10 * 2000) / 1e9


@pytest.mark.security("SEC-API10-USAGE")
@pytest.mark.parametrize("name", ["thoughtsTokenCount", "toolUsePromptTokenCount"])
def test_a_figure_that_is_added_to_others_is_believed_no_more_than_they_are(name: str) -> None:
    found = line(google(promptTokenCount=5, candidatesTokenCount=2, **{name: 9e15}), *GEMINI, "gemini")
    assert found["estimated"] is True
    assert found["input_tokens"] + found["output_tokens"] < 1000


RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "m",
    "output": [
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
        }
    ],
    "usage": {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 10, "audio_tokens": 50, "image_tokens": 20},
        "output_tokens": 10,
        "output_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 5},
        "total_tokens": 110,
    },
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_audio_and_images_cost_the_same_in_a_response_that_streams_and_in_one_that_does_not(stream: bool) -> None:
    begun = {**RESPONSE, "status": "in_progress", "output": [], "usage": None}
    frames: list[dict[str, Any]] = [
        {"type": "response.created", "sequence_number": 0, "response": begun},
        {"type": "response.completed", "sequence_number": 1, "response": RESPONSE},
    ]
    answer = sse_answer(*frames, named=True) if stream else json_answer(RESPONSE)
    body = {"model": "canned/m", "input": "Hi", "stream": stream}
    found = line(answer, "/v1/responses", body, "openai-compatible", 'speaks = ["responses"]')
    assert (found["input_audio_tokens"], found["input_image_tokens"], found["output_audio_tokens"]) == (50, 20, 5)
    assert found["cost"] == (10 * 500 + 50 * 10_000 + 20 * 20_000 + 20 * 1000 + 5 * 30_000 + 5 * 2000) / 1e9


def test_a_compaction_without_figures_costs_an_estimate_that_says_so() -> None:
    answer = {
        "id": "resp_1",
        "object": "response.compaction",
        "created_at": 1,
        "output": [{"type": "compaction", "id": "cmp_1", "encrypted_content": "A" * 400}],
    }
    found = line(json_answer(answer), "/v1/responses/compact", {"model": "canned/m", "input": "tide " * 400}, "openai")
    assert found["estimated"] is True
    assert found["input_tokens"] >= 500
    assert found["output_tokens"] >= 100
    assert found["cost"] > 0
