"""The tier at which an answer was made, which may be another one than was asked for."""

import json
from typing import Any

import pytest

from tests.dialects.answer_members import Member
from tests.dialects.common import events
from tests.dialects.crossing import Crossing
from tidegate.dialects.dialect import Endpoint

PATHS: dict[Endpoint, tuple[str, ...]] = {
    "responses": ("service_tier",),
    "chat": ("service_tier",),
    "messages": ("usage", "service_tier"),
}


def tiers(client: str, provider: Endpoint, told: Any, *, stream: bool) -> list[Any]:
    """The tiers that a client reads which has asked for `flex`, in their order."""
    member = Member(provider, "service_tier", PATHS[provider], told)
    more = {"service_tier": "flex", "stream_options": {"include_usage": True}} if client == "chat" else {}
    if client == "responses":
        more = {"service_tier": "flex"}
    if not stream:
        more.pop("stream_options", None)
    crossing = Crossing(client, provider, stream=stream, **more)
    if not stream:
        return [json.loads(crossing.whole(member.answer())).get("service_tier")]
    found = events(crossing.streamed(member.stream()))
    if client == "chat":
        return [chunk.get("service_tier") for chunk in found]
    return [event["response"]["service_tier"] for event in found if "response" in event]


@pytest.mark.parametrize(("provider", "told"), [("chat", "priority"), ("messages", "priority")])
def test_a_responses_client_reads_the_tier_at_which_it_was_answered(provider: Endpoint, told: str) -> None:
    assert tiers("responses", provider, told, stream=False) == ["priority"]
    assert tiers("responses", provider, told, stream=True) == ["default", "default", "priority"]


def test_a_chat_client_reads_the_tier_from_the_moment_on_in_which_it_is_known() -> None:
    assert tiers("chat", "responses", "priority", stream=False) == ["priority"]
    assert tiers("chat", "messages", "priority", stream=False) == ["priority"]
    assert set(tiers("chat", "messages", "priority", stream=True)) == {"priority"}
    late = tiers("chat", "responses", "priority", stream=True)
    assert late[0] is None
    assert late[-2:] == ["priority", "priority"]


@pytest.mark.parametrize("stream", [True, False])
def test_anthropics_standard_is_the_default(stream: bool) -> None:
    assert tiers("responses", "messages", "standard", stream=stream)[-1] == "default"
    assert tiers("chat", "messages", "standard", stream=stream)[-1] == "default"


@pytest.mark.parametrize("told", ["auto", None, 7])
@pytest.mark.parametrize("stream", [True, False])
def test_a_provider_that_says_nothing_changes_nothing(told: Any, stream: bool) -> None:
    assert tiers("responses", "chat", told, stream=stream)[-1] == "default"
    assert tiers("chat", "responses", told, stream=stream)[-1] is None
