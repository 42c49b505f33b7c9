"""Coding agents at every kind of provider: what they send, a whole loop with a tool, what they get and what the provider
got. `make test-clients` does the same with the programs themselves."""

import json
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import httpx
import pytest

from tests.support.agents import CLAUDE_CODE_HEADERS, CODEX_HEADERS, claude_code, codex
from tests.support.api import Frame, read_frames
from tests.support.providers import FOUR, PATHS, PROVIDERS, asked_path
from tests.support.running import Running
from tests.support.strict import check_event
from tidegate.sim.scripts import CONCLUSION, THOUGHT

TOML = f"""{FOUR}
[[keys]]
name = "strict"
secret = "tg-strict-0123456789abcdef0123456789"
"""
STRICT = "tg-strict-0123456789abcdef0123456789"
PATCH = "*** Begin Patch\n*** Add File: 潮汐.txt\n+high water\n*** End Patch\n"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


@pytest.fixture(scope="module")
def http(gateway: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.origin, timeout=20, trust_env=False) as client:
        yield client


class Turn:
    """One answered request."""

    def __init__(self, answer: httpx.Response, gateway: Running) -> None:
        assert answer.status_code == 200, answer.text
        self.frames: list[Frame] = [frame for frame in read_frames(answer.content) if frame.data]
        self.events: list[Any] = [frame.json for frame in self.frames]
        assert [frame.event for frame in self.frames] == [event["type"] for event in self.events]
        self.dropped = set(filter(None, answer.headers.get("tidegate-dropped", "").split(", ")))
        self.request = gateway.sim.requests[-1]
        self.sent: Any = json.loads(self.request.body)


# -- Codex ------------------------------------------------------------------------------------------------------


def ask_codex(http: httpx.Client, gateway: Running, body: dict[str, Any], key: str = STRICT) -> tuple[Turn, Any]:
    """The turn, and the items as Codex takes them: from `output_item.done`."""
    headers = {**CODEX_HEADERS, "authorization": f"Bearer {key}"}
    turn = Turn(http.post("/v1/responses", json=body, headers=headers), gateway)
    events = [event for event in turn.events if event["type"] != "keepalive"]
    for event in events:
        check_event(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[0]["type"] == "response.created"
    final = events[-1]
    assert final["type"] == "response.completed"
    assert set(final["response"]["usage"]) >= {"input_tokens", "input_tokens_details", "output_tokens_details"}
    done = [event for event in events if event["type"] == "response.output_item.done"]
    assert final["response"]["output"] == [event["item"] for event in sorted(done, key=itemgetter("output_index"))]
    return turn, [event["item"] for event in done]


def spoken(items: list[Any]) -> str:
    """The text of the one message."""
    (message,) = [item for item in items if item["type"] == "message"]
    return str(message["content"][0]["text"])


CODEX_DROPS = {
    "openai": set(),
    "compatible": {
        "client_metadata",
        "tools[].namespace.description",
        "tools[].format",
        "tools.web_search",
        "reasoning.summary",
    },
    "anthropic": {
        "client_metadata",
        "tools[].namespace.description",
        "text.verbosity",
        "tools[].format",
        "tools[].search_content_types",
    },
    "gemini": {
        "client_metadata",
        "tools[].namespace.description",
        "tools[].format",
        "text.verbosity",
        "tools[].search_content_types",
        "prompt_cache_key",
    },
}


def offered(provider: str, sent: Any) -> list[str]:
    """The names of the tools that the provider was offered."""
    match provider:
        case "openai":
            return [tool.get("name", tool["type"]) for tool in sent["tools"]]
        case "compatible":
            return [tool["function"]["name"] for tool in sent["tools"]]
        case "anthropic":
            return [tool["name"] for tool in sent["tools"]]
        case _:
            functions, *others = sent["tools"]
            return [tool["name"] for tool in functions["functionDeclarations"]] + [
                kind for one in others for kind in one
            ]


FLAT = [
    "exec_command",
    "write_stdin",
    "apply_patch",
    "view_image",
    "multi_agent_v1__close_agent",
    "multi_agent_v1__wait_agent",
    "get_goal",
    "tool_search",
]
OFFERED = {
    "openai": [
        "exec_command",
        "write_stdin",
        "apply_patch",
        "view_image",
        "multi_agent_v1",
        "get_goal",
        "tool_search",
        "web_search",
    ],
    "compatible": FLAT,
    "anthropic": [*FLAT, "web_search"],
    "gemini": [*FLAT, "googleSearch"],
}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_codex_says_what_it_has_and_loses_only_what_is_named(
    http: httpx.Client, gateway: Running, provider: str
) -> None:
    turn, items = ask_codex(http, gateway, codex(f"{provider}/echo", prompt="潮汐 🌊"))
    assert asked_path(turn.request).endswith(PATHS[provider])
    assert spoken(items).endswith("潮汐 🌊")
    assert turn.dropped == CODEX_DROPS[provider]
    assert offered(provider, turn.sent) == OFFERED[provider]
    names = {name.lower() for name in turn.request.headers}
    assert not [name for name in names if "codex" in name or name in ("originator", "session-id", "thread-id")]
    text = turn.request.body.decode()
    for said in ("You are a coding agent", "<permissions>all", "<cwd>/work</cwd>", "潮汐 🌊"):
        assert text.count(said) >= 1, said


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("tool", ["exec_command", "close_agent", "apply_patch"])
def test_a_loop_of_codex(http: httpx.Client, gateway: Running, provider: str, tool: str) -> None:
    args = {"exec_command": '{"cmd":"echo 潮"}', "close_agent": '{"target":"a1"}', "apply_patch": PATCH}[tool]
    model = f"{provider}/tools?tool={tool}&args={httpx.QueryParams({'a': args})}".replace("&args=a=", "&args=")
    _, items = ask_codex(http, gateway, codex(model))
    (call,) = [item for item in items if item["type"].endswith("_call")]
    assert call["name"] == tool
    if tool == "apply_patch":  # Codex refuses it as a function call
        assert (call["type"], call["input"]) == ("custom_tool_call", PATCH)
    else:
        assert (call["type"], json.loads(call["arguments"])) == ("function_call", json.loads(args))
    assert call.get("namespace") == ("multi_agent_v1" if tool == "close_agent" else None)
    result = {
        "type": call["type"] + "_output",
        "id": f"{'ctco' if tool == 'apply_patch' else 'fco'}_01a2137c-3bb2",
        "call_id": call["call_id"],
        "output": "Exit code: 0\nOutput:\n高潮",
    }
    turn, again = ask_codex(http, gateway, codex(model, *items, result))
    assert spoken(again) == "The tool said: Exit code: 0\nOutput:\n高潮"
    assert asked_path(turn.request).endswith(PATHS[provider])
    # A step whose model did not think has no thought to go on from with a budget, and nothing to tell of one.
    unthought = {"reasoning.summary"} if provider == "anthropic" else set()
    assert turn.dropped - {"reasoning.effort"} == CODEX_DROPS[provider] | unthought, "what came back is named as lost"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_codex_replays_what_the_model_thought(http: httpx.Client, gateway: Running, provider: str) -> None:
    """Codex sends reasoning back with `content: null`, and the items of another provider after a change of models."""
    _, items = ask_codex(http, gateway, codex(f"{provider}/reasoning"))
    thought = next(item for item in items if item["type"] == "reasoning")
    assert "".join(part["text"] for part in thought["summary"] or thought["content"]).startswith("The question")
    replayed = [{**item, "content": None} if item["type"] == "reasoning" else item for item in items]
    for other in PROVIDERS:
        turn, again = ask_codex(
            http,
            gateway,
            codex(f"{other}/echo", *replayed, {"type": "message", "role": "user", "content": "And now?"}),
        )
        assert spoken(again) == "And now?"
        own = {"openai": "gAAAAAB", "anthropic": '"signature"'}.get(other)
        if own is not None:
            assert (own in turn.request.body.decode()) == (other == provider), other
        if "encrypted_content" in thought and other != provider:
            assert "reasoning.encrypted_content" in turn.dropped, other
        assert "tgr1_" not in turn.request.body.decode(), "an envelope of ours reached a provider"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_response_repeats_only_tools_that_the_provider_has(
    http: httpx.Client, gateway: Running, provider: str
) -> None:
    body = codex(f"{provider}/echo")
    turn, _ = ask_codex(http, gateway, body)
    whole = http.post(
        "/v1/responses", json={**body, "stream": False}, headers={"authorization": f"Bearer {STRICT}"}
    ).json()
    kept = [tool for tool in body["tools"] if provider != "compatible" or tool["type"] != "web_search"]
    for response in (turn.events[0]["response"], turn.events[-1]["response"], whole):
        assert response["tools"] == kept


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("provider", [one for one in PROVIDERS if one != "openai"])
def test_codex_searches_its_tools_and_calls_what_it_found(
    http: httpx.Client, gateway: Running, provider: str, stream: bool
) -> None:
    def ask(model: str, *history: dict[str, Any]) -> list[Any]:
        if stream:
            return list(ask_codex(http, gateway, codex(model, *history))[1])
        answer = http.post(
            "/v1/responses",
            json=codex(model, *history, stream=False),
            headers={"authorization": f"Bearer {STRICT}"},
        )
        assert answer.status_code == 200, answer.text
        output: list[Any] = answer.json()["output"]
        return output

    asked = '{"query":"潮汐","limit":2}'
    items = ask(f"{provider}/tools?tool=tool_search&{httpx.QueryParams({'args': asked})}")
    (search,) = [item for item in items if item["type"].endswith("_call")]
    assert (search["type"], search["execution"], search["status"]) == ("tool_search_call", "client", "completed")
    assert (search["arguments"], search["id"][:4]) == (json.loads(asked), "tsc_")
    tide = {
        "type": "function",
        "name": "tide",
        "description": "The tide.",
        "strict": False,
        "defer_loading": True,
        "parameters": {"type": "object", "properties": {"harbour": {"type": "string"}}},
    }
    found = {
        "type": "tool_search_output",
        "call_id": search["call_id"],
        "status": "completed",
        "execution": "client",
        "tools": [{"type": "namespace", "name": "mcp__sea", "description": "", "tools": [tide]}],
    }
    history = [*items, found]
    model = f"{provider}/tools?tool=mcp__sea__tide&args=%7B%22harbour%22%3A%22Kiel%22%7D"
    items = ask(model, *history)
    said = gateway.sim.requests[-1].body.decode()
    assert "These tools can be called now: mcp__sea__tide" in said
    assert "mcp__sea__tide" in offered(provider, gateway.sim.requests[-1].json)
    # The script answers as soon as a tool has been called: the search was one.
    assert [item["type"] for item in items if item["type"] != "reasoning"] == ["message"]
    more = {"type": "message", "role": "user", "content": "Call it."}
    items = ask(model, *history, *items, more)
    (call,) = [item for item in items if item["type"].endswith("_call")]
    assert (call["type"], call["namespace"], call["name"]) == ("function_call", "mcp__sea", "tide")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_codex_may_send_its_tools_as_an_item(http: httpx.Client, gateway: Running, provider: str) -> None:
    body = codex(f"{provider}/tools?tool=exec&args=text(1)", parallel_tool_calls=False)
    del body["tools"]
    space = {
        "type": "namespace",
        "name": "functions",
        "description": "",
        "tools": [{"type": "custom", "name": "exec", "description": "Runs JavaScript."}],
    }
    item = {"type": "additional_tools", "id": "at_01a2136f", "role": "developer", "tools": [space]}
    body["input"].insert(0, item)
    _, items = ask_codex(http, gateway, body)
    (call,) = [item for item in items if item["type"].endswith("_call")]
    assert (call["type"], call["namespace"], call["name"], call["input"]) == (
        "custom_tool_call",
        "functions",
        "exec",
        "text(1)",
    )


# -- Claude Code ------------------------------------------------------------------------------------------------


def ask_claude(
    http: httpx.Client, gateway: Running, body: dict[str, Any], key: str = STRICT, header: str = "x-api-key"
) -> tuple[Turn, list[dict[str, Any]], dict[str, Any]]:
    """The turn, the blocks of the answer as Claude Code folds them, and the last delta."""
    credential = {header: f"Bearer {key}" if header == "authorization" else key}
    answer = http.post("/v1/messages?beta=true", json=body, headers={**CLAUDE_CODE_HEADERS, **credential})
    turn = Turn(answer, gateway)
    blocks: list[dict[str, Any]] = []
    for event in turn.events:
        match event["type"]:
            case "content_block_start":
                assert event["index"] == len(blocks)
                blocks.append({**event["content_block"], "_json": ""})
            case "content_block_delta":
                delta, block = event["delta"], blocks[event["index"]]
                match delta["type"]:
                    case "text_delta" | "thinking_delta":
                        member = delta["type"].removesuffix("_delta")
                        block[member] += delta[member]
                    case "signature_delta":
                        block["signature"] += delta["signature"]
                    case "input_json_delta":
                        block["_json"] += delta["partial_json"]
    for block in blocks:
        if text := block.pop("_json"):
            block["input"] = json.loads(text)
    assert turn.events[-1] == {"type": "message_stop"}
    return turn, blocks, turn.events[-2]


CLAUDE_DROPS = {
    "openai": {"context_management", "cache_control"},
    "compatible": {"context_management", "cache_control", "thinking.display"},
    "anthropic": set(),
    "gemini": {"context_management", "cache_control", "metadata.user_id", "messages[].role"},
}


@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_claude_code_says_what_it_has(http: httpx.Client, gateway: Running, provider: str, header: str) -> None:
    body = claude_code(f"{provider}/echo", prompt="潮汐 🌊")
    turn, blocks, ending = ask_claude(http, gateway, body, header=header)
    assert len(blocks) == 1
    assert blocks[0]["text"].endswith("潮汐 🌊")
    assert ending["delta"]["stop_reason"] == "end_turn"
    assert ending["usage"]["output_tokens"] > 0
    assert turn.dropped == CLAUDE_DROPS[provider]
    assert asked_path(turn.request).endswith(PATHS[provider])
    assert offered(provider, {**turn.sent, "tools": turn.sent["tools"]}) == [tool["name"] for tool in body["tools"]]
    assert STRICT not in str(turn.request.headers)
    text = turn.request.body.decode()
    for said in ("cc_version=2.1.197", "You are an agent.", "You help with software.", "Agents: one, two."):
        assert said in text, said
    if provider == "anthropic":
        assert turn.sent == {**body, "model": "echo"}
        assert turn.request.headers["anthropic-beta"] == CLAUDE_CODE_HEADERS["anthropic-beta"]
        assert turn.request.headers["anthropic-version"] == "2023-06-01"
    else:
        assert "anthropic-beta" not in turn.request.headers


@pytest.mark.parametrize("failed", [False, True])
@pytest.mark.parametrize("parallel", [1, 2])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_loop_of_claude_code(
    http: httpx.Client, gateway: Running, provider: str, parallel: int, failed: bool
) -> None:
    args = "%7B%22command%22%3A%22echo%20潮%22%7D"
    model = f"{provider}/tools?tool=Bash&parallel={parallel}&args={args}"
    _, blocks, ending = ask_claude(http, gateway, claude_code(model))
    assert ending["delta"]["stop_reason"] == "tool_use"
    calls = [block for block in blocks if block["type"] == "tool_use"]
    assert [(call["name"], call["input"]) for call in calls] == [("Bash", {"command": "echo 潮"})] * parallel
    assert len({call["id"] for call in calls}) == parallel
    results = [
        {"type": "tool_result", "tool_use_id": call["id"], "content": "高潮", "is_error": failed} for call in calls
    ]
    results[-1]["cache_control"] = {"type": "ephemeral"}
    body = claude_code(model, {"role": "assistant", "content": blocks}, {"role": "user", "content": results})
    turn, again, ending = ask_claude(http, gateway, body)
    assert ending["delta"]["stop_reason"] == "end_turn"
    assert "高潮" in again[-1]["text"]
    assert turn.request.body.decode().count("高潮") == parallel
    if failed and provider == "openai":
        assert "is_error" in turn.dropped
    elif failed and provider == "compatible":
        assert "Error: 高潮" in turn.request.body.decode()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_claude_code_replays_what_the_model_thought(http: httpx.Client, gateway: Running, provider: str) -> None:
    body = claude_code(f"{provider}/reasoning")
    assert body["thinking"] == {"type": "adaptive"}
    _, blocks, _ = ask_claude(http, gateway, body)
    assert [block["type"] for block in blocks] == ["thinking", "text"], "the last block is the result"
    assert (blocks[0]["thinking"], blocks[1]["text"]) == (THOUGHT, CONCLUSION)
    assert blocks[0]["signature"].startswith("tgr1_") == (provider != "anthropic")
    more = {"role": "user", "content": "And now?"}
    for other in PROVIDERS:
        body = claude_code(f"{other}/echo", {"role": "assistant", "content": blocks}, more)
        turn, again, _ = ask_claude(http, gateway, body)
        assert again[-1]["text"] == "And now?"
        assert "tgr1_" not in turn.request.body.decode(), "an envelope of ours reached a provider"
        lost = provider in ("openai", "anthropic") and other != provider
        assert ("thinking" in turn.dropped) == lost, "what was only shown is no loss"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_claude_code_counts(http: httpx.Client, provider: str) -> None:
    asked = claude_code(f"{provider}/echo")
    body = {name: asked[name] for name in ("model", "messages", "system", "tools", "thinking")}
    headers = {**CLAUDE_CODE_HEADERS, "x-api-key": STRICT}
    answer = http.post("/v1/messages/count_tokens?beta=true", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["input_tokens"] > 1000
    assert (answer.headers.get("tidegate-usage") == "estimated") == (provider != "anthropic")


def test_claude_code_looks_whether_somebody_is_there(http: httpx.Client) -> None:
    answer = http.head("/", headers={"user-agent": "Bun/1.4.0", "accept": "*/*"})
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_stranger_gets_the_error_of_the_api(http: httpx.Client) -> None:
    answer = http.post(
        "/v1/messages?beta=true", json=claude_code("anthropic/echo"), headers={**CLAUDE_CODE_HEADERS, "x-api-key": "no"}
    )
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")
