"""`python -m tests.storage.frozen URL`: stops itself in the middle of a transaction, with a lock that every ending needs."""

import asyncio
import os
import signal
import sys

from tidegate.storage.postgres import PostgresEngine
from tidegate.storage.statement import Sql, Work


async def main(url: str) -> None:
    engine = await PostgresEngine.open(url)

    def work() -> Work[None]:
        yield Sql("UPDATE stored SET bytes = bytes + 1")()
        print("frozen", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)

    await engine.write(work, sync=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
