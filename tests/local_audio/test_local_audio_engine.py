"""The engine's life: it starts when it is needed, stops what nobody waits for, survives crashes, and outlives nobody."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn

from tests.local_audio.conftest import Engine, children, is_alive
from tests.support.running import Running, wait_for
from tidegate.config.automatic import automatic
from tidegate.config.load import load
from tidegate.config.problem import ConfigInvalid
from tidegate.local_audio import LocalAudio
from tidegate.local_audio.app import application
from tidegate.local_audio.pool import Pool

pytestmark = pytest.mark.alone  # the engine yields to everyone, so it gets nowhere beside them

LONG = "The weather will be cold and cloudy for the next three days. " * 60


@contextlib.contextmanager
def half_read(engine: Engine, body: dict[str, Any]) -> Iterator[socket.socket]:
    """A client that has read the beginning of an answer to a speech request, and reads no more."""
    parts = urlsplit(engine.url)
    payload = json.dumps({"model": "espeak-ng", "voice": "alloy", **body}).encode()
    with socket.create_connection((str(parts.hostname), parts.port or 0), timeout=30) as sock:
        sock.sendall(
            b"POST %b/audio/speech HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            % (parts.path.encode(), len(payload))
            + payload
        )
        assert sock.recv(1000).startswith(b"HTTP/1.1 200")
        yield sock


@pytest.fixture
def fresh() -> Iterator[Engine]:
    """An engine for a test that harms it."""
    with Engine() as running:
        assert httpx.get(f"{running.url}/models", timeout=30).status_code == 200
        yield running


def test_the_models_are_listed(engine: Engine) -> None:
    body = httpx.get(f"{engine.url}/models", timeout=30).json()
    assert [model["id"] for model in body["data"]] == ["espeak-ng", "pocketsphinx"]


def test_nobody_gets_in_without_the_secret_of_the_address(engine: Engine) -> None:
    parts = urlsplit(engine.url)
    for path in ("/v1/models", "/models", "/", f"{parts.path[:-4]}x/v1/models"):
        answer = httpx.get(f"http://{parts.netloc}{path}")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"
    with open(f"/proc/{engine.pid}/cmdline", encoding="utf-8") as file:
        assert parts.path.split("/")[1] not in file.read(), "the list of processes is public"


def test_a_wrong_method_is_told_the_right_one(engine: Engine) -> None:
    answer = httpx.get(f"{engine.url}/audio/speech")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_client_that_leaves_ends_the_worker_at_once(fresh: Engine) -> None:
    with half_read(fresh, {"input": LONG, "response_format": "wav"}):
        [worker] = fresh.workers()
        left = time.monotonic()
    wait_for(lambda: not is_alive(worker))
    assert not is_alive(worker)
    assert time.monotonic() - left < 1.0


def test_a_client_that_leaves_ends_its_transcription(fresh: Engine, recording: bytes) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{fresh.url}/audio/transcriptions",
            data={"model": "pocketsphinx"},
            files={"file": ("a.wav", recording * 80)},
            timeout=httpx.Timeout(30, read=0.6),
        )
    left = time.monotonic()
    assert wait_for(lambda: not fresh.workers())
    assert time.monotonic() - left < 1.0


def test_a_slow_reader_holds_the_worker_back(fresh: Engine) -> None:
    with half_read(fresh, {"input": LONG[:3600], "response_format": "wav"}) as sock:
        time.sleep(0.8)
        received = 0
        while piece := sock.recv(1 << 16):
            received += len(piece)
            if piece.endswith(b"0\r\n\r\n"):
                break
        assert received > 8_000_000, "nothing is lost by waiting"


def test_workers_yield_to_everyone_and_are_used_again(engine: Engine) -> None:
    engine.speak("One.")
    workers = engine.workers()
    engine.speak("Two.")
    assert engine.workers() == workers
    assert {os.getpriority(os.PRIO_PROCESS, worker) for worker in workers} == {19}


def test_a_worker_that_dies_is_a_clean_error_and_is_replaced(fresh: Engine, recording: bytes) -> None:
    def kill() -> None:
        workers = wait_for(fresh.workers)
        time.sleep(0.4)
        os.kill(workers[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    answer = fresh.transcribe(recording * 40)
    killer.join()
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "lost the process" in answer.json()["error"]["message"]
    assert fresh.speak("Good morning").status_code == 200


def test_sound_that_breaks_off_does_not_end_like_a_whole_one(fresh: Engine) -> None:
    body = {"model": "espeak-ng", "voice": "alloy", "input": LONG[:3600], "response_format": "wav"}
    with httpx.stream("POST", f"{fresh.url}/audio/speech", json=body, timeout=30) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        for worker in fresh.workers():
            os.kill(worker, signal.SIGKILL)
        with pytest.raises(httpx.RemoteProtocolError):
            list(pieces)


def test_events_that_break_off_say_so(fresh: Engine) -> None:
    body = {"model": "espeak-ng", "voice": "alloy", "input": LONG[:3600], "response_format": "wav"}
    with httpx.stream("POST", f"{fresh.url}/audio/speech", json={**body, "stream_format": "sse"}, timeout=30) as answer:
        lines = answer.iter_lines()
        next(lines)
        for worker in fresh.workers():
            os.kill(worker, signal.SIGKILL)
        rest = [line for line in lines if line]
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["type"] == "server_error"
    assert "[DONE]" not in rest[-1]


def test_an_engine_that_crashes_is_started_again(fresh: Engine) -> None:
    before = fresh.pid
    os.kill(before, signal.SIGKILL)
    assert fresh.speak("Good morning").status_code == 200, "the request waits in the socket's queue"
    assert fresh.pid != before
    assert [event for event, _ in fresh.notes] == ["local_audio_ended"]


def test_signals_to_the_group_do_not_end_it_before_the_gateway_has_drained(fresh: Engine) -> None:
    fresh.speak("One.")
    processes = [fresh.pid, *fresh.workers()]
    for number in (signal.SIGINT, signal.SIGTERM):
        for process in processes:
            os.kill(process, number)
    assert fresh.speak("Two.").status_code == 200
    assert [fresh.pid, *fresh.workers()] == processes


def test_credentials_of_the_gateway_do_not_reach_it() -> None:
    with Engine({**os.environ, "OPENAI_API_KEY": "sk-secret"}) as engine:
        engine.speak("One.")
        for process in (engine.pid, *engine.workers()):
            environment = Path(f"/proc/{process}/environ").read_bytes()
            assert b"PATH=" in environment
            assert b"OPENAI_API_KEY" not in environment


PARENT = """
import asyncio, os, sys
from tidegate.local_audio import LocalAudio

async def main():
    audio = LocalAudio(os.environ, print)
    audio.start()
    print(audio.base_url, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_it_dies_with_the_gateway_however_that_dies() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        body = {"model": "espeak-ng", "voice": "alloy", "input": "One."}
        assert httpx.post(f"{url}/audio/speech", json=body, timeout=30).status_code == 200
        [engine] = children(parent.pid)
        family = [engine, *children(engine)]
        assert len(family) == 2
        parent.kill()
    assert wait_for(lambda: not any(map(is_alive, family)), 2.0)


# --- the pool ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def served(pool: Pool) -> Iterator[str]:
    """The engine's application with another pool, in a thread of this process."""
    server = uvicorn.Server(uvicorn.Config(application("t", pool, pool), log_config=None, lifespan="off", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as sock:

        async def serve() -> None:
            await server.serve(sockets=[sock])
            await pool.close()

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        try:
            yield f"http://127.0.0.1:{sock.getsockname()[1]}/t/v1"
        finally:
            server.should_exit = True
            thread.join(10)


def speak_at(url: str, text: str) -> httpx.Response:
    body = {"model": "espeak-ng", "voice": "alloy", "input": text, "response_format": "wav"}
    return httpx.post(f"{url}/audio/speech", json=body, timeout=30)


def test_who_waits_too_long_or_behind_too_many_is_sent_away() -> None:
    pool = Pool(1, max_waiting=1, wait_s=0.6)
    with served(pool) as url:
        busy = httpx.Client()
        body = {"model": "espeak-ng", "voice": "alloy", "input": LONG[:4000], "response_format": "wav"}
        with busy, busy.stream("POST", f"{url}/audio/speech", json=body, timeout=30) as unread:
            assert unread.status_code == 200
            answers: list[httpx.Response] = []
            waiting = threading.Thread(target=lambda: answers.append(speak_at(url, "Two.")))
            waiting.start()
            time.sleep(0.2)
            at_once = speak_at(url, "Three.")
            waiting.join()
    for answer in (at_once, *answers):
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["error"]["code"] == "gateway_overloaded"
    assert "1 request waits already" in at_once.json()["error"]["message"]
    assert "0.6 seconds" in answers[0].json()["error"]["message"]


def test_workers_that_rest_for_long_give_their_memory_back() -> None:
    before = set(children(os.getpid()))
    with served(Pool(2, idle_s=0.3)) as url:
        assert speak_at(url, "One.").status_code == 200
        assert len(set(children(os.getpid())) - before) == 1
        assert wait_for(lambda: set(children(os.getpid())) <= before)
        assert speak_at(url, "Two.").status_code == 200


# --- in the gateway ------------------------------------------------------------------------------------------------


def test_the_gateway_itself_loads_nothing_of_it() -> None:
    program = "import sys, tidegate.server.compose, tidegate.local_audio; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "tidegate.local_audio.engine" in loaded
    assert not loaded & {"av", "espeakng_loader", "pocketsphinx", "numpy", "tidegate.local_audio.espeak", "ctypes"}


def test_without_a_file_it_is_there_as_long_as_its_packages_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(automatic({}).providers) == ["local-audio", "sim"]
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    assert list(automatic({}).providers) == ["sim"]


def test_a_file_that_names_it_without_the_packages_is_told_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[providers.ears]\nkind = "local-audio"\n'
    assert list(load(text, "tidegate.toml", {}).providers) == ["ears"]
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(ConfigInvalid) as caught:
        load(text, "tidegate.toml", {})
    assert "pip install 'tidegate[local-audio]'" in caught.value.render()
    assert "providers.ears" in caught.value.render()


def engine_of(gateway: Running) -> LocalAudio | None:
    return gateway.server._parts._audio


NAMED = """
[server]
port = 0
[providers.local-audio]
"""


def test_a_gateway_that_names_it_lists_its_models_and_ends_it() -> None:
    with Running(NAMED) as gateway:
        listed = httpx.get(f"{gateway.url}/models").json()["data"]
        assert [model["id"] for model in listed] == ["local-audio/espeak-ng", "local-audio/pocketsphinx"]
        audio = engine_of(gateway)
        assert audio is not None
        assert httpx.get(f"{audio.base_url}/models", timeout=30).status_code == 200
        process = audio.pid
        assert process is not None
    assert not is_alive(process)


def test_a_gateway_whose_file_does_not_name_it_starts_nothing_until_a_reload_does(tmp_path: Path) -> None:
    file = tmp_path / "tidegate.toml"
    with Running(path=file) as gateway:
        assert engine_of(gateway) is None
        file.write_text(file.read_text("utf-8") + "[providers.local-audio]\n", "utf-8")
        gateway.call(gateway.server._parts.reload)
        audio = wait_for(lambda: engine_of(gateway))
        assert audio is not None
        assert httpx.get(f"{audio.base_url}/models", timeout=30).status_code == 200
