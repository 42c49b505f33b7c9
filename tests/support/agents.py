"""Requests in the form in which coding agents send them: every header and member that Codex CLI 0.169 and Claude Code 2.1
have, in words of our own (protocol §4.2)."""

import copy
from typing import Any

__all__ = ["CLAUDE_CODE_HEADERS", "CODEX_HEADERS", "claude_code", "codex"]

THREAD = "01a2136f-02b3-70d1-8d6f-15e4de04d6fa"
TURN = f'{{"session_id":"{THREAD}","thread_id":"{THREAD}","turn_id":"01a2136f-02c5","sandbox":"none"}}'

CODEX_HEADERS = {
    "x-codex-beta-features": "remote_compaction_v2",
    "x-codex-window-id": f"{THREAD}:0",
    "x-codex-turn-metadata": TURN,
    "x-client-request-id": THREAD,
    "session-id": THREAD,
    "thread-id": THREAD,
    "accept": "text/event-stream",
    "content-type": "application/json",
    "authorization": "Bearer unused",
    "originator": "codex_exec",
    "user-agent": "codex_exec/0.169.0 (Debian 12.0.0; x86_64) dumb (codex_exec; 0.169.0)",
}

GRAMMAR = """\
start: begin_patch hunk+ end_patch
begin_patch: "*** Begin Patch" LF
end_patch: "*** End Patch" LF?
hunk: add_hunk
add_hunk: "*** Add File: " filename LF add_line+
filename: /(.+)/
add_line: "+" /(.*)/ LF -> line
%import common.LF
"""


def _object(required: tuple[str, ...] = (), **properties: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": kind, "description": f"The {name}."} for name, kind in properties.items()},
        "required": list(required),
        "additionalProperties": False,
    }


def _function(name: str, required: tuple[str, ...] = (), **properties: str) -> dict[str, Any]:
    return {
        "type": "function",
        "name": name,
        "description": f"Does what {name} says.",
        "strict": False,
        "parameters": _object(required, **properties),
    }


CODEX_TOOLS: list[dict[str, Any]] = [
    _function("exec_command", ("cmd",), cmd="string", login="boolean", max_output_tokens="number", workdir="string"),
    _function("write_stdin", ("session_id",), chars="string", session_id="number", yield_time_ms="number"),
    {
        "type": "custom",
        "name": "apply_patch",
        "description": "Edits files. This is a tool of free text: do not wrap the patch in JSON.",
        "format": {"type": "grammar", "syntax": "lark", "definition": GRAMMAR},
    },
    _function("view_image", ("path",), path="string"),
    {
        "type": "namespace",
        "name": "multi_agent_v1",
        "description": "Tools for agents below this one.",
        "tools": [_function("close_agent", ("target",), target="string"), _function("wait_agent", targets="array")],
    },
    _function("get_goal"),
    {
        "type": "tool_search",
        "execution": "client",
        "description": "Searches tools that are not offered yet.",
        "parameters": _object(("query",), query="string", limit="number"),
    },
    {"type": "web_search", "external_web_access": True, "search_content_types": ["text", "image"]},
]


def codex(model: str, *history: dict[str, Any], prompt: str = "Say hello", **members: Any) -> dict[str, Any]:
    """A request of Codex; `history` is what came after the user's prompt."""

    def message(role: str, own: str, *texts: str) -> dict[str, Any]:
        content = [{"type": "input_text", "text": text} for text in texts]
        return {"type": "message", "id": f"msg_01a2136f-02db-7772-b041-{own:>012}", "role": role, "content": content}

    return copy.deepcopy(
        {
            "model": model,
            "stream": True,
            "input": [
                message("developer", "1", "You are a coding agent in a terminal. " * 400),
                message("developer", "2", "<skills>none</skills>", "<permissions>all</permissions>"),
                message("user", "3", "<environment_context>\n  <cwd>/work</cwd>\n</environment_context>"),
                message("user", "4", prompt),
                *history,
            ],
            "tools": CODEX_TOOLS,
            "tool_choice": "auto",
            "parallel_tool_calls": True,
            "reasoning": {"effort": "medium", "summary": "auto"},
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "prompt_cache_key": THREAD,
            "text": {"verbosity": "low"},
            "client_metadata": {"thread_id": THREAD, "x-codex-turn-metadata": TURN},
            **members,
        }
    )


CLAUDE_CODE_HEADERS = {
    "accept": "application/json",
    "content-type": "application/json",
    "user-agent": "claude-cli/2.1.197 (external, sdk-cli)",
    "x-claude-code-session-id": THREAD,
    "x-stainless-arch": "x64",
    "x-stainless-lang": "js",
    "x-stainless-os": "Linux",
    "x-stainless-package-version": "0.94.0",
    "x-stainless-retry-count": "0",
    "x-stainless-runtime": "node",
    "x-stainless-runtime-version": "v26.3.0",
    "x-stainless-timeout": "600",
    "anthropic-beta": (
        "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,"
        "prompt-caching-scope-2026-01-05,mid-conversation-system-2026-04-07,effort-2025-11-24"
    ),
    "anthropic-dangerous-direct-browser-access": "true",
    "anthropic-version": "2023-06-01",
    "x-app": "cli",
    "accept-encoding": "gzip, deflate, br, zstd",
}

_CACHED = {"cache_control": {"type": "ephemeral"}}
_NAMES = [
    "Agent",
    "Bash",
    "CronCreate",
    "CronDelete",
    "CronList",
    "Edit",
    "EnterWorktree",
    "ExitWorktree",
    "NotebookEdit",
    "Read",
    "ReportFindings",
    "ScheduleWakeup",
    "SendMessage",
    "Skill",
    "TaskCreate",
    "TaskGet",
    "TaskList",
    "TaskOutput",
    "TaskStop",
    "TaskUpdate",
    "WebFetch",
    "WebSearch",
    "Workflow",
    "Write",
]


def _claude_tool(name: str) -> dict[str, Any]:
    properties = (
        {"command": "string", "timeout": "number"} if name == "Bash" else {"path": "string", "limit": "integer"}
    )
    schema = _object(tuple(properties)[:1], **properties)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"]["mode"] = {"type": "string", "enum": ["a", "b"], "default": "a"}
    schema["properties"]["extra"] = {"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {}}
    return {"name": name, "description": f"What {name} does, at length. " * 60, "input_schema": schema}


def claude_code(model: str, *history: dict[str, Any], prompt: str = "Say hello", **members: Any) -> dict[str, Any]:
    """A request of Claude Code; `history` is what came after its first messages."""
    return copy.deepcopy(
        {
            "model": model,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "<system-reminder>\nToday is a day.\n</system-reminder>"},
                        {"type": "text", "text": prompt, **_CACHED},
                    ],
                },
                {"role": "system", "content": "Agents: one, two. " * 300},
                *history,
            ],
            "system": [
                {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.197; cc_entrypoint=sdk-cli;"},
                {"type": "text", "text": "You are an agent.", **_CACHED},
                {"type": "text", "text": "You help with software. " * 250, **_CACHED},
            ],
            "tools": [_claude_tool(name) for name in _NAMES],
            "metadata": {"user_id": f'{{"device_id":"558562fc","account_uuid":"","session_id":"{THREAD}"}}'},
            "max_tokens": 32000,
            "thinking": {"type": "adaptive"},
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            "output_config": {"effort": "high"},
            "stream": True,
            **members,
        }
    )
