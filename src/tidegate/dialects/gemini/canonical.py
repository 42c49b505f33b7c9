"""A `generateContent` request → the canonical request (protocol §5.1)."""

import base64
import contextlib
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from tidegate.dialects.gemini.contents import FOREIGN_SIGNATURE
from tidegate.dialects.gemini.decoder import OPAQUE_PREFIX
from tidegate.dialects.gemini.openapi import json_schema
from tidegate.dialects.gemini.schema import (
    Blob,
    Content,
    FileData,
    FunctionCall,
    FunctionCallingConfig,
    FunctionDeclaration,
    FunctionResponse,
    FunctionResponsePart,
    GeminiBody,
    GenerationConfig,
    Part,
    ThinkingConfig,
    ToolConfig,
    listed,
)
from tidegate.dialects.gemini.searching import is_search_part, search_item
from tidegate.dialects.gemini.shapes import CONTENTS, DECLARATIONS, MEMBERS, RESPONSE_FORMAT
from tidegate.dialects.leftovers import Leftovers
from tidegate.dialects.validation import invalid
from tidegate.dialects.websearch import CALL
from tidegate.wire import items, jsonio

__all__ = ["canonical", "check", "standard_base64"]

_NAMES: Final = {
    CALL: "contents[].parts[].toolCall",
    "items": "contents",
    "instructions": "systemInstruction",
    "tool_choice": "toolConfig.functionCallingConfig",
    "user": "labels",
    "metadata": "labels",
    "service_tier": "serviceTier",
    "max_output_tokens": "generationConfig.maxOutputTokens",
    "temperature": "generationConfig.temperature",
    "top_p": "generationConfig.topP",
    "top_k": "generationConfig.topK",
    "stop": "generationConfig.stopSequences",
    "n": "generationConfig.candidateCount",
    "seed": "generationConfig.seed",
    "frequency_penalty": "generationConfig.frequencyPenalty",
    "presence_penalty": "generationConfig.presencePenalty",
    "top_logprobs": "generationConfig.logprobs",
    "format": "generationConfig.responseMimeType",
    "filename": "displayName",
    "effort": "generationConfig.thinkingConfig.thinkingLevel",
    "reasoning_budget": "generationConfig.thinkingConfig.thinkingBudget",
    "reasoning_summary": "generationConfig.thinkingConfig.includeThoughts",
    "said_media": "contents[].parts[].inlineData",
    "reasoning_items": "thoughtSignature",
    "reasoning.encrypted_content": "thoughtSignature",
}

_REFUSED: Final = frozenset({"audioTimestamp", "imageConfig", "retrievalConfig", "speechConfig"})
"""Members within `generationConfig` and `toolConfig` that have no canonical form, and on which an answer depends."""


def _members_of(struct: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(field.encode_name for field in msgspec.structs.fields(struct))


_TOP: Final = _members_of(GeminiBody) | {"model"}
_JSON_SCHEMA: Final = "_responseJsonSchema"
"""Another name of `responseJsonSchema`, which Google's reference prefers."""
_CONFIG: Final = _members_of(GenerationConfig) | {"responseFormat", _JSON_SCHEMA}
_FORMATS: Final = "generationConfig.responseFormat"
_THINKING: Final = _members_of(ThinkingConfig)
_CALLING: Final = _members_of(FunctionCallingConfig)
_DATA: Final = _members_of(Part)
_MAIN: Final = _DATA - {"thought", "thoughtSignature"}

_NUMBER: Final = re.compile(r"\[\d+\]")

_AS_NEEDED: Final = -1
"""The `thinkingBudget` that the model finds itself (ai.google.dev/gemini-api/docs/thinking#set-budget)."""

_LEVELS: Final = {"MINIMAL": "minimal", "LOW": "low", "MEDIUM": "medium", "HIGH": "high", "XHIGH": "xhigh"}
_TIERS: Final = {"standard": "default", "unspecified": "", "service_tier_unspecified": ""}

_AUDIO_FORMATS: Final = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav", "x-m4a": "m4a"}


class _RawContent(msgspec.Struct):
    parts: list[jsonio.Members] | jsonio.Members | None = None


class _RawBody(msgspec.Struct, rename="camel"):
    contents: list[_RawContent] | _RawContent
    tools: list[jsonio.Members] | jsonio.Members | None = None
    tool_config: jsonio.Members | None = None
    generation_config: jsonio.Members | None = None


_raw_body = jsonio.decoder(_RawBody)
_string = jsonio.decoder(str)


def canonical(body: bytes, typed: GeminiBody, model: str, *, stream: bool) -> items.CanonicalRequest:
    """All that the client asked for. `body` is in camel case. Raises InvalidRequest."""
    raw = jsonio.decode(body, _raw_body)
    names = dict(_NAMES)
    left = Leftovers()
    members = jsonio.members(body)
    left.read(members.items(), _TOP)
    if typed.safety_settings:
        left.hint("safetySettings")
    if typed.cached_content:
        left.refuse("cachedContent")
    left.look(members["contents"], CONTENTS, "contents")
    for name, shape in MEMBERS.items():
        if name in members:
            left.look(members[name], shape, name)
    conversation = _Conversation(left)
    for place, (content, shown) in enumerate(zip(listed(typed.contents), listed(raw.contents), strict=True)):
        conversation.add(place, content, listed(shown.parts))
    request = items.CanonicalRequest(
        client="gemini",
        model=model,
        instructions=_instructions(typed.system_instruction),
        items=conversation.items,
        tools=_tools(typed, listed(raw.tools), left),
        tool_choice=_tool_choice(typed.tool_config, raw.tool_config or {}, left),
        metadata=dict(typed.labels or {}),
        service_tier=_tier(typed.service_tier),
        stream=stream,
        names=names,
    )
    if typed.generation_config is not None:
        _configure(request, names, typed.generation_config, raw.generation_config or {}, left)
    request.hints = left.names
    request.refused = tuple(left.refused)
    return request


def _instructions(given: Content | str | None) -> str:
    if given is None or isinstance(given, str):
        return given or ""
    parts = listed(given.parts)
    for place, part in enumerate(parts):
        if part.text is None:
            raise invalid(f"systemInstruction.parts[{place}]", "a system instruction has only text.")
    return "\n".join(part.text or "" for part in parts)


# -- the conversation -------------------------------------------------------------------------------------------------


class _Conversation:
    """Contents, part by part, as items. Calls without an id get one from their number in the conversation, which stays
    the same while the conversation grows; results find their call by id, else by name and order."""

    def __init__(self, left: Leftovers) -> None:
        self.items: list[items.Item] = []
        self._left = left
        self._message: items.Message | None = None
        self._role = ""
        self._waiting: list[tuple[str, str]] = []
        """Id and name of the calls that have no result yet."""
        self._calls = 0

    def add(self, place: int, content: Content, shown: list[jsonio.Members]) -> None:
        role = content.role or "user"
        if role != "model" or self._role != "model":
            self._message = None  # Google's clients keep each chunk of a stream as a content; one answer is one message
        self._role = role
        if role not in ("user", "model", "function"):
            raise invalid(f"contents[{place}].role", f"{role[:64]!r} is not allowed; expected 'user' or 'model'.")
        for number, (part, members) in enumerate(zip(listed(content.parts), shown, strict=True)):
            self._add_part(f"contents[{place}].parts[{number}]", role, part, members)

    def _add_part(self, where: str, role: str, part: Part, members: jsonio.Members) -> None:
        main = [name for name in members if name in _MAIN and not jsonio.is_null(members[name])]
        if len(main) > 1:
            raise invalid(where, f"a part has one kind of content, and this one has {' and '.join(sorted(main))}.")
        if not main:
            self._add_other(where, role, part, members)
            return
        if "videoMetadata" in members and not jsonio.is_null(members["videoMetadata"]):
            self._left.refuse(f"{where}.videoMetadata")
        signature = _signature(part.thought_signature)
        if part.function_call is not None:
            self._seal(signature)
            self._add_call(part.function_call)
        elif part.function_response is not None:
            self._add_result(where, part.function_response)
        elif part.thought is True and part.text is not None:
            self._add_thought(part.text, signature)
        elif part.text == "" and part.thought_signature is not None:
            self._seal(signature)
        else:
            if part.thought is True:
                self._left.hint(f"{where}.thought")  # elsewhere only words are thoughts
            if signature:
                self._seal(signature)
            self._add_said(role, self._said(part, where))
            if signature:
                self._message = None

    def _add_said(self, role: str, part: items.Part) -> None:
        if self._message is None:
            self._message = items.Message(role="assistant" if role == "model" else "user", content=[])
            self.items.append(self._message)
        content = self._message.content
        last = content[-1] if content else None
        if role == "model" and isinstance(part, items.TextPart) and isinstance(last, items.TextPart):
            last.text += part.text
        else:
            content.append(part)

    def _add_thought(self, text: str, signature: str) -> None:
        self._message = None
        last = self.items[-1] if self.items else None
        if isinstance(last, items.Reasoning) and not last.encrypted:
            last.summary = ["".join(last.summary) + text]
            last.encrypted = signature
        else:
            self.items.append(items.Reasoning(summary=[text] if text else [], encrypted=signature))

    def _seal(self, signature: str) -> None:
        """A signature on a part without thoughts stands in a reasoning item before it, or in the one that is there."""
        self._message = None
        if not signature:
            return
        last = self.items[-1] if self.items else None
        if isinstance(last, items.Reasoning) and not last.encrypted:
            last.encrypted = signature
        else:
            self.items.append(items.Reasoning(encrypted=signature))

    def _add_call(self, call: FunctionCall) -> None:
        self._message = None
        call_id = call.id or f"call_gemini_{self._calls}"
        self._calls += 1
        self._waiting.append((call_id, call.name))
        arguments = _json_text(call.args or {})
        self.items.append(items.FunctionCall(call_id=call_id, name=call.name, arguments=arguments))

    def _add_result(self, where: str, result: FunctionResponse) -> None:
        self._message = None
        found = next((one for one in self._waiting if result.id and one[0] == result.id), None)
        if found is None:
            found = next((one for one in self._waiting if one[1] == result.name), None)
        if found is not None:
            self._waiting.remove(found)
        elif not result.id:
            raise invalid(
                f"{where}.functionResponse", f"no call of a function {result.name[:64]!r} waits for a result."
            )
        call_id = found[0] if found is not None else result.id or ""
        text, is_error = _result_text(result.response or {})
        content: list[items.Part] = [items.TextPart(text=text)] if result.response or not result.parts else []
        for number, part in enumerate(result.parts or ()):
            content.extend(self._returned(part, f"{where}.functionResponse.parts[{number}]"))
        self.items.append(items.FunctionOutput(call_id=call_id, content=content, is_error=is_error, name=result.name))

    def _returned(self, part: FunctionResponsePart, where: str) -> Iterator[items.Part]:
        """Mostly one; Google says of no part here that it cannot have two."""
        if part.text is not None:
            yield items.TextPart(text=part.text)
        if part.inline_data is not None:
            yield self._said(msgspec.structs.replace(part, file_data=None), where)
        if part.file_data is not None:
            yield self._said(msgspec.structs.replace(part, inline_data=None), where)

    def _said(self, part: Part | FunctionResponsePart, where: str) -> items.Part:
        """Only a file has a name elsewhere."""
        data = part.inline_data or part.file_data
        if data is None:
            return items.TextPart(text=getattr(part, "text", None) or "")
        said = _blob(data) if isinstance(data, Blob) else _file(data)
        if data.display_name and not isinstance(said, items.FilePart):
            member = "inlineData" if isinstance(data, Blob) else "fileData"
            self._left.hint(f"{where}.{member}.displayName")
        return said

    def _add_other(self, where: str, role: str, part: Part, members: jsonio.Members) -> None:
        names = [
            name
            for name, value in members.items()
            if name not in _DATA and name != "partMetadata" and not jsonio.is_null(value)
        ]
        if not names:
            if part.thought_signature is None:
                raise invalid(
                    where, "a part has 'text', 'inlineData', 'fileData', 'functionCall' or 'functionResponse'."
                )
            self._seal(_signature(part.thought_signature))
            return
        self._message = None
        if is_search_part(members):
            self.items.append(items.OpaqueItem(type=CALL, value=search_item("", [members])))
            return
        if role != "model":
            self._add_said(role, items.OpaquePart(type=names[0], value=jsonio.raw(members), at=where))
            return
        kind = OPAQUE_PREFIX + names[0]
        self.items.append(items.OpaqueItem(type=kind, value=jsonio.raw({"type": kind, "part": members})))


def _blob(blob: Blob) -> items.Part:
    kind, _, form = blob.mime_type.partition("/")
    data = standard_base64(blob.data)
    if kind == "audio":
        form = form.partition(";")[0]
        return items.AudioPart(data=data, format=_AUDIO_FORMATS.get(form, form))
    url = items.data_url(blob.mime_type, data)
    if kind == "image":
        return items.ImagePart(url=url)
    return items.FilePart(data=url, filename=blob.display_name or "")


def _file(file: FileData) -> items.Part:
    if file.mime_type is not None and file.mime_type.startswith("image/"):
        return items.ImagePart(url=file.file_uri)
    return items.FilePart(url=file.file_uri, filename=file.display_name or "")


def standard_base64(data: str) -> str:
    """Proto JSON takes the alphabet of URLs as well, and leaves out padding; data URLs know one form."""
    data = data.rstrip("=").replace("-", "+").replace("_", "/")
    return data + "=" * (-len(data) % 4)


def _signature(given: str | None) -> str:
    """The envelope that our encoder put into base64; a signature of Google's own stays as it is, for who can read it."""
    if not given or given == FOREIGN_SIGNATURE:
        return ""
    try:
        text = base64.b64decode(standard_base64(given), validate=True).decode("ascii")
    except ValueError:  # of no base64, and of what is no ASCII before or behind it
        return given
    return text if text.isprintable() else given


def _result_text(response: jsonio.Members) -> tuple[str, bool]:
    """A response object that only wraps a text (`output`, `result` or `error`) is that text; any other is its JSON."""
    if len(response) == 1:
        ((name, value),) = response.items()
        if bytes(value).startswith(b'"') and name in ("output", "result", "error"):
            return jsonio.decode(value, _string), name == "error"
        if name == "output":
            return _json_text(value), False
    return _json_text(response), False


def _json_text(value: Any) -> str:
    """Google's clients escape everything outside ASCII; a model that reads JSON as text is spared that."""
    text = jsonio.encode(value)
    if b"\\u" in text:
        with contextlib.suppress(jsonio.InvalidJSON, jsonio.SchemaMismatch):
            text = jsonio.encode(jsonio.anything(text))
    return text.decode()


# -- tools ------------------------------------------------------------------------------------------------------------


def _tools(typed: GeminiBody, shown: list[jsonio.Members], left: Leftovers) -> list[items.Tool | items.HostedTool]:
    tools: list[items.Tool | items.HostedTool] = []
    for place, (tool, members) in enumerate(zip(listed(typed.tools), shown, strict=True)):
        for number, declared in enumerate(tool.function_declarations or ()):
            tools.append(_declared(f"tools[{place}].functionDeclarations[{number}]", declared, left))
        if "functionDeclarations" in members:
            at = "tools[].functionDeclarations"
            left.look(members["functionDeclarations"], DECLARATIONS, at, numbered=False)
        tools.extend(
            items.HostedTool(type=name, value=jsonio.raw({name: value}))
            for name, value in members.items()
            if name != "functionDeclarations" and not jsonio.is_null(value)
        )
    return tools


def _declared(where: str, declared: FunctionDeclaration, left: Leftovers) -> items.Tool:
    parameters = declared.parameters_json_schema
    if jsonio.is_null(parameters):
        parameters = jsonio.EMPTY
        if not jsonio.is_null(declared.parameters):
            parameters = _schema(f"{where}.parameters", declared.parameters, left)
    elif not jsonio.is_null(declared.parameters):
        left.hint("tools[].functionDeclarations[].parameters")
    return items.Tool(name=declared.name, description=declared.description or "", parameters=parameters)


def _schema(where: str, schema: msgspec.Raw, left: Leftovers) -> msgspec.Raw:
    try:
        converted, lost = json_schema(schema)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        raise invalid(where, "expected an object.", "invalid_type") from None
    except RecursionError:
        raise invalid(where, "the schema is nested too deeply.") from None
    for name in lost:
        left.hint(f"{_NUMBER.sub('[]', where)}.{name}")
    return converted


def _tool_choice(typed: ToolConfig | None, shown: jsonio.Members, left: Leftovers) -> items.ToolChoice | None:
    left.read(shown.items(), ("functionCallingConfig",), _REFUSED, at="toolConfig.")
    config = typed.function_calling_config if typed is not None else None
    if config is None:
        return None
    left.read(jsonio.members(shown["functionCallingConfig"]).items(), _CALLING, at="toolConfig.functionCallingConfig.")
    mode = (config.mode or "AUTO").upper()
    names = tuple(config.allowed_function_names or ())
    if mode == "ANY":
        if len(names) == 1:
            return items.ToolChoice(mode="function", names=names)
        return (
            items.ToolChoice(mode="allowed", names=names, required=True) if names else items.ToolChoice(mode="required")
        )
    if mode == "NONE":
        return items.ToolChoice(mode="none")
    if mode == "VALIDATED":
        left.hint("toolConfig.functionCallingConfig.mode")
    elif mode not in ("AUTO", "MODE_UNSPECIFIED"):
        raise invalid(
            "toolConfig.functionCallingConfig.mode",
            f"{mode[:64]!r} is not allowed; expected one of 'AUTO', 'ANY', 'NONE', 'VALIDATED'.",
        )
    return items.ToolChoice(mode="allowed", names=names) if names else items.ToolChoice(mode="auto")


# -- the rest ---------------------------------------------------------------------------------------------------------


def _tier(given: str | None) -> str:
    tier = (given or "").lower().removeprefix("service_tier_")
    return _TIERS.get(tier, tier)


def _configure(
    request: items.CanonicalRequest,
    names: dict[str, str],
    config: GenerationConfig,
    shown: jsonio.Members,
    left: Leftovers,
) -> None:
    request.temperature = config.temperature
    request.top_p = config.top_p
    request.top_k = None if config.top_k is None else int(config.top_k)
    request.max_output_tokens = config.max_output_tokens
    request.stop = tuple(config.stop_sequences or ())
    request.n = config.candidate_count or 1
    request.seed = config.seed
    request.frequency_penalty = config.frequency_penalty
    request.presence_penalty = config.presence_penalty
    if config.response_logprobs:
        request.top_logprobs = config.logprobs or 0
        if config.logprobs is None:
            names["top_logprobs"] = "generationConfig.responseLogprobs"
    elif config.logprobs:
        left.hint("generationConfig.logprobs")
    left.read(shown.items(), _CONFIG, _REFUSED, at="generationConfig.")
    if any(one.upper() not in ("TEXT", "MODALITY_UNSPECIFIED") for one in config.response_modalities or ()):
        left.refuse("generationConfig.responseModalities")
    request.format = _format(config, shown, left)
    if not config.response_mime_type:
        names["format"] = _FORMATS
    thinking = config.thinking_config
    if thinking is not None:
        left.read(jsonio.members(shown["thinkingConfig"]).items(), _THINKING, at="generationConfig.thinkingConfig.")
        budget = thinking.thinking_budget
        request.reasoning_budget = budget if budget is not None and budget >= 0 else None
        if budget == _AS_NEEDED:
            request.reasons = True
            names["reasons"] = names["reasoning_budget"]
        request.effort = _LEVELS.get((thinking.thinking_level or "").upper(), "")
        request.reasoning_summary = "auto" if thinking.include_thoughts else ""


class _TextFormat(msgspec.Struct, rename="camel"):
    mime_type: str | None = None
    schema: msgspec.Raw = jsonio.EMPTY


class _ResponseFormat(msgspec.Struct):
    text: _TextFormat


_response_format = jsonio.decoder(_ResponseFormat)


def _format(config: GenerationConfig, shown: jsonio.Members, left: Leftovers) -> items.OutputFormat | None:
    formats = shown.get("responseFormat", jsonio.NULL)
    mime = config.response_mime_type or ""
    schema = config.response_json_schema
    if jsonio.is_null(schema):
        schema = shown.get(_JSON_SCHEMA, jsonio.EMPTY)
    if not jsonio.is_null(schema) and not jsonio.is_null(config.response_schema):
        left.hint("generationConfig.responseSchema")
    elif not jsonio.is_null(config.response_schema):
        schema = _schema("generationConfig.responseSchema", config.response_schema, left)
    if not jsonio.is_null(formats):
        try:
            (one,) = jsonio.elements(formats) if bytes(formats).lstrip()[:1] == b"[" else [formats]
            asked = jsonio.decode(one, _response_format)
        except (ValueError, jsonio.SchemaMismatch):
            left.refuse(_FORMATS)
        else:
            left.look(formats, RESPONSE_FORMAT, _FORMATS, numbered=False)
            mime, schema = asked.text.mime_type or mime, asked.text.schema or schema
    if mime in ("", "text/plain"):
        if not jsonio.is_null(schema):
            raise invalid("generationConfig.responseMimeType", "a schema needs 'application/json' here.")
        return None
    if mime != "application/json":
        left.refuse("generationConfig.responseMimeType" if mime == config.response_mime_type else _FORMATS)
        return None
    if jsonio.is_null(schema):
        return items.OutputFormat(type="json_object")
    return items.OutputFormat(type="json_schema", name="response", schema=schema)


def check(typed: GeminiBody) -> None:
    """What the schema alone does not say. Raises InvalidRequest naming the member."""
    config = typed.generation_config
    thinking = config.thinking_config if config is not None else None
    level: Any = thinking.thinking_level if thinking is not None else None
    if level is not None and level.upper() not in (*_LEVELS, "THINKING_LEVEL_UNSPECIFIED"):
        raise invalid(
            "generationConfig.thinkingConfig.thinkingLevel",
            f"{level[:64]!r} is not allowed; expected one of {', '.join(repr(one) for one in _LEVELS)}.",
        )
