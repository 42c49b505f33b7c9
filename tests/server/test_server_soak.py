"""After many streams, and after many starts and stops, there is no more of anything than before.

The longer mode: `TIDEGATE_STREAMS=100000 TIDEGATE_STARTS=50 make test ARGS=tests/server/test_server_soak.py`.
"""

import gc
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import Api
from tests.support.process import Process
from tests.support.raw import Raw, post
from tests.support.running import SIM_ONLY, Running, wait_for
from tests.support.sockets import Socket
from tidegate.gateway.gateway import Gateway
from tidegate.server.compose import Server
from tidegate.storage.storage import Storage

STREAMS = int(os.environ.get("TIDEGATE_STREAMS", "1600"))
STARTS = int(os.environ.get("TIDEGATE_STARTS", "2"))
AT_ONCE = 16
MIB = 1024 * 1024

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to count files")


def bodies(number: int) -> tuple[bytes, str]:
    """A request of one of three APIs, at a provider that answers well, breaks, or fails."""
    model = ("sim/lorem?chunks=3", "secure/lorem?chunks=3", "sim/lorem?fault=garbage", "sim/echo?status=500")[
        number % 4
    ]
    path, members = (
        ("/v1/responses", {"input": "x"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 99}),
    )[number % 3]
    return json.dumps({"model": model, "stream": True, **members}).encode(), path


def serve(gateway: Process, streams: int) -> None:
    """So many streams: in pipelines on kept connections, and each time one whose client leaves."""
    for first in range(0, streams, AT_ONCE):
        with Raw(gateway) as client, Raw(gateway) as leaving:
            for number in range(first, first + AT_ONCE - 1):
                body, path = bodies(number)
                client.send(post(body, path=path))
            body, path = bodies(first + AT_ONCE - 1)
            leaving.send(post(body, path=path)).reset()
            for _ in range(AT_ONCE - 1):
                assert client.response().status in (200, 502)


@pytest.mark.fault("FAULT-LEAK")
@pytest.mark.alone
@pytest.mark.timeout(60 + STREAMS // 50)
def test_many_streams_leave_nothing_behind(tmp_path: Path) -> None:
    with Process(tmp_path, "[routing]\nretries = 0\neject_after = 0\n[logging]\naccess = false\n") as gateway:
        serve(gateway, STREAMS // 2)
        assert wait_for(lambda: settled(gateway), 10)
        memory, files, threads = gateway.memory(), gateway.files(), gateway.threads()
        serve(gateway, STREAMS // 2)
        assert wait_for(lambda: settled(gateway), 10)
        assert wait_for(lambda: gateway.files() <= files, 5), (gateway.files(), files)
        assert gateway.threads() <= threads
        assert gateway.memory() - memory < 4 * MIB


def settled(gateway: Process) -> bool:
    """Whether nothing is under way and nothing waits to be written."""
    with Raw(gateway) as client:
        metrics = client.ask(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").body.decode()
    return "\ntidegate_exchanges_running 0.0\n" in metrics and "\ntidegate_storage_queued_bytes 0.0\n" in metrics


def live_once(folder: Path) -> None:
    """A gateway that starts, does some of everything, and stops."""
    with Running(SIM_ONLY.replace("port = 0\n", f'port = 0\ndata_dir = "{folder}"\n')) as gateway:
        with Api(gateway) as api:
            assert api.ask("responses", "sim/lorem?chunks=3", stream=True).status == 200
            assert api.ask("chat", "sim/lorem?fault=cut", stream=True).status == 200
            assert api.post("/v1/conversations", {}).status == 200
        with Socket(gateway) as client:
            client.response(input="x")
        with Raw(gateway) as client:
            client.send(post(b'{"model":"sim/lorem?fault=stall","input":"x","stream":true}')).until(b"delta")


def counts() -> dict[str, Any]:
    gc.collect()
    kept = gc.get_objects()
    return {
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        **{kind.__name__: sum(type(one) is kind for one in kept) for kind in (Gateway, Server, Storage)},
    }


@pytest.mark.fault("FAULT-LEAK")
def test_starts_and_stops_leave_nothing_behind(tmp_path: Path) -> None:
    live_once(tmp_path)  # what is needed once
    before = counts()
    for _ in range(STARTS):
        live_once(tmp_path)
    assert counts() == before
