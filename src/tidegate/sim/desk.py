"""Desk: which steps answer a request."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

import msgspec

from tidegate.sim import chat, completions, embeddings, gemini, messages, responses, speech, transcription
from tidegate.sim.case import Case
from tidegate.sim.compaction import OPERATIONS
from tidegate.sim.errors import Refusal, envelope
from tidegate.sim.faults import FAULTS
from tidegate.sim.options import OptionError, Options, read_options, split_model
from tidegate.sim.prompt import COUNT_PATH, ENDPOINTS, Endpoint, Prompt, count_tokens, read_prompt
from tidegate.sim.reply import SSE_TYPE, Reply, Step, error_reply, json_reply, plain_reply, steps
from tidegate.sim.reply_faults import HTML
from tidegate.sim.scripts import SCRIPTS, Script, answers
from tidegate.sim.sse import comment, encode, frame
from tidegate.sim.stamp import new_stamp
from tidegate.sim.upload import PATHS, Upload

_DIALECTS: dict[Endpoint, ModuleType] = {
    "responses": responses,
    "chat": chat,
    "completions": completions,
    "gemini": gemini,
    "messages": messages,
    "speech": speech,
    "transcription": transcription,
}
# A benchmark uses a handful.
MAX_BENCH_ANSWERS = 256
# Models with the option `times`.
MAX_COUNTED_MODELS = 10_000

_PLAIN = Options()
_LISTED_AT = 1_760_000_000


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Glance(msgspec.Struct):
    """As much of a request as decides whether a bench answer fits it."""

    model: str
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


_glance = msgspec.json.Decoder(_Glance).decode


class Desk:
    """Answers requests out of the scripts. `models` gives scripts further names, e.g. `{"gpt-5.2": "lorem?chunks=3"}`."""

    def __init__(self, models: Mapping[str, str] | None = None) -> None:
        self._models = dict(models or {})
        self._struck: Counter[str] = Counter()
        self._bench: dict[tuple[str, str, bool, bool], tuple[Step, ...]] = {}

    def answer(self, method: str, path: str, body: bytes | Upload, *, reused: bool) -> Iterable[Step]:
        """The steps of the answer; `path` may have a query. Never raises for what a client sent."""
        path, _, query = path.partition("?")
        if isinstance(body, Upload):
            return self._transcribe(path, body, reused=reused)
        if (
            path.startswith("/v1beta/")
            or path.endswith(gemini.COUNT)
            or gemini.address(path) is not None
            or embeddings.address(path) is not None
        ):
            return self._google(method, path, query, body, reused=reused)
        endpoint = ENDPOINTS.get(path)
        try:
            if path == COUNT_PATH and method == "POST":
                counted = {"input_tokens": count_tokens(body)}
                return steps(json_reply(msgspec.json.encode(counted)), _PLAIN)
            if path in OPERATIONS and method == "POST":
                return self._operate(path, body)
            if path == embeddings.PATH and method == "POST":
                request = _object(body)
                model = embeddings.model_of(request)
                return self._embed(model, lambda: embeddings.openai(request), "chat", reused=reused)
            if path in PATHS and method == "POST":
                raise Refusal(400, "Expected multipart/form-data.", code="invalid_content_type")
            if endpoint is None:
                return steps(self._elsewhere(method, path), _PLAIN)
            if method != "POST":
                raise Refusal(
                    405,
                    f"Not allowed to {method} on {path} (HINT: Perhaps you meant to make a POST request?)",
                    code="method_not_supported",
                )
            if endpoint == "speech":
                return self._generate(speech.read(body), reused=reused)
            return self._bench_steps(path, body) or self._generate(read_prompt(endpoint, body), reused=reused)
        except Refusal as refusal:
            if endpoint == "messages" or path == COUNT_PATH:
                said = envelope("messages", refusal.status, str(refusal))
                if refusal.details is not None:
                    said["error"]["details"] = refusal.details
            else:
                said = {"error": refusal.error}
            return steps(error_reply(said, refusal.status), _PLAIN)

    def _operate(self, path: str, body: bytes) -> Iterable[Step]:
        """Of the scripts' options only `status` and its like, and the waits, mean anything here. Raises Refusal."""
        _, options = self._script(read_prompt("responses", body).model)
        if options.status is not None:
            return steps(_status_reply(options, "responses"), options)
        return steps(json_reply(msgspec.json.encode(OPERATIONS[path](body, new_stamp(options)))), options)

    def watch(self, model: str) -> Options:
        """How an upload for `model` is to be read: the options, with a fault only if that strikes in the middle of it. Never
        raises: what is wrong with the name is said when the form is complete."""
        try:
            _, options = self._script(model)
        except Refusal:
            return _PLAIN
        if options.fault is None or FAULTS[options.fault].on_upload is None or self._is_spent(model, options):
            return msgspec.structs.replace(options, fault=None)
        return options

    def _transcribe(self, path: str, upload: Upload, *, reused: bool) -> Iterable[Step]:
        try:
            return self._generate(transcription.read(path, upload), reused=reused)
        except Refusal as refusal:
            return steps(error_reply({"error": refusal.error}, refusal.status), _PLAIN)

    def _google(self, method: str, path: str, query: str, body: bytes, *, reused: bool) -> Iterable[Step]:
        """The same for Google's API, whose paths name the model and whose errors have another form."""
        asked = gemini.address(path)
        try:
            if asked is not None and method == "POST":
                model, stream = asked
                return self._generate(gemini.read(model, query, body, stream=stream), reused=reused)
            embedding = embeddings.address(path)
            if embedding is not None and method == "POST":
                request = _object(body)
                return self._embed(embedding, lambda: embeddings.google(request, embedding), "gemini", reused=reused)
            found = gemini.listed(path, self.names) if method == "GET" else gemini.counted(path, body)
            if found is None:
                raise Refusal(404, f"Not found: {method} {path}")
            return steps(json_reply(msgspec.json.encode(found)), _PLAIN)
        except Refusal as refusal:
            return steps(error_reply(envelope("gemini", refusal.status, str(refusal)), refusal.status), _PLAIN)

    def _embed(
        self, model: str, make: Callable[[], dict[str, Any]], endpoint: Endpoint, *, reused: bool
    ) -> Iterable[Step]:
        """Of the scripts' options only what is timed and what goes wrong means anything here. Raises Refusal."""
        _, options = self._script(model)
        if self._is_spent(model, options):
            options = msgspec.structs.replace(options, fault=None, status=None)
        if options.status is not None:
            return steps(_status_reply(options, endpoint), options)
        reply = json_reply(msgspec.json.encode(make()))
        fault = FAULTS[options.fault] if options.fault is not None else None
        if fault is not None and fault.on_reply is not None:
            prompt = Prompt(endpoint=endpoint, model=model, body={}, texts=(), tokens=0)
            case = Case(prompt=prompt, options=options, stamp=new_stamp(options), stream=None, reused=reused)
            reply = fault.on_reply(case, reply)
        return steps(reply, options)

    def _elsewhere(self, method: str, path: str) -> Reply:
        if method in ("GET", "HEAD"):
            if path == "/healthz":
                found = plain_reply("text/plain", b"ok\n")
            elif path == "/v1/models":
                found = json_reply(
                    msgspec.json.encode({"object": "list", "data": list(map(_model_object, self.names))})
                )
            elif path.startswith("/v1/models/"):
                name = path.removeprefix("/v1/models/")
                if name not in self.names:
                    raise _no_model(name)
                found = json_reply(msgspec.json.encode(_model_object(name)))
            else:
                raise Refusal(404, f"Invalid URL ({method} {path})")
            if method == "HEAD":
                found.announced_length = sum(map(len, found.frames))
                found.frames = []
            return found
        raise Refusal(404, f"Invalid URL ({method} {path})")

    @property
    def names(self) -> tuple[str, ...]:
        """The names that /v1/models lists."""
        return (*SCRIPTS, *self._models)

    def _bench_steps(self, path: str, body: bytes) -> tuple[Step, ...] | None:
        """The stored steps of a bench answer that has been given before."""
        if not self._bench:
            return None
        try:
            seen = _glance(body)
        except msgspec.MsgspecError:
            return None
        usage = seen.stream_options is not None and bool(seen.stream_options.include_usage)
        return self._bench.get((path, seen.model, bool(seen.stream), usage))

    def _generate(self, prompt: Prompt, *, reused: bool) -> Iterable[Step]:
        script, options = self._script(prompt.model)
        if options.times is not None:
            if self._is_spent(prompt.model, options):
                options = msgspec.structs.replace(options, fault=None, status=None)
        elif (
            script is SCRIPTS["bench"]
            and options.fault is None
            and options.status is None
            and prompt.endpoint not in ("gemini", "speech", "transcription")
        ):
            return self._build_bench(prompt, options)
        return steps(_reply(script, options, prompt, reused=reused), options)

    def _is_spent(self, model: str, options: Options) -> bool:
        """Counts a request; whether fault and status have struck as often as they were to."""
        if options.times is None:
            return False
        if len(self._struck) >= MAX_COUNTED_MODELS:
            self._struck.clear()
        self._struck[model] += 1
        return self._struck[model] > options.times

    def _build_bench(self, prompt: Prompt, options: Options) -> tuple[Step, ...]:
        # The answer is for later requests too, so what only this one asks for does not shape it.
        prompt = msgspec.structs.replace(prompt, n=1, stops=(), limit=None, logprobs=None)
        built = tuple(steps(_reply(SCRIPTS["bench"], options, prompt, reused=False), options))
        path = next(path for path, name in ENDPOINTS.items() if name == prompt.endpoint)
        if len(self._bench) >= MAX_BENCH_ANSWERS:
            self._bench.clear()
        self._bench[path, prompt.model, prompt.stream, prompt.include_usage] = built
        return built

    def _script(self, model: str) -> tuple[Script, Options]:
        try:
            name, written = split_model(self._models.get(model, model))
            script = SCRIPTS.get(name)
            if script is None:
                raise _no_model(model)
            options = read_options(written, script.defaults)
        except OptionError as error:
            raise Refusal(400, str(error), param="model", code="invalid_value") from None
        if options.fault is not None and options.fault not in FAULTS:
            raise Refusal(
                400,
                f"The sim has no fault {options.fault!r}. It has: {', '.join(FAULTS)}.",
                param="model",
                code="invalid_value",
            )
        return script, options


def _object(body: bytes) -> dict[str, Any]:
    """Raises Refusal."""
    try:
        found = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise Refusal(400, f"We could not parse the JSON body of your request: {error}.") from None
    if not isinstance(found, dict):
        raise Refusal(400, "We could not parse the JSON body of your request: it is not an object.")
    return found


def _no_model(name: str) -> Refusal:
    return Refusal(
        404,
        f"The model '{name}' does not exist or you do not have access to it.",
        param="model",
        code="model_not_found",
    )


def _model_object(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _LISTED_AT, "owned_by": "sim"}


def _reply(script: Script, options: Options, prompt: Prompt, *, reused: bool) -> Reply:
    if options.status is not None:
        return _status_reply(options, prompt.endpoint)
    if prompt.endpoint == "gemini" and options.signatures:
        gemini.check_signatures(prompt)
    stamp = new_stamp(options)
    said = answers(script, options, prompt)
    dialect = _DIALECTS[prompt.endpoint]
    fault = FAULTS[options.fault] if options.fault is not None else None
    case = Case(prompt=prompt, options=options, stamp=stamp, stream=None, reused=reused)
    headers = [("x-request-id", f"req_{stamp.seed}"), ("openai-version", "2020-10-01"), ("openai-processing-ms", "1")]
    if prompt.endpoint == "messages":
        headers = [("request-id", f"req_{stamp.seed[:24]}"), ("anthropic-organization-id", "sim")]
    if prompt.stream:
        case.stream = dialect.stream(said, prompt, options, stamp)
        if fault is not None and fault.on_events is not None:
            fault.on_events(case, case.stream)
        frames = [
            *(comment("keep-alive", options) for _ in range(options.comments)),
            *(frame(event, options) for event in case.stream.events),
        ]
        headers.insert(0, ("content-type", SSE_TYPE))
        reply = Reply(headers=headers, frames=frames, stream=True, framing=options.framing)
    elif prompt.endpoint == "speech":
        kind = speech.kind_of(prompt)
        headers.insert(0, ("content-type", speech.TYPES[kind]))
        frames = speech.pieces(said[0], options, kind)
        reply = Reply(headers=headers, frames=frames, stream=True, framing=options.framing)
    else:
        if prompt.endpoint == "transcription":
            reply = transcription.whole(said, prompt, options)
        else:
            reply = json_reply(encode(dialect.body(said, prompt, options, stamp), options))
        reply.headers.extend(headers)
        if options.split is not None:
            reply.framing = "chunked"
    if fault is not None and fault.on_reply is not None:
        reply = fault.on_reply(case, reply)
    return reply


def _status_reply(options: Options, endpoint: Endpoint) -> Reply:
    status = options.status or 500
    if options.body == "html":
        reply = plain_reply("text/html", HTML, status)
    elif options.body == "text":
        reply = plain_reply("text/plain", (options.message or "upstream connect error").encode(), status)
    elif options.body == "empty":
        reply = plain_reply("application/json", b"", status)
    else:
        message = options.message or f"The sim was asked for status {status}."
        said = envelope(
            endpoint, status, message, kind=options.type, code=options.code, retry_after=options.retry_after
        )
        reply = error_reply(said, status)
    for name, value in (("retry-after", options.retry_after), ("retry-after-ms", options.retry_after_ms)):
        if value is not None:
            reply.headers.append((name, value))
    return reply
