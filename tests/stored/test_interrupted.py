"""A response whose gateway died: what is left of it is read from its journal once."""

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tidegate.config.schema import Storage as StorageSettings
from tidegate.config.secret import Secret
from tidegate.dialects.profile import PROFILES
from tidegate.dialects.responses.state import References
from tidegate.gateway.dialects import resumed
from tidegate.gateway.history import History
from tidegate.gateway.keeper import Keeper, Plan
from tidegate.storage.records import NewRun, Tenant
from tidegate.storage.storage import Storage
from tidegate.wire.errors import NotFound

TENANT = Tenant("acme", "harbour")
BEGUN: dict[str, Any] = {"id": "resp_1", "object": "response", "status": "in_progress", "output": [], "error": None}
MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
CUT = {"type": "message", "id": "msg_2", "role": "assistant", "status": "in_progress", "content": []}
SAID = {"type": "output_text", "text": "The tide", "annotations": [], "logprobs": []}
OUTPUT = [MESSAGE, {**CUT, "status": "incomplete", "content": [SAID]}]
KEYS = ["old-master-key-0123456789abcdef0123"]

sealed = pytest.mark.parametrize("keys", [[], KEYS], ids=["plain", "sealed"])


def frame(number: int, kind: str, **members: object) -> bytes:
    data = json.dumps({"type": kind, **members, "sequence_number": number})
    return f"event: {kind}\ndata: {data}\n\n".encode()


@asynccontextmanager
async def opened(folder: Path, keys: list[str]) -> AsyncIterator[tuple[Storage, Keeper]]:
    storage = await Storage.open(f"sqlite:///{folder / 'tidegate.db'}", master_keys=[Secret(key) for key in keys])
    try:
        yield storage, Keeper(asyncio.get_running_loop(), storage, StorageSettings())
    finally:
        await storage.close()


async def cut_off(folder: Path, keys: list[str]) -> None:
    """A response that streamed when its gateway was killed."""
    async with opened(folder, keys) as (storage, _):
        run = storage.put_run(
            NewRun(
                id="resp_1",
                tenant=TENANT,
                dialect="responses",
                model="m",
                stream=True,
                created_at=1.0,
                request=json.dumps(BEGUN).encode(),
            )
        )
        place = 0
        for piece in (
            frame(0, "response.created", response=BEGUN),
            frame(1, "response.output_item.done", output_index=0, item=MESSAGE),
            frame(2, "response.output_item.added", output_index=1, item=CUT),
            frame(3, "response.output_text.delta", item_id="msg_2", output_index=1, content_index=0, delta="The "),
            frame(4, "response.output_text.delta", item_id="msg_2", output_index=1, content_index=0, delta="tide"),
        ):
            storage.append_segment(run, place, place + len(piece) - 1, piece)
            place += len(piece)
        await storage.durable(run)
    # The process leaves without ending its run, as one does that is killed: the next start closes it.


def change(folder: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(folder / "tidegate.db")) as database, database:
        database.execute(statement)


@sealed
def test_the_journal_of_an_interrupted_response_is_read_once(tmp_path: Path, keys: list[str]) -> None:
    async def scene() -> None:
        await cut_off(tmp_path, keys)
        async with opened(tmp_path, keys) as (storage, keeper):
            first = await keeper.archive.response("resp_1", TENANT)
            found = json.loads(first)
            assert (found["status"], found["output"]) == ("failed", OUTPUT)
            assert found["error"]["message"].startswith("gateway_interrupted")
            await storage._writer.settle_all()
            change(tmp_path, "DELETE FROM segments")
            assert await keeper.archive.response("resp_1", TENANT) == first
        async with opened(tmp_path, keys) as (_, keeper):
            assert await keeper.archive.response("resp_1", TENANT) == first
        if keys:
            assert b"gateway_interrupted: " not in (tmp_path / "tidegate.db").read_bytes()

    asyncio.run(scene())


@sealed
def test_who_goes_on_from_an_interrupted_response_has_what_there_is_of_it(tmp_path: Path, keys: list[str]) -> None:
    """The client was given these items, and answers them: without them a tool's output has no call."""

    async def scene() -> None:
        await cut_off(tmp_path, keys)
        async with opened(tmp_path, keys) as (_, keeper):
            found = await keeper.prepare(Plan(references=References(previous="resp_1")), TENANT)
            assert isinstance(found, History)
            assert [json.loads(item) for item in found.items] == OUTPUT

    asyncio.run(scene())


def test_what_is_found_out_survives_a_change_of_keys_and_of_nothing_else(tmp_path: Path) -> None:
    """The row may be sealed under another key than is in use now, or under none."""

    async def scene() -> None:
        await cut_off(tmp_path, [])
        async with opened(tmp_path, KEYS) as (storage, keeper):
            first = await keeper.archive.response("resp_1", TENANT)
            await storage._writer.settle_all()
            await storage.reseal()
            assert await keeper.archive.response("resp_1", TENANT) == first
            run = await keeper.archive.find("resp_1", TENANT)
            storage.keep_answer(run, b"another")
            await storage._writer.settle_all()
            assert await keeper.archive.response("resp_1", TENANT) == first
            await keeper.archive.delete("resp_1", TENANT)
            storage.keep_answer(run, b"another")
            await storage._writer.settle_all()
            with pytest.raises(NotFound):
                await keeper.archive.response("resp_1", TENANT)

    asyncio.run(scene())


SAID_STOP = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"event: message_stop"}}\n\n'
)
CHUNK = b'data: {"choices":[{"delta":{"content":"data: [DONE]"},"finish_reason":null}]}\n\n'
PART = b'{"candidates":[{"content":{"parts":[{"text":"finishReason"}]}}]}'
LAST = b'{"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":"STOP"}]}'


@pytest.mark.parametrize("after", [None, 0, 1, 50])
@pytest.mark.parametrize(
    ("dialect", "written", "told"),
    [
        ("messages", [SAID_STOP, SAID_STOP], b"event: error\n"),
        ("messages", [SAID_STOP, b'event: message_stop\ndata: {"type":"message_stop"}\n\n'], b""),
        ("chat", [CHUNK, CHUNK], b'data: {"error"'),
        ("chat", [CHUNK, b"data: [DONE]\n\n"], b""),
        ("completions", [CHUNK, CHUNK], b'data: {"error"'),
        ("gemini", [b"data: %b\n\n" % PART, b"data: %b\n\n" % PART], b'data: {"error"'),
        ("gemini", [b"data: %b\n\n" % PART, b"data: %b\n\n" % LAST], b""),
        ("gemini:array", [b"[" + PART, b",\r\n" + PART], b'{"error"'),
        ("gemini:array", [b"[" + PART, b",\r\n" + LAST], b"\n]"),
        ("gemini:array", [b"[" + PART, b",\r\n" + LAST, b"\n]"], b"\n]"),
    ],
)
def test_a_stream_whose_gateway_died_has_one_ending(
    tmp_path: Path, dialect: str, written: list[bytes], told: bytes, after: int | None
) -> None:
    """An error where its own ending was not written; for each client, wherever he goes on."""

    async def scene() -> bytes:
        async with opened(tmp_path, []) as (storage, _):
            new = NewRun(id="strm_1", tenant=TENANT, dialect=dialect, model="m", stream=True, created_at=1.0)
            run = storage.put_run(new)
            place = 0
            for piece in written:
                storage.append_segment(run, place, place + len(piece) - 1, piece)
                place += len(piece)
            await storage.durable(run)
        async with opened(tmp_path, []) as (_, keeper):
            found, profile = await keeper.archive.find("strm_1", TENANT), PROFILES["openai"]
            resume = resumed(found.dialect, after, found.request, profile)
            return b"".join([piece async for piece in keeper.archive.frames(found, TENANT, resume, profile, 15.0)])

    frames = asyncio.run(scene())
    is_array = dialect == "gemini:array"
    kept = written[:2] if after is None else written[after + 1 : 2]
    assert frames.count(b"gateway_interrupted: ") == (told not in (b"", b"\n]"))
    if is_array:
        elements = json.loads(frames)
        own = [json.loads(piece.lstrip(b"[,\r\n")) for piece in kept]
        assert elements[: len(own)] == own
        assert ["error" in one for one in elements[len(own) :]] == ([True] if told == b'{"error"' else [])
    else:
        own_frames = b"".join(kept)
        assert frames.startswith(own_frames)
        rest = frames[len(own_frames) :]
        assert rest.startswith(told)
        assert bool(rest) is bool(told)
