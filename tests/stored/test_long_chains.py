"""Chains of many turns, which change their provider at every turn and branch."""

import json
from typing import Any

import openai

from tests.support.running import Running

TURNS = 50
SCRIPTS = (
    "openai/echo",
    "lab/tools",
    "anthropic/reasoning?message=claude-opus-4-8",
    "google/reasoning",
    "openai/reasoning",
    "anthropic/tools?message=claude-opus-4-8",
    "lab/echo",
    "google/tools",
)
TOOLS: Any = [
    {
        "type": "function",
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        "strict": False,
    }
]


def turn(client: openai.OpenAI, model: str, words: Any, previous: str | None) -> Any:
    return client.responses.create(
        model=model,
        input=words,
        tools=TOOLS,
        reasoning={"summary": "auto"},
        previous_response_id=previous,
        extra_headers={"tidegate-profile": "openai"},
    )


def go_on(client: openai.OpenAI, previous: Any, first: int, last: int, mark: str) -> tuple[Any, list[str]]:
    """Turns `first` to `last` behind `previous`: the last response, and the words and call ids in their order."""
    said: list[str] = []
    for number in range(first, last):
        words: Any = [{"role": "user", "content": f"{mark}-{number}."}]
        said.append(f"{mark}-{number}.")
        calls = [] if previous is None else [item for item in previous.output if item.type == "function_call"]
        for call in calls:
            words.insert(0, {"type": "function_call_output", "call_id": call.call_id, "output": f"result-{number}"})
        previous = turn(client, SCRIPTS[number % len(SCRIPTS)], words, previous.id if previous else None)
        assert previous.status == "completed"
    return previous, said


def test_fifty_turns_over_four_dialects_keep_everything_and_branch(keeping: Running, client: openai.OpenAI) -> None:
    middle, said = go_on(client, None, 0, 20, "stem")
    left, of_left = go_on(client, middle, 20, TURNS, "left")
    right, of_right = go_on(client, middle, 20, 30, "right")
    for end, words, foreign in ((left, said + of_left, "right-"), (right, said + of_right, "left-")):
        calls = [item for item in end.output if item.type == "function_call"]
        outputs: Any = [
            {"type": "function_call_output", "call_id": call.call_id, "output": "the last result"} for call in calls
        ]
        for provider in ("openai", "lab", "anthropic", "google"):
            model = f"{provider}/echo" + ("?message=claude-opus-4-8" if provider == "anthropic" else "")
            last = turn(client, model, [*outputs, {"role": "user", "content": "The end."}], end.id)
            assert last.status == "completed"
            sent = json.dumps(json.loads(keeping.sim.requests[-1].body), ensure_ascii=False)
            places = [sent.index(one) for one in (*words, "The end.")]
            assert places == sorted(places)
            assert sent.count("get_weather") > len([one for one in words if one]) // 4
            assert foreign not in sent
    items = list(client.responses.input_items.list(left.id, order="asc"))
    assert sum(item.type == "reasoning" for item in items) >= 15
    assert sum(item.type == "function_call" for item in items) >= 15
