"""The four kinds of clients, each through its official SDK, with one face: what they ask, and what they saw.

What came is read twice: by the SDK, whose object a program works with, and as the bytes on the wire, which are held to the
dialect's grammar and to the SDK's types.
"""

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any, ClassVar, Final

import anthropic
import httpx
import httpx2
import msgspec
import openai
import pydantic
from anthropic.types import Message, RawMessageStreamEvent
from google import genai
from google.genai import types
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

from tests.support.api import Frame, read_frames
from tests.support.grammar import check_stream
from tests.support.running import Running
from tests.support.strict import check, check_event

__all__ = ["NAMES", "Answer", "Call", "Client", "Wire", "every_client"]

_MESSAGE_EVENT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(RawMessageStreamEvent)
_MESSAGE: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(Message)


class Call(msgspec.Struct, frozen=True):
    """A tool call."""

    id: str
    name: str
    arguments: Any


class Answer(msgspec.Struct, kw_only=True):
    """A whole answer. `reason` is how it ended, in the words of the client's dialect."""

    text: str = ""
    thoughts: str = ""
    refusal: str = ""
    calls: list[Call] = []
    reason: str
    prompt_tokens: int
    output_tokens: int
    history: list[Any]
    """The answer as the client sends it back."""


class Wire:
    """What went over a connection: status, headers and body of the last answer, as it came."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._chunks: list[bytes] = []

    def begin(self, response: Any) -> None:
        self.status = response.status_code
        self.headers = dict(response.headers)
        self._chunks = []

    def keep(self, stream: Any) -> Iterator[bytes]:
        for chunk in stream:
            self._chunks.append(chunk)
            yield chunk

    @property
    def body(self) -> bytes:
        return b"".join(self._chunks)

    @property
    def frames(self) -> list[Frame]:
        return [frame for frame in read_frames(self.body) if frame.data]

    @property
    def events(self) -> list[Any]:
        return [frame.json for frame in self.frames if frame.data != b"[DONE]"]

    @property
    def dropped(self) -> list[str]:
        return [name for name in self.headers.get("tidegate-dropped", "").split(", ") if name]


class _Tee(httpx.SyncByteStream, httpx2.SyncByteStream):
    """Either library takes it for a stream of its own."""

    def __init__(self, wire: Wire, stream: Any) -> None:
        self._wire = wire
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        return self._wire.keep(self._stream)

    def close(self) -> None:
        self._stream.close()


def _http(wire: Wire, library: Any) -> Any:
    """A client of `library`, which is `httpx` or its second generation."""

    def keep(response: Any) -> None:
        wire.begin(response)
        response.stream = _Tee(wire, response.stream)

    return library.Client(timeout=20, event_hooks={"response": [keep]}, trust_env=False)


class Wanted(msgspec.Struct, frozen=True):
    """What may be asked for beside an answer."""

    tools: dict[str, Any]
    schema: Any
    limit: int | None
    think: bool
    key: str


class Client(ABC):
    """One kind of client. Turns are in its own form, and are put together by the test."""

    name: ClassVar[str]
    errors: ClassVar[tuple[type[Exception], ...]]
    """What its SDK raises for a broken answer or an error."""

    def __init__(self, gateway: Running) -> None:
        self.wire = Wire()
        self.sdk = self._connected(gateway)

    def close(self) -> None:
        self.sdk.close()

    def ask(
        self,
        model: str,
        turns: list[Any],
        *,
        stream: bool,
        tools: dict[str, Any] | None = None,
        schema: Any = None,
        limit: int | None = None,
        think: bool = False,
        key: str = "",
        **more: Any,
    ) -> Answer:
        """Tools are JSON schemas by name. `more` are members of the client's own dialect."""
        asked = {**self._asked(turns, Wanted(tools or {}, schema, limit, think, key)), **more}
        return (self._streamed if stream else self._whole)(model, asked)

    @abstractmethod
    def user(self, text: str, image: str = "") -> list[Any]:
        """What the user says, with an image as a data URL."""

    @abstractmethod
    def results(self, calls: list[Call], text: str) -> list[Any]:
        """The same result for each of the calls."""

    @abstractmethod
    def check_broken(self, *, cut: bool = False) -> str:
        """The stream on the wire ended as broken and as nothing else; returns the text before that. `cut`: the frames are
        the provider's own, so that what it began may be open."""

    @abstractmethod
    def _connected(self, gateway: Running) -> Any:
        """The SDK, over a connection that `wire` reads."""

    @abstractmethod
    def _asked(self, turns: list[Any], wanted: Wanted) -> dict[str, Any]:
        """The members of the request."""

    @abstractmethod
    def _whole(self, model: str, asked: dict[str, Any]) -> Answer:
        """Ask without a stream."""

    @abstractmethod
    def _streamed(self, model: str, asked: dict[str, Any]) -> Answer:
        """Ask for a stream, and hold it to the grammar."""


@contextmanager
def every_client(gateway: Running) -> Iterator[dict[str, Client]]:
    """One of each kind, by name."""
    with ExitStack() as stack:
        yield {kind.name: stack.enter_context(closing(kind(gateway))) for kind in CLIENTS}


# -- OpenAI -----------------------------------------------------------------------------------------------------


class _OpenAI(Client):
    errors: ClassVar[tuple[type[Exception], ...]] = (openai.APIError,)

    def _connected(self, gateway: Running) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=gateway.url, api_key="unused", max_retries=0, timeout=20, http_client=_http(self.wire, httpx2)
        )


class ResponsesClient(_OpenAI):
    name: ClassVar[str] = "responses"

    def user(self, text: str, image: str = "") -> list[Any]:
        if not image:
            return [{"role": "user", "content": text}]
        picture = {"type": "input_image", "image_url": image, "detail": "auto"}
        return [{"role": "user", "content": [{"type": "input_text", "text": text}, picture]}]

    def results(self, calls: list[Call], text: str) -> list[Any]:
        return [{"type": "function_call_output", "call_id": call.id, "output": text} for call in calls]

    def _asked(self, turns: list[Any], wanted: Wanted) -> dict[str, Any]:
        asked: dict[str, Any] = {"input": turns, "store": False}
        if wanted.tools:
            asked["tools"] = [
                {"type": "function", "name": name, "parameters": parameters, "strict": False}
                for name, parameters in wanted.tools.items()
            ]
        if wanted.schema:
            form = {"type": "json_schema", "name": "tide", "schema": wanted.schema, "strict": True}
            asked["text"] = {"format": form}
        if wanted.limit:
            asked["max_output_tokens"] = wanted.limit
        if wanted.think:
            asked["reasoning"] = {"effort": "low", "summary": "auto"}
            asked["include"] = ["reasoning.encrypted_content"]
        if wanted.key:
            asked["extra_headers"] = {"authorization": f"Bearer {wanted.key}"}
        return asked

    def _whole(self, model: str, asked: dict[str, Any]) -> Answer:
        self.sdk.responses.create(model=model, stream=False, **asked)
        return self._answer(check(Response, json.loads(self.wire.body)))

    def _streamed(self, model: str, asked: dict[str, Any]) -> Answer:
        with self.sdk.responses.stream(model=model, **asked) as events:
            for _ in events:
                pass
        final = check_stream(self.wire.frames)
        for event in self.wire.events:
            check_event(event)
        return self._answer(check(Response, final))

    @staticmethod
    def _answer(response: Response) -> Answer:
        calls = [
            Call(item.call_id, item.name, json.loads(item.arguments))
            for item in response.output
            if item.type == "function_call"
        ]
        parts = [part for item in response.output if item.type == "message" for part in item.content]
        thoughts = [item for item in response.output if item.type == "reasoning"]
        told = [part.text for item in thoughts for part in (*item.summary, *(item.content or ()))]
        assert response.usage is not None
        assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
        cut = response.incomplete_details
        return Answer(
            text=response.output_text,
            thoughts="".join(told),
            refusal="".join(part.refusal for part in parts if part.type == "refusal"),
            calls=calls,
            reason=f"{response.status}{f' {cut.reason}' if cut else ''}",
            prompt_tokens=response.usage.input_tokens,
            output_tokens=response.usage.output_tokens,
            history=[item.model_dump(exclude_none=True) for item in response.output],
        )

    def check_broken(self, *, cut: bool = False) -> str:
        response = check_stream(self.wire.frames, cut=cut)
        assert response["status"] == "failed"
        assert response["error"]["message"]
        assert [frame.event for frame in self.wire.frames][-2:] == ["error", "response.failed"]
        assert b"[DONE]" not in self.wire.body
        return "".join(event["delta"] for event in self.wire.events if event["type"] == "response.output_text.delta")


class ChatClient(_OpenAI):
    name: ClassVar[str] = "chat"

    def user(self, text: str, image: str = "") -> list[Any]:
        if not image:
            return [{"role": "user", "content": text}]
        picture = {"type": "image_url", "image_url": {"url": image}}
        return [{"role": "user", "content": [{"type": "text", "text": text}, picture]}]

    def results(self, calls: list[Call], text: str) -> list[Any]:
        return [{"role": "tool", "tool_call_id": call.id, "content": text} for call in calls]

    def _asked(self, turns: list[Any], wanted: Wanted) -> dict[str, Any]:
        asked: dict[str, Any] = {"messages": turns}
        if wanted.tools:
            asked["tools"] = [
                {"type": "function", "function": {"name": name, "parameters": parameters}}
                for name, parameters in wanted.tools.items()
            ]
        if wanted.schema:
            form = {"name": "tide", "schema": wanted.schema, "strict": True}
            asked["response_format"] = {"type": "json_schema", "json_schema": form}
        if wanted.limit:
            asked["max_completion_tokens"] = wanted.limit
        if wanted.think:
            asked["reasoning_effort"] = "low"
        if wanted.key:
            asked["extra_headers"] = {"authorization": f"Bearer {wanted.key}"}
        return asked

    def _whole(self, model: str, asked: dict[str, Any]) -> Answer:
        return self._answer(check(ChatCompletion, self.sdk.chat.completions.create(model=model, stream=False, **asked)))

    def _streamed(self, model: str, asked: dict[str, Any]) -> Answer:
        thoughts = ""
        state = ChatCompletionStreamState()
        usage = {"include_usage": True}
        completions = self.sdk.chat.completions
        for chunk in completions.create(model=model, stream=True, stream_options=usage, **asked):
            check(ChatCompletionChunk, chunk)
            state.handle_chunk(chunk)
            for choice in chunk.choices:
                thoughts += getattr(choice.delta, "reasoning_content", None) or ""
        self._check_grammar()
        answer = self._answer(ChatCompletion.model_validate(state.current_completion_snapshot.model_dump()))
        answer.thoughts = thoughts
        return answer

    @staticmethod
    def _answer(completion: ChatCompletion) -> Answer:
        assert len(completion.choices) == 1
        choice = completion.choices[0]
        message = choice.message
        calls = [
            Call(call.id, call.function.name, json.loads(call.function.arguments))
            for call in message.tool_calls or ()
            if call.type == "function"
        ]
        assert completion.usage is not None
        kept = {"role", "content", "tool_calls", "refusal", "reasoning_content", "reasoning_details"}
        return Answer(
            text=message.content or "",
            thoughts=getattr(message, "reasoning_content", None) or "",
            refusal=message.refusal or "",
            calls=calls,
            reason=choice.finish_reason,
            prompt_tokens=completion.usage.prompt_tokens,
            output_tokens=completion.usage.completion_tokens,
            history=[{name: value for name, value in message.model_dump(exclude_none=True).items() if name in kept}],
        )

    def _check_grammar(self) -> None:
        frames = self.wire.frames
        assert [frame.data for frame in frames].count(b"[DONE]") == 1
        assert frames[-1].data == b"[DONE]"
        events = self.wire.events
        assert len({(event["id"], event["created"], event["model"]) for event in events}) == 1
        assert events[0]["choices"][0]["delta"]["role"] == "assistant"
        choices = [choice for event in events for choice in event["choices"]]
        assert [choice["finish_reason"] is not None for choice in choices].count(True) == 1
        assert choices[-1]["finish_reason"]
        assert [event for event in events if event.get("usage")] == [events[-1]]
        assert events[-1]["choices"] == []

    def check_broken(self, *, cut: bool = False) -> str:
        assert b"[DONE]" not in self.wire.body
        events = self.wire.events
        assert [event for event in events if "error" in event] == [events[-1]]
        assert set(events[-1]["error"]) == {"message", "type", "param", "code"}
        choices = [choice for event in events[:-1] for choice in event["choices"]]
        assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == []
        return "".join(choice["delta"].get("content") or "" for choice in choices)


# -- Anthropic --------------------------------------------------------------------------------------------------


class MessagesClient(Client):
    name: ClassVar[str] = "messages"
    errors: ClassVar[tuple[type[Exception], ...]] = (anthropic.APIError,)

    def _connected(self, gateway: Running) -> anthropic.Anthropic:
        return anthropic.Anthropic(
            base_url=gateway.origin, api_key="unused", max_retries=0, timeout=20, http_client=_http(self.wire, httpx2)
        )

    def user(self, text: str, image: str = "") -> list[Any]:
        if not image:
            return [{"role": "user", "content": text}]
        kind, _, data = image.removeprefix("data:").partition(";base64,")
        source = {"type": "base64", "media_type": kind, "data": data}
        return [{"role": "user", "content": [{"type": "text", "text": text}, {"type": "image", "source": source}]}]

    def results(self, calls: list[Call], text: str) -> list[Any]:
        blocks = [{"type": "tool_result", "tool_use_id": call.id, "content": text} for call in calls]
        return [{"role": "user", "content": blocks}]

    def _asked(self, turns: list[Any], wanted: Wanted) -> dict[str, Any]:
        asked: dict[str, Any] = {"messages": turns, "max_tokens": wanted.limit or 4000}
        if wanted.tools:
            asked["tools"] = [{"name": name, "input_schema": parameters} for name, parameters in wanted.tools.items()]
        if wanted.schema:
            asked["output_config"] = {"format": {"type": "json_schema", "schema": wanted.schema}}
        if wanted.think:
            asked["thinking"] = {"type": "adaptive", "display": "summarized"}
        if wanted.key:
            asked["extra_headers"] = {"authorization": f"Bearer {wanted.key}"}
        return asked

    def _whole(self, model: str, asked: dict[str, Any]) -> Answer:
        whole = self.sdk.messages.create(model=model, stream=False, **asked)
        return self._answer(_MESSAGE.validate_python(whole.to_dict()))

    def _streamed(self, model: str, asked: dict[str, Any]) -> Answer:
        with self.sdk.messages.stream(model=model, **asked) as events:
            final = events.get_final_message()
        self._check_grammar()
        content = [{k: v for k, v in block.to_dict().items() if k != "parsed_output"} for block in final.content]
        return self._answer(_MESSAGE.validate_python({**final.to_dict(), "content": content}))

    @staticmethod
    def _answer(message: Message) -> Answer:
        text = "".join(block.text for block in message.content if block.type == "text")
        assert message.id.startswith("msg_")
        usage = message.usage
        cached = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
        return Answer(
            text="" if message.stop_reason == "refusal" else text,
            thoughts="".join(block.thinking for block in message.content if block.type == "thinking"),
            refusal=text if message.stop_reason == "refusal" else "",
            calls=[Call(block.id, block.name, block.input) for block in message.content if block.type == "tool_use"],
            reason=str(message.stop_reason),
            prompt_tokens=usage.input_tokens + cached,
            output_tokens=usage.output_tokens,
            history=[{"role": "assistant", "content": [block.to_dict() for block in message.content]}],
        )

    def _check_grammar(self) -> None:
        events = self._checked()
        kinds = [event["type"] for event in events]
        assert kinds[0] == "message_start"
        assert kinds[-2:] == ["message_delta", "message_stop"]
        assert [kinds.count(kind) for kind in ("message_start", "message_stop")] == [1, 1]
        assert "error" not in kinds

    def _checked(self) -> list[Any]:
        open_block, begun = -1, 0
        events = [event for event in self.wire.events if event["type"] != "ping"]
        for frame, event in zip(self.wire.frames, self.wire.events, strict=True):
            assert frame.event == event["type"]
        for event in events:
            kind = event["type"]
            if kind != "error":
                _MESSAGE_EVENT.validate_python(event)
            if kind == "content_block_start":
                assert (open_block, event["index"]) == (-1, begun)
                open_block, begun = begun, begun + 1
            elif kind == "content_block_delta":
                assert event["index"] == open_block
            elif kind == "content_block_stop":
                assert event["index"] == open_block
                open_block = -1
            elif kind != "error":
                assert open_block == -1
        return events

    def check_broken(self, *, cut: bool = False) -> str:
        events = self._checked()
        kinds = [event["type"] for event in events]
        assert kinds[-1] == "error"
        assert set(events[-1]["error"]) == {"type", "message"}
        assert not {"message_delta", "message_stop"} & set(kinds)
        assert b"[DONE]" not in self.wire.body
        deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
        return "".join(delta.get("text", "") for delta in deltas)


# -- Google -----------------------------------------------------------------------------------------------------


class GeminiClient(Client):
    name: ClassVar[str] = "gemini"
    errors: ClassVar[tuple[type[Exception], ...]] = (genai.errors.APIError,)

    def _connected(self, gateway: Running) -> genai.Client:
        self._http = _http(self.wire, httpx)
        options = types.HttpOptions(base_url=gateway.origin, httpx_client=self._http)
        return genai.Client(api_key="unused", http_options=options)

    def close(self) -> None:
        self._http.close()

    def user(self, text: str, image: str = "") -> list[Any]:
        parts: list[Any] = [{"text": text}]
        if image:
            kind, _, data = image.removeprefix("data:").partition(";base64,")
            parts.append({"inlineData": {"mimeType": kind, "data": base64.b64decode(data)}})
        return [{"role": "user", "parts": parts}]

    def results(self, calls: list[Call], text: str) -> list[Any]:
        found = [{"id": call.id, "name": call.name, "response": {"output": text}} for call in calls]
        return [{"role": "user", "parts": [{"functionResponse": one} for one in found]}]

    def _asked(self, turns: list[Any], wanted: Wanted) -> dict[str, Any]:
        asked: dict[str, Any] = {"contents": turns}
        if wanted.tools:
            declared = [{"name": name, "parametersJsonSchema": schema} for name, schema in wanted.tools.items()]
            asked["tools"] = [{"functionDeclarations": declared}]
            asked["automaticFunctionCalling"] = {"disable": True}
        if wanted.schema:
            asked.update(responseMimeType="application/json", responseJsonSchema=wanted.schema)
        if wanted.limit:
            asked["maxOutputTokens"] = wanted.limit
        if wanted.think:
            asked["thinkingConfig"] = {"includeThoughts": True, "thinkingLevel": "LOW"}
        if wanted.key:
            asked["httpOptions"] = {"headers": {"x-goog-api-key": wanted.key}}
        return asked

    def _whole(self, model: str, asked: dict[str, Any]) -> Answer:
        answer = self.sdk.models.generate_content(model=model, **self._configured(asked))
        types.GenerateContentResponse.model_validate_json(self.wire.body)
        return self._answer([answer])

    def _streamed(self, model: str, asked: dict[str, Any]) -> Answer:
        chunks = list(self.sdk.models.generate_content_stream(model=model, **self._configured(asked)))
        for event in self.wire.events:
            types.GenerateContentResponse.model_validate(event)
        assert len({event["responseId"] for event in self.wire.events}) == 1
        return self._answer(chunks)

    @staticmethod
    def _configured(asked: dict[str, Any]) -> dict[str, Any]:
        """What the SDK takes: all but the contents is configuration."""
        config: Any = {name: value for name, value in asked.items() if name != "contents"}
        return {"contents": asked["contents"], "config": types.GenerateContentConfig(**config)}

    @staticmethod
    def _answer(chunks: list[types.GenerateContentResponse]) -> Answer:
        candidates = [candidate for chunk in chunks for candidate in chunk.candidates or ()]
        assert {candidate.index for candidate in candidates} == {0}
        reasons = [candidate.finish_reason for candidate in candidates]
        assert [reason is not None for reason in reasons].count(True) == 1
        assert reasons[-1] is not None
        parts = [
            part
            for one in candidates
            if one.content is not None
            for part in one.content.parts or ()
            if part is not None
        ]
        usage = chunks[-1].usage_metadata
        assert usage is not None
        text = "".join(part.text for part in parts if part.text and not part.thought)
        calls = [part.function_call for part in parts if part.function_call is not None]
        sent_back = [part.model_dump(exclude_none=True, by_alias=True) for part in parts]
        return Answer(
            text=text,
            thoughts="".join(part.text for part in parts if part.text and part.thought),
            calls=[Call(call.id or "", call.name or "", call.args) for call in calls],
            reason=reasons[-1].value,
            prompt_tokens=usage.prompt_token_count or 0,
            output_tokens=(usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0),
            history=[{"role": "model", "parts": sent_back}],
        )

    def check_broken(self, *, cut: bool = False) -> str:
        *events, last = self.wire.events
        assert set(last["error"]) >= {"code", "message", "status"}
        assert b"[DONE]" not in self.wire.body
        candidates = [candidate for event in events for candidate in event.get("candidates", ())]
        assert not [one for one in candidates if one.get("finishReason")]
        parts = [part for one in candidates for part in one["content"]["parts"]]
        return "".join(part.get("text", "") for part in parts if not part.get("thought"))


CLIENTS: Final[tuple[type[Client], ...]] = (ResponsesClient, ChatClient, MessagesClient, GeminiClient)
NAMES: Final = tuple(kind.name for kind in CLIENTS)
