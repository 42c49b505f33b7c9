"""What a provider says is wrong reaches a client of another API in the terms of that API."""

from typing import Any

import pytest

from tests.support.api import Api
from tests.support.canned import Canned, json_answer, sse_answer
from tests.support.running import Running

ANTHROPIC = {"model": "canned/m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
CHAT = {"model": "canned/m", "messages": [{"role": "user", "content": "x"}], "reasoning_effort": "high"}
TOML = """
[server]
port = 0
[routing]
retries = 0
eject_after = 0
"""


def refusal(status: str = "400 Bad Request", **error: Any) -> bytes:
    return json_answer({"error": {"type": "invalid_request_error", **error}}, status)


def asked(body: dict[str, Any], path: str, kind: str, speaks: str, *answers: bytes) -> list[Any]:
    """The answer to each of the requests, from a provider that gives `answers` in turn."""
    more = f'speaks = ["{speaks}"]\ncredentials = ["sk-0123456789abcdef"]'
    with (
        Canned(*answers) as provider,
        Running(TOML + provider.toml(kind=kind, more=more)) as gateway,
        Api(gateway) as api,
    ):
        return [api.post(path, body) for _ in answers]


def test_an_openai_client_reads_its_own_names_of_members() -> None:
    error = {"message": "Unsupported value.", "param": "reasoning.effort", "code": "unsupported_value"}
    (reply,) = asked(CHAT, "/v1/chat/completions", "openai", "responses", refusal(**error))
    assert (reply.status, reply.error["param"], reply.error["code"]) == (400, "reasoning_effort", "unsupported_value")
    assert reply.error["message"] == "Unsupported value. (The provider says so of 'reasoning.effort'.)"


def test_so_it_does_where_the_status_says_that_all_is_well() -> None:
    body = {"model": "canned/m", "input": "x", "max_output_tokens": 9}
    (reply,) = asked(body, "/v1/responses", "openai", "chat", refusal("200 OK", message="No.", param="max_tokens"))
    assert (reply.status, reply.error["param"]) == (400, "max_output_tokens")


def test_so_it_does_in_a_stream() -> None:
    error = {
        "type": "error",
        "code": "invalid_prompt",
        "message": "No.",
        "param": "input[0].content",
        "sequence_number": 0,
    }
    (reply,) = asked(
        {**CHAT, "stream": True}, "/v1/chat/completions", "openai", "responses", sse_answer(error, named=True)
    )
    assert (reply.error["param"], reply.error["message"]) == (
        "messages",
        "No. (The provider says so of 'input[0].content'.)",
    )


def test_an_unknown_model_of_anthropics_has_openais_type() -> None:
    gone = json_answer({"type": "error", "error": {"type": "not_found_error", "message": "model: m"}}, "404 Not Found")
    (reply,) = asked(CHAT, "/v1/chat/completions", "anthropic", "messages", gone)
    assert (reply.status, reply.error["type"], reply.error["code"]) == (404, "invalid_request_error", "model_not_found")
    (reply,) = asked(ANTHROPIC, "/v1/messages", "anthropic", "messages", gone)
    assert (reply.status, reply.json["error"]["type"]) == (404, "not_found_error")


OPENAI = "This model's maximum context length is 128000 tokens. However, your messages resulted in 130001 tokens."
VLLM = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4000 in the messages, 1000 in the completion)."
GOOGLE = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
OWN = "prompt is too long: 250000 tokens > 200000 maximum"


@pytest.mark.parametrize(
    ("kind", "speaks", "answer", "message"),
    [
        ("openai", "responses", refusal(message=OPENAI, code="context_length_exceeded"), f"prompt is too long: 130001 tokens > 128000 maximum ({OPENAI})"),
        ("openai", "chat", refusal(message=VLLM, code="context_length_exceeded"), f"prompt is too long: 5000 tokens > 4096 maximum ({VLLM})"),
        ("openai", "responses", refusal(message="Your input exceeds the context window of gpt-5.", code="context_length_exceeded"), "prompt is too long: Your input exceeds the context window of gpt-5."),
        ("gemini", "gemini", json_answer({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": GOOGLE}}, "400 Bad Request"), f"prompt is too long: 1200000 tokens > 1048576 maximum ({GOOGLE})"),
        ("anthropic", "messages", json_answer({"type": "error", "error": {"type": "invalid_request_error", "message": OWN}}, "400 Bad Request"), OWN),
    ],
)  # fmt: skip
def test_a_context_that_is_too_long_is_told_in_the_words_that_anthropics_clients_look_for(
    kind: str, speaks: str, answer: bytes, message: str
) -> None:
    (reply,) = asked(ANTHROPIC, "/v1/messages", kind, speaks, answer)
    assert (reply.status, reply.json["error"]) == (400, {"type": "invalid_request_error", "message": message})
