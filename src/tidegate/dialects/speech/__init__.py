"""Text to speech (`POST /v1/audio/speech`), from providers of OpenAI's API and from Gemini."""

from tidegate.dialects.dialect import Endpoint, OpenAIErrors
from tidegate.dialects.speech.request import SpeechBody, SpeechRequest, parse_speech

__all__ = ["SpeechBody", "SpeechDialect", "SpeechRequest"]


class SpeechDialect(OpenAIErrors):
    """See :class:`tidegate.dialects.dialect.Dialect`."""

    name: Endpoint = "speech"
    path = "/v1/audio/speech"
    media_param = "input"
    body_type = SpeechBody

    def parse(self, body: bytes) -> SpeechRequest:
        return parse_speech(body)
