"""Every member of the official SDKs' requests on its way to another dialect: it makes a difference to what the provider
gets, or it is named. Never silence."""

import json
import re
from functools import cache
from typing import Any, Final

import msgspec
import pytest

from tests.conformance.members import Case
from tests.conformance.no_difference import ALIKE, ALSO, LIKE, Like
from tests.conformance.sdk_requests import CLIENTS, kinds
from tests.dialects.common import call
from tidegate.dialects.bridge import Bridge
from tidegate.dialects.chat.upstream import ChatUpstream
from tidegate.dialects.codec import UpstreamDialect
from tidegate.dialects.dialect import Destination, Quirks, Traits
from tidegate.dialects.envelope import KEY_BYTES, Envelopes, Sealer
from tidegate.dialects.gemini import GeminiUpstream
from tidegate.dialects.messages import MessagesUpstream
from tidegate.dialects.responses.upstream import ResponsesUpstream
from tidegate.wire.errors import InvalidRequest, TidegateError

TARGETS: Final[dict[str, tuple[UpstreamDialect, Destination]]] = {
    "responses": (
        ResponsesUpstream(),
        Destination(provider="p", model="m", encrypted_reasoning=True, stores=True, drops=True),
    ),
    "chat": (
        ChatUpstream(),
        Destination(
            provider="p",
            model="m",
            endpoint="chat",
            drops=True,
            quirks=Quirks(openai_chat=True, max_tokens_name="max_completion_tokens"),
        ),
    ),
    "engine": (ChatUpstream(), Destination(provider="p", model="m", endpoint="chat", drops=True)),
    "messages": (
        MessagesUpstream(),
        Destination(
            provider="p",
            model="m",
            endpoint="messages",
            drops=True,
            traits=Traits(thinking="adaptive", efforts=("low", "medium", "high", "xhigh", "max")),
        ),
    ),
    "gemini": (GeminiUpstream(), Destination(provider="p", model="gemini-3-flash", endpoint="gemini", drops=True)),
}


class Translated(msgspec.Struct):
    """One request at all targets: the body, or the error, and what is named."""

    error: TidegateError | None = None
    bodies: dict[str, bytes] = {}
    named: dict[str, tuple[str, ...]] = {}


@cache
def translated(client: str, asked: str) -> Translated:
    made = Translated()
    try:
        request = CLIENTS[client].parse(asked.encode())
        bridge = Bridge(request, call(), Envelopes(Sealer(bytes(KEY_BYTES)), "t"))
        bridge.check()
        for target, (dialect, destination) in TARGETS.items():
            made.bodies[target], made.named[target] = bridge.forward(dialect, destination)
    except TidegateError as error:
        made.error = error
    return made


@cache
def cases_of(client: str) -> list[tuple[Case, str, str]]:
    """Each once, with its two requests."""
    found: dict[tuple[str, str, str], Case] = {}
    for case in CLIENTS[client].cases():
        if case.path != "model" and without_empty(case.given) != without_empty(case.other):
            given, other = (json.dumps(CLIENTS[client].whole(one)) for one in (case.given, case.other))
            found[case.path, given, other] = case
    return [(case, given, other) for (_, given, other), case in found.items()]


def components(path: str) -> list[str]:
    return [one for one in re.split(r"[.\[\]]+", path) if one and not one.isdigit()]


def is_named(case: Case, names: tuple[str, ...]) -> bool:
    """Whether one of the names is that of the member, or of what it is within or of what is within it."""
    within = {*components(case.path), *kinds(case.given)}
    for name in names:
        last = components(name)[-1]
        if last in within or name.startswith((f"{case.path}.", f"{case.path}[")) or within & ALSO.get(last, set()):
            return True
        if case.path.startswith("include") and name == f"include[{case.value}]":
            return True
    return False


def without_empty(value: Any) -> Any:
    """What is empty says as little as what is not there."""
    if isinstance(value, dict):
        return {name: kept for name, one in value.items() if (kept := without_empty(one)) not in ({}, [])}
    return [without_empty(one) for one in value] if isinstance(value, list) else value


PAIRS: Final = [
    (client, target)
    for client in CLIENTS
    for target in TARGETS
    if client != target and (client, target) != ("chat", "engine")
]


@pytest.mark.row("S41", "S42")
@pytest.mark.parametrize(("client", "target"), PAIRS)
def test_a_member_makes_a_difference_or_has_a_name(client: str, target: str) -> None:
    lost: list[str] = []
    for case, given, other in cases_of(client):
        one, two = translated(client, given), translated(client, other)
        if one.error is not None or any(like.covers(case, target) for like in LIKE[client]):
            continue
        if one.bodies[target] == two.bodies.get(target) and not is_named(case, one.named[target]):
            lost.append(f"{case.path} = {json.dumps(case.value)} is lost, and {one.named[target]} named")
    assert not lost, "\n".join(lost)


@pytest.mark.parametrize(("client", "target"), PAIRS)
def test_two_values_of_a_member_are_told_apart_or_named(client: str, target: str) -> None:
    first: dict[tuple[str, bytes], Case] = {}
    for case, given, _ in cases_of(client):
        one = translated(client, given)
        if one.error is not None or case.path in ALIKE[client] or is_named(case, one.named[target]):
            continue
        if not any(like.covers(case, target) for like in LIKE[client]):
            other = first.setdefault((case.path, one.bodies[target]), case)
            assert other.value == case.value, case.path


@pytest.mark.parametrize("client", CLIENTS)
def test_an_error_names_the_member_that_cannot_be_carried(client: str) -> None:
    for case, given, _ in cases_of(client):
        error = translated(client, given).error
        if error is not None:
            assert error.status < 500, error
            param = getattr(error, "param", None) or ""
            assert components(param)[:1] == components(case.path)[:1], f"{case.path}: {error}"


@pytest.mark.parametrize("client", CLIENTS)
def test_every_member_that_is_said_to_make_no_difference_makes_none(client: str) -> None:
    alike: list[Like] = []
    for case, given, other in cases_of(client):
        one, two = translated(client, given), translated(client, other)
        for target in one.bodies:
            if one.bodies[target] == two.bodies.get(target):
                alike.extend(like for like in LIKE[client] if like.covers(case, target))
    assert not [like for like in LIKE[client] if like not in alike]


OURS: Final = frozenset({"model", "stream", "stream_options", "store"})


@pytest.mark.parametrize("client", CLIENTS)
def test_a_request_goes_on_as_it_came_to_a_provider_of_its_dialect(client: str) -> None:
    to = Destination(provider="p", model="gemini-2.5-flash", endpoint=client, gateway_state=False)  # type: ignore[arg-type]
    refused = 0
    for case, given, _ in cases_of(client):
        asked = json.loads(given)
        try:
            request = CLIENTS[client].parse(given.encode())
            sent = json.loads(request.forward(to))
        except InvalidRequest:
            refused += 1
            continue
        assert {name: one for name, one in sent.items() if name not in OURS} == {
            name: one for name, one in asked.items() if name not in OURS
        }, case.path
        assert request.dropped == ()
    assert refused < len(cases_of(client)) / 20
