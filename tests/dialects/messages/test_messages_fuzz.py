"""Any bytes: nothing is raised by a stream, and only errors of the house by the rest."""

import contextlib
import json

import pytest

from tests.dialects.common import bytewise, call, outcome, play
from tests.dialects.messages.streams import BROKEN, REQUEST, VECTORS, WITH_PATCH, decoded, destination, message
from tests.dialects.messages.test_messages_request import body
from tests.dialects.test_dialects_fuzz import mutated
from tidegate.dialects.codec import Losses
from tidegate.dialects.messages import MessagesDialect, MessagesUpstream
from tidegate.dialects.messages.decoder import decode_message
from tidegate.dialects.messages.relay import MessagesStream, complete
from tidegate.wire.errors import TidegateError, WireError

ALL = {**VECTORS, **BROKEN}
SEEDS = range(60)


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_spoiled_stream_keeps_the_laws_and_raises_nothing(name: str) -> None:
    for seed in SEEDS:
        spoiled = mutated(ALL[name], seed)
        at_once = decoded([spoiled], WITH_PATCH)
        if seed < 6:
            assert type(decoded(bytewise(spoiled), WITH_PATCH)[-1]) is type(at_once[-1])
        stream = MessagesStream(call())
        stream.attempt(destination())
        play(stream, [spoiled])
        assert outcome(stream) is not None
        assert stream.usage().output_tokens >= 0


@pytest.mark.parametrize("name", sorted(set(VECTORS) - {"unknown"}))
def test_a_spoiled_body_raises_only_what_is_promised(name: str) -> None:
    whole = json.dumps(message(VECTORS[name]), ensure_ascii=False).encode()
    for seed in SEEDS:
        spoiled = mutated(whole, seed)
        with contextlib.suppress(WireError, TidegateError):
            decode_message(spoiled, destination(), REQUEST)
        with contextlib.suppress(WireError, TidegateError):
            complete(spoiled, call(), destination())


def test_a_spoiled_request_raises_only_what_a_client_can_be_told() -> None:
    given = body(
        system=[{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
        tools=[{"name": "f", "input_schema": {"type": "object"}}, {"type": "web_search_20250305", "name": "w"}],
        thinking={"type": "enabled", "budget_tokens": 2000},
        messages=[
            {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://a"}}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1, {}]}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "潮"}]},
                    {"type": "document", "citations": {"enabled": True}, "source": {"type": "content", "content": "x"}},
                ],
            },
        ],
    )
    for seed in range(1500):
        with contextlib.suppress(TidegateError):
            request = MessagesDialect().parse(mutated(given, seed))
            request.forward(destination())
            canonical = request.canonical()
            MessagesUpstream().encode_request(canonical, destination(), Losses(canonical, destination(), allowed=True))
