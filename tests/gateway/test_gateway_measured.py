"""Budgets and recordings: what is reserved for one is more than it lasts, whatever its header says."""

import io
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.forms import form, noise, open_files, upload
from tests.support.raw import Raw, Response
from tests.support.running import Running, wait_for

av = pytest.importorskip("av", reason="the extra local-audio is not installed")

SECRET = "key-0123456789abcdef0123456789ab-{}"
TOML = f"""
[server]
port = 0
max_upload = "40MiB"
[providers.sim]
base_url = "{{sim}}"
[prices."sim/*"]
second = 0.01
[prices."sim/echo?chunks=1"]
second = 0
[[keys]]
name = "budget"
secret = "{SECRET.format("budget")}"
limits = {{ cost = {{ month = 1 }} }}
[[keys]]
name = "disk"
secret = "{SECRET.format("disk")}"
limits = {{ cost = {{ month = 1 }} }}
[[keys]]
name = "open"
secret = "{SECRET.format("open")}"
"""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_is_left(gateway: Running) -> Iterator[None]:
    yield
    assert wait_for(lambda: open_files(gateway) == 0)


def ask(gateway: Running, key: str, data: bytes, model: str = "sim/echo") -> Response:
    with Raw(gateway) as client:
        return client.ask(upload(form(data, model=model), f"authorization: Bearer {SECRET.format(key)}"))


def silence(seconds: int, container: str, codec: str) -> bytes:
    into = io.BytesIO()
    with av.open(into, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=8000)
        stream.layout = "mono"
        for at in range(seconds):
            frame = av.AudioFrame(format="s16", layout="mono", samples=8000)
            frame.sample_rate = 8000
            frame.planes[0].update(bytes(16000))
            frame.pts = 8000 * at
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return into.getvalue()


@pytest.mark.security("SEC-API4-BOUND")
def test_hours_of_silence_do_not_pass_a_budget_for_a_minute(gateway: Running) -> None:
    """Two minutes of silence have few bytes in FLAC; a second costs a cent, and the budget is a dollar."""
    quiet = silence(120, "flac", "flac")
    assert len(quiet) < 100 * 500
    reply = ask(gateway, "budget", quiet)
    assert reply.status == 429
    assert "$1.2" in reply.error["message"]
    assert ask(gateway, "open", quiet).status == 200


def test_what_fits_the_budget_passes_also_from_the_disk(gateway: Running) -> None:
    """80 s at 16,000 bytes each are more than is kept in memory."""
    assert ask(gateway, "budget", silence(30, "wav", "pcm_s16le")).status == 200
    long = silence(80, "wav", "pcm_s16le")
    assert len(long) > 1024 * 1024
    assert ask(gateway, "disk", long).status == 200


@pytest.mark.security("SEC-API4-BOUND")
def test_a_recording_that_nobody_can_measure_is_refused_under_a_budget(gateway: Running) -> None:
    data = b"#!AMR\n" + noise(5000)
    calls = len(gateway.sim.requests)
    reply = ask(gateway, "budget", data)
    assert (reply.status, reply.error["code"], reply.error["param"]) == (403, "duration_unknown", "file")
    assert "FLAC" in reply.error["message"]
    assert len(gateway.sim.requests) == calls
    assert ask(gateway, "open", data).status == 200
    assert ask(gateway, "budget", data, "sim/echo?chunks=1").status == 200
