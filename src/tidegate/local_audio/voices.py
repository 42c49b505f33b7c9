"""Which of espeak-ng's voices a request means: OpenAI's thirteen names, or any name that espeak-ng knows itself."""

import unicodedata
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from tidegate.local_audio.espeak import Voice
from tidegate.local_audio.frames import Refusal

__all__ = ["OPENAI_VOICES", "VoiceTable", "language_of"]

OPENAI_VOICES: Final[Mapping[str, tuple[str, str]]] = {
    "alloy": ("en-us", "f5"),
    "ash": ("en-us", "m3"),
    "ballad": ("en-gb-x-rp", "m2"),
    "cedar": ("en-us", "m6"),
    "coral": ("en-us", "f4"),
    "echo": ("en-us", "m2"),
    "fable": ("en-gb", "f3"),
    "marin": ("en-us", "f1"),
    "nova": ("en-us", "f2"),
    "onyx": ("en-us", "m7"),
    "sage": ("en-us", "f3"),
    "shimmer": ("en-gb", "f5"),
    "verse": ("en-us", "m4"),
}
"""The English accent and the variant that stand for each name; other languages keep the variant."""

_SCRIPTS: Final[Mapping[str, str]] = {
    "ARABIC": "ar",
    "ARMENIAN": "hy",
    "BENGALI": "bn",
    "CJK": "cmn",
    "CYRILLIC": "ru",
    "DEVANAGARI": "hi",
    "GEORGIAN": "ka",
    "GREEK": "el",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "HANGUL": "ko",
    "HEBREW": "he",
    "HIRAGANA": "ja",
    "KANNADA": "kn",
    "KATAKANA": "ja",
    "MALAYALAM": "ml",
    "MYANMAR": "my",
    "SINHALA": "si",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAI": "th",
}
"""The first word of a letter's Unicode name, and the language most written with it."""

_SYLLABIC: Final = frozenset({"cmn", "ja", "ko"})
"""Each of their letters counts as much as a word of another script's."""


def language_of(text: str) -> str:
    """The language that most of `text` is written in, as far as its script tells: `cmn` for Chinese, empty for the
    Latin alphabet, which many languages share."""
    weights: dict[str, int] = {}
    last: str | None = None
    for character in text:
        if not character.isalpha():
            last = last if unicodedata.combining(character) else None
            continue
        language = _SCRIPTS.get(unicodedata.name(character, "").split(" ", 1)[0], "")
        if language in _SYLLABIC or language != last:  # one for each syllable, or for the beginning of a word
            weights[language] = weights.get(language, 0) + 1
        last = language
    if weights.get("ja") and "cmn" in weights:
        weights["ja"] += weights.pop("cmn")  # kana tell Japanese from Chinese
    return max(weights, key=lambda language: weights[language]) if weights else ""


class VoiceTable:
    """Every voice and variant that espeak-ng has, and the files they stand for."""

    def __init__(self, voices: Iterable[Voice], variants: Collection[str]) -> None:
        self._files: dict[str, str] = {}
        self._variants = {variant.lower(): variant for variant in variants}
        ranks: dict[str, int] = {}
        kept = sorted(voices, key=lambda voice: voice.file)
        for voice in kept:
            for code, rank in voice.languages.items():
                code = code.lower()
                if rank < ranks.get(code, 256):
                    ranks[code] = rank
                    self._files[code] = voice.file
        for voice in kept:
            # A file's own name is more exact than a language that several voices speak.
            self._files[voice.file.rpartition("/")[2].lower()] = voice.file
            self._files.setdefault(voice.name.lower(), voice.file)
        self._names = sorted(name for name in self._files if name in ranks)

    def file(self, name: str, text: str) -> str | Refusal:
        """The voice file for a request's `voice`, such as `gmw/en-US+f2`, or what is wrong with the name.

        OpenAI's names speak the language that `text` is written in; espeak-ng's keep to their own.
        """
        wanted = name.strip().lower()
        if wanted in OPENAI_VOICES:
            accent, variant = OPENAI_VOICES[wanted]
            return f"{self._files[language_of(text) or accent]}+{variant}"
        base, plus, variant = wanted.partition("+")
        file = self._files.get(base.strip().replace("_", "-"))
        if file is None:
            return self._unknown(name)
        if not plus:
            return file
        if variant.strip() not in self._variants:
            return Refusal(
                f"Invalid 'voice': '{name[:64]}' names a variant that espeak-ng does not have; "
                f"behind the plus sign stands one of: {', '.join(self._variants.values())}.",
                "voice",
                "invalid_value",
            )
        return f"{file}+{self._variants[variant.strip()]}"

    def _unknown(self, name: str) -> Refusal:
        return Refusal(
            f"Invalid 'voice': '{name[:64]}' is not a voice of this engine. Voices with OpenAI's names: "
            f"{', '.join(OPENAI_VOICES)}. Voices of espeak-ng, each with a variant if you like, as in 'en-us+f3': "
            f"{', '.join(self._names)}.",
            "voice",
            "invalid_value",
        )
