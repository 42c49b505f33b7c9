"""Keep-alives towards the client of a silent stream."""

import httpx

from tests.support.running import SIM_ONLY, Running

PINGING = SIM_ONLY.replace("port = 0", 'port = 0\nstream_ping = "1s"') + 'timeouts = { idle = "2600ms" }\n'


def test_a_silent_responses_stream_gets_comments_and_keepalive_events_that_take_no_sequence_number() -> None:
    body = {"model": "sim/lorem?chunks=3&fault=stall&after=6", "input": "x", "stream": True}
    with Running(PINGING) as gateway, httpx.Client(timeout=20) as client:
        frames = client.post(f"{gateway.url}/responses", json=body).text.split("\n\n")
    pings = [frame for frame in frames if frame.startswith("event: keepalive")]
    assert pings
    assert frames.count(": keepalive") == len(pings)
    numbers = [
        int(frame.rpartition('"sequence_number":')[2].rstrip("}").split(",")[0])
        for frame in frames
        if frame.startswith("event: response.output_text.delta")
    ]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_silent_chat_stream_gets_comments_only() -> None:
    body = {"model": "sim/lorem?chunks=3&fault=stall&after=6", "messages": [{"role": "user", "content": "x"}], "stream": True}
    with Running(PINGING) as gateway, httpx.Client(timeout=20) as client:
        frames = client.post(f"{gateway.url}/chat/completions", json=body).text.split("\n\n")
    assert ": keepalive" in frames
    assert all(frame.startswith((":", "data: ")) or not frame for frame in frames)


def test_a_lively_stream_gets_none() -> None:
    body = {"model": "sim/lorem?chunks=8&gap=200", "input": "x", "stream": True}
    with Running(PINGING) as gateway, httpx.Client(timeout=20) as client:
        text = client.post(f"{gateway.url}/responses", json=body).text
    assert "keepalive" not in text
    assert "event: response.completed" in text
