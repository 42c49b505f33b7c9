"""How much a request can use at most, as far as it says so itself: what budgets reserve before it is sent on."""

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from tidegate.wire import jsonio
from tidegate.wire.events import BYTES_PER_TOKEN
from tidegate.wire.forms import AUDIO_BYTES_PER_TOKEN

__all__ = [
    "IMAGE_TOKENS",
    "NOTHING",
    "SPOKEN_TOKENS",
    "Extent",
    "is_remarkable",
    "may_name_files",
    "reads",
    "reads_more",
    "said_bytes",
    "surcharge",
    "text_bytes",
]

SPOKEN_TOKENS: Final = 25
"""No character of a text takes longer to say than a second, and no model needs more tokens for a second of speech."""


class Extent(msgspec.Struct, frozen=True, gc=False):
    """See the module. Made by place where there is one for each request: by name it takes longer."""

    output_tokens: int | None = None
    """Most tokens of one choice; None where only the model sets an end."""
    choices: int = 1
    input_tokens: int | None = None
    """Where it is not the size of the body that no count of tokens exceeds."""
    seconds: float = 0.0
    """Of audio to be read; infinite where nobody can tell."""
    characters: int = 0
    """Of text to be spoken."""


NOTHING: Final = Extent(output_tokens=0)
"""Of a request that no tokens are made for."""

_SUSPECT: Final = re.compile(
    rb'"(?:a(?:udio|dvisor)|b(?:rowser_|uiltin_)|c(?:o(?:llections_|ntainer|de|mputer)|ached)|d(?:ata_?[sS]ources|ocument)|'
    rb"en(?:terprise|able_)|file|google|i(?:2i_|mage|n(?:put_|line))|local_shell|mcp|openrouter:|plugins|retrieval|search_|"
    rb"t(?:2i_|ool_search)|url|video|web_|x_search)"
)
"""Begins of the words that :func:`_points_elsewhere` looks for. All begin with one letter, which makes it several times as
fast; what begins with the same one is told apart behind it, which takes a third off."""

_KEYS: Final = frozenset(
    {
        "audio_url", "cachedContent", "cached_content", "codeExecution", "code_execution", "enable_search",
        "dataSources", "data_sources", "enterpriseWebSearch", "enterprise_web_search", "fileData",
        "fileSearch", "file_data", "file_id", "file_search", "file_url", "googleMaps", "googleSearch",
        "googleSearchRetrieval", "google_maps", "google_search", "google_search_retrieval", "image_url", "inlineData",
        "inline_data", "input_audio", "mcp_servers", "plugins", "search_parameters", "urlContext", "url_context", "video_url",
        "web_search_options",
    }
)  # fmt: skip
_TYPES: Final = (
    "advisor", "audio", "browser_", "builtin_function", "code_", "collections_search", "computer", "container", "document", "file",
    "i2i_search", "image", "input_audio", "input_file", "input_image", "input_video", "local_shell", "mcp", "openrouter:",
    "retrieval", "t2i_search", "tool_search", "video", "web_", "x_search",
)  # fmt: skip


_FILE: Final = "fileid://"
"""Before the id of a file within a text, which Qwen-Long reads in its stead
(https://help.aliyun.com/en/model-studio/long-context-qwen-long)."""


def may_name_files(body: bytes) -> bool:
    """Whether a text in it may stand for files that lie with the provider."""
    return body.find(b"fileid:") >= 0 or jsonio.may_escape_letters(body)


def reads_more(body: bytes) -> bool:
    """Whether a request may make the provider read more tokens than its body has bytes: it holds or names images, audio
    or files, or offers tools that the provider itself runs. In doubt it does."""
    if _SUSPECT.search(body) is None and not may_name_files(body):
        return False
    return _points_elsewhere(jsonio.anything(body))


def _points_elsewhere(value: Any) -> bool:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if not _KEYS.isdisjoint(one):
                return True
            said = one.get("audio")
            if isinstance(said, dict) and "id" in said:  # an earlier answer in chat, which the provider has kept
                return True
            kind = one.get("type")
            if isinstance(kind, str) and kind.startswith(_TYPES):
                return True
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, str) and _FILE in one:
            return True
    return False


_RUN_KEYS: Final = frozenset(
    {
        "codeExecution", "code_execution", "dataSources", "data_sources", "enable_search", "enterpriseWebSearch",
        "enterprise_web_search", "fileSearch", "file_search", "googleMaps", "googleSearch", "googleSearchRetrieval", "google_maps", "google_search",
        "google_search_retrieval", "mcp_servers", "plugins", "search_parameters", "urlContext", "url_context",
        "web_search_options",
    }
)  # fmt: skip
_RUN_TYPES: Final = (
    "advisor", "browser_", "builtin_function", "code_", "collections_search", "file_search", "i2i_search", "image_generation",
    "mcp", "openrouter:", "retrieval", "shell", "t2i_search", "tool_search", "web_", "x_search",
)  # fmt: skip
"""Tools that the provider runs by itself, in the midst of an answer."""


def reads(body: bytes) -> int | None:
    """How often a request may make the provider read as much as the model can at most: never where no count of tokens
    exceeds its bytes, once for images and the like, and once more for each use of a tool that the provider itself runs; None
    where the request sets those uses no maximum."""
    if not reads_more(body):
        return 0
    members = jsonio.anything(body)
    if not isinstance(members, dict):
        return None
    tools = members.get("tools")
    run = [_uses(tool) for tool in tools if _is_run(tool)] if isinstance(tools, list) else []
    if not _RUN_KEYS.isdisjoint(members):
        run.append(None)
    if not run:
        return 1
    most = _count(members.get("max_tool_calls"))
    if most is not None:
        return 1 + most
    uses = [one for one in run if one is not None]
    return 1 + sum(uses) if len(uses) == len(run) else None


def _is_run(tool: Any) -> bool:
    if not isinstance(tool, dict):
        return True
    kind = tool.get("type")
    return not _RUN_KEYS.isdisjoint(tool) or (isinstance(kind, str) and kind.startswith(_RUN_TYPES))


def _uses(tool: Any) -> int | None:
    return _count(tool.get("max_uses")) if isinstance(tool, dict) else None


def _count(given: Any) -> int | None:
    return given if isinstance(given, int) and not isinstance(given, bool) and given >= 0 else None


IMAGE_TOKENS: Final = 2500
"""What no image of the usual size costs more than: Anthropic takes 1,600 at most, OpenAI's dearest tiles and patches stay
below. Of how many bytes it is made says nothing of it."""

_SAMPLE: Final = re.compile(rb"[0-9A-Za-z+/=_-]{64}").match
_STRIDE: Final = 2048
"""Bytes written as text are a run of such letters and digits between two quotes: a look at every so many bytes meets it, and
costs a hundredth of what a search does."""
_AROUND: Final = 160


def text_bytes(body: bytes) -> int:
    """About as many bytes as a text has that costs as many tokens as the request: images and recordings that are embedded in
    it cost what they show, and what they last. For estimates."""
    left = size = len(body)
    at = _STRIDE
    while at < size:
        if not _SAMPLE(body, at):
            at += _STRIDE
            continue
        begin, end = body.rfind(b'"', 0, at) + 1, body.find(b'"', at)
        if end < 0:
            break
        length = end - begin
        if length >= 2 * _STRIDE and all(_SAMPLE(body, begin + length * part // 4) for part in (1, 2, 3)):
            near = body[max(0, begin - _AROUND) : begin + _AROUND] + body[end : end + _AROUND]
            if b"image" in near:
                left -= length - IMAGE_TOKENS * BYTES_PER_TOKEN
            elif b"audio" in near:
                left -= length - length * 3 // 4 // AUDIO_BYTES_PER_TOKEN * BYTES_PER_TOKEN
        at = max(at + _STRIDE, end)
    return left


_SAID: Final = re.compile(
    rb'"(?:arguments|b64_json|content|data|encrypted_content|partial_json|reasoning|reasoning_content|refusal|text|thinking)"'
    rb'\s*:\s*"([^"\\]*+(?:\\.[^"\\]*+)*+)',
    re.DOTALL,
)
_LOOKED_THROUGH: Final = 1024 * 1024


def said_bytes(pieces: Iterable[bytes], size: int) -> int:
    """About as many bytes as a model has said in an answer in one body of `size` bytes, of which the end may be missing. For
    estimates."""
    if size > _LOOKED_THROUGH:
        return size  # what stands around the words is little then, and the whole would be in memory twice
    return sum(len(found[1]) for found in _SAID.finditer(b"".join(pieces)))


_DEARER: Final = re.compile(rb'"(?:s(?:ervice_?[tT]ier|peed)|inference_geo|mode)"')
"""The names of :data:`_LISTED`, and the one in `reasoning`. A search from quote to quote passes over long texts quickly."""

_REMARKABLE: Final = re.compile(_SUSPECT.pattern[:-1] + rb"|s(?:ervice_?[tT]ier|peed)\"|inference_geo\"|mode\")")
"""Both of the above in one search."""

_LISTED: Final = {
    "service_tier": ("auto", "default", "standard", "standard_only", "on_demand", "flex", "batch"),
    "serviceTier": ("SERVICE_TIER_UNSPECIFIED", "standard", "flex", "auto"),
    "speed": ("standard",),
    "inference_geo": ("global",),
}
"""Members of a request by which a provider charges other than its list price, and the values with which it does not, or
charges less."""


def is_remarkable(body: bytes) -> bool:
    """Whether a request may be one of which :func:`reads` or :func:`surcharge` have something to say: most are not, and
    two searches tell."""
    return _REMARKABLE.search(body) is not None or may_name_files(body)


def surcharge(body: bytes) -> str | None:
    """The member by which a request asks for what costs more than the list price, such as a faster answer."""
    if _DEARER.search(body) is None and not jsonio.may_escape_letters(body):
        return None
    members = jsonio.members(body)
    for name, listed in _LISTED.items():
        if name in members and (given := jsonio.string(members[name])) is not None and given not in listed:
            return name
    # In its pro mode a model works on a question several times over, as often as it likes, and each time is charged
    # (https://developers.openai.com/api/docs/guides/reasoning).
    reasoning = jsonio.anything(members["reasoning"]) if "reasoning" in members else None
    if isinstance(reasoning, dict) and reasoning.get("mode") not in (None, "standard"):
        return "reasoning.mode"
    return None
