"""Anthropic's own API."""

from typing import Final

from tidegate.dialects.dialect import Quirks, Traits
from tidegate.providers.record import Provider

_EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")
_NO_THINKING: Final = Traits(thinking="none", formats=False, prefill=True)
_BUDGET: Final = Traits(one_sampler=True, prefill=True)
_BUDGET_NO_FORMAT: Final = Traits(formats=False, prefill=True)
_NEWEST: Final = Traits(thinking="adaptive", efforts=_EFFORTS, sampling=False, system_turns=True)
_ALWAYS: Final = Traits(thinking="adaptive", always_thinks=True, efforts=_EFFORTS, sampling=False, system_turns=True)

# Each generation takes another part of the API (models overview, "Thinking", "Effort", "Mid-conversation system messages";
# the rest is what the API answers with 400):
# - up to 4.5, thinking is asked for with a budget, from 4.6 on it is adaptive, and from 4.7 on only that;
# - from 4.6 on, a last message of the assistant is refused;
# - from 4.1 on, `temperature` and `top_p` are refused together, and from 4.7 on each of them and `top_k`;
# - Fable, Mythos and Opus 5.5 cannot be told not to think;
# - `xhigh` came with 4.7, `max` with 4.6, and only Opus had an effort before;
# - a message of the role `system` may stand behind one of the user from Opus 4.8 on.
# Any other Claude is one to come, and is taken to be like the newest. A name without `claude` is one of a server that speaks
# this API for a model of its own, of which nothing is known: it takes all that the API has always had.
_TRAITS: Final = (
    ("*claude-3-7*", _BUDGET_NO_FORMAT),
    ("*claude-3*", _NO_THINKING),
    ("*claude-2*", _NO_THINKING),
    ("*claude-opus-4-5*", Traits(efforts=("low", "medium", "high"), one_sampler=True, prefill=True)),
    ("*claude-opus-4-1*", _BUDGET),
    ("*claude-*-4-5*", _BUDGET),
    ("*claude-*-4-0*", _BUDGET_NO_FORMAT),
    ("*claude-*-4-20*", _BUDGET_NO_FORMAT),
    ("*claude-*-4-6*", Traits(thinking="adaptive", efforts=("low", "medium", "high", "max"), one_sampler=True)),
    (
        "*claude-mythos-preview*",
        Traits(thinking="adaptive", always_thinks=True, efforts=("low", "medium", "high", "max"), one_sampler=True),
    ),
    ("*claude-opus-4-7*", Traits(thinking="adaptive", efforts=_EFFORTS, sampling=False)),
    ("*claude-opus-4-8*", _NEWEST),
    ("*claude-sonnet-5-5*", _NEWEST),
    ("*claude-sonnet-5*", Traits(thinking="adaptive", efforts=_EFFORTS, sampling=False)),
    ("*claude-opus-5-5*", _ALWAYS),
    ("*claude-fable-*", _ALWAYS),
    ("*claude-mythos-*", _ALWAYS),
    ("*claude*", _NEWEST),
)

# Every request must have `max_tokens`: this is what it gets when the client sets no limit (models overview, "Max output").
_MAX_OUTPUT: Final = (
    ("*claude-3-5*", 8_192),
    ("*claude-3-7*", 64_000),
    ("*claude-3*", 4_096),
    ("*claude-2*", 4_096),
    ("*claude-opus-4-0*", 32_000),
    ("*claude-opus-4-1*", 32_000),
    ("*claude-opus-4-20*", 32_000),
    ("*claude-*-4-0*", 64_000),
    ("*claude-*-4-20*", 64_000),
    ("*claude-*-4-5*", 64_000),
    ("*claude-*", 128_000),
)

ANTHROPIC: Final = Provider(
    kind="anthropic",
    title="Anthropic",
    base_url="https://api.anthropic.com/v1",
    env=("ANTHROPIC_API_KEY",),
    auth="x-api-key",
    headers={"anthropic-version": "2023-06-01"},
    speaks=("messages",),
    models_path="/models?limit=1000",
    max_output=_MAX_OUTPUT,
    # The loop of server tools pauses after ten iterations (stop reason `pause_turn`).
    tool_rounds=(("*", 11),),
    traits=_TRAITS,
    quirks=Quirks(message_threads=True),
    default_model="claude-sonnet-5",
    documentation="https://platform.claude.com/docs/en/api/messages",
)
