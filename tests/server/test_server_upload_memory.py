"""What an upload costs in memory, seen from outside: the gateway is a process of its own.

`TIDEGATE_UPLOAD_MB=500` makes the upload larger; `python -m bench.uploads` measures the delay of other streams beside it.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forms import BOUNDARY, form, noise, upload
from tests.support.process import Process
from tests.support.raw import Raw

MIB = 1024 * 1024
SIZE = int(os.environ.get("TIDEGATE_UPLOAD_MB", "64")) * MIB
MOST = 30 * MIB
END = f"\r\n--{BOUNDARY}--\r\n"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with Process(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def send(process: Process, size: int, model: str, **fields: str) -> None:
    """Uploads a file that is nowhere whole, and holds the answer against it."""
    block, digest = noise(MIB), hashlib.sha256()
    body = form(b"", model=model, **fields)
    with Raw(process, timeout=60) as client:
        client.send(upload(body[: -len(END)], length=len(body) + size))
        for _ in range(size // MIB):
            client.send(block)
            digest.update(block)
        answer = client.ask(END.encode())
    assert answer.status == 200
    assert f"{size} {digest.hexdigest()}" in answer.body.decode()


@pytest.mark.security("SEC-API4-MEMORY")
@pytest.mark.row("S84")
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc to read a peak")
@pytest.mark.parametrize("model", ["sim/echo", "secure/echo"], ids=["plain", "TLS"])
@pytest.mark.parametrize("stream", ["false", "true"])
def test_an_upload_never_stands_whole_in_memory(process: Process, model: str, stream: str) -> None:
    send(process, 2 * MIB, model)  # what is needed once
    process.forget_peak()
    before = process.memory()
    send(process, SIZE, model, **({"stream": stream} if stream == "true" else {"response_format": "text"}))
    assert process.peak() - before < MOST
