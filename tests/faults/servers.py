"""Fault servers: what each connection meets is a script of steps, so that also what no HTTP server does can be done."""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

import trustme

__all__ = ["FaultServer", "Peer", "Step", "close", "hold", "read", "reset", "send", "sleep", "tls", "unaccepting"]

LIMIT_S: Final = 10.0


class Peer:
    """The provider's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(LIMIT_S)
        self.sock = sock
        self.asked: list[bytes] = []
        """The requests that came, head and body."""
        self.gone_at: float | None = None
        """When the gateway's end was gone, if anybody waited for it."""


Step = Callable[[Peer], None]


class FaultServer:
    """`with FaultServer(read(), send(…), hold()) as provider:` — each connection plays the steps, and is closed behind them."""

    def __init__(self, *steps: Step) -> None:
        self._steps = steps
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._threads = [threading.Thread(target=self._accept, name="fault-server")]
        self.peers: list[Peer] = []

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(LIMIT_S)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            peer = Peer(sock)
            self.peers.append(peer)
            thread = threading.Thread(target=self._play, args=(peer,), name="fault-connection")
            self._threads.append(thread)
            thread.start()

    def _play(self, peer: Peer) -> None:
        try:
            for step in self._steps:
                step(peer)
        except (OSError, EOFError):
            peer.gone_at = time.monotonic()
        finally:
            peer.sock.close()


# -- steps -----------------------------------------------------------------------------------------------------------


def read() -> Step:
    """One request, head and body."""

    def step(peer: Peer) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += _more(peer)
        head, _, body = data.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        while len(body) < (int(lengths[0][15:]) if lengths else 0):
            body += _more(peer)
        peer.asked.append(head + b"\r\n\r\n" + body)

    return step


def send(data: bytes) -> Step:
    return lambda peer: peer.sock.sendall(data)


def sleep(seconds: float) -> Step:
    return lambda _peer: time.sleep(seconds)


def hold() -> Step:
    """Says nothing until the gateway leaves."""

    def step(peer: Peer) -> None:
        while peer.sock.recv(65536):
            pass
        peer.gone_at = time.monotonic()

    return step


def close() -> Step:
    return lambda peer: peer.sock.close()


def reset() -> Step:
    """RST in place of FIN."""

    def step(peer: Peer) -> None:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.sock.close()

    return step


def tls(*names: str) -> Step:
    """A handshake with a certificate for these names that nobody has reason to trust."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(*names).configure_cert(context)

    def step(peer: Peer) -> None:
        peer.sock = context.wrap_socket(peer.sock, server_side=True)

    return step


def _more(peer: Peer) -> bytes:
    data = peer.sock.recv(65536)
    if not data:
        raise EOFError
    return data


@contextmanager
def unaccepting() -> Iterator[int]:
    """The port of a socket that completes no connection, because its backlog is full: connecting to it hangs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        others = [socket.socket() for _ in range(4)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(listener.getsockname())
        try:
            yield int(listener.getsockname()[1])
        finally:
            for other in others:
                other.close()
