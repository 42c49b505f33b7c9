"""OpenAI's two endpoints that turn speech into text (`POST /v1/audio/transcriptions` and `/v1/audio/translations`)."""

from tidegate.dialects.dialect import Endpoint, FormRequest, OpenAIErrors, Request
from tidegate.dialects.transcription.fields import TranscriptionFields, TranslationFields
from tidegate.dialects.transcription.request import TranscriptionRequest
from tidegate.wire.errors import InvalidRequest
from tidegate.wire.forms import FILE, Form

__all__ = ["TranscriptionDialect", "TranscriptionFields", "TranslationDialect", "TranslationFields"]


class _Forms(OpenAIErrors):
    """What both have in common: a form with a file."""

    takes_form = True
    media_param = FILE

    def parse(self, body: bytes) -> Request:
        """A form it is, or nothing."""
        raise InvalidRequest("This endpoint takes a form (multipart/form-data).", param=FILE, code="invalid_form")


class TranscriptionDialect(_Forms):
    """See :class:`tidegate.dialects.dialect.FormDialect`."""

    name: Endpoint = "transcription"
    path = "/v1/audio/transcriptions"
    body_type = TranscriptionFields

    def parse_form(self, form: Form) -> FormRequest:
        return TranscriptionRequest.read(form, TranscriptionFields)


class TranslationDialect(_Forms):
    """The same into English, and never as a stream."""

    name: Endpoint = "translation"
    path = "/v1/audio/translations"
    body_type = TranslationFields

    def parse_form(self, form: Form) -> FormRequest:
        return TranscriptionRequest.read(form, TranslationFields)
