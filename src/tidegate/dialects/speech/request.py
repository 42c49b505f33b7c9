"""The client's body of `POST /v1/audio/speech`."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tidegate.dialects.dialect import AudioFormat, Call, Destination, refuse_unsupported, says_nothing
from tidegate.dialects.envelope import Envelopes
from tidegate.dialects.extent import SPOKEN_TOKENS, Extent
from tidegate.dialects.speech.gemini import VOICES, ask_gemini, is_foreign
from tidegate.dialects.speech.stream import SpeechStream, effective_format
from tidegate.dialects.validation import invalid, parse
from tidegate.wire import jsonio
from tidegate.wire.events import estimate_tokens

__all__ = ["SpeechBody", "SpeechRequest", "parse_speech"]


class CustomVoice(msgspec.Struct):
    """A voice of the customer's own."""

    id: Annotated[str, Meta(min_length=1, max_length=256)]


class SpeechBody(msgspec.Struct):
    """The documented members with their ranges. Members that we do not know travel on unread."""

    input: Annotated[str, Meta(min_length=1, max_length=4096)]
    voice: Annotated[str, Meta(min_length=1, max_length=256)] | CustomVoice
    model: str | None = None
    response_format: AudioFormat | None = None
    speed: Annotated[float, Meta(ge=0.25, le=4)] | None = None
    instructions: Annotated[str, Meta(max_length=4096)] | None = None
    stream_format: Literal["sse", "audio"] | None = None


_decoder = jsonio.decoder(SpeechBody)
_KNOWN = frozenset(SpeechBody.__struct_fields__)


class SpeechRequest:
    """A validated request of this dialect. Its answer always streams: audio is passed on as it comes."""

    __slots__ = ("_body", "dropped", "envelopes", "model", "stream", "typed")

    wants_stream = True
    wants_stop = False
    end_user = None
    affinity = ""

    @property
    def extent(self) -> Extent:
        characters = len(self.typed.input)
        return Extent(output_tokens=characters * SPOKEN_TOKENS, characters=characters)

    def is_remarkable(self, names_files: bool) -> bool:
        return True

    def reads(self) -> int | None:
        return 0

    def surcharge(self) -> str | None:
        return None

    def __init__(self, body: bytes, typed: SpeechBody) -> None:
        self._body = body
        self.dropped: tuple[str, ...] = ()
        self.envelopes: Envelopes | None = None
        self.typed = typed
        self.model = typed.model
        self.stream: bool | None = True

    @property
    def wants_events(self) -> bool:
        return self.typed.stream_format == "sse"

    def forward(self, destination: Destination) -> bytes:
        members = jsonio.members(self._body)
        lost = self._name_format(members, destination)
        if destination.quirks.speech_of_gemini:
            lost.update(self._lost_at_google(members))
            self.dropped = refuse_unsupported(members, destination, lost)
            return self._for_google(members, destination)
        self.dropped = refuse_unsupported(members, destination, lost)
        members["model"] = jsonio.raw(destination.model)
        if self.wants_events and not destination.speech.events:
            del members["stream_format"]
        return jsonio.encode(members)

    def open(self, call: Call) -> SpeechStream:
        typed = self.typed
        size = len(typed.input.encode()) + len((typed.instructions or "").encode())
        return SpeechStream(
            events=self.wants_events,
            format=typed.response_format,
            input_tokens=estimate_tokens(size),
            characters=len(typed.input),
        )

    def _name_format(self, members: jsonio.Members, destination: Destination) -> dict[str, list[str]]:
        """Name the format where the provider has not the one that is meant. What is returned is the loss, where another
        was asked for."""
        formats = destination.speech.formats
        given = self.typed.response_format
        wanted = effective_format(given, destination)
        if wanted == (given or "mp3"):
            return {}
        members["response_format"] = jsonio.raw(wanted)
        return {"response_format": [f"'{given}' is not among its formats: {', '.join(formats)}."]} if given else {}

    def _lost_at_google(self, members: jsonio.Members) -> dict[str, list[str]]:
        """Google's API has no place for `speed`, nor for what we do not know, and voices of its own."""
        lost: dict[str, list[str]] = {}
        for name in members:
            if (name == "speed" or name not in _KNOWN) and not says_nothing(name, members[name]):
                lost[name] = []
        voice = self.typed.voice
        if isinstance(voice, str) and is_foreign(voice):
            lost["voice"] = [f"'{voice}' is one of OpenAI's voices; Google's are {VOICES}."]
        return lost

    def _for_google(self, members: jsonio.Members, destination: Destination) -> bytes:
        typed = self.typed
        voice = typed.voice
        return ask_gemini(
            typed.input,
            typed.instructions or "" if "instructions" in members else "",
            destination,
            voice="" if isinstance(voice, CustomVoice) or is_foreign(voice) else voice,
            custom_voice=voice.id if isinstance(voice, CustomVoice) else "",
        )


def parse_speech(body: bytes) -> SpeechRequest:
    """Decode and validate. Raises InvalidRequest."""
    typed = parse(body, _decoder, {"input": "It is the text to speak.", "voice": "Voices are the provider's own."})
    if not typed.input.strip():
        raise invalid("input", "expected a text to speak, and not only blanks.")
    if isinstance(typed.voice, str) and not typed.voice.strip():
        raise invalid("voice", "expected the name of a voice.")
    return SpeechRequest(body, typed)
