"""One gateway takes the place of another behind a listening socket that outlives both: nobody is refused."""

import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import pytest

from tests.support.crowd import Crowd, simulator
from tests.support.raw import Raw, post
from tidegate.server.supervisor import SocketUnusable, inherited, notify

TOML = """
[server]
drain_delay = "300ms"
drain = "10s"
data_dir = "{folder}"
[providers.sim]
base_url = "{sim}"
"""


HAND_OVER = """
import os, sys
count = int(sys.argv[1])
for at in range(count):
    os.dup2(int(sys.argv[3 + at]), 3 + at)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count), LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.argv[3 + count], sys.argv[3 + count:])
"""
"""Puts descriptors where a supervisor does, and becomes the program behind them."""


@contextmanager
def handed(*sockets: socket.socket, names: str = "") -> Iterator[tuple[list[str], list[int]]]:
    """What stands before a command that is handed these sockets, and the descriptors that have to be passed to it."""
    given = [fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD, 50) for sock in sockets]
    try:
        yield [sys.executable, "-c", HAND_OVER, str(len(given)), names, *map(str, given)], given
    finally:
        for descriptor in given:
            os.close(descriptor)


def command_in(folder: Path) -> list[str]:
    return [sys.executable, "-m", "tidegate", "serve", "--config", str(folder / "tidegate.toml")]


class Supervisor:
    """Keeps a listening socket as systemd does, starts gateways on it, and hears what they say of themselves."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.bind(str(folder / "notify"))
        self._notices.settimeout(20)
        self.port: int = self._listener.getsockname()[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        self.children: list[subprocess.Popen[bytes]] = []

    def start(self, *more: socket.socket, names: str = "") -> "subprocess.Popen[bytes]":
        """Another gateway, as soon as it says that it is ready."""
        with handed(self._listener, *more, names=names) as (prefix, descriptors):
            child = subprocess.Popen(
                [*prefix, *command_in(self._folder)],
                pass_fds=descriptors,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "NOTIFY_SOCKET": str(self._folder / "notify")},
            )
        self.children.append(child)
        assert self.heard() == "READY=1"
        return child

    def heard(self) -> str:
        return self._notices.recv(4096).decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self.children:
            child.kill()
            child.wait()
        self._listener.close()
        self._notices.close()


@pytest.mark.fault("FAULT-SIGTERM")
@pytest.mark.alone
def test_a_rolling_restart_refuses_resets_and_fails_nobody(tmp_path: Path) -> None:
    with simulator() as sim, Supervisor(tmp_path) as supervisor, httpx.Client(base_url=supervisor.origin) as kept:
        (tmp_path / "tidegate.toml").write_text(TOML.format(folder=tmp_path, sim=sim), "utf-8")

        def connects_anew() -> None:
            with Raw(supervisor) as client:
                answer = client.ask(post())
            assert answer.status == 200, answer

        def connects_anew_before_it_asks() -> None:
            with Raw(supervisor) as client:
                time.sleep(0.02)
                answer = client.ask(post())
            assert answer.status == 200, answer

        def keeps_its_connection() -> None:
            question = {"model": "sim/echo", "messages": [{"role": "user", "content": "x"}]}
            answer = kept.post("/v1/chat/completions", json=question)
            assert answer.status_code == 200, answer.text
            time.sleep(0.005)

        def streams() -> None:
            with Raw(supervisor) as client:
                client.send(post(b'{"model":"sim/lorem?chunks=20&gap=30","input":"x","stream":true}'))
                answer = client.response()
            assert answer.status == 200, answer
            assert b"event: response.completed\n" in answer.body

        old = supervisor.start()
        with Crowd(connects_anew, connects_anew_before_it_asks, keeps_its_connection, streams, streams) as crowd:
            for _ in range(2):
                new = supervisor.start()
                old.terminate()
                assert supervisor.heard() == "STOPPING=1\nEXTEND_TIMEOUT_USEC=20300000"
                assert old.wait(15) == 0
                old = new
            time.sleep(0.2)
        assert crowd.problems == []
        assert min(crowd.counts) >= 2
        assert crowd.counts[0] > 100


@pytest.mark.fault("FAULT-SIGTERM")
def test_connections_wait_in_a_socket_that_nobody_listens_on_at_the_moment(tmp_path: Path) -> None:
    with simulator() as sim, Supervisor(tmp_path) as supervisor, socket.create_server(("127.0.0.1", 0)) as admins:
        (tmp_path / "tidegate.toml").write_text(TOML.format(folder=tmp_path, sim=sim), "utf-8")
        first = supervisor.start(admins, names="http:admin")
        for port, status in ((admins.getsockname()[1], 401), (supervisor.port, 404)):
            assert httpx.get(f"http://127.0.0.1:{port}/admin/v1/keys").status_code == status
        first.terminate()
        assert first.wait(10) == 0
        with Raw(supervisor) as client:
            client.send(post())
            supervisor.heard()  # that the first one stopped
            supervisor.start()
            assert client.response().status == 200


# -- what is handed over ----------------------------------------------------------------------------------------------


def serve(
    *sockets: socket.socket, folder: Path, names: str = "", options: Sequence[str] = ()
) -> "subprocess.CompletedProcess[str]":
    """`tidegate serve` with these sockets, to its end, which a mistake brings about."""
    with handed(*sockets, names=names) as (prefix, descriptors):
        return subprocess.run(
            [*prefix, *command_in(folder), *options],
            pass_fds=descriptors,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )


def test_nothing_is_taken_that_was_meant_for_another_process() -> None:
    for given in ({}, {"LISTEN_FDS": "1"}, {"LISTEN_FDS": "1", "LISTEN_PID": "1"}, {"LISTEN_PID": str(os.getpid())}):
        environment = {**given, "PATH": "/bin"}
        assert inherited(environment, os.getpid()) == {}
        assert environment == {"PATH": "/bin"}  # nor by a process that this one starts


def taken_from(*objects: socket.socket | int, names: str = "") -> dict[str, socket.socket]:
    """What is taken where these are handed over."""
    first = 200
    for at, one in enumerate(objects):
        os.dup2(one if isinstance(one, int) else one.fileno(), first + at)
    environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(objects)), "LISTEN_FDNAMES": names}
    try:
        found = inherited(environment, os.getpid(), first=first)
    except SocketUnusable:
        for at in range(len(objects)):
            with suppress(OSError):
                os.close(first + at)
        raise
    assert environment == {}
    return found


def test_the_socket_of_the_admin_api_is_told_by_its_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        for names, order in (("admin:x", (other, one)), ("x:admin", (one, other))):
            found = taken_from(*order, names=names)
            assert found[""].getsockname() == one.getsockname()
            assert found["admin"].getsockname() == other.getsockname()
            for sock in found.values():
                assert not sock.get_inheritable()
                sock.close()


@pytest.mark.parametrize("names", ["", "a:b", "admin:admin"])
def test_sockets_that_nobody_can_tell_apart_are_refused(names: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        words = r"More than one listening socket .*LISTEN_FDS=2"
        with pytest.raises(SocketUnusable, match=words):
            taken_from(one, other, names=names)


def test_what_is_no_tcp_socket_is_refused(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX) as sock,
        pytest.raises(SocketUnusable, match=r"is no TCP socket; set ListenStream"),
    ):
        taken_from(sock)
    with (tmp_path / "file").open("wb") as file, pytest.raises(SocketUnusable, match="is no socket"):
        taken_from(file.fileno())
    with pytest.raises(SocketUnusable, match=r"Descriptor 250, .* cannot be used: Bad file descriptor"):
        inherited({"LISTEN_PID": "7", "LISTEN_FDS": "1"}, 7, first=250)


@pytest.mark.security("SEC-API8-BIND")
def test_a_socket_that_others_reach_needs_a_key_whatever_the_configuration_says_of_the_address(tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").write_text('[server]\nhost = "127.0.0.1"\n[providers.sim]\n', "utf-8")
    with socket.create_server(("0.0.0.0", 0)) as sock:
        done = serve(sock, folder=tmp_path)
    assert done.returncode == 2
    assert "allow_open" in done.stderr


def test_a_socket_for_an_admin_api_that_is_off_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").write_text("[admin]\nenabled = false\n[providers.sim]\n", "utf-8")
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        done = serve(one, other, folder=tmp_path, names="http:admin")
    assert done.returncode == 2
    assert "which is off (admin.enabled)" in done.stderr


def test_an_address_on_the_command_line_stands_against_a_socket_that_is_handed_over(tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").write_text("[providers.sim]\n", "utf-8")
    with socket.create_server(("127.0.0.1", 0)) as sock:
        done = serve(sock, folder=tmp_path, options=["--port", "0"])
    assert done.returncode == 2
    assert "--host and --port mean nothing beside a listening socket" in done.stderr


@pytest.mark.parametrize("address", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:9"}])
def test_without_a_supervisor_nobody_is_told(address: Mapping[str, str]) -> None:
    notify(address, "READY=1")


def test_a_supervisor_that_does_not_listen_is_no_reason_to_fail(tmp_path: Path) -> None:
    notify({"NOTIFY_SOCKET": str(tmp_path / "nobody")}, "READY=1")


def test_a_supervisor_may_listen_at_an_abstract_address() -> None:
    name = f"tidegate-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        sock.settimeout(5)
        notify({"NOTIFY_SOCKET": f"@{name}"}, "READY=1")
        assert sock.recv(100) == b"READY=1"
