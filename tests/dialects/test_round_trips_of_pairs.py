"""A → B → A for every two dialects: a request that a provider of B is asked for a client of A, and told back in A's words, asks
the same; an answer of A's provider that a client of B sees, and tells back, says the same. But for a list, which stands here."""

import itertools
import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects.common import call, events
from tests.dialects.crossing import ASKS
from tests.dialects.test_round_trips import (
    CUSTOM,
    FORMS,
    OF_THE_CLIENT,
    TARGETS,
    UPSTREAMS,
    WORDS,
    Form,
    answers,
    ended,
    plain,
    read,
    refuses,
    requests,
    said,
    told,
)
from tests.dialects.test_text_thought_text import collected
from tidegate.dialects.chat import ChatDialect
from tidegate.dialects.codec import BridgedRequest, Losses
from tidegate.dialects.completions import CompletionsDialect
from tidegate.dialects.gemini import GeminiDialect
from tidegate.dialects.messages import MessagesDialect
from tidegate.dialects.responses import ResponsesDialect
from tidegate.wire.events import Event, Laws, MediaDelta, ReasoningEnd, RefusalDelta, TextDelta
from tidegate.wire.items import CanonicalRequest, Message, RefusalPart, TextPart, Tool

PAIRS = list(itertools.permutations(UPSTREAMS, 2))

# -- requests ---------------------------------------------------------------------------------------------------------


def asked_of(dialect: str, asked: CanonicalRequest) -> tuple[CanonicalRequest, set[str]]:
    """The request as a provider of the dialect reads it, in no client's words, and the members that were left out."""
    to = TARGETS[dialect]
    losses = Losses(asked, to, allowed=True)
    back = read(dialect, UPSTREAMS[dialect].encode_request(asked, to, losses))
    return msgspec.structs.replace(back, names={}, client=""), told(losses.dropped)


def form(asked: CanonicalRequest, *dialects: str) -> Form:
    found: Form = plain(asked)
    for dialect in sorted(dialects, key="messages".__ne__):  # it adds tools, which the others have a form for
        FORMS[dialect](found)
    if "chat" in dialects:
        found["reasoning_summary"] = ""  # its clients are shown thoughts without asking
    return {name: value for name, value in found.items() if name not in OF_THE_CLIENT}


@pytest.mark.parametrize(("client", "provider"), PAIRS)
@settings(max_examples=12, deadline=None)
@given(asked=requests())
def test_a_request_comes_back_from_another_api(client: str, provider: str, asked: CanonicalRequest) -> None:
    start, _ = asked_of(client, asked)
    there, lost = asked_of(provider, start)
    back, lost_again = asked_of(client, there)
    expected, found = form(start, client, provider), form(back, client, provider)
    left = {name for name in expected if expected[name] != found[name]}
    unnamed = left - lost - lost_again
    assert not unnamed, {name: (expected[name], found[name]) for name in unnamed}


PROMPTS: Any = st.fixed_dictionaries(
    {"prompt": WORDS},
    optional={
        "max_tokens": st.integers(16, 900),
        "temperature": st.sampled_from([0.0, 0.5]),
        "top_p": st.sampled_from([0.1, 0.9]),
        "stop": st.lists(WORDS, min_size=1, max_size=2, unique=True),
        "seed": st.integers(0, 9),
        "n": st.sampled_from([1, 2]),
        "frequency_penalty": st.just(0.5),
        "presence_penalty": st.just(0.5),
        "logit_bias": st.just({"5": 1}),
        "logprobs": st.integers(0, 3),
        "user": st.just("ada"),
    },
)


@pytest.mark.parametrize("provider", UPSTREAMS)
@settings(max_examples=12, deadline=None)
@given(members=PROMPTS)
def test_a_text_completion_is_asked_of_every_api(provider: str, members: dict[str, Any]) -> None:
    body = json.dumps({"model": "tide-1", **members}).encode()
    start = msgspec.structs.replace(CompletionsDialect().parse(body).canonical(), names={})
    back, lost = asked_of(provider, start)
    expected, found = form(start, provider), form(back, provider)
    left = {name for name in expected if expected[name] != found[name]}
    assert left <= lost, {name: (expected[name], found[name]) for name in left - lost}


# -- answers ----------------------------------------------------------------------------------------------------------

ASKED = CanonicalRequest(model="tide-1", items=[], tools=[CUSTOM, Tool(name="tide")])


def client_of(dialect: str, *, stream: bool) -> BridgedRequest:
    asked = ASKS[dialect] | ({} if dialect == "gemini" else {"model": "tide-1", "stream": stream})
    if stream and dialect in ("chat", "completions"):
        asked["stream_options"] = {"include_usage": True}
    body = json.dumps(asked).encode()
    match dialect:
        case "responses":
            return ResponsesDialect().parse(body)
        case "chat":
            return ChatDialect().parse(body)
        case "completions":
            return CompletionsDialect().parse(body)
        case "messages":
            return MessagesDialect().parse(body)
        case _:
            return GeminiDialect().parse(body, model="tide-1", stream=stream)


def shown(heard: list[Event], dialect: str, *, stream: bool) -> bytes:
    """What a client of the dialect gets. Seals are in an envelope, as the bridge has them."""
    sealed = [
        ReasoningEnd(None, "tgr1_x", one.choice) if isinstance(one, ReasoningEnd) and one.seal else one for one in heard
    ]
    request = client_of(dialect, stream=stream)
    if not stream:
        return request.encode_answer(collected(sealed), call(), TARGETS["chat"])
    encoder = request.encoder(call())
    encoder.attempt(TARGETS["chat"])
    return b"".join(encoder.encode([event]) for event in sealed)


def heard_of(body: bytes, dialect: str, *, stream: bool) -> list[Event]:
    """The answer of a provider of the dialect."""
    if not stream:
        found = UPSTREAMS[dialect].decode_answer(body, TARGETS[dialect], ASKED)
    else:
        decoder = UPSTREAMS[dialect].decoder(TARGETS[dialect], ASKED)
        found = decoder.feed(body) + decoder.eof()
    laws = Laws()
    for event in found:
        laws.check(event)
    assert laws.ended
    return found


def crossed(answer: list[Event], dialect: str, *, stream: bool) -> list[Event]:
    return heard_of(shown(answer, dialect, stream=stream), dialect, stream=stream)


def heard(answer: list[Event], dialects: Iterable[str]) -> Any:
    """What an answer says, as far as all of the dialects have a form for it."""
    found = said(answer)
    if (
        "gemini" in dialects
    ):  # a signature between texts may be either's, and needs a part of its own only where it stands
        found = [entry for entry in found if entry[0] != "seal"]
    if "messages" in dialects:
        found = as_messages_has_it(found, whole=ended(answer)[0] == "stop")
    found = joined([("seal",) if entry[0] == "seal" else entry for entry in found])
    if "chat" in dialects:  # a message is one: what was said before and what after a call, nobody can tell
        return {kind: ["".join(entry[1:]) for entry in found if entry[0] == kind] for kind in ("call", "image")} | {
            kind: "".join(entry[1] for entry in found if entry[0] == kind).replace("\n\n", "")
            for kind in ("text", "thought")
        }
    return found


def as_messages_has_it(found: list[tuple[str, ...]], *, whole: bool) -> list[tuple[str, ...]]:
    """An image is a text with its address, and a thought behind the last text of a complete answer is left out."""
    found = [("text", f"![image]({one[1]})") if one[0] == "image" else one for one in found]
    if whole and any(one[0] == "text" for one in found):
        while found[-1][0] in ("thought", "seal"):
            found.pop()
    return found


def joined(found: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    out: list[tuple[str, ...]] = []
    for kind, *rest in found:
        if out and out[-1][0] == kind and kind in ("text", "thought"):
            out[-1] = (kind, out[-1][1] + rest[0])
        else:
            out.append((kind, *rest))
    return [(kind, rest[0].replace("\n\n", "")) if kind == "thought" else (kind, *rest) for kind, *rest in out]


def end_of(answer: list[Event]) -> tuple[str, Any]:
    """A refusal is a way to end in some APIs, and words in others."""
    reason, usage = ended(answer)
    filtered = reason in ("refusal", "content_filter") or (reason == "stop" and refuses(answer))
    return "filtered" if filtered else reason, usage


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("provider", "client"), PAIRS)
@settings(max_examples=15, deadline=None)
@given(spoken=answers(st.just("tgr1_x")))
def test_an_answer_comes_back_from_another_api(provider: str, client: str, stream: bool, spoken: list[Event]) -> None:
    if {"chat", "messages"} == {provider, client}:  # a picture in the text for one, and beside it for the other
        spoken = [event for event in spoken if not isinstance(event, MediaDelta)]
    if "chat" in (provider, client) and any(isinstance(event, TextDelta) for event in spoken):
        spoken = [event for event in spoken if not isinstance(event, RefusalDelta)]  # beside the text, in one body
    start = crossed(spoken, provider, stream=stream)
    there = crossed(start, client, stream=stream)
    back = crossed(there, provider, stream=stream)
    both = (provider, client)
    assert heard(there, both) == heard(start, both)
    assert heard(back, both) == heard(start, both)
    assert end_of(back) == end_of(there) == end_of(start)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("provider", UPSTREAMS)
@settings(max_examples=15, deadline=None)
@given(spoken=answers(st.just("tgr1_x")))
def test_a_text_completion_has_all_of_the_text(provider: str, stream: bool, spoken: list[Event]) -> None:
    start = crossed(spoken, provider, stream=stream)
    out = shown(start, "completions", stream=stream)
    choices = [choice for chunk in (events(out) if stream else [json.loads(out)]) for choice in chunk["choices"]]
    texts = [
        part.text if isinstance(part, TextPart) else part.refusal
        for item in collected(start).choices[0].items
        if isinstance(item, Message)
        for part in item.content
        if isinstance(part, TextPart | RefusalPart)
    ]
    assert "".join(choice["text"] for choice in choices) == "".join(texts)
    reason = {"tool_calls": "stop", "refusal": "content_filter"}.get(ended(start)[0], ended(start)[0])
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == [reason]
