"""Compaction: what OpenAI has behind `/v1/responses` for prompts that get long."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from tidegate.sim.prompt import read_prompt
from tidegate.sim.stamp import Stamp
from tidegate.sim.thought import encrypt

__all__ = ["OPERATIONS"]

_COMPACTED_TOKENS: Final = 12


def _count(body: bytes, stamp: Stamp) -> dict[str, Any]:
    return {"object": "response.input_tokens", "input_tokens": read_prompt("responses", body).tokens}


def _compact(body: bytes, stamp: Stamp) -> dict[str, Any]:
    """The user's messages, and an item that says to the sim how much there was."""
    prompt = read_prompt("responses", body)
    given = prompt.body.get("input") or []
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    said = [item.get("content") for item in given if item.get("role") == "user"]
    output: list[dict[str, Any]] = [
        {
            "id": f"msg_{stamp.seed}{at}",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_text", "text": content}] if isinstance(content, str) else content,
        }
        for at, content in enumerate(said)
    ]
    own = f"cmp_{stamp.seed}"
    output.append({"id": own, "type": "compaction", "encrypted_content": encrypt(own, f"{len(given)} items")})
    return {
        "id": f"resp_{stamp.seed}",
        "object": "response.compaction",
        "created_at": stamp.created,
        "output": output,
        "usage": {
            "input_tokens": prompt.tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": _COMPACTED_TOKENS,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt.tokens + _COMPACTED_TOKENS,
        },
    }


OPERATIONS: Final[Mapping[str, Callable[[bytes, Stamp], dict[str, Any]]]] = MappingProxyType(
    {"/v1/responses/input_tokens": _count, "/v1/responses/compact": _compact}
)
"""What answers a request, by path. Raises Refusal."""
