"""espeak-ng through the shared library of the `espeakng-loader` wheel: text to 16-bit samples, piece by piece.

The library keeps its state in global variables, so that a process has one `Synthesizer` and speaks one text at a time.
It is under the GPL, version 3 or later: only worker processes may load this module.
"""

import ctypes
import os
from collections.abc import Callable
from typing import Any, Final

import espeakng_loader

__all__ = ["NATURAL_RATE", "RATES", "Synthesizer", "Voice", "pace"]

NATURAL_RATE: Final = 175
"""Words per minute of espeak-ng at speed 1."""

RATES: Final = (80, 450)
"""What espeak-ng can speak by itself, in words per minute; beyond it stops, or stretches what it has spoken."""

_SYNCHRONOUS: Final = 2  # AUDIO_OUTPUT_SYNCHRONOUS of speak_lib.h
_BUFFER_MS: Final = 100
_DONT_EXIT: Final = 0x8000  # espeakINITIALIZE_DONT_EXIT
_RATE: Final = 1  # espeakRATE
_UTF8: Final = 1  # espeakCHARS_UTF8
_POS_CHARACTER: Final = 1
_MALE: Final = 1

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class _VoiceStruct(ctypes.Structure):
    """`espeak_VOICE` of speak_lib.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


def pace(speed: float) -> tuple[int, float]:
    """How `speed` is reached: the words per minute that espeak-ng speaks, and how many times faster that is played."""
    wanted = NATURAL_RATE * speed
    rate = round(min(max(wanted, RATES[0]), RATES[1]))
    return rate, 1.0 if RATES[0] <= wanted <= RATES[1] else wanted / rate


class Voice:
    """A voice that espeak-ng has: its file below the data folder, its name, and the languages it speaks with their
    rank, lower being better."""

    __slots__ = ("file", "languages", "name")

    def __init__(self, file: str, name: str, languages: dict[str, int]) -> None:
        self.file = file
        self.name = name
        self.languages = languages


class Synthesizer:
    """The library, initialised once. Raises OSError when it cannot be loaded."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._declare()
        data = espeakng_loader.get_data_path()
        self.sample_rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, data.encode(), _DONT_EXIT)
        if self.sample_rate <= 0:
            raise OSError(f"espeak-ng does not start with the data in {data}")
        self._variants = os.path.join(data, "voices", "!v")
        self._take: Callable[[bytes], object] = len  # replaced for each text
        self._failure: BaseException | None = None
        self._callback = _Callback(self._spoken)  # kept: the library holds only a pointer to it
        self._library.espeak_SetSynthCallback(self._callback)

    def voices(self) -> list[Voice]:
        """Every voice that comes with its data. Voices of MBROLA are listed by the library but need files that nobody
        here has."""
        listed = self._library.espeak_ListVoices(None)
        found = []
        position = 0
        while listed[position]:
            voice = listed[position].contents
            position += 1
            file = voice.identifier.decode()
            if not file.startswith("mb/"):
                found.append(Voice(file, voice.name.decode().strip(), _languages(voice.languages)))
        return found

    def variants(self) -> list[str]:
        """The names that may stand behind the plus sign of a voice."""
        return sorted(os.listdir(self._variants), key=str.lower)

    def speak(self, text: str, voice: str, rate: int, take: Callable[[bytes], None]) -> None:
        """Speaks `text` with the voice file `voice` (`gmw/en-US+f2`), and gives `take` each piece of samples as soon as
        it is made: 16 bits, native order, mono, at `sample_rate`.

        Raises whatever `take` raises, and OSError when the library fails.
        """
        status = self._library.espeak_SetVoiceByName(voice.encode())
        if status:
            raise OSError(f"espeak-ng cannot load the voice {voice!r}: status {status}")
        self._library.espeak_SetParameter(_RATE, rate, 0)
        encoded = text.encode()
        self._take, self._failure = take, None
        status = self._library.espeak_Synth(encoded, len(encoded) + 1, 0, _POS_CHARACTER, 0, _UTF8, None, None)
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        if status:
            raise OSError(f"espeak-ng cannot speak: status {status}")

    def _spoken(self, samples: int | None, count: int, _events: int | None) -> int:
        """Called by the library, where an exception would vanish: it is kept, and ends the synthesis."""
        if not samples or count <= 0:
            return 0
        try:
            self._take(ctypes.string_at(samples, count * 2))
        except BaseException as error:
            self._failure = error
            return 1
        return 0

    def _declare(self) -> None:
        library: Any = self._library
        library.espeak_Initialize.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int)
        library.espeak_SetSynthCallback.argtypes = (_Callback,)
        library.espeak_SetSynthCallback.restype = None
        library.espeak_SetVoiceByName.argtypes = (ctypes.c_char_p,)
        library.espeak_SetParameter.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int)
        library.espeak_ListVoices.argtypes = (ctypes.c_void_p,)
        library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_VoiceStruct))
        library.espeak_Synth.argtypes = (
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.c_void_p,
            ctypes.c_void_p,
        )


def _languages(address: int) -> dict[str, int]:
    """The library's list: for each language a byte of rank and a string, then a zero."""
    found: dict[str, int] = {}
    while rank := ctypes.string_at(address, 1)[0]:
        code = ctypes.string_at(address + 1)
        found.setdefault(code.decode(), rank)
        address += len(code) + 2
    return found
