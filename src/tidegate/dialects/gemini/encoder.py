"""Canonical events and outputs → what `generateContent` and `streamGenerateContent` answer (protocol §5.2)."""

import base64
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from tidegate.dialects.codec import json_object_or_none
from tidegate.dialects.dialect import Call, Destination
from tidegate.dialects.gemini.answer import error_body, usage_metadata
from tidegate.dialects.gemini.decoder import OPAQUE_PREFIX
from tidegate.dialects.gemini.framing import Framing
from tidegate.dialects.gemini.searching import queries_of
from tidegate.dialects.sources import Spoken, moved
from tidegate.dialects.websearch import CALL
from tidegate.wire import jsonio
from tidegate.wire.errors import TidegateError
from tidegate.wire.events import (
    Annotation,
    ChoiceEnd,
    Event,
    Finished,
    MediaDelta,
    MessageEnd,
    Opaque,
    Reason,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
    UsageReport,
)
from tidegate.wire.items import (
    Choice,
    FunctionCall,
    ImagePart,
    Message,
    OpaqueItem,
    Output,
    Reasoning,
    RefusalPart,
    TextPart,
    parse_data_url,
)

__all__ = ["GeminiEncoder", "encode_answer"]

_REASONS: Final = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
    "refusal": "SAFETY",
}

_PartMembers = dict[str, Any]

_CUT: Final = frozenset({"length", "content_filter", "refusal"})
"""Reasons with which an answer ends in the middle."""

_PARAGRAPH: Final = "\n\n"
"""Between parts of reasoning. Clients join the texts of a stream: without it two paragraphs are one word."""

_encode = msgspec.json.Encoder().encode


class _Candidate:
    """What of one candidate is still to be sent."""

    __slots__ = ("annotations", "ascii", "odd", "queries", "reason", "refused", "signature", "spoken", "thought")

    def __init__(self) -> None:
        self.signature = ""
        self.odd: _PartMembers | None = None
        """The last call, whose arguments are no object: if the answer is cut here, it is half of one."""
        self.reason = ""
        self.annotations: list[Any] = []
        """Their places are those in all that the candidate says, as Google counts."""
        self.spoken = Spoken()
        self.queries: list[str] = []
        """What was searched for on the web."""
        self.thought: tuple[str, int] | None = None
        """The part of the open reasoning that was told last."""
        self.ascii = True
        self.refused = False


class GeminiEncoder:
    """See :class:`tidegate.dialects.codec.StreamEncoder`. Text goes out as it comes; a call goes out whole, because clients
    of this API know no others; the finish reasons and the usage stand in the last chunk."""

    __slots__ = (
        "_call",
        "_calls",
        "_candidates",
        "_framing",
        "_head",
        "_model",
        "_response_id",
        "_thoughts",
        "_usage",
        "committed",
    )

    def __init__(self, call: Call, framing: Framing, *, thoughts: bool) -> None:
        """`thoughts`: the client asked for them. Who did not may take the first text for the answer."""
        self._call = call
        self._framing = framing
        self._thoughts = thoughts
        self._candidates: dict[int, _Candidate] = {}
        self._calls: dict[int, tuple[ToolCallStart, list[str]]] = {}
        self._usage = Usage()
        self._model = ""
        self._response_id = _response_id(call)
        self._head = b""
        self.committed = False

    def attempt(self, destination: Destination) -> None:
        self._model = destination.model
        self._candidates = {}
        self._calls = {}
        self._usage = Usage()
        self._set_head()

    def go_on(self, model: str, response_id: str) -> None:
        """Chunks are to name what those named that a :class:`GeminiRelay` has sent. Before `encode`."""
        self._response_id = response_id or self._response_id
        self._model = model or self._model
        self._set_head()

    def encode(self, events: Iterable[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            if isinstance(event, TextDelta):
                candidate = self._candidate(event.choice)
                candidate.ascii = candidate.ascii and event.text.isascii()
                candidate.spoken.size += len(event.text)
                if candidate.signature or event.logprobs or candidate.odd:
                    more = {"logprobsResult": _logprobs(event.logprobs)} if event.logprobs else {}
                    out.append(self._parts(event.choice, [{"text": event.text}], **more))
                else:
                    out.append(self._text(event.choice, event.text, b""))
            elif isinstance(event, ReasoningDelta):
                if self._thoughts and event.text:
                    candidate = self._candidate(event.choice)
                    part, text = (event.kind, event.part), event.text
                    if candidate.thought is not None and candidate.thought != part:
                        text = _PARAGRAPH + text
                    candidate.thought = part
                    if candidate.odd:
                        out.append(self._parts(event.choice, []))
                    if candidate.signature:  # of an earlier thought
                        out.append(self._parts(event.choice, [{"text": ""}]))
                    out.append(self._text(event.choice, text, b',"thought":true'))
            else:
                self._encode_other(event, out)
        if out:
            self.committed = True
        return b"".join(out)

    def fail(self, error: TidegateError) -> bytes:
        return self._framing.frame(error_body(error)) + self._framing.end()

    def ping(self) -> bytes:
        return self._framing.ping()

    def _encode_other(self, event: Event, out: list[bytes]) -> None:
        match event:
            case Started():
                if event.model:
                    self._model = event.model
                    self._set_head()
            case RefusalDelta():
                candidate = self._candidate(event.choice)
                candidate.ascii &= event.text.isascii()
                candidate.spoken.size += len(event.text)
                candidate.refused = True
                out.append(self._parts(event.choice, [{"text": event.text}]))
            case ReasoningEnd():
                candidate = self._candidate(event.choice)
                candidate.thought = None
                if event.encrypted:
                    if candidate.signature:
                        out.append(self._parts(event.choice, [{"text": ""}]))
                    candidate.signature = _signature(event.encrypted)
            case ToolCallStart():
                self._candidate(event.choice).spoken.end()
                self._calls[event.index] = (event, [])
            case ToolCallDelta():
                self._calls[event.index][1].append(event.text)
            case ToolCallEnd():
                start, pieces = self._calls.pop(event.index)
                arguments = "".join(pieces)
                part = _call_part(start.call_id, start.name, start.namespace, arguments, custom=start.custom)
                if _is_whole(arguments, custom=start.custom):
                    out.append(self._parts(start.choice, [part]))
                else:
                    self._keep_odd(start.choice, part, out)
            case MediaDelta():
                part = {"inlineData": {"mimeType": event.media_type, "data": event.data}}
                self._candidate(event.choice).spoken.end()
                out.append(self._parts(event.choice, [part]))
            case Annotation():
                candidate = self._candidate(event.choice)
                candidate.annotations.append(moved(event.value, candidate.spoken.begin))
            case MessageEnd():
                self._candidate(event.choice).spoken.end()
            case Opaque(type=kind) if kind == CALL:
                self._candidate(0).spoken.end()
                self._candidate(0).queries += queries_of(event.item)
            case Opaque():
                self._candidate(0).spoken.end()
                parts = _opaque_parts(event.type, event.item)
                if parts:
                    out.append(self._parts(0, parts))
            case UsageReport():
                self._usage = event.usage
            case ChoiceEnd():
                candidate = self._candidate(event.choice)
                if candidate.odd is not None and event.reason in _CUT:
                    candidate.signature, candidate.odd = candidate.odd.get("thoughtSignature", ""), None
                elif candidate.odd is not None:
                    out.append(self._parts(event.choice, []))
                candidate.reason = _reason(event.reason, refused=candidate.refused)
            case Finished():
                out.append(self._last())
            case _:
                pass  # pings have no form here

    def _keep_odd(self, choice: int, part: _PartMembers, out: list[bytes]) -> None:
        """Until it is known whether anything follows."""
        candidate = self._candidate(choice)
        if candidate.odd is not None:
            out.append(self._parts(choice, []))
        if candidate.signature:
            part["thoughtSignature"] = candidate.signature
            candidate.signature = ""
        candidate.odd = part

    def _candidate(self, choice: int) -> _Candidate:
        found = self._candidates.get(choice)
        if found is None:
            found = self._candidates[choice] = _Candidate()
        return found

    def _set_head(self) -> None:
        model, response = _encode(self._model), _encode(self._response_id)
        self._head = b'"modelVersion":%b,"responseId":%b' % (model, response)

    def _text(self, choice: int, text: str, more: bytes) -> bytes:
        return self._framing.frame(
            b'{"candidates":[{"content":{"parts":[{"text":%b%b}],"role":"model"},"index":%d}],%b}'
            % (_encode(text), more, choice, self._head)
        )

    def _parts(self, choice: int, parts: list[_PartMembers], **more: Any) -> bytes:
        candidate = self._candidate(choice)
        if candidate.signature and parts:
            parts[0]["thoughtSignature"] = candidate.signature
            candidate.signature = ""
        if candidate.odd is not None:
            parts = [candidate.odd, *parts]
            candidate.odd = None
        content = {"content": {"parts": parts, "role": "model"}, "index": choice, **more}
        return self._framing.frame(b'{"candidates":[%b],%b}' % (_encode(content), self._head))

    def _last(self) -> bytes:
        candidates = []
        for choice, candidate in sorted(self._candidates.items()):
            part: _PartMembers = {"text": ""}
            if candidate.signature:
                part["thoughtSignature"] = candidate.signature
            content: dict[str, Any] = {
                "content": {"parts": [part], "role": "model"},
                "finishReason": candidate.reason,
                "index": choice,
            }
            grounding = _grounding(candidate.annotations, candidate.queries, None, exact=candidate.ascii)
            if grounding is not None:
                content["groundingMetadata"] = grounding
            candidates.append(content)
        data = b'{"candidates":%b,"usageMetadata":%b,%b}' % (
            _encode(candidates),
            bytes(usage_metadata(self._usage)),
            self._head,
        )
        return self._framing.frame(data) + self._framing.end()


def encode_answer(output: Output, call: Call, destination: Destination, *, thoughts: bool) -> bytes:
    """The answer in one body (see `BridgedRequest.encode_answer`)."""
    return jsonio.encode(
        {
            "candidates": [_whole(place, choice, thoughts=thoughts) for place, choice in enumerate(output.choices)],
            "usageMetadata": usage_metadata(output.usage),
            "modelVersion": output.model or destination.model,
            "responseId": _response_id(call),
        }
    )


def _whole(place: int, choice: Choice, *, thoughts: bool) -> dict[str, Any]:
    parts: list[_PartMembers] = []
    signature = ""
    last = choice.items[-1] if choice.items and choice.reason in _CUT else None
    text: list[str] = []
    cited: list[Any] = []
    queries: list[str] = []
    tokens: list[msgspec.Raw] = []
    refused = False
    for item in choice.items:
        made: list[_PartMembers] = []
        match item:
            case Reasoning():
                if signature:
                    parts.append({"text": "", "thoughtSignature": signature})
                    signature = ""
                if thoughts and (told := _PARAGRAPH.join(filter(None, (*item.summary, *item.content)))):
                    parts.append({"text": told, "thought": True})
                signature = _signature(item.encrypted) if item.encrypted else ""
            case Message():
                begin = sum(map(len, text))
                for part in item.content:
                    refused = refused or isinstance(part, RefusalPart)
                    if isinstance(part, TextPart | RefusalPart):
                        said = part.text if isinstance(part, TextPart) else part.refusal
                        made.append({"text": said})
                        text.append(said)
                    elif isinstance(part, ImagePart) and (data := parse_data_url(part.url)) is not None:
                        made.append({"inlineData": {"mimeType": data[0], "data": data[1]}})
                    if isinstance(part, TextPart):
                        cited.extend(moved(one, begin) for one in part.annotations)
                        tokens.extend(part.logprobs)
            case FunctionCall() if item is last and not _is_whole(item.arguments, custom=item.custom):
                pass  # the answer is cut in it
            case FunctionCall():
                made.append(_call_part(item.call_id, item.name, item.namespace, item.arguments, custom=item.custom))
            case OpaqueItem(type=kind) if kind == CALL:
                queries += queries_of(item.value)
            case OpaqueItem():
                made.extend(_opaque_parts(item.type, item.value))
            case _:
                pass  # results of tools are no part of an answer
        if made and signature:
            made[0]["thoughtSignature"] = signature
            signature = ""
        parts.extend(made)
    if signature or not parts:
        parts.append({"text": "", **({"thoughtSignature": signature} if signature else {})})
    candidate: dict[str, Any] = {
        "content": {"parts": parts, "role": "model"},
        "finishReason": _reason(choice.reason, refused=refused),
        "index": place,
    }
    grounding = _grounding(cited, queries, "".join(text), exact=False)
    if grounding is not None:
        candidate["groundingMetadata"] = grounding
    if tokens:
        candidate["logprobsResult"] = _logprobs(tokens)
    return candidate


def _reason(reason: Reason, *, refused: bool) -> str:
    """OpenAI's models refuse in a part of its own and stop; here a refusal is a way to end (protocol §5.2)."""
    return _REASONS["refusal" if refused and reason == "stop" else reason]


def _response_id(call: Call) -> str:
    """Google's ids have no prefix."""
    return call.response_id.removeprefix("resp_")


def _signature(encrypted: str) -> str:
    """The member is of type bytes: official clients decode it, and encode it again on the way back."""
    return base64.b64encode(encrypted.encode()).decode()


def _is_whole(arguments: str, *, custom: bool) -> bool:
    return custom or json_object_or_none(arguments or "{}") is not None


def _call_part(call_id: str, name: str, namespace: str, arguments: str, *, custom: bool) -> _PartMembers:
    args: Any
    if custom:
        args = {"input": arguments}
    else:
        args = json_object_or_none(arguments or "{}")
        if args is None:
            args = {"_raw": arguments}  # what the model wrote is no JSON object; the client sees it all the same
    return {"functionCall": {"id": call_id, "name": f"{namespace}__{name}" if namespace else name, "args": args}}


def _opaque_parts(kind: str, item: msgspec.Raw) -> list[_PartMembers]:
    """Parts of Google's own, and code that was run; other providers' items have no form here."""
    content = jsonio.members(item)
    if kind.startswith(OPAQUE_PREFIX) and "part" in content:
        return [dict(jsonio.members(content["part"]))]
    if kind != "code_interpreter_call":
        return []
    code = content.get("code", jsonio.NULL)
    parts: list[_PartMembers] = [
        {"executableCode": {"language": "PYTHON", "code": "" if jsonio.is_null(code) else code}}
    ]
    outputs = jsonio.anything(content.get("outputs", jsonio.NULL))
    if isinstance(outputs, list):
        logs = "".join(str(one["logs"]) for one in outputs if isinstance(one, dict) and "logs" in one)
        failed = content.get("status") == jsonio.raw("failed")
        outcome = "OUTCOME_FAILED" if failed else "OUTCOME_OK"
        parts.append({"codeExecutionResult": {"outcome": outcome, "output": logs}})
    return parts


def _grounding(cited: list[Any], queries: list[str], text: str | None, *, exact: bool) -> dict[str, Any] | None:
    """`url_citation` annotations, and the queries of searches, as grounding. Google counts bytes: without `text` places are only told when all of it
    was ASCII (`exact`)."""
    chunks: list[dict[str, Any]] = []
    supports: list[dict[str, Any]] = []
    for content in cited:
        if not isinstance(content, dict) or content.get("type") != "url_citation":
            continue
        start, end = content.get("start_index"), content.get("end_index")
        segment: dict[str, Any] = {}
        if isinstance(start, int) and isinstance(end, int) and (exact or text is not None):
            if text is not None:
                start, end = len(text[:start].encode()), len(text[:end].encode())
            segment = {"startIndex": start, "endIndex": end}
        supports.append({"segment": segment, "groundingChunkIndices": [len(chunks)]})
        chunks.append({"web": {"uri": content.get("url"), "title": content.get("title")}})
    found: dict[str, Any] = {"groundingChunks": chunks, "groundingSupports": supports} if chunks else {}
    if queries:
        found["webSearchQueries"] = queries
    return found or None


class _Token(msgspec.Struct):
    token: str | None = None
    logprob: float | None = None


class _Entry(_Token):
    top_logprobs: list[_Token] | None = None


_entry = jsonio.decoder(_Entry)


def _logprobs(entries: list[msgspec.Raw]) -> dict[str, Any]:
    """Entries of chat and Responses. One that cannot be read counts for nothing."""
    chosen: list[dict[str, Any]] = []
    tops: list[dict[str, Any]] = []
    for value in entries:
        try:
            entry = jsonio.decode(value, _entry)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
            continue
        chosen.append(_candidate(entry))
        tops.append({"candidates": [_candidate(one) for one in entry.top_logprobs or ()]})
    return {"chosenCandidates": chosen, "topCandidates": tops}


def _candidate(token: _Token) -> dict[str, Any]:
    return {"token": token.token, "logProbability": token.logprob}
