"""The cold lane: its own routes, and any ASGI application put in its place."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.support.raw import HELLO, Raw, chunk, get, post, request
from tests.support.running import SIM_ONLY, Running, wait_for
from tidegate.gateway.dialects import CLIENT_DIALECTS
from tidegate.server.cycle import AsgiApp, Message, Receive, Scope, Send


@pytest.fixture(scope="module")
def own() -> Iterator[Running]:
    with Running() as running:
        yield running


@pytest.fixture
def serve(own: Running) -> Iterator[Any]:
    """`serve(app)` puts an application in the place of ours."""
    application: Any = own.server.config.app
    cold = application.cold

    def put(app: AsgiApp) -> Running:
        application.cold = app
        return own

    yield put
    application.cold = cold


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def part(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


# -- our own routes ---------------------------------------------------------------------------------------------


def test_health_readiness_and_the_index_are_json(gateway: Running) -> None:
    with Raw(gateway) as client:
        assert client.ask(get("/healthz")).json == {"status": "ok"}
        assert client.ask(get("/readyz")).json == {"status": "ok"}
        assert client.ask(get("/")).json["api"] == "/v1"


def test_metrics_are_in_the_format_of_prometheus(gateway: Running) -> None:
    with Raw(gateway) as client:
        client.ask(post())
        answer = client.ask(get("/metrics"))
        assert answer["content-type"].startswith("text/plain; version=")
        for line in answer.body.decode().splitlines():
            assert re.fullmatch(r'# (HELP|TYPE) \w+ .+|\w+(\{(\w+="[^"]*",?)+\})? [0-9.e+-]+', line), line
        assert b"\ntidegate_exchanges_running " in answer.body


def test_the_openapi_document_is_valid_and_has_every_hot_route(gateway: Running) -> None:
    with Raw(gateway) as client:
        document = client.ask(get("/openapi.json")).json
    assert document["openapi"].startswith("3.1.")
    assert set(document["info"]) >= {"title", "version"}
    for dialect in CLIENT_DIALECTS:
        assert "post" in document["paths"][dialect.path]
    for path, item in document["paths"].items():
        assert path.startswith("/")
        for operation in item.values():
            assert operation["responses"]
            placeholders = set(re.findall(r"\{(\w+)\}", path))
            given = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path" and one["required"]}
            assert placeholders == given
    for name in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(name)
    for reference in re.findall(r"'\$ref': '([^']+)'", str(document)):
        found = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def test_the_openapi_document_has_every_route_of_the_api(gateway: Running) -> None:
    application: Any = gateway.server.config.app
    served = {
        f"{route.method} {re.sub(r':path}', '}', route.path)}"
        for route in application.cold_routes
        if route.path.startswith("/v1") and "}:" not in route.path
    }
    with Raw(gateway) as client:
        paths = client.ask(get("/openapi.json")).json["paths"]
    described = {f"{method.upper()} {path}" for path, item in paths.items() for method in item}
    websocket = {"GET /v1/responses"}
    assert {name for name in described if "/v1" in name and "}:" not in name} - websocket == served


@pytest.mark.parametrize(
    ("path", "good", "bad"),
    [
        ("/v1/responses", {"input": "x", "temperature": 1}, {"input": "x", "temperature": 3}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}, {"messages": 5}),
        ("/v1/completions", {"prompt": "x", "n": 1}, {"prompt": "x", "n": "many"}),
    ],
)
def test_the_openapi_document_and_the_gateway_judge_a_body_alike(
    gateway: Running, path: str, good: Any, bad: Any
) -> None:
    with Raw(gateway) as client:
        document = client.ask(get("/openapi.json")).json
        schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        validator = jsonschema.Draft202012Validator({**schema, "components": document["components"]})
        for body, fine in ((good, True), (bad, False)):
            body = {"model": "sim/echo", **body}
            assert validator.is_valid(body) is fine
            assert client.ask(post(json.dumps(body).encode(), path=path)).status == (200 if fine else 400)


# -- answers of an application ----------------------------------------------------------------------------------


def test_an_answer_of_known_length_goes_out_as_it_is(serve: Any) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(201, (b"content-length", b"5"), (b"x-own", b"yes")))
        await send(part(b"12", more=True))
        await send(part(b"345"))

    with Raw(serve(app)) as client:
        for _ in range(2):
            answer = client.ask(get("/"))
            assert (answer.status, answer.body, answer["x-own"]) == (201, b"12345", "yes")
            assert answer["x-request-id"]


def test_an_answer_of_unknown_length_is_chunked(serve: Any) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        for number in range(3):
            await send(part(b"piece %d" % number, more=True))
        await send(part(b""))

    with Raw(serve(app)) as client:
        for _ in range(2):
            assert client.ask(get("/")).chunks == [b"piece 0", b"piece 1", b"piece 2"]
        head = client.ask(request("HEAD", "/"))
        assert head.status == 200
        assert not head.closes
        old = client.ask(b"GET / HTTP/1.0\r\n\r\n")
        assert old.closes
        assert old.body == b"piece 0piece 1piece 2"


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_has_none_whatever_the_application_sends(serve: Any, status: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(status))
        await send(part(b"not allowed"))

    with Raw(serve(app)) as client:
        for _ in range(2):
            answer = client.ask(get("/"))
            assert answer.status == status
            assert not answer.all("transfer-encoding")


def test_the_application_sees_the_request(serve: Any) -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, await receive()))
        await send(start())
        await send(part(b""))

    head = b"PATCH /a%20b?c=%20d HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\nX-A: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    with Raw(serve(app)) as client:
        client.ask(head + chunk(b"abc") + chunk(b"def") + b"0\r\n\r\n")
    scope, message = seen[0]
    assert message == {"type": "http.request", "body": b"abcdef", "more_body": False}
    assert scope["type"] == "http"
    assert scope["method"] == "PATCH"
    assert scope["path"] == "/a b"
    assert scope["raw_path"] == b"/a%20b"
    assert scope["query_string"] == b"c=%20d"
    assert scope["http_version"] == "1.1"
    assert [value for name, value in scope["headers"] if name == b"x-a"] == [b"1", b"2"]
    assert scope["client"][0] == "127.0.0.1"


# -- what goes wrong in one -------------------------------------------------------------------------------------


async def raises_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("boom")


async def raises_after_its_head(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start(200, (b"content-length", b"5")))
    raise RuntimeError("boom")


async def returns_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    return


async def returns_after_its_head(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start())


async def sends_a_body_first(scope: Scope, receive: Receive, send: Send) -> None:
    await send(part(b"x"))


async def starts_twice(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start())
    await send(start())


async def sends_nonsense(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.nonsense"})


async def splits_a_header(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start(200, (b"x-a", b"1\r\nx-injected: 2")))
    await send(part(b"x"))


async def sends_less_than_it_said(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start(200, (b"content-length", b"5")))
    await send(part(b"1234"))


async def sends_more_than_it_said(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start(200, (b"content-length", b"3")))
    await send(part(b"1234"))


BROKEN = [
    raises_at_once,
    raises_after_its_head,
    returns_at_once,
    returns_after_its_head,
    sends_a_body_first,
    starts_twice,
    sends_nonsense,
    splits_a_header,
    sends_less_than_it_said,
    sends_more_than_it_said,
]


@pytest.mark.parametrize("app", BROKEN)
def test_a_broken_application_is_a_500_in_the_envelope_and_a_log_line(serve: Any, app: AsgiApp) -> None:
    gateway = serve(app)
    path = f"/{getattr(app, '__name__', '')}"
    with Raw(gateway) as client:
        for _ in range(2):
            answer = client.ask(get(path))
            assert answer.status == 500
            assert answer.code == "internal_error"
            assert "boom" not in answer.error["message"]
            assert not answer.all("x-injected")
    lines = [line for line in gateway.log_lines if line["event"] == "application_failed" and line["path"] == path]
    assert len(lines) == 2
    assert "Traceback" in lines[0]["exception"]


def test_the_500_for_head_has_no_body(serve: Any) -> None:
    with Raw(serve(raises_at_once)) as client:
        assert client.ask(request("HEAD", "/")).status == 500
        assert client.ask(request("HEAD", "/")).status == 500
        assert client.buffer == b""


def test_an_application_that_breaks_in_its_body_is_cut_and_never_looks_complete(serve: Any) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(part(b"half", more=True))
        raise RuntimeError("boom")

    with Raw(serve(app)) as client:
        client.send(get("/"))
        sent = client.rest()
        assert b"4\r\nhalf\r\n" in sent or sent == b""
        assert not sent.endswith(b"0\r\n\r\n")


@pytest.mark.security("SEC-API8-DEBUG")
def test_a_broken_route_of_ours_is_a_500_in_the_envelope(own: Running) -> None:
    async def boom(request: Request) -> Response:
        raise RuntimeError("boom")

    application: Any = own.server.config.app
    application.cold.router.routes.append(Route("/boom", boom))
    with Raw(own) as client:
        answer = client.ask(get("/boom"))
        assert answer.status == 500
        assert answer.code == "internal_error"
        assert client.ask(get("/healthz")).status == 200
    assert [line for line in own.log_lines if line["event"] == "application_failed" and line["path"] == "/boom"]


@pytest.mark.parametrize("leave", [Raw.reset, Raw.finish_sending])
def test_an_application_is_told_that_its_client_has_gone(serve: Any, leave: Any) -> None:
    told: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(start())
        await send(part(b"x", more=True))
        told.append(await receive())
        await send(part(b"to nobody"))

    gateway = serve(app)
    with Raw(gateway) as client:
        client.send(get("/")).until(b"x\r\n")
        leave(client)
        assert wait_for(lambda: told) == [{"type": "http.disconnect"}]
    assert wait_for(lambda: not gateway.server.server_state.tasks)


def test_an_application_waits_for_a_client_that_does_not_read(serve: Any) -> None:
    sent: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        for number in range(1000):
            await send(part(b"x" * 65536, more=True))
            sent.append(number)
        await send(part(b""))

    with Raw(serve(app), receive_buffer=65536) as client:
        client.send(get("/"))
        wait_for(lambda: sent)
        assert not wait_for(lambda: len(sent) > 400, 0.5)
        assert len(client.response().body) == 65_536_000


def test_a_cold_task_that_runs_out_of_grace_is_ended_in_the_envelope() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(60)

    with Running(SIM_ONLY.replace("[server]", '[server]\ndrain = "200ms"')) as gateway:
        application: Any = gateway.server.config.app
        application.cold = app
        with Raw(gateway) as client:
            client.send(get("/"))
            wait_for(lambda: gateway.server.server_state.tasks)
            gateway.server.should_exit = True
            answer = client.response()
            assert answer.status == 503
            assert answer.code == "gateway_shutting_down"
            assert answer.closes


def test_both_lanes_take_turns_on_one_connection(gateway: Running) -> None:
    with Raw(gateway) as client:
        for _ in range(3):
            assert client.ask(get("/v1/models")).json["object"] == "list"
            assert client.ask(post(HELLO)).json["object"] == "response"
