"""The engine's HTTP interface: OpenAI's audio API below a path that only the gateway knows."""

from http import HTTPStatus
from typing import Final, Literal

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import Message

from tidegate.local_audio import speech, transcription
from tidegate.local_audio.pool import Pool
from tidegate.local_audio.reply import Relay
from tidegate.wire import jsonio
from tidegate.wire.errors import BodyTooLarge, Internal, InvalidRequest, MethodNotAllowed, NotFound, TidegateError

__all__ = ["application"]

MAX_JSON_BYTES: Final = 1024**2
MAX_UPLOAD_BYTES: Final = 2 * 1024**3
"""The gateway has a lower limit of its own; this one keeps the disk from filling up should that be wrong."""

MAX_FIELDS: Final = 100
MAX_FIELD_BYTES: Final = 256 * 1024


def application(token: str, speakers: Pool, listeners: Pool) -> Starlette:
    """The endpoints, all of them below `/{token}/v1`."""

    async def models(_: Request) -> Response:
        entries = [
            {"id": name, "object": "model", "created": 0, "owned_by": "local-audio"}
            for name in (speech.MODEL, transcription.MODEL)
        ]
        return _json({"object": "list", "data": entries})

    async def say(request: Request) -> Relay:
        return speech.speak(await _bounded(request, MAX_JSON_BYTES).body(), speakers)

    async def transcribe(request: Request) -> Relay:
        return await listen(request, "transcribe")

    async def translate(request: Request) -> Relay:
        return await listen(request, "translate")

    async def listen(request: Request, task: Literal["transcribe", "translate"]) -> Relay:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "multipart/form-data":
            raise InvalidRequest(
                f"The request body is {kind or 'of no declared type'}; this endpoint takes multipart/form-data with a 'file'.",
                param="file",
            )
        bounded = _bounded(request, MAX_UPLOAD_BYTES)
        form = await bounded.form(max_files=2, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
        return await transcription.transcribe(form, listeners, task)

    return Starlette(
        routes=[
            Mount(
                f"/{token}/v1",
                routes=[
                    Route("/models", models, methods=["GET"]),
                    Route("/audio/speech", say, methods=["POST"]),
                    Route("/audio/transcriptions", transcribe, methods=["POST"]),
                    Route("/audio/translations", translate, methods=["POST"]),
                ],
            )
        ],
        exception_handlers={
            TidegateError: _told,
            HTTPException: _refused,
            ClientDisconnect: _gone,
            Exception: _broken,
        },
    )


def _bounded(request: Request, most: int) -> Request:
    """The request, with an end to its patience: reading its body raises BodyTooLarge beyond `most` bytes."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise _too_large(most)
    left = most

    async def receive() -> Message:
        nonlocal left
        message = await request.receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise _too_large(most)
        return message

    return Request(request.scope, receive)


def _too_large(most: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is over {most // 1024**2} MiB, the most that the local engine takes.")


def _json(value: object) -> Response:
    return Response(jsonio.encode(value), media_type="application/json")


async def _told(_: Request, error: Exception) -> Response:
    assert isinstance(error, TidegateError)
    headers = {name.decode(): value.decode() for name, value in error.headers()}
    return Response(error.body(), error.http_status, headers, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    """Starlette's own refusals: no such path, no such method, a form that cannot be read."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return await _told(request, NotFound("The local audio engine has no such path."))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        return await _told(request, MethodNotAllowed(f"This path takes {allowed}, not {request.method}.", allowed))
    return await _told(request, InvalidRequest(f"The form cannot be read: {error.detail}", param="file"))


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody reads it


async def _broken(request: Request, _: Exception) -> Response:
    """A fault of ours: the server writes it to its log, and the caller learns only that it is one."""
    return await _told(request, Internal("The local audio engine has a fault; its log says more."))
