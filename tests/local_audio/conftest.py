"""The engine as the gateway runs it: a process of its own behind a real socket."""

import asyncio
import io
import os
import threading
import wave
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Self, TypeVar

import httpx
import pytest
import uvloop

from bench.recall import recall
from tidegate.local_audio import LocalAudio

T = TypeVar("T")


def pytest_collect_file() -> None:
    """All of the folder is skipped where a package of the engine is not there."""
    for module in ("av", "espeakng_loader", "pocketsphinx"):
        pytest.importorskip(module, reason="the extra local-audio is not installed")


SENTENCES = "Until the sun went down. Many people believe."
"""Two utterances that the recogniser knows well, short because it is slow on a busy machine."""


class Engine:
    """`with Engine() as engine:` — then `engine.url` answers. The loop that looks after it runs in a thread."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine")
        self.notes: list[tuple[str, dict[str, object]]] = []
        self.audio: LocalAudio

    def __enter__(self) -> Self:
        self._thread.start()

        def note(event: str, **fields: object) -> None:
            self.notes.append((event, fields))

        async def start() -> LocalAudio:
            audio = LocalAudio(self._environment, note)
            audio.start()
            return audio

        self.audio = self._run(start)
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self.audio.stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, function: Callable[[], Awaitable[T]]) -> T:
        async def run() -> T:
            return await function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    @property
    def url(self) -> str:
        return self.audio.base_url

    @property
    def pid(self) -> int:
        assert self.audio.pid is not None
        return self.audio.pid

    def workers(self) -> list[int]:
        """The processes that speak and listen."""
        return children(self.pid)

    def post(self, path: str, **request: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", timeout=60, **request)

    def speak(self, text: str, voice: str = "alloy", **members: Any) -> httpx.Response:
        body = {"model": "espeak-ng", "input": text, "voice": voice, **members}
        return self.post("/audio/speech", json=body)

    def transcribe(self, recording: bytes, **fields: Any) -> httpx.Response:
        files = {"file": ("recording", recording)}
        return self.post("/audio/transcriptions", data={"model": "pocketsphinx", **fields}, files=files)


def children(pid: int) -> list[int]:
    """The child processes of a process, zombies excepted."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8") as file:
                    state, parent = file.read().rpartition(")")[2].split()[:2]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(parent) == pid and state != "Z":
                found.append(int(name))
    return found


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def seconds_of(data: bytes) -> float:
    """The length of a WAV file whose header leaves it open."""
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        samples = len(file.readframes(file.getnframes())) // 2
        return samples / int(file.getframerate())


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """An engine shared by tests that harm nothing in it, and so give it nothing to complain about."""
    with Engine() as running:
        yield running
        assert running.notes == []


@pytest.fixture(scope="session")
def recording(engine: Engine) -> bytes:
    """The two utterances, spoken by the engine, as WAV. It speaks a little differently each time, and not every time
    clearly: one of a few recordings must be understood."""
    for _ in range(6):
        answer = engine.speak(SENTENCES, response_format="wav")
        assert answer.status_code == 200, answer.text
        heard = engine.transcribe(answer.content, language="en").json()["text"]
        if recall(SENTENCES, heard) >= 0.75 and "down" in heard:
            return answer.content
    raise AssertionError(f"nothing that is spoken is understood: {heard!r}")
