"""Runs, their journal and their followers, over a store in memory."""

import asyncio
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.dialects.profile import PROFILES
from tidegate.dialects.resume import ChunkResume, ResponsesResume
from tidegate.streams.follow import Deleted, Torn, follow, joined, replay
from tidegate.streams.journal import BATCH_S, Journal
from tidegate.streams.run import MEMORY_BYTES, SEGMENT_BYTES, Run


class Shelf:
    """Keeps segments in memory, from the moment that it is told to."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, bytes]] = []

    def append_segment(self, run: int, place: int, frames: bytes) -> None:
        self.rows.append((run, place, frames))

    async def read(self, place: int, limit: int) -> list[tuple[int, bytes]]:
        await asyncio.sleep(0)
        found = [(start, frames) for _, start, frames in self.rows if start + len(frames) > place]
        return found[:2]

    async def has_ended(self) -> bool:
        return True

    async def changed(self) -> None:
        await asyncio.sleep(0)


class Disk(Shelf):
    """Keeps segments where they take no memory, as good as: they are of one letter."""

    def append_segment(self, run: int, place: int, frames: bytes) -> None:
        super().append_segment(run, place, zlib.compress(frames))

    async def read(self, place: int, limit: int) -> list[tuple[int, bytes]]:
        await asyncio.sleep(0)
        whole = ((start, zlib.decompress(packed)) for _, start, packed in self.rows)
        return [(start, frames) for start, frames in whole if start + len(frames) > place][:2]


def frame(number: int, words: str = "x") -> bytes:
    return b'event: e\ndata: {"type":"e","delta":"%b","sequence_number":%d}\n\n' % (words.encode(), number)


QUIET_S = 15.0


def numbered(after: int | None) -> ResponsesResume:
    return ResponsesResume(after, b"{}", PROFILES["openai"])


async def everything(run: Run, shelf: Shelf, after: int | None = None) -> bytes:
    return b"".join([piece async for piece in follow(shelf.read, run, numbered(after), QUIET_S)])


def test_a_follower_sees_every_frame_once_wherever_it_comes_in() -> None:
    async def scene() -> None:
        shelf = Shelf()
        journal = Journal(asyncio.get_running_loop(), shelf)
        run = journal.open(1, "resp_1", "acme")
        early = asyncio.create_task(everything(run, shelf))
        followers = [early]
        for number in range(60):
            run.append(frame(number))
            if number % 7 == 0:
                journal.flush()
            if number % 11 == 0:
                followers.append(asyncio.create_task(everything(run, shelf)))
                await asyncio.sleep(0)
        journal.close(run)
        followers.append(asyncio.create_task(everything(run, shelf)))
        whole = b"".join(frame(number) for number in range(60))
        assert await asyncio.gather(*followers) == [whole] * len(followers)
        assert run.followers == 0

    asyncio.run(scene())


def test_a_follower_goes_on_behind_the_number_that_it_names() -> None:
    async def scene() -> None:
        shelf = Shelf()
        journal = Journal(asyncio.get_running_loop(), shelf)
        run = journal.open(1, "resp_1", "acme")
        for number in range(10):
            run.append(frame(number))
        journal.flush()
        tasks = {after: asyncio.create_task(everything(run, shelf, after)) for after in range(-1, 20)}
        await asyncio.sleep(0.01)
        for number in range(10, 15):
            run.append(frame(number))
        journal.close(run)
        for after, task in tasks.items():
            assert await task == b"".join(frame(number) for number in range(after + 1, 15))

    asyncio.run(scene())


@pytest.mark.fault("FAULT-SLOW-READER")
def test_a_slow_follower_costs_no_memory_and_loses_nothing() -> None:
    big = "y" * 40_000

    async def scene() -> None:
        disk = Disk()
        journal = Journal(asyncio.get_running_loop(), disk)
        run = journal.open(1, "resp_1", "acme")
        seen: list[bytes] = []
        go_on = asyncio.Event()

        async def slow() -> None:
            async for piece in follow(disk.read, run, numbered(None), QUIET_S):
                seen.append(piece)
                await go_on.wait()

        task = asyncio.create_task(slow())
        run.append(frame(0, big))
        await asyncio.sleep(0)
        assert seen == [frame(0, big)]
        before = tracemalloc.get_traced_memory()[0]
        for number in range(1, 100):
            run.append(frame(number, big))
            await asyncio.sleep(0)
            journal.flush()
        assert tracemalloc.get_traced_memory()[0] - before < MEMORY_BYTES + 32 * 1024
        journal.close(run)
        go_on.set()
        await task
        assert b"".join(seen) == b"".join(frame(number, big) for number in range(100))

    tracemalloc.start()
    try:
        asyncio.run(scene())
    finally:
        tracemalloc.stop()


def test_frames_of_a_tenth_of_a_second_are_written_together() -> None:
    async def scene() -> None:
        shelf = Shelf()
        journal = Journal(asyncio.get_running_loop(), shelf)
        run = journal.open(7, "resp_1", "acme")
        for number in range(3):
            run.append(frame(number))
        assert shelf.rows == []
        await asyncio.sleep(BATCH_S * 2)
        whole = b"".join(frame(number) for number in range(3))
        assert shelf.rows == [(7, 0, whole)]
        run.append(frame(3))
        journal.close(run)
        assert shelf.rows[1:] == [(7, len(whole), frame(3))]
        assert journal.runs == {}

    asyncio.run(scene())


@pytest.mark.fault("FAULT-SLOW-READER")
def test_what_comes_fast_is_written_in_pieces_that_a_slow_reader_can_hold() -> None:
    """Whoever reads the journal has a piece in memory for as long as his connection is full."""

    async def scene() -> None:
        shelf = Shelf()
        journal = Journal(asyncio.get_running_loop(), shelf)
        run = journal.open(7, "resp_1", "acme")
        large = [frame(number, "x" * 50_000) for number in range(40)]
        for one in large:
            run.append(one)
        journal.flush()
        assert all(len(frames) <= SEGMENT_BYTES + len(large[0]) for _, _, frames in shelf.rows)
        assert len(shelf.rows) < 10
        for _, place, frames in shelf.rows:
            assert frames.startswith(b"event: ")
            assert frames.endswith(b"\n\n")
            assert b"".join(large)[place : place + len(frames)] == frames
        journal.close(run)
        assert await everything(run, shelf) == b"".join(large)

    asyncio.run(scene())


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.integers(-1, 40))
def test_a_replay_is_the_same_however_the_journal_was_cut(cuts: list[int], after: int) -> None:
    shelf = Shelf()
    number = place = 0
    for size in cuts:
        frames = b"".join(frame(number + step) for step in range(size))
        shelf.append_segment(1, place, frames)
        number += size
        place += len(frames)

    async def scene() -> bytes:
        return b"".join(
            [piece async for piece in replay(shelf.read, shelf.has_ended, shelf.changed, numbered(after), QUIET_S)]
        )

    assert asyncio.run(scene()) == b"".join(frame(one) for one in range(after + 1, number))


@pytest.mark.parametrize("after", range(-1, 4))
def test_frames_without_numbers_are_counted(after: int) -> None:
    frames = [b'data: {"n":%d}\n\n' % number for number in range(3)] + [b"data: [DONE]\n\n"]
    resume = ChunkResume(after)
    out = resume.feed(b": hello\n\n" + b"".join(frames[:2])) + resume.feed(b"".join(frames[2:]))
    assert out == b"".join(frames[after + 1 :])


def test_pings_have_no_number_since_a_client_gets_some_that_no_journal_has() -> None:
    ping = b'event: ping\ndata: {"type": "ping"}\n\n'
    first, second, third = (b'data: {"n":%d}\n\n' % number for number in range(3))
    assert ChunkResume(0).feed(first + ping + second + third) == second + third
    assert ChunkResume(1).feed(ping + first + second + ping + third + ping) == third + ping


def test_a_silent_stream_is_kept_alive_and_one_that_speaks_is_not() -> None:
    async def scene() -> None:
        shelf = Shelf()
        journal = Journal(asyncio.get_running_loop(), shelf)
        run = journal.open(1, "resp_1", "acme")
        ping = b": keepalive\n\n"
        alive = b'event: keepalive\ndata: {"type":"keepalive","sequence_number":0}\n\n'
        frames = follow(shelf.read, run, numbered(None), 0.15)
        assert await anext(frames) == ping  # nothing was said that could be repeated
        run.append(frame(0))
        assert await anext(frames) == frame(0)
        assert await anext(frames) == ping + alive
        for number in range(1, 5):
            asyncio.get_running_loop().call_later(0.08, run.append, frame(number))
            assert await anext(frames) == frame(number)
        late = follow(shelf.read, run, numbered(1000), 0.15)
        assert (await anext(late)).endswith(b'"sequence_number":1000}\n\n')
        journal.close(run)
        assert [piece async for piece in frames] == []
        assert [piece async for piece in late] == []
        assert ping not in b"".join(written for _, _, written in shelf.rows)

    asyncio.run(scene())


def test_a_silent_stream_of_another_process_is_kept_alive() -> None:
    class Elsewhere(Shelf):
        async def has_ended(self) -> bool:
            return len(self.rows) == 2

        async def changed(self) -> None:
            await asyncio.sleep(0.03)

    async def scene() -> None:
        shelf = Elsewhere()
        shelf.append_segment(1, 0, frame(0))
        frames = replay(shelf.read, shelf.has_ended, shelf.changed, numbered(None), 0.1)
        assert await anext(frames) == frame(0)
        assert (await anext(frames)).endswith(b'"sequence_number":0}\n\n')
        shelf.append_segment(1, len(frame(0)), frame(1))
        assert [piece async for piece in frames] == [frame(1)]

    asyncio.run(scene())


def test_what_was_written_just_before_the_end_is_read_behind_the_news_of_it() -> None:
    class Late(Shelf):
        """Its last segment comes between a look that finds nothing and the news of the end."""

        async def has_ended(self) -> bool:
            if len(self.rows) == 1:
                self.append_segment(1, len(frame(0)), frame(1))
            return True

    async def scene() -> bytes:
        shelf = Late()
        shelf.append_segment(1, 0, frame(0))
        frames = replay(shelf.read, shelf.has_ended, shelf.changed, numbered(None), QUIET_S)
        return b"".join([piece async for piece in frames])

    assert asyncio.run(scene()) == frame(0) + frame(1)


def test_a_follower_of_a_run_whose_journal_is_gone_is_not_left_waiting() -> None:
    async def scene() -> None:
        shelf = Shelf()
        journal = Journal(asyncio.get_running_loop(), shelf)
        run = journal.open(1, "resp_1", "acme")
        run.append(frame(0))
        journal.flush()
        shelf.rows.clear()
        journal.close(run)
        with pytest.raises(Deleted):
            await asyncio.wait_for(everything(run, shelf), 5)

    asyncio.run(scene())


@pytest.mark.parametrize("lost", range(4))
def test_nothing_is_read_of_a_journal_behind_a_hole(lost: int) -> None:
    pieces = [(0, b"aaaa"), (4, b"bb"), (6, b"cccc"), (10, b"d")]
    left = [piece for number, piece in enumerate(pieces) if number != lost]
    assert joined(pieces, 0) == pieces
    assert joined(pieces[1:], 5) == pieces[1:]  # a piece may begin before the place that is asked for
    assert joined([], 7) == []
    if lost == 0:
        with pytest.raises(Torn):
            joined(left, 0)
    else:
        assert joined(left, 0) == pieces[:lost]
    for start, frames in pieces[:lost][-1:]:
        if pieces[lost + 1 :]:
            with pytest.raises(Torn):
                joined(pieces[lost + 1 :], start + len(frames))
