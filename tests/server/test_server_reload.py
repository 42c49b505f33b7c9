"""The configuration is read again and again while requests and streams are under way: none of them notices."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.support.crowd import Crowd, simulator
from tests.support.raw import Raw, post
from tests.support.running import wait_for

CHANGES = 50
SECRET = "sk-app-0123456789abcdef0123456789abcdef"
KEY = f"Authorization: Bearer {SECRET}"

GOOD = """
[server]
port = {port}
data_dir = "{folder}"
keep_alive = "{n}s"
[providers.one]
kind = "sim"
base_url = "{sim}"
timeouts = {{ idle = "{n}s" }}
[providers.two]
kind = "sim"
base_url = "{sim}"
headers = {{ x-turn = "{n}" }}
[models.fast]
target = "{provider}/lorem?text=turn+{n}"
[models.slow]
target = "{provider}/lorem?chunks=10&gap=30"
[[keys]]
name = "app"
secret = "{secret}"
[[keys]]
name = "other"
secret = "sk-other-{n}-0123456789abcdef0123456789abcdef"
"""
BAD = ("[server\n", "[server]\nprot = 1\n", '[models.fast]\ntarget = "nobody/x"\n', "${NOT_SET_ANYWHERE}", None)


@pytest.mark.fault("FAULT-RELOAD")
@pytest.mark.alone
def test_fifty_reloads_some_of_bad_files_are_noticed_by_no_request(tmp_path: Path) -> None:
    file, log = tmp_path / "tidegate.toml", tmp_path / "log"

    def outcomes() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in log.read_text("utf-8").splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] in ("reloaded", "reload_refused")]

    with simulator() as sim, log.open("wb") as err:

        def good(n: int, port: int) -> str:
            provider = ("one", "two")[n % 2]
            return GOOD.format(n=n + 30, port=port, folder=tmp_path, sim=sim, provider=provider, secret=SECRET)

        file.write_text(good(0, 0), "utf-8")
        command = [sys.executable, "-m", "tidegate", "serve", "--config", str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, env={**os.environ}) as process:
            assert process.stdout is not None
            found = re.search(rb":(\d+)$", process.stdout.readline().strip())
            assert found is not None
            there: Any = SimpleNamespace(port=int(found[1]))
            bearer = {"authorization": f"Bearer {SECRET}"}

            def asks() -> None:
                with Raw(there) as client:
                    answer = client.ask(post(b'{"model":"fast","input":"x"}', KEY))
                assert answer.status == 200, answer
                assert b"turn " in answer.body

            def keeps_its_connection() -> None:
                answer = kept.post("/v1/chat/completions", json={"model": "fast", "messages": QUESTION})
                assert answer.status_code == 200, answer.text

            def streams() -> None:
                with Raw(there) as client:
                    answer = client.ask(post(b'{"model":"slow","input":"x","stream":true}', KEY))
                assert answer.status == 200, answer
                assert answer.body.count(b"event: response.completed\n") == 1

            with (
                httpx.Client(base_url=f"http://127.0.0.1:{there.port}", headers=bearer) as kept,
                Crowd(asks, keeps_its_connection, streams, streams, streams) as crowd,
            ):
                bad = 0
                for n in range(1, CHANGES + 1):
                    text = BAD[bad % len(BAD)] if n % 3 == 0 else good(n, there.port)
                    bad += n % 3 == 0
                    if text is None:
                        file.unlink()
                    else:
                        file.write_text(text, "utf-8")
                    process.send_signal(signal.SIGHUP)
                    assert wait_for(lambda count=n: len(outcomes()) == count)  # type: ignore[misc]
                file.write_text(good(CHANGES, there.port), "utf-8")
                for _ in range(5):  # all at once: the last one counts
                    process.send_signal(signal.SIGHUP)
                    time.sleep(0.001)
                assert wait_for(lambda: "turn 80" in kept.post("/v1/responses", json=ANY).text)
            try:
                assert crowd.problems == []
                assert min(crowd.counts) >= 2
                told = outcomes()
                assert sum(line["event"] == "reload_refused" for line in told) == bad
                assert all(line["reason"] for line in told if line["event"] == "reload_refused")
                assert "exception" not in log.read_text("utf-8")
            finally:
                process.terminate()
                assert process.wait(10) == 0


@pytest.mark.fault("FAULT-RELOAD")
def test_a_reload_that_is_asked_for_during_the_start_is_made_up_for(tmp_path: Path) -> None:
    file, log = tmp_path / "tidegate.toml", tmp_path / "log"
    file.write_text(f'[server]\nport = 0\ndata_dir = "{tmp_path}"\n[providers.sim]\n', "utf-8")
    command = [sys.executable, "-m", "tidegate", "serve", "--config", str(file)]
    with log.open("wb") as err, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=err) as process:
        try:
            assert wait_for((tmp_path / "tidegate.db").exists, 10)  # it is about to open its database
            process.send_signal(signal.SIGHUP)
            assert wait_for(lambda: '"event":"reloaded"' in log.read_text("utf-8"), 10)
        finally:
            process.terminate()
            assert process.wait(10) == 0


QUESTION = [{"role": "user", "content": "x"}]
ANY = {"model": "fast", "input": "x"}
