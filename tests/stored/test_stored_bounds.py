"""What budgets reserve for requests that build on what lies here, or with the provider."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api import Api
from tests.support.running import Running

SECRET = "key-0123456789abcdef0123456789ab-{}"

TOML = """
[server]
port = 0
data_dir = "{data}"
[providers.sim]
base_url = "{sim}"
[providers.holds]
kind = "sim"
base_url = "{sim}"
state = "provider"
max_input = { "echo?chunks=1" = 100 }
[prices."*"]
input = 1000
output = 0
[[keys]]
name = "reader"
secret = "key-0123456789abcdef0123456789ab-reader"
limits = { cost = { month = 10 } }
[[keys]]
name = "free"
secret = "key-0123456789abcdef0123456789ab-free"
"""


def key(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {SECRET.format(name)}"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(TOML.replace("{data}", str(tmp_path_factory.mktemp("data")))) as found:
        yield found


@pytest.mark.security("SEC-API4-BOUND")
def test_items_for_which_references_stand_count_as_if_they_were_sent(gateway: Running) -> None:
    """Each of 3000 bytes, of which a budget of $10 has room for two at $0.001 for each token."""
    with Api(gateway) as api:
        said = api.post("/v1/responses", {"model": "sim/echo", "input": "a b " * 750}, headers=key("free")).json
        [item] = api.get(f"/v1/responses/{said['id']}/input_items", headers=key("free")).json["data"]

        def ask(count: int) -> Any:
            given = [*[{"type": "item_reference", "id": item["id"]}] * count, {"role": "user", "content": "Hi"}]
            body = {"model": "sim/echo?text=one", "input": given, "max_output_tokens": 5}
            return api.post("/v1/responses", body, headers=key("reader"))

        refused = ask(3)
        assert refused.status == 429
        assert "this request may use $12." in refused.error["message"]
        assert ask(1).status == 200


@pytest.mark.security("SEC-API4-BOUND")
@pytest.mark.parametrize(
    "members",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"input": [{"id": "msg_1"}]},
        {"prompt": {"id": "pmpt_1"}, "max_tool_calls": 1},
    ],
)
def test_what_lies_with_the_provider_may_fill_all_that_the_model_reads(
    gateway: Running, members: dict[str, Any]
) -> None:
    body = {"input": "Hi", "max_output_tokens": 5, **members}
    with Api(gateway) as api:
        refused = api.post("/v1/responses", {"model": "holds/echo", **body}, headers=key("reader"))
        assert (refused.status, refused.error["code"]) == (403, "input_limit_unknown")
        assert api.post("/v1/responses", {"model": "holds/echo", **body}, headers=key("free")).status == 200
        assert api.post("/v1/responses", {"model": "holds/echo?chunks=1", **body}, headers=key("reader")).status == 200


@pytest.mark.security("SEC-API4-BOUND")
def test_a_template_that_lies_with_the_provider_may_have_tools_that_it_runs(gateway: Running) -> None:
    body = {"model": "holds/echo?chunks=1", "prompt": {"id": "pmpt_1"}, "max_output_tokens": 5}
    with Api(gateway) as api:
        refused = api.post("/v1/responses", body, headers=key("reader"))
        assert (refused.status, refused.error["code"]) == (403, "tool_rounds_unknown")
