"""The simulator reads uploads without keeping them, and plays every form that transcripts have."""

import asyncio
import hashlib
import itertools
import json
from collections.abc import Iterable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.forms import BOUNDARY, TRANSCRIPTIONS, echo_of, form, noise
from tidegate.sim import SimServer
from tidegate.sim.errors import Refusal
from tidegate.sim.upload import Upload

SOUND = noise(70_000) + f"\r\n--{BOUNDARY[:-1]}\r\n--".encode() + noise(3000)
BODY = form(SOUND, ("include[]", "logprobs"), ("include[]", "more"), model="echo", language="zh")
KIND = f"multipart/form-data; boundary={BOUNDARY}"


def read(pieces: Iterable[bytes]) -> Upload:
    upload = Upload(KIND)
    for piece in pieces:
        upload.feed(piece)
    return upload


@given(st.lists(st.integers(0, len(BODY)), max_size=10))
def test_any_split_of_a_form_is_read_alike(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(BODY)]
    upload = read(BODY[a:b] for a, b in itertools.pairwise(bounds))
    assert upload.complete
    assert (upload.name, upload.content_type, upload.size) == ("speech.mp3", "audio/mpeg", len(SOUND))
    assert upload.sha256 == hashlib.sha256(SOUND).hexdigest()
    assert upload.as_object == {"model": "echo", "include": ["logprobs", "more"], "language": "zh"}


def test_a_form_is_read_byte_by_byte() -> None:
    body = form(b"sound\r\n--", model="echo")
    upload = read(body[at : at + 1] for at in range(len(body)))
    assert (upload.complete, upload.size, upload.field("model")) == (True, 9, "echo")


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/form-data", "multipart/mixed; boundary=x"])
def test_what_is_no_form_is_refused(kind: str) -> None:
    with pytest.raises(Refusal):
        Upload(kind)


def test_a_form_without_its_delimiter_is_refused() -> None:
    with pytest.raises(Refusal):
        read([b'{"model": "echo"}' + b" " * 100])


async def ask(sim: SimServer, client: httpx.AsyncClient, model: str, **fields: str) -> httpx.Response:
    body = form(SOUND, model=model, **fields)
    return await client.post(
        sim.base_url + TRANSCRIPTIONS.removeprefix("/v1"), content=body, headers={"content-type": KIND}
    )


def data_of(response: httpx.Response) -> list[str]:
    return [frame.removeprefix("data: ") for frame in response.text.split("\n\n") if frame]


def test_every_form_of_a_stream() -> None:
    async def scenario() -> None:
        async with SimServer() as sim, httpx.AsyncClient(trust_env=False) as client:
            official = data_of(await ask(sim, client, "echo", stream="true"))
            assert json.loads(official[-1])["text"] == echo_of(SOUND)
            chunks = data_of(
                await ask(sim, client, "echo?transcript=chunks", stream="true", stream_include_usage="true")
            )
            assert chunks[-1] == "[DONE]"
            said = [json.loads(one) for one in chunks[:-1]]
            assert {one["object"] for one in said} == {"transcription.chunk"}
            assert said[-1]["usage"]["completion_tokens"] == 3
            assert "".join(one["choices"][0]["delta"]["content"] for one in said[:-1]) == echo_of(SOUND)
            texts = data_of(await ask(sim, client, "echo?transcript=text", stream="true"))
            assert "".join(json.loads(one)["text"] for one in texts[:-1]) == echo_of(SOUND)
            raw = data_of(await ask(sim, client, "echo?transcript=raw", stream="true"))
            assert "".join(raw) == echo_of(SOUND)

    asyncio.run(scenario())


def test_faults_strike_while_an_upload_is_read() -> None:
    async def scenario() -> None:
        async with SimServer() as sim, httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx.TransportError):
                await ask(sim, client, "echo?fault=upload_reset&times=1")
            assert (await ask(sim, client, "echo?fault=upload_reset&times=1")).status_code == 200
            before = len(sim.requests)
            with pytest.raises((TimeoutError, httpx.TransportError)):
                async with asyncio.timeout(0.3):
                    await ask(sim, client, "echo?fault=upload_stall")
            assert sim.requests[before].upload is not None
            begun = asyncio.get_running_loop().time()
            assert (await ask(sim, client, "echo?intake=300000")).status_code == 200
            assert asyncio.get_running_loop().time() - begun > 0.1

    asyncio.run(scenario())


def test_requests_that_are_no_uploads_are_refused_as_a_provider_would() -> None:
    async def scenario() -> None:
        async with SimServer() as sim, httpx.AsyncClient(trust_env=False) as client:
            url = sim.base_url + "/audio/transcriptions"
            assert (await client.post(url, json={"model": "echo"})).status_code == 400
            for body, status in (
                (form(model=None), 400),
                (form(None, model="echo"), 400),
                (form(model="nothing"), 404),
            ):
                answer = await client.post(url, content=body, headers={"content-type": KIND})
                assert answer.status_code == status
                assert answer.json()["error"]["message"]

    asyncio.run(scenario())
