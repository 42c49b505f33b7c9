"""Every member of the official SDKs' requests on its way to another dialect: it makes a difference to what the provider
gets, or it is named. Never silence."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final, Literal, Required

import msgspec
import pytest
from anthropic.types.beta import message_create_params as messages
from google.genai import types as google
from openai.types import completion_create_params as completions
from openai.types.chat import completion_create_params as chat
from openai.types.responses import response_create_params as responses
from typing_extensions import TypedDict

from tests.conformance.members import Case, Samples, cases
from tests.dialects.common import call
from tidegate.dialects.bridge import Bridge
from tidegate.dialects.chat import ChatDialect
from tidegate.dialects.chat.upstream import ChatUpstream
from tidegate.dialects.codec import UpstreamDialect
from tidegate.dialects.completions import CompletionsDialect
from tidegate.dialects.dialect import Destination, Quirks, Traits
from tidegate.dialects.envelope import KEY_BYTES, Envelopes, Sealer
from tidegate.dialects.gemini import GeminiDialect, GeminiUpstream
from tidegate.dialects.messages import MessagesDialect, MessagesUpstream
from tidegate.dialects.responses import ResponsesDialect
from tidegate.dialects.responses.upstream import ResponsesUpstream
from tidegate.wire.errors import InvalidRequest, TidegateError

Members = dict[str, Any]

TARGETS: Final[dict[str, tuple[UpstreamDialect, Destination]]] = {
    "responses": (
        ResponsesUpstream(),
        Destination(provider="p", model="m", encrypted_reasoning=True, stores=True, drops=True),
    ),
    "chat": (
        ChatUpstream(),
        Destination(
            provider="p",
            model="m",
            endpoint="chat",
            drops=True,
            quirks=Quirks(openai_chat=True, max_tokens_name="max_completion_tokens"),
        ),
    ),
    "engine": (ChatUpstream(), Destination(provider="p", model="m", endpoint="chat", drops=True)),
    "messages": (
        MessagesUpstream(),
        Destination(
            provider="p",
            model="m",
            endpoint="messages",
            drops=True,
            traits=Traits(thinking="adaptive", efforts=("low", "medium", "high", "xhigh", "max")),
        ),
    ),
    "gemini": (GeminiUpstream(), Destination(provider="p", model="gemini-3-flash", endpoint="gemini", drops=True)),
}

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


ALSO: Final = {
    "thinking": {"redacted_thinking"},
    "reasoning_items": {"reasoning"},
    "image": {"document"},
    "toolCall": {"toolResponse"},
}
"""Names that stand for others as well."""

TOOLS: Final = ("tools[]", "input[].tools[]", "tools[].tools[]", "input[].tools[].tools[]")
SEARCHES: Final = ("web_search_2025_08_26", "web_search_preview_2025_03_11")
BLOCKS: Final = (
    "system[]",
    "messages[].content[]",
    "messages[].content[].content[]",
    "messages[].content[].source.content[]",
    "messages[].content[].content[].content[]",
)


class Like(msgspec.Struct, frozen=True):
    """A member, with all within it, that makes no difference to what some providers get, and why nothing is lost with it.
    `value`: only that one; `kind`: only in requests that hold an object of this type."""

    path: str
    why: str
    value: Any = None
    kind: str = ""
    targets: tuple[str, ...] = tuple(TARGETS)

    def covers(self, case: Case, target: str) -> bool:
        within = case.path == self.path or case.path.startswith((f"{self.path}.", f"{self.path}["))
        return (
            within
            and target in self.targets
            and (self.value is None or case.value == self.value)
            and (not self.kind or self.kind in kinds(case.given))
        )


DEFAULT: Final = "It is what happens anyway."
EMULATED: Final = "The gateway cuts the answer where the provider cannot."
GATEWAY: Final = "The gateway sees to it, whoever answers."
LISTED: Final = "Documented in translation.md among the members that are lost without a name."
SAME: Final = "Another way to say the same."
_OTHERS: Final = ("messages", "gemini")

UNASKED: Final = (("reasoning.enabled", True), ("thinking", {"type": "enabled"}), ("enable_thinking", True))
LIKE: Final[dict[str, tuple[Like, ...]]] = {
    "responses": (
        Like("include[]", GATEWAY, "reasoning.encrypted_content"),
        Like("input[].type", SAME, "message"),
        Like("input[].id", LISTED),
        Like("input[].status", LISTED, "completed"),
        Like("input[].caller", LISTED, {"type": "direct"}),
        Like("input[].content[].annotations", LISTED),
        Like("input[].content[].logprobs", LISTED),
        Like("input[].content[].detail", DEFAULT, "auto"),
        Like("input[].output[].detail", DEFAULT, "auto"),
        Like("input[].name", LISTED, kind="function_call_output"),
        Like("input[].namespace", LISTED, kind="function_call_output"),
        Like("input[].summary[].text", LISTED, targets=("gemini",)),
        Like("input[]", LISTED, kind="reasoning", targets=("gemini",)),
        *(Like(f"{at}.format", DEFAULT, {"type": "text"}) for at in TOOLS),
        *(Like(f"{at}.external_web_access", DEFAULT, True) for at in TOOLS[:2]),
        *(Like(f"{at}.type", SAME, kind) for at in TOOLS[:2] for kind in SEARCHES),
        Like("parallel_tool_calls", DEFAULT, True),
        Like("prompt_cache_key", "That there is one asks for caching.", targets=("messages",)),
        Like("reasoning.context", DEFAULT, "auto"),
        Like("reasoning.mode", DEFAULT, "standard"),
        Like("service_tier", DEFAULT, "auto"),
        Like("store", GATEWAY),
        Like("text.format", DEFAULT, {"type": "text"}),
        Like("text.format.name", LISTED, targets=_OTHERS),
        Like("text.format.strict", LISTED, targets=_OTHERS),
        Like("text.verbosity", DEFAULT, "medium"),
        Like("truncation", DEFAULT, "disabled"),
    ),
    "chat": (
        Like("messages[]", "Only OpenAI tells developers from the system.", {"content": "content-a", "role": "system"}),
        Like("messages[].content[].image_url.detail", DEFAULT, "auto"),
        Like("messages[].cache_control.ttl", LISTED, "5m"),
        Like("messages[].content[].cache_control.ttl", LISTED, "5m"),
        Like("messages[].reasoning_details[].summary", LISTED, targets=("gemini",)),
        Like("messages[].reasoning_details", "There is nothing in it.", [{"type": "reasoning.text"}]),
        Like("thinking.type", SAME, "adaptive"),
        *(Like(path, DEFAULT, value, targets=("gemini",)) for path, value in UNASKED),
        Like("modalities", DEFAULT, ["text"]),
        Like("parallel_tool_calls", DEFAULT, True),
        Like("prompt_cache_key", "That there is one asks for caching.", targets=("messages",)),
        Like("response_format", DEFAULT, {"type": "text"}),
        Like("response_format.json_schema.name", LISTED, targets=_OTHERS),
        Like("response_format.json_schema.strict", LISTED, targets=_OTHERS),
        Like("service_tier", DEFAULT, "auto"),
        Like("stop", EMULATED, targets=("responses",)),
        Like("stream_options.include_usage", GATEWAY),
        Like("tools[].custom.format", DEFAULT, {"type": "text"}),
        Like("verbosity", DEFAULT, "medium"),
    ),
    "completions": (
        Like("prompt", SAME, ["prompt-a"]),
        Like("echo", GATEWAY),
        Like("stop", EMULATED, targets=("responses",)),
        Like("stream_options.include_usage", GATEWAY),
    ),
    "messages": (
        Like("messages[].content[].caller", LISTED, {"type": "direct"}),
        *(Like(f"{at}.cache_control.ttl", LISTED, "5m") for at in BLOCKS if at in BLOCKS[:3]),
        *(Like(f"{at}.citations", LISTED) for at in BLOCKS),
        Like("service_tier", DEFAULT, "auto"),
        Like("stop_sequences", EMULATED, targets=("responses",)),
        Like("thinking.display", DEFAULT, "summarized"),
        Like("thinking.display", "Chat has no word for it.", "omitted", targets=("chat", "engine")),
        Like("tools[].type", SAME, "custom"),
    ),
    "gemini": (
        Like("contents[].role", SAME, "user"),
        Like("systemInstruction.role", LISTED),
        Like("tools[].functionDeclarations[].behavior", LISTED, "BLOCKING"),
        Like("toolConfig.functionCallingConfig.allowedFunctionNames", "There is no other.", ["f"]),
        Like("toolConfig.functionCallingConfig.mode", DEFAULT, "AUTO"),
        Like("generationConfig.responseModalities", DEFAULT, ["TEXT"]),
        Like("generationConfig.responseModalities[]", DEFAULT, "TEXT"),
        Like("generationConfig.stopSequences", EMULATED, targets=("responses",)),
    ),
}


class Translated(msgspec.Struct):
    """One request at all targets: the body, or the error, and what is named."""

    error: TidegateError | None = None
    bodies: dict[str, bytes] = {}
    named: dict[str, tuple[str, ...]] = {}


@cache
def translated(client: str, asked: str) -> Translated:
    made = Translated()
    try:
        request = CLIENTS[client].parse(asked.encode())
        bridge = Bridge(request, call(), Envelopes(Sealer(bytes(KEY_BYTES)), "t"))
        bridge.check()
        for target, (dialect, destination) in TARGETS.items():
            made.bodies[target], made.named[target] = bridge.forward(dialect, destination)
    except TidegateError as error:
        made.error = error
    return made


@cache
def cases_of(client: str) -> list[tuple[Case, str, str]]:
    """Each once, with its two requests."""
    found: dict[tuple[str, str, str], Case] = {}
    for case in CLIENTS[client].cases():
        if case.path != "model" and without_empty(case.given) != without_empty(case.other):
            given, other = (json.dumps(CLIENTS[client].whole(one)) for one in (case.given, case.other))
            found[case.path, given, other] = case
    return [(case, given, other) for (_, given, other), case in found.items()]


def components(path: str) -> list[str]:
    return [one for one in re.split(r"[.\[\]]+", path) if one and not one.isdigit()]


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


def is_named(case: Case, names: tuple[str, ...]) -> bool:
    """Whether one of the names is that of the member, or of what it is within or of what is within it."""
    within = {*components(case.path), *kinds(case.given)}
    for name in names:
        last = components(name)[-1]
        if last in within or name.startswith((f"{case.path}.", f"{case.path}[")) or within & ALSO.get(last, set()):
            return True
        if case.path.startswith("include") and name == f"include[{case.value}]":
            return True
    return False


def without_empty(value: Any) -> Any:
    """What is empty says as little as what is not there."""
    if isinstance(value, dict):
        return {name: kept for name, one in value.items() if (kept := without_empty(one)) not in ({}, [])}
    return [without_empty(one) for one in value] if isinstance(value, list) else value


PAIRS: Final = [
    (client, target)
    for client in CLIENTS
    for target in TARGETS
    if client != target and (client, target) != ("chat", "engine")
]


@pytest.mark.parametrize(("client", "target"), PAIRS)
def test_a_member_makes_a_difference_or_has_a_name(client: str, target: str) -> None:
    lost: list[str] = []
    for case, given, other in cases_of(client):
        one, two = translated(client, given), translated(client, other)
        if one.error is not None or any(like.covers(case, target) for like in LIKE[client]):
            continue
        if one.bodies[target] == two.bodies.get(target) and not is_named(case, one.named[target]):
            lost.append(f"{case.path} = {json.dumps(case.value)} is lost, and {one.named[target]} named")
    assert not lost, "\n".join(lost)


ALIKE: Final = {
    "responses": {
        "input[].role": "Only OpenAI tells developers from the system.",
        "input[].tools[]": "`web_search_preview` is an older `web_search`.",
        "tools[]": "As above.",
        "tool_choice": "The tool that is named is there, whatever its type.",
        "tool_choice.type": "As above.",
    },
    "chat": {
        "response_format": "Without a schema, it asks for JSON.",
        "stop": "One or a list of one.",
        "tool_choice": "The tool that is named is there, whatever its type.",
    },
    "completions": {"stop": "One or a list of one."},
    "messages": {"tools[]": "Versions of a search of the web."},
    "gemini": {},
}
"""Members of which two values are the same elsewhere, and why."""


@pytest.mark.parametrize(("client", "target"), PAIRS)
def test_two_values_of_a_member_are_told_apart_or_named(client: str, target: str) -> None:
    first: dict[tuple[str, bytes], Case] = {}
    for case, given, _ in cases_of(client):
        one = translated(client, given)
        if one.error is not None or case.path in ALIKE[client] or is_named(case, one.named[target]):
            continue
        if not any(like.covers(case, target) for like in LIKE[client]):
            other = first.setdefault((case.path, one.bodies[target]), case)
            assert other.value == case.value, case.path


@pytest.mark.parametrize("client", CLIENTS)
def test_an_error_names_the_member_that_cannot_be_carried(client: str) -> None:
    for case, given, _ in cases_of(client):
        error = translated(client, given).error
        if error is not None:
            assert error.status < 500, error
            param = getattr(error, "param", None) or ""
            assert components(param)[:1] == components(case.path)[:1], f"{case.path}: {error}"


@pytest.mark.parametrize("client", CLIENTS)
def test_every_member_that_is_said_to_make_no_difference_makes_none(client: str) -> None:
    alike: list[Like] = []
    for case, given, other in cases_of(client):
        one, two = translated(client, given), translated(client, other)
        for target in one.bodies:
            if one.bodies[target] == two.bodies.get(target):
                alike.extend(like for like in LIKE[client] if like.covers(case, target))
    assert not [like for like in LIKE[client] if like not in alike]


OURS: Final = frozenset({"model", "stream", "stream_options", "store"})


@pytest.mark.parametrize("client", CLIENTS)
def test_a_request_goes_on_as_it_came_to_a_provider_of_its_dialect(client: str) -> None:
    to = Destination(provider="p", model="gemini-2.5-flash", endpoint=client, gateway_state=False)  # type: ignore[arg-type]
    refused = 0
    for case, given, _ in cases_of(client):
        asked = json.loads(given)
        try:
            request = CLIENTS[client].parse(given.encode())
            sent = json.loads(request.forward(to))
        except InvalidRequest:
            refused += 1
            continue
        assert {name: one for name, one in sent.items() if name not in OURS} == {
            name: one for name, one in asked.items() if name not in OURS
        }, case.path
        assert request.dropped == ()
    assert refused < len(cases_of(client)) / 20
