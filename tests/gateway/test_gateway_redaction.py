"""A provider that repeats our credential, or talks without end, does not reach the client or the log with it."""

import httpx
import pytest

from tests.support.running import Running

SECRET = "q7Rk2mWv9XcN4pLs8TzB1dYh"
GUARDED = f"""
[server]
port = 0
[providers.up]
kind = "openai-compatible"
base_url = "{{sim}}"
speaks = ["responses", "chat", "completions"]
credentials = ["{SECRET}"]
"""


@pytest.mark.security("SEC-API10-REDACT")
@pytest.mark.parametrize("status", [400, 404, 429, 500])
@pytest.mark.parametrize("member", ["message", "code"])
def test_a_credential_that_the_provider_repeats_stays_here(status: int, member: str) -> None:
    model = (
        f"up/echo?status={status}&{member}=bad+key+{SECRET}"
        if member == "message"
        else f"up/echo?status={status}&code={SECRET}"
    )
    with Running(GUARDED) as gateway, httpx.Client() as client:
        answer = client.post(f"{gateway.url}/responses", json={"model": model, "input": "x"})
        entry = gateway.usage(answer.headers["x-request-id"])
    assert answer.status_code >= 400
    assert SECRET not in answer.text
    assert SECRET not in entry.get("error", "")


def test_the_end_user_is_recorded_up_to_a_cap(gateway: Running) -> None:
    body = {"model": "sim/echo", "input": "x", "user": "u" * 100_000}
    answer = httpx.post(f"{gateway.url}/responses", json=body)
    assert len(gateway.usage(answer.headers["x-request-id"])["end_user"]) == 256
