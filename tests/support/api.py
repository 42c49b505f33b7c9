"""A plain HTTP client for the three relayed endpoints, which sees bytes where an SDK would see objects."""

import json
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx

from tests.support.running import Running
from tidegate.sim.connection import SimRequest

__all__ = ["ENDPOINTS", "PATHS", "Api", "Frame", "Reply", "read_frames", "request_body"]

PATHS = {"responses": "/v1/responses", "chat": "/v1/chat/completions", "completions": "/v1/completions"}
ENDPOINTS = tuple(PATHS)

TEXT = "Hello there, you"


class Frame(NamedTuple):
    """One unit of an event stream, with its lines as they came."""

    raw: bytes
    event: str
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class Reply:
    """A whole answer."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.content = response.content

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def error(self) -> Any:
        """The error object; fails when the answer is no error in the OpenAI envelope."""
        body = self.json
        assert set(body) == {"error"}, body
        assert set(body["error"]) == {"message", "type", "param", "code"}, body
        assert self.headers["content-type"] == "application/json"
        return body["error"]

    @property
    def frames(self) -> list[Frame]:
        """All frames that are not comments."""
        return [frame for frame in read_frames(self.content) if frame.data]

    @property
    def events(self) -> list[Any]:
        """The JSON payload of every frame, `[DONE]` left out."""
        return [frame.json for frame in self.frames if frame.data != b"[DONE]"]

    @property
    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def text(self) -> str:
        """What a client would show, put together from deltas (or taken from the one body)."""
        if not self.headers["content-type"].startswith("text/event-stream"):
            return _text_of_body(self.json)
        return "".join(_text_of_event(event) for event in self.events)

    @property
    def request_id(self) -> str:
        return self.headers["x-request-id"]


class Api:
    """`with Api(gateway) as api:` — then `api.ask("chat", "sim/echo")`."""

    def __init__(self, gateway: Running, **headers: str) -> None:
        self.gateway = gateway
        self.http = httpx.Client(base_url=gateway.origin, timeout=20, headers=headers, verify=False, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    def ask(
        self,
        endpoint: str = "responses",
        model: str | None = "sim/echo",
        *,
        headers: dict[str, str] | None = None,
        **members: Any,
    ) -> Reply:
        """One POST. A member given as `...` is left out."""
        return self.post(PATHS[endpoint], request_body(endpoint, model, **members), headers=headers)

    def post(self, path: str, body: Any, *, headers: dict[str, str] | None = None) -> Reply:
        if isinstance(body, bytes):
            return Reply(self.http.post(path, content=body, headers=headers))
        return Reply(self.http.post(path, json=body, headers=headers))

    def refused(self, endpoint: str = "responses", model: str | None = "sim/echo", **members: Any) -> Any:
        """The error of a request that the gateway itself must turn down: the provider, which might, is not asked."""
        calls = self.calls
        reply = self.ask(endpoint, model, **members)
        assert reply.status == 400, reply.content
        assert reply.error["type"] == "invalid_request_error"
        assert self.calls == calls, "a refused request reached the provider"
        return reply.error

    def get(self, path: str, *, headers: dict[str, str] | None = None) -> Reply:
        return Reply(self.http.get(path, headers=headers))

    @property
    def upstream(self) -> SimRequest:
        """The newest request for output that reached the provider."""
        return next(one for one in reversed(self.gateway.sim.requests) if one.method == "POST")

    @property
    def sent(self) -> Any:
        """Its body."""
        return self.upstream.json

    @property
    def calls(self) -> int:
        """How many requests for output have reached the provider."""
        return sum(one.method == "POST" for one in self.gateway.sim.requests)


def request_body(endpoint: str, model: str | None = "sim/echo", *, say: str = TEXT, **members: Any) -> dict[str, Any]:
    """A small request of the endpoint's dialect."""
    said: dict[str, dict[str, Any]] = {
        "responses": {"input": say},
        "chat": {"messages": [{"role": "user", "content": say}]},
        "completions": {"prompt": say},
    }
    body = {"model": model, **said[endpoint], **members}
    return {name: value for name, value in body.items() if value is not ... and (name != "model" or value is not None)}


def read_frames(data: bytes) -> list[Frame]:
    """The frames of a stream that ends whole: anything after the last blank line is a fault of the stream.

    Frames of a provider that ends its lines with CR LF come through untouched; they are shown here with LF.
    """
    data = data.replace(b"\r\n", b"\n")
    assert data == b"" or data.endswith(b"\n\n"), data[-200:]
    frames = []
    for raw in data.split(b"\n\n")[:-1]:
        fields: dict[bytes, list[bytes]] = {}
        for line in raw.split(b"\n"):
            name, _, value = line.partition(b": ")
            fields.setdefault(name, []).append(value)
        event = fields.get(b"event", [b""])
        assert len(event) == 1, raw
        frames.append(Frame(raw + b"\n\n", event[0].decode(), b"\n".join(fields.get(b"data", []))))
    return frames


def _text_of_event(event: Any) -> str:
    if "choices" in event:
        return "".join(
            choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in event["choices"]
        )
    return str(event["delta"]) if event.get("type") == "response.output_text.delta" else ""


def _text_of_body(body: Any) -> str:
    if "choices" in body:
        return "".join(one.get("text") or one.get("message", {}).get("content") or "" for one in body["choices"])
    parts = [part for item in body["output"] for part in item.get("content") or ()]
    return "".join(part.get("text", "") for part in parts)
