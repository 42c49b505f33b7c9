"""What keeps the event loop from its work is noticed, measured and named."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import Api
from tests.support.raw import Raw, post
from tests.support.running import Running, wait_for
from tidegate.server.supervisor import watches
from tidegate.telemetry.watchdog import BLOCKED_S, LOOKS

SECRET = "what-nobody-may-read-in-a-log"


def figure(api: Api, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", api.get("/metrics").content.decode(), re.MULTILINE)
    assert found, name
    return float(found[1])


def lines(gateway: Running, event: str) -> list[dict[str, Any]]:
    return [line for line in gateway.log_lines if line["event"] == event]


@pytest.mark.fault("FAULT-LOOP-BLOCKED")
def test_a_block_is_told_while_it_lasts_with_its_place_and_again_when_it_is_over() -> None:
    with Running() as gateway, Api(gateway) as api, Raw(gateway) as client:

        def block(secret: str) -> None:
            until = time.monotonic() + 10
            while not lines(gateway, "loop_blocked") and time.monotonic() < until:
                time.sleep(0.01)

        client.send(post(b'{"model":"sim/lorem?chunks=3&gap=50","input":"x","stream":true}'))
        gateway.loop.call_soon_threadsafe(block, SECRET)
        assert wait_for(lambda: lines(gateway, "loop_free"), 12)
        (told,), (free,) = lines(gateway, "loop_blocked"), lines(gateway, "loop_free")
        assert told["level"] == "warning"
        assert BLOCKED_S * 0.7 < told["blocked_s"] <= free["blocked_s"] < 10
        assert any(re.fullmatch(rf"{__name__}:\d+ \S*\.block", call) for call in told["where"]), told
        assert SECRET not in json.dumps(told)
        # Nobody's stream was given up for it.
        assert b"event: response.completed\n" in client.response().body
        assert figure(api, "tidegate_loop_blocked_total") == 1
        assert figure(api, "tidegate_loop_lag_seconds_sum") >= told["blocked_s"]
        assert wait_for(lambda: figure(api, "tidegate_loop_lag_seconds_count") > 3), "it looks no more"


@pytest.mark.fault("FAULT-LOOP-BLOCKED")
def test_a_supervisor_hears_that_the_loop_turns_and_nothing_while_it_does_not(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.settimeout(5)
        told = {
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "30000000",
            "WATCHDOG_PID": str(os.getpid()),
        }
        with Running(environment=told) as gateway:
            heard = [supervisor.recv(99) for _ in range(4)]
            assert heard.count(b"WATCHDOG=1") >= 2
            gateway.loop.call_soon_threadsafe(time.sleep, 0.8)
            time.sleep(0.1)
            supervisor.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    supervisor.recv(99)
            time.sleep(0.5)
            with pytest.raises(BlockingIOError):
                supervisor.recv(99)
            supervisor.settimeout(5)
            assert supervisor.recv(99) == b"WATCHDOG=1"
        assert not watches({**told, "WATCHDOG_PID": "1"}, os.getpid())
        assert not watches({}, os.getpid())


QUICK_S = 0.05
"""So that a block is soon one."""

ALONE = f"""
import asyncio, re, sys, time
from tidegate.telemetry import log
from tidegate.telemetry.metrics import Metrics
from tidegate.telemetry.watchdog import Watchdog

def never_lets_go():
    size = 22
    while True:
        began = time.monotonic()
        re.match("(a+)+$", "a" * size + "b")
        if time.monotonic() - began > {QUICK_S * LOOKS} * 2:
            return
        size += 1

async def main():
    log.configure("info", "json", sys.stdout)
    watchdog = Watchdog(asyncio.get_running_loop(), Metrics(), look_s={QUICK_S})
    watchdog.start()
    await asyncio.sleep(0.3)
    if sys.argv[1] == "busy":
        asyncio.get_running_loop().call_soon(never_lets_go)
    print("ready", flush=True)
    await asyncio.sleep(float(sys.argv[2]))
    watchdog.stop()

asyncio.run(main())
"""


def watched(what: str, seconds: float) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", ALONE, what, str(seconds)], stdout=subprocess.PIPE, text=True)


@pytest.mark.fault("FAULT-LOOP-BLOCKED")
def test_what_never_lets_go_of_the_interpreter_is_told_afterwards() -> None:
    with watched("busy", 0.1) as process:
        out, _ = process.communicate(timeout=60)
    told = [json.loads(line) for line in out.splitlines() if "loop_blocked" in line]
    assert told
    assert all(one["blocked_s"] >= QUICK_S * LOOKS for one in told)


@pytest.mark.fault("FAULT-LOOP-BLOCKED")
def test_a_process_that_was_stopped_has_not_blocked_its_loop() -> None:
    with watched("idle", 1.0) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        process.send_signal(signal.SIGCONT)
        out, _ = process.communicate(timeout=60)
    assert "loop_blocked" not in out
