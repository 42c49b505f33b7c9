"""What stands around the gateway, and the gateway itself: providers that come and go, a file that changes, a process that dies."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import trustme

from tests.chaos.fault import ALIASES
from tests.chaos.provider import RawProvider, RawRequest
from tests.support.processes import free_port
from tidegate.sim import SimRequest, SimServer

__all__ = ["KEPT", "KEYS", "PROVIDERS", "Seen", "World", "world"]

KEYS: Final = {
    "main": "main-0123456789abcdef0123456789abcd",
    "tight": "tight-0123456789abcdef0123456789abc",
    "poor": "poor-0123456789abcdef0123456789abcd",
    "narrow": "narrow-0123456789abcdef0123456789ab",
}
"""Static keys: without a limit that matters, with few requests a minute, with a tiny budget, with one request at once."""

PROVIDERS: Final = ("prime", "lab", "claude", "google", "tide")
"""Those that answer, each in a simulator of its own; the last one goes away and returns."""

KEPT: Final = 400_000
"""Requests that a simulator remembers until they are looked at."""

TAG: Final = re.compile(rb"\[c(\d+)\]")
"""Stands in every text that is sent, so that providers' requests can be told apart."""

Seen = SimRequest | RawRequest

_ESTABLISHED: Final = "01"

_CLOCKS: Final = (
    'timeouts = { connect = "1s", first_event = "FIRST", idle = "800ms", total = "2500ms", send_stall = "5s" }\n'
    'max_output = { "*" = 4000 }\nmax_input = { "*" = 100000 }'
)

_TOML: Final = """
[server]
port = {port}
data_dir = "{data}"
drain = "2s"
stream_ping = "1s"
[logging]
format = "json"
level = "{level}"
[storage]
{storage}
[routing]
retries = 1
eject_after = 5
eject_for = "300ms"
eject_limit = "1s"
cooldown = "100ms"
[providers.prime]
kind = "sim"
base_url = "{prime}"
credentials = ["sk-prime-one", "sk-prime-two"]
CLOCKS
[providers.lab]
kind = "openai-compatible"
base_url = "{lab}"
speaks = ["chat"]
CLOCKS
[providers.claude]
kind = "anthropic"
base_url = "{claude}"
credentials = ["sk-ant-of-the-provider"]
CLOCKS
[providers.google]
kind = "gemini"
base_url = "{google}beta"
credentials = ["AIza-of-the-provider"]
CLOCKS
[providers.tide]
kind = "sim"
base_url = "{tide}"
CLOCKS
[providers.few]
kind = "sim"
base_url = "{few}"
max_concurrent = 1
queue = 1
queue_timeout = "100ms"
CLOCKS
[providers.raw]
kind = "openai-compatible"
base_url = "{raw}"
speaks = ["chat"]
CLOCKS
[providers.closed]
kind = "sim"
base_url = "http://127.0.0.1:9/v1"
models = ["m"]
CLOCKS
[providers.nowhere]
kind = "sim"
base_url = "http://nowhere.invalid/v1"
models = ["m"]
CLOCKS
[providers.badcert]
kind = "sim"
base_url = "{badcert}"
models = ["echo"]
CLOCKS
[providers.mute]
kind = "sim"
base_url = "{mute}"
models = ["m"]
CLOCKS
[[keys]]
name = "main"
secret = "{main}"
limits = {{ requests = {{ minute = 10000000 }}, tokens = {{ minute = 100000000000 }}, cost = {{ day = 1000000 }}, streams = 100000 }}
[[keys]]
name = "tight"
secret = "{tight}"
limits = {{ requests = {{ minute = 4 }} }}
[[keys]]
name = "poor"
secret = "{poor}"
limits = {{ cost = {{ day = 0.000001 }} }}
[[keys]]
name = "narrow"
secret = "{narrow}"
limits = {{ streams = 1 }}
"""

RATES: Final = {"input": 2.0, "output": 8.0}
"""US dollars per million tokens, of all providers alike."""


class World:
    """Made by :func:`world`."""

    def __init__(self, folder: Path, storage: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.sims: dict[str, SimServer] = {}
        self.raw: RawProvider
        self.authority = trustme.CA()
        self.lives = 0
        """How often the gateway was started."""
        self.is_up = asyncio.Event()
        self.outages: list[tuple[float, float]] = []
        """When `tide` was away, by the loop's clock."""
        self._is_tide_away = False
        self.reloads: dict[str, int] = {"good": 0, "bad": 0}
        self.seen: dict[int, list[tuple[str, Seen]]] = defaultdict(list)
        """What reached providers, by the number of the step that it belongs to."""
        self.seen_total = 0
        self.untagged = 0
        self._storage = storage
        self._process: subprocess.Popen[bytes] | None = None
        self._file = folder / "tidegate.toml"
        self._log = folder / "gateway.log"
        self._look = folder / "look.json"
        self._variant = 0
        self._life_at = 0
        """Where the log of the present process begins."""
        self._admin_key = ""

    # -- the gateway -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """The gateway, until it answers."""
        self._write(self.toml())
        self.lives += 1
        with self._log.open("ab") as log:
            self._life_at = log.tell()
            command = [
                sys.executable,
                "-m",
                "tests.chaos.gateway",
                str(self._look),
                "serve",
                "--config",
                str(self._file),
            ]
            environment = {name: one for name, one in os.environ.items() if not name.lower().endswith("_proxy")}
            self._process = await asyncio.to_thread(
                subprocess.Popen, command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        async with asyncio.timeout(30):
            while True:
                if self._process.poll() is not None:
                    raise RuntimeError(f"the gateway did not start:\n{self.log[-3000:]}")
                try:
                    if (await self.get("/readyz")).status_code == 200:
                        break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
            while not self._admin_key:  # it is told once, in the first life
                found = re.search(r"tga-[0-9A-Za-z]{65}", self.log)
                if found is None:
                    await asyncio.sleep(0.05)
                else:
                    self._admin_key = found[0]
        self.is_up.set()

    async def kill(self) -> None:
        """SIGKILL, and another start. Who asks meanwhile is refused."""
        assert self._process is not None
        self.is_up.clear()
        self._process.kill()
        await asyncio.to_thread(self._process.wait)
        await self.start()

    async def stop(self) -> float:
        """SIGTERM; how long it took."""
        assert self._process is not None
        self.is_up.clear()
        began = time.monotonic()
        if self._process.poll() is None:
            self._process.terminate()
            await asyncio.to_thread(self._process.wait, 30)
        return time.monotonic() - began

    def end(self) -> None:
        """At once, whatever runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        """What is logged, of all lives."""
        found = []
        for line in self.log.splitlines():
            if line.startswith("{"):
                with contextlib.suppress(ValueError):  # cut by a kill
                    found.append(json.loads(line))
        return found

    @property
    def log_lines_of_life(self) -> list[dict[str, Any]]:
        """What the present process has logged."""
        with self._log.open("rb") as log:
            log.seek(self._life_at)
            lines = log.read().decode("utf-8", "replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    async def look(self) -> dict[str, Any]:
        """What lives in the gateway, once garbage is gone."""
        assert self._process is not None
        self._look.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGUSR2)
        loop = asyncio.get_running_loop()
        until = loop.time() + 20
        while not self._look.exists():
            if loop.time() > until:
                raise RuntimeError(f"the gateway does not say what lives in it:\n{self.log[-3000:]}")
            await asyncio.sleep(0.02)
        found: dict[str, Any] = json.loads(self._look.read_text("utf-8"))
        return found

    @property
    def resident(self) -> int:
        """Bytes of memory that the gateway has now."""
        assert self._process is not None
        with contextlib.suppress(OSError):
            pages = Path(f"/proc/{self._process.pid}/statm").read_text("utf-8").split()
            return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if pages else 0
        return 0

    async def get(self, path: str, *, key: str = "") -> httpx.Response:
        return await self._ask("GET", path, key)

    async def admin(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the admin API, which must succeed."""
        answer = await self._ask(method, f"/admin/v1{path}", self._admin_key, body)
        if answer.status_code >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    async def _ask(self, method: str, path: str, key: str, body: Any = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            return await client.request(method, f"http://127.0.0.1:{self.port}{path}", headers=headers, json=body)

    # -- disturbances ----------------------------------------------------------------------------------------------

    def reload(self, *, good: bool) -> None:
        """Another file, and SIGHUP."""
        assert self._process is not None
        if self._process.poll() is not None or not self.is_up.is_set():
            return
        self._variant += 1
        text = self.toml()
        self._write(text if good else text.replace("[routing]", "[rooting]" if self._variant % 2 else "[routing"))
        self.reloads["good" if good else "bad"] += 1
        self._process.send_signal(signal.SIGHUP)

    async def go_away(self, for_s: float) -> None:
        """`tide` is not there for a while; what it was saying is cut."""
        if self._is_tide_away:
            return
        self._is_tide_away = True
        sim = self.sims["tide"]
        port = sim.port
        self.harvest()
        loop = asyncio.get_running_loop()
        began = loop.time()
        with contextlib.suppress(TimeoutError):
            await sim.stop()
        self.outages.append((began, loop.time() + for_s))
        await asyncio.sleep(for_s)
        self.harvest()
        self.sims["tide"] = SimServer(port=port, keep_requests=KEPT)  # nobody has taken its port meanwhile
        await self.sims["tide"].start()
        self._is_tide_away = False

    # -- what providers have seen ----------------------------------------------------------------------------------

    def harvest(self) -> None:
        """Sort what has reached providers by the steps that it belongs to."""
        for name, sim in self.sims.items():
            requests = sim.requests
            held: list[SimRequest] = []
            while requests:
                request = requests.popleft()
                if (
                    (
                        request.upload is not None
                        and not request.upload.complete
                        and request.upload.field("prompt") is None
                    )
                    and request.closed_by_peer_at is None
                    and request.finished_at is None
                ):
                    held.append(request)
                    continue
                self._sort(name, request)
            requests.extend(held)
        while self.raw.requests:
            self._sort("raw", self.raw.requests.pop(0))

    def _sort(self, name: str, request: Seen) -> None:
        if isinstance(request, SimRequest) and request.method != "POST":
            return
        said = request.body if request.upload is None else (request.upload.field("prompt") or "").encode()
        tags = TAG.findall(said)
        self.seen_total += 1
        if not tags:
            self.untagged += 1
        else:  # the turns before it stand before it
            self.seen[int(tags[-1])].append((name, request))

    def connections(self) -> int:
        """Open from the gateway to providers, as the system knows them: a provider that has stopped reading sees no end."""
        ports = {sim.port for sim in self.sims.values()} | set(self.raw.ports)
        found = 0
        for line in Path("/proc/net/tcp").read_text("utf-8").splitlines()[1:]:
            _, _, remote, state, *_ = line.split()
            found += state == _ESTABLISHED and int(remote.rpartition(":")[2], 16) in ports
        return found

    def was_away(self, at: float) -> bool:
        """Whether `tide` went away within the life of a request that began then."""
        return any(began >= at for began, _ in self.outages) or any(a <= at <= b for a, b in self.outages)

    # -- the file --------------------------------------------------------------------------------------------------

    def toml(self) -> str:
        """The configuration. Each variant differs in what a reload may change."""
        clocks = _CLOCKS.replace("FIRST", f"{800 + self._variant % 5 * 10}ms")
        addresses = {name: sim.base_url for name, sim in self.sims.items()}
        addresses["badcert"] = addresses["badcert"].replace("127.0.0.1", "localhost")
        text = _TOML.format(
            port=self.port,
            data=self.folder / "data",
            level="info",
            storage=self._storage,
            raw=self.raw.base_url,
            mute=self.raw.mute_url,
            **KEYS,
            **addresses,
        ).replace("CLOCKS", clocks)
        for name, (target, condition) in ALIASES.items():
            text += f'[models."{name}"]\n'
            if target:
                text += f'target = "{target}"\nfallback = ["lab/echo", "prime/echo"]\n'
            else:
                text += (
                    'targets = [{ model = "prime/echo", weight = 2 }, { model = "lab/echo" }, { model = "claude/echo" }]\n'
                    f'strategy = "{("weighted", "least-busy", "lowest-latency")[self._variant % 3]}"\n'
                )
            if condition:
                text += f'fallback_on = ["{condition}"]\n'
        for name in (*PROVIDERS, "few", "raw", "closed", "nowhere", "badcert", "mute"):
            text += f'[prices."{name}/*"]\ninput = {RATES["input"]}\noutput = {RATES["output"]}\n'
            text += "characters = 15.0\nsecond = 0.0001\n"
        return text

    def _write(self, text: str) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(text, "utf-8")
        fresh.replace(self._file)


@asynccontextmanager
async def world(engine: str) -> AsyncIterator[World]:
    """Everything is there, and the gateway answers."""
    async with _database(engine) as storage, contextlib.AsyncExitStack() as stack:
        here = World(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-chaos-"))), storage)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        here.authority.issue_cert("localhost").configure_cert(context)
        here.raw = await stack.enter_async_context(RawProvider())
        for provider in PROVIDERS:
            here.sims[provider] = SimServer(keep_requests=KEPT)
        place = stack.enter_context(socket.socket())
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(("127.0.0.1", 0))  # and never listens: whoever asks there is refused while the provider is away
        here.sims["tide"] = SimServer(port=place.getsockname()[1], keep_requests=KEPT)
        here.sims["few"] = SimServer(keep_requests=KEPT)
        here.sims["badcert"] = SimServer(keep_requests=KEPT, ssl_context=context)
        for sim in here.sims.values():
            await sim.start()
        try:
            await here.start()
            yield here
        finally:
            here.end()
            for sim in here.sims.values():
                with contextlib.suppress(TimeoutError):
                    await sim.stop()


@asynccontextmanager
async def _database(engine: str) -> AsyncIterator[str]:
    """The lines of `[storage]` for a fresh database."""
    if engine == "sqlite":
        yield ""
        return
    import asyncpg

    from tests.storage.server import PostgresServer

    server = await asyncio.to_thread(PostgresServer)
    try:
        await asyncio.to_thread(server.start)
        connection = await asyncpg.connect(server.url("template1"))
        try:
            await connection.execute("CREATE DATABASE chaos")
        finally:
            await connection.close()
        yield f'url = "{server.url("chaos")}"\nlease = "2s"'
    finally:
        await asyncio.to_thread(server.close)
