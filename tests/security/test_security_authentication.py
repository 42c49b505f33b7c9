"""Who may call is decided by the head alone, in one place, on every route, whatever else the request holds (API2, API5)."""

import itertools
import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.security.conftest import A_KEY, ask, cold_routes, hot_paths
from tests.support.raw import HELLO, Raw, Response, chunk, get, post, request
from tests.support.running import SIM_ONLY, Running

OPEN = {"/", "/healthz", "/readyz", "/metrics", "/openapi.json"}
"""All that answers without a key. A new route that is not meant to be here must ask for one."""

UNKNOWN = "sk-alpha-0123456789abcdef0123456789abcdee"
"""As A's key, apart from the last character."""

GEMINI = "/v1beta/models/sim/echo:generateContent"
CONTENTS = b'{"contents":[{"role":"user","parts":[{"text":"Hello"}]}]}'
FORM = "/v1/audio/transcriptions"


def calls(gateway: Running) -> int:
    return sum(one.method == "POST" for one in gateway.sim.requests)


@pytest.fixture(scope="module")
def guessed() -> Iterator[Running]:
    """One at which hundreds of wrong keys are tried, for which others would be held back."""
    with Running(f'{SIM_ONLY}\n[[keys]]\nname = "app"\nsecret = "{A_KEY}"\n') as running:
        yield running


@pytest.mark.security("SEC-API5-ROUTE", "SEC-API9-INVENTORY")
@pytest.mark.parametrize("given_key", ["", f"Authorization: Bearer {UNKNOWN}", "Authorization: Basic YTpi"])
def test_every_route_of_the_running_application_asks_for_a_key(shared: Running, given_key: str) -> None:
    before = calls(shared)
    headers = [given_key] if given_key else []
    seen: set[str] = set()
    routes = [*cold_routes(shared), *((path, frozenset({"POST"})) for path in hot_paths(shared))]
    for path, methods in routes:
        filled = path.replace("{id}", "resp_1").replace("{item_id}", "msg_1").replace("{model:path}", "sim/echo")
        assert filled.count("{") == 0 or path.startswith("/admin/"), f"{path}: say here what could stand there"
        for method in sorted(methods):
            body = HELLO if method in ("POST", "PUT", "PATCH") else None
            with Raw(shared) as client:
                answer = client.ask(request(method, filled, *headers, body=body))
            if path in OPEN:
                seen.add(path)
                assert answer.status == 200, (method, path)
            else:
                assert answer.status == 401, (method, path, answer.body)
    assert seen == OPEN
    assert calls(shared) == before


@pytest.mark.security("SEC-API5-ROUTE")
@pytest.mark.parametrize(
    "path",
    [
        "//v1/models", "/v1//models", "/v1/models/", "/v1/./models", "/healthz/../v1/models", "/healthz/%2e%2e/v1/models",
        "/v1/%6dodels", "/%76%31/models", "/v1/models;/healthz", "/v1/models%00", "/v1/models%2f", "/V1/MODELS",
        "/v1/models?/healthz", "/v1/models#/healthz", "/healthz;/v1/models", "http://localhost/v1/models",
        "/v1\\models", "/v1/models/sim%2fecho",
    ],
)  # fmt: skip
def test_no_spelling_of_a_path_goes_past_the_key(shared: Running, path: str) -> None:
    for headers in ((), ("X-Original-URL: /healthz",), ("X-Rewrite-URL: /healthz",), ("X-Forwarded-Prefix: /healthz",)):
        with Raw(shared) as client:
            answer = client.ask(get(path, *headers))
        assert answer.status in (400, 401, 404), answer.body
        assert b'"object":"list"' not in answer.body


# --- before the body ---------------------------------------------------------------------------------------------

BODIES = {
    "nothing of it has come": ("Content-Length: 100000", b""),
    "half of it has come": ("Content-Length: 100000", b'{"model":'),
    "no JSON": ("Content-Length: 5", b"\xff\xfe{{{"),
    "nested without end": ("Content-Length: 200000", b"[" * 200_000),
    "larger than any limit": ("Content-Length: 99999999999", b""),
    "chunked and without end": ("Transfer-Encoding: chunked", chunk(b"x" * 1000)),
    "a broken chunk": ("Transfer-Encoding: chunked", b"zz\r\n"),
    "waits for 100": ("Content-Length: 10\r\nExpect: 100-continue", b""),
}


@pytest.mark.security("SEC-API2-ORDER")
@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions", GEMINI, FORM, "/v1/conversations"])
@pytest.mark.parametrize(("framing", "body"), BODIES.values(), ids=BODIES.keys())
def test_the_key_is_asked_for_before_the_body_means_anything(
    shared: Running, path: str, framing: str, body: bytes
) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {UNKNOWN}\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\n" if path == FORM else ""
    with Raw(shared, timeout=3) as client:
        answer = client.send(f"{head}{framing}\r\n\r\n".encode() + body).response()
        assert answer.status == 401, answer.body
        assert answer.closes


# --- two keys ----------------------------------------------------------------------------------------------------

PLACES = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "query")


def with_keys(where: dict[str, str], *, cold: bool) -> bytes:
    path = "/v1/models" if cold else GEMINI
    if "query" in where:
        path += f"?key={where['query']}"
    headers = [
        f"{name}: {'Bearer ' if name == 'authorization' else ''}{key}" for name, key in where.items() if name != "query"
    ]
    return get(path, *headers) if cold else post(CONTENTS, *headers, path=path)


@pytest.mark.security("SEC-API2-TWO-KEYS")
@pytest.mark.parametrize("cold", [False, True], ids=["hot", "cold"])
def test_two_differing_keys_are_refused_wherever_they_stand(shared: Running, cold: bool) -> None:
    for first, second in itertools.permutations(PLACES, 2):
        for keys in ((A_KEY, UNKNOWN), (UNKNOWN, A_KEY)):
            with Raw(shared) as client:
                answer = client.ask(with_keys(dict(zip((first, second), keys, strict=True)), cold=cold))
            assert answer.status == 401, (first, second)
            assert b"two different API keys" in answer.body
        with Raw(shared) as client:
            assert client.ask(with_keys({first: A_KEY, second: A_KEY}, cold=cold)).status == 200


@pytest.mark.security("SEC-API2-TWO-KEYS")
@pytest.mark.parametrize("name", PLACES[:-1])
def test_one_place_given_twice_is_refused(shared: Running, name: str) -> None:
    prefix = "Bearer " if name == "authorization" else ""
    for keys in ((A_KEY, A_KEY), (A_KEY, UNKNOWN), (UNKNOWN, A_KEY)):
        for path in ("/v1/models", "/v1/responses"):
            sent = request("GET", path, *(f"{name}: {prefix}{key}" for key in keys))
            with Raw(shared) as client:
                assert client.ask(sent).status == 400


# --- whatever the header holds -----------------------------------------------------------------------------------

VALUE = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"Bearer", b"Bearer ", b"bearer\t", b"Basic ", b"Digest x", b"Bearer,", b"Bearer Bearer "]).flatmap(
        lambda start: st.builds(lambda end: start + end, st.binary(max_size=40))
    ),
    st.builds(lambda cut: A_KEY[:cut].encode(), st.integers(0, len(A_KEY) - 1)),
    st.builds(lambda more: A_KEY.encode() + more, st.binary(min_size=1, max_size=5)),
    st.sampled_from([b"' OR '1'='1", b'{"$ne":null}', b"%00", b"${jndi:ldap://x}", b"*", b"null", b"undefined", b"admin"]),
)  # fmt: skip


@pytest.mark.security("SEC-API2-MALFORMED")
@settings(max_examples=120, deadline=None)
@given(st.sampled_from(PLACES[:-1]), VALUE)
def test_whatever_stands_in_a_key_header_lets_nobody_in(guessed: Running, name: str, value: bytes) -> None:
    if value.replace(b"Bearer", b"").strip() == A_KEY.encode():
        return
    head = f"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\n{name}: ".encode() + value
    with Raw(guessed) as client:
        answer = client.send(head + b"\r\nContent-Length: %d\r\n\r\n%b" % (len(HELLO), HELLO)).response()
    assert answer.status in (400, 401), (value, answer.head)
    assert A_KEY not in answer.body.decode("utf-8", "replace")


@pytest.mark.alone
@pytest.mark.security("SEC-API2-TIMING")
def test_a_key_that_is_nearly_right_is_refused_like_any_other(guessed: Running) -> None:
    """By the same words, and in the same time as far as a client can measure: a lookup by digest knows no nearness."""
    wrong = {"nearly": UNKNOWN, "far": "zz-" + UNKNOWN[3:][::-1]}
    times: dict[str, list[float]] = {name: [] for name in wrong}
    words: set[bytes] = set()
    with Raw(guessed) as client:
        for turn in range(160):
            for name, key in wrong.items():
                sent = get("/v1/models", f"Authorization: Bearer {key}")
                begun = time.perf_counter()
                answer = client.ask(sent)
                if turn >= 30:
                    times[name].append(time.perf_counter() - begun)
                assert answer.status == 401
                words.add(answer.body)
    assert len(words) == 1
    nearly, far = (statistics.median(times[name]) for name in wrong)
    assert 0.6 < nearly / far < 1.6, (nearly, far)


# --- who is in front ---------------------------------------------------------------------------------------------

CLAIMS = {
    "X-Forwarded-Host": "localhost", "X-Forwarded-Server": "localhost", "X-Host": "localhost", "X-Original-Host": "localhost",
    "Forwarded": "for=127.0.0.1;host=localhost;proto=https", "X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1",
    "X-Client-IP": "127.0.0.1", "True-Client-IP": "127.0.0.1", "CF-Connecting-IP": "127.0.0.1", "X-Forwarded-Proto": "https",
    "X-Forwarded-Port": "443",
}  # fmt: skip


@pytest.mark.security("SEC-SMUGGLE-FORWARDED")
def test_what_a_client_says_of_hosts_and_addresses_in_front_of_us_counts_for_nothing(gateway: Running) -> None:
    for name, value in CLAIMS.items():
        with Raw(gateway) as client:
            refused: Response = client.ask(request("GET", "/v1/models", f"{name}: {value}", host="evil.example"))
            assert (refused.status, refused.code) == (403, "host_not_allowed"), name
    lies = [f"{name}: {value.replace('127.0.0.1', '6.6.6.6')}" for name, value in CLAIMS.items()]
    with Raw(gateway) as client:
        answer = client.ask(post(HELLO, *lies))
    assert answer.status == 200
    entry: dict[str, Any] = gateway.usage(answer["x-request-id"])
    assert "6.6.6.6" not in json.dumps(entry)


@pytest.mark.security("SEC-SMUGGLE-FORWARDED")
@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_a_method_is_what_the_request_line_says(shared: Running, name: str) -> None:
    stored = ask(shared, "POST", "/v1/responses", A_KEY, {"input": "x"}).json["id"]
    assert ask(shared, "GET", f"/v1/responses/{stored}?_method=DELETE", A_KEY, None, f"{name}: DELETE").status == 200
    assert ask(shared, "GET", f"/v1/responses/{stored}", A_KEY).status == 200
