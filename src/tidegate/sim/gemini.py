"""Gemini: an answer as the chunks of `streamGenerateContent`, or as the body of `generateContent`."""

import base64
import hashlib
import re
from typing import Any, Final
from urllib.parse import parse_qs, unquote

import msgspec

from tidegate.sim import speech
from tidegate.sim.answer import Answer, Call
from tidegate.sim.errors import Refusal, google_error
from tidegate.sim.options import Options
from tidegate.sim.prompt import MAX_CHOICES, Prompt, Tool
from tidegate.sim.sse import DONE, Event, Stream
from tidegate.sim.stamp import Stamp, logprob, token_counts

FOREIGN_SIGNATURE = "skip_thought_signature_validator"
"""What Google takes for calls that another model made."""

_ADDRESS = re.compile(r"/v1(?:beta)?/models/(?P<model>[^/]+):(?P<method>generateContent|streamGenerateContent)")
COUNT: Final = ":countTokens"
_COUNT = re.compile(rf"/v1(?:beta)?/models/(?P<model>[^/]+){COUNT}")
_LIST = re.compile(r"/v1beta/models(?:/(?P<model>[^/:]+))?")
_REASONS = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
}
_USERS = frozenset({"args", "parameters", "parametersJsonSchema", "response", "responseJsonSchema", "responseSchema"})
"""Members whose content has names of the user's own."""
_SPELLINGS = re.compile(r"_([a-z])")


def address(path: str) -> tuple[str, bool] | None:
    """Model and whether the answer is streamed, of a path without its query; None if it is no path of this API."""
    found = _ADDRESS.fullmatch(path)
    return (unquote(found["model"]), found["method"] == "streamGenerateContent") if found else None


def counted(path: str, body: bytes) -> dict[str, Any] | None:
    """What `countTokens` says of the prompt in `body`; None for any other path. Raises Refusal."""
    found = _COUNT.fullmatch(path)
    if found is None:
        return None
    try:
        request = _spelled(msgspec.json.decode(body))
    except msgspec.DecodeError as error:
        raise Refusal(400, f"Invalid JSON payload received. {error}.") from None
    whole = request.get("generateContentRequest") if isinstance(request, dict) else None
    prompt = read(unquote(found["model"]), "", msgspec.json.encode(whole or request), stream=False)
    return {
        "totalTokens": prompt.tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt.tokens}],
    }


def listed(path: str, names: tuple[str, ...]) -> dict[str, Any] | None:
    """The list of models, or one of them, in Google's form; None for any other path. Raises Refusal."""
    found = _LIST.fullmatch(path)
    if found is None:
        return None
    if found["model"] is None:
        return {"models": list(map(_model, names))}
    if found["model"] not in names:
        raise Refusal(404, f"Model is not found: models/{found['model'][:200]}", code="model_not_found")
    return _model(found["model"])


def _model(name: str) -> dict[str, Any]:
    methods = ["generateContent", "streamGenerateContent"]
    return {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": methods}


# What a request says.


def read(model: str, query: str, body: bytes, *, stream: bool) -> Prompt:
    """The request in `body`. Raises Refusal as Google would."""
    try:
        request = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise Refusal(400, f"Invalid JSON payload received. {error}.") from None
    if not isinstance(request, dict):
        raise Refusal(400, "Invalid JSON payload received. It is not an object.")
    if stream and parse_qs(query).get("alt") != ["sse"]:
        raise Refusal(400, "The sim streams with alt=sse only.", param="alt")
    request = _spelled(request)
    contents = request.get("contents")
    if not isinstance(contents, list) or not contents or not all(map(_is_content, contents)):
        raise Refusal(400, "* GenerateContentRequest.contents: contents is not specified", param="contents")
    config = _object(request.get("generationConfig"))
    said = [_text(content) for content in contents]
    asked = [
        _heard(content) or text
        for text, content in zip(said, contents, strict=True)
        if content.get("role") != "model" and text
    ]
    results = [one["functionResponse"] for one in contents[-1]["parts"] if "functionResponse" in one]
    count = _whole(config, "candidateCount") or 1
    if not 1 <= count <= MAX_CHOICES:
        raise Refusal(400, "* GenerateContentRequest.generation_config.candidate_count: out of range")
    speech.wants_audio(request)
    system = _object(request.get("systemInstruction"))
    return Prompt(
        endpoint="gemini",
        model=model,
        body=request,
        texts=(asked[-1] if asked else "",),
        tokens=max(1, sum(-(-len(text) // 4) for text in (*said, _text(system)))),
        tools=_tools(request),
        tool_result=_result(results[-1]) if results else None,
        n=count,
        stops=tuple(stop for stop in _array(config.get("stopSequences")) if isinstance(stop, str)),
        limit=_whole(config, "maxOutputTokens"),
        stream=stream,
        include_usage=True,
        logprobs=_whole(config, "logprobs") or 0 if config.get("responseLogprobs") else None,
    )


def check_signatures(prompt: Prompt) -> None:
    """The first call of each step in the current turn brings back the signature that it had, as Gemini 3 demands, and no
    part has one that is not the sim's own.

    Raises Refusal."""
    contents = prompt.body["contents"]
    turn = 0
    for place, content in enumerate(contents):
        for part in content["parts"]:
            given = part.get("thoughtSignature")
            if given is not None and given != FOREIGN_SIGNATURE and not _is_digest(given):
                raise Refusal(400, f"Thought signature is not valid. position {place + 1}")
    for place, content in enumerate(contents):
        if content.get("role") != "model" and not any("functionResponse" in part for part in content["parts"]):
            turn = place
    for place in range(turn, len(contents)):
        called = [part for part in contents[place]["parts"] if "functionCall" in part]
        if not called or (place and contents[place - 1].get("role") == "model"):
            continue  # clients keep each chunk of an answer as a content of its own
        signature = called[0].get("thoughtSignature")
        call = _object(called[0]["functionCall"])
        where = f"function call `{call.get('name')}`, position {place + 1}"
        if signature is None:
            raise Refusal(400, f"Function call is missing a thought_signature in functionCall parts. {where}")
        if signature not in (FOREIGN_SIGNATURE, _signature(call.get("name"), call.get("args") or {})):
            raise Refusal(400, f"Thought signature is not valid. {where}")


def _signature(name: Any, args: Any) -> str:
    """Depends on the call, so that one on another call, or one that has changed, shows."""
    written = msgspec.json.encode([name, args], order="sorted")
    return base64.b64encode(hashlib.sha256(b"tide" + written).digest()).decode()


def _is_digest(signature: Any) -> bool:
    """Google's own client writes base64 in the alphabet of URLs."""
    try:
        return len(base64.b64decode(str(signature).replace("-", "+").replace("_", "/"), validate=True)) == 32
    except ValueError:
        return False


def _is_content(content: Any) -> bool:
    parts = content.get("parts") if isinstance(content, dict) else None
    return isinstance(parts, list) and bool(parts) and all(isinstance(part, dict) for part in parts)


def _spelled(value: Any) -> Any:
    """Google's own members in camel case; official clients mix both spellings."""
    if isinstance(value, list):
        return [_spelled(one) for one in value]
    if not isinstance(value, dict):
        return value
    renamed = {_SPELLINGS.sub(lambda found: found[1].upper(), name): inner for name, inner in value.items()}
    return {name: inner if name in _USERS else _spelled(inner) for name, inner in renamed.items()}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _array(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _whole(config: dict[str, Any], name: str) -> int | None:
    value = config.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise Refusal(400, f"Invalid value at 'generation_config.{name}'")


def _text(content: dict[str, Any]) -> str:
    parts = content.get("parts")
    if isinstance(parts, dict):
        parts = [parts]
    if not isinstance(parts, list):
        return ""
    return "".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def _heard(content: dict[str, Any]) -> str:
    """What `echo` says of a recording; empty where there is none."""
    for part in content["parts"]:
        audio = _object(part.get("inlineData"))
        if str(audio.get("mimeType")).startswith(("audio/", "video/")):
            data = base64.b64decode(audio.get("data", ""), validate=True)
            return f"{audio['mimeType']} {len(data)} {hashlib.sha256(data).hexdigest()}"
    return ""


def _result(response: Any) -> str:
    given = _object(_object(response).get("response"))
    for name in ("output", "result", "error"):
        if isinstance(given.get(name), str):
            return str(given[name])
    return msgspec.json.encode(given).decode()


def _tools(request: dict[str, Any]) -> tuple[Tool, ...]:
    calling = _object(_object(request.get("toolConfig")).get("functionCallingConfig"))
    allowed = calling.get("allowedFunctionNames")
    offered = request.get("tools")
    if calling.get("mode") == "NONE" or not isinstance(offered, list):
        return ()
    tools: list[Tool] = []
    for tool in offered:
        for declared in map(_object, _array(_object(tool).get("functionDeclarations"))):
            if not isinstance(declared.get("name"), str):
                raise Refusal(400, "* GenerateContentRequest.tools: function_declarations.name is not specified")
            schema = declared.get("parametersJsonSchema") or _lowered(declared.get("parameters"))
            if not allowed or declared["name"] in allowed:
                tools.append(Tool(declared["name"], _object(schema)))
    return tuple(tools)


def _lowered(schema: Any) -> Any:
    """Google's older schemas write types in capitals."""
    if isinstance(schema, list):
        return [_lowered(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: value.lower() if name == "type" and isinstance(value, str) else _lowered(value)
        for name, value in schema.items()
    }


# What an answer says.


def stream(answers: list[Answer], prompt: Prompt, options: Options, stamp: Stamp) -> Stream:
    """The chunks in Google's order; those of several candidates alternate."""
    columns = [_parts(answer, prompt, options, stamp, index) for index, answer in enumerate(answers)]
    events: list[Event] = []
    for turn in range(max(map(len, columns))):
        for index, column in enumerate(columns):
            if turn < len(column):
                events.append(_chunk([_candidate(index, [column[turn]], prompt)], prompt, stamp))
    usage = _usage(answers, prompt, options)
    finished = [index for index, answer in enumerate(answers) if answer.finish != "none"]
    for index in finished:
        last = _candidate(index, [_closing(answers[index], options)], prompt, answers[index])
        more = {"usageMetadata": usage} if usage is not None and index == finished[-1] else {}
        events.append(_chunk([last], prompt, stamp, **more))
    if options.done:
        events.append(DONE)
    return Stream(events, min(1, len(events)))


def body(answers: list[Answer], prompt: Prompt, options: Options, stamp: Stamp) -> dict[str, Any]:
    """The whole answer as one object."""
    candidates = []
    for index, answer in enumerate(answers):
        parts = _joined(_parts(answer, prompt, options, stamp, index))
        candidates.append(_candidate(index, parts or [_closing(answer, options)], prompt, answer))
    usage = _usage(answers, prompt, options)
    return {
        "candidates": candidates,
        **({} if usage is None else {"usageMetadata": usage}),
        **_identity(prompt, stamp),
    }


def failure(options: Options, stamp: Stamp, prompt: Prompt, *, in_chunk: bool) -> list[Event]:
    """The events of a failure in the stream: an error alone, or (`in_chunk`) a finish reason that reports a break."""
    if not in_chunk:
        message = options.message or "An internal error has occurred."
        return [Event({"error": google_error(500, message, kind=options.type, code=options.code)})]
    broken = {"finishReason": "MALFORMED_FUNCTION_CALL", "index": 0}
    if options.message:
        broken["finishMessage"] = options.message
    return [_chunk([broken], prompt, stamp)]


def _chunk(candidates: list[dict[str, Any]], prompt: Prompt, stamp: Stamp, **more: Any) -> Event:
    return Event({"candidates": candidates, **more, **_identity(prompt, stamp)})


def _identity(prompt: Prompt, stamp: Stamp) -> dict[str, Any]:
    return {"modelVersion": prompt.model, "responseId": stamp.seed[:22]}


def _candidate(index: int, parts: list[dict[str, Any]], prompt: Prompt, ended: Answer | None = None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}}
    if ended is not None and ended.finish != "none":
        candidate["finishReason"] = "SAFETY" if ended.refusal else _REASONS[ended.finish]
    text = "".join(part.get("text", "") for part in parts if not part.get("thought"))
    if prompt.logprobs is not None and text:
        candidate["logprobsResult"] = _logprobs(text, prompt.logprobs)
    return {**candidate, "index": index}


def _parts(answer: Answer, prompt: Prompt, options: Options, stamp: Stamp, choice: int) -> list[dict[str, Any]]:
    """Thoughts are told only to who asks, and a refusal is not told at all."""
    config = _object(prompt.body.get("generationConfig"))
    thinking = _object(config.get("thinkingConfig"))
    parts: list[dict[str, Any]] = []
    if thinking.get("includeThoughts"):
        parts.extend({"text": piece, "thought": True} for piece in answer.reasoning)
    if speech.wants_audio(prompt.body):
        return speech.google_parts(answer, options)
    parts.extend({"text": piece} for piece in answer.text)
    for index, call in enumerate(answer.calls):
        parts.append(_call(call, options, stamp.call_id(choice * 64 + index), first=index == 0))
    return parts


def _call(call: Call, options: Options, call_id: str, *, first: bool) -> dict[str, Any]:
    try:
        args = msgspec.json.decode("".join(call.arguments))
    except msgspec.DecodeError:
        args = {}
    args = args if isinstance(args, dict) else {}
    if not options.signatures:
        return {"functionCall": {"name": call.name, "args": args}}
    part: dict[str, Any] = {"functionCall": {"id": call_id, "name": call.name, "args": args}}
    if first:
        part["thoughtSignature"] = _signature(call.name, args)
    return part


def _closing(answer: Answer, options: Options) -> dict[str, Any]:
    """The empty text at the end, on which a signature comes if no call had it."""
    if not options.signatures or answer.calls:
        return {"text": ""}
    return {"text": "", "thoughtSignature": _signature("", "".join(answer.text))}


def _joined(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adjacent texts of one kind as one part."""
    joined: list[dict[str, Any]] = []
    for part in parts:
        last = joined[-1] if joined else {}
        if "text" in part and "text" in last and part.get("thought") == last.get("thought"):
            joined[-1] = {**last, "text": last["text"] + part["text"]}
        else:
            joined.append(part)
    return joined


def _logprobs(text: str, top: int) -> dict[str, Any]:
    entry = logprob(text, top)
    chosen = {"token": entry["token"], "logProbability": entry["logprob"]}
    others = [{"token": one["token"], "logProbability": one["logprob"]} for one in entry["top_logprobs"]]
    return {"chosenCandidates": [chosen], "topCandidates": [{"candidates": others}]}


def _usage(answers: list[Answer], prompt: Prompt, options: Options) -> dict[str, Any] | None:
    counts = token_counts(answers, prompt.tokens, options)
    if counts is None:
        return None
    prompted, completed, reasoned = counts
    usage = {"promptTokenCount": prompted, "candidatesTokenCount": completed - reasoned}
    if reasoned:
        usage["thoughtsTokenCount"] = reasoned
    return {**usage, "totalTokenCount": prompted + completed}
