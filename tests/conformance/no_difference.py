"""Members of a request that make no difference to what a provider of another API gets, and why nothing is lost with them."""

from typing import Any, Final

import msgspec

from tests.conformance.members import Case
from tests.conformance.sdk_requests import kinds

__all__ = ["ALIKE", "ALSO", "LIKE", "Like"]

ALL: Final = ("responses", "chat", "engine", "messages", "gemini")

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
    targets: tuple[str, ...] = ALL

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
