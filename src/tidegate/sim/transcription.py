"""Transcription: what was said, as OpenAI's events or in one of the forms that other servers have, and as a body of any format."""

from typing import Any

import msgspec

from tidegate.sim.answer import Answer
from tidegate.sim.errors import Refusal, error_object
from tidegate.sim.options import Options
from tidegate.sim.prompt import Prompt
from tidegate.sim.reply import Reply, json_reply, plain_reply
from tidegate.sim.sse import DONE, Event, Stream, encode
from tidegate.sim.stamp import Stamp, logprob, token_counts
from tidegate.sim.upload import PATHS, Upload

SECONDS_PER_PIECE = 0.4
PIECES_PER_SEGMENT = 8
SPEAKERS = ("A", "B")

FORMATS = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")


def read(path: str, upload: Upload) -> Prompt:
    """The request that a form makes. Raises Refusal as OpenAI would."""
    if not upload.complete:
        raise Refusal(400, "There was an error parsing the body: it ends before its last boundary.")
    model = upload.field("model")
    if model is None:
        raise Refusal(400, "you must provide a model parameter")
    if upload.name is None:
        raise Refusal(400, "[{'type': 'missing', 'loc': ('body', 'file'), 'msg': 'Field required'}]", param="file")
    form = upload.field("response_format") or "json"
    if form not in FORMATS:
        raise Refusal(400, f"Invalid value for 'response_format': {form!r}.", param="response_format")
    stream = upload.field("stream") in ("true", "True", "1")
    if stream and PATHS[path] == "translate":
        raise Refusal(400, "Unrecognized request argument supplied: stream", param="stream")
    return Prompt(
        endpoint="transcription",
        model=model,
        body={**upload.as_object, "task": PATHS[path]},
        texts=(heard(upload.name, upload.size, upload.sha256),),
        tokens=max(1, upload.size // 1600),
        stream=stream,
        include_usage=True,
        logprobs=0 if "logprobs" in upload.as_object.get("include", ()) else None,
    )


def heard(name: str, size: int, sha256: str) -> str:
    """What `echo` says of a file: enough to see that it came whole, and under which name."""
    return f"{name} {size} {sha256}"


# As a stream.


def stream(answers: list[Answer], prompt: Prompt, options: Options, stamp: Stamp) -> Stream:
    """The events in OpenAI's order, or the frames of another server (`transcript`)."""
    pieces = answers[0].text
    usage = _usage(answers, prompt, options)
    ended = answers[0].finish != "none"
    if options.transcript == "text":
        events = [Event({"text": piece}) for piece in pieces]
        return Stream([*events, *([DONE] if ended and options.done is not False else [])], 1)
    if options.transcript == "raw":
        return Stream([Event(piece.encode()) for piece in pieces], 1)
    if options.transcript == "chunks":
        return _chunks(answers[0], prompt, options, stamp)
    events = [_delta(piece, prompt) for piece in pieces]
    if prompt.body.get("response_format") == "diarized_json":
        for segment in _segments(pieces):
            spoken = {name: segment[name] for name in ("id", "start", "end", "text", "speaker")}
            events.append(Event({"type": "transcript.text.segment", **spoken, "id": f"seg_{segment['id']:03}"}))
    if ended:
        more: dict[str, Any] = {} if usage is None else {"usage": usage}
        if prompt.logprobs is not None:
            more["logprobs"] = [_logprob(piece) for piece in pieces]
        events.append(Event({"type": "transcript.text.done", "text": "".join(pieces), **more}))
    if options.done:
        events.append(DONE)
    return Stream(events, 1)


def _delta(piece: str, prompt: Prompt) -> Event:
    more = {} if prompt.logprobs is None else {"logprobs": [_logprob(piece)]}
    return Event({"type": "transcript.text.delta", "delta": piece, **more})


def _chunks(answer: Answer, prompt: Prompt, options: Options, stamp: Stamp) -> Stream:
    """As vLLM sends them: every half of the audio ends with a finish reason of its own."""
    task = "translation" if prompt.body["task"] == "translate" else "transcription"
    head = {"id": f"trsc-{stamp.seed}", "object": f"{task}.chunk", "created": stamp.created, "model": prompt.model}
    middle = len(answer.text) // 2
    events = []
    for index, piece in enumerate(answer.text):
        choice: dict[str, Any] = {"delta": {"content": piece}}
        last = index == len(answer.text) - 1
        if answer.finish != "none" and (last or index == middle - 1):
            choice |= {"finish_reason": answer.finish if last else "stop", "stop_reason": None}
        events.append(Event({**head, "choices": [choice]}))
    if prompt.body.get("stream_include_usage") == "true":
        counts = token_counts([answer], prompt.tokens, options)
        if counts is not None:
            usage = {"prompt_tokens": counts[0], "completion_tokens": counts[1], "total_tokens": counts[0] + counts[1]}
            events.append(Event({**head, "choices": [], "usage": usage}))
    return Stream([*events, *([DONE] if options.done is not False else [])], 1)


def failure(options: Options) -> list[Event]:
    """The event of a failure in the stream."""
    message = options.message or "The server had an error while processing your request."
    error = error_object(500, message, code=options.code, kind=options.type)
    if options.transcript == "raw":
        return [Event(msgspec.json.encode({"error": message}))]
    return [Event({"error": error}), *([DONE] if options.done or options.transcript == "chunks" else [])]


# In one body.


def whole(answers: list[Answer], prompt: Prompt, options: Options) -> Reply:
    """The transcript in the format that was asked for."""
    pieces = answers[0].text
    text = "".join(pieces)
    segments = _segments(pieces)
    match prompt.body.get("response_format"):
        case "text":
            return plain_reply("text/plain; charset=utf-8", f"{text}\n".encode())
        case "srt":
            return plain_reply("text/plain; charset=utf-8", _subtitles(segments, ",").encode())
        case "vtt":
            return plain_reply("text/plain; charset=utf-8", f"WEBVTT\n\n{_subtitles(segments, '.')}".encode())
        case "verbose_json":
            return json_reply(encode(_verbose(pieces, segments, prompt), options))
        case "diarized_json":
            said = {"task": "transcribe", "duration": _seconds(pieces), "text": text, "segments": segments}
            return json_reply(encode(said, options))
    answer: dict[str, Any] = {"text": text}
    if prompt.logprobs is not None:
        answer["logprobs"] = [_logprob(piece) for piece in pieces]
    usage = _usage(answers, prompt, options)
    return json_reply(encode(answer if usage is None else {**answer, "usage": usage}, options))


def _verbose(pieces: tuple[str, ...], segments: list[dict[str, Any]], prompt: Prompt) -> dict[str, Any]:
    wanted = prompt.body.get("timestamp_granularities", ["segment"])
    answer: dict[str, Any] = {
        "task": prompt.body["task"],
        "language": prompt.body.get("language", "english"),
        "duration": _seconds(pieces),
        "text": "".join(pieces),
        "usage": {"type": "duration", "seconds": _seconds(pieces)},
    }
    if "segment" in wanted:
        scores = {"seek": 0, "tokens": [], "temperature": 0.0, "avg_logprob": -0.1, "compression_ratio": 1.0}
        answer["segments"] = [
            {**{name: one[name] for name in ("id", "start", "end", "text")}, **scores, "no_speech_prob": 0.0}
            for one in segments
        ]
    if "word" in wanted:
        answer["words"] = [
            {"word": piece.strip(), "start": _seconds(pieces[:at]), "end": _seconds(pieces[: at + 1])}
            for at, piece in enumerate(pieces)
        ]
    return answer


def _segments(pieces: tuple[str, ...]) -> list[dict[str, Any]]:
    found = []
    for index, at in enumerate(range(0, len(pieces), PIECES_PER_SEGMENT)):
        part = pieces[at : at + PIECES_PER_SEGMENT]
        found.append(
            {
                "type": "transcript.text.segment",
                "id": index,
                "start": _seconds(pieces[:at]),
                "end": _seconds(pieces[: at + len(part)]),
                "text": "".join(part),
                "speaker": SPEAKERS[index % len(SPEAKERS)],
            }
        )
    return found


def _subtitles(segments: list[dict[str, Any]], comma: str) -> str:
    blocks = [
        f"{one['id'] + 1}\n{_clock(one['start'], comma)} --> {_clock(one['end'], comma)}\n{one['text'].strip()}\n"
        for one in segments
    ]
    return "\n".join(blocks)


def _clock(seconds: float, comma: str) -> str:
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{comma}{milliseconds:03}"


def _seconds(pieces: tuple[str, ...]) -> float:
    return round(len(pieces) * SECONDS_PER_PIECE, 3)


def _logprob(piece: str) -> dict[str, Any]:
    entry = logprob(piece, 0)
    return {name: entry[name] for name in ("token", "logprob", "bytes")}


def _usage(answers: list[Answer], prompt: Prompt, options: Options) -> dict[str, Any] | None:
    counts = token_counts(answers, prompt.tokens, options)
    if counts is None:
        return None
    given, taken, _ = counts
    return {
        "type": "tokens",
        "input_tokens": given,
        "input_token_details": {"text_tokens": 0, "audio_tokens": given},
        "output_tokens": taken,
        "total_tokens": given + taken,
    }
