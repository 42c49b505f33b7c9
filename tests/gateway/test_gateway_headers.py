"""Our own headers, those of the provider that become ours, and those that never do."""

import itertools
from typing import Any

import pytest

from tests.support.api import ENDPOINTS, Api
from tests.support.canned import Canned, json_answer
from tests.support.running import Running
from tidegate.gateway.told import RATE_LIMIT_FIELDS_BYTES, rate_limits

COMPLETION = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["sim/echo", "sim/echo?status=500"])
def test_every_answer_says_who_gave_it(api: Api, endpoint: str, stream: bool, model: str) -> None:
    headers = api.ask(endpoint, model, stream=stream, headers={"tidegate-profile": "anyfast"}).headers
    assert headers["tidegate-deployment"] == model
    assert headers["tidegate-attempts"] == "1"
    assert headers["tidegate-profile"] == "anyfast"
    assert headers["openai-processing-ms"].isdigit()
    assert headers["x-request-id"].startswith("req_")


def test_a_request_id_of_the_client_is_kept(api: Api) -> None:
    reply = api.ask("chat", headers={"x-request-id": "my-own-id-17"})
    assert reply.request_id == "my-own-id-17"
    assert api.gateway.usage("my-own-id-17")["ending"] == "completed"


@pytest.mark.security("SEC-INJ-BODY")
def test_a_model_name_cannot_write_headers(api: Api) -> None:
    name = "sim/echo\r\nset-cookie: a=b\r\n潮"
    reply = api.ask("chat", name)
    assert "set-cookie" not in reply.headers
    assert reply.headers["tidegate-deployment"].isascii()
    assert "%0D%0A" in reply.headers["tidegate-deployment"]


BRIDGED = """
[server]
port = 0
[providers.lab]
kind = "openai-compatible"
base_url = "{sim}"
"""


def dropped(names: list[str]) -> str:
    members: dict[str, Any] = dict.fromkeys(names, 1)
    with Running(BRIDGED) as gateway, Api(gateway) as api:
        reply = api.ask("responses", "lab/echo", **members)
    assert reply.status == 200
    return reply.headers["tidegate-dropped"]


@pytest.mark.security("SEC-INJ-BODY")
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain.name", "plain.name"),
        ("潮汐", "%E6%BD%AE%E6%B1%90"),
        ("a\r\nset-cookie: b", "a%0D%0Aset-cookie: b"),
        ("a, b", "a%2C b"),
        ("x" * 100, "x" * 100),
        ("x" * 101, "x" * 97 + "..."),
        ("x" * 95 + "潮" * 10, "x" * 95 + "..."),
        ("潮" * 101, "%E6%BD%AE" * 10 + "%E6%BD..."),
    ],
)
def test_whatever_a_dropped_member_is_called_it_is_named(name: str, shown: str) -> None:
    assert dropped([name, "last"]) == f"{shown}, last"


def test_more_dropped_members_than_a_header_holds_are_counted() -> None:
    found = dropped([f"member_{number}" for number in range(70)]).split(", ")
    assert (len(found), found[0], found[-1]) == (65, "member_0", "... and 6 more")


@pytest.mark.security("SEC-API10-HEADERS")
@pytest.mark.parametrize("status", ["200 OK", "429 Too Many Requests"])
def test_limits_of_the_provider_are_shown_as_the_providers(status: str) -> None:
    fields = (
        "x-ratelimit-limit-requests: 60\r\nX-RateLimit-Remaining-Tokens: 9\r\nset-cookie: a=b\r\nserver: theirs\r\n"
    )
    with (
        Canned(json_answer(COMPLETION, status, fields=fields)) as provider,
        Running(f"[server]\nport = 0\n{provider.toml()}") as gateway,
        Api(gateway) as api,
    ):
        headers = api.ask("chat", "canned/m").headers
    assert headers["x-upstream-ratelimit-limit-requests"] == "60"
    assert headers["x-upstream-ratelimit-remaining-tokens"] == "9"
    assert "x-ratelimit-limit-requests" not in headers
    assert "set-cookie" not in headers
    assert "server" not in headers


@pytest.mark.security("SEC-API10-HEADERS")
@pytest.mark.parametrize("size", [1, 50, 997, 5000])
def test_of_more_limits_than_there_is_room_for_the_first_are_shown(size: int) -> None:
    given = [b"x-ratelimit-%d: %b\r\n" % (number, b"v" * size) for number in range(300)]
    shown = rate_limits(b"HTTP/1.1 200 OK\r\n" + b"".join(given))
    fits = list(itertools.accumulate(b"x-upstream-" + line[2:] for line in given))
    assert shown in (b"", *fits)
    assert len(shown) <= RATE_LIMIT_FIELDS_BYTES < len(fits[shown.count(b"\r\n")])


def test_limits_of_a_deployment_that_failed_are_not_those_of_the_next() -> None:
    answers = (json_answer({}, "503 Busy", fields="x-ratelimit-limit-requests: 60\r\n"),)
    alias = '[models.a]\ntarget = "canned/m"\nfallback = ["closed/m"]\n'
    closed = '[providers.closed]\nkind = "sim"\nbase_url = "http://127.0.0.1:9/v1"\nmodels = ["m"]\n'
    with (
        Canned(*answers) as provider,
        Running(f"[server]\nport = 0\n{provider.toml()}{closed}{alias}") as gateway,
        Api(gateway) as api,
    ):
        reply = api.ask("chat", "a")
    assert (reply.status, reply.headers["tidegate-deployment"]) == (502, "closed/m")
    assert "x-upstream-ratelimit-limit-requests" not in reply.headers


@pytest.mark.security("SEC-CRED-CLIENT")
@pytest.mark.parametrize("endpoint", [*ENDPOINTS, "messages"])
def test_headers_of_the_client_stay_here(api: Api, endpoint: str) -> None:
    given = {
        "authorization": "Bearer client-secret",
        "x-api-key": "client-secret",
        "cookie": "session=client-secret",
        "x-forwarded-for": "10.0.0.1",
        "openai-organization": "org-client",
        "tidegate-profile": "openai",
    }
    if endpoint == "messages":  # the one API of which headers go on
        said = [{"role": "user", "content": "Hi"}]
        body = {"model": "sim/echo", "max_tokens": 9, "messages": said}
        assert api.post("/v1/messages", body, headers={**given, "anthropic-beta": "tides"}).status == 200
        assert api.upstream.headers["anthropic-beta"] == "tides"
    else:
        assert api.ask(endpoint, headers=given).status == 200
    sent = api.upstream.headers
    assert "client-secret" not in str(sent)
    assert not {"x-forwarded-for", "openai-organization", "tidegate-profile", "cookie"} & set(sent)
    assert sent["accept-encoding"] == "identity"


PROFILE_KEYS = """
[[keys]]
name = "plain"
secret = "key-plain-0123456789abcdef0123456789"
[[keys]]
name = "special"
secret = "key-special-0123456789abcdef01234567"
profile = "kkiai"
"""


@pytest.mark.row("S65")
def test_header_before_key_before_configuration() -> None:
    toml = f"""[server]\nport = 0\n[defaults]\nmodel = "sim/echo"\nprofile = "openresponses"
[providers.sim]\nbase_url = "{{sim}}"\n{PROFILE_KEYS}"""
    with Running(toml) as gateway:
        with Api(gateway, authorization="Bearer key-plain-0123456789abcdef0123456789") as api:
            assert api.ask("responses").headers["tidegate-profile"] == "openresponses"
        with Api(gateway, authorization="Bearer key-special-0123456789abcdef01234567") as api:
            assert api.ask("responses").headers["tidegate-profile"] == "kkiai"
            chosen = api.ask("responses", headers={"tidegate-profile": "AnyFast"})
            assert chosen.headers["tidegate-profile"] == "anyfast"


@pytest.mark.parametrize("given", ["soon", "", "-5s", "5 parsecs", "1e99s"])
def test_a_timeout_that_is_none_is_refused(api: Api, given: str) -> None:
    reply = api.ask("chat", headers={"tidegate-timeout": given})
    assert (reply.status, reply.error["code"]) == (400, "invalid_timeout")
    assert "tidegate-timeout" in reply.error["message"]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("given", ["soon", "", "-5s", "off", "2h"])
def test_a_grace_that_is_none_is_refused_where_nothing_can_be_picked_up_too(
    api: Api, endpoint: str, given: str
) -> None:
    """None of these is a stream, which alone can be picked up: the mistake shows with the first request all the same."""
    reply = api.ask(endpoint, headers={"tidegate-resume-grace": given})
    assert (reply.status, reply.error["code"]) == (400, "invalid_grace")
    fine = api.ask(endpoint, headers={"tidegate-resume-grace": "30s"})
    assert fine.status == 200
    assert "tidegate-stream" not in fine.headers


def test_a_timeout_never_raises_the_total_clock() -> None:
    toml = '[server]\nport = 0\n[providers.sim]\nbase_url = "{sim}"\ntimeouts = { total = "300ms" }\n'
    with Running(toml) as gateway, Api(gateway) as api:
        reply = api.ask("chat", "sim/echo?head_delay=5000", headers={"tidegate-timeout": "60s"})
        assert (reply.status, "0.3 s" in reply.error["message"]) == (504, True)


@pytest.mark.security("SEC-CRED-OWN")
def test_credentials_go_to_their_own_provider_in_turn() -> None:
    keys = ["sk-one-0123456789abcdef0123456789", "sk-two-0123456789abcdef0123456789"]
    toml = f"""[server]\nport = 0\n[providers.openai]\nbase_url = "{{sim}}"\ncredentials = {keys!r}
[providers.sim]\nbase_url = "{{sim}}"\n"""
    with Running(toml) as gateway, Api(gateway) as api:
        assert api.get("/v1/models").status == 200
        seen: list[Any] = []
        for _ in range(4):
            api.ask("chat", "openai/echo")
            seen.append(api.upstream.headers["authorization"])
        assert set(seen) == {f"Bearer {key}" for key in keys}
        api.ask("chat", "sim/echo")
        assert "authorization" not in api.upstream.headers
