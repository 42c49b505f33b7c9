"""What one write to the client holds. The transport is the test's own, so that writes can be told apart."""

import asyncio

import pytest

from tests.support.raw import frames, post
from tests.support.running import Running, wait_for
from tests.support.transport import Client

PATHS = {"/v1/responses": b'"input":"x"', "/v1/chat/completions": b'"messages":[{"role":"user","content":"x"}]'}


def ask(gateway: Running, path: str, options: str) -> list[bytes]:
    body = b'{"model":"sim/lorem?%b",%b,"stream":true}' % (options.encode(), PATHS[path])
    with Client(gateway) as client:
        return client.ask(post(body, path=path))


def content(write: bytes) -> bytes:
    """The one HTTP chunk of a write, which may be followed by the last, empty one."""
    size, _, rest = write.partition(b"\r\n")
    length = int(size, 16)
    assert rest[length:] in (b"\r\n", b"\r\n0\r\n\r\n")
    return rest[:length]


def units(writes: list[bytes]) -> list[list[bytes]]:
    """The frames of each write; fails when one is split over two."""
    head, _, first = writes[0].partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    rest = [write for write in writes[1:] if write != b"0\r\n\r\n"]
    return [frames(content(write)) for write in [first, *rest]]


@pytest.mark.parametrize("path", PATHS)
def test_the_head_and_the_first_event_leave_in_one_write(gateway: Running, path: str) -> None:
    per_write = units(ask(gateway, path, "chunks=3&gap=20"))
    assert per_write[0]
    assert per_write[0][0].startswith((b"event: response.created\n", b"data: {"))


@pytest.mark.parametrize("path", PATHS)
def test_each_read_of_frames_leaves_in_one_write_without_delay(gateway: Running, path: str) -> None:
    """Frames that come 20 ms apart are never collected: no chunk waits for the next (promise P11)."""
    per_write = units(ask(gateway, path, "chunks=8&gap=20"))
    assert len(per_write) >= 8
    assert all(len(each) <= 2 for each in per_write[1:-1])


@pytest.mark.parametrize("path", PATHS)
def test_all_frames_of_one_read_share_one_write(gateway: Running, path: str) -> None:
    writes = ask(gateway, path, "chunks=12&burst=1")
    assert len(writes) <= 2  # the second one is the end of the body
    assert len(units(writes)[0]) > 12


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_frame_is_never_split_however_it_came(gateway: Running, path: str, size: int) -> None:
    per_write = units(ask(gateway, path, f"chunks=4&split={size}"))
    assert all(per_write)
    last = per_write[-1][-1]
    assert last.startswith((b"event: response.completed\n", b"data: [DONE]"))


def test_an_answer_in_one_body_leaves_in_one_write(gateway: Running) -> None:
    with Client(gateway) as client:
        gateway.call(lambda: client.connection.data_received(post()))
        assert wait_for(lambda: client.transport.writes)
    (write,) = client.transport.writes
    head, _, body = write.partition(b"\r\n\r\n")
    assert b"content-length: %d\r\n" % len(body) in head + b"\r\n"


def test_a_stream_makes_no_task_per_frame(gateway: Running) -> None:
    """A task for each frame would be seen: tasks are counted from within the loop all the while."""
    ask(gateway, "/v1/responses", "chunks=1")  # opens the upstream connection, which takes a task

    def count() -> int:
        return len(asyncio.all_tasks(gateway.loop))

    idle = gateway.call(count)
    body = b'{"model":"sim/bench?chunks=1000","input":"x","stream":true}'
    seen = []
    with Client(gateway) as client:
        gateway.call(lambda: client.connection.data_received(post(body)))
        while not (client.transport.writes and client.transport.writes[-1].endswith(b"0\r\n\r\n")):
            seen.append(gateway.call(count))
        assert len(client.transport.writes) > 50
    assert max(seen, default=idle) <= idle + 1
