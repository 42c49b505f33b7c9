"""Options: what a model name asks of the sim.

`lorem?chunks=20&gap=5` and `lorem:chunks=20,gap=5` are the same script with the same options. The second form exists because a `?`
is awkward in a URL path. Values are percent-decoded and `+` is a blank, so any text fits into either form.
"""

from typing import Annotated, Any, Literal, get_args, get_type_hints
from urllib.parse import unquote_plus

import msgspec
from msgspec import Meta


class OptionError(ValueError):
    """The model name asks for something that the sim does not have. The text is fit for the caller."""


MAX_WAIT_MS = 3_600_000
# The sim is reachable through an open gateway: no model name may make it eat all memory.
MAX_ANSWER_BYTES = 64 * 1024 * 1024

Count = Annotated[int, Meta(ge=1)]
Pieces = Annotated[int, Meta(ge=1, le=100_000)]
Natural = Annotated[int, Meta(ge=0)]
Parallel = Annotated[int, Meta(ge=1, le=32)]
Status = Annotated[int, Meta(ge=200, le=599)]


def _about(text: str) -> Meta:
    return Meta(description=text)


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every option of every script; the description of each is its documentation. Times are milliseconds."""

    # What is said.
    text: Annotated[str | None, _about("the answer's text, in place of the script's own")] = None
    chunks: Annotated[
        Pieces | None, _about("number of pieces the text is cut into; lorem, bench: number of pieces")
    ] = None
    size: Annotated[Count | None, _about("lorem, bench, and speech but for MP3: bytes per piece")] = None
    parallel: Annotated[Parallel, _about("tools: number of calls")] = 1
    args: Annotated[str | None, _about("tools: the arguments, in place of ones made from the schema")] = None
    tool: Annotated[str | None, _about("tools: the name of the tool that is called, in place of the first one")] = None
    raw: Annotated[bool, _about("reasoning: as reasoning_text content in place of a summary (responses)")] = False
    field: Annotated[Literal["reasoning_content", "reasoning"], _about("reasoning: the delta's member name (chat)")] = (
        "reasoning_content"
    )
    signatures: Annotated[
        bool, _about("0: calls have no id and no thoughtSignature, and none is asked back (gemini)")
    ] = True
    redacted: Annotated[bool, _about("reasoning: as redacted thinking (messages)")] = False
    finish: Annotated[
        Literal["stop", "length", "content_filter", "tool_calls", "none"] | None,
        _about("how the answer ends, whatever the script; none: no finish chunk, no terminal event"),
    ] = None
    usage: Annotated[
        Literal["present", "absent", "zero", "inline", "always"],
        _about("inline: in the finish chunk, never in one of its own; always: also to those who did not ask"),
    ] = "present"

    # How it is framed.
    transcript: Annotated[
        Literal["events", "chunks", "text", "raw"],
        _about("transcription: a stream as OpenAI's events, vLLM's chunks, {text} frames, or the bare text"),
    ] = "events"
    crlf: Annotated[bool, _about("frames end their lines with CR LF")] = False
    events: Annotated[bool, _about("0: responses frames have no event: line")] = True
    seq: Annotated[bool, _about("0: responses events have no sequence_number")] = True
    minimal: Annotated[
        bool,
        _about("responses: only created, text deltas and the terminal event are sent; speech: bare {audio} frames"),
    ] = False
    done: Annotated[
        bool | None, _about("0: no [DONE] (chat, completions); 1: [DONE] also on responses and after an error")
    ] = None
    ascii: Annotated[bool, _about("JSON escapes everything outside ASCII")] = False
    floats: Annotated[bool, _about("created and created_at are floats")] = False
    obfuscation: Annotated[bool, _about("deltas carry padding in an obfuscation member")] = False
    comments: Annotated[Natural, _about("number of comment frames before the first event")] = 0
    framing: Annotated[Literal["chunked", "length", "close"], _about("how the end of a streamed body is told")] = (
        "chunked"
    )

    # How it is timed and cut.
    intake: Annotated[Count | None, _about("transcription: bytes per second at which the upload is read")] = None
    head_delay: Annotated[float, _about("wait before the response head")] = 0.0
    delay: Annotated[float, _about("wait before the first event (not streaming: before the head)")] = 0.0
    gap: Annotated[
        float | None, _about("wait between frames; 0: each frame is a write in its own turn of the loop")
    ] = None
    burst: Annotated[bool, _about("everything from the head to the end in a single write")] = False
    split: Annotated[Count | None, _about("the body is cut into HTTP chunks, and writes, of this many bytes")] = None

    # What goes wrong.
    fault: Annotated[str | None, _about("a fault's name")] = None
    after: Annotated[
        Natural | None, _about("events sent before the fault; by default up to the first delta with content")
    ] = None
    times: Annotated[Natural | None, _about("fault and status strike only the first requests with this model name")] = (
        None
    )
    total: Annotated[Count | None, _about("longline, gzip_bomb: bytes in all")] = None
    only: Annotated[bool, _about("error: not followed by response.failed")] = False
    shape: Annotated[Literal["nested", "flat"], _about("error: members inside error, or beside type")] = "nested"
    status: Annotated[Status | None, _about("answer with this HTTP status and an error body")] = None
    body: Annotated[Literal["json", "html", "text", "empty"], _about("status: the kind of error body")] = "json"
    code: Annotated[str | None, _about("the error's code")] = None
    type: Annotated[str | None, _about("the error's type")] = None
    message: Annotated[str | None, _about("the error's message")] = None
    retry_after: Annotated[str | None, _about("status: the Retry-After header, as it is")] = None
    retry_after_ms: Annotated[str | None, _about("status: the retry-after-ms header, as it is")] = None
    location: Annotated[str, _about("redirect: the Location header")] = "http://127.0.0.1:9/v1/redirected"


def describe_options() -> dict[str, str]:
    """Each option's name and its one-line description."""
    hints = get_type_hints(Options, include_extras=True)
    return {name: _description(hints[name]) for name in Options.__struct_fields__}


def _description(hint: Any) -> str:
    # Nested Annotated are one flat one: the description comes after the limits.
    described = [arg.description for arg in get_args(hint)[1:] if isinstance(arg, Meta) and arg.description]
    return described[-1] if described else ""


def split_model(model: str) -> tuple[str, dict[str, str]]:
    """The script's name and the options as they are written. An option given twice is an error."""
    name, found, rest = model.partition("?")
    comma = "&"
    if not found:
        name, found, rest = model.partition(":")
        comma = ","
        if "=" not in rest:
            return model, {}
    written: dict[str, str] = {}
    for pair in filter(None, rest.split(comma)):
        key, equals, value = pair.partition("=")
        key = unquote_plus(key)
        if not equals:
            raise OptionError(f"The sim's option {key!r} has no value.")
        if key in written:
            raise OptionError(f"The sim's option {key!r} is given twice.")
        written[key] = unquote_plus(value)
    return name, written


def read_options(written: dict[str, str], defaults: dict[str, Any]) -> Options:
    """Options from their written form over a script's defaults. Raises OptionError naming what is wrong."""
    unknown = written.keys() - set(Options.__struct_fields__)
    if unknown:
        raise OptionError(
            f"The sim has no option {sorted(unknown)[0]!r}. It has: {', '.join(Options.__struct_fields__)}."
        )
    try:
        options = msgspec.convert({**defaults, **written}, Options, strict=False)
    except msgspec.ValidationError as error:
        raise OptionError(f"The sim cannot take these options: {error}.") from None
    # msgspec does not hold a float that was written as a string to its limits, and reads "nan".
    for name in ("head_delay", "delay", "gap"):
        wait = getattr(options, name)
        if wait is not None and not 0 <= wait <= MAX_WAIT_MS:
            raise OptionError(f"The sim's option {name!r} is milliseconds from 0 to {MAX_WAIT_MS}.")
    if (options.chunks or 1) * (options.size or 1) > MAX_ANSWER_BYTES:
        raise OptionError(f"The sim's answers have at most {MAX_ANSWER_BYTES} bytes (chunks times size).")
    return options
