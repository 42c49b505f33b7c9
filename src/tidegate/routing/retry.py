"""What follows a failed attempt: nothing, the same deployment once more, or another one. Pure.

The decision is made by the class of the error (`faults.md`, fault matrix), so that an error hidden in an answer with
status 200 is treated as what it is. How often, and how many requests may repeat themselves at once, is bounded twice:
by the retries of one request, and by a budget that all requests share.
"""

from typing import Literal

import msgspec

from tidegate.wire import errors

__all__ = ["Budget", "Condition", "Retries", "Verdict", "verdict"]

Verdict = Literal["final", "again", "elsewhere", "credential"]
"""`final`: nobody can mend it. `again`: the same deployment may, a little later. `elsewhere`: only another deployment.
`credential`: the same deployment with another credential may, or another deployment."""

Condition = Literal["context_length", "content_filter"]
"""Refusals of a request that another model may take all the same."""

CODES: dict[Condition, frozenset[str]] = {
    "context_length": frozenset({"context_length_exceeded", "string_above_max_length", "request_too_large"}),
    "content_filter": frozenset(
        {
            "content_filter",
            "content_policy_violation",
            "invalid_prompt",
            "bio_policy",
            "misalignment_policy_violation",
            "image_content_policy_violation",
            "ResponsibleAIPolicyViolation",
        }
    ),
}
"""The codes by which providers give each of them (protocol §1.3, §1.8)."""

BASE_S = 0.1
"""The first wait is drawn between nothing and this; each further one from a range twice as long."""

LONGEST_WAIT_S = 2.0
"""Longest wait before the same deployment is asked again. Where it wants more, another one is asked, or nobody."""

BUDGET_LEAST = 3
"""So many retries may always be under way: a fifth of one request would be none."""


def verdict(error: errors.TidegateError, conditions: frozenset[Condition] = frozenset()) -> Verdict:
    """What may follow `error`. `conditions` are those under which the route goes on after a refusal."""
    match error:
        case errors.UpstreamDenied(what="place"):
            return "elsewhere"
        case errors.UpstreamAuth():
            return "credential"
        case errors.UpstreamRateLimited():
            return "credential"
        case errors.UpstreamUnreachable() | errors.UpstreamRedirected():
            return "elsewhere"
        case errors.UpstreamTimeout():
            if error.clock == "total":
                return "final"
            return "again" if error.clock == "provider" else "elsewhere"
        case errors.UpstreamBroken():
            return "again"
        case errors.UpstreamFailed():
            if error.openai_type == "insufficient_quota":
                return "credential"
            if error.may_retry:
                return "again"
            return "elsewhere" if condition_of(error) in conditions else "final"
        case _:
            return "elsewhere" if error.may_retry else "final"


def condition_of(error: errors.TidegateError) -> Condition | None:
    """Which kind of refusal this is, if it is one that another model may not share."""
    if error.http_status == 413:
        return "context_length"
    return next((condition for condition, codes in CODES.items() if error.code in codes), None)


class Retries(msgspec.Struct, frozen=True):
    """How often one request repeats itself at one deployment."""

    limit: int = 1

    def wait(self, done: int, retry_after: float | None, draw: float) -> float | None:
        """Seconds until the same deployment is asked again; None when it is not to be.

        `done` counts the retries there so far, `retry_after` is what the provider asked for, and `draw` in [0, 1) spreads
        those who failed together over the whole range (full jitter).
        """
        if done >= self.limit:
            return None
        wanted = retry_after or 0.0
        if wanted > LONGEST_WAIT_S:
            return None
        longest = min(LONGEST_WAIT_S, BASE_S * 2.0 ** min(done, 16))
        return min(LONGEST_WAIT_S, wanted + draw * longest)


class Budget:
    """How many retries may be under way at once: a share of all running requests, so that they cannot multiply the load
    of a provider that is failing for everybody."""

    __slots__ = ("denied", "running", "share")

    def __init__(self, share: float) -> None:
        self.share = share
        self.running = 0
        self.denied = 0
        """Retries that were not made for lack of it."""

    def take(self, live: int) -> bool:
        """Whether one more retry may begin while `live` requests run; if so, it is to be given back."""
        if self.running >= max(BUDGET_LEAST, int(self.share * live)):
            self.denied += 1
            return False
        self.running += 1
        return True

    def give_back(self) -> None:
        """A retry has ended, in whatever way."""
        self.running -= 1
