"""Speech from Google's models: a prompt whose answer is audio (`generateContent` with the modality AUDIO), asked for as a
stream."""

import re
from typing import Any, Final

import msgspec

from tidegate.dialects.dialect import Destination
from tidegate.dialects.failure import from_error_object
from tidegate.dialects.gemini.answer import ending, is_ending, read_usage
from tidegate.dialects.gemini.chunk import Candidate, Chunk, without_figures
from tidegate.dialects.speech.source import Piece
from tidegate.dialects.speech.wav import WavStart, open_head
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import TidegateError, UpstreamBroken, UpstreamFailed
from tidegate.wire.events import Usage

__all__ = ["VOICES", "GeminiSource", "ask_gemini", "is_foreign"]

PCM_RATE: Final = 24_000
"""Samples a second of OpenAI's `pcm`, which cannot say so itself, and of all of Google's models."""

_OPENAI_VOICES: Final = frozenset(
    {
        "alloy",
        "ash",
        "ballad",
        "cedar",
        "coral",
        "echo",
        "fable",
        "marin",
        "nova",
        "onyx",
        "sage",
        "shimmer",
        "verse",
    }
)
VOICES: Final = (
    "Achernar, Achird, Algenib, Algieba, Alnilam, Aoede, Autonoe, Callirrhoe, Charon, Despina, Enceladus, Erinome, "
    "Fenrir, Gacrux, Iapetus, Kore, Laomedeia, Leda, Orus, Puck, Pulcherrima, Rasalgethi, Sadachbia, Sadaltager, "
    "Schedar, Sulafat, Umbriel, Vindemiatrix, Zephyr, Zubenelgenubi"
)
"""Of Google's documentation (speech generation, voice options). Other names go on: there may be new ones."""

_RATE: Final = re.compile(r";\s*rate\s*=\s*(\d{1,6})(?![\d.])", re.IGNORECASE)


def is_foreign(voice: str) -> bool:
    """Whether this is one of OpenAI's voices."""
    return voice.lower() in _OPENAI_VOICES


def ask_gemini(text: str, instructions: str, destination: Destination, *, voice: str, custom_voice: str) -> bytes:
    """The body for `streamGenerateContent`; without any voice the model has one of its own.

    Newer models take the manner of speaking beside the text, older ones in front of it.
    """
    config: dict[str, Any] = {"responseModalities": ["AUDIO"]}
    if custom_voice:
        config["speechConfig"] = {"voiceConfig": {"voice": custom_voice}}
    elif voice:
        config["speechConfig"] = {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": voice}}}
    part: dict[str, Any] = {"text": text}
    style = instructions.strip()
    if style and destination.speech.style_in_text:
        part["text"] = f"{style.rstrip('.:')}:\n{text}"
    elif style:
        part["speechMetadata"] = {"style": style}
    return jsonio.encode({"contents": [{"role": "user", "parts": [part]}], "generationConfig": config})


class _Blob(msgspec.Struct, gc=False, rename="camel"):
    data: bytes = b""
    mime_type: str = ""


class _Part(msgspec.Struct, gc=False, rename="camel"):
    inline_data: _Blob | None = None


_chunk = jsonio.decoder(Chunk[Candidate[_Part]])


class GeminiSource:
    """See :class:`tidegate.dialects.speech.source.Source`. The audio comes as plain samples; the head that a WAV file begins
    with is made here. Google's stream has no last event: it is complete when it ends behind a finish reason."""

    __slots__ = ("_begun", "_decoder", "_odd", "_provider", "_wants_head", "_wav", "ending", "failure", "finished", "stopped", "usage")  # fmt: skip

    def __init__(self, provider: str, *, head: bool) -> None:
        """`head`: the client wants a WAV file, and not the bare samples."""
        self._provider = provider
        self._wants_head = head
        self._decoder = sse.FrameDecoder()
        self._begun = False
        self._odd = b""
        """Half a sample."""
        self._wav: WavStart | None = None
        self.stopped = False
        self.finished = False
        self.failure: TidegateError | None = None
        self.usage: Usage | None = None
        self.ending = b""

    def feed(self, data: bytes) -> list[Piece]:
        try:
            frames = self._decoder.feed(data)
        except sse.FrameError as error:
            pieces = self._read(error.frames)
            self._break(str(error))
            return pieces
        return self._read(frames)

    def eof(self) -> list[Piece]:
        tail = self._decoder.eof()
        pieces = self._read([tail]) if tail is not None else []
        if self.failure is None:
            if self.stopped:
                self.finished = True
            else:
                self._break("the stream ended without a finish reason")
        return pieces

    def _read(self, frames: list[sse.Frame]) -> list[Piece]:
        pieces = []
        for frame in frames:
            if self.failure is not None:
                break
            if frame.data and frame.data.strip() != b"[DONE]":
                audio = self._read_chunk(frame.data)
                if audio:
                    pieces.append(Piece(audio))
        return pieces

    def _read_chunk(self, data: bytes) -> bytes:
        try:
            if not data.isascii():
                data.decode()
            chunk = _chunk.decode(data)
        except jsonio.UNREADABLE as error:
            found = without_figures(data, _chunk)
            if found is None:
                self._break(f"a chunk of the answer cannot be read: {error}")
                return b""
            chunk = found
        if chunk.error and not jsonio.is_null(chunk.error):
            self.failure = from_error_object(chunk.error, self._provider)
            return b""
        if chunk.usage_metadata is not None and chunk.usage_metadata.counted:
            self.usage = read_usage(chunk.usage_metadata)
        out = []
        for candidate in (chunk.candidates or ())[:1]:
            for part in (candidate.content.parts if candidate.content is not None else None) or ():
                if part.inline_data is not None and self.failure is None:
                    out.append(self._samples(part.inline_data))
            self._read_reason(candidate)
        feedback = chunk.prompt_feedback
        if feedback is not None and is_ending(feedback.block_reason) and not chunk.candidates:
            self._withhold(f"blocked the text ({feedback.block_reason})")
        return b"".join(out)

    def _read_reason(self, candidate: Candidate[_Part]) -> None:
        if not is_ending(candidate.finish_reason) or self.failure is not None:
            return
        reason = ending(candidate.finish_reason or "", candidate.finish_message or "", self._provider)
        if isinstance(reason, TidegateError):
            self.failure = reason
        elif reason == "stop":
            self.stopped = True
        elif reason == "length":
            self._break("the audio was cut at the model's limit")
        else:
            self._withhold(f"withheld the audio ({candidate.finish_reason})")

    def _samples(self, blob: _Blob) -> bytes:
        """The samples of one piece, all with the byte order that WAV and `pcm` have: Google's L16 has it too, whatever
        RFC 3551 says."""
        kind = blob.mime_type.partition(";")[0].strip().lower()
        data = blob.data
        if kind in ("audio/wav", "audio/x-wav", "audio/wave"):
            if self._wav is None:
                self._wav = WavStart()
            if not self._wav.read:
                data = self._wav.feed(data)
        elif kind not in ("audio/l16", "audio/pcm", ""):
            self._break(f"it sent audio of the type '{blob.mime_type[:64]}', which was not asked for")
            return b""
        data = self._odd + data
        whole = len(data) - len(data) % 2
        data, self._odd = data[:whole], data[whole:]
        return self._begin(blob.mime_type) + data if data else b""

    def _begin(self, mime_type: str) -> bytes:
        """What stands before the first samples."""
        if self._begun:
            return b""
        self._begun = True
        told = _RATE.search(mime_type)
        rate = int(told[1]) if told else 0
        head = b""
        if self._wav is not None:
            rate, head = self._wav.rate, self._wav.head
        rate = rate or PCM_RATE
        if self._wants_head:
            return head or open_head(rate)
        if rate != PCM_RATE:
            self._break(f"it sent {rate} samples a second, and 'pcm' has {PCM_RATE}; ask for 'wav'")
        return b""

    def _withhold(self, what: str) -> None:
        self.failure = UpstreamFailed(
            f"Provider '{self._provider}' {what}.",
            status=400,
            type="invalid_request_error",
            retryable=False,
            param="input",
            code="content_filter",
        )

    def _break(self, why: str) -> None:
        if self.failure is None:
            self.failure = UpstreamBroken(f"Provider '{self._provider}': {why}.")
