"""Exact paths, methods and media types; and every error in the OpenAI envelope with a request id."""

import json
import re

import pytest

from tests.server.conftest import TIGHT
from tests.support.raw import HELLO, Raw, frames, get, post, request
from tests.support.running import Running, wait_for
from tidegate.config.schema import Document

STREAM = b'{"model":"sim/lorem?chunks=3","input":"x","stream":true}'
NEW_ID = re.compile(r"req_[0-9a-f]{32}")


@pytest.mark.row("S1")
def test_responses_answers_at_its_exact_path(gateway: Running) -> None:
    with Raw(gateway) as client:
        assert client.ask(post(path="/v1/responses")).json["object"] == "response"
        assert client.ask(post(path="/v1/responses?api-version=1")).status == 200


@pytest.mark.row("S1")
@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/v1/responses/", "/v1/responses"),
        ("//v1/responses", "/v1/responses"),
        ("/v1//responses", "/v1/responses"),
        ("/v1/v1/responses", "/v1/responses"),
        ("/responses", "/v1/responses"),
        ("/api/v1/responses", "/v1/responses"),
        ("/v1/response", "/v1/responses"),
        ("/V1/Responses", "/v1/responses"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/chat/completions/", "/v1/chat/completions"),
        ("/completions", "/v1/completions"),
        ("/nowhere/at/all", "/openapi.json"),
    ],
)
def test_any_other_path_is_no_redirect_but_a_404_that_names_the_right_one(
    gateway: Running, path: str, named: str
) -> None:
    with Raw(gateway) as client:
        refusal = client.ask(post(path=path))
        assert refusal.status == 404
        assert refusal.code == "unknown_path"
        assert re.search(rf"{re.escape(named)}\b", refusal.error["message"])
        assert not refusal.all("location")


@pytest.mark.parametrize(
    "path",
    ["/v1/v1/messages", "/v1beta/v1/models/sim/echo:generateContent", "/v1/v1beta/models/sim/echo:generateContent"],
)
def test_a_version_in_the_base_url_of_a_client_that_adds_its_own_is_told(gateway: Running, path: str) -> None:
    with Raw(gateway) as client:
        refusal = client.ask(post(path=path))
        assert refusal.status == 404
        assert "version twice" in refusal.body.decode()


@pytest.mark.parametrize("prefix", ["/v1", "/v1beta"])
@pytest.mark.parametrize("method", ["batchGenerateContent", "predict"])
def test_methods_of_google_that_are_not_offered_are_a_404(gateway: Running, prefix: str, method: str) -> None:
    with Raw(gateway) as client:
        refusal = client.ask(post(path=f"{prefix}/models/sim/echo:{method}"))
        assert refusal.status == 404
        assert "does not offer it" in refusal.body.decode()


@pytest.mark.parametrize(
    "path", ["/v1/moderations", "/v1/messages/batches", "/v1/messages/batches/b1/results", "/v1/files"]
)
def test_paths_of_neighbouring_apis_are_said_not_to_be_offered(gateway: Running, path: str) -> None:
    with Raw(gateway) as client:
        refusal = client.ask(post(path=path))
        assert refusal.status == 404
        assert "This version does not offer it." in refusal.body.decode()


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/v1beta/models/sim/echo:generateContents", "'generateContents'. Did you mean 'generateContent'?"),
        ("/v1/models/sim/echo:streamGenerateContents", "Did you mean 'streamGenerateContent'?"),
        ("/v1beta/models/sim/echo:batchEmbedContent", "Did you mean 'batchEmbedContents'?"),
        ("/v1beta/models/sim/echo:tune", "Methods are: generateContent, streamGenerateContent, embedContent,"),
    ],
)
def test_a_mistyped_method_of_google_is_told_with_the_nearest(gateway: Running, path: str, told: str) -> None:
    with Raw(gateway) as client:
        refusal = client.ask(post(path=path))
        assert refusal.status == 404
        assert told in refusal.body.decode()
        model = client.ask(post(path="/v1/models/ollama/llama3:latest"))
        assert (model.status, set(model["allow"].split(", "))) == (405, {"GET", "HEAD"})


@pytest.mark.parametrize("prefix", ["/v1", "/v1beta"])
def test_an_answer_of_geminis_api_is_asked_for_with_post(gateway: Running, prefix: str) -> None:
    with Raw(gateway) as client:
        refusal = client.ask(get(f"{prefix}/models/sim/echo:generateContent"))
        assert (refusal.status, refusal["allow"]) == (405, "POST")


def test_a_path_in_other_spelling_is_told_the_right_one(gateway: Running) -> None:
    with Raw(gateway) as client:
        refusal = client.ask(post(path="/v1/%72esponses"))
        assert refusal.status == 400
        assert "/v1/responses" in refusal.error["message"]


@pytest.mark.parametrize(
    "path", ["/%", "/%zz", "/%ff%fe", "/%00", "/a#b", "/..", "/v1/models/..%2f..%2fetc", "/?", "/v1/models/"]
)
def test_no_path_is_our_fault(gateway: Running, path: str) -> None:
    with Raw(gateway) as client:
        assert client.ask(get(path)).status in (200, 400, 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/responses", {"POST"}),
        ("PUT", "/v1/chat/completions", {"POST"}),
        ("DELETE", "/v1/completions", {"POST"}),
        ("OPTIONS", "/v1/responses", {"POST"}),
        ("POST", "/v1/models", {"GET", "HEAD"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method_gets_405_and_what_is_allowed(
    gateway: Running, method: str, path: str, allowed: set[str]
) -> None:
    with Raw(gateway) as client:
        refusal = client.ask(request(method, path))
        assert refusal.status == 405
        assert refusal.code == "method_not_allowed"
        assert set(refusal["allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/messages", 405),
        ("DELETE", "/v1/messages/count_tokens", 405),
        ("GET", "/v1/messages/batches", 404),
    ],
)
def test_errors_below_anthropics_paths_are_anthropics(gateway: Running, method: str, path: str, status: int) -> None:
    with Raw(gateway) as client:
        refusal = client.ask(request(method, path))
    assert refusal.status == status
    body = json.loads(refusal.body)
    assert body["type"] == "error"
    assert body["error"]["type"] == {405: "invalid_request_error", 404: "not_found_error"}[status]
    assert path in body["error"]["message"]
    assert body["request_id"] == refusal["x-request-id"]


@pytest.mark.row("S11")
@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Content-Type: application/json",),
        ("Content-Type: application/json; charset=utf-8",),
        ("Content-Type: Application/JSON;charset=UTF-8",),
        ("content-type: text/plain",),
        ("Content-Type: application/x-www-form-urlencoded",),
        ("Content-Type: ",),
        ("Content-Type: nonsense;;;",),
    ],
)
def test_a_json_body_is_read_whatever_its_media_type_says(gateway: Running, headers: tuple[str, ...]) -> None:
    with Raw(gateway) as client:
        answer = client.ask(post(HELLO, *headers))
        assert answer.status == 200
        assert answer["content-type"] == "application/json"


@pytest.mark.row("S12")
@pytest.mark.parametrize(
    "accept", ["application/json", "text/event-stream", "*/*", "text/html", "application/xml;q=0.1", ""]
)
def test_stream_true_decides_and_not_accept(gateway: Running, accept: str) -> None:
    with Raw(gateway) as client:
        answer = client.ask(post(STREAM, f"Accept: {accept}"))
        assert answer.status == 200
        assert answer["content-type"] == "text/event-stream; charset=utf-8"
        assert frames(answer.body)[-1].startswith(b"event: response.completed\n")
        whole = client.ask(post(HELLO, f"Accept: {accept}"))
        assert whole["content-type"] == "application/json"


@pytest.mark.row("S13")
def test_the_default_address_is_port_8080_of_this_machine() -> None:
    server = Document().server
    assert (server.host, server.port) == ("127.0.0.1", 8080)


# -- x-request-id -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (post(HELLO, "x-request-id: {}"), 200),
        (post(STREAM, "x-request-id: {}"), 200),
        (post(b"{", "x-request-id: {}"), 400),
        (post(b'{"model":"nowhere/x","input":"x"}', "x-request-id: {}"), 404),
        (get("/healthz", "x-request-id: {}"), 200),
        (get("/nowhere", "x-request-id: {}"), 404),
        (get("/healthz", "x-request-id: {}", host="evil.example"), 403),
        (request("POST", "/v1/responses", "x-request-id: {}", "Content-Length: 65537"), 413),
        (request("POST", "/v1/responses", "x-request-id: {}", "Content-Length: 5"), 408),
        (get("/healthz", "x-request-id: {}", "X-Long: " + "a" * 9000), 431),
        (get("/healthz", "x-request-id: {}", "X: \x01"), 400),
        (post(HELLO, "x-request-id: {}", "Expect: x"), 417),
    ],
)
def test_every_answer_has_a_request_id_and_keeps_a_sane_one(tight: Running, sent: bytes, status: int) -> None:
    for given, kept in (
        ("my-id_1:2.3", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("", False),
        ("a b", False),
        ("a\tb", False),
        ("<script>", False),
        ("\xff", False),
        ("a,b", False),
    ):
        with Raw(tight) as client:
            answer = client.ask(sent.replace(b"{}", given.encode("latin-1")))
            assert answer.status == status
            if status >= 400:
                assert answer.error
            if kept:
                assert answer["x-request-id"] == given
            else:
                assert NEW_ID.fullmatch(answer["x-request-id"])
        if status in (408,):
            break  # each takes its 300 ms


def test_request_ids_differ(gateway: Running) -> None:
    with Raw(gateway) as client:
        ids = {client.ask(sent)["x-request-id"] for sent in [post(), get("/healthz"), get("/nowhere")] * 5}
    assert len(ids) == 15


def test_the_request_id_stands_in_the_request_line(gateway: Running) -> None:
    with Raw(gateway) as client:
        made = client.ask(post())["x-request-id"]
        client.ask(post(STREAM, "x-request-id: mine"))
    assert gateway.usage(made)["status"] == 200
    assert gateway.usage("mine")["stream"] is True


def test_refusals_before_the_body_leave_no_request_line_of_another_request() -> None:
    with Running(TIGHT) as gateway, Raw(gateway) as client:
        assert client.ask(post(b"{", "x-request-id: one")).status == 400
        assert wait_for(lambda: [one["request_id"] for one in gateway.log_lines if one["event"] == "request"]) == [
            "one"
        ]
