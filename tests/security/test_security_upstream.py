"""A provider is not believed: its figures, its errors and its bytes do no harm here (API10:2023)."""

import contextlib
import gzip
import json
import resource
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import Api
from tests.support.canned import Canned, json_answer, sse_answer
from tests.support.running import Running

CREDENTIAL = "sk-upstream-canary-0123456789abcdef"
SECRET_HEADER = "canary-of-a-header-0123456789"
SAID = {"role": "assistant", "content": "hi"}
MOST_TOKENS = 10**9


class Changing(Canned):
    """A provider that answers with whatever it is told next."""

    def then(self, answer: bytes) -> None:
        self._answers = (answer,)

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the gateway has had enough
            super()._answer(connection)


@pytest.fixture(scope="module")
def provider() -> Iterator[Changing]:
    with Changing(json_answer({})) as running:
        yield running


@pytest.fixture(scope="module")
def fronted(provider: Changing) -> Iterator[Running]:
    more = f'credentials = ["{CREDENTIAL}"]\nheaders = {{ x-team = "{SECRET_HEADER}" }}\n'
    toml = "[server]\nport = 0\n" + provider.toml(more=more + 'speaks = ["chat", "completions"]')
    toml += provider.toml("own", more=more + 'speaks = ["responses"]')
    toml += provider.toml("claude", "anthropic", more=more)
    toml += provider.toml("google", "gemini", more=more)
    with Running(toml) as running:
        yield running


@pytest.fixture
def api(fronted: Running) -> Iterator[Api]:
    with Api(fronted) as client:
        yield client


# --- figures -----------------------------------------------------------------------------------------------------

FIGURES = ["-5", "-1e308", "1e400", "1e308", "99999999999999999999999", "9007199254740993", '"7"', "true", "[]", "{}", "1.5", "-0", "0.0000001", "null"]  # fmt: skip


def chat_answer(figure: str) -> tuple[str, str, bytes]:
    usage = {
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": usage}
    body["choices"] = [{"index": 0, "message": SAID, "finish_reason": "stop"}]
    return (
        "chat",
        "canned/m",
        json.dumps(body).replace(": 0", f": {figure}").replace(f'"index": {figure}', '"index": 0').encode(),
    )


def responses_answer(figure: str) -> tuple[str, str, bytes]:
    """The sum is right, so that nothing else tells that it is none."""
    usage = {
        "input_tokens": 0,
        "output_tokens": 0,
        "total_tokens": "SUM",
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    message["content"] = [{"type": "output_text", "text": "hi", "annotations": []}]  # type: ignore[assignment]
    body = {"id": "r", "object": "response", "created_at": 1, "status": "completed", "model": "m", "output": [message]}
    text = json.dumps({**body, "usage": usage}).replace(": 0", f": {figure}")
    total = str(2 * int(figure)) if figure.lstrip("-").isdigit() else figure
    return "responses", "own/m", text.replace('"SUM"', total).encode()


def messages_answer(figure: str) -> tuple[str, str, bytes]:
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    body: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
    body |= {"content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn", "usage": dict.fromkeys(names, 0)}
    return "chat", "claude/m", json.dumps(body).replace(": 0", f": {figure}").encode()


def gemini_answer(figure: str) -> tuple[str, str, bytes]:
    names = (
        "promptTokenCount",
        "candidatesTokenCount",
        "totalTokenCount",
        "cachedContentTokenCount",
        "thoughtsTokenCount",
    )
    content = {"role": "model", "parts": [{"text": "hi"}]}
    body = {"candidates": [{"content": content, "finishReason": "STOP"}], "usageMetadata": dict.fromkeys(names, 0)}
    return "chat", "google/m", json.dumps(body).replace(": 0", f": {figure}").encode()


@pytest.mark.fault("FAULT-USAGE")
@pytest.mark.security("SEC-API10-USAGE")
@pytest.mark.parametrize("made", [chat_answer, responses_answer, messages_answer, gemini_answer])
def test_figures_that_cannot_be_counts_neither_charge_a_fortune_nor_nothing(
    api: Api, provider: Changing, made: Any
) -> None:
    for figure in FIGURES:
        endpoint, model, body = made(figure)
        provider.then(json_answer(body))
        reply = api.ask(endpoint, model)
        assert reply.status == 200, (figure, reply.content)
        entry = api.gateway.usage(reply.request_id)
        for name in ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens"):
            assert type(entry[name]) is int, (figure, entry)
            assert 0 <= entry[name] <= 2 * MOST_TOKENS, (figure, entry)
        if figure in ("-5", "-1e308", "1e308", "99999999999999999999999", "9007199254740993"):
            assert entry["estimated"], (figure, entry)
            assert 0 < entry["input_tokens"] < 1000


# --- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.security("SEC-API10-REDACT")
@pytest.mark.parametrize("model", ["canned/m", "own/m", "claude/m", "google/m"])
def test_no_error_repeats_a_secret_of_ours(api: Api, provider: Changing, model: str) -> None:
    """In whatever form, at whatever moment: as a status, in a 200, in the middle of a stream, and not in the log."""
    told = f"Incorrect API key provided: {CREDENTIAL} ({SECRET_HEADER})"
    error = {"message": told, "type": told, "code": told, "param": told, "status": told}
    forms = [
        json_answer({"error": error}, status) for status in ("400 No", "401 No", "403 No", "404 No", "429 No", "500 No")
    ]
    forms += [json_answer({"type": "error", "error": error}, "400 No"), json_answer({"error": told}, "400 No")]
    forms += [json_answer({"error": error}), json_answer(told.encode(), "400 No"), json_answer([error], "400 No")]
    forms += [sse_answer({"error": error, "type": "error"}), sse_answer({"type": "error", "error": error}, named=True)]
    begun = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunk = {**begun, "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": None}]}
    forms += [sse_answer(chunk, {"error": error, "type": "error"}), sse_answer(f"data: {told}\n\n".encode())]
    for form in forms:
        for stream in (False, True):
            provider.then(form)
            reply = api.ask("chat" if model != "own/m" else "responses", model, stream=stream)
            for canary in (CREDENTIAL, SECRET_HEADER):
                assert canary.encode() not in reply.content, (form, reply.content)
                assert canary not in str(reply.headers)
    log = api.gateway._log.getvalue()
    assert CREDENTIAL not in log
    assert SECRET_HEADER not in log


# --- bytes -------------------------------------------------------------------------------------------------------


def bomb(size: int) -> bytes:
    """The beginning of a gzip of `size` bytes of zeros: each mebibyte of them is the same thousand bytes."""
    packed = zlib.compressobj(9, zlib.DEFLATED, 31)
    first = packed.compress(bytes(1 << 20)) + packed.flush(zlib.Z_FULL_FLUSH)
    block = packed.compress(bytes(1 << 20)) + packed.flush(zlib.Z_FULL_FLUSH)
    return first + block * ((size >> 20) - 1)


def peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def now_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


@pytest.mark.fault("FAULT-ENDLESS")
@pytest.mark.alone
@pytest.mark.security("SEC-BOMB-UPSTREAM")
def test_no_answer_of_a_provider_takes_much_memory(api: Api, provider: Changing) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\nconnection: close\r\n"
    packed = bomb(1 << 30)
    twice = gzip.compress(packed)
    endless = b"data: " + b"x" * (40 << 20)
    attacks = [
        head % b"application/json" + b"content-encoding: gzip\r\n\r\n" + packed,
        head % b"text/event-stream" + b"content-encoding: gzip\r\n\r\n" + packed,
        head % b"application/json" + b"content-encoding: gzip, gzip\r\n\r\n" + twice,
        head % b"application/json" + b"content-encoding: deflate\r\n\r\n" + packed,
        head % b"text/event-stream" + b"\r\n" + endless,
        head % b"application/json" + b"\r\n" + b"[" * (8 << 20),
        b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 200_000,
        b"HTTP/1.1 200 OK\r\nx-a: " + b"b" * (8 << 20),
        b"HTTP/1.1 200 " + b"O" * (8 << 20),
    ]
    allowed = max(peak_kb(), now_kb()) + 64 * 1024
    for attack in attacks:
        for stream in (False, True):
            if attack.endswith(endless) and not stream:
                continue  # an answer in one body may be as long as pictures are: ANSWER_LIMIT
            provider.then(attack)
            reply = api.ask("chat", "canned/m", stream=stream)
            if reply.status == 200:  # in a stream that has begun
                assert b"error" in reply.content
            else:
                assert reply.status == 502, reply.content
            assert len(reply.content) < 1 << 20
    assert peak_kb() < allowed, f"{(peak_kb() - allowed) // 1024} MB more than it may take"
