"""Effort, budget and sampling, as the generations of models behind Anthropic's API take them (see `Traits`)."""

from typing import Any

from tidegate.dialects.codec import Losses
from tidegate.dialects.dialect import Destination
from tidegate.wire.items import CanonicalRequest

__all__ = ["LEAST_BUDGET", "put_thinking"]

LEAST_BUDGET = 1024
"""The smallest `budget_tokens` that the API takes; it also has to be below `max_tokens`."""

_LEVELS = ("minimal", "low", "medium", "high", "xhigh", "max")
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 24576, "max": 32000}
"""Tokens of thinking that an effort stands for where thinking is asked for in tokens."""

_USUAL = "medium"
"""How much is thought where nothing says how much, and the API wants a number."""

_OFF = {"type": "disabled"}

_LEAST_TOP_P = 0.95
"""With thinking, `top_p` may be between this and 1."""


def put_thinking(body: dict[str, Any], request: CanonicalRequest, destination: Destination, losses: Losses) -> None:
    """Sets `thinking`, `output_config.effort`, `temperature`, `top_p` and `top_k`. Looks at `max_tokens`, `messages` and
    `tool_choice`, which stand in `body` already."""
    traits = destination.traits
    effort = _effort(request)
    on = False
    if effort == "none":
        if traits.always_thinks:
            # Clients send `none` unasked; the least that the model can do is nearer to it than an error.
            losses.hint("effort" if request.effort else "reasoning_budget")
            on = _put_adaptive(body, _LEVELS[0], request, destination, losses)
        elif traits.thinking != "none":
            body["thinking"] = _OFF
    elif effort or request.reasons or request.reasoning_summary:
        if traits.thinking == "none":
            losses.hint(_asked_by(request))
        elif traits.thinking == "adaptive":
            on = _put_adaptive(body, effort, request, destination, losses)
        else:
            on = _put_budget(body, effort, request, destination, losses)
    elif request.shows_thoughts and traits.always_thinks:
        on = _put_adaptive(body, "", request, destination, losses)
    if request.reasoning_summary not in ("", "auto"):
        losses.hint("reasoning_summary")  # how much is told of a thought is not for the client to say
    elif request.reasoning_summary and effort != "none" and body.get("thinking", _OFF) == _OFF:
        losses.hint("reasoning_summary")  # there is nothing to tell
    _put_sampling(body, request, destination, losses, thinks=on)


def _effort(request: CanonicalRequest) -> str:
    """The effort that is asked for; one that fits a budget where only that is given."""
    if request.effort or request.reasoning_budget is None:
        return request.effort
    budget = request.reasoning_budget
    if budget == 0:
        return "none"
    if budget < 0:  # Gemini's word for a budget that the model finds itself
        return ""
    return next((level for level in _LEVELS if budget <= _BUDGETS[level]), "max")


def _asked_by(request: CanonicalRequest) -> str:
    """The member that asks for thinking."""
    if request.effort:
        return "effort"
    if request.reasoning_budget:
        return "reasoning_budget"
    return "reasons" if request.reasons else "reasoning_summary"


def _put_adaptive(
    body: dict[str, Any], effort: str, request: CanonicalRequest, destination: Destination, losses: Losses
) -> bool:
    traits = destination.traits
    if request.reasoning_budget:
        losses.hint("reasoning_budget")
    _put_effort(body, effort, request, destination, losses)
    if _is_forced(body):
        # A call that is forced comes without a thought before it.
        if not traits.always_thinks:
            losses.hint(_asked_by(request))
            body["thinking"] = _OFF
            return False
        return True
    body["thinking"] = {"type": "adaptive", **_display(request)}
    return True


def _put_budget(
    body: dict[str, Any], effort: str, request: CanonicalRequest, destination: Destination, losses: Losses
) -> bool:
    _put_effort(body, effort, request, destination, losses)
    name = _asked_by(request)
    level = effort or (_USUAL if request.reasons else "")
    if not level:  # a summary alone asks for no thinking that would not happen anyway
        losses.hint(name)
        return False
    room = body["max_tokens"]
    if room <= LEAST_BUDGET or _is_forced(body) or _goes_on_without_thought(body["messages"]):
        losses.hint(name)
        return False
    wanted = request.reasoning_budget or _BUDGETS[level]
    # A fifth of the limit stays for what is said.
    budget = max(LEAST_BUDGET, min(wanted, max(LEAST_BUDGET, room * 4 // 5), room - 1))
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    if request.reasoning_budget and request.effort and not destination.traits.efforts:
        losses.hint("effort")  # the budget says it more exactly
    if request.reasoning_budget and budget != request.reasoning_budget:
        losses.hint("reasoning_budget")
    return True


def _put_effort(
    body: dict[str, Any], effort: str, request: CanonicalRequest, destination: Destination, losses: Losses
) -> None:
    """The nearest effort that the model knows: the next one above, else the highest."""
    efforts = destination.traits.efforts
    if not effort or not efforts:
        return
    least = _LEVELS.index(effort)
    nearest = next((one for one in efforts if _LEVELS.index(one) >= least), efforts[-1])
    if nearest != effort and effort == request.effort:
        losses.hint("effort")
    body["output_config"] = {**body.get("output_config", {}), "effort": nearest}


def _display(request: CanonicalRequest) -> dict[str, str]:
    """New models leave the text of their thoughts out unless it is asked for."""
    shown = request.reasoning_summary or (request.shows_thoughts and _effort(request) != "none")
    return {"display": "summarized"} if shown else {}


def _is_forced(body: dict[str, Any]) -> bool:
    return body.get("tool_choice", {}).get("type") in ("any", "tool")


def _goes_on_without_thought(messages: list[dict[str, Any]]) -> bool:
    """Whether the last step called tools and its thoughts are not there: with a budget, the API refuses to go on."""
    if len(messages) < 2:
        return False
    last, before = messages[-1]["content"], messages[-2]["content"]
    if isinstance(last, str) or isinstance(before, str) or _type(last[0]) != "tool_result":
        return False
    return _type(before[0]) not in ("thinking", "redacted_thinking")


def _type(block: Any) -> Any:
    return block.get("type") if isinstance(block, dict) else None


def _put_sampling(
    body: dict[str, Any], request: CanonicalRequest, destination: Destination, losses: Losses, *, thinks: bool
) -> None:
    temperature, top_p, top_k = request.temperature, request.top_p, request.top_k if request.limits_tokens else None
    if temperature == 1:
        temperature = None
    if top_p == 1:
        top_p = None
    if not destination.traits.sampling:
        given = {"temperature": temperature, "top_p": top_p, "top_k": top_k}
        for name, value in given.items():
            if value is not None:
                losses.refuse(name, "This model takes no sampling parameters.")
        return
    if thinks:
        if temperature is not None:
            losses.hint("temperature")
        if top_k is not None:
            losses.hint("top_k")
        if top_p is not None and top_p < _LEAST_TOP_P:
            losses.hint("top_p")
            top_p = None
        temperature = top_k = None
    if temperature is not None and temperature > 1:
        losses.refuse("temperature", "It goes from 0 to 1.")
        temperature = None
    if temperature is not None and top_p is not None and destination.traits.one_sampler:
        losses.refuse("top_p", "This model takes it or a temperature, but not both.")
        top_p = None
    for name, value in (("temperature", temperature), ("top_p", top_p), ("top_k", top_k)):
        if value is not None:
            losses.put(body, name, value, name)
