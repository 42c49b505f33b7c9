"""What a client's URLs point to, fetched beside an exchange that waits for it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from tidegate.upstream.media import MediaFetcher
from tidegate.wire.errors import Internal, TidegateError, UpstreamTimeout

__all__ = ["MediaFetch"]

Found = Mapping[str, str]
"""Data URLs by the URLs that they were fetched from."""


class MediaFetch:
    """`then` is told once: what was found, or why not all could be had. After :meth:`cancel` it is told nothing."""

    __slots__ = ("_task", "_then")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fetcher: MediaFetcher,
        urls: Sequence[str],
        *,
        param: str,
        begun_at: float,
        total: float | None,
        then: Callable[[Found | TidegateError], None],
    ) -> None:
        """`param` is the member in which the URLs stand. The total clock counts from loop time `begun_at`."""
        self._then: Callable[[Found | TidegateError], None] | None = then
        self._task = loop.create_task(self._run(loop, fetcher, urls, param, begun_at, total))

    def cancel(self) -> None:
        self._then = None
        self._task.cancel()

    async def _run(
        self,
        loop: asyncio.AbstractEventLoop,
        fetcher: MediaFetcher,
        urls: Sequence[str],
        param: str,
        begun_at: float,
        total: float | None,
    ) -> None:
        found: Found | TidegateError
        try:
            async with asyncio.timeout_at(None if total is None else begun_at + total):
                found = await fetcher.fetch_all(urls, param=param)
        except TimeoutError:
            found = UpstreamTimeout(f"The media were not fetched within {total:g} s (total clock).", "total")
        except TidegateError as error:
            found = error
        except Exception as bug:
            # Nobody waits for this task: an exception that left it would leave the exchange waiting for ever.
            loop.call_exception_handler({"message": "fetching media failed", "exception": bug})
            found = Internal("The gateway failed on this request; its log has the details.")
        then, self._then = self._then, None
        if then is not None:  # it was cancelled at the very moment
            then(found)
