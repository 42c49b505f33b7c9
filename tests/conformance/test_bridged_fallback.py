"""One dialect stands in for another until the answer has begun, and the client sees one stream."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.clients import NAMES, Client
from tests.conformance.providers import PROVIDERS, SPEAKS, TOML, calls_of
from tests.support.api import Api
from tests.support.grammar import check_stream
from tests.support.running import Running
from tests.support.strict import check_event

SAID = "Say it back: tide 🌊 潮汐"

# `begun`: the provider has opened its stream, with events that carry nothing of an answer, when it fails.
BEGUN = {
    "openai": "lorem?fault=close&after=2",
    "openai-chat": "lorem?fault=close&after=1",
    "lab": "lorem?fault=error&after=1",
    "anthropic": "lorem?fault=error&after=2",
    "google": "lorem?fault=error&after=0",
}
PAIRS = [(first, second) for first in PROVIDERS for second in PROVIDERS if first != second]
MODELS = "".join(
    f'[models.begun-{first}-{second}]\ntarget = "{first}/{BEGUN[first]}"\nfallback = ["{second}/echo"]\n'
    f'[models.burst-{first}-{second}]\ntarget = "{first}/{BEGUN[first]}&burst=1"\nfallback = ["{second}/echo"]\n'
    f'[models.late-{first}-{second}]\ntarget = "{first}/lorem?fault=cut"\nfallback = ["{second}/echo"]\n'
    f'[models.closed-{first}-{second}]\ntarget = "{first}/echo?status=503"\nfallback = ["{second}/echo"]\n'
    for first, second in PAIRS
)
ROUND = """
[models.round]
target = "openai/lorem?fault=close&after=2"
fallback = ["anthropic/lorem?fault=error&after=2", "openai/lorem?fault=close&after=1", "lab/lorem?fault=close&after=1", "google/echo"]
[models.picky]
target = "openai-chat/echo?status=503"
fallback = ["anthropic/echo", "openai/echo", "lab/echo"]
[models.hopeless]
target = "openai/lorem?fault=close&after=2"
fallback = ["anthropic/lorem?fault=error&after=2"]
"""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML + MODELS + ROUND) as running:
        yield running


def stream_of(api: Api, model: str) -> Any:
    """The whole stream of a Responses client, held to the grammar, and the response of its end."""
    reply = api.ask("responses", model, say=SAID, stream=True)
    assert reply.status == 200
    for event in reply.events:
        check_event(event)
    response = check_stream(reply.frames)
    assert reply.kinds.count("response.created") == 1
    assert reply.kinds.count("response.in_progress") == 1
    return response, reply


@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize("how", ["begun", "burst", "closed"])
def test_a_responses_client_sees_one_gapless_stream(gateway: Running, how: str, first: str, second: str) -> None:
    with Api(gateway) as api:
        response, reply = stream_of(api, f"{how}-{first}-{second}")
        assert response["status"] == "completed"
        assert reply.text == SAID
        entry = gateway.usage(reply.request_id)
    assert (entry["attempts"], entry["deployment"], entry["ending"]) == (2, f"{second}/echo", "completed")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize("how", ["begun", "burst", "closed", "whole"])
def test_every_client_gets_the_second_answer_alone(
    clients: dict[str, Client], how: str, name: str, first: str, second: str
) -> None:
    client = clients[name]
    if how == "whole" or (name == SPEAKS[first] and name != "responses"):
        # The first frame of a provider of the client's own dialect is an answer begun, but for Responses.
        model = f"closed-{first}-{second}"
    else:
        model = f"{how}-{first}-{second}"
    answer = client.ask(model, client.user(SAID), stream=how != "whole")
    assert answer.text == SAID
    assert b"lorem ipsum" not in client.wire.body


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_nobody_stands_in_once_the_answer_has_begun(
    gateway: Running, clients: dict[str, Client], name: str, first: str, second: str
) -> None:
    client = clients[name]
    calls = len(calls_of(gateway))
    with pytest.raises(client.errors):
        client.ask(f"late-{first}-{second}", client.user(SAID), stream=True)
    assert client.check_broken(cut=True) == " 0 lorem ipsum d"
    assert len(calls_of(gateway)) == calls + 1


def test_a_stream_may_go_through_many_hands(gateway: Running) -> None:
    with Api(gateway) as api:
        response, reply = stream_of(api, "round")
        assert (response["status"], reply.text) == ("completed", SAID)
        assert gateway.usage(reply.request_id)["attempts"] == 5


def test_when_all_fail_the_stream_that_was_opened_ends_as_failed(gateway: Running) -> None:
    with Api(gateway) as api:
        response, reply = stream_of(api, "hopeless")
    assert response["status"] == "failed"
    assert reply.kinds == ["response.created", "response.in_progress", "error", "response.failed"]


def test_a_deployment_that_cannot_honour_the_request_is_passed_over(gateway: Running) -> None:
    with Api(gateway) as api:
        reply = api.ask("chat", "picky", say=SAID, seed=1)
        assert reply.text == SAID
        assert reply.headers["tidegate-deployment"] == "lab/echo"
        assert api.sent["seed"] == 1
