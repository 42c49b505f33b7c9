"""The simulator as a provider of each dialect, and what such a provider was sent, read the same way from all of them."""

import base64
import json
import re
from typing import Any, Final

import msgspec

from tests.conformance.clients import Call
from tests.support.running import Running
from tidegate.sim.connection import SimRequest

__all__ = ["ECHO", "PROVIDERS", "SPEAKS", "TOML", "Sent", "calls_of", "sent"]

_SNAKE: Final = re.compile(r"_([a-z])")

SPEAKS: Final = {
    "openai": "responses",
    "openai-chat": "chat",
    "lab": "chat",
    "anthropic": "messages",
    "google": "gemini",
}
"""The dialect of each provider."""

PROVIDERS: Final = tuple(SPEAKS)

ECHO: Final = {provider: f"{provider}/echo" for provider in SPEAKS} | {
    "anthropic": "anthropic/echo:message=claude-opus-4-8"
}
"""A model of each that says again what it was told. What Anthropic's takes is read from its name."""

TOML: Final = """
[server]
port = 0
[routing]
retries = 0
eject_after = 0
[providers.openai]
kind = "openai"
base_url = "{sim}"
speaks = ["responses"]
credentials = ["sk-0123456789abcdef"]
[providers.openai-chat]
kind = "openai"
base_url = "{sim}"
speaks = ["chat"]
credentials = ["sk-0123456789abcdef"]
[providers.lab]
kind = "openai-compatible"
base_url = "{sim}"
[providers.anthropic]
kind = "anthropic"
base_url = "{sim}"
credentials = ["sk-ant-0123456789abcdef"]
[providers.google]
kind = "gemini"
base_url = "{sim}beta"
credentials = ["AIzaSyD-0123456789abcdefghijklmnopqrst"]
"""


class Sent(msgspec.Struct, kw_only=True):
    """One request as the provider got it."""

    said: str = ""
    """The last text of the user."""
    images: list[str] = []
    """As data URLs, or URLs."""
    tools: dict[str, Any] = {}
    """JSON schemas by name."""
    calls: list[Call] = []
    results: list[tuple[str, str]] = []
    """Id of the call and text, in order."""
    schema: Any = None
    limit: int | None = None
    stream: bool = False


def calls_of(gateway: Running) -> list[SimRequest]:
    """The requests for output that reached a provider, without those for lists of models."""
    return [one for one in gateway.sim.requests if one.method == "POST"]


def sent(gateway: Running, provider: str) -> Sent:
    """The newest request for output."""
    request = calls_of(gateway)[-1]
    dialect = SPEAKS[provider]
    assert dialect == {
        "/v1/responses": "responses",
        "/v1/chat/completions": "chat",
        "/v1/messages": "messages",
    }.get(request.path, "gemini")
    return _READERS[dialect](request.json, request.path)


def _responses(body: Any, _path: str) -> Sent:
    found = Sent(limit=body.get("max_output_tokens"), stream=body["stream"])
    given = body["input"] if isinstance(body["input"], list) else [{"role": "user", "content": body["input"]}]
    for item in given:
        match item.get("type", "message"):
            case "function_call":
                found.calls.append(Call(item["call_id"], item["name"], json.loads(item["arguments"])))
            case "function_call_output":
                found.results.append((item["call_id"], item["output"]))
            case "message" if item["role"] == "user":
                for part in _parts(item["content"]):
                    found.said = part.get("text", found.said)
                    if part["type"] == "input_image":
                        found.images.append(part["image_url"])
    found.tools = {tool["name"]: tool["parameters"] for tool in body.get("tools", ())}
    found.schema = body.get("text", {}).get("format", {}).get("schema")
    return found


def _chat(body: Any, _path: str) -> Sent:
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    found = Sent(limit=limit, stream=body["stream"])
    for message in body["messages"]:
        for call in message.get("tool_calls", ()):
            function = call["function"]
            found.calls.append(Call(call["id"], function["name"], json.loads(function["arguments"])))
        if message["role"] == "tool":
            found.results.append((message["tool_call_id"], message["content"]))
        if message["role"] == "user":
            for part in _parts(message["content"]):
                found.said = part.get("text", found.said)
                if part["type"] == "image_url":
                    found.images.append(part["image_url"]["url"])
    found.tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in body.get("tools", ())}
    found.schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    return found


def _messages(body: Any, _path: str) -> Sent:
    found = Sent(limit=body["max_tokens"], stream=body["stream"])
    for message in body["messages"]:
        for block in _parts(message["content"]):
            match block["type"]:
                case "tool_use":
                    found.calls.append(Call(block["id"], block["name"], block["input"]))
                case "tool_result":
                    found.results.append((block["tool_use_id"], block["content"]))
                case "text" if message["role"] == "user":
                    found.said = block["text"]
                case "image":
                    source = block["source"]
                    data = f"data:{source.get('media_type')};base64,{source.get('data')}"
                    found.images.append(source.get("url") or data)
    found.tools = {tool["name"]: tool["input_schema"] for tool in body.get("tools", ())}
    found.schema = body.get("output_config", {}).get("format", {}).get("schema")
    return found


def _gemini(body: Any, path: str) -> Sent:
    body = _spelled(body)
    config = body.get("generationConfig", {})
    found = Sent(limit=config.get("maxOutputTokens"), stream=":streamGenerateContent" in path)
    for content in body["contents"]:
        for part in content["parts"]:
            if "functionCall" in part:
                call = part["functionCall"]
                found.calls.append(Call(call["id"], call["name"], call["args"]))
            elif "functionResponse" in part:
                result = part["functionResponse"]
                found.results.append((result["id"], result["response"]["output"]))
            elif "inlineData" in part:
                data = part["inlineData"]
                content_bytes = base64.urlsafe_b64decode(data["data"].replace("+", "-").replace("/", "_"))
                found.images.append(f"data:{data['mimeType']};base64,{base64.b64encode(content_bytes).decode()}")
            elif content["role"] == "user":
                found.said = part["text"]
    for tool in body.get("tools", ()):
        for declared in tool["functionDeclarations"]:
            found.tools[declared["name"]] = declared["parametersJsonSchema"]
    found.schema = config.get("responseJsonSchema")
    return found


def _spelled(value: Any) -> Any:
    """Google's own client writes some members in snake case, and its requests travel on as they come."""
    if isinstance(value, list):
        return [_spelled(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {_SNAKE.sub(lambda found: found[1].upper(), name): _spelled(inner) for name, inner in value.items()}


def _parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


_READERS: Final = {"responses": _responses, "chat": _chat, "messages": _messages, "gemini": _gemini}
