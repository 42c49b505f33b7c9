"""What an exchange turns to where an attempt has failed: the same deployment once more, or the next one of its plan."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Protocol

from tidegate.dialects.dialect import Stream
from tidegate.gateway.snapshot import Path
from tidegate.routing.retry import Verdict, verdict
from tidegate.wire import errors

if TYPE_CHECKING:
    from tidegate.gateway.gateway import Gateway

__all__ = ["Asking", "Recourse"]


class Asking(Protocol):
    """Whose attempt has failed."""

    def ask(self, path: Path) -> None:
        """Begin another attempt. Raises what keeps the deployment from being asked, a budget among them."""

    def passed_over(self, path: Path, error: errors.TidegateError) -> None:
        """The deployment is not asked, because of `error`."""

    def break_off(self, error: errors.TidegateError) -> None:
        """None is left."""

    def carrying_on(self) -> AbstractContextManager[None]:
        """What was waited for is there."""

    def time_left(self, path: Path) -> float:
        """Seconds until the total clock runs out."""


class Recourse:
    """Made when the first attempt of a plan has failed. Holds no exchange, which would have to be taken apart by the garbage
    collector: it is an argument where it goes on."""

    __slots__ = ("_failure", "_gateway", "_holds_budget", "_plan", "_repeats", "_step", "_stream", "_timer")

    def __init__(self, gateway: "Gateway", plan: Sequence[Path], stream: Stream | None) -> None:
        """`stream` is what the client gets, if anything of the kind: each attempt begins it anew."""
        self._gateway = gateway
        self._plan = plan
        self._stream = stream
        self._step = 1
        """The place of the next deployment in the plan."""
        self._repeats = 0
        """How often the present one was asked again."""
        self._timer: asyncio.TimerHandle | None = None
        self._holds_budget = False
        """What is under way or waits is a retry, which the budget counts."""

    @property
    def waits(self) -> bool:
        """Whether the same deployment is to be asked again in a while."""
        return self._timer is not None

    def after(self, asking: Asking, path: Path, error: errors.TidegateError, what: Verdict) -> None:
        """The attempt at `path` has ended with `error` before the commit point: ask the same deployment once more, or the
        next one."""
        self._failure = error, what
        if not self._asks_again(asking, path, what, error):
            self.fall_back(asking)

    def after_commit(self, asking: Asking, path: Path, error: errors.TidegateError, told: errors.TidegateError) -> None:
        """The same behind the commit point, where others go on with what was said: the next deployment first, as the present
        one has just broken off. Where none can, `told` is how the answer ended."""
        what = verdict(error)
        self._failure = told, "elsewhere"
        self._fall_back(
            asking, partial(self._asks_again, asking, path, "again" if what == "elsewhere" else what, error)
        )

    def fall_back(self, asking: Asking) -> None:
        """Ask the next deployment, if there is one; else the client is told of the last failure."""
        self._fall_back(asking, None)

    def stop_waiting(self) -> None:
        """The exchange goes on in another way, or has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def give_back_budget(self) -> None:
        """No retry is under way any more that could still be one too many."""
        if self._holds_budget:
            self._holds_budget = False
            self._gateway.router.budget.give_back()

    def _fall_back(self, asking: Asking, otherwise: Callable[[], bool] | None) -> None:
        """`otherwise` may find something better than to tell the client."""
        error, what = self._failure
        while self._step < len(self._plan) and what != "final":
            self._begin_anew()
            path = self._plan[self._step]
            self._step += 1
            self._repeats = 0
            try:
                asking.ask(path)
                return
            except (errors.CallerError, errors.LimitsUnavailable) as passed:
                # This deployment cannot honour the request, or a budget has no room for one more attempt: what went wrong
                # is still the first failure.
                asking.passed_over(path, passed)
        if otherwise is None or not otherwise():
            asking.break_off(error)

    def _asks_again(self, asking: Asking, path: Path, what: Verdict, error: errors.TidegateError) -> bool:
        """Whether the same deployment will answer after all: with another credential at once, or a little later."""
        gateway, router = self._gateway, self._gateway.router
        if what == "credential":
            if self._repeats + 1 >= path.upstream.credentials or not router.has_other_credential(path):
                return False
            wait_s = 0.0
        elif what == "again" and router.is_fit(path):
            found = router.retry_in(path, self._repeats, error, asking.time_left(path), len(gateway.exchanges))
            if found is None:
                return False
            wait_s = found
            self._holds_budget = True
        else:
            return False
        self._repeats += 1
        self._begin_anew()
        if wait_s:
            self._timer = gateway.loop.call_later(wait_s, self._on_due, asking, path)
            return True
        return self._asked_again(asking, path)

    def _on_due(self, asking: Asking, path: Path) -> None:
        self._timer = None
        with asking.carrying_on():
            if not self._asked_again(asking, path):
                self.fall_back(asking)

    @staticmethod
    def _asked_again(asking: Asking, path: Path) -> bool:
        try:
            asking.ask(path)
        except (errors.CallerError, errors.LimitsUnavailable):
            return False  # it was asked before, so that only a budget can stand in the way
        return True

    def _begin_anew(self) -> None:
        if self._stream is not None:
            self._stream.outcome = None
