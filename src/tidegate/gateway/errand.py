"""Something that an exchange has to wait for before it can go on: media to fetch, earlier turns to look up."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from tidegate.wire.errors import Internal, TidegateError

__all__ = ["Errand"]

T = TypeVar("T")


class Errand(Generic[T]):
    """`then` is told once: the result, or why there is none. After :meth:`cancel` it is told nothing."""

    __slots__ = ("_task", "_then")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, T],
        then: Callable[[T | TidegateError], None],
        *,
        until: float | None,
        late: TidegateError | None,
    ) -> None:
        """`until` is the loop time at which the error `late` takes the place of a result; None: never."""
        self._then: Callable[[T | TidegateError], None] | None = then
        self._task = loop.create_task(self._run(loop, work, until, late))

    def cancel(self) -> None:
        self._then = None
        self._task.cancel()

    async def _run(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, T],
        until: float | None,
        late: TidegateError | None,
    ) -> None:
        found: T | TidegateError
        try:
            async with asyncio.timeout_at(until):
                found = await work
        except TimeoutError:
            assert late is not None
            found = late
        except TidegateError as error:
            found = error
        except Exception as bug:
            # Nobody waits for this task: an exception that left it would leave the exchange waiting for ever.
            loop.call_exception_handler({"message": "an errand failed", "exception": bug})
            found = Internal("The gateway failed on this request; its log has the details.")
        then, self._then = self._then, None
        if then is not None:  # it was cancelled at the very moment
            then(found)
