"""The canonical request and output: items of the Responses API, typed, which is the superset of all dialects.

Whatever a client speaks is read into these; whatever a provider speaks is written from these. A thing that only one
dialect knows stands in an `Opaque…` as it came, so that it is either carried on or refused by name, never forgotten.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from tidegate.wire import jsonio
from tidegate.wire.events import Reason, Seal, Usage

__all__ = [
    "AudioPart",
    "CanonicalRequest",
    "Choice",
    "FilePart",
    "FunctionCall",
    "FunctionOutput",
    "HostedTool",
    "ImagePart",
    "Item",
    "Message",
    "OpaqueItem",
    "OpaquePart",
    "Output",
    "OutputFormat",
    "Part",
    "Reasoning",
    "RefusalPart",
    "Role",
    "TextPart",
    "Tool",
    "ToolChoice",
    "data_url",
    "parse_data_url",
]

Role = Literal["user", "assistant", "system", "developer"]


class TextPart(msgspec.Struct, kw_only=True):
    text: str
    annotations: list[msgspec.Raw] = []
    """Annotations in the form of the Responses API (protocol §1.5)."""
    logprobs: list[msgspec.Raw] = []
    """Entries `{token, logprob, bytes, top_logprobs}`, which chat and Responses share."""
    breakpoint: bool = False
    """The client marks the end of a prefix worth caching (`cache_control`, `prompt_cache_breakpoint`)."""


class RefusalPart(msgspec.Struct, kw_only=True):
    refusal: str


class ImagePart(msgspec.Struct, kw_only=True):
    """An image in, or a generated one out. Exactly one of `url` (http, https or data) and `file_id` is set."""

    url: str = ""
    file_id: str = ""
    detail: str = ""
    breakpoint: bool = False


class FilePart(msgspec.Struct, kw_only=True):
    """A document. Exactly one of `data` (a data URL), `url`, `file_id` and `text` is set."""

    data: str = ""
    url: str = ""
    file_id: str = ""
    text: str = ""
    filename: str = ""
    breakpoint: bool = False

    @property
    def titled_text(self) -> str:
        """`text` below its name, for APIs where a document of text is a text."""
        return f"{self.filename}\n\n{self.text}" if self.filename else self.text

    @property
    def data_name(self) -> str:
        """The name of `data`, for APIs in which data has to have one; where nobody gave any, its media type tells the
        ending."""
        if self.filename:
            return self.filename
        media_type, _ = parse_data_url(self.data) or ("application/pdf", "")
        ending = media_type.rpartition("/")[2].partition("+")[0]
        return f"document.{'txt' if ending == 'plain' else ending}"


class AudioPart(msgspec.Struct, kw_only=True):
    """Audio in: base64 and its format (`wav`, `mp3`, …)."""

    data: str
    format: str


class OpaquePart(msgspec.Struct, kw_only=True):
    """A content part of a type that has no canonical form; `value` is the part as the client sent it."""

    type: str
    value: msgspec.Raw
    at: str = ""
    """Where it stands in the client's request, in the client's own words."""


Part = TextPart | RefusalPart | ImagePart | FilePart | AudioPart | OpaquePart


class Message(msgspec.Struct, kw_only=True):
    role: Role
    content: list[Part]
    id: str = ""
    name: str = ""
    """Chat's `name` of a participant."""
    phase: str = ""
    """`commentary` or `final_answer`, which clients send back as they got it."""


class FunctionCall(msgspec.Struct, kw_only=True):
    """A call of a function, or of a custom tool, whose free text stands in `arguments`."""

    call_id: str
    name: str
    arguments: str
    id: str = ""
    custom: bool = False
    namespace: str = ""


class FunctionOutput(msgspec.Struct, kw_only=True):
    """What a tool returned. A plain text is one TextPart."""

    call_id: str
    content: list[Part]
    is_error: bool = False
    custom: bool = False
    name: str = ""
    """The function's name where the client's dialect gives it; else it is found by `call_id`."""


class Reasoning(msgspec.Struct, kw_only=True):
    """A reasoning item. `encrypted` is what the client sees and sends back; `seal` is what is in it, once opened."""

    summary: list[str] = []
    content: list[str] = []
    encrypted: str = ""
    seal: Seal | None = None
    id: str = ""


class OpaqueItem(msgspec.Struct, kw_only=True):
    """An item without a canonical form (hosted tools and their like), as it came, in the Responses form."""

    type: str
    value: msgspec.Raw


Item = Message | FunctionCall | FunctionOutput | Reasoning | OpaqueItem


class Tool(msgspec.Struct, kw_only=True):
    """A function (`parameters` is its JSON schema, EMPTY when it takes nothing) or, with `custom`, a tool that takes free
    text (`format` is its grammar in the form of the Responses API, EMPTY for plain text)."""

    name: str
    description: str = ""
    parameters: msgspec.Raw = jsonio.EMPTY
    strict: bool | None = None
    custom: bool = False
    format: msgspec.Raw = jsonio.EMPTY
    breakpoint: bool = False


class HostedTool(msgspec.Struct, kw_only=True):
    """A tool that the provider runs itself. `type` and `value` are in the form of the client's dialect."""

    type: str
    value: msgspec.Raw


class ToolChoice(msgspec.Struct, kw_only=True):
    """`function` forces the one tool of `names`; `allowed` limits to `names`, and `required` says whether one must be
    called."""

    mode: Literal["auto", "none", "required", "function", "allowed"]
    names: tuple[str, ...] = ()
    required: bool = False


class OutputFormat(msgspec.Struct, kw_only=True):
    type: Literal["text", "json_object", "json_schema"]
    name: str = ""
    description: str = ""
    schema: msgspec.Raw = jsonio.EMPTY
    strict: bool | None = None


class CanonicalRequest(msgspec.Struct, kw_only=True):
    """A validated request in no dialect. None, or the empty value, means that the client did not say.

    `names` maps members of this class to the names that the client's dialect has for them, where they differ: errors
    speak the client's language. `hints` and `refused` are names of the client's members that have no canonical form:
    leaving out a hint changes no answer, or nobody here knows what it is; an answer depends on what is refused.
    """

    model: str
    instructions: str = ""
    items: list[Item]
    tools: list[Tool | HostedTool] = []
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: msgspec.Raw = jsonio.EMPTY
    top_logprobs: int | None = None
    """None: no logprobs are asked for; 0: only those of the chosen tokens."""
    format: OutputFormat | None = None
    verbosity: str = ""
    effort: str = ""
    """none, minimal, low, medium, high, xhigh or max."""
    reasoning_budget: int | None = None
    """Tokens that may be spent on reasoning, for dialects that count them; 0 switches reasoning off."""
    reasons: bool = False
    """The client wants reasoning and does not say how much: as much as is usual for the target."""
    reasoning_summary: str = ""
    """auto, concise or detailed."""
    shows_thoughts: bool = False
    """The client shows thoughts, and its API has no member to ask for them: a provider that tells them only to those who
    ask is asked, where that changes nothing else."""
    user: str = ""
    safety_identifier: str = ""
    metadata: dict[str, str] = {}
    service_tier: str = ""
    prompt_cache_key: str = ""
    stream: bool = False
    hints: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    names: Mapping[str, str] = {}
    client: str = ""
    """The client's dialect: ids of files mean nothing beyond it."""

    @property
    def limits_tokens(self) -> bool:
        """Whether `top_k` leaves any out: engines and OpenRouter say 0 or -1 for none."""
        return self.top_k is not None and self.top_k > 0


class Choice(msgspec.Struct, kw_only=True):
    """One answer. `items` are in the order in which they began: reasoning, messages, calls."""

    items: list[Item]
    reason: Reason
    stop_sequence: str = ""


class Output(msgspec.Struct, kw_only=True):
    """A whole answer; `choices` has as many entries as the request asked for."""

    choices: list[Choice]
    usage: Usage
    model: str = ""
    service_tier: str = ""
    """At which the provider made it, if it says so."""


def parse_data_url(url: str) -> tuple[str, str] | None:
    """Media type and base64 of a `data:` URL (RFC 2397); None for any other URL, or one that is not base64."""
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return None
    return head[5:-7].partition(";")[0] or "text/plain", data


def data_url(media_type: str, data: str) -> str:
    """The `data:` URL of base64 `data`."""
    return f"data:{media_type};base64,{data}"
