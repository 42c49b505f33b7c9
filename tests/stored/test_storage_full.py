"""What waits for the database fills the memory set aside: answers go on, and are not stored (`fail_open`)."""

import asyncio
from pathlib import Path

import httpx

from tests.stored.conftest import KEPT
from tests.support.running import Running


def test_streams_that_cannot_be_stored_still_end_well(tmp_path: Path) -> None:
    with Running(KEPT.replace("{data}", str(tmp_path))) as gateway:
        keeper = gateway.server._parts.gateway.keeper  # type: ignore[union-attr]
        assert keeper is not None
        # The run numbers are taken away, as after a long outage.
        storage = keeper.storage

        def take_numbers() -> None:
            storage._numbers = storage._spare = range(0)

        gateway.call(take_numbers)

        async def scene() -> list[str]:
            async with httpx.AsyncClient(base_url=gateway.origin, timeout=10) as client:
                bodies = [
                    {"model": f"openai/lorem?chunks={20 + 10 * number}&gap=20", "input": "hi", "stream": True}
                    for number in range(6)
                ]
                answers = await asyncio.gather(*(client.post("/v1/responses", json=body) for body in bodies))
                return [answer.text for answer in answers]

        for text in asyncio.run(scene()):
            assert text.count("event: response.completed") == 1
        errors = {line["event"] for line in gateway.log_lines if line["level"] == "error"}
        assert errors == {"storage_full"}
