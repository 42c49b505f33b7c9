"""Canonical → a provider's dialect → canonical: what was asked comes back, or is named, or stands on a list here."""

import base64
import json
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects.common import call
from tests.dialects.gemini import samples
from tests.dialects.messages import streams
from tests.dialects.test_text_thought_text import collected
from tidegate.dialects.chat import ChatDialect
from tidegate.dialects.chat.upstream import ChatUpstream
from tidegate.dialects.codec import BridgedRequest, Losses, UpstreamDialect
from tidegate.dialects.dialect import Destination, Quirks
from tidegate.dialects.gemini import GeminiDialect, GeminiUpstream
from tidegate.dialects.messages import MessagesDialect, MessagesUpstream
from tidegate.dialects.messages.encoder import MessagesEncoder, encode_message
from tidegate.dialects.responses import ResponsesDialect
from tidegate.dialects.responses.upstream import ResponsesUpstream
from tidegate.wire import jsonio
from tidegate.wire.events import (
    ChoiceEnd,
    Event,
    Finished,
    MediaDelta,
    MessageEnd,
    Reason,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Seal,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
    UsageReport,
)
from tidegate.wire.items import (
    CanonicalRequest,
    FilePart,
    FunctionCall,
    FunctionOutput,
    ImagePart,
    Item,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    RefusalPart,
    TextPart,
    Tool,
    ToolChoice,
)

UPSTREAMS: Final[dict[str, UpstreamDialect]] = {
    "responses": ResponsesUpstream(),
    "chat": ChatUpstream(),
    "messages": MessagesUpstream(),
    "gemini": GeminiUpstream(),
}
TARGETS: Final[dict[str, Destination]] = {
    "responses": Destination(provider="lab", model="tide-1", encrypted_reasoning=True),
    "chat": Destination(
        provider="lab",
        model="tide-1",
        endpoint="chat",
        quirks=Quirks(openai_chat=True, max_tokens_name="max_completion_tokens"),
    ),
    "messages": Destination(provider="lab", model="claude-sonnet-5", endpoint="messages"),
    "gemini": Destination(provider="lab", model="gemini-3-flash", endpoint="gemini"),
}

WORDS = st.text(min_size=1, max_size=8).filter(lambda text: text.strip() == text and "\x00" not in text)
NAMES = st.sampled_from(["tide", "wind", "harbour_2"])
SCHEMA = jsonio.raw({"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]})
OTHER = jsonio.raw({"type": "object", "properties": {}})
PNG, PDF = "data:image/png;base64,aGk=", "data:application/pdf;base64,aGk="


def read(dialect: str, body: bytes) -> CanonicalRequest:
    request: BridgedRequest
    match dialect:
        case "responses":
            request = ResponsesDialect().parse(body)
        case "chat":
            request = ChatDialect().parse(body)
        case "messages":
            request = MessagesDialect().parse(body)
        case _:
            request = GeminiDialect().parse(body, model="tide-1")
    return request.canonical()


@st.composite
def conversations(draw: st.DrawFn) -> list[Item]:
    items: list[Item] = []
    calls = 0
    for _ in range(draw(st.integers(1, 3))):
        content: list[Part] = [TextPart(text=draw(WORDS))]
        if draw(st.integers(0, 3)) == 0:
            content.insert(0, ImagePart(url=PNG))
        if draw(st.integers(0, 5)) == 0:
            content.append(FilePart(data=PDF))
        items.append(Message(role="user", content=content))
        if draw(st.booleans()):
            items.append(Message(role="assistant", content=[TextPart(text=draw(WORDS))]))
        made = [
            FunctionCall(
                call_id=f"call_{calls + number}",
                name=draw(NAMES),
                arguments=json.dumps({"x": draw(WORDS)}, ensure_ascii=False),
            )
            for number in range(draw(st.integers(0, 2)))
        ]
        calls += len(made)
        items += made
        items += [FunctionOutput(call_id=call.call_id, content=[TextPart(text=draw(WORDS))]) for call in made]
    items.append(Message(role="user", content=[TextPart(text=draw(WORDS))]))
    return items


def maybe(value: Any) -> Any:
    return st.none() | value


@st.composite
def requests(draw: st.DrawFn) -> CanonicalRequest:
    tools = [
        Tool(
            name=name,
            description=draw(WORDS | st.just("")),
            parameters=draw(st.sampled_from([SCHEMA, OTHER])),
            strict=draw(st.sampled_from([None, True])),
        )
        for name in draw(st.lists(NAMES, unique=True, max_size=3))
    ]
    names = tuple(tool.name for tool in tools)
    choice = None
    if tools:
        choice = draw(
            maybe(
                st.sampled_from(
                    [
                        ToolChoice(mode="auto"),
                        ToolChoice(mode="none"),
                        ToolChoice(mode="required"),
                        ToolChoice(mode="function", names=names[:1]),
                        ToolChoice(mode="allowed", names=names[:2], required=True),
                    ]
                )
            )
        )
    return CanonicalRequest(
        model="tide-1",
        instructions=draw(WORDS | st.just("")),
        items=draw(conversations()),
        tools=list(tools),
        tool_choice=choice,
        parallel_tool_calls=draw(st.sampled_from([None, False])) if tools else None,
        max_output_tokens=draw(maybe(st.integers(16, 9000))),
        temperature=draw(maybe(st.sampled_from([0.0, 0.5, 1.0]))),
        top_p=draw(maybe(st.sampled_from([0.1, 0.9]))),
        top_k=draw(maybe(st.integers(1, 40))),
        stop=tuple(draw(st.lists(WORDS, unique=True, max_size=2))),
        n=draw(st.sampled_from([1, 1, 2])),
        seed=draw(maybe(st.integers(0, 99))),
        frequency_penalty=draw(maybe(st.sampled_from([-1.0, 0.5]))),
        presence_penalty=draw(maybe(st.sampled_from([-1.0, 0.5]))),
        logit_bias=draw(st.sampled_from([jsonio.EMPTY, jsonio.raw({"5": 1})])),
        top_logprobs=draw(maybe(st.integers(0, 5))),
        format=draw(
            maybe(
                st.sampled_from(
                    [
                        OutputFormat(type="json_object"),
                        OutputFormat(type="json_schema", name="n", schema=SCHEMA, strict=True),
                    ]
                )
            )
        ),
        verbosity=draw(st.sampled_from(["", "low"])),
        effort=draw(st.sampled_from(["", "low", "medium", "high"])),
        reasoning_summary=draw(st.sampled_from(["", "auto"])),
        user=draw(st.sampled_from(["", "ada"])),
        safety_identifier=draw(st.sampled_from(["", "s-1"])),
        service_tier=draw(st.sampled_from(["", "flex"])),
        prompt_cache_key=draw(st.sampled_from(["", "k"])),
    )


def plain(value: Any) -> Any:
    """In terms of JSON, with the name of each type."""
    if isinstance(value, msgspec.Raw):
        return jsonio.anything(value) if bytes(value) else None
    if isinstance(value, msgspec.Struct):
        members = {name: plain(getattr(value, name)) for name in value.__struct_fields__}
        return {"is": type(value).__name__, **members}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


# -- what comes back in another form ----------------------------------------------------------------------------------
#
# Each function takes both requests, the one that was asked and the one that came back, to one form. What it touches is the
# list of what an API says otherwise without losing it, or cannot say and nobody needs.

Form = dict[str, Any]


def parts(asked: Form) -> list[Form]:
    return [part for item in asked["items"] for part in item.get("content", ()) if isinstance(part, dict)]


def name_files(asked: Form) -> None:
    for part in parts(asked):
        if part["is"] == "FilePart":
            part["filename"] = part["filename"] or "document.pdf"  # the member is required beside data


def as_responses(asked: Form) -> None:
    for part in parts(asked):
        if part["is"] == "ImagePart":
            part["detail"] = part["detail"] or "auto"  # the member is required
    name_files(asked)
    for tool in asked["tools"]:
        tool["strict"] = bool(tool["strict"])  # what is not said here would be true


def as_chat(asked: Form) -> None:
    if asked["instructions"]:  # a message like any other
        content = [plain(TextPart(text=asked["instructions"]))]
        asked["items"].insert(0, {**plain(Message(role="developer", content=[])), "content": content})
        asked["instructions"] = ""
    name_files(asked)
    asked["shows_thoughts"] = False  # a property of chat's clients


def as_messages(asked: Form) -> None:
    one_message_for_each_turn(asked)
    asked["max_output_tokens"] = asked["max_output_tokens"] or 8192  # the member is required
    called = dict.fromkeys(item["name"] for item in asked["items"] if item["is"] == "FunctionCall")
    if called and not asked["tools"]:  # a history with calls needs tools, which nobody may call
        empty = jsonio.raw({"type": "object"})
        asked["tools"] = [plain(Tool(name=name, parameters=empty)) for name in called]
        asked["tool_choice"] = plain(ToolChoice(mode="none"))
    choice = asked["tool_choice"] or {}
    if choice.get("mode") == "allowed":  # the others are not offered
        asked["tools"] = [tool for tool in asked["tools"] if tool["name"] in choice["names"]]
        choice.update(mode="required", names=[], required=False)
    choice_without_ceremony(asked)
    if choice.get("mode") == "none":
        asked["parallel_tool_calls"] = None  # no call is no parallel call
    if asked["format"]:
        asked["format"]["name"] = ""  # for the model, where others show it
    asked["prompt_cache_key"] = ""  # marks for the cache stand in its place
    asked["user"], asked["safety_identifier"] = asked["safety_identifier"] or asked["user"], ""  # one id for both
    if asked["effort"] or asked["reasoning_budget"]:  # an effort is a budget
        asked["effort"], asked["reasoning_budget"] = "", None
    if asked["temperature"] == 1.0:
        asked["temperature"] = None  # the usual one, and the only one beside thinking
    asked["reasoning_summary"] = ""  # thoughts are told unless they are unwanted


def as_gemini(asked: Form) -> None:
    one_message_for_each_turn(asked)
    for item in asked["items"]:
        if item["is"] == "FunctionCall":
            item["arguments"] = json.loads(item["arguments"])  # an object, and no text
        if item["is"] == "FunctionOutput":
            item["name"] = ""  # found by the id of the call elsewhere
        if item["is"] == "Reasoning":
            item["words"] = []  # Google asks only for signatures
    if asked["format"]:
        asked["format"]["name"], asked["format"]["strict"] = "", None  # a schema is always kept to
    asked["parallel_tool_calls"] = None  # the decoder takes the first call
    choice_without_ceremony(asked)


def choice_without_ceremony(asked: Form) -> None:
    choice = asked["tool_choice"] or {}
    if choice.get("mode") == "auto":
        asked["tool_choice"] = None  # what happens anyway
    elif choice.get("mode") == "allowed" and choice["required"] and len(choice["names"]) == 1:
        choice.update(mode="function", required=False)  # the one that is allowed must be called


def one_message_for_each_turn(asked: Form) -> None:
    """Roles take turns in these APIs: neighbours are one."""
    items: list[Form] = []
    for item in asked["items"]:
        if items and item["is"] == items[-1]["is"] == "Message" and item["role"] == items[-1]["role"]:
            items[-1]["content"] += item["content"]
        else:
            items.append(item)
    asked["items"] = items


FORMS = {"responses": as_responses, "chat": as_chat, "messages": as_messages, "gemini": as_gemini}
OF_THE_CLIENT = {"is", "model", "stream", "names", "client", "hints", "refused"}
"""What says who asks, and not what."""
NAMED = {"strict": "tools"}
"""Losses that have the name of a part of a member."""
SIGNATURE = "/////w=="
"""Of bytes that are no text."""


def thoughtful(asked: CanonicalRequest, dialect: str) -> CanonicalRequest:
    """With a thought of the provider's own before each answer and each step of calls, sealed as that provider does."""
    items: list[Item] = []
    for item in asked.items:
        made = item if isinstance(item, FunctionCall) else None
        told = isinstance(item, Message) and item.role == "assistant"
        begins = made is not None and not isinstance(items[-1], FunctionCall)
        if told or begins:
            seal = {
                "responses": Seal(kind="encrypted", data="gAAAA"),
                "messages": Seal(kind="signature", data="c2ln", text="hm"),
                "gemini": Seal(
                    kind="thought_signature",
                    data=SIGNATURE,
                    call_id=made.call_id if made else "",
                    anchor="text" if told else "",
                ),
            }[dialect]
            items.append(Reasoning(summary=["hm"], seal=seal))
        items.append(item)
    return msgspec.structs.replace(asked, items=items)


def form(asked: CanonicalRequest, dialect: str) -> Form:
    found: Form = plain(asked)
    for item in found["items"]:
        if item["is"] == "Reasoning":
            carried = item["encrypted"] or item["seal"]["data"]
            words = item["summary"] + item["content"]
            item.clear()
            item.update({"is": "Reasoning", "carried": carried, "words": words})
    FORMS[dialect](found)
    return {name: value for name, value in found.items() if name not in OF_THE_CLIENT}


def told(dropped: dict[str, None]) -> set[str]:
    return {NAMED.get(name, name) for name in dropped}


@pytest.mark.parametrize("dialect", UPSTREAMS)
@settings(max_examples=30, deadline=None)
@given(asked=requests(), thinks=st.booleans())
def test_what_is_asked_comes_back_or_is_named(dialect: str, asked: CanonicalRequest, *, thinks: bool) -> None:
    if thinks and dialect != "chat":
        asked = thoughtful(asked, dialect)
    to = TARGETS[dialect]
    losses = Losses(asked, to, allowed=True)
    back = read(dialect, UPSTREAMS[dialect].encode_request(asked, to, losses))
    expected, found = form(asked, dialect), form(back, dialect)
    left = {name for name in expected if expected[name] != found[name]}
    assert left <= told(losses.dropped), {name: (expected[name], found[name]) for name in left - told(losses.dropped)}
    assert "items" not in left, "nothing of a conversation is ever left out here"
    if dialect == "messages" and asked.effort:
        assert back.reasoning_budget or "effort" in losses.dropped
    if not thinks:  # what is sealed, the bridge opens
        again = read(dialect, UPSTREAMS[dialect].encode_request(back, to, Losses(back, to, allowed=True)))
        changed = form(again, dialect)
        assert changed == found, {name: (found[name], changed[name]) for name in found if found[name] != changed[name]}


# -- answers ----------------------------------------------------------------------------------------------------------
#
# Those of chat and Responses: `chat/test_chat_round_trip.py` and `responses/test_responses_decoder.py`.

CUSTOM = Tool(name="patch", custom=True)
USAGE = Usage(input_tokens=9, output_tokens=7, reasoning_tokens=3)


@st.composite
def answers(draw: st.DrawFn, thoughts: st.SearchStrategy[str]) -> list[Event]:
    """Thoughts with their seals, texts, refusals, calls and images, in any order; `thoughts` gives the envelopes."""
    events: list[Event] = [Started("tide-1")]
    calls = 0
    for kind in draw(st.lists(st.sampled_from(["thought", "text", "refusal", "call", "image"]), max_size=5)):
        words = draw(st.lists(WORDS, min_size=1, max_size=3))
        match kind:
            case "thought":
                shown = draw(st.booleans())
                events += [ReasoningDelta(word, "summary") for word in words if shown]
                events.append(ReasoningEnd(encrypted=draw(thoughts) if shown else "tgr1_x"))
            case "text":
                events += [*(TextDelta(word) for word in words), MessageEnd()]
            case "refusal":
                events += [*(RefusalDelta(word) for word in words), MessageEnd()]
            case "image":
                events += [MediaDelta("image/png", "aGk="), MessageEnd()]
            case _:
                custom = draw(st.booleans())
                text = "".join(words) if custom else json.dumps({"x": words}, ensure_ascii=False)
                cut = draw(st.integers(0, len(text)))
                pieces = [ToolCallDelta(calls, piece) for piece in (text[:cut], text[cut:]) if piece]
                name = "patch" if custom else "tide"
                events += [ToolCallStart(calls, f"c{calls}", name, custom=custom), *pieces, ToolCallEnd(calls)]
                calls += 1
    reasons: list[Reason] = ["length", "content_filter", "tool_calls" if calls else "stop"]
    reason = draw(st.sampled_from(reasons))
    return [*events, UsageReport(USAGE), ChoiceEnd(reason), Finished()]


def said(events: list[Event]) -> list[tuple[str, ...]]:
    """What an answer says, without how it was cut into deltas, parts and messages. A refusal is a text."""
    out: list[tuple[str, ...]] = []

    def say(kind: str, text: str) -> None:
        if out and out[-1][0] == kind:
            out[-1] = (kind, out[-1][1] + text)
        elif text:
            out.append((kind, text))

    for item in collected(events).choices[0].items:
        match item:
            case Reasoning():
                say("thought", "".join([*item.summary, *item.content]))
                if item.encrypted or item.seal:
                    out.append(("seal", item.encrypted or (item.seal.data if item.seal else "")))
            case FunctionCall():
                text = item.arguments if item.custom else json.dumps(json.loads(item.arguments), ensure_ascii=False)
                out.append(("call", item.call_id, item.name, text))
            case Message():
                for part in item.content:
                    match part:
                        case TextPart(text=text) | RefusalPart(refusal=text):
                            say("text", text)
                        case ImagePart(url=url):
                            out.append(("image", url))
                        case _:
                            raise AssertionError(part)
            case _:
                raise AssertionError(item)
    return out


def ended(events: list[Event]) -> tuple[str, Usage]:
    output = collected(events)
    return output.choices[0].reason, output.usage


def refuses(events: list[Event]) -> bool:
    return any(isinstance(event, RefusalDelta) for event in events)


@settings(max_examples=60, deadline=None)
@given(events=answers(st.sampled_from(["", "tgr1_x"])))
def test_an_answer_comes_back_from_a_gemini_client(events: list[Event]) -> None:
    """What it has no form for: whether words refuse, the end of a message, the parts and the kind of a thought, and which of
    two texts a seal between them belongs to."""
    body = b'{"contents":[{"parts":[{"text":"?"}]}],"generationConfig":{"thinkingConfig":{"includeThoughts":true}}}'
    request = GeminiDialect().parse(body, model="tide-1", stream=True)
    encoder = request.encoder(call())
    encoder.attempt(TARGETS["gemini"])
    asked = msgspec.structs.replace(request.canonical(), tools=[CUSTOM])
    streamed = samples.decode([b"".join(encoder.encode([event]) for event in events)], asked, TARGETS["gemini"])
    answer = request.encode_answer(collected(events), call(), TARGETS["gemini"])
    whole = UPSTREAMS["gemini"].decode_answer(answer, TARGETS["gemini"], asked)
    sealed = base64.b64encode(b"tgr1_x").decode()
    expected = [("seal", sealed) if kind == "seal" else (kind, *rest) for kind, *rest in said(events)]
    reason, usage = ended(events)
    if reason == "stop" and refuses(events):
        reason = "content_filter"
    for back in (streamed, whole):
        assert seals_behind_texts(said(back)) == seals_behind_texts(expected)
        assert ended(back) == (reason, usage)


def seals_behind_texts(told: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Google's streams tell a signature with the last piece of a text: between two texts it may be of either, and one
    that stood before a text, of nothing else, comes with it."""
    out: list[tuple[str, ...]] = []
    at: int | None = None
    for entry in told:
        if entry[0] == "text" and at is not None:
            out[at] = ("text", out[at][1] + entry[1])
        elif entry[0] == "text" and out and out[-1][0] == "seal" and (len(out) == 1 or out[-2][0] != "thought"):
            at = len(out) - 1
            out.insert(at, entry)
        else:
            at = len(out) if entry[0] == "text" else at if entry[0] == "seal" else None
            out.append(entry)
    return out


@settings(max_examples=60, deadline=None)
@given(events=answers(st.just("tgr1_x")))
def test_an_answer_comes_back_from_an_anthropic_client(events: list[Event]) -> None:
    """What it has no form for: whether words refuse, images but for their address in the text, and a thought behind the
    last text of an answer that is complete and calls nothing."""
    asked = streams.WITH_PATCH
    asked = msgspec.structs.replace(asked, tools=[CUSTOM, Tool(name="tide")])
    encoder = MessagesEncoder(call())
    encoder.attempt(TARGETS["messages"])
    streamed = streams.decoded([b"".join(encoder.encode([event]) for event in events)], asked)
    body = encode_message(collected(events), call(), TARGETS["messages"])
    whole = UPSTREAMS["messages"].decode_answer(body, TARGETS["messages"], asked)
    reason, usage = ended(events)
    expected = shown_as_text(said(events))
    if reason == "stop" and any(kind == "text" for kind, *_ in expected):
        while expected[-1][0] in ("thought", "seal"):
            expected.pop()
    for back in (streamed, whole):
        assert said(back) == expected
        found, used = ended(back)
        filtered = found in ("refusal", "content_filter")  # one word for both
        assert filtered == (reason == "content_filter" or (reason == "stop" and refuses(events)))
        assert filtered or found == reason
        assert used == usage


def shown_as_text(told: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    out: list[tuple[str, ...]] = []
    for kind, *rest in told:
        text = f"![image]({rest[0]})" if kind == "image" else rest[0]
        if kind in ("image", "text") and out and out[-1][0] == "text":
            out[-1] = ("text", out[-1][1] + text)
        else:
            out.append(("text", text) if kind == "image" else (kind, *rest))
    return out
