"""Values that end up in a header, ours or a provider's, cannot write another one, whoever has chosen them."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.canned import Canned, json_answer
from tests.support.raw import HELLO, Raw, Response, get, post
from tests.support.running import Running

LINE = re.compile(rb"[a-z0-9-]+: [\t\x20-\x7e\x80-\xff]*")
OURS = re.compile(
    rb"date|content-type|content-length|transfer-encoding|connection|cache-control|x-accel-buffering|x-request-id|vary|"
    rb"retry-after|x-should-retry|www-authenticate|allow|openai-processing-ms|request-id|"
    rb"tidegate-(?:deployment|attempts|dropped|profile|usage)|x-upstream-ratelimit-[a-z0-9-]*"
)
"""All names that an answer of ours may have."""

NASTY = st.one_of(
    st.text(max_size=30),
    st.lists(st.sampled_from(["\r\n", "\r", "\n", "\0", "x-evil: 1", ": ", "\u2028", "\x85", "ä", "潮", " ", "%0d%0a", "a", ","]), max_size=8).map("".join),
)  # fmt: skip
NASTY_BYTES = st.one_of(st.binary(max_size=30), NASTY.map(lambda text: text.encode("utf-8", "surrogatepass")))
ANSWER = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
ASK = b'{"model":"canned/m","messages":[{"role":"user","content":"x"}]}'


def check_head(answer: Response) -> None:
    """Every line is a field of ours, and none stands twice."""
    _, *lines = answer.head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    names = []
    for line in lines:
        assert LINE.fullmatch(line), answer.head
        names.append(line.partition(b":")[0])
        assert OURS.fullmatch(names[-1]), answer.head
    single = [name for name in names if not name.startswith(b"x-upstream-")]
    assert len(single) == len(set(single)), answer.head


class Changing(Canned):
    """A provider that answers with whatever it is told next."""

    def then(self, answer: bytes) -> None:
        self._answers = (answer,)


@pytest.fixture(scope="module")
def provider() -> Iterator[Changing]:
    with Changing(json_answer(ANSWER)) as running:
        yield running


@pytest.fixture(scope="module")
def fronted(provider: Changing) -> Iterator[Running]:
    toml = '[server]\nport = 0\n[providers.sim]\nbase_url = "{sim}"\n' + provider.toml()
    more = '[providers.chat]\nkind = "openai-compatible"\nbase_url = "{sim}"\nspeaks = ["chat"]\n'
    google = (
        '[providers.google]\nkind = "gemini"\nbase_url = "{sim}beta"\ncredentials = ["AIza-0123456789abcdef0123"]\n'
    )
    claude = '[providers.claude]\nkind = "anthropic"\nbase_url = "{sim}"\ncredentials = ["sk-ant-0123456789abcdef"]\n'
    with Running(toml + more + google + claude) as running:
        yield running


@pytest.mark.security("SEC-INJ-BODY")
@settings(max_examples=80, deadline=None)
@given(name=NASTY, model=NASTY, user=NASTY, stream=st.booleans())
def test_no_value_of_a_body_writes_a_header(fronted: Running, name: str, model: str, user: str, stream: bool) -> None:
    """Names of models stand in `tidegate-deployment`, names of members in `tidegate-dropped`."""
    body = {name: 1, "model": "chat/echo" + model, "input": "x", "stream": stream, "user": user}
    with Raw(fronted) as client:
        answer = client.ask(post(json.dumps(body).encode()))
        check_head(answer)
        assert client.ask(get("/healthz")).json == {"status": "ok"}


@pytest.mark.security("SEC-INJ-HEADER")
@settings(max_examples=80, deadline=None)
@given(name=st.sampled_from(["x-request-id", "tidegate-profile", "tidegate-timeout", "idempotency-key", "origin"]), value=NASTY_BYTES)  # fmt: skip
def test_no_header_of_a_client_writes_one_of_ours(fronted: Running, name: str, value: bytes) -> None:
    sent = post(HELLO).replace(b"\r\n\r\n", b"\r\n%b: %b\r\n\r\n" % (name.encode(), value), 1)
    with Raw(fronted) as client:
        answer = client.send(sent).response()
    check_head(answer)
    assert re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", answer["x-request-id"])
    assert "x-evil" not in answer.head.decode("latin-1")


@pytest.mark.security("SEC-API10-HEADERS", "SEC-INJ-UPSTREAM")
@settings(max_examples=80, deadline=None)
@given(value=NASTY_BYTES, limit=st.sampled_from([b"x-ratelimit-a", b"X-RateLimit-B", b"x-ratelimit-"]), status=st.sampled_from([b"200 OK", b"429 No", b"503 No", b"302 Found"]))  # fmt: skip
def test_no_header_of_a_provider_writes_one_of_ours(
    fronted: Running, provider: Changing, value: bytes, limit: bytes, status: bytes
) -> None:
    body = json.dumps(ANSWER).encode()
    fields = [b"content-type: application/json", limit + b": " + value, b"retry-after: " + value, b"set-cookie: a=b"]
    fields += [
        b"location: http://evil/",
        b"x-evil: 1",
        b"server: theirs",
        b"x-request-id: theirs",
        b"connection: x-evil",
    ]
    fields += [b"access-control-allow-origin: *", b"strict-transport-security: max-age=1", b"www-authenticate: Basic"]
    provider.then(
        b"HTTP/1.1 %b\r\n%b\r\ncontent-length: %d\r\n\r\n%b" % (status, b"\r\n".join(fields), len(body), body)
    )
    with Raw(fronted) as client:
        answer = client.ask(post(ASK, path="/v1/chat/completions"))
    assert answer.status in (200, 429, 502, 503)
    check_head(answer)
    assert b"theirs" not in answer.head
    assert b"evil" not in re.sub(rb"x-upstream-ratelimit-[^\r]*", b"", answer.head)


@pytest.mark.security("SEC-INJ-RELAYED")
@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(["anthropic-beta", "anthropic-version"]), value=NASTY_BYTES)
def test_no_header_of_a_client_writes_one_of_a_request_to_a_provider(fronted: Running, name: str, value: bytes) -> None:
    body = b'{"model":"claude/echo","max_tokens":5,"messages":[{"role":"user","content":"x"}]}'
    sent = post(body, "anthropic-version: 2023-06-01" if name == "anthropic-beta" else "x-y: z", path="/v1/messages")
    fronted.sim.requests.clear()
    with Raw(fronted) as client:
        answer = client.send(sent.replace(b"\r\n\r\n", b"\r\n%b: %b\r\n\r\n" % (name.encode(), value), 1)).response()
    assert answer.status in (200, 400)
    for call in fronted.sim.requests:
        assert set(call.headers) <= {
            "host", "accept", "accept-encoding", "content-type", "user-agent", "content-length",
            "x-api-key", "anthropic-version", "anthropic-beta",
        }  # fmt: skip
        assert call.headers["x-api-key"] == "sk-ant-0123456789abcdef"


@pytest.mark.security("SEC-INJ-PATH")
@settings(max_examples=80, deadline=None)
@given(st.one_of(NASTY, st.sampled_from(["../../v1/files", "..%2f..", "a?key=1", "a#", "a:x", "//evil/", "a\\..\\b", "%2e%2e/"])))  # fmt: skip
def test_no_name_of_a_model_leaves_its_place_in_a_providers_path(fronted: Running, model: str) -> None:
    fronted.sim.requests.clear()
    body = json.dumps({"model": "google/" + model, "input": "x"}).encode()
    with Raw(fronted) as client:
        answer = client.ask(post(body))
    check_head(answer)
    for call in fronted.sim.requests:
        assert re.fullmatch(r"/v1beta/models/[A-Za-z0-9._~%-]+:generateContent", call.path), call.path


@pytest.mark.security("SEC-INJ-LOG")
@settings(max_examples=30, deadline=None)
@given(NASTY)
def test_no_value_of_a_request_writes_a_line_of_the_log(fronted: Running, text: str) -> None:
    body = {"model": "sim/echo", "input": "x", "user": text + '\n{"event":"request","request_id":"forged"}'}
    with Raw(fronted) as client:
        answer = client.ask(post(json.dumps(body).encode()))
    entry: dict[str, Any] = fronted.usage(answer["x-request-id"])
    assert entry["end_user"].startswith(text[:200])
    assert not [line for line in fronted.log_lines if line.get("request_id") == "forged"]
