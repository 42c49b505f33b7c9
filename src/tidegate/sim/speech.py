"""Speech: a tone for each piece of an answer, as WAV, bare samples or MP3, raw or in events; in Google's form too."""

import base64
import math
import struct
from typing import Any

import msgspec

from tidegate.sim.answer import Answer
from tidegate.sim.errors import Refusal, error_object
from tidegate.sim.options import Options
from tidegate.sim.prompt import Prompt
from tidegate.sim.sse import DONE, Event, Stream
from tidegate.sim.stamp import Stamp

RATE = 24_000
TYPES = {"mp3": "audio/mpeg", "wav": "audio/wav", "pcm": "audio/pcm"}
PIECE_SAMPLES = 960
"""Of one piece: 40 ms. Its bytes are whole groups of three."""
MOST_CHARACTERS = 4096
OPEN = 0xFFFFFFFF
GOOGLE_TYPE = f"audio/L16;codec=pcm;rate={RATE}"

_OPENAI_VOICES = [
    "alloy",
    "ash",
    "ballad",
    "coral",
    "echo",
    "fable",
    "onyx",
    "nova",
    "sage",
    "shimmer",
    "verse",
    "marin",
    "cedar",
]
_GOOGLE_VOICES = ["Zephyr", "Puck", "Charon", "Kore", "Fenrir", "Leda", "Orus", "Aoede"]

# MPEG 2 layer III, 24 kHz, 64 kbit/s, one channel: 72 bytes for each 1000 bit/s and 24,000 samples. No granule has any bits
# of its own, so that a decoder hears silence and the rest of the frame is free.
_MP3_HEAD = bytes((0xFF, 0xF3, 0x84, 0xC0)) + bytes(9)
MP3_FRAME = 192


# What a request says.


def read(body: bytes) -> Prompt:
    """The request in `body`. Raises Refusal as OpenAI would."""
    try:
        request = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise Refusal(400, f"We could not parse the JSON body of your request: {error}.") from None
    if not isinstance(request, dict):
        raise Refusal(400, "We could not parse the JSON body of your request: it is not an object.")
    for name in ("model", "input", "voice"):
        if request.get(name) is None:
            raise Refusal(400, f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
    text = request["input"]
    if not isinstance(text, str) or not 1 <= len(text) <= MOST_CHARACTERS:
        raise _invalid("input", f"a string of 1 to {MOST_CHARACTERS} characters")
    if not isinstance(request["model"], str):
        raise _invalid("model", "a string")
    voice = request["voice"]
    if not isinstance(voice, dict) and voice not in _OPENAI_VOICES:
        raise _invalid("voice", f"one of {', '.join(_OPENAI_VOICES)}")
    if request.get("response_format", "mp3") not in TYPES:
        raise _invalid("response_format", f"one of {', '.join(TYPES)}, which is all that the sim has")
    if request.get("stream_format", "audio") not in ("audio", "sse"):
        raise _invalid("stream_format", "'audio' or 'sse'")
    return Prompt(
        endpoint="speech",
        model=request["model"],
        body=request,
        texts=(text,),
        tokens=max(1, -(-len(text) // 4)),
        stream=request.get("stream_format") == "sse",
    )


def _invalid(name: str, wanted: str) -> Refusal:
    return Refusal(400, f"Invalid value for '{name}': expected {wanted}.", param=name, code="invalid_value")


def wants_audio(request: dict[str, Any]) -> bool:
    """Whether a request to Google's API asks for speech. Raises Refusal as Google would."""
    config = request.get("generationConfig")
    if not isinstance(config, dict) or config.get("responseModalities") != ["AUDIO"]:
        return False
    voice: Any = config
    for name in ("speechConfig", "voiceConfig", "prebuiltVoiceConfig", "voiceName"):
        voice = voice.get(name) if isinstance(voice, dict) else None
    if voice is not None and str(voice).title() not in _GOOGLE_VOICES:
        known = ", ".join(one.lower() for one in _GOOGLE_VOICES)
        raise Refusal(400, f"Voice name {voice} is not supported. Allowed voice names are: {known}")
    return True


# What an answer says.


def tone(place: int, size: int | None = None) -> bytes:
    """Samples of the piece at `place`: each is higher than the one before, so that a lost, doubled or moved one shows."""
    size = PIECE_SAMPLES * 2 if size is None else size
    step = 2 * math.pi * (220 + 20 * (place % 64)) / RATE
    # All pitches are multiples of 20 Hz, so that the tone repeats itself after 1200 samples.
    count = min(1200, -(-size // 2))
    period = struct.pack(f"<{count}h", *(round(8000 * math.sin(step * at)) for at in range(count)))
    return (period * (size // 2400 + 1))[:size]


def wav_head(size: int = OPEN) -> bytes:
    """The head of a WAV file with `size` bytes of samples; by default nobody knows how many."""
    whole = size if size == OPEN else size + 36
    form = struct.pack("<IHHIIHH", 16, 1, 1, RATE, RATE * 2, 2, 16)
    return b"RIFF" + struct.pack("<I", whole) + b"WAVEfmt " + form + b"data" + struct.pack("<I", size)


def pieces(answer: Answer, options: Options, kind: str) -> list[bytes]:
    """The audio in the pieces in which it is sent. A WAV file whose length is announced knows it, too."""
    size = options.size if options.size is not None and kind != "mp3" else None
    if kind == "mp3":
        return [(_MP3_HEAD + b"sim %d" % place).ljust(MP3_FRAME, b"\0") * 2 for place in range(len(answer.text))]
    found = [tone(place, size) for place in range(len(answer.text))]
    if kind == "wav" and found:
        head = wav_head(sum(map(len, found))) if options.framing == "length" else wav_head()
        found[0] = head + found[0]
    return found


def kind_of(prompt: Prompt) -> str:
    """The format asked for."""
    return str(prompt.body.get("response_format") or "mp3")


def stream(answers: list[Answer], prompt: Prompt, options: Options, _stamp: Stamp) -> Stream:
    """OpenAI's events; `minimal`: bare `{"audio": …}`, and [DONE] in the place of an event."""
    events: list[Event] = []
    for piece in pieces(answers[0], options, kind_of(prompt)):
        audio = {"audio": base64.b64encode(piece).decode()}
        events.append(Event(audio if options.minimal else {"type": "speech.audio.delta", **audio}))
    if answers[0].finish != "none" and not options.minimal:
        events.append(Event({"type": "speech.audio.done", **_usage(answers[0], prompt, options)}))
    if options.done or (options.minimal and options.done is None):
        events.append(DONE)
    return Stream(events, min(1, len(events)))


def _usage(answer: Answer, prompt: Prompt, options: Options) -> dict[str, Any]:
    if options.usage == "absent":
        return {}
    given, taken = (0, 0) if options.usage == "zero" else (prompt.tokens, len(answer.text))
    return {"usage": {"input_tokens": given, "output_tokens": taken, "total_tokens": given + taken}}


def failure(options: Options) -> list[Event]:
    """The events of a failure in the stream."""
    message = options.message or "The server had an error while processing your request."
    error = error_object(500, message, code=options.code, kind=options.type)
    return [Event({"error": error}), *([DONE] if options.done else [])]


def google_parts(answer: Answer, options: Options) -> list[dict[str, Any]]:
    """The parts of an answer of Google's API, one for each piece."""
    return [
        {"inlineData": {"mimeType": GOOGLE_TYPE, "data": base64.b64encode(piece).decode()}}
        for piece in pieces(answer, options, "pcm")
    ]
