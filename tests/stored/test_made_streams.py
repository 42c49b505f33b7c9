"""A response that was answered in one body, asked for as events."""

import asyncio
import json
from pathlib import Path
from typing import Any

from tidegate.config.schema import Storage as StorageSettings
from tidegate.dialects.profile import PROFILES
from tidegate.gateway.dialects import resumed
from tidegate.gateway.keeper import Keeper
from tidegate.storage.records import Ending, Item, NewRun, Tenant
from tidegate.storage.storage import Storage

TENANT = Tenant("acme", "harbour")
ANSWER: dict[str, Any] = {"id": "resp_1", "object": "response", "status": "completed", "output": [], "error": None}


def message(number: int, size: int) -> Item:
    text = {"type": "output_text", "text": "x" * size, "annotations": [], "logprobs": []}
    item = {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed", "content": [text]}
    return Item(f"msg_{number}", json.dumps(item).encode())


def test_the_loop_goes_on_while_the_events_of_a_long_answer_are_made(tmp_path: Path) -> None:
    async def scene() -> None:
        storage = await Storage.open(f"sqlite:///{tmp_path / 'tidegate.db'}")
        try:
            keeper = Keeper(asyncio.get_running_loop(), storage, StorageSettings())
            run = storage.put_run(NewRun(id="resp_1", tenant=TENANT, dialect="responses", model="m", created_at=1.0))
            ending = Ending(status="completed", completed_at=2.0, answer=json.dumps(ANSWER).encode())
            storage.finish_run(run, ending, [message(number, 500) for number in range(2000)])
            await storage.durable(run)
            turns = 0

            async def live() -> None:
                nonlocal turns
                while True:
                    await asyncio.sleep(0)
                    turns += 1

            pieces, between = [], []
            living = asyncio.create_task(live())
            found = await keeper.archive.find("resp_1", TENANT)
            resume = resumed(found.dialect, None, found.request, PROFILES["openai"])
            async for piece in keeper.archive.frames(found, TENANT, resume, PROFILES["openai"], 15.0):
                between.append(turns)
                turns = 0
                pieces.append(piece)
            living.cancel()
            events = [json.loads(one.split(b"\n")[0]) for one in b"".join(pieces).split(b"data: ")[1:]]
            assert [event["sequence_number"] for event in events] == list(range(3 + 2000 * 6))
            assert len(pieces) > 10, "it is all made at once"
            assert max(between[1:]) > 20, "nothing else runs while it is made"
        finally:
            await storage.close()

    asyncio.run(scene())
