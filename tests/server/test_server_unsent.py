"""What has been answered but not yet taken by the client."""

import socket
import time

from tests.support.running import SIM_ONLY, Running

IMPATIENT = SIM_ONLY.replace("port = 0", 'port = 0\nkeep_alive = "500ms"')
SIZES = range(20_000, 190_000, 10_000)


def test_an_answer_that_waits_to_be_taken_outlives_the_keep_alive() -> None:
    """Less than the transport's high-water mark may be left: then nothing ever paused, and the connection looks idle."""
    with Running(IMPATIENT) as gateway:
        clients = [_ask(gateway.port, size) for size in SIZES]
        time.sleep(1.5)
        for size, client in zip(SIZES, clients, strict=True):
            head, _, body = _read_all(client).partition(b"\r\n\r\n")
            announced = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            assert len(body) == announced, f"{size}: {len(body)} of {announced} bytes"


def _ask(port: int, size: int) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(10)
    client.connect(("127.0.0.1", port))
    body = b'{"model": "sim/lorem?chunks=1&size=%d", "messages": [{"role": "user", "content": "x"}]}' % size
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    client.sendall(head + body)
    return client


def _read_all(client: socket.socket) -> bytes:
    data = bytearray()
    with client:
        while piece := client.recv(65536):
            data += piece
    return bytes(data)
