"""Estimates of short prompts: what the model reads counts, and not the JSON around it."""

import json
from typing import Any

import pytest

from tests.dialects.common import call
from tidegate.dialects.dialect import estimated_usage
from tidegate.dialects.prompt_size import prompt_tokens

TEXT = "Sixteen letters."
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
TOOL_TOKENS = -(-len(json.dumps([TOOL], separators=(",", ":"))) // 4)
IMAGE = "data:image/png;base64,iVBORw0KGgo="


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"messages": [{"role": "user", "content": TEXT}]}, 4 + 4),
        ({"messages": [{"role": "user", "content": TEXT, "name": None}], "n": 128, "user": "x" * 400}, 4 + 4),
        ({"messages": [{"role": "system", "content": TEXT}, {"role": "user", "content": TEXT}]}, 2 * (4 + 4)),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": TEXT}]}]}, 4 + 4),
        ({"messages": [{"role": "user", "content": "€" * 16}]}, 12 + 4),
        ({"input": TEXT}, 4 + 4),
        ({"input": TEXT, "instructions": TEXT}, 2 * (4 + 4)),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": TEXT}]}]}, 4 + 4),
        ({"input": [{"type": "function_call_output", "call_id": "c" * 99, "output": TEXT}]}, 4 + 4),
        ({"max_tokens": 9, "system": TEXT, "messages": [{"role": "user", "content": TEXT}]}, 2 * (4 + 4)),
        ({"system": None, "messages": [{"role": "user", "content": TEXT}]}, 4 + 4),
        ({"contents": [{"role": "user", "parts": [{"text": TEXT}]}]}, 4 + 4),
        ({"contents": {"parts": {"text": TEXT}}, "systemInstruction": {"parts": [{"text": TEXT}]}}, 2 * (4 + 4)),
        ({"prompt": TEXT, "suffix": TEXT}, 4 + 4),
        ({"prompt": [1, 2, 3, 4, 5]}, 5),
        ({"prompt": [TEXT, TEXT]}, 4 + 4),
        ({"input": TEXT, "tools": [TOOL]}, 4 + TOOL_TOKENS + 4),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "i", "name": "f", "input": {"city": "Rome"}}]}]},
            4 + 4 + 1,
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.test/" + "y" * 400}}]}]},
            2500 + 4,
        ),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": IMAGE}]}]}, 2500 + 4),
        ({"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}]}]}, 2500 + 4),
    ],
)  # fmt: skip
def test_four_bytes_of_what_the_model_reads_are_a_token(body: dict[str, Any], tokens: int) -> None:
    given = json.dumps({"model": "m", "stream": True, **body}).encode()
    assert abs(prompt_tokens(given) - tokens) <= 1
    short = call(request_bytes=len(given), short_body=given)
    assert estimated_usage(short, 0).input_tokens == prompt_tokens(given)


def test_what_a_request_builds_on_counts_beside_it() -> None:
    given = json.dumps({"input": TEXT}).encode()
    assert call(request_bytes=len(given) + 4000, short_body=given).prompt_tokens() == 4 + 4 + 1000


def test_a_long_body_counts_by_its_size_alone() -> None:
    assert call(request_bytes=40_000).prompt_tokens() == 10_000


def test_a_body_that_nests_more_deeply_than_the_stack_counts_by_its_size() -> None:
    given = b'{"input":"hi","metadata":' + b"[" * 1900 + b"]" * 1900 + b"}"
    assert prompt_tokens(given) in (5, len(given) // 4 + 1)
