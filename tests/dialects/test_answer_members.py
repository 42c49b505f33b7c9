"""What an answer holds is carried to each client, or stands on the documented list of what that client does not get."""

import json
import re
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.dialects.answer_members import ANSWERS, AUDITED, CARRIED, CLIENTS, MARK, MEMBERS, NUMBER, Member
from tests.dialects.crossing import Crossing
from tests.dialects.gemini import samples
from tests.docs.pages import LANGUAGES, read, section
from tidegate.dialects.dialect import Endpoint


def message(text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}


def gets(client: str, member: Member, *, stream: bool) -> bool:
    crossing = Crossing(client, cast("Endpoint", member.provider), stream=stream)
    out = (crossing.streamed(member.stream()) if stream else crossing.whole(member.answer())).decode()
    return MARK in out or MARK.lower() in out or str(NUMBER) in out


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("member", MEMBERS, ids=lambda one: f"{one.provider}-{one.name}")
def test_a_member_of_an_answer_reaches_whom_it_is_told_to_reach(member: Member, stream: bool) -> None:
    others = [client for client in CLIENTS if client != member.provider]
    late = {"messages"} if stream and member.late else set()
    assert {client for client in others if not gets(client, member, stream=stream)} == member.lost_on | late


def names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from names(inner)


@pytest.mark.parametrize("provider", AUDITED)
def test_every_member_of_the_official_types_is_carried_or_listed(provider: str) -> None:
    listed = {
        name
        for member in MEMBERS
        if member.provider == provider
        for name in (*member.name.split("."), *map(str, member.path), *names(member.value))
    }
    known = CARRIED[provider] | set(names(ANSWERS[provider])) | listed
    new = {
        f"{kind.__name__}.{name}"
        for kind in AUDITED[provider]
        for name in (field.alias or own for own, field in kind.model_fields.items())
        if name not in known
    }
    assert not new, "carry it, or list it in answer_members.py and docs/{en,zh}/translation.md"


PROVIDERS = {"responses": "Responses", "chat": "chat", "messages": "Anthropic", "gemini": "Gemini"}
SECTIONS = {"en": "Towards clients", "zh": "返回给客户端"}
ALL = {"en": "all", "zh": "全部"}


def told(language: str) -> dict[tuple[str, str], set[str]]:
    """By provider and member, the clients that do not get it."""
    spoken = {title: client for client, title in PROVIDERS.items()}
    found: dict[tuple[str, str], set[str]] = {}
    rows = re.findall(
        r"^\| *([^|\n]*?) *\|([^|\n]*)\| *([^|\n]*?) *\|$",
        section(read(language, "translation.md"), SECTIONS[language]),
        re.MULTILINE,
    )
    for title, listed, losers in rows:
        if title not in spoken:
            continue
        provider = spoken[title]
        others = set(CLIENTS) - {provider}
        clients = others if losers == ALL[language] else {spoken[one] for one in re.split(", |、", losers)}
        for name in re.findall(r"`([^`]+)`", listed):
            assert (provider, name) not in found, f"{name} stands there twice"
            found[provider, name] = clients
    return found


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_no_client_gets_is_documented_and_nothing_else(language: str) -> None:
    assert told(language) == {(one.provider, one.name): one.lost_on for one in MEMBERS if one.lost_on}


def chat_answer(**members: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "潮汐"}, "finish_reason": "stop", **members}
    return {"object": "chat.completion", "choices": [choice]}


STOPPED: dict[str, tuple[Endpoint, dict[str, Any], str]] = {
    "OpenAI's chat": ("chat", chat_answer(), "end_turn"),
    "vLLM": ("chat", chat_answer(stop_reason="END"), "stop_sequence"),
    "SGLang": ("chat", chat_answer(matched_stop="END"), "stop_sequence"),
    "Gemini": ("gemini", samples.chunk(samples.candidate({"text": "潮汐"}, finishReason="STOP")), "end_turn"),
    "cut here": ("responses", {"status": "completed", "output": [message("潮汐END.")]}, "stop_sequence"),
}


@pytest.mark.parametrize(("provider", "answer", "reason"), STOPPED.values(), ids=STOPPED)
def test_an_end_at_a_stop_sequence_is_told_where_the_provider_tells_it(
    provider: Endpoint, answer: dict[str, Any], reason: str
) -> None:
    crossing = Crossing("messages", provider, stream=False, stop_sequences=["END"])
    told = json.loads(crossing.whole(json.dumps(answer).encode()))
    assert told["content"] == [{"type": "text", "text": "潮汐"}]
    assert (told["stop_reason"], told["stop_sequence"]) == (reason, "END" if reason == "stop_sequence" else None)


@pytest.mark.parametrize("language", LANGUAGES)
def test_that_it_is_not_told_by_all_is_documented(language: str) -> None:
    rows = section(read(language, "translation.md"), SECTIONS[language])
    (row,) = re.findall(r"^\| Anthropic \|([^|\n]*)\|$", rows, re.MULTILINE)
    assert "stop_sequence" in row
