"""Who reads a stream that is kept: what he is given, and when."""

import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.stored.conftest import KEPT
from tests.support.api import Api
from tests.support.raw import Raw, get, post
from tests.support.running import Running

GRACE = {"tidegate-resume-grace": "5s"}
GEMINI = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
CHAT = {"messages": [{"role": "user", "content": "hi"}], "stream": True}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One that keeps streams alive after a second of silence."""
    toml = KEPT.replace("port = 0\n", 'port = 0\nstream_ping = "1s"\n').replace(
        "{data}", str(tmp_path_factory.mktemp("data"))
    )
    with Running(toml) as running:
        yield running


# -- long frames ------------------------------------------------------------------------------------------------------


def test_an_answer_whose_last_event_is_longer_than_a_providers_frames_may_be_is_read_again(keeping: Running) -> None:
    with Api(keeping) as api:
        first = api.post("/v1/responses", {"model": "lab/lorem?chunks=90&size=100000", "input": "hi", "stream": True})
        assert first.kinds[-1] == "response.completed"
        name, last = first.events[0]["response"]["id"], first.events[-1]["sequence_number"]
        assert max(len(frame.raw) for frame in first.frames) > 8 * 1024 * 1024
        assert api.get(f"/v1/responses/{name}").json == first.events[-1]["response"]
        for after in (last - 1, last):
            rest = api.get(f"/v1/responses/{name}?stream=true&starting_after={after}")
            assert rest.content == b"".join(frame.raw for frame in first.frames[after + 1 :])


# -- Gemini's arrays --------------------------------------------------------------------------------------------------


def test_an_array_of_geminis_is_picked_up_as_an_array(keeping: Running) -> None:
    with Api(keeping) as api:
        address = "/v1beta/models/lab%2Florem%3Fchunks=6:streamGenerateContent"
        whole = api.post(address, GEMINI, headers=GRACE)
        name = whole.headers["tidegate-stream"]
        again = api.get(f"/v1/streams/{name}")
        assert (again.content, again.headers["content-type"]) == (whole.content, "application/json; charset=utf-8")
        for after in range(len(whole.json) + 1):
            rest = api.get(f"/v1/streams/{name}?starting_after={after}")
            assert rest.json == whole.json[after + 1 :]
            assert rest.headers["content-type"] == "application/json; charset=utf-8"


def test_an_array_that_is_deleted_while_it_is_followed_ends_as_an_array(keeping: Running) -> None:
    address = "/v1beta/models/lab%2Florem%3Fchunks=1000%26gap=20:streamGenerateContent"
    with (
        Api(keeping) as api,
        Api(keeping) as other,
        api.http.stream("POST", address, json=GEMINI, headers=GRACE) as going,
    ):
        name = going.headers["tidegate-stream"]
        with other.http.stream("GET", f"/v1/streams/{name}?starting_after=0") as followed:
            pieces = followed.iter_raw()
            body = b""
            while b"candidates" not in body:
                body += next(pieces)
            with Api(keeping) as third:
                assert third.http.delete(f"/v1/streams/{name}").status_code == 200
            body += b"".join(pieces)
    found = json.loads(body)
    assert "error" in found[-1]
    assert all("error" not in one for one in found[:-1])


# -- silence ----------------------------------------------------------------------------------------------------------


def head_at_once(client: Raw, sent: bytes) -> None:
    began = time.monotonic()
    assert client.send(sent).response(head_only=True).status == 200
    assert time.monotonic() - began < 0.8


def test_who_follows_a_silent_response_has_its_head_at_once_and_is_kept_alive(quick: Running) -> None:
    with Api(quick) as api:
        body = {"model": "lab/echo?delay=1500", "input": "hi", "background": True}
        name = api.post("/v1/responses", body).json["id"]
        with Raw(quick) as client:
            head_at_once(client, get(f"/v1/responses/{name}?stream=true"))
            found = client.until(b"0\r\n\r\n")
        assert found.index(b": keepalive\n\n") < found.index(b"response.created")
        assert b"keepalive" not in api.get(f"/v1/responses/{name}?stream=true").content


@pytest.mark.parametrize(
    ("path", "body", "ping"),
    [
        ("/v1/responses", {"input": "hi", "stream": True}, b'{"type":"keepalive","sequence_number":'),
        ("/v1/chat/completions", CHAT, b": keepalive\n\n"),
    ],
)
def test_who_repeats_a_silent_stream_has_its_head_at_once_and_is_kept_alive(
    quick: Running, path: str, body: dict[str, Any], ping: bytes
) -> None:
    sent = json.dumps({"model": "lab/lorem?chunks=9&fault=stall&after=3", **body}).encode()
    asked = post(sent, f"idempotency-key: {secrets.token_hex(8)}", path=path)
    with Raw(quick) as first, Raw(quick) as second:
        seen = first.send(asked).response(head_only=True)
        assert first.chunk()
        head_at_once(second, asked)
        found = second.until(ping)
    assert seen.all("tidegate-stream")
    assert b"data: " in found[: found.index(b": keepalive")]


# -- profiles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "line", "done"), [("openai", True, False), ("kkiai", False, True), ("openresponses", True, True)]
)
def test_a_stream_that_is_made_of_an_answer_follows_the_profile(
    keeping: Running, profile: str, line: bool, done: bool
) -> None:
    with Api(keeping) as api:
        name = api.post("/v1/responses", {"model": "openai/echo", "input": "hi"}).json["id"]
        made = api.http.get(f"/v1/responses/{name}?stream=true", headers={"tidegate-profile": profile}).content
        odd = api.http.get(f"/v1/responses/{name}?stream=true", headers={"tidegate-profile": "odd"})
    assert (b"event: response.completed" in made) is line
    assert made.endswith(b"data: [DONE]\n\n") is done
    assert (odd.status_code, odd.json()["error"]["code"]) == (400, "invalid_profile")
