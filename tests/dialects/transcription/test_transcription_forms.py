"""The fields of a transcription and of a translation: what is checked, and what goes on to the provider."""

from typing import Any

import pytest

from tests.dialects.common import call
from tests.dialects.transcription.playing import fields_of, parse, to
from tidegate.dialects.dialect import Quirks
from tidegate.wire.errors import InvalidRequest, TidegateError, UnsupportedParameter, WireError


def refused(*fields: tuple[str, str], **given: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(*fields, **given)
    return caught.value


@pytest.mark.parametrize("form", ["json", "text", "srt", "verbose_json", "vtt", "diarized_json"])
def test_every_format_is_taken(form: str) -> None:
    assert ("response_format", form) in fields_of(parse(response_format=form).upload(to()))


@pytest.mark.parametrize(
    ("value", "streams"), [("true", True), ("1", True), ("True", True), ("false", False), ("0", False)]
)
def test_stream_is_read_however_it_is_written(value: str, streams: bool) -> None:
    request = parse(stream=value)
    assert request.wants_stream is streams
    assert fields_of(request.upload(to())) == [("model", "tide-1"), *([("stream", "true")] if streams else [])]


@pytest.mark.parametrize(
    ("fields", "param", "code", "word"),
    [
        ([("response_format", "mp3")], "response_format", "invalid_value", "'verbose_json'"),
        ([("temperature", "1.01")], "temperature", "invalid_value", "between 0 and 1"),
        ([("temperature", "-0.1")], "temperature", "invalid_value", "between 0 and 1"),
        ([("temperature", "nan")], "temperature", "invalid_type", "a number"),
        ([("temperature", "1e999")], "temperature", "invalid_type", "a number"),
        ([("temperature", "warm")], "temperature", "invalid_type", "a number"),
        ([("temperature", "")], "temperature", "invalid_type", "a number"),
        ([("temperature", "0"), ("temperature", "1")], "temperature", "invalid_value", "only one"),
        ([("stream", "yes")], "stream", "invalid_type", "a boolean"),
        ([("stream", "")], "stream", "invalid_type", "a boolean"),
        ([("stream[]", "true")], "stream[]", "invalid_value", "one value"),
        ([("model", "a"), ("model", "b")], "model", "invalid_value", "only one"),
        ([("timestamp_granularities[]", "word")], "timestamp_granularities", "invalid_value", "verbose_json"),
        (
            [("timestamp_granularities[]", "letter"), ("response_format", "verbose_json")],
            "timestamp_granularities[0]",
            "invalid_value",
            "'segment'",
        ),
        ([("chunking_strategy", "sometimes")], "chunking_strategy", "invalid_value", "'auto'"),
        ([("chunking_strategy", "[1]")], "chunking_strategy", "invalid_value", "'auto'"),
        ([("stream", "true"), ("response_format", "srt")], "response_format", "invalid_value", "no room for 'srt'"),
        ([("stream", "true"), ("response_format", "verbose_json")], "response_format", "invalid_value", "no room"),
    ],
)
def test_a_wrong_value_is_named(fields: list[tuple[str, str]], param: str, code: str, word: str) -> None:
    error = refused(*fields)
    assert error.http_status == 400
    assert (error.param, error.code) == (param, code)
    assert word in error.message


@pytest.mark.parametrize(("data", "code"), [(None, "missing_required_parameter"), (b"", "invalid_value")])
def test_a_form_without_sound_is_refused(data: bytes | None, code: str) -> None:
    error = refused(data=data, model="x")
    assert (error.param, error.code) == ("file", code)


def test_a_translation_does_not_stream() -> None:
    assert refused(stream="true", translate=True).param == "stream"
    assert refused(response_format="diarized_json", translate=True).param == "response_format"
    assert fields_of(parse(stream="false", translate=True).upload(to())) == [("model", "tide-1")]


def test_what_nobody_knows_travels_on() -> None:
    given = [
        ("hotwords", "ebb"),
        ("include[]", "logprobs"),
        ("timestamp_granularities[]", "word"),
        ("timestamp_granularities[]", "segment"),
        ("chunking_strategy[type]", "server_vad"),
        ("keywords[]", "潮汐"),
        ("hotwords", "flow"),
    ]
    upload = parse(*given, ("response_format", "verbose_json"), ("model", "lab/tide-1")).upload(to())
    assert fields_of(upload) == [("model", "tide-1"), ("response_format", "verbose_json"), *given]


def test_the_upstream_model_is_named_where_the_client_named_none() -> None:
    request = parse(language="zh")
    assert request.model is None
    assert fields_of(request.upload(to())) == [("model", "tide-1"), ("language", "zh")]


def test_what_a_provider_does_not_take_is_refused_by_name_or_dropped_by_name() -> None:
    request = parse(("include[]", "logprobs"), ("prompt", "x"), ("language", ""), ("temperature", "0"))
    narrow = to(None, "include", "language", "temperature")
    with pytest.raises(UnsupportedParameter) as caught:
        request.upload(narrow)
    assert caught.value.param == "include"
    assert fields_of(request.upload(to(None, *narrow.refuses, drops=True))) == [("model", "tide-1"), ("prompt", "x")]
    assert request.dropped == ("include",)


def test_usage_is_asked_for_where_it_does_not_come_by_itself() -> None:
    engine = to(Quirks(transcript_usage="stream_include_usage"))
    asks = ("stream_include_usage", "true")
    assert asks in fields_of(parse(stream="1").upload(engine))
    assert asks not in fields_of(parse().upload(engine))
    own = fields_of(parse(("stream_include_usage", "false"), stream="1").upload(engine))
    assert [value for name, value in own if name == "stream_include_usage"] == ["false"]


def test_a_provider_without_streams_is_not_asked_for_one() -> None:
    whole = to(whole=True)
    assert fields_of(parse(stream="true").upload(whole)) == [("model", "tide-1")]
    assert fields_of(parse(stream="true", response_format="text").upload(whole))[1:] == [("response_format", "json")]
    assert fields_of(parse(response_format="text").upload(whole))[1:] == [("response_format", "text")]


# -- whole answers ------------------------------------------------------------------------------------------------


def complete(body: bytes, where: Any = None, **fields: Any) -> Any:
    where = where or to()
    request = parse(**fields)
    request.upload(where)
    return request.complete(body, call(), where)


def test_json_goes_on_as_it_came() -> None:
    body = b'{"text": "ebb",  "usage": {"type": "tokens", "input_tokens": 9, "output_tokens": 2, "total_tokens": 11}, "x": 1}'
    answer = complete(body)
    assert (answer.body, answer.content_type) == (body, b"application/json")
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.estimated) == (9, 2, False)


@pytest.mark.parametrize(
    ("usage", "seconds"),
    [
        ('"usage": {"type": "duration", "seconds": 12}', 12),
        ('"duration": "12.5"', 12.5),
        ('"duration": 8.47', 8.47),
        ('"usage": null, "duration": 3', 3),
    ],
)
def test_what_is_counted_in_seconds_is_kept_in_seconds(usage: str, seconds: float) -> None:
    answer = complete(b'{"text": "ebb", %b}' % usage.encode(), response_format="verbose_json")
    assert (answer.usage.seconds, answer.usage.total_tokens, answer.usage.estimated) == (seconds, 0, False)


def test_what_nobody_counted_is_estimated() -> None:
    assert complete(b'{"text": "ebb and flow"}').usage.estimated
    assert complete(b"ebb and flow\n", response_format="text").usage.output_tokens == 4


@pytest.mark.parametrize("form", ["text", "srt", "vtt"])
def test_text_is_text(form: str) -> None:
    answer = complete("1\n潮汐\n".encode(), response_format=form)
    assert (answer.body, answer.content_type) == ("1\n潮汐\n".encode(), b"text/plain; charset=utf-8")


def test_text_is_unwrapped_where_the_provider_knows_only_json() -> None:
    answer = complete('{"text": "潮汐", "usage": {"type": "duration", "seconds": 2}}'.encode(), response_format="text")
    assert (answer.body, answer.content_type) == ("潮汐".encode(), b"text/plain; charset=utf-8")
    assert answer.usage.seconds == 2


def test_a_dictated_brace_is_no_json() -> None:
    assert complete(b'{"flow": "of words"}', response_format="text").body == b'{"flow": "of words"}'
    assert complete(b"{ open brace", response_format="text").body == b"{ open brace"


def test_subtitles_that_are_none_are_the_providers_fault() -> None:
    with pytest.raises(WireError, match="'srt' was asked for"):
        complete(b'{"text": "ebb"}', response_format="srt")


def test_a_provider_of_json_alone_is_asked_for_nothing_else() -> None:
    engine = to(Quirks(transcripts="raw"), "response_format")
    request = parse(response_format="text")
    assert fields_of(request.upload(engine)) == [("model", "tide-1")]
    assert request.complete(b'{"text": "ebb"}', call(), engine).body == b"ebb"
    with pytest.raises(UnsupportedParameter) as caught:
        parse(response_format="vtt").upload(engine)
    assert caught.value.param == "response_format"
    lossy = to(Quirks(transcripts="raw"), "response_format", drops=True)
    answer = complete(b'{"text": "ebb"}', lossy, response_format="vtt")
    assert (answer.body, answer.content_type) == (b'{"text": "ebb"}', b"application/json")


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"words": []}', b'{"text": 5}', b'{"text": "\xff"}', b'{"text":']
)
def test_what_is_no_transcript_is_the_providers_fault(body: bytes) -> None:
    with pytest.raises(WireError):
        complete(body)


@pytest.mark.parametrize("form", ["json", "text", "vtt"])
def test_an_error_with_status_200_is_an_error(form: str) -> None:
    with pytest.raises(TidegateError) as caught:
        complete(b'{"error": {"message": "bad audio", "type": "invalid_request_error"}}', response_format=form)
    assert (caught.value.http_status, "bad audio" in caught.value.message) == (400, True)
