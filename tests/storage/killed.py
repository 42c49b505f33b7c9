"""`python -m tests.storage.killed URL SEED`: writes runs until it is killed, and says what it was promised.

A line on standard output is a promise: `kept ID SEGMENTS STATUS` was durable before it was printed.
"""

import asyncio
import random
import sys

from tests.storage.stage import ending, frames_of, item, new_run
from tidegate.storage.storage import Settings, Storage


async def main(url: str, seed: int) -> None:
    draw = random.Random(seed)
    storage = await Storage.open(url, settings=Settings(flush_s=0.01, lease_s=0.5))

    async def client(number: int) -> None:
        turn = 0
        while True:
            made = storage.put_run(new_run(id=f"resp_{seed}_{number}_{turn}", stream=True), [item("ask")])
            count = draw.randint(1, 30)
            for at in range(count):
                storage.append_segment(made, at, at, frames_of(at, at))
                if draw.random() < 0.1:
                    await storage.durable(made)
                    print(f"kept {made.new.id} {at + 1} in_progress", flush=True)
                else:
                    await asyncio.sleep(draw.random() * 0.004)
            storage.finish_run(made, ending(), [item("answer")])
            if draw.random() < 0.7:
                await storage.durable(made)
                print(f"kept {made.new.id} {count} completed", flush=True)
            turn += 1

    print("ready", flush=True)
    await asyncio.gather(*(client(number) for number in range(20)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
