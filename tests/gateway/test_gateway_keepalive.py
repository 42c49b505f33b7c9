"""Keep-alives towards the client of a silent stream."""

import pytest

from tests.support.api import Api
from tests.support.running import SIM_ONLY, Running

BRIDGED = """
[server]
port = 0
stream_ping = "1s"
[providers.claude]
kind = "anthropic"
base_url = "{sim}"
credentials = ["sk-ant-0123456789"]
"""
PINGING = SIM_ONLY.replace("port = 0", 'port = 0\nstream_ping = "1s"') + 'timeouts = { idle = "2600ms" }\n'


@pytest.mark.row("S58", "S62")
def test_a_silent_responses_stream_gets_comments_and_keepalive_events_that_take_no_sequence_number() -> None:
    with Running(PINGING) as gateway, Api(gateway) as api:
        reply = api.ask("responses", "sim/lorem?chunks=3&fault=stall&after=6", stream=True)
    pings = [event for event in reply.events if event["type"] == "keepalive"]
    assert pings
    assert reply.content.count(b": keepalive\n\n") == len(pings)
    assert reply.content.count(b"event: keepalive\ndata: ") == len(pings)
    others = [event["sequence_number"] for event in reply.events if event["type"] != "keepalive"]
    assert others == list(range(len(others)))
    # They repeat the last number before the silence; error and response.failed come behind it.
    assert {event["sequence_number"] for event in pings} == {others[-3]}


def test_a_silent_chat_stream_gets_comments_only() -> None:
    with Running(PINGING) as gateway, Api(gateway) as api:
        frames = api.ask("chat", "sim/lorem?chunks=3&fault=stall&after=3", stream=True).content.split(b"\n\n")
    assert b": keepalive" in frames
    assert all(frame.startswith((b":", b"data: ")) or not frame for frame in frames)


def test_a_lively_stream_gets_none() -> None:
    with Running(PINGING) as gateway, Api(gateway) as api:
        reply = api.ask("responses", "sim/lorem?chunks=8&gap=120", stream=True)
    assert b"keepalive" not in reply.content
    assert reply.kinds[-1] == "response.completed"


@pytest.mark.parametrize("endpoint", ["responses", "chat"])
def test_pings_of_a_provider_of_another_dialect_are_no_sign_of_life_for_the_client(endpoint: str) -> None:
    """They come ten times a second here, and the client, who hears nothing of them, once a second."""
    with Running(BRIDGED) as gateway, Api(gateway) as api:
        model = "claude/lorem?fault=ping&after=4&gap=100"
        content = api.ask(endpoint, model, stream=True, headers={"tidegate-timeout": "2600ms"}).content
    assert 1 <= content.count(b": keepalive\n\n") <= 3
    assert b"lorem" in content
