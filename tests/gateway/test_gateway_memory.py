"""A long prompt is not kept while its answer streams, whatever way the request takes."""

import gc
import json
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

import msgspec
import pytest

from tests.conformance.providers import TOML
from tests.support.raw import Raw, post
from tests.support.running import Running, wait_for
from tidegate.gateway.gateway import Gateway
from tidegate.gateway.snapshot import Snapshot
from tidegate.upstream.provider import Upstream
from tidegate.upstream.wheel import Wheel

SLOW = "lorem:chunks=4000,gap=2"
ALIASES = f"""
[models.relay-first]
targets = [{{ model = "openai/lorem:status=500" }}]
fallback = ["lab/{SLOW}"]
[models.bridge-first]
targets = [{{ model = "lab/lorem:status=500" }}]
fallback = ["openai/{SLOW}"]
[models.relay]
targets = [{{ model = "openai/{SLOW}" }}]
fallback = ["lab/{SLOW}"]
"""
PROMPT = "潮汐 harbour " * 20_000
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "responses": ("/v1/responses", {"input": PROMPT}),
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": PROMPT}]}),
    "completions": ("/v1/completions", {"prompt": PROMPT}),
    "messages": ("/v1/messages", {"max_tokens": 9, "messages": [{"role": "user", "content": PROMPT}]}),
    "gemini": (
        "/v1beta/models/{model}:streamGenerateContent?alt=sse",
        {"contents": [{"role": "user", "parts": [{"text": PROMPT}]}]},
    ),
}
MODELS = [f"{name}/{SLOW}" for name in ("openai", "lab", "anthropic", "google")]
SHARED = (Gateway, Snapshot, Upstream, Wheel, ModuleType, FunctionType, type)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML + ALIASES) as running:
        yield running


def long_texts(exchange: Any) -> list[str]:
    """Where, from `exchange` on, something long is held that is its own."""
    found = []
    seen: set[int] = set()
    to_see = [(exchange, "exchange")]
    while to_see:
        one, way = to_see.pop()
        if id(one) in seen or isinstance(one, SHARED) or type(one).__module__.startswith(("uvloop", "asyncio")):
            continue
        seen.add(id(one))
        if isinstance(one, bytes | bytearray | str | msgspec.Raw):
            if len(one if not isinstance(one, msgspec.Raw) else bytes(one)) > len(PROMPT) // 2:
                found.append(way)
            continue
        names = [*getattr(one, "__slots__", ()), *getattr(one, "__struct_fields__", ())]
        to_see += [(getattr(one, name, None), f"{way}.{name}") for name in names]
        to_see += [(part, f"{way}<{type(part).__name__}>") for part in gc.get_referents(one)]
    return found


@pytest.mark.parametrize("model", [*MODELS, "relay-first", "bridge-first", "relay"])
@pytest.mark.parametrize("endpoint", BODIES)
def test_a_long_prompt_is_let_go_when_the_answer_streams(gateway: Running, endpoint: str, model: str) -> None:
    path, members = BODIES[endpoint]
    body = members if endpoint == "gemini" else {**members, "model": model, "stream": True}
    exchanges = gateway.server.config.app.gateway.exchanges  # type: ignore[union-attr]
    with Raw(gateway) as client:
        client.send(post(json.dumps(body).encode(), path=path.replace("{model}", model)))
        assert b" 200 OK" in client.until(b"\r\n\r\n")
        for _ in range(8):
            client.chunk()
        assert gateway.call(lambda: [way for one in exchanges for way in long_texts(one)]) == []
    assert wait_for(lambda: not exchanges)
