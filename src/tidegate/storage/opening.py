"""Which database an address means, and a connection to it that is fit for use."""

import asyncio
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from tidegate.storage.engine import Engine, Unavailable
from tidegate.storage.records import StorageUnusable
from tidegate.storage.writer import Settings

__all__ = ["open_engine", "sqlite_path"]

CONNECT_PATIENCE_S: Final = 10.0
"""How long a start waits for a database server that does not answer yet."""


async def open_engine(url: str, settings: Settings) -> Engine:
    """The database at `url`, upgraded if it must be: `sqlite:///relative/path`, `sqlite:////absolute/path` or
    `postgresql://…`. Raises StorageUnusable."""
    scheme = url.partition(":")[0]
    if scheme == "sqlite":
        from tidegate.storage.sqlite import SQLiteEngine  # only the engine in use is loaded

        return await SQLiteEngine.open(sqlite_path(url), readers=settings.readers)
    if scheme in ("postgresql", "postgres"):
        from tidegate.storage.postgres import PostgresEngine

        until = asyncio.get_running_loop().time() + CONNECT_PATIENCE_S
        while True:
            try:
                return await PostgresEngine.open(url, readers=settings.readers)
            except Unavailable as error:
                if asyncio.get_running_loop().time() >= until:
                    raise StorageUnusable(f"The database server does not answer: {error}.") from error
                await asyncio.sleep(0.5)
    raise StorageUnusable(
        f"The storage address begins with '{scheme}'; it must be sqlite:///path/to/file.db or postgresql://user@host/name."
    )


def sqlite_path(url: str) -> Path:
    """The path in `sqlite:///relative` or `sqlite:////absolute`, as SQLAlchemy writes them."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc or not path.startswith("/") or path == "/" or parts.query:
        raise StorageUnusable(
            f"The storage address '{url}' is not of the form sqlite:///relative/path.db or sqlite:////absolute/path.db."
        )
    return Path(path[1:])
