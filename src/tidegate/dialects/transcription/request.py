"""A validated form on its way to a provider, and the whole answer on its way back."""

import math
from collections.abc import Callable
from typing import Final

from tidegate.dialects.dialect import Answer, Call, Destination, Stream, estimated_usage, refuse_unsupported
from tidegate.dialects.extent import Extent
from tidegate.dialects.transcription import gemini
from tidegate.dialects.transcription.answer import read_transcript
from tidegate.dialects.transcription.duration import longest
from tidegate.dialects.transcription.fields import F, Fields, base_name, read_fields
from tidegate.dialects.transcription.stream import TranscriptStream
from tidegate.dialects.validation import invalid, missing
from tidegate.wire import jsonio
from tidegate.wire.errors import TidegateError, WireError
from tidegate.wire.forms import FILE, Blob, Form, Upload, multipart

__all__ = ["TEXT", "TranscriptionRequest"]

TEXT = b"text/plain; charset=utf-8"

_OWNED = frozenset({"model", "stream", "response_format"})
"""Fields that the gateway writes itself."""

_NEUTRAL = {"response_format": "json", "temperature": "0"}
"""Values that ask for what happens anyway."""


USUAL_BYTES_PER_S: Final = 500
"""Hardly any speech has fewer bytes in a second; silence may."""

TOKENS_PER_S: Final = 50
"""No model reads, or writes down, more tokens for a second of audio."""

LEAST_TOKENS: Final = 512
"""What a model may write down however short the audio is: Whisper fills at most 448 tokens for a window."""


class TranscriptionRequest:
    """See :class:`tidegate.dialects.dialect.FormRequest`."""

    __slots__ = ("_file", "_form", "_lasts_s", "dropped", "fields", "model", "stream")

    def __init__(self, form: Form, file: Blob, fields: Fields) -> None:
        self._form = form
        self._file = file
        self._lasts_s: float | None = None
        self.fields = fields
        self.dropped: tuple[str, ...] = ()
        self.model = fields.model
        self.stream = fields.stream

    @classmethod
    def read(cls, form: Form, into: type[F]) -> "TranscriptionRequest":
        """Raises InvalidRequest."""
        file = form.file
        if file is None:
            raise missing(FILE, "Send the audio as a part with a file name, with curl: -F file=@speech.mp3")
        if not file.size:
            raise invalid(FILE, "it is empty.")
        return cls(form, file, read_fields(form.fields, into))

    @property
    def wants_stream(self) -> bool:
        return self.stream is True

    @property
    def wants_stop(self) -> bool:
        return False

    @property
    def end_user(self) -> str | None:
        return None

    @property
    def affinity(self) -> str:
        return ""

    @property
    def measured(self) -> bool:
        """Whether `extent` is a bound, and no guess."""
        return self._lasts_s is not None

    def measure(self, then: Callable[[TidegateError | None], None]) -> None:
        """Look into the file, so that `extent` is a bound. `then` is told when that is done, or why it cannot be."""

        def found(lasts_s: float | TidegateError | None) -> None:
            if isinstance(lasts_s, TidegateError):
                then(lasts_s)
            else:
                # Who counts seconds counts whole ones.
                self._lasts_s = math.inf if lasts_s is None or math.isinf(lasts_s) else math.ceil(lasts_s)
                then(None)

        size = self._file.size
        self._file.examine(lambda read: longest(read, size), found)

    @property
    def extent(self) -> Extent:
        """Before it is measured only about: as long as speech of so many bytes."""
        seconds = self._file.size / USUAL_BYTES_PER_S if self._lasts_s is None else self._lasts_s
        text = sum(len(value.encode()) for _, value in self._form.fields)
        if math.isinf(seconds):
            return Extent(seconds=seconds)
        tokens = math.ceil(seconds * TOKENS_PER_S)
        return Extent(output_tokens=tokens + LEAST_TOKENS, input_tokens=tokens + text, seconds=seconds)

    def is_remarkable(self, names_files: bool) -> bool:
        return True

    def reads(self) -> int | None:
        return 0

    def surcharge(self) -> str | None:
        return None

    @property
    def format(self) -> str:
        return self.fields.response_format or "json"

    # -- towards the provider -----------------------------------------------------------------------------------

    def upload(self, destination: Destination) -> Upload:
        """The client's own fields in their order, and its file. Raises UnsupportedParameter, and BodyTooLarge for a file
        that the provider does not take."""
        if destination.quirks.transcripts == "gemini":
            upload, self.dropped = gemini.upload(self._form.fields, self._file, self.fields, destination)
            return upload
        lost: dict[str, list[str]] = {}
        fields = [("model", destination.model)]
        form = self._format_for(destination, lost)
        if form is not None:
            fields.append(("response_format", form))
        if self.wants_stream and not destination.whole:
            fields.append(("stream", "true"))
            asks = destination.quirks.transcript_usage
            if asks and all(name != asks for name, _ in self._form.fields):
                fields.append((asks, "true"))
        for name, value in self._form.fields:
            base = base_name(name)
            if base in _OWNED:
                continue
            if base in destination.refuses:
                if value and _NEUTRAL.get(base) != value:
                    lost.setdefault(base, [])
                continue
            fields.append((name, value))
        self.dropped = refuse_unsupported({}, destination, lost)
        return multipart(fields, self._file, self._form.boundary)

    def _format_for(self, destination: Destination, lost: dict[str, list[str]]) -> str | None:
        """What the provider is asked for; None leaves it unsaid. A text can be made of its JSON here."""
        asked = self.fields.response_format
        if destination.whole and self.wants_stream and asked == "text":
            return "json"
        if asked is not None and "response_format" in destination.refuses:
            if asked not in ("json", "text"):
                lost["response_format"] = []
            return None
        return asked

    # -- the answer ---------------------------------------------------------------------------------------------

    def open(self, call: Call) -> Stream:
        return TranscriptStream(call)

    def complete(self, body: bytes, call: Call, destination: Destination) -> Answer:
        if destination.quirks.transcripts == "gemini":
            text, usage = gemini.transcript(body, call, destination)
            if self.format == "text":
                return Answer(text.encode(), usage, "completed", TEXT)
            said = {"text": text, "usage": usage.as_transcription()}
            return Answer(jsonio.encode(said), usage, "completed")
        if self.format in ("text", "srt", "vtt") and "response_format" not in self.dropped:
            return self._in_text(body, call, destination)
        found = read_transcript(body, destination.provider)
        assert found.text is not None
        usage = found.counted() or estimated_usage(call, len(found.text.encode()))
        return Answer(body, usage, "completed")

    def _in_text(self, body: bytes, call: Call, destination: Destination) -> Answer:
        """Some providers answer in JSON all the same."""
        text, usage = body, None
        if body.lstrip()[:1] == b"{" and self._is_json(body):
            found = read_transcript(body, destination.provider)
            if self.format != "text":
                raise WireError(f"the provider answered in JSON although '{self.format}' was asked for")
            assert found.text is not None
            text, usage = found.text.encode(), found.counted()
        try:
            text.decode()
        except UnicodeDecodeError:
            raise WireError("the provider's answer is not valid UTF-8") from None
        return Answer(text, usage or estimated_usage(call, len(text)), "completed", TEXT)

    @staticmethod
    def _is_json(body: bytes) -> bool:
        """Whether it is the JSON of an API, and no transcript of somebody who dictates."""
        try:
            members = jsonio.members(body)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
            return False
        return bool(members.keys() & {"text", "error"}) and all(
            isinstance(name, str) and name.isidentifier() for name in members
        )
