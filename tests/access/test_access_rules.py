"""What a key may do, which model it means by none, and whom its requests are charged to."""

from collections.abc import Iterator
from hashlib import sha256
from ipaddress import ip_network
from typing import Any

import msgspec
import pytest

from tests.support.api import ENDPOINTS, Api
from tests.support.running import Running
from tidegate.access.keys import OPEN, KeyRing, Principal
from tidegate.config.schema import KeyConfig
from tidegate.config.secret import Secret
from tidegate.wire.errors import Forbidden, InvalidKey

KEYS = {name: f"key-{name}-0123456789abcdef0123456789" for name in ("free", "narrow", "hashed", "lost")}

TOML = f"""
[server]
port = 0
[defaults]
model = "sim/echo"
[providers.sim]
base_url = "{{sim}}"
[models.fast]
target = "sim/zh"
[[keys]]
name = "free"
secret = "{KEYS["free"]}"
[[keys]]
name = "narrow"
secret = "{KEYS["narrow"]}"
project = "harbour"
model = "fast"
models = ["fast", "sim/l*"]
[[keys]]
name = "hashed"
secret = "sha256:{sha256(KEYS["hashed"].encode()).hexdigest()}"
[[keys]]
name = "lost"
secret = "{KEYS["lost"]}"
models = ["sim/lorem"]
"""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


@pytest.fixture(scope="module")
def router() -> Iterator[Running]:
    provider = '[providers.router]\nkind = "openrouter"\nbase_url = "{sim}"\ncredentials = ["sk-or"]\n'
    with Running(f"[server]\nport = 0\n{provider}") as running:
        yield running


@pytest.fixture(scope="module")
def narrow(gateway: Running) -> Iterator[Api]:
    with Api(gateway, authorization=f"Bearer {KEYS['narrow']}") as client:
        yield client


@pytest.mark.security("SEC-API5-MODEL")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_model_outside_the_keys_list_is_403_and_never_called(narrow: Api, endpoint: str, stream: bool) -> None:
    calls = narrow.calls
    for model in ("sim/echo", "echo", "sim/zh", "zh"):
        reply = narrow.ask(endpoint, model, stream=stream)
        assert (reply.status, reply.error["code"], reply.error["param"]) == (403, "model_not_allowed", "model")
        assert reply.error["type"] == "invalid_request_error"
        assert "fast, sim/l*" in reply.error["message"]
    assert narrow.calls == calls
    entry = narrow.gateway.usage(reply.request_id)
    assert (entry["status"], entry["ending"], entry["key"], entry["project"]) == (403, "refused", "narrow", "harbour")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(("model", "deployment"), [("fast", "sim/zh"), ("sim/lorem", "sim/lorem"), (None, "sim/zh")])
def test_what_the_list_allows_is_served_and_charged_to_the_key(
    narrow: Api, endpoint: str, model: str | None, deployment: str
) -> None:
    reply = narrow.ask(endpoint, model)
    assert (reply.status, reply.headers["tidegate-deployment"]) == (200, deployment)
    entry = narrow.gateway.usage(reply.request_id)
    assert (entry["key"], entry["project"]) == ("narrow", "harbour")


@pytest.mark.security("SEC-API5-MODEL")
def test_the_default_model_is_no_way_around_the_list(gateway: Running) -> None:
    with Api(gateway, authorization=f"Bearer {KEYS['lost']}") as api:
        assert api.ask("chat", None).status == 403
        assert api.ask("chat", "sim/lorem").status == 200


@pytest.mark.security("SEC-API5-MODEL")
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/completions"])
@pytest.mark.parametrize(
    ("member", "refused"),
    [({"models": ["openai/o1-pro"]}, (404, "models[0]")), ({"preset": "dear"}, (400, "preset"))],
)
def test_another_member_of_the_request_is_no_way_around_the_list(
    router: Running, path: str, member: dict[str, object], refused: tuple[int, str]
) -> None:
    """OpenRouter would answer with any model that stands there, at that one's price: names are the gateway's to resolve."""
    prompt: dict[str, object] = {"prompt": "Hi"}
    if path == "/v1/responses":
        prompt = {"input": "Hi"}
    elif path == "/v1/chat/completions":
        prompt = {"messages": [{"role": "user", "content": "Hi"}]}
    with Api(router) as api:
        assert api.post(path, {"model": "router/echo", **prompt}).status == 200
        calls = api.calls
        reply = api.post(path, {"model": "router/echo", **prompt, **member})
        assert ((reply.status, reply.error["param"]), api.calls) == (refused, calls)


@pytest.mark.security("SEC-API4-BOUND")
@pytest.mark.security("SEC-API5-MODEL")
@pytest.mark.parametrize("endpoint", [*ENDPOINTS, "messages"])
@pytest.mark.parametrize("name", ["MODEL", "max_to\u212aens", "Stream"])
def test_a_member_that_some_providers_take_for_another_does_not_go_on(narrow: Api, endpoint: str, name: str) -> None:
    """Go's decoder does not tell `MODEL` from `model`, nor the sign for kelvin from a k, and takes the last that it meets."""
    calls = narrow.calls
    if endpoint == "messages":
        said = [{"role": "user", "content": "Hi"}]
        body: dict[str, object] = {"model": "sim/lorem", "max_tokens": 5, "messages": said, name: "sim/zh"}
        reply = narrow.post("/v1/messages", body)
        assert reply.status == 400
        assert name in reply.json["error"]["message"]
    else:
        more: dict[str, Any] = {name: "sim/zh"}
        reply = narrow.ask(endpoint, "sim/lorem", **more)
        assert (reply.status, reply.error["param"]) == (400, name)
    assert narrow.calls == calls


@pytest.mark.security("SEC-API2-DIGEST")
def test_a_key_given_as_its_digest_works_and_the_digest_itself_does_not(gateway: Running) -> None:
    with Api(gateway, authorization=f"Bearer {KEYS['hashed']}") as api:
        assert api.ask("chat").status == 200
    for wrong in (f"sha256:{sha256(KEYS['hashed'].encode()).hexdigest()}", sha256(KEYS["hashed"].encode()).hexdigest()):
        with Api(gateway, authorization=f"Bearer {wrong}") as api:
            assert api.ask("chat").status == 401


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/fast"])
def test_the_list_of_models_needs_a_key_too(gateway: Running, path: str) -> None:
    with Api(gateway) as api:
        reply = api.get(path)
        assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
        assert reply.headers["www-authenticate"] == "Bearer"
    with Api(gateway, authorization=f"Bearer {KEYS['free']}") as api:
        assert api.get(path).status == 200


def test_a_key_is_never_sent_to_the_provider_nor_told_back(gateway: Running) -> None:
    with Api(gateway, authorization=f"Bearer {KEYS['free']}") as api:
        reply = api.ask("chat", "sim/echo?status=400")
        assert KEYS["free"] not in str(api.upstream.headers) + str(reply.headers) + str(reply.content)
    with Api(gateway, authorization="Bearer sk-mistyped-secret") as api:
        assert b"mistyped" not in api.ask("chat").content


def ring(*names: str) -> KeyRing:
    return KeyRing(KeyConfig(name=name, secret=Secret(KEYS[name])) for name in names)


def test_without_keys_everybody_is_let_in() -> None:
    assert KeyRing([]).open
    assert KeyRing([]).authenticate({}) is OPEN
    assert not ring("free").open


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer " + KEYS["free"].encode()},
        {b"authorization": b"  bEARER   " + KEYS["free"].encode() + b"  "},
        {b"x-api-key": KEYS["free"].encode()},
        {b"api-key": KEYS["free"].encode()},
        {b"authorization": b"Bearer " + KEYS["free"].encode(), b"x-api-key": KEYS["free"].encode()},
        {b"authorization": b"Bearer ", b"x-api-key": KEYS["free"].encode()},
    ],
)
def test_a_key_is_found_wherever_clients_put_it(headers: dict[bytes, bytes]) -> None:
    assert ring("free", "narrow").authenticate(headers).key == "free"


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "did not provide"),
        ({b"authorization": b""}, ""),
        ({b"authorization": b"Bearer"}, "did not provide"),
        ({b"authorization": b"Basic abc"}, "scheme Bearer"),
        ({b"authorization": b"Bearer wrong"}, "not known"),
        ({b"authorization": b"Bearer " + KEYS["free"].encode()[:-1]}, "not known"),
        ({b"authorization": b"Bearer " + KEYS["free"].encode(), b"api-key": b"other"}, "two different"),
        ({b"x-api-key": KEYS["free"].encode(), b"api-key": KEYS["narrow"].encode()}, "two different"),
        ({b"authorization": b"Bearer \xff\xfe"}, "not known"),
    ],
)
def test_everything_else_is_401_with_a_hint(headers: dict[bytes, bytes], words: str) -> None:
    with pytest.raises(InvalidKey) as caught:
        ring("free", "narrow").authenticate(headers)
    assert words in caught.value.message
    assert "Authorization: Bearer <key>" in caught.value.message
    assert KEYS["free"] not in caught.value.message


def test_patterns_are_matched_in_their_case_and_as_a_whole() -> None:
    key = KeyConfig(name="free", secret=Secret(KEYS["free"]), models=("openai/*", "exact"))
    principal = KeyRing([key]).authenticate({b"x-api-key": KEYS["free"].encode()})
    for good in ("openai/gpt-5.2", "openai/", "exact"):
        principal.authorise(good)
    for bad in ("OpenAI/gpt-5.2", "my-openai/x", "exactly", "Exact"):
        with pytest.raises(Forbidden):
            principal.authorise(bad)


@pytest.mark.security("SEC-API2-PLACE")
@pytest.mark.parametrize("client", ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1%eth0"])
def test_an_address_is_the_same_in_every_form(client: str) -> None:
    """A listener for both kinds of addresses sees those of IPv4 mapped into IPv6."""
    networks = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
    principal = Principal(key="app", project="default", addresses=networks)
    principal.permit(client, "")
    with pytest.raises(Forbidden):
        msgspec.structs.replace(principal, addresses=(ip_network("192.0.2.0/24"),)).permit(client, "")
