"""`POST /audio/transcriptions` and `/audio/translations`: sound to English text, sent utterance by utterance."""

import asyncio
from collections.abc import Sequence
from typing import Final, Literal, cast, get_args

import msgspec
from starlette.datastructures import FormData, UploadFile

from tidegate.dialects.validation import invalid, missing
from tidegate.local_audio.frames import BEGUN, DONE, REFUSED, Done, Refusal, TranscriptionJob, Utterance
from tidegate.local_audio.pool import Pool, Task
from tidegate.local_audio.reply import EVENT_STREAM, PING_S, Body, Events, Relay
from tidegate.local_audio.transcript import (
    CONTENT_TYPES,
    Granularity,
    TranscriptFormat,
    render,
    text_of,
    token_usage,
)
from tidegate.wire import jsonio
from tidegate.wire.errors import ModelNotFound, TidegateError, UnsupportedParameter

__all__ = ["LANGUAGES", "MODEL", "transcribe"]

MODEL: Final = "pocketsphinx"
LANGUAGES: Final = ("en",)
"""Those with a model, in ISO 639-1."""

_NAMES_OF_ENGLISH: Final = frozenset({"en", "eng", "english"})
_UNSUPPORTED: Final = ("include", "keywords", "known_speaker_names", "known_speaker_references")
_WITHOUT_EFFECT: Final = ("prompt", "temperature")
_TRUE: Final = frozenset({"true", "1"})
_FALSE: Final = frozenset({"false", "0", ""})
_STREAMED: Final = frozenset({"json", "text"})

_done = jsonio.decoder(Done)
_refusal = jsonio.decoder(Refusal)
_utterance = jsonio.decoder(Utterance)


class _Wanted(msgspec.Struct, frozen=True):
    """What a form asks for, checked."""

    form: TranscriptFormat
    stream: bool
    granularities: frozenset[Granularity]
    dropped: tuple[str, ...]

    @property
    def headers(self) -> dict[str, str]:
        return {"tidegate-dropped": ", ".join(self.dropped)} if self.dropped else {}


async def transcribe(form: FormData, pool: Pool, task_name: Literal["transcribe", "translate"]) -> Relay:
    """The answer to a form, whose file it closes. Raises InvalidRequest for what is wrong with the form."""
    try:
        wanted = _read(form)
        upload = await _file(form)
    except BaseException:
        await form.close()
        raise
    descriptor = upload.file.fileno()

    async def whole(out: Body) -> None:
        heard: list[Utterance] = []
        async with pool.task(TranscriptionJob(), descriptor) as task:
            while not isinstance(frame := await _frame(task), Done):
                if frame is not None:
                    heard.append(frame)
        answer = render(heard, frame.seconds, wanted.form, wanted.granularities, task_name)
        await out.whole(CONTENT_TYPES[wanted.form], answer, wanted.headers)

    async def streamed(out: Body) -> None:
        heard: list[Utterance] = []
        events = Events(out)
        async with pool.task(TranscriptionJob(), descriptor) as task:
            frame = await _frame(task)
            await out.start(EVENT_STREAM, {"cache-control": "no-store", **wanted.headers})
            try:
                while not isinstance(frame, Done):
                    if frame is not None:
                        delta = f" {frame.text}" if heard else frame.text
                        heard.append(frame)
                        await events.event({"type": "transcript.text.delta", "delta": delta})
                    frame = await _patiently(task, events)
            except TidegateError as error:
                await events.failed(error)
                return
        text = text_of(heard)
        await events.done({"type": "transcript.text.done", "text": text, "usage": token_usage(text, frame.seconds)})

    async def work(out: Body) -> None:
        try:
            await (streamed if wanted.stream else whole)(out)
        finally:
            await form.close()

    return Relay(work)


async def _frame(task: Task) -> Utterance | Done | None:
    """The next utterance, the end, or None when the decoder has found sound. Raises InvalidRequest when it found none."""
    kind, payload = await task.next()
    if kind == BEGUN:
        return None
    if kind == DONE:
        return jsonio.decode(payload, _done)
    if kind == REFUSED:
        raise jsonio.decode(payload, _refusal).error()
    return jsonio.decode(payload, _utterance)


async def _patiently(task: Task, events: Events) -> Utterance | Done | None:
    """The next frame, with a sign of life on the stream as long as there is none."""
    waiting = asyncio.ensure_future(_frame(task))
    try:
        while True:
            done, _ = await asyncio.wait((waiting,), timeout=PING_S)
            if done:
                return waiting.result()
            await events.ping()
    finally:
        waiting.cancel()


async def _file(form: FormData) -> UploadFile:
    files = form.getlist("file")
    if not files:
        raise missing("file", "It is the recording, sent as a file of the form.")
    upload = files[0]
    if len(files) > 1:
        raise invalid("file", "there is more than one; send one recording at a time.")
    if not isinstance(upload, UploadFile):
        raise invalid(
            "file", "it is a text; send the recording as a file of the form, with a file name.", "invalid_type"
        )
    if not upload.size:
        raise invalid("file", "it is empty.")
    return upload


def _read(form: FormData) -> _Wanted:
    for name in _UNSUPPORTED:
        if form.getlist(name) or form.getlist(f"{name}[]"):
            raise UnsupportedParameter(
                f"Unsupported parameter: '{name}' is nothing that the local engine can do.", param=name
            )
    model = _text(form, "model")
    if model is None:
        raise missing("model")
    if model != MODEL:
        raise ModelNotFound(
            f"The local engine has no model '{model[:64]}' for transcription; it has '{MODEL}'.", param="model"
        )
    _check_language(form)
    _check_temperature(form)
    if (_text(form, "chunking_strategy") or "auto") != "auto":
        raise invalid("chunking_strategy", "the local engine cuts at pauses by itself; leave it out, or say 'auto'.")
    format_ = _text(form, "response_format") or "json"
    if format_ not in CONTENT_TYPES:
        raise invalid("response_format", f"'{format_[:64]}' is none of {', '.join(CONTENT_TYPES)}.")
    stream = _switch(form, "stream")
    if stream and format_ not in _STREAMED:
        raise invalid("response_format", f"'{format_}' cannot be streamed; with 'stream' it is json or text.")
    return _Wanted(
        format_,
        stream,
        _granularities(form, format_),
        tuple(name for name in _WITHOUT_EFFECT if _text(form, name)),
    )


def _check_language(form: FormData) -> None:
    for name in ("language", "languages", "languages[]"):
        for language in _texts(form, name):
            if language and language.strip().lower().replace("_", "-").partition("-")[0] not in _NAMES_OF_ENGLISH:
                raise invalid(
                    name.removesuffix("[]"),
                    f"the local engine has no model for '{language[:64]}'; it has one for: {', '.join(LANGUAGES)}.",
                )


def _check_temperature(form: FormData) -> None:
    temperature = _text(form, "temperature")
    if not temperature:
        return
    try:
        within = 0.0 <= float(temperature) <= 1.0
    except ValueError:
        within = False
    if not within:
        raise invalid("temperature", f"expected a number between 0 and 1, got '{temperature[:64]}'.")


def _granularities(form: FormData, format_: str) -> frozenset[Granularity]:
    given = [*_texts(form, "timestamp_granularities[]"), *_texts(form, "timestamp_granularities")]
    known = get_args(Granularity)
    for one in given:
        if one not in known:
            raise invalid("timestamp_granularities", f"'{one[:64]}' is none of {', '.join(known)}.")
    if given and format_ != "verbose_json":
        raise invalid("timestamp_granularities", "it needs 'response_format' verbose_json.")
    return frozenset(cast("Sequence[Granularity]", given)) or frozenset({"segment"})


def _switch(form: FormData, name: str) -> bool:
    value = (_text(form, name) or "").strip().lower()
    if value not in _TRUE | _FALSE:
        raise invalid(name, f"expected true or false, got '{value[:64]}'.")
    return value in _TRUE


def _text(form: FormData, name: str) -> str | None:
    """The field's last value, as forms have it. Raises InvalidRequest when it is a file."""
    values = _texts(form, name)
    return values[-1] if values else None


def _texts(form: FormData, name: str) -> list[str]:
    values = form.getlist(name)
    if not all(isinstance(value, str) for value in values):
        raise invalid(name.removesuffix("[]"), "it is a file; expected a text.", "invalid_type")
    return cast("list[str]", values)
