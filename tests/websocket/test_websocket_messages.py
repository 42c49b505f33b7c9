"""What a client may send, and what it is told of everything else. The connection outlives all of it."""

import json
from typing import Any

import pytest

from tests.support.running import Running
from tests.support.sockets import Socket, check_message

WRONG: dict[str, tuple[Any, str, str | None]] = {
    "nothing": ("", "invalid_json", None),
    "no JSON": ("hello", "invalid_json", None),
    "half of a message": ('{"type":"response.create","input":"x"', "invalid_json", None),
    "a list": ("[]", "invalid_json", None),
    "a number": ("1", "invalid_json", None),
    "not a number": ('{"type":"response.create","temperature":NaN}', "invalid_json", None),
    "nested without end": ("[" * 100_000, "invalid_json", None),
    "half a surrogate pair": ('{"type":"\\ud800"}', "invalid_json", None),
    "no type": ({"model": "sim/echo", "input": "x"}, "missing_required_parameter", "type"),
    "a type that is null": ({"type": None}, "missing_required_parameter", "type"),
    "a type that is a number": ({"type": 7}, "invalid_type", "type"),
    "an unknown type": ({"type": "session.update"}, "invalid_value", "type"),
    "a type of a server": ({"type": "response.created"}, "invalid_value", "type"),
    "a long type": ({"type": "x" * 5000}, "invalid_value", "type"),
    "a lane without a name": ({"type": "response.create", "stream_id": ""}, "invalid_stream_id", "stream_id"),
    "a lane that is too long": ({"type": "response.create", "stream_id": "x" * 257}, "invalid_stream_id", "stream_id"),
    "a lane with a blank": ({"type": "response.create", "stream_id": "a b"}, "invalid_stream_id", "stream_id"),
    "a lane with a quote": ({"type": "response.create", "stream_id": 'a"b'}, "invalid_stream_id", "stream_id"),
    "a lane with a line end": ({"type": "response.create", "stream_id": "a\n"}, "invalid_stream_id", "stream_id"),
    "a lane in Chinese": ({"type": "response.create", "stream_id": "潮"}, "invalid_stream_id", "stream_id"),
    "a lane that is a number": ({"type": "response.create", "stream_id": 3}, "invalid_stream_id", "stream_id"),
    "no input": ({"type": "response.create", "model": "sim/echo"}, "missing_required_parameter", "input"),
    "an empty input": ({"type": "response.create", "input": []}, "missing_required_parameter", "input"),
    "an input of a wrong type": ({"type": "response.create", "input": [[]]}, "invalid_type", "input[0]"),
    "a wrong value": ({"type": "response.create", "input": "x", "temperature": 3}, "invalid_value", "temperature"),
    "a wrong switch": ({"type": "response.create", "input": "x", "generate": "no"}, "invalid_type", "generate"),
    "in the background": (
        {"type": "response.create", "input": "x", "background": True},
        "unsupported_parameter",
        "background",
    ),
    "a list of models that is none": (
        {"type": "response.create", "input": "x", "models": ["sim/echo", 7]},
        "invalid_type",
        "models[1]",
    ),
    "two ways to go on": (
        {"type": "response.create", "input": "x", "previous_response_id": "resp_1", "conversation": "conv_1"},
        "mutually_exclusive_parameters",
        "previous_response_id",
    ),
    "a template of the provider": (
        {"type": "response.create", "model": "sim/echo", "prompt": {"id": "pmpt_1"}},
        "unsupported_parameter",
        "prompt",
    ),
    "a steer without a target": (
        {"type": "response.steer", "input": "x"},
        "missing_required_parameter",
        "previous_response_id",
    ),
    "a steer without input": (
        {"type": "response.steer", "previous_response_id": "resp_1"},
        "missing_required_parameter",
        "input",
    ),
}


@pytest.mark.parametrize(("event", "code", "param"), WRONG.values(), ids=list(WRONG))
def test_what_is_wrong_is_told_and_the_connection_stays(
    gateway: Running, event: Any, code: str, param: str | None
) -> None:
    with Socket(gateway) as client:
        for _ in range(2):
            error = client.refusal(event)
            assert error["status"] == 400
            assert error["type"] == "invalid_request_error"
            assert (error["code"], error["param"]) == (code, param)
            assert error["stream_id"] is None
            assert len(error["message"]) < 1000
        entry = gateway.usage(error["headers"]["x-request-id"])
        assert (entry["ending"], entry["status"], entry["error"]) == ("refused", 400, code)
        assert client.response(input="fine")["status"] == "completed"


def test_an_error_names_the_lane_that_it_belongs_to(gateway: Running) -> None:
    with Socket(gateway) as client:
        assert client.refusal({"type": "response.create", "stream_id": "a"})["stream_id"] == "a"
        assert client.refusal({"type": "nonsense", "stream_id": "b"})["stream_id"] == "b"


@pytest.mark.parametrize(
    ("model", "status", "code", "type_"),
    [
        ("nobody/knows", 404, "model_not_found", "invalid_request_error"),
        ("sim/echo?status=401", 502, "upstream_auth", "server_error"),
        ("sim/echo?status=400&code=odd", 400, "odd", "invalid_request_error"),
        ("sim/echo?status=500", 502, "server_error", "server_error"),
        ("sim/echo?fault=reset&after=0", 502, "upstream_broken", "server_error"),
    ],
)
def test_what_http_would_have_answered_with_a_status_is_an_error_message(
    gateway: Running, model: str, status: int, code: str, type_: str
) -> None:
    with Socket(gateway) as client:
        error = client.error(model, input="x", stream_id="a")
        assert (error["status"], error["code"], error["type"]) == (status, code, type_)
        assert error["stream_id"] == "a"
        assert gateway.usage(error["headers"]["x-request-id"])["error"] == code
        assert client.response(input="x", stream_id="a")


def test_a_list_of_models_is_followed_as_over_http(gateway: Running) -> None:
    with Socket(gateway) as client:
        assert client.response("sim/echo?status=500", input="ebb", models=["sim/echo"])["model"] == "echo"
        assert client.error("sim/echo", input="x", models=["nobody/knows"])["param"] == "models[0]"


def test_an_error_brings_the_headers_that_it_has_over_http(gateway: Running) -> None:
    with Socket(gateway) as client:
        error = client.error("sim/echo?status=429&retry_after=7", input="x")
        assert (error["status"], error["code"]) == (429, "rate_limit_exceeded")
        assert error["headers"]["retry-after"] == "7"
        assert error["headers"]["tidegate-deployment"] == "sim/echo?status=429&retry_after=7"
        error = client.error("sim/echo?status=401", input="x")
        assert error["headers"]["x-should-retry"] == "false"


def test_a_binary_message_is_refused_and_the_connection_stays(gateway: Running) -> None:
    with Socket(gateway) as client:
        event = json.dumps({"type": "response.create", "model": "sim/echo", "input": "x"}).encode()
        for message in (event, b"", b"\x00\xff"):
            error = client.refusal(message)
            assert (error["status"], error["code"]) == (400, "binary_message")
        client.socket.send([event[:10], event[10:]])
        assert client.event()["error"]["code"] == "binary_message"
        assert client.response(input="x")


def test_a_message_in_pieces_is_one_message(gateway: Running) -> None:
    event = json.dumps({"type": "response.create", "model": "sim/echo", "input": "潮汐" * 100}, ensure_ascii=False)
    with Socket(gateway) as client:
        client.socket.send(list(event))
        assert client.rest()[-1]["response"]["output"][0]["content"][0]["text"] == "潮汐" * 100
        client.socket.send(["", event, ""])
        assert client.rest()[-1]["type"] == "response.completed"


@pytest.mark.parametrize("lane", [None, "main"])
def test_steering_is_refused_with_the_input_given_back(gateway: Running, lane: str | None) -> None:
    said = [{"type": "message", "role": "user", "content": "rather this"}]
    with Socket(gateway) as client:
        client.create("sim/lorem?chunks=1&gap=40", input="x", stream_id=lane if lane else ...)
        running = client.event()["response"]["id"]
        client.send({"type": "response.steer", "previous_response_id": running, "input": said})
        events = client.rest()
        (failed,) = [event for event in events if event["type"] == "response.steer.failed"]
        check_message(failed)
        assert failed["error"]["code"] == "steering_not_supported"
        assert failed["error"]["type"] == "invalid_request_error"
        assert failed["steer"] == {"previous_response_id": running, "input": said}
        assert failed.get("stream_id") == lane
        assert events[-1]["type"] == "response.completed"
        # After its end, and of a response that nobody knows.
        for target, named in ((running, lane), ("resp_unknown", None)):
            client.send({"type": "response.steer", "previous_response_id": target, "input": "x"})
            failed = client.event()
            assert failed["error"]["code"] == "steering_not_supported"
            assert failed.get("stream_id") == named
