"""What a client of the gateway reads when the way to a provider fails: status, code, and a message that names the
provider and the clock, and never a credential."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.support.running import Running
from tests.upstream.stage import CANARY, Certificates, Peer, Provider, Script, full_listener, saying

CONFIG = """
[server]
port = 0
[routing]
retries = 0
[providers.lab]
kind = "openai-compatible"
base_url = "{url}"
credentials = ["{canary}"]
speaks = ["chat"]
models = ["m"]
{more}
"""


@contextmanager
def provider(script: Script, certificates: Certificates | None = None) -> Iterator[str]:
    """The address of a scripted provider in a thread of its own."""
    ready: list[Provider] = []
    started = threading.Event()
    stop: list[asyncio.Event] = []

    async def main() -> None:
        stop.append(asyncio.Event())
        context = certificates.server() if certificates is not None else None
        async with Provider(script, context=context) as one:
            ready.append(one)
            started.set()
            await stop[0].wait()

    loops: list[asyncio.AbstractEventLoop] = []

    def run() -> None:
        with asyncio.Runner() as runner:
            loops.append(runner.get_loop())
            runner.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(5)
    try:
        yield ready[0].url
    finally:
        loops[0].call_soon_threadsafe(stop[0].set)
        thread.join(5)


def ask(url: str, *, more: str = "", stream: bool = False, **headers: str) -> httpx.Response:
    body = {"model": "lab/m", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    with Running(CONFIG.replace("{url}", url).replace("{more}", more).replace("{canary}", CANARY)) as gateway:
        answer = httpx.post(f"{gateway.url}/chat/completions", json=body, headers=headers, timeout=10)
        assert CANARY not in answer.text
        assert CANARY not in gateway._log.getvalue()
    return answer


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


def test_nobody_listens() -> None:
    status, code, message = error_of(ask("http://127.0.0.1:9/v1"))
    assert (status, code) == (502, "upstream_unreachable")
    assert message == "Provider 'lab': no connection to 127.0.0.1:9: Connection refused."


@pytest.mark.parametrize("stream", [True, False])
def test_the_connect_clock(stream: bool) -> None:
    with full_listener() as port:
        answer = ask(f"http://127.0.0.1:{port}/v1", more='timeouts = { connect = "200ms" }', stream=stream)
    assert error_of(answer) == (504, "upstream_timeout", "Provider 'lab': no connection within 0.2 s (connect clock).")


def test_the_first_event_clock() -> None:
    with provider(saying(hold=True)) as url:
        answer = ask(url, more='timeouts = { first_event = "200ms" }', stream=True)
    assert error_of(answer) == (504, "upstream_timeout", "Provider 'lab': no event within 0.2 s (first_event clock).")


def test_the_idle_clock_of_an_answer_in_one_body() -> None:
    with provider(saying(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", hold=True)) as url:
        answer = ask(url, more='timeouts = { idle = "200ms" }')
    assert error_of(answer) == (504, "upstream_timeout", "Provider 'lab': silent for 0.2 s (idle clock).")


@pytest.mark.parametrize("stream", [True, False])
def test_the_total_clock_of_a_request(stream: bool) -> None:
    with provider(saying(hold=True)) as url:
        answer = ask(url, stream=stream, **{"tidegate-timeout": "300ms"})
    assert error_of(answer) == (
        504,
        "upstream_timeout",
        "Provider 'lab': no complete answer within 0.3 s (total clock).",
    )


def test_a_certificate_that_is_not_trusted(certificates: Certificates) -> None:
    with provider(saying(), certificates) as url:
        status, code, message = error_of(ask(url))
    assert (status, code) == (502, "upstream_unreachable")
    assert message.startswith("Provider 'lab': the TLS certificate of localhost is not trusted: ")


def test_an_answer_that_is_cut() -> None:
    with provider(saying(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{")) as url:
        status, code, message = error_of(ask(url))
    assert (status, code) == (502, "upstream_broken")
    assert message == "Provider 'lab': closed the connection before its answer was complete."


@pytest.mark.security("SEC-CRED-REDIRECT")
def test_a_redirect() -> None:
    async def thief(peer: Peer) -> None:
        stolen.append(await peer.request())

    stolen: list[bytes] = []
    with provider(thief) as elsewhere:
        raw = f"HTTP/1.1 307 Moved\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n".encode()
        with provider(saying(raw, hold=True)) as url:
            status, code, message = error_of(ask(url))
    assert (status, code) == (502, "upstream_broken")
    assert message == "Provider 'lab' answered with status 307, which is a redirect; redirects are not followed."
    assert not stolen
