"""Clients that take a byte now and then: they cost no memory, hold up nobody, and what is kept goes on without them."""

import re
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.support.process import Process
from tests.support.raw import Raw, get, post
from tests.support.running import wait_for

MIB = 1024 * 1024
CHUNKS = 10_000
PATH = "/v1/chat/completions"
BODY = b'{"model":"sim/lorem?chunks=%d&size=2000","messages":[{"role":"user","content":"x"}],"stream":true}' % CHUNKS
"""More than 20 MB as fast as it goes: several times what the kernel and the gateway may hold."""

STALL_S = 1.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    more = f'timeouts = {{ send_stall = "{STALL_S}s" }}\n[logging]\naccess = false\n'
    with Process(tmp_path_factory.mktemp("data"), more) as running:
        yield running


@pytest.fixture(scope="module")
def kept(gateway: Process) -> str:
    """The name of a stream that is kept, and was read whole. What is needed once has been loaded by it."""
    with Raw(gateway) as client:
        answer = client.ask(post(BODY, "tidegate-resume-grace: 30s", path=PATH))
        assert answer.body.count(b"data: ") == CHUNKS + 3
        return answer["tidegate-stream"]


def endings(gateway: Process) -> dict[str, int]:
    metrics = httpx.get(f"http://127.0.0.1:{gateway.port}/metrics", trust_env=False).text
    found = re.findall(r'tidegate_endings_total{ending="(\w+)",endpoint="chat",provider="sim"} (\d+)', metrics)
    return {ending: int(count) for ending, count in found}


def drip(client: Raw, seconds: float) -> None:
    """Read twenty bytes a second, one by one."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        client.buffer += client.sock.recv(1)
        time.sleep(0.05)


@pytest.mark.fault("FAULT-SLOW-READER")
@pytest.mark.alone
def test_what_is_kept_goes_on_without_a_client_that_reads_a_byte_now_and_then(gateway: Process, kept: str) -> None:
    before, ended = gateway.memory(), endings(gateway)["completed"]
    gateway.forget_peak()
    with Raw(gateway, receive_buffer=4096) as client:
        head = client.send(post(BODY, "tidegate-resume-grace: 30s", path=PATH)).response(head_only=True)
        drip(client, STALL_S * 0.7)
        # The provider waits with its client: nothing of what it would say is taken in.
        assert endings(gateway)["completed"] == ended
        assert gateway.peak() - before < 8 * MIB
        drip(client, STALL_S * 0.5)
        # Then the client is dropped, alone: the answer goes on to its end, into the journal.
        assert wait_for(lambda: endings(gateway)["completed"] == ended + 1, 10)
        received = client.rest()
    assert b"[DONE]" not in received
    assert len(received) < 2 * MIB
    whole = httpx.get(f"http://127.0.0.1:{gateway.port}/v1/streams/{head['tidegate-stream']}", trust_env=False).content
    assert whole.count(b"data: ") == CHUNKS + 3
    assert whole.endswith(b"data: [DONE]\n\n")


@pytest.mark.fault("FAULT-SLOW-READER")
@pytest.mark.alone
def test_readers_of_what_is_kept_cost_no_memory_however_slow_they_are(gateway: Process, kept: str) -> None:
    with Raw(gateway) as quick:
        whole = quick.ask(get(f"/v1/streams/{kept}")).body
    before = gateway.memory()
    gateway.forget_peak()
    slow = [Raw(gateway, receive_buffer=4096) for _ in range(12)]
    try:
        for client in slow:
            assert client.send(get(f"/v1/streams/{kept}")).response(head_only=True).status == 200
        for client in slow:
            drip(client, 0.05)
        assert gateway.peak() - before < len(slow) * 2 * MIB
        with Raw(gateway) as quick:
            assert quick.ask(get(f"/v1/streams/{kept}")).body == whole
    finally:
        for client in slow:
            client.sock.close()
