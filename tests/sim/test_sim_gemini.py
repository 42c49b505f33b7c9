"""The sim as Google: through the official client, and on the wire."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from google import genai
from google.genai import errors, types

from tidegate.sim import FAULTS, SimServer

T = TypeVar("T")
TOOL = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="tide", parameters_json_schema={"type": "object", "properties": {"harbour": {"type": "string"}}}
        ),
        types.FunctionDeclaration(name="wind"),
    ]
)
CONTENTS = [{"role": "user", "parts": [{"text": "Say it back: tide 🌊 潮汐"}]}]


def official(tools: Any, use: Callable[[genai.Client], T], version: str = "v1beta") -> T:
    """What a client sees that knows nothing of the sim."""

    async def scenario(sim: SimServer) -> T:
        options = types.HttpOptions(base_url=f"http://127.0.0.1:{sim.port}", api_version=version)

        def work() -> T:
            with genai.Client(api_key="k", http_options=options) as client:
                return use(client)

        return await asyncio.to_thread(work)

    found: T = tools.run(scenario)
    return found


def path(model: str, *, stream: bool = True) -> str:
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return f"/v1beta/models/{model}:{method}"


def once(sims: Any, model: str, *, stream: bool = True, **members: Any) -> Any:
    async def scenario(sim: SimServer) -> Any:
        wire = await sims.open(sim)
        try:
            wire.send(path(model, stream=stream), {"contents": CONTENTS, **members})
            return await wire.receive()
        finally:
            await wire.close()

    return sims.run(scenario)


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_text_streamed_and_whole(tools: Any, version: str) -> None:
    def use(client: genai.Client) -> None:
        chunks = list(client.models.generate_content_stream(model="echo", contents="tide 潮汐"))
        assert "".join(chunk.text or "" for chunk in chunks) == "tide 潮汐"
        last = chunks[-1]
        assert last.candidates is not None
        assert last.candidates[0].finish_reason == types.FinishReason.STOP
        assert last.usage_metadata is not None
        assert last.usage_metadata.prompt_token_count
        whole = client.models.generate_content(model="echo", contents="tide 潮汐")
        assert whole.text == "tide 潮汐"
        assert whole.model_version == "echo"

    official(tools, use, version)


def test_thoughts_are_told_to_who_asks(tools: Any) -> None:
    def use(client: genai.Client) -> None:
        config = types.GenerateContentConfig(thinking_config=types.ThinkingConfig(include_thoughts=True))
        whole = client.models.generate_content(model="reasoning", contents="a", config=config)
        parts = whole.parts or []
        assert [part.thought for part in parts] == [True, None]
        assert whole.usage_metadata is not None
        assert whole.usage_metadata.thoughts_token_count
        silent = client.models.generate_content(model="reasoning", contents="a")
        assert [part.thought for part in silent.parts or []] == [None]

    official(tools, use)


def test_calls_and_their_signatures_come_back(tools: Any) -> None:
    def use(client: genai.Client) -> None:
        config = types.GenerateContentConfig(
            tools=[TOOL], automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True)
        )
        chat = client.chats.create(model="tools:parallel=2", config=config)
        chunks = list(chat.send_message_stream("?"))
        calls = [call for chunk in chunks for call in chunk.function_calls or []]
        assert [(call.name, call.args) for call in calls] == [("tide", {"harbour": "sim 0"}), ("wind", {})]
        results = [
            types.Part(
                function_response=types.FunctionResponse(id=call.id, name=call.name, response={"output": "high"})
            )
            for call in calls
        ]
        assert chat.send_message(results).text == "The tool said: high"

    official(tools, use)


@pytest.mark.parametrize(
    ("signature", "status", "said"),
    [
        (None, 400, "missing a thought_signature"),
        ("QUJD", 400, "not valid"),
        ("skip_thought_signature_validator", 200, ""),
    ],
)
def test_signatures_are_looked_at(tools: Any, signature: str | None, status: int, said: str) -> None:
    call: dict[str, Any] = {"functionCall": {"name": "tide", "args": {}}}
    if signature is not None:
        call["thoughtSignature"] = signature
    result = {"functionResponse": {"name": "tide", "response": {"output": "high"}}}
    contents = [*CONTENTS, {"role": "model", "parts": [call]}, {"role": "user", "parts": [result]}]
    seen = once(tools, "tools", contents=contents, stream=False)
    assert seen.status == status
    assert said in seen.body.decode()
    later = [*contents, {"role": "user", "parts": [{"text": "thanks"}]}]  # another turn: nothing is demanded
    assert once(tools, "echo", contents=later, stream=False).status == (400 if signature == "QUJD" else 200)
    assert once(tools, "tools:signatures=0", contents=contents, stream=False).status == 200


@pytest.mark.parametrize("part", [{"text": "a"}, {"text": ""}, {"text": "hm", "thought": True}])
def test_no_part_may_have_a_signature_that_is_not_googles(tools: Any, part: dict[str, Any]) -> None:
    last = once(tools, "echo").data[-1]["candidates"][0]["content"]["parts"][0]
    signature = last["thoughtSignature"]
    for given, status in ((signature, 200), ("dGdyMV9BQUFB", 400), ("!", 400)):
        said = {"role": "model", "parts": [{**part, "thoughtSignature": given}]}
        assert once(tools, "echo", contents=[*CONTENTS, said, *CONTENTS], stream=False).status == status


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "MAX_TOKENS"), ("content_filter", "SAFETY"), ("stop", "STOP"), ("none", None)]
)
def test_finish_reasons(tools: Any, finish: str, reason: str | None) -> None:
    data = once(tools, f"lorem:finish={finish}").data
    assert data[-1]["candidates"][0].get("finishReason") == reason


def test_candidates_limits_stops_and_usage(tools: Any) -> None:
    config = {"candidateCount": 2, "maxOutputTokens": 3, "responseLogprobs": True, "logprobs": 1}
    data = once(tools, "lorem", generationConfig=config).data
    assert [one["candidates"][0]["index"] for one in data] == [0, 1, 0, 1, 0, 1, 0, 1]
    assert data[-1]["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert data[-1]["usageMetadata"]["candidatesTokenCount"] == 6
    assert "logprobsResult" in data[0]["candidates"][0]
    stopped = once(tools, "echo", stream=False, generationConfig={"stopSequences": ["tide"]})
    assert json.loads(stopped.body)["candidates"][0]["content"]["parts"][0]["text"] == "Say it back: "
    assert "usageMetadata" not in once(tools, "lorem:usage=absent").data[-1]


def test_errors_have_googles_form(tools: Any) -> None:
    def use(client: genai.Client) -> None:
        with pytest.raises(errors.ClientError) as caught:
            client.models.generate_content(model="echo:status=429,retry_after=7", contents="a")
        assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")
        with pytest.raises(errors.ClientError) as caught:
            client.models.generate_content(model="nothing", contents="a")
        assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")
        with pytest.raises(errors.APIError) as broken:
            list(client.models.generate_content_stream(model="lorem:fault=error", contents="a"))
        assert broken.value.code == 500

    official(tools, use)
    limited = json.loads(once(tools, "echo:status=429,retry_after=7", stream=False).body)["error"]
    assert limited["details"][0]["retryDelay"] == "7s"
    assert once(tools, "lorem:fault=failed").data[-1]["candidates"][0]["finishReason"] == "MALFORMED_FUNCTION_CALL"


@pytest.mark.parametrize(
    "members",
    [
        {"contents": []},
        {"contents": [{"parts": []}]},
        {"contents": "x"},
        {"generationConfig": {"candidateCount": 0.5}},
        {"generationConfig": {"maxOutputTokens": "x"}},
        {"tools": [{"functionDeclarations": [{}]}]},
    ],
)
def test_odd_requests_are_refused(tools: Any, members: Any) -> None:
    seen = once(tools, "echo", stream=False, **members)
    assert (seen.status, json.loads(seen.body)["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_the_models_are_listed_in_googles_form(tools: Any) -> None:
    def use(client: genai.Client) -> None:
        assert "models/echo" in [model.name for model in client.models.list()]
        assert client.models.get(model="echo").name == "models/echo"

    official(tools, use)


@pytest.mark.parametrize("fault", sorted(FAULTS))
@pytest.mark.parametrize("stream", [True, False])
def test_no_fault_breaks_the_sim_itself(tools: Any, fault: str, stream: bool) -> None:
    async def scenario(sim: SimServer) -> None:
        wire = await tools.open(sim)
        wire.send(path(f"echo:fault={fault},total=1000", stream=stream), {"contents": CONTENTS})
        seen = await wire.receive(0.1, limit=200_000)
        assert b"The sim is broken" not in seen.raw
        await wire.close()

    tools.run(scenario)
