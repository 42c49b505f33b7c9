"""State that this gateway does not hold is refused as the API refuses it, never forgotten in silence."""

from typing import Any

import pytest

from tests.support.api import Api
from tests.support.running import Running

CASES: list[tuple[dict[str, Any], int, str, str | None]] = [
    ({"previous_response_id": "resp_1"}, 400, "previous_response_id", "previous_response_not_found"),
    ({"conversation": "conv_1"}, 404, "conversation", "not_found"),
    ({"conversation": {"id": "conv_1"}}, 404, "conversation", "not_found"),
    ({"background": True}, 400, "background", "unsupported_parameter"),
    ({"prompt": {"id": "pmpt_1"}}, 400, "prompt", "unsupported_parameter"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, 404, "input[0].id", "not_found"),
    ({"input": [{"role": "user", "content": "x"}, {"id": "msg_1"}]}, 404, "input[1].id", "not_found"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("members", "status", "param", "code"), CASES)
def test_a_request_that_needs_state_gets_the_official_error(
    api: Api, stream: bool, members: dict[str, Any], status: int, param: str, code: str
) -> None:
    calls = api.calls
    reply = api.ask("responses", stream=stream, **members)
    assert (reply.status, reply.error["param"], reply.error["code"]) == (status, param, code)
    assert reply.error["type"] == "invalid_request_error"
    assert api.calls == calls
    if members.get("previous_response_id"):
        assert reply.error["message"] == "Previous response with id 'resp_1' not found."


def test_members_that_ask_for_no_state_are_no_reason_to_refuse_and_stay_here(api: Api) -> None:
    members: dict[str, Any] = {
        "background": False,
        "previous_response_id": None,
        "conversation": None,
        "prompt": None,
        "store": True,
    }
    reply = api.ask("responses", **members)
    assert reply.status == 200
    assert not set(members) - {"prompt"} & set(api.sent)
    assert (reply.json["store"], reply.json["background"], reply.json["previous_response_id"]) == (False, False, None)


def test_a_provider_that_stores_is_told_not_to_and_asked_for_what_a_stateless_call_needs() -> None:
    toml = '[server]\nport = 0\n[providers.openai]\nbase_url = "{sim}"\ncredentials = ["sk-0123456789abcdef0123456789abc"]\n'
    with Running(toml) as gateway, Api(gateway) as api:
        effort = {"effort": "low"}
        api.ask("responses", "openai/echo", store=True, include=["message.output_text.logprobs"], reasoning=effort)
        assert api.sent["store"] is False
        assert api.sent["include"] == ["message.output_text.logprobs", "reasoning.encrypted_content"]
        reasoning = api.ask("responses", "openai/reasoning", reasoning=effort).json["output"][0]
        assert reasoning["encrypted_content"].startswith("tgr1_")  # the provider's own, in our envelope
        api.ask("responses", "openai/echo")  # a model that does not reason would refuse to be asked for it
        assert "include" not in api.sent


def test_a_provider_that_keeps_the_state_gets_the_members_and_its_id_is_the_clients() -> None:
    toml = '[server]\nport = 0\n[providers.sim]\nbase_url = "{sim}"\nstate = "provider"\n'
    with Running(toml) as gateway, Api(gateway) as api:
        for stream in (False, True):
            reply = api.ask("responses", "sim/echo", previous_response_id="resp_1", store=True, stream=stream)
            assert reply.status == 200
            assert (api.sent["previous_response_id"], api.sent["store"]) == ("resp_1", True)
            shown = reply.events[-1]["response"] if stream else reply.json
            assert (shown["previous_response_id"], shown["store"]) == ("resp_1", True)
