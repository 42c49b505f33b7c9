"""Limits as callers meet them: over real sockets, with the simulator behind the gateway."""

import asyncio
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.api import Api, request_body
from tests.support.running import Running, wait_for
from tidegate.dialects.extent import reads_more
from tidegate.gateway.bound import FRAME_TOKENS

SECRET = "key-0123456789abcdef0123456789ab-{}"
NAMES = (
    "open", "rpm", "tpm", "day", "budget", "small", "unpriced", "stream", "never", "both", "ask", "vision", "user",
    "costly", "minute", "once", "images", "shut", "idle",
)  # fmt: skip

LIMITS = {
    "open": "",
    "rpm": "limits = { requests = { minute = 2 } }",
    "tpm": "limits = { tokens = { minute = 1500 } }",
    "day": "limits = { requests = { day = 1 } }",
    "budget": "limits = { cost = { month = 0.5 } }",
    "small": "limits = { cost = { day = 0.015 } }",
    "unpriced": "limits = { cost = { month = 1 } }",
    "stream": "limits = { streams = 1 }",
    "never": "limits = { tokens = { minute = 10 } }",
    "both": 'project = "pair"\nlimits = { requests = { minute = 100 } }',
    "ask": "limits = { cost = { month = 100 }, requests = { minute = 100 } }",
    "vision": "limits = { cost = { month = 100 } }",
    "user": 'project = "users"',
    "costly": "limits = { cost = { month = 10 } }",
    "images": "limits = { tokens = { day = 400_000, minute = 5000 } }",
    "once": "limits = { requests = { minute = 1 } }",
    "shut": "limits = { requests = { day = 0 } }",
    "idle": "limits = { streams = 0 }",
    "minute": "limits = { cost = { minute = 0.015 } }",
}

TOML = """
[server]
port = 0
[providers.sim]
base_url = "{sim}"
timeouts = { first_event = "5s", idle = "5s" }
max_output = { "echo?chunks=1" = 20 }
[providers.other]
kind = "openai-compatible"
base_url = "{sim}"
credentials = ["x"]
speaks = ["chat"]
[providers.apart]
kind = "dashscope"
base_url = "{sim}"
credentials = ["x"]
max_output = { "echo?chunks=1" = 50 }
[providers.tools]
kind = "openai-compatible"
speaks = ["responses"]
base_url = "{sim}"
max_input = { "*" = 100 }
tool_rounds = { "echo?chunks=1" = 3 }
[prices."apart/*"]
input = 0
output = 1000
[prices."tools/*"]
input = 1000
output = 0
[prices."sim/*"]
input = 0
output = 1000
[models.dear]
target = "sim/echo"
fallback = ["other/echo"]
[models.unknown]
target = "other/echo"
fallback = ["sim/echo", "other/lorem"]
[models.endless]
target = "sim/echo"
fallback = ["sim/lorem", "sim/echo?chunks=1", "other/echo"]
[projects.pair]
limits = { requests = { minute = 1 } }
[projects.users]
end_user_limits = { requests = { minute = 1 } }
""" + "\n".join(f'[[keys]]\nname = "{name}"\nsecret = "{SECRET.format(name)}"\n{LIMITS[name]}' for name in NAMES)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


def key(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {SECRET.format(name)}"}


@pytest.fixture
def api(gateway: Running) -> Iterator[Api]:
    with Api(gateway) as client:
        yield client


def ask(api: Api, name: str, model: str = "sim/echo", path: str = "/v1/responses", **members: Any) -> Any:
    body = {"model": model, "input": "Hi", **members}
    if path == "/v1/chat/completions":
        body["messages"] = [{"role": "user", "content": body.pop("input")}]
    return api.post(path, body, headers=key(name))


@pytest.mark.security("SEC-API4-BUDGET")
def test_two_hundred_requests_at_once_spend_no_more_than_a_budget_for_fifty(gateway: Running) -> None:
    """Each may cost 10 tokens at $0.001: the budget of $0.50 has room for 50."""

    async def run() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(
            base_url=gateway.origin, headers=key("budget"), limits=limits, timeout=20
        ) as client:
            body = {
                "model": "sim/echo?delay=1500&text=one+two+three+four+five+six+seven+eight",
                "input": "Hi",
                "max_output_tokens": 10,
            }
            return await asyncio.gather(*(client.post("/v1/responses", json=body) for _ in range(200)))

    replies = asyncio.run(run())
    statuses = Counter(reply.status_code for reply in replies)
    assert statuses == {200: 50, 429: 150}
    tokens = sum(reply.json()["usage"]["output_tokens"] for reply in replies if reply.status_code == 200)
    assert 0 < tokens * 0.001 <= 0.5
    refused = next(reply for reply in replies if reply.status_code == 429)
    error = refused.json()["error"]
    assert error["code"] == "rate_limit_exceeded"  # it can pass as soon as others have given back what they did not use
    assert error["type"] == "cost"
    assert "reserved by requests under way $0.50" in error["message"]
    assert refused.headers["retry-after"] == "1"


def test_a_budget_that_is_used_up_is_told_as_a_quota(api: Api) -> None:
    first = ask(api, "small", "sim/echo?text=one+two+three+four+five+six+seven+eight", max_output_tokens=15)
    assert first.status == 200
    reply = ask(api, "small", max_output_tokens=15)
    assert reply.status == 429
    error = reply.error
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
    assert "budget of key 'small'" in error["message"]
    assert "limits.cost.day" in error["message"]
    assert reply.headers["x-should-retry"] == "false"
    assert 0 < int(reply.headers["retry-after"]) <= 86400


def test_the_limit_of_a_minute_has_openais_headers_and_a_time_to_wait(api: Api) -> None:
    for left in (1, 0):
        reply = ask(api, "rpm")
        assert reply.status == 200
        assert reply.headers["x-ratelimit-limit-requests"] == "2"
        assert reply.headers["x-ratelimit-remaining-requests"] == str(left)
        assert re.fullmatch(r"1m[01]s|60s|5\ds", reply.headers["x-ratelimit-reset-requests"])
        assert "x-ratelimit-limit-tokens" not in reply.headers
    reply = ask(api, "rpm", stream=True)
    assert reply.status == 429
    assert (reply.error["type"], reply.error["code"]) == ("requests", "rate_limit_exceeded")
    assert "key 'rpm' on requests per minute (limits.requests.minute): limit 2, used 2" in reply.error["message"]
    assert 50 <= int(reply.headers["retry-after"]) <= 61
    assert reply.headers["x-ratelimit-remaining-requests"] == "0"
    assert "x-should-retry" not in reply.headers


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        (
            "/v1/messages",
            {"model": "sim/echo", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]},
            "rate_limit_error",
        ),
        ("/v1beta/models/sim/echo:generateContent", {"contents": [{"parts": [{"text": "Hi"}]}]}, "RESOURCE_EXHAUSTED"),
        ("/v1/embeddings", {"model": "sim/embed", "input": "Hi"}, "rate_limit_exceeded"),
        ("/v1/audio/speech", {"model": "sim/tone", "input": "Hi", "voice": "alloy"}, "rate_limit_exceeded"),
    ],
)
def test_every_api_says_it_in_its_own_form(api: Api, path: str, body: Any, where: str) -> None:
    ask(api, "day")
    reply = api.post(path, body, headers=key("day"))
    assert reply.status == 429
    assert where in reply.content.decode()
    assert "requests per day" in reply.content.decode()


def test_tokens_are_estimated_first_and_counted_as_they_were(api: Api) -> None:
    reply = ask(api, "tpm", max_output_tokens=1000)
    assert reply.status == 200
    used = reply.json["usage"]["total_tokens"]
    assert 0 < used < 100
    # The first one's estimate would leave no room for a second.
    reply = ask(api, "tpm", max_output_tokens=1000)
    assert reply.status == 200
    assert reply.headers["x-ratelimit-limit-tokens"] == "1500"


def test_an_image_does_not_use_up_a_minutes_tokens_before_it_is_sent(api: Api) -> None:
    """Its 400,000 bytes would pass for 100,000 tokens."""
    picture = "data:image/png;base64," + "iVBORw0KGgoA" * 34_000
    content = [{"type": "input_image", "image_url": picture}, {"type": "input_text", "text": "What is it?"}]
    reply = ask(api, "images", input=[{"role": "user", "content": content}], max_output_tokens=100)
    assert reply.status == 200


def test_what_can_never_pass_is_not_worth_waiting_for(api: Api) -> None:
    reply = ask(api, "never", max_output_tokens=1000)
    assert reply.status == 429
    assert reply.error["type"] == "tokens"
    assert "too large for key 'never' on tokens per minute" in reply.error["message"]
    assert "retry-after" not in reply.headers
    assert reply.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(("name", "setting"), [("shut", "limits.requests.day"), ("idle", "limits.streams")])
def test_a_limit_of_none_is_said_to_be_that(api: Api, name: str, setting: str) -> None:
    reply = ask(api, name)
    assert reply.status == 429
    assert reply.error["message"] == f"The limit of key '{name}' lets no request pass: {setting} is 0."
    assert "retry-after" not in reply.headers
    assert reply.headers["x-should-retry"] == "false"


@pytest.mark.fault("FAULT-CATALOGUE")
@pytest.mark.security("SEC-API4-BOUND")
@pytest.mark.parametrize(
    ("model", "members", "code", "told"),
    [
        ("other/echo", {"max_output_tokens": 5}, "price_unknown", '[prices."other/echo"]'),
        ("dear", {"max_output_tokens": 5}, "price_unknown", '[prices."other/echo"]'),
        (
            "unknown",
            {"max_output_tokens": 5},
            "price_unknown",
            '[prices."other/echo"], [prices."other/lorem"].',
        ),
        (
            "endless",
            {},
            "output_limit_unknown",
            'providers.sim.max_output = { "echo" = …, "lorem" = … }, providers.other.max_output = { "echo" = … }.',
        ),
        ("endless", {}, "output_limit_unknown", "Nobody knows either what 'other/echo' costs."),
        ("other/echo", {}, "output_limit_unknown", '[prices."other/echo"]'),
        ("sim/echo", {}, "output_limit_unknown", 'providers.sim.max_output = { "echo" = … }'),
        (
            "sim/echo",
            {
                "max_output_tokens": 5,
                "input": [
                    {"role": "user", "content": [{"type": "input_image", "image_url": "https://e.example/a.png"}]}
                ],
            },
            "input_limit_unknown",
            "providers.sim.max_input",
        ),
    ],
)
def test_a_budget_refuses_what_nobody_can_put_a_price_on(
    gateway: Running, api: Api, model: str, members: Any, code: str, told: str
) -> None:
    before = len(gateway.sim.requests)
    reply = ask(api, "unpriced", model, **members)
    assert reply.status == 403
    assert reply.error["code"] == code
    assert told in reply.error["message"]
    assert len(gateway.sim.requests) == before
    assert ask(api, "open", model, **members).status == 200  # it is the budget that has to know


@pytest.mark.security("SEC-API4-BOUND")
def test_thoughts_that_no_maximum_counts_are_reserved_by_the_models_own(api: Api) -> None:
    """The budget of $0.015 has room for 15 tokens."""
    reply = ask(api, "small", "apart/echo", max_output_tokens=5)
    assert (reply.status, reply.error["code"]) == (403, "output_limit_unknown")
    assert "providers.apart.max_output" in reply.error["message"]
    reply = ask(api, "small", "apart/echo?chunks=1", max_output_tokens=5)
    assert reply.status == 429
    assert "this request may use $0.05" in reply.error["message"]
    assert ask(api, "vision", "apart/echo?chunks=1", max_output_tokens=5).status == 200


@pytest.mark.security("SEC-API4-BOUND")
def test_each_choice_is_reserved(api: Api) -> None:
    """Each of 10 tokens at $0.001; the budget has room for one."""
    reply = ask(api, "small", path="/v1/chat/completions", max_completion_tokens=10, n=2)
    assert reply.status == 429
    assert "this request may use $0.02" in reply.error["message"]


@pytest.mark.security("SEC-API4-BOUND")
def test_each_use_of_a_tool_that_the_provider_runs_is_reserved(api: Api) -> None:
    """Each reads the whole context anew, of 100 tokens at $0.001."""
    search: dict[str, Any] = {"tools": [{"type": "web_search"}]}
    reply = ask(api, "small", "tools/echo", max_output_tokens=5, **search)
    assert (reply.status, reply.error["code"], reply.error["param"]) == (403, "tool_rounds_unknown", "tools")
    assert "providers.tools.tool_rounds" in reply.error["message"]
    reply = ask(api, "small", "tools/echo", max_output_tokens=5, max_tool_calls=4, **search)
    assert "this request may use $0.50" in reply.error["message"]
    reply = ask(api, "small", "tools/echo?chunks=1", max_output_tokens=5, **search)
    assert "this request may use $0.30" in reply.error["message"]


@pytest.mark.security("SEC-API4-BOUND")
def test_what_a_provider_writes_around_the_smallest_request_is_reserved_too() -> None:
    """Anthropic's own count for its text editor (700 tokens), its shell (245) and the prompt that comes with tools (346):
    https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview. Twice, so that a tool more does not pass it."""
    tools = [
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        {"type": "bash_20250124", "name": "bash"},
    ]
    body = json.dumps({"model": "m", "max_tokens": 1, "tools": tools, "messages": [{"role": "user", "content": "x"}]})
    assert not reads_more(body.encode())
    assert len(body) + FRAME_TOKENS > 2 * (700 + 245 + 346)


@pytest.mark.security("SEC-API4-BOUND")
def test_a_budget_refuses_what_is_charged_above_the_list_price(api: Api) -> None:
    """Anthropic's fast mode costs six times as much, and no price list has it."""
    for path, members in (
        ("/v1/messages", {"speed": "fast", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}),
        ("/v1/responses", {"service_tier": "priority", "max_output_tokens": 5, "input": "Hi"}),
        ("/v1/responses", {"reasoning": {"mode": "pro"}, "max_output_tokens": 5, "input": "Hi"}),
    ):
        calls = api.calls
        reply = api.post(path, {"model": "sim/echo", **members}, headers=key("costly"))
        assert (reply.status, api.calls) == (403, calls)
        assert next(iter(members)) in reply.json["error"]["message"]
        assert api.post(path, {"model": "sim/echo", **members}, headers=key("open")).status == 200


def test_a_known_maximum_stands_in_for_one_in_the_request(api: Api) -> None:
    assert ask(api, "ask", "sim/echo?chunks=1").status == 200


def test_requests_under_way_are_limited_and_free_their_place(gateway: Running, api: Api) -> None:
    with httpx.Client(base_url=gateway.origin, headers=key("stream"), timeout=10) as client:
        body = request_body("responses", "sim/lorem?chunks=1000&gap=20", stream=True)
        with client.stream("POST", "/v1/responses", json=body) as running:
            assert running.status_code == 200
            refused = ask(api, "stream")
            assert refused.status == 429
            assert "requests under way at once (limits.streams): limit 1" in refused.error["message"]
            assert refused.headers["retry-after"] == "1"
    assert wait_for(lambda: ask(api, "stream").status == 200)


@pytest.mark.security("SEC-API4-BUDGET")
def test_a_request_counts_in_all_its_scopes_or_in_none(api: Api) -> None:
    first = ask(api, "both")
    assert first.status == 200
    assert first.headers["x-ratelimit-limit-requests"] == "1"  # the project leaves least
    refused = ask(api, "both")
    assert refused.status == 429
    assert "project 'default/pair'" in refused.error["message"]


@pytest.mark.parametrize("member", ["user", "safety_identifier"])
def test_end_users_of_a_project_have_limits_of_their_own(api: Api, member: str) -> None:
    assert ask(api, "user", **{member: f"ann-{member}/1"}).status == 200
    assert ask(api, "user", **{member: f"bob-{member}"}).status == 200
    refused = ask(api, "user", **{member: f"ann-{member}/1"})
    assert refused.status == 429
    assert f"end user 'default/users/ann-{member}%2F1'" in refused.error["message"]
    assert "(end_user_limits.requests.minute)" in refused.error["message"]
    assert ask(api, "user").status == 200  # nobody in particular


def test_the_same_end_user_counts_through_every_api(api: Api) -> None:
    assert ask(api, "user", user="carl").status == 200
    body = {"model": "sim/echo", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    reply = api.post("/v1/messages", {**body, "metadata": {"user_id": "carl"}}, headers=key("user"))
    assert reply.status == 429


def test_a_call_that_fails_gives_its_money_back(api: Api, gateway: Running) -> None:
    for _ in range(5):
        reply = ask(api, "costly", "sim/echo?status=500", max_output_tokens=4000)
        assert reply.status == 502
    assert ask(api, "costly", max_output_tokens=9000).status == 200


@pytest.mark.fault("FAULT-CLIENT-GONE")
@pytest.mark.security("SEC-API4-LEAVE")
def test_a_client_that_leaves_pays_for_what_it_had_and_gives_back_the_rest(gateway: Running, api: Api) -> None:
    with httpx.Client(base_url=gateway.origin, headers=key("costly"), timeout=10) as client:
        body = request_body("responses", "sim/lorem?chunks=1000&gap=20", stream=True, max_output_tokens=9000)
        with client.stream("POST", "/v1/responses", json=body) as running:
            pieces = running.iter_raw()
            assert next(pieces)
            assert ask(api, "costly", max_output_tokens=9000).status == 429
    assert wait_for(lambda: ask(api, "costly", max_output_tokens=9000).status == 200)


def test_counting_tokens_costs_nothing_but_a_request(api: Api) -> None:
    body = {"model": "sim/echo", "messages": [{"role": "user", "content": "Hi " * 50_000}]}
    reply = api.post("/v1/messages/count_tokens", body, headers=key("minute"))
    assert reply.status == 200


def test_a_budget_of_a_minute_is_a_rate(api: Api) -> None:
    assert (
        ask(api, "minute", "sim/echo?text=one+two+three+four+five+six+seven+eight", max_output_tokens=15).status == 200
    )
    reply = ask(api, "minute", max_output_tokens=15)
    assert reply.status == 429
    assert reply.error["code"] == "rate_limit_exceeded"
    assert 0 < int(reply.headers["retry-after"]) <= 61


def test_refusals_and_open_reservations_are_counted(gateway: Running, api: Api) -> None:
    text = api.get("/metrics", headers=key("open")).content.decode()
    found = re.search(r'^tidegate_limit_refusals_total\{kind="requests",level="key"\} ([\d.]+)$', text, re.MULTILINE)
    assert found is not None
    assert float(found[1]) >= 1
    assert wait_for(
        lambda: "tidegate_reservations_open 0.0" in api.get("/metrics", headers=key("open")).content.decode()
    )


@pytest.mark.fault("FAULT-RELOAD")
@pytest.mark.security("SEC-API4-FORGET")
def test_a_reload_keeps_what_was_counted(tmp_path: Any) -> None:
    path = tmp_path / "tidegate.toml"
    with Running(TOML, path=path) as running, Api(running) as api:
        for _ in range(2):
            assert ask(api, "rpm").status == 200
        text = path.read_text().replace("requests = { minute = 2 }", "requests = { minute = 3 }")
        path.write_text(text)
        asyncio.run_coroutine_threadsafe(running.server._parts.reload_now(), running.loop).result(10)
        reply = ask(api, "rpm")
        assert reply.status == 200
        assert reply.headers["x-ratelimit-remaining-requests"] == "0"
        assert ask(api, "rpm").status == 429


def test_the_providers_own_figures_go_by_another_name(api: Api) -> None:
    reply = ask(api, "ask", "sim/echo?chunks=1")
    assert reply.headers["x-ratelimit-limit-requests"] == "100"
    ours = [name for name in reply.headers if name.startswith("x-ratelimit-")]
    assert len(ours) == len(set(ours)) == 3


def test_what_is_refused_before_it_is_sent_on_counts_for_nothing(api: Api) -> None:
    """The provider speaks another API, which has nothing like it: that shows only when the request is translated."""
    for _ in range(3):
        reply = ask(api, "once", "other/echo", previous_response_id="resp_none")
        assert reply.status == 400
    assert ask(api, "once").status == 200
    assert ask(api, "once").status == 429


def test_figures_are_json_and_whole(api: Api) -> None:
    reply = [ask(api, "rpm") for _ in range(3)][
        -1
    ]  # two are allowed in a minute, of which tests before may have had some
    assert reply.status == 429
    assert json.loads(reply.content)["error"]["param"] is None
    assert math.isfinite(float(reply.headers["retry-after"]))
