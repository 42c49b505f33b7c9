"""The composition root: which parts make a running gateway, and in which order they start and stop."""

import asyncio
import contextlib
import copy
import gc
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple, TextIO, cast

import uvicorn

from tidegate.access.administration import Administration
from tidegate.config.load import load_file, unreadable
from tidegate.config.problem import ConfigInvalid
from tidegate.config.restart import command_line_of, waiting_for_restart
from tidegate.config.schema import Config, Document
from tidegate.gateway.gateway import Gateway
from tidegate.gateway.models import Model, listing
from tidegate.server.app import AdminApplication, Application
from tidegate.server.connection import Connection
from tidegate.server.cycle import Receive, Send
from tidegate.server.database import database_place, open_storage
from tidegate.server.discovery import discover, pauses
from tidegate.server.drain import MARGIN_S, Drain
from tidegate.server.envelope_key import KeyUnusable, envelope_key
from tidegate.server.pepper import peppers
from tidegate.server.spool import Spools
from tidegate.server.supervisor import notify, watches
from tidegate.storage.records import StorageUnusable
from tidegate.storage.storage import Storage
from tidegate.telemetry import log
from tidegate.telemetry.watchdog import Watchdog
from tidegate.upstream.provider import ProviderUnusable
from tidegate.wire.errors import StorageUnavailable

if TYPE_CHECKING:
    from tidegate.local_audio import LocalAudio
    from tidegate.sim import SimServer

__all__ = ["Announcement", "CannotListen", "Lifespan", "Server", "bind", "bind_address", "make_server", "take_over"]

GARBAGE_THRESHOLDS = (10_000, 100, 100)
"""See `gc.set_threshold`. Open streams are looked at each time that they have become 10,000 objects more, which takes about two
milliseconds; what lives on after that is hardly ever looked at again: the hot path makes few cycles."""

UNSENT_BYTES = 128 * 1024
"""Most bytes in the kernel that wait to be sent on one client connection; back-pressure begins behind them."""

ANNOUNCE_WAIT_S = 1.0
"""How long the announcement waits for providers' model lists. The gateway answers meanwhile."""


class Announcement(NamedTuple):
    """What is known when the gateway answers."""

    config: Config
    port: int
    models: list[Model]
    needs_key: bool
    admin_port: int | None
    """Port of the admin API's own listener."""
    admin_key: str | None
    """The key of the first admin, where it was just made: it is shown now and never again."""
    database: str
    """Where what is kept lies; empty where nothing is kept."""


Announce = Callable[[Announcement], None]
"""Told when the gateway answers."""


class CannotListen(OSError):
    """The address cannot be bound; the message says why and what to do."""


def bind(config: Config) -> socket.socket:
    """The listening socket. Raises CannotListen."""
    return bind_address(config.server.host, config.server.port, "--port, TIDEGATE_PORT or server.port")


def bind_address(host: str, port: int, setting: str) -> socket.socket:
    """A socket bound to the address, which does not listen yet; `setting` says how to choose another. Raises CannotListen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except (OSError, OverflowError) as error:
        sock.close()
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CannotListen(f"Cannot listen on {host}:{port}: {reason}. Choose another port with {setting}.") from None
    return take_over(sock)


def take_over(sock: socket.socket) -> socket.socket:
    """The same socket, which is bound, made fit for us."""
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        # Accepted sockets inherit it. Without it the kernel takes megabytes for a client that does not read.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    sock.setblocking(False)
    return sock


def make_server(
    config: Config,
    environment: Mapping[str, str],
    announce: Announce,
    *,
    log_stream: TextIO | None = None,
    admin_socket: socket.socket | None = None,
) -> "Server":
    """A server that is ready to run. Everything that needs the event loop starts in the lifespan.

    Logs go to `log_stream`, or to standard error. `admin_socket` is one that was handed over for the admin API. Raises
    CannotListen when the admin API has an address of its own that cannot be bound.
    """
    address = config.admin.address
    if address is not None and admin_socket is None:
        admin_socket = bind_address(*address, "admin.port")
    elif address is None and admin_socket is not None:
        raise CannotListen("A listening socket was handed over for the admin API, which is off (admin.enabled).")
    lifespan = Lifespan(config, environment, log_stream or sys.stderr)
    app = Application(lifespan)
    settings = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="on",
        loop="auto",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        backlog=2048,
    )
    return Server(settings, lifespan, announce, admin_socket)


class Server(uvicorn.Server):
    """uvicorn's server, which also announces the address, looks for local servers, reloads on SIGHUP, and stops in our own
    way (see `Drain`)."""

    def __init__(
        self,
        config: uvicorn.Config,
        lifespan: "Lifespan",
        announce: Announce,
        admin_socket: socket.socket | None = None,
    ) -> None:
        super().__init__(config)
        self._parts = lifespan
        self._announce = announce
        self._admin_socket = admin_socket
        self.admin_port = None if admin_socket is None else int(admin_socket.getsockname()[1])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        ports = [sock.getsockname()[1] for server in self.servers for sock in server.sockets]
        await self._listen_for_admins()
        self._parts.after_listening(ports, self._announce, self.admin_port)

    async def _listen_for_admins(self) -> None:
        if self._admin_socket is None or not self.servers:
            return
        config = copy.copy(self.config)
        config.app = AdminApplication(cast("Application", self.config.app), self._parts)
        loop = asyncio.get_running_loop()
        self.servers.append(
            await loop.create_server(
                lambda: Connection(config, self.server_state, self.lifespan.state), sock=self._admin_socket
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._parts.drain(self, self.lifespan.shutdown).run(sockets or ())
        self._captured_signals.clear()  # else uvicorn repeats them, and the process ends as if it had been killed

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the drain, the second ends it, and the third ends the process."""
        if self.force_exit:
            os._exit(128 + sig)
        if self.should_exit:
            self.force_exit = True
        self._parts.announce_drain()
        super().handle_exit(sig, frame)


class Lifespan:
    """What lives beside the connections: the gateway, the simulator, the local audio engine, the request log."""

    def __init__(self, config: Config, environment: Mapping[str, str], log_stream: TextIO) -> None:
        self._log_stream = log_stream
        self._first = config
        """What the process began with. Some of it stays in force until its end."""
        self.config = config
        self.environment = environment
        self.gateway: Gateway | None = None
        self._sim: SimServer | None = None
        self._storage: Storage | None = None
        self._audio: LocalAudio | None = None
        self._lines: log.LineWriter | None = None
        self._watchdog: Watchdog | None = None
        self._spools: Spools | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._administration: Administration | None = None
        self._first_key: str | None = None
        self._gateways: set[int] = set()
        """The ports of this machine where another gateway was seen."""
        self._admin_port: int | None = None
        self._listening = False
        self._reload_wanted = False
        self._reloading: asyncio.Task[None] | None = None

    async def run(self, app: Application, receive: Receive, send: Send) -> None:
        """The ASGI lifespan protocol."""
        await receive()
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
            # Only the main thread of a POSIX system has signals. Without a handler this one ends the process.
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)
        try:
            app.gateway = await self._start()
            self._spools = app.spools = Spools(app.gateway.loop, self.config.server.data_dir)
        except (ProviderUnusable, KeyUnusable, StorageUnusable, StorageUnavailable) as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._stop()
        await send({"type": "lifespan.shutdown.complete"})

    def after_listening(self, ports: list[int], announce: Announce, admin_port: int | None = None) -> None:
        """The address is open: say so, then do what must not hold up the first request."""
        assert self.gateway is not None
        self._admin_port = admin_port
        loop = asyncio.get_running_loop()
        if self._administration is not None:
            self._keep(loop.create_task(self._administration.watch()))
        self._listening = True
        if self._reload_wanted:
            self.reload()
        notify(self.environment, "READY=1")
        self.gateway.start()
        tell = partial(notify, self.environment, "WATCHDOG=1") if watches(self.environment, os.getpid()) else None
        self._watchdog = Watchdog(loop, self.gateway.metrics, tell)
        self._watchdog.start()
        if self._audio is not None:
            self._audio.start()
        if self.config.automatic:
            task = loop.create_task(self._discover(ports, announce))
        else:
            task = loop.create_task(self._announce(ports, announce))
        self._keep(task)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GARBAGE_THRESHOLDS)

    def announce_drain(self) -> None:
        """Say at once that the gateway is about to stop; it may be in the middle of anything."""
        if self.gateway is not None:
            self.gateway.begin_drain()

    def drain(self, server: Server, close: Callable[[], Awaitable[None]]) -> Drain:
        """The end of it all."""
        assert self.gateway is not None
        settings = self._first.server
        delay_s, grace_s = float(settings.drain_delay), float(settings.drain)
        patience = round((delay_s + grace_s + MARGIN_S) * 1e6)
        notify(self.environment, f"STOPPING=1\nEXTEND_TIMEOUT_USEC={patience}")
        return Drain(server, self.gateway, close, delay_s=delay_s, grace_s=grace_s)

    def reload(self) -> None:
        """Read the file again, in the background. A bad one changes nothing, and is reported in full."""
        if not self._listening:
            self._reload_wanted = True
            return
        before, loop = self._reloading, asyncio.get_running_loop()

        async def run() -> None:
            if before is not None:
                await asyncio.wait([before])
            await self.reload_now()

        self._reloading = loop.create_task(run())
        self._keep(self._reloading)

    def _keep(self, task: "asyncio.Task[None]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def reload_now(self) -> None:
        """See :meth:`reload`."""
        logger = log.get_logger()
        assert self.gateway is not None
        if not self.config.source:
            logger.warning("reload_ignored", reason="there is no configuration file")
            return
        try:
            fresh = load_file(
                self.config.source,
                self.environment,
                command_line=command_line_of(self._first),
                has_managed_keys=self._has_managed_keys,
            )
            self.gateway.reload(fresh, embedded=await self._embedded(fresh))
            if self._audio is not None:
                self._audio.start()
        except (ConfigInvalid, ProviderUnusable, OSError) as error:
            match error:
                case ConfigInvalid():
                    reason = error.render()
                case OSError(filename=str()):
                    reason = unreadable(error)
                case _:
                    reason = str(error)
            logger.error("reload_refused", source=self.config.source, reason=reason)
            return
        self.config = fresh
        logger.info("reloaded", source=fresh.source)
        waiting = waiting_for_restart(self._first, fresh)
        if waiting:
            logger.warning("reload_needs_restart", settings=waiting)

    async def _start(self) -> Gateway:
        loop = asyncio.get_running_loop()
        logging_ = self.config.logging
        format_: log.Format = "console" if logging_.format == "console" else "json"
        if logging_.format == "auto":
            format_ = "console" if self._log_stream.isatty() else "json"
        log.configure(logging_.level, format_, self._log_stream)
        if logging_.access:
            self._lines = log.LineWriter(loop, format_, self._log_stream)
            self._lines.start()
        self._storage = await open_storage(self.config, self.environment)
        if self._storage is not None:
            administration = self._administration = Administration(
                self._storage,
                peppers(self.config, self.environment),
                file_projects=lambda: frozenset(key.project for key in self.config.keys),
            )
            await administration.start()
            if self.config.admin.enabled:
                self._first_key = await administration.create_first_admin()
        embedded = await self._embedded(self.config)
        self.gateway = Gateway(
            loop,
            self.config,
            environment=self.environment,
            embedded=embedded,
            request_log=self._lines,
            envelope_key=envelope_key(self.config, self.environment),
            storage=self._storage,
            administration=self._administration,
        )
        await self.gateway.prepare()
        return self.gateway

    def _has_managed_keys(self, document: Document) -> bool:
        return self._administration is not None and self._administration.directory.has_keys

    async def _embedded(self, config: Config) -> dict[str, str]:
        """The base URLs of the servers that this process runs itself; they are started when first configured."""
        wanted = {provider.kind for provider in config.providers.values() if not provider.base_url}
        found: dict[str, str] = {}
        if "sim" in wanted and self._sim is None:
            from tidegate.sim import SimServer

            self._sim = SimServer(keep_requests=0)
            await self._sim.start()
        if self._sim is not None:
            found["sim"] = self._sim.base_url
        if "local-audio" in wanted and self._audio is None:
            from tidegate.local_audio import LocalAudio

            self._audio = LocalAudio(self.environment, log.get_logger().warning)
        if self._audio is not None:
            found["local-audio"] = self._audio.base_url
        return found

    async def _discover(self, ports: list[int], announce: Announce) -> None:
        """Look for servers on this machine, and again and again for those that come up later."""
        await self._look_around(ports)
        await self._announce(ports, announce)
        for pause_s in pauses():
            await asyncio.sleep(pause_s)
            for name in await self._look_around(ports):
                base_url = self.config.providers[name].base_url
                log.get_logger().info("local_server_found", provider=name, base_url=base_url)

    async def _look_around(self, ports: list[int]) -> list[str]:
        """The names of the providers that were not there before."""
        assert self.gateway is not None
        own = [*ports, *(server.port for server in (self._sim, self._audio) if server is not None)]
        if self._admin_port is not None:
            own.append(self._admin_port)
        before = self.config
        config = await discover(before, self.gateway.wheel, own_ports=own, gateways=self._gateways)
        if config is not before:
            self.gateway.add_provider(config)
            self.config = config
        return [name for name in config.providers if name not in before.providers]

    async def _announce(self, ports: list[int], announce: Announce) -> None:
        """Wait a moment for the model lists, so that the example names a model that is there."""
        assert self.gateway is not None
        known: dict[str, tuple[Model, ...]] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANNOUNCE_WAIT_S):
                known = await self.gateway.models_known()
        snapshot = self.gateway.snapshot
        first_key, self._first_key = self._first_key, None
        announce(
            Announcement(
                self.config,
                ports[0],
                listing(snapshot, known),
                not snapshot.keys.open,
                self._admin_port,
                first_key,
                database_place(self.config, self.environment) if self.gateway.ledger.is_kept else "",
            )
        )

    async def _stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._watchdog is not None:
            self._watchdog.stop()
        if self.gateway is not None:
            await self.gateway.close()
        if self._audio is not None:
            await self._audio.stop()
        if self._spools is not None:
            self._spools.close()
        if self._sim is not None:
            await self._sim.stop()
        if self._storage is not None:
            await self._storage.close()
        if self._lines is not None:
            self._lines.close()
