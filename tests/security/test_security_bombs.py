"""Requests that are small to send and dear to read: refused in little time and little memory (API4:2023)."""

import contextlib
import gzip
import json
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.forms import BOUNDARY, form, upload
from tests.support.raw import Raw, Response, post
from tests.support.running import Running
from tests.support.sockets import Socket

TOML = """
[server]
port = 0
data_dir = "{data}"
[providers.lab]
kind = "openai-compatible"
base_url = "{sim}"
[providers.plain]
kind = "openai-compatible"
base_url = "{sim}"
speaks = ["responses"]
[providers.google]
kind = "gemini"
base_url = "{sim}beta"
credentials = ["AIzaSyD-0123456789abcdefghijklmnopqrst"]
[providers.claude]
kind = "anthropic"
base_url = "{sim}"
credentials = ["sk-ant-0123456789abcdef"]
"""
PROVIDERS = ("lab", "plain", "google", "claude")
PATIENCE_S = 3.0
"""For one request, on a busy machine: what is refused in order takes milliseconds."""

MARK = '"@"'


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(TOML.replace("{data}", str(tmp_path_factory.mktemp("bombs")))) as running:
        yield running


def chat(**members: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], **members}


def responses(**members: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/responses", {"input": "x", **members}


def messages(**members: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/messages", {"max_tokens": 9, "messages": [{"role": "user", "content": "x"}], **members}


def schema(inner: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": inner}}


PLACES: list[tuple[str, dict[str, Any]]] = [
    responses(unknown="@"),
    responses(input="@"),
    responses(input=[{"role": "user", "content": "@"}]),
    responses(input=[{"type": "function_call_output", "call_id": "c", "output": "@"}]),
    responses(input=[{"type": "odd_item", "x": "@"}, {"role": "user", "content": "x"}]),
    responses(tools=[{"type": "function", "name": "f", "parameters": schema("@")}]),
    responses(tools=[{"type": "odd_tool", "x": "@"}]),
    responses(metadata="@"),
    responses(text={"format": {"type": "json_schema", "name": "f", "schema": schema("@")}}),
    chat(unknown="@"),
    chat(messages="@"),
    chat(messages=[{"role": "user", "content": "@"}]),
    chat(messages=[{"role": "user", "content": "x", "odd": "@"}]),
    chat(tools=[{"type": "function", "function": {"name": "f", "parameters": schema("@")}}]),
    chat(response_format={"type": "json_schema", "json_schema": {"name": "f", "schema": schema("@")}}),
    messages(tools=[{"name": "f", "input_schema": schema("@")}]),
    messages(messages=[{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "@"}]}]),
    messages(system="@"),
    ("/v1/embeddings", {"input": "@"}),
    ("/v1/completions", {"prompt": "@"}),
]


def took(gateway: Running, sent: bytes) -> Response:
    """The answer, which comes in time and is nobody's fault here."""
    begun = time.monotonic()
    with Raw(gateway, timeout=PATIENCE_S) as client:
        answer = client.ask(sent)
    assert time.monotonic() - begun < PATIENCE_S
    assert answer.status < 500 or answer.status == 502, answer.body[:300]
    return answer


DEPTHS = (100, 200, 400, 600, 800, 900, 940, 960, 980, 1000, 1200, 5000, 100_000, 1_000_000)

REFUSED = 1200 if sys.version_info < (3, 12) else DEPTHS[-1]
"""From here on every text is: newer versions of Python nest as deeply as their stack allows."""


@pytest.mark.security("SEC-BOMB-DEPTH")
@pytest.mark.parametrize("opening", [("[", "]"), ('{"a":', "}")], ids=["arrays", "objects"])
def test_nesting_is_refused_before_it_costs_a_stack(reading: Running, opening: tuple[str, str]) -> None:
    """Wherever it stands, whoever is asked in which dialect: an answer or a 400, and never a failure of ours."""
    before, after = opening
    for number, (path, body) in enumerate(PLACES):
        for depth in DEPTHS:
            deep = before * depth + "1" + after * depth
            model = f"{PROVIDERS[(number + depth) % len(PROVIDERS)]}/echo"
            text = json.dumps({"model": model, **body}).replace(MARK, deep)
            answer = took(reading, post(text.encode(), path=path))
            # A provider that repeats what it was asked may answer with more than is left of the stack, where much was.
            fine = (200, 400, 404) if depth <= 5000 or depth >= REFUSED else (200, 400, 404, 502)
            assert answer.status in fine, (path, body, depth, answer.body[:300])
            if depth >= REFUSED:
                assert answer.status == 400, (path, body, depth)
    assert not [line for line in reading.log_lines if line["level"] == "error"]


@pytest.mark.security("SEC-BOMB-DEPTH")
def test_nor_over_a_websocket_or_in_what_is_kept(reading: Running) -> None:
    for depth in DEPTHS:
        deep = "[" * depth + "]" * depth
        with Socket(reading) as client:
            event = {"type": "response.create", "model": "lab/echo", "input": [{"type": "odd", "x": "@"}]}
            client.send(json.dumps(event).replace(MARK, deep))
            event = client.event()
        assert event.get("status", 400) == 400, (depth, event)
        kept = took(reading, post(b'{"items":[{"type":"odd","x":%b}]}' % deep.encode(), path="/v1/conversations"))
        assert kept.status in (200, 400), (depth, kept.body)


NUMBERS = [
    "9" * 400,
    "9" * 5000,
    "9" * 1_000_000,
    "-" + "9" * 100_000,
    "1e" + "9" * 100_000,
    "0." + "9" * 1_000_000,
    "1e400",
]


@pytest.mark.security("SEC-BOMB-NUMBERS")
@pytest.mark.parametrize("member", ["seed", "temperature", "max_output_tokens", "unknown"])
def test_numbers_of_any_length_are_read_in_no_time(reading: Running, member: str) -> None:
    for number in NUMBERS:
        text = f'{{"model":"lab/echo","input":"x","{member}":{number}}}'
        answer = took(reading, post(text.encode()))
        assert answer.status in (200, 400), (member, number[:20], answer.body[:200])
        assert answer.status == 200 or len(answer.body) < 3000


@pytest.mark.alone
@pytest.mark.security("SEC-BOMB-MEMBERS")
def test_many_small_things_do_not_become_much_memory(reading: Running) -> None:
    many = 200_000
    bodies = [
        ("/v1/responses", b'{"model":"lab/echo","input":"x",%b}' % b",".join(b'"m%d":1' % n for n in range(many))),
        ("/v1/responses", b'{"model":"lab/echo","input":"x","metadata":{%b}}' % b",".join(b'"m%d":""' % n for n in range(many))),
        ("/v1/responses", b'{"model":"lab/echo","input":[%b{}]}' % (b"{}," * many)),
        ("/v1/responses", b'{"model":"lab/echo","input":[%b[]]}' % (b"[]," * many)),
        ("/v1/responses", b'{"model":"lab/echo","input":"x","tools":[%b{}]}' % (b'{"type":"x"},' * (many // 10))),
        ("/v1/chat/completions", b'{"model":"google/echo","messages":[%b{"role":"user","content":"x"}],"stop":[%b"a"]}' % (b'{"role":"user","content":""},' * (many // 20), b'"a",' * many)),
        ("/v1/responses", b'{"model":"lab/echo",%b"input":"x"}' % (b'"input":"y",' * many)),
    ]  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path, body in bodies:
        answer = took(reading, post(body, path=path))
        assert answer.status in (200, 400), answer.body[:300]
        assert len(answer.head) < 16_000
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 200_000, f"{(after - before) // 1024} MB"


@pytest.mark.security("SEC-BOMB-COMPRESSED")
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "x-gzip", "gzip, gzip", "compress"])
def test_a_compressed_body_is_not_opened(reading: Running, coding: str) -> None:
    packed = gzip.compress(bytes(8 << 20))
    for path in (
        "/v1/responses",
        "/v1/audio/transcriptions",
        "/v1/conversations",
        "/v1beta/models/lab/echo:generateContent",
    ):
        answer = took(reading, post(packed, f"Content-Encoding: {coding}", path=path))
        assert answer.status == 415, (path, answer.body)


@pytest.mark.security("SEC-BOMB-FORM")
def test_a_form_of_many_or_endless_parts_is_refused(reading: Running) -> None:
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n'.encode()
    head = f"--{BOUNDARY}\r\n".encode()
    bodies = [
        part * 200_000 + form(b"x"),
        head + b"x-a: b\r\n" * 200_000 + b"\r\n" + form(b"x"),
        head + b"x-" + b"a" * 2_000_000,
        head + b'Content-Disposition: form-data; name="' + b"n" * 2_000_000 + b'"\r\n\r\nb\r\n' + form(b"x"),
        b"\r\n" * 1_000_000 + form(b"x"),
        b"-" * 2_000_000,
    ]
    for body in bodies:
        with Raw(reading, timeout=PATIENCE_S) as client:
            with contextlib.suppress(ConnectionError):  # it may have answered, and closed, before all was sent
                client.send(upload(body))
            answer = client.response()
        assert answer.status in (400, 404, 413), answer.body[:200]
