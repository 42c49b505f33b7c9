"""From a client of any API to a provider of any other and back, through the bridge, without a socket."""

import json
from collections.abc import Iterable
from typing import Any, Final

from tests.dialects import common
from tests.faults.clients import CLIENTS, SSE_TYPE, Answer, Verdict
from tidegate.dialects.bridge import Bridge
from tidegate.dialects.chat import ChatDialect
from tidegate.dialects.completions import CompletionsDialect
from tidegate.dialects.dialect import Destination, Endpoint, Quirks
from tidegate.dialects.envelope import KEY_BYTES, Envelopes, Sealer
from tidegate.dialects.gemini import GeminiAddress
from tidegate.dialects.messages import MessagesDialect
from tidegate.dialects.responses import ResponsesDialect
from tidegate.gateway.dialects import UPSTREAM_DIALECTS

__all__ = ["ASKS", "DESTINATIONS", "PAIRS", "Crossing"]

_SEALER: Final = Sealer(bytes(KEY_BYTES))

ASKS: Final[dict[str, dict[str, Any]]] = {
    "responses": {"input": "?"},
    "chat": {"messages": [{"role": "user", "content": "?"}]},
    "completions": {"prompt": "?"},
    "messages": {"messages": [{"role": "user", "content": "?"}], "max_tokens": 100},
    "gemini": {
        "contents": [{"role": "user", "parts": [{"text": "?"}]}],
        "generationConfig": {"thinkingConfig": {"includeThoughts": True}},
    },
}
"""The smallest request of each client; Google's shows thoughts only to who asks."""

DESTINATIONS: Final[dict[Endpoint, Destination]] = {
    "responses": Destination(provider="lab", model="tide-1", encrypted_reasoning=True),
    "chat": Destination(provider="lab", model="tide-1", endpoint="chat", quirks=Quirks()),
    "messages": Destination(provider="lab", model="claude-sonnet-5", endpoint="messages"),
    "gemini": Destination(provider="lab", model="gemini-3-flash", endpoint="gemini"),
}

PAIRS: Final = [(client, provider) for client in ASKS for provider in DESTINATIONS if client != provider]


class Crossing:
    """One request of a client on its way to a provider of another dialect."""

    def __init__(self, client: str, provider: Endpoint, *, stream: bool, **members: Any) -> None:
        self.client = client
        self.to = DESTINATIONS[provider]
        body = json.dumps(
            {
                **({} if client == "gemini" else {"model": "tide-1", "stream": stream}),
                **ASKS[client],
                **members,
            }
        ).encode()
        parse: Any = {
            "responses": ResponsesDialect().parse,
            "chat": ChatDialect().parse,
            "completions": CompletionsDialect().parse,
            "messages": MessagesDialect().parse,
            "gemini": GeminiAddress("/", model="tide-1", stream=stream, alt="sse").parse,
        }[client]
        self.request = parse(body)
        self.bridge = Bridge(self.request, common.call(), Envelopes(_SEALER, "t"))
        body, self.dropped = self.bridge.forward(UPSTREAM_DIALECTS[provider], self.to)
        self.sent = json.loads(body)

    def streamed(self, reads: bytes | Iterable[bytes]) -> bytes:
        """All that the client gets of a stream."""
        stream = self.bridge.open(self.request.open(common.call()))
        stream.attempt_bridged(self.to)
        return common.play(stream, [reads] if isinstance(reads, bytes) else reads)

    def whole(self, body: bytes) -> bytes:
        """What the client gets of an answer in one body. Raises as `Bridge.complete` does."""
        answer = self.bridge.complete(body, self.to)
        assert answer is not None
        return answer.body

    def judged(self, out: bytes, *, stream: bool) -> Verdict:
        """What the client takes it for. Whatever its API forbids fails here."""
        api = CLIENTS[self.client]
        content_type = SSE_TYPE if stream else "application/json"
        answer = Answer(status=200, headers={"content-type": content_type, "x-request-id": "1"}, body=out, whole=True)
        return api.stream(answer) if stream else api.body(answer)
