"""How clients of each API ask: the types of their SDKs' requests, plausible values, and a conversation around each."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, Required

from anthropic.types.beta import message_create_params as messages
from google.genai import types as google
from openai.types import completion_create_params as completions
from openai.types.chat import completion_create_params as chat
from openai.types.responses import response_create_params as responses
from typing_extensions import TypedDict

from tests.conformance.members import Case, Samples, cases
from tidegate.dialects.chat import ChatDialect
from tidegate.dialects.completions import CompletionsDialect
from tidegate.dialects.gemini import GeminiDialect
from tidegate.dialects.messages import MessagesDialect
from tidegate.dialects.responses import ResponsesDialect

__all__ = ["CLIENTS", "Client", "Members", "kinds"]

Members = dict[str, Any]

PNGS: Final = ("data:image/png;base64,AAAA", "data:image/png;base64,BBBB")
PDFS: Final = ("data:application/pdf;base64,AAAA", "data:application/pdf;base64,BBBB")
BASE64: Final = ("AAAA", "BBBB")
SCHEMAS: Final = (
    {"type": "object", "properties": {"a": {"type": "string"}}},
    {"type": "object", "properties": {"b": {}}},
)

VALUES: Final[dict[str, tuple[Any, Any]]] = {
    "arguments": ('{"a":1}', '{"a":2}'),
    "best_of": (4, 5),
    "data": BASE64,
    "echo": (True, False),
    "file": ({"file_data": PDFS[0]}, {"file_data": PDFS[1]}),
    "file_data": PDFS,
    "frequency_penalty": (0.25, 0.5),
    "input_schema": SCHEMAS,
    "logit_bias": ({"5": 1}, {"5": 2}),
    "max_output_tokens": (2000, 3000),
    "max_completion_tokens": (2000, 3000),
    "max_tokens": (2000, 3000),
    "n": (2, 3),
    "parameters": SCHEMAS,
    "presence_penalty": (0.25, 0.5),
    "schema": SCHEMAS,
    "temperature": (0.25, 0.5),
    "top_logprobs": (2, 3),
    "top_p": (0.95, 0.99),
    "frequencyPenalty": (0.25, 0.5),
    "presencePenalty": (0.25, 0.5),
    "topP": (0.95, 0.99),
    "mimeType": ("image/png", "image/jpeg"),
    "thoughtSignature": ("c2ln", "c2lnbg=="),
}


class _Cache(TypedDict, total=False):
    type: Required[Literal["ephemeral"]]
    ttl: Literal["5m", "1h"]


class _Part(TypedDict, total=False):
    type: Required[Literal["text"]]
    text: Required[str]
    cache_control: _Cache


class _Image(TypedDict, total=False):
    type: Required[Literal["image_url"]]
    image_url: Required[str]


class _Detail(TypedDict, total=False):
    type: Required[Literal["reasoning.text"]]
    text: str
    summary: str
    data: str


class _Google(TypedDict, total=False):
    thought_signature: str


class _Extra(TypedDict, total=False):
    google: _Google


class _Function(TypedDict, total=False):
    name: Required[str]
    arguments: Required[str]


class _Call(TypedDict, total=False):
    id: Required[str]
    type: Required[Literal["function"]]
    function: Required[_Function]
    extra_content: _Extra


class _Assistant(TypedDict, total=False):
    role: Required[Literal["assistant"]]
    content: str
    reasoning_content: str
    reasoning: str
    reasoning_details: list[_Detail]
    images: list[_Image]
    tool_calls: list[_Call]


class _User(TypedDict, total=False):
    role: Required[Literal["user"]]
    content: Required[list[_Part]]
    cache_control: _Cache


class _Reasoning(TypedDict, total=False):
    effort: Literal["low", "high"]
    max_tokens: int
    enabled: bool
    exclude: bool


class _Thinking(TypedDict, total=False):
    type: Required[Literal["enabled", "adaptive", "disabled"]]
    budget_tokens: int


class VendorsChat(TypedDict, total=False):
    """What servers of OpenAI's chat API have beside it (OpenRouter, Anthropic's and Google's chat endpoints, vLLM, Qwen)."""

    messages: list[_Assistant | _User]
    top_k: int
    min_p: float
    repetition_penalty: float
    chat_template_kwargs: dict[str, str]
    reasoning: _Reasoning
    thinking: _Thinking
    enable_thinking: bool
    thinking_budget: int
    plugins: list[dict[str, str]]
    provider: dict[str, str]
    models: list[str]


class Client:
    """How a client's requests are made and read."""

    def __init__(
        self,
        *kinds: tuple[str, Any],
        whole: Callable[[Members], Members],
        parse: Callable[[bytes], Any],
        values: Mapping[str, tuple[Any, Any]],
        deepest: int,
        closed: tuple[str, ...] = (),
    ) -> None:
        """`kinds` are the types of requests, or of some members of theirs. `whole` makes a conversation of what one member
        asks for."""
        self._kinds = kinds
        self._samples = Samples({**VALUES, **values}, NEEDED, deepest=deepest, closed=closed)
        self.whole = whole
        self.parse = parse

    def cases(self) -> Iterator[Case]:
        for at, kind in self._kinds:
            for case in cases(kind, self._samples):
                if not at:
                    yield case
                elif at.endswith("[]"):
                    yield case.inside(f"{at}.{case.path}", lambda one: {at[:-2]: [one]})  # noqa: B023
                else:
                    yield case.inside(f"{at}.{case.path}", lambda one: {at: one})  # noqa: B023


def _completed(members: Members, tool: Members) -> Members:
    """With what some members need, so that they say anything."""
    if members.keys() & {"tool_choice", "parallel_tool_calls", "toolConfig"}:
        members = {"tools": [tool], **members}
    if "function_call" in members:
        members = {"functions": [{"name": "f"}], **members}
    return {**members, "stream": True} if "stream_options" in members else members


def _chat(members: Members) -> Members:
    """A conversation in which every call has its result."""
    found: list[Members] = []
    for one in members.get("messages") or [{"role": "user", "content": "?"}]:
        if one["role"] == "tool":
            found.append({"role": "assistant", "tool_calls": [CHAT_CALL | {"id": one["tool_call_id"]}]})
        if one["role"] == "function":
            found.append({"role": "assistant", "function_call": {"name": one["name"], "arguments": "{}"}})
        found.append(one)
        if one["role"] == "assistant":
            found.extend(
                {"role": "tool", "tool_call_id": call["id"], "content": "o"} for call in one.get("tool_calls", ())
            )
            if one.get("function_call"):
                found.append({"role": "function", "name": one["function_call"]["name"], "content": "o"})
    made = {**members, "model": "m", "messages": [*found, {"role": "user", "content": "?"}]}
    if "top_logprobs" in made:
        made["logprobs"] = True
    return _completed(made, {"type": "function", "function": {"name": "f"}})


def _responses(members: Members) -> Members:
    found: list[Members] = []
    for one in members["input"] if isinstance(members.get("input"), list) else []:
        kind = one.get("type", "message")
        if kind in ("function_call_output", "custom_tool_call_output"):
            name = "arguments" if kind.startswith("function") else "input"
            one = {"call_id": "c", **one}
            found.append({"type": kind.removesuffix("_output"), "call_id": one["call_id"], "name": "f", name: "{}"})
        found.append(one)
        if kind in ("function_call", "custom_tool_call"):
            found.append({"type": f"{kind}_output", "call_id": one["call_id"], "output": "o"})
    made = {**members, "model": "m"}
    if found:
        made["input"] = [*found, {"role": "user", "content": "?"}]
    made.setdefault("input", "?")
    return _completed(made, {"type": "function", "name": "f"})


def _completions(members: Members) -> Members:
    made = {"prompt": "?", **members, "model": "m"}
    return {**made, "stream": True} if "stream_options" in made else made


def _messages(members: Members) -> Members:
    found: list[Members] = []
    for one in members.get("messages") or [{"role": "user", "content": "?"}]:
        one = {"content": "?", **one}
        blocks = [block for block in one["content"] if isinstance(block, dict)]
        used = [block for block in blocks if block["type"] == "tool_use"]
        results = [block for block in blocks if block["type"] == "tool_result"]
        if results:
            uses = [{"type": "tool_use", "id": block["tool_use_id"], "name": "f", "input": {}} for block in results]
            found.append({"role": "assistant", "content": uses})
        if results:
            one = {**one, "role": "user"}
        elif used or (blocks and blocks[0]["type"] in ASSISTANTS):
            one = {**one, "role": "assistant"}
        found.append(one)
        if used:
            results = [{"type": "tool_result", "tool_use_id": block["id"]} for block in used]
            found.append({"role": "user", "content": results})
    found.append({"role": "user", "content": "?"})
    made = {"max_tokens": 4000, **members, "model": "m", "messages": found}
    return _completed(made, {"name": "f", "input_schema": {"type": "object"}})


def _gemini(members: Members) -> Members:
    found: list[Members] = []
    for one in members.get("contents") or [{"role": "user", "parts": [{"text": "?"}]}]:
        parts = [dict(part) for part in one["parts"]]
        one = {**one, "parts": parts}
        for part in parts:
            if part.keys() & {*GEMINIS, "inlineData", "fileData", "functionResponse"}:
                part.pop("text", None)
            if "functionResponse" in part:
                own = part["functionResponse"]
                called = {name: own[name] for name in ("id", "name") if name in own}
                found.append({"role": "model", "parts": [{"functionCall": called}]})
        if any(name in part for part in parts for name in GEMINIS):
            one = {**one, "role": "model"}
        found.append(one)
        for part in parts:
            if "functionCall" in part:
                own = part["functionCall"]
                called = {name: own[name] for name in ("id", "name") if name in own}
                found.append({"role": "user", "parts": [{"functionResponse": called}]})
    if found[-1].get("role") == "model":
        found.append({"role": "user", "parts": [{"text": "?"}]})
    return _completed({**members, "contents": found}, {"functionDeclarations": [{"name": "f"}]})


CHAT_CALL: Final = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ASSISTANTS: Final = ("thinking", "redacted_thinking", "server_tool_use")
GEMINIS: Final = ("functionCall", "executableCode", "codeExecutionResult", "toolCall", "toolResponse")

NEEDED: Final = {
    "ResponseInputImageParam": ("image_url",),
    "ResponseInputImageContentParam": ("image_url",),
    "ResponseInputFileParam": ("file_data",),
    "ResponseInputFileContentParam": ("file_data",),
    "Blob": ("mimeType", "data"),
    "FileData": ("fileUri",),
    "FunctionCall": ("name",),
    "FunctionDeclaration": ("name",),
    "FunctionResponse": ("name",),
    "FunctionResponseBlob": ("mimeType", "data"),
    "FunctionResponseFileData": ("fileUri",),
    "Content": ("parts",),
    "Part": ("text",),
    "FunctionResponsePart": ("inlineData",),
}

CLIENTS: Final[dict[str, Client]] = {
    "responses": Client(
        ("", responses.ResponseCreateParamsBase),
        whole=_responses,
        parse=ResponsesDialect().parse,
        values={"image_url": PNGS},
        deepest=6,
    ),
    "chat": Client(
        ("", chat.CompletionCreateParamsBase),
        ("", VendorsChat),
        whole=_chat,
        parse=ChatDialect().parse,
        values={"url": PNGS, "file": ({"file_data": PDFS[0]}, {"file_data": PDFS[1]})},
        deepest=7,
    ),
    "completions": Client(
        ("", completions.CompletionCreateParamsBase),
        whole=_completions,
        parse=CompletionsDialect().parse,
        values={},
        deepest=4,
    ),
    "messages": Client(
        ("", messages.MessageCreateParamsBase),
        whole=_messages,
        parse=MessagesDialect().parse,
        values={"metadata": ({"user_id": "a"}, {"user_id": "b"})},
        deepest=5,
        closed=(
            "BetaRequestToolAdditionBlockParam",
            "BetaRequestToolRemovalBlockParam",
            "BetaCompactionBlockParam",
            "BetaToolBrowserToolset20260801Param",
            "BetaToolComputerToolset20260801Param",
        ),
    ),
    "gemini": Client(
        ("contents[]", google.Content),
        ("systemInstruction", google.Content),
        ("tools[]", google.Tool),
        ("toolConfig", google.ToolConfig),
        ("generationConfig", google.GenerationConfig),
        ("safetySettings[]", google.SafetySetting),
        whole=_gemini,
        parse=lambda body: GeminiDialect().parse(body, model="m"),
        values={"role": ("user", "model"), "allowedFunctionNames": (["f"], ["g"])},
        deepest=6,
    ),
}


def kinds(value: Any) -> Iterator[str]:
    """The types of all objects in a request."""
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            yield value["type"]
        for one in value.values():
            yield from kinds(one)
    elif isinstance(value, list):
        for one in value:
            yield from kinds(one)
