"""Runs checks: each with a deadline and a stopwatch, whatever becomes of it."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from tidegate.server.doctor.finding import Finding, Verdict, bad

__all__ = ["Bench"]

Progress = Callable[[tuple[str, ...]], None]
"""Told what is being waited for, whenever that changes."""


class Bench:
    """Collects findings. Checks run side by side; none can hang it or break it."""

    def __init__(self, timeout_s: float, progress: Progress | None = None) -> None:
        self.timeout_s = timeout_s
        self.findings: list[Finding] = []
        self._progress = progress
        self._waiting: dict[str, int] = {}

    async def look(
        self,
        check: str,
        work: Awaitable[Verdict],
        *,
        subject: str = "",
        within_s: float | None = None,
        late: str = "Find out what holds it up, or wait longer with --timeout.",
    ) -> Verdict:
        """The verdict of one check, which is also noted. `late` is the advice when it takes too long."""
        limit = self.timeout_s if within_s is None else within_s
        begun = time.perf_counter()
        self._wait(subject or check, 1)
        try:
            async with asyncio.timeout(limit):
                verdict = await work
        except TimeoutError:
            verdict = bad(f"no answer within {max(limit, 0):.3g} s", late)
        except Exception as error:
            verdict = bad(
                f"the check itself broke: {type(error).__name__}: {error}", "This is a fault of Tidegate: report it."
            )
        finally:
            self._wait(subject or check, -1)
        self.note(check, verdict, subject=subject, seconds=time.perf_counter() - begun)
        return verdict

    def note(self, check: str, verdict: Verdict, *, subject: str = "", seconds: float = 0.0) -> None:
        """Take down what is known without waiting."""
        self.findings.append(
            Finding(
                check=check,
                subject=subject,
                status=verdict.status,
                found=verdict.found,
                advice=verdict.advice,
                duration_ms=round(seconds * 1000, 1),
                details=verdict.details,
            )
        )

    def _wait(self, name: str, step: int) -> None:
        count = self._waiting.get(name, 0) + step
        if count:
            self._waiting[name] = count
        else:
            del self._waiting[name]
        if self._progress is not None:
            self._progress(tuple(self._waiting))
