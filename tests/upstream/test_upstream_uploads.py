"""Request bodies that come from a disk: sent as fast as both ends can, never held, and from the start if need be."""

import asyncio
import contextlib
import hashlib

import pytest

from tests.upstream.stage import LOOPS, OK, SLACK_S, Answer, Certificates, Peer, Provider, Script, Stage, run, until
from tidegate.upstream.outgoing import PIECE_BYTES
from tidegate.wire import errors
from tidegate.wire.forms import Then, Upload

MIB = 1024 * 1024
REFUSED = b"HTTP/1.1 413 Payload Too Large\r\ncontent-type: application/json\r\ncontent-length: 33\r\n\r\n"
REASON = b'{"error":{"message":"too large"}}'
HEAD, TAIL = b"head of the form", b"tail of the form"


class Disk:
    """A file that is made up as it is read: its pieces take a moment, and none of them is kept."""

    def __init__(self, size: int, *, delay: float = 0.0, fails_at: int | None = None) -> None:
        self.size = size
        self.read = 0
        """Bytes that were asked for."""
        self.stuck = False
        self._delay = delay
        self._fails_at = fails_at
        self._loop = asyncio.get_running_loop()
        self._under_way = 0

    def at_hand(self, start: int, stop: int) -> bytes | None:
        return None

    def fetch(self, start: int, stop: int, then: Then) -> None:
        assert not self._under_way, "two pieces are read at once"
        stop = min(stop, self.size)
        self._under_way += 1
        self.read += stop - start

        def give() -> None:
            self._under_way -= 1
            if self.stuck:
                return
            if self._fails_at is not None and stop > self._fails_at:
                then(errors.InsufficientStorage("The upload cannot be read again: bad sector."))
            else:
                then(piece(start, stop))

        self._loop.call_later(self._delay, give)


def piece(start: int, stop: int) -> bytes:
    """What a disk has there."""
    first = start // 8
    return b"".join(at.to_bytes(8, "big") for at in range(first, stop // 8 + 1))[start - first * 8 : stop - first * 8]


def whole(size: int) -> bytes:
    return hashlib.sha256(HEAD + piece(0, size) + TAIL).digest()


def form(disk: Disk) -> Upload:
    return Upload(b"multipart/form-data; boundary=x", (HEAD, disk, TAIL))


class Reading:
    """A provider that reads whole requests piece by piece, and answers OK; how fast is up to the test."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.digests: list[bytes] = []
        self.received = 0
        self.may_read = asyncio.Event()
        self.may_read.set()

    async def __call__(self, peer: Peer) -> None:
        while True:
            head = await peer.reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            left = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            digest = hashlib.sha256()
            while left:
                await self.may_read.wait()
                data = await peer.reader.read(min(left, 65536))
                if not data:
                    return
                left -= len(data)
                self.received += len(data)
                digest.update(data)
            self.digests.append(digest.digest())
            peer.send(OK)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("size", [1, PIECE_BYTES, 3 * PIECE_BYTES + 7])
def test_a_body_in_parts_arrives_whole(size: int, tls: bool, loop: str, certificates: Certificates) -> None:
    async def scenario() -> None:
        script = Reading()
        async with (
            Provider(script, context=certificates.server() if tls else None) as provider,
            Stage(provider.url, ca_bundle=certificates.bundle) as stage,
        ):
            for _ in range(2):
                answer = await stage.fetch(form(Disk(size)), stream=False)
                assert answer.body == b"ok"
            assert script.digests == [whole(size)] * 2
            assert len(provider.peers) == 1, "the connection was not used again"
        head = script.heads[0].lower()
        assert head.startswith(b"post /v1/audio/transcriptions http/1.1\r\n")
        assert head.count(b"content-type: ") == head.count(b"accept: ") == 1
        assert b"content-type: multipart/form-data; boundary=x\r\n" in head
        assert b"accept: */*\r\n" in head

    run(scenario, loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("tls", [False, True])
def test_what_waits_to_be_sent_is_little(tls: bool, loop: str, certificates: Certificates) -> None:
    """The transport never holds more than a piece, and what TLS makes of it."""

    async def scenario() -> None:
        async def script(peer: Peer) -> None:
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(20)

        async with (
            Provider(script, context=certificates.server() if tls else None) as provider,
            Stage(provider.url, ca_bundle=certificates.bundle) as stage,
        ):
            disk = Disk(64 * MIB)
            answer = stage.ask(form(disk), stream=False)
            before = -1
            while before != disk.read:
                before = disk.read
                await asyncio.sleep(0.1)
            (connection,) = stage.pool._open
            assert connection._transport is not None
            assert 0 < connection._transport.get_write_buffer_size() <= 3 * PIECE_BYTES
            assert disk.read < 32 * MIB
            answer.attempt.abort()

    run(scenario, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_on_a_stale_connection_the_upload_begins_anew(loop: str) -> None:
    async def scenario() -> None:
        script = Reading()

        async def first_short(peer: Peer) -> None:
            if peer.number == 0:
                await peer.request()
                peer.send(OK)
                await peer.reader.readexactly(MIB)  # of the second request
                peer.reset()
                return
            await script(peer)

        async with Provider(first_short) as provider, Stage(provider.url) as stage:
            assert (await stage.fetch()).body == b"ok"
            disk = Disk(4 * MIB)
            answer = await stage.fetch(form(disk), stream=False)
            assert answer.body == b"ok"
            assert script.digests == [whole(4 * MIB)]
            assert disk.read > 4 * MIB

    run(scenario, loop)


def refusing(*, closes: bool, abruptly: bool = False) -> Script:
    """Reads a little of an upload and refuses the rest."""

    async def script(peer: Peer) -> None:
        await peer.reader.readexactly(100_000)
        peer.send(REFUSED + REASON)
        await peer.writer.drain()
        if abruptly:
            return  # closed with unread bytes: a reset follows the answer at once
        if closes:
            with contextlib.suppress(ConnectionError):
                peer.writer.write_eof()
        await peer.gone()

    return script


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("closes", [False, True])
def test_an_answer_before_the_end_of_the_upload_is_heard_and_ends_it(closes: bool, loop: str) -> None:
    async def scenario() -> None:
        async with Provider(refusing(closes=closes)) as provider, Stage(provider.url) as stage:
            for number in range(3):
                disk = Disk(64 * MIB, delay=0.001)
                answer = await stage.fetch(form(disk), stream=False)
                assert (answer.status, answer.body, answer.ended) == (413, REASON, True)
                assert disk.read < 64 * MIB
                read = disk.read
                await asyncio.sleep(0.05)
                assert disk.read <= read + PIECE_BYTES, "it went on reading"
                assert len(provider.peers) == number + 1, "a connection with half a request on it was used again"

    run(scenario, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_answer_with_a_reset_right_behind_it_is_heard(loop: str) -> None:
    async def scenario() -> None:
        async with Provider(refusing(closes=True, abruptly=True)) as provider, Stage(provider.url) as stage:
            heard = 0
            for _ in range(40):
                answer = await stage.fetch(form(Disk(16 * MIB, delay=0.0003)), stream=False)
                heard += answer.status == 413 and answer.body == REASON
            assert heard >= 39  # a piece may be written in the very moment in which the reset comes

    run(scenario, loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("way", ["abort", "release"])
def test_an_upload_that_nobody_needs_any_more_stops_at_once(way: str, loop: str) -> None:
    async def scenario() -> None:
        async def script(peer: Peer) -> None:
            await peer.reader.readexactly(100_000)
            if way == "release":
                peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n")
            while await peer.reader.read(65536):
                pass
            peer.closed_at = asyncio.get_running_loop().time()

        async with Provider(script) as provider, Stage(provider.url) as stage:
            disk = Disk(256 * MIB)
            answer = stage.ask(form(disk), stream=False)
            await until(lambda: answer.status == 200 if way == "release" else disk.read > MIB)
            stopped = asyncio.get_running_loop().time()
            answer.attempt.release() if way == "release" else answer.attempt.abort()
            answer.quiet = True
            read = disk.read
            with contextlib.suppress(ConnectionError):
                await until(lambda: provider.peers[0].closed_at or provider.peers[0].reader.exception(), 1.0)
            assert asyncio.get_running_loop().time() - stopped < 1.0
            assert disk.read <= read + PIECE_BYTES
            assert disk.read < 256 * MIB
            assert not answer.wrong

    run(scenario, loop)


def test_a_disk_that_cannot_be_read_is_our_fault() -> None:
    async def scenario() -> None:
        async with Provider(Reading()) as provider, Stage(provider.url) as stage:
            answer = await stage.fetch(form(Disk(4 * MIB, fails_at=MIB)), stream=False)
            assert isinstance(answer.error, errors.InsufficientStorage)
            assert answer.message == "The upload cannot be read again: bad sector."
            await until(lambda: stage.pool.open_count == 0)
            assert stage.pool.open_count == 0

    run(scenario)


@pytest.mark.parametrize("stream", [False, True])
def test_a_provider_that_takes_no_more_is_given_up(stream: bool) -> None:
    async def scenario() -> None:
        async def script(peer: Peer) -> None:
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(20)

        async with Provider(script) as provider, Stage(provider.url) as stage:
            begun = asyncio.get_running_loop().time()
            answer = await stage.fetch(form(Disk(64 * MIB)), stream=stream, first_event=0.6)
            took = asyncio.get_running_loop().time() - begun
            assert isinstance(answer.error, errors.UpstreamTimeout)
            assert answer.error.clock == "first_event"
            assert "took no more of the request for 0.6 s" in answer.message
            assert 0.55 < took < 1.2 + SLACK_S

    run(scenario)


@pytest.mark.parametrize("stream", [False, True])
def test_a_provider_that_takes_it_slowly_is_not(stream: bool) -> None:
    async def scenario() -> None:
        script = Reading()

        async def slowly() -> None:
            while not script.digests:
                script.may_read.set()
                await asyncio.sleep(0.01)
                script.may_read.clear()
                await asyncio.sleep(0.1)

        async with Provider(script) as provider, Stage(provider.url) as stage:
            pace = asyncio.get_running_loop().create_task(slowly())
            answer = Answer()
            begun = asyncio.get_running_loop().time()
            await stage.fetch(form(Disk(12 * MIB, delay=0.02)), stream=stream, first_event=0.5, answer=answer)
            assert answer.body == b"ok"
            assert asyncio.get_running_loop().time() - begun > 0.7
            script.digests.append(b"")
            await pace

    run(scenario)


def test_a_disk_that_gives_nothing_is_not_taken_for_a_slow_provider() -> None:
    async def scenario() -> None:
        async with Provider(Reading()) as provider, Stage(provider.url) as stage:
            disk = Disk(4 * MIB)
            disk.stuck = True
            answer = await stage.fetch(form(disk), stream=False, first_event=0.4)
            assert isinstance(answer.error, errors.InsufficientStorage)
            assert "the disk gave nothing for 0.4 s" in answer.message

    run(scenario)


def test_parts_in_memory_need_no_disk() -> None:
    async def scenario() -> None:
        script = Reading()
        parts = (b"a" * 300_000, b"", b"b" * (2 * PIECE_BYTES), b"c")
        async with Provider(script) as provider, Stage(provider.url) as stage:
            answer: Answer = await stage.fetch(Upload(b"application/json", parts))
            assert answer.body == b"ok"
            assert script.digests == [hashlib.sha256(b"".join(parts)).digest()]
            assert b"accept: text/event-stream\r\n" in script.heads[0].lower()

    run(scenario)
