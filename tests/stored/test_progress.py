"""How far an answer has come: its journal is read as it grows, and not from the start each time that somebody asks."""

import asyncio
import json

import pytest

from tests.storage.stage import OURS
from tidegate.gateway.progress import Progress

MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}


def frame(number: int, kind: str, **members: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members, 'sequence_number': number})}\n\n".encode()


class Journals:
    """Journals in memory. Each read is noted, and takes a turn of the loop."""

    def __init__(self) -> None:
        self.pieces: dict[str, list[tuple[int, bytes]]] = {}
        self.read_bytes = 0

    def write(self, run_id: str, frames: bytes) -> None:
        pieces = self.pieces.setdefault(run_id, [])
        pieces.append((pieces[-1][0] + len(pieces[-1][1]) if pieces else 0, frames))

    async def read(self, _tenant: object, run_id: str, place: int, _limit: int) -> list[tuple[int, bytes]]:
        await asyncio.sleep(0)
        found = [piece for piece in self.pieces[run_id] if piece[0] >= place][:2]
        self.read_bytes += sum(len(frames) for _, frames in found)
        return found

    def begin(self, run_id: str) -> None:
        self.write(run_id, frame(0, "response.output_item.added", output_index=0, item=MESSAGE))

    def say(self, run_id: str, number: int, text: str) -> None:
        self.write(run_id, frame(number, "response.output_text.delta", output_index=0, content_index=0, delta=text))

    def size(self, run_id: str) -> int:
        return sum(len(frames) for _, frames in self.pieces[run_id])


async def said(progress: Progress, run_id: str) -> str:
    remains = await progress.of(OURS, run_id)
    [item] = json.loads(remains.so_far(b'{"id":"resp_1"}'))["output"]
    return str(item["content"][0]["text"])


def test_a_journal_is_read_once_however_many_ask() -> None:
    async def scene() -> None:
        journals = Journals()
        progress = Progress(journals.read)
        journals.begin("a")
        expected = ""
        for number in range(1, 30):
            journals.say("a", number, f"{number} ")
            expected += f"{number} "
            if number % 7 == 0:
                assert await said(progress, "a") == expected
        assert await asyncio.gather(*(said(progress, "a") for _ in range(5))) == [expected] * 5
        assert journals.read_bytes <= journals.size("a") + 5 * 2 * journals.size("a") // 29

        before = journals.read_bytes
        assert await said(progress, "a") == expected
        assert journals.read_bytes == before
        progress.forget("a")
        assert await said(progress, "a") == expected
        assert journals.read_bytes == before + journals.size("a")

    asyncio.run(scene())


def test_what_nobody_asks_for_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        journals = Journals()
        progress = Progress(journals.read)
        for name in ("a", "b", "c", "long"):
            journals.begin(name)
            journals.say(name, 1, name * (1000 if name == "long" else 100))
        monkeypatch.setattr("tidegate.gateway.progress.MEMORY_BYTES", 2 * journals.size("a") + 10)
        for name in ("a", "b", "a", "c"):
            await said(progress, name)
        before = journals.read_bytes
        await said(progress, "a")
        assert journals.read_bytes == before
        await said(progress, "b")
        assert journals.read_bytes == before + journals.size("b")
        for _ in range(2):
            before = journals.read_bytes
            assert await said(progress, "long") == "long" * 1000
            assert journals.read_bytes == before + journals.size("long")

    asyncio.run(scene())
