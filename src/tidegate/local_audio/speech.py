"""`POST /audio/speech`: text to sound, sent while it is spoken."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from tidegate.dialects.validation import invalid, missing, parse
from tidegate.local_audio.formats import FORMATS
from tidegate.local_audio.frames import AUDIO, DONE, Done, Refusal, SpeechJob
from tidegate.local_audio.pool import Pool, Task
from tidegate.local_audio.reply import EVENT_STREAM, Body, Events, Relay
from tidegate.wire import jsonio
from tidegate.wire.errors import ModelNotFound, TidegateError
from tidegate.wire.events import estimate_tokens

__all__ = ["MODEL", "speak"]

MODEL: Final = "espeak-ng"
MAX_INPUT: Final = 4096
"""Characters of one request, as OpenAI documents it."""

TOKENS_PER_S: Final = 20
"""Of spoken audio in the usage: OpenAI counts one for 50 ms."""


class _Voice(msgspec.Struct):
    id: str


class SpeechRequest(msgspec.Struct):
    """OpenAI's members, all of them. `instructions` is for models that can act, and named as dropped."""

    model: str
    input: str
    voice: str | _Voice
    instructions: str | None = None
    response_format: str | None = None
    speed: Annotated[float, Meta(ge=0.25, le=4.0)] | None = None
    stream_format: Literal["audio", "sse"] | None = None


_decoder = jsonio.decoder(SpeechRequest)
_done = jsonio.decoder(Done)
_refusal = jsonio.decoder(Refusal)


def speak(body: bytes, pool: Pool) -> Relay:
    """The answer to a request. Raises InvalidRequest for what is wrong with it as far as that needs no voice."""
    request = parse(body, _decoder, {})
    if request.model != MODEL:
        raise ModelNotFound(
            f"The local engine has no model '{request.model[:64]}' for speech; it has '{MODEL}'.", param="model"
        )
    if not request.input.strip():
        raise invalid("input", "it is empty; give the text to speak.")
    if len(request.input) > MAX_INPUT:
        raise invalid("input", f"it has {len(request.input)} characters; at most {MAX_INPUT} are spoken at once.")
    format_ = FORMATS.get(request.response_format or "mp3")
    if format_ is None:
        raise invalid("response_format", f"'{request.response_format}' is none of {', '.join(FORMATS)}.")
    voice = request.voice if isinstance(request.voice, str) else request.voice.id
    if not voice.strip():
        raise missing("voice")
    job = SpeechJob(
        text="".join(character if character >= " " or character in "\n\t" else " " for character in request.input),
        voice=voice,
        speed=1.0 if request.speed is None else request.speed,
        format=format_.name,
    )
    headers = {"tidegate-dropped": "instructions"} if request.instructions else {}

    async def as_audio(out: Body) -> None:
        async with pool.task(job) as task:
            piece = await _piece(task)
            await out.start(format_.content_type, headers)
            while isinstance(piece, bytes):
                await out.write(piece)
                piece = await _piece(task)
        await out.end()

    async def as_events(out: Body) -> None:
        events = Events(out)
        async with pool.task(job) as task:
            piece = await _piece(task)
            await out.start(EVENT_STREAM, {"cache-control": "no-store", **headers})
            try:
                while isinstance(piece, bytes):
                    await events.audio(piece)
                    piece = await _piece(task)
            except TidegateError as error:
                await events.failed(error)
                return
        await events.flush()
        await events.done({"type": "speech.audio.done", "usage": _usage(request.input, piece)})

    return Relay(as_events if request.stream_format == "sse" else as_audio)


async def _piece(task: Task) -> bytes | Done:
    """The next piece of sound, or the end. Raises InvalidRequest when the worker refuses the request."""
    kind, payload = await task.next()
    if kind == AUDIO:
        return payload
    if kind == DONE:
        return jsonio.decode(payload, _done)
    raise jsonio.decode(payload, _refusal).error()


def _usage(text: str, done: Done) -> dict[str, int]:
    """In OpenAI's form. Neither is a bill: the text's tokens are estimated, the audio's follow from its length."""
    spoken, heard = estimate_tokens(len(text.encode())), round(done.seconds * TOKENS_PER_S)
    return {"input_tokens": spoken, "output_tokens": heard, "total_tokens": spoken + heard}
