"""Uploads give way: however many come, and however fast, nobody else on the loop waits long."""

import threading
import time
from pathlib import Path

import pytest

from tests.support.forms import echo_of, form, noise, open_files, upload
from tests.support.process import Simulators
from tests.support.raw import Raw
from tests.support.running import Running, wait_for

MIB = 1024 * 1024
UPLOADS = 10
MOST_S = 0.005
"""Design §10: the longest stall of the loop."""


@pytest.mark.fault("FAULT-LOOP-BLOCKED")
@pytest.mark.alone
def test_ten_uploads_never_keep_the_loop_busy_for_long(tmp_path: Path) -> None:
    """Of every turn the processor time of the loop's thread is taken: a busy machine makes it wait, but not work more."""
    data = noise(8 * MIB)
    turns: list[float] = []
    answers: list[str] = []
    with Simulators(tmp_path) as there:
        toml = f'[server]\nport = 0\n[providers.sim]\nbase_url = "{there.plain}"\n'
        with Running(toml) as gateway:
            running = True
            last = 0.0

            def turn() -> None:
                nonlocal last
                now = time.thread_time()
                if last:
                    turns.append(now - last)
                last = now
                if running:
                    gateway.loop.call_soon(turn)

            def send() -> None:
                with Raw(gateway, timeout=30) as client:
                    answers.append(client.ask(upload(form(data))).json["text"])

            send()  # what is needed once
            gateway.loop.call_soon_threadsafe(turn)
            clients = [threading.Thread(target=send) for _ in range(UPLOADS)]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            running = False
            assert wait_for(lambda: open_files(gateway) == 0)
    assert answers == [echo_of(data)] * (UPLOADS + 1)
    assert len(turns) > UPLOADS * 8 * 4, "a turn read more than a quarter of a megabyte"
    assert max(turns) < MOST_S
